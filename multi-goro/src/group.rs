//! A group whose tasks are green, or have an OS thread each.

mod builder;
mod locked;
mod scope;
mod spare;
mod stackless;

use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use multi_core::ledger::{Ledger, Ticket};
use multi_core::{
    BuildError, CancelToken, GroupError, GroupOptions, Handle, Progress, Promise, Result,
    TaskErrorKind, TaskOptions, TryGoError, TryGoReason, WaitTimeoutError, panic,
};

use crate::os_thread::Hold;
use crate::runtime::default_runtime;
use crate::sched::{self, GroupNumber, Info, Job, Lane, Placement, Shared};
use crate::stack::Class;
use crate::sync::TaskEvent;

pub use builder::Builder;
use locked::Threads;
pub(crate) use locked::is_locked;
pub use scope::{Scope, ScopedHandle, scope};

/// Green tasks that are started together and waited for together.
///
/// A task costs a closure until it first runs, and a page of stack from then on. A task that waits (on a channel, for a group,
/// for time) gives its worker to another.
///
/// ```
/// let mut group = multi_goro::Group::new();
/// group.go(|| Ok(()));
/// let answer = group.spawn(|| Ok(6 * 7));
/// assert_eq!(answer.join()?, 42);
/// group.wait()?;
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// Dropped without a [`wait`](Self::wait), it cancels its tasks and waits for them. `wait` and the drop park the calling task,
/// or block the calling thread.
///
/// # Fork
///
/// In a forked child there are no workers: each `go` there is a failure of that task that says so. Waiting there for tasks that were
/// running at the time of the fork panics, since they never end there.
#[derive(Debug)]
#[must_use = "dropping a group cancels its tasks and waits for them"]
pub struct Group {
    inner: Arc<Inner>,
    is_detached: bool,
}

/// Starts tasks in a [`Group`] from elsewhere, its own tasks included.
#[derive(Clone, Debug)]
pub struct Spawner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    place: Place,
    /// Those of locked tasks.
    threads: Threads,
    /// What its tasks have of it in reports.
    number: GroupNumber,
    /// The process whose tasks these are.
    owner: u32,
}

/// A token that tasks and plain threads can wait on: a task parks and leaves its worker to others.
///
/// A group has one of its own ([`Group::cancel_token`]); this is for one that several groups obey, or none.
/// [`CancelToken::new`] makes one for plain threads: a green task that waits on that blocks its worker.
///
/// ```
/// let token = multi_goro::cancel_token();
/// let mut group = multi_goro::Group::builder().cancel_token(token.clone()).build()?;
/// let inside = group.cancel_token();
/// group.go(move || Ok(inside.wait()));
/// token.cancel();
/// group.wait()?;
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[must_use]
pub fn cancel_token() -> CancelToken {
    CancelToken::on(Arc::new(TaskEvent::new()))
}

/// Where tasks run.
enum Place {
    Green {
        shared: Arc<Shared>,
        class: Class,
        lane: Lane,
        placement: Placement,
        /// Keeps open the OS thread that the runtime is, if it is one.
        #[expect(dead_code, reason = "holding it is what it is for")]
        hold: Option<Arc<Hold>>,
    },
    /// A thread for each.
    Locked,
}

impl Place {
    /// The workers of a runtime.
    fn on(shared: Arc<Shared>, class: Option<Class>, placement: Option<Placement>) -> Self {
        Self::Green {
            class: class.unwrap_or(shared.class()),
            lane: Lane::Normal,
            placement: placement.unwrap_or(shared.placement()),
            shared,
            hold: None,
        }
    }

    /// What to wait on for tasks here.
    fn event(&self) -> TaskEvent {
        match self {
            Self::Green { shared, .. } => TaskEvent::of(shared),
            Self::Locked => TaskEvent::new(),
        }
    }
}

impl Group {
    /// A group of green tasks with no limit and no name, on the runtime of the running task or else the global one.
    ///
    /// # Panics
    ///
    /// If the global runtime cannot start: a thread is refused, or `MULTI_WORKERS` is no number of workers. The builder
    /// returns that as an error.
    #[track_caller]
    pub fn new() -> Self {
        match Self::builder().build() {
            Ok(group) => group,
            Err(error) => panic!("{error}"),
        }
    }

    /// A group whose tasks have an OS thread each, which ends with its task: for code that needs a thread of its own, or
    /// computes for long without a pause. The kernel shares the processors among them.
    ///
    /// ```
    /// let mut group = multi_goro::Group::locked();
    /// group.go(|| Ok(std::thread::sleep(std::time::Duration::from_millis(1))));
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn locked() -> Self {
        Self::builder()
            .locked(true)
            .build()
            .unwrap_or_else(|error| unreachable!("the default options are refused: {error}"))
    }

    /// A group with a limit, a name, a deadline, other stacks, on a runtime of its own.
    ///
    /// ```
    /// let mut group = multi_goro::Group::builder().name("thumbnails").limit(8).fail_fast(true).build()?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn with(
        backend: &'static str,
        options: GroupOptions,
        place: Place,
        threads: Threads,
    ) -> Result<Self, BuildError> {
        let number = GroupNumber::next();
        let mut event = place.event();
        // With one, who waits on the event may wait for room.
        if !options.has_limit() {
            event = event.for_all_of(number);
        }
        let event = Arc::new(event);
        let ledger = Ledger::new(backend, options, event, cancel_token)?;
        Ok(Self {
            inner: Arc::new(Inner {
                ledger,
                place,
                threads,
                number,
                owner: sched::process_id(),
            }),
            is_detached: false,
        })
    }

    /// Starts tasks on an OS thread that nobody waits for. Does not keep the thread open.
    pub(crate) fn alone(shared: Arc<Shared>, lane: Lane) -> Spawner {
        let place = Place::Green {
            class: shared.class(),
            shared,
            lane,
            placement: Placement::Any,
            hold: None,
        };
        let group = Self::with("goro", GroupOptions::new(), place, Threads::new(None))
            .unwrap_or_else(|error| unreachable!("the default options are refused: {error}"));
        let spawner = group.spawner();
        group.detach();
        spawner
    }

    /// Lets the tasks go: they run on with nobody waiting for them, and each failure is reported on standard error.
    ///
    /// ```
    /// let (tx, rx) = multi_goro::chan(0);
    /// let group = multi_goro::Group::new();
    /// group.go(move || Ok(tx.send("still here")?));
    /// group.detach();
    /// assert_eq!(rx.recv()?, "still here");
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn detach(mut self) {
        self.is_detached = true;
        self.inner.ledger.detach();
        self.inner.threads.detach();
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

multi_core::group_face!(Group, value: Send + 'static);
multi_core::spawner_face!(Spawner);

impl multi_core::Tasks for Group {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.inner.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.inner.expect_no_lost_tasks();
        let outcome = self.inner.ledger.wait_timeout(timeout);
        self.inner.threads.join_ended();
        outcome
    }

    fn cancel_token(&self) -> CancelToken {
        self.inner.ledger.cancel_token()
    }

    fn progress(&self) -> Progress {
        self.inner.ledger.progress()
    }
}

impl multi_core::Group for Group {
    type Spawner = Spawner;

    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.inner.go(options.started_at(Location::caller()), task);
    }

    #[track_caller]
    fn try_go_with<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.inner
            .try_go(options.started_at(Location::caller()), task)
    }

    fn spawner(&self) -> Spawner {
        Spawner {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Send + 'static> multi_core::Spawn<T> for Group {
    #[track_caller]
    fn spawn_with<F>(&self, options: TaskOptions, task: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        self.inner
            .spawn(options.started_at(Location::caller()), task)
    }
}

impl multi_core::Spawner for Spawner {
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.inner.go(options.started_at(Location::caller()), task);
    }
}

impl Spawner {
    /// As [`Group::try_go`].
    #[track_caller]
    pub(crate) fn try_go_here<F>(&self, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let options = TaskOptions::new().started_at(Location::caller());
        self.inner.try_go(options, task)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What a forked child has of a group with tasks is a memory: there is nobody to wait for.
        if self.is_detached || self.inner.has_lost_tasks() {
            return;
        }
        if self.inner.is_kept_by_caller() {
            // It would wait for ever. Perhaps it unwinds, having said so.
            self.inner.ledger.cancel_token().cancel();
            self.inner.ledger.detach();
            self.inner.threads.detach();
            return;
        }
        self.inner.ledger.abandon();
        self.inner.threads.join_all();
    }
}

impl Inner {
    #[track_caller]
    fn go<F>(self: &Arc<Self>, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        let task = (options.site(), task);
        self.ledger
            .launch_on(options, self, task, |here, ticket, (site, task)| {
                here.start_from(site, Go { ticket, task });
            });
    }

    fn try_go<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let ticket = match self.ledger.try_admit(options) {
            Ok(ticket) => ticket,
            Err(reason) => return Err(TryGoError::new(task, reason)),
        };
        self.try_start(Go { ticket, task }).map_err(|(error, go)| {
            go.ticket.withdraw();
            TryGoError::new(go.task, TryGoReason::Start(error))
        })
    }

    fn wait(&self) -> Result<(), GroupError> {
        self.expect_no_lost_tasks();
        let outcome = self.ledger.wait();
        self.threads.join_all();
        outcome
    }

    #[track_caller]
    fn spawn<T, F>(self: &Arc<Self>, options: TaskOptions, task: F) -> Handle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        let here = Arc::clone(self);
        let (site, event) = (options.site(), Arc::new(self.place.event()));
        self.ledger
            .launch_with(options, event, move |ticket, promise| {
                let body = Spawn {
                    ticket,
                    promise,
                    task,
                };
                here.start_from(site, body);
            })
    }

    /// Starts a task. What goes wrong is told to its ticket.
    fn start<B: Body>(&self, body: B) {
        let site = body.ticket().started_at();
        self.start_from(Some(site), body);
    }

    /// As [`start`](Self::start), where it is known which line starts the task.
    fn start_from<B: Body>(&self, site: Option<&'static Location<'static>>, body: B) {
        match &self.place {
            Place::Green {
                shared,
                class,
                lane,
                placement,
                hold: _,
            } => {
                let info = self.info_of(body.ticket(), site);
                shared.spawn_as(*lane, *placement, *class, info, body);
            }
            Place::Locked => self.start_locked(body),
        }
    }

    /// What the scheduler is told of a task.
    fn info_of(&self, ticket: &Ticket, site: Option<&'static Location<'static>>) -> Info {
        Info {
            name: ticket.name().map(Into::into),
            started_at: site,
            lineage: ticket.lineage(),
            group: Some(self.number),
        }
    }

    /// Starts a task on a thread of its own. What goes wrong is told to its ticket.
    fn start_locked<B: Body>(&self, body: B) {
        if let Err((error, body)) = self.threads.start(body) {
            B::end(body.refuse(error));
        }
    }

    /// As [`start`](Self::start), but gives the task back with what went wrong, as far as that shows before it runs.
    fn try_start<B: Body>(&self, body: B) -> Result<(), (io::Error, B)> {
        match &self.place {
            Place::Green { shared, .. } => {
                if let Err(error) = shared.check() {
                    return Err((error, body));
                }
                self.start(body);
                Ok(())
            }
            Place::Locked => self.threads.start(body),
        }
    }

    /// Whether tasks are running that are not in this process: it is a forked child.
    fn has_lost_tasks(&self) -> bool {
        if self.owner == sched::process_id() {
            return false;
        }
        let progress = self.ledger.progress();
        progress.running + progress.queued > 0
    }

    /// Whether tasks are left that cannot run before the caller is done.
    fn is_kept_by_caller(&self) -> bool {
        let Place::Green { shared, .. } = &self.place else {
            return false;
        };
        let progress = self.ledger.progress();
        progress.running + progress.queued > 0 && shared.is_kept_by_caller()
    }

    #[track_caller]
    fn expect_no_lost_tasks(&self) {
        assert!(
            !self.has_lost_tasks(),
            "the tasks of this group run in process {}, and a forked child cannot wait for them; wait before the fork, or \
             make a new group here",
            self.owner
        );
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Green {
                shared,
                class,
                lane,
                placement,
                hold: _,
            } => f
                .debug_struct("Green")
                .field("workers", &shared.worker_count())
                .field("stack_bytes", &class.bytes())
                .field("lane", lane)
                .field("placement", placement)
                .finish_non_exhaustive(),
            Self::Locked => f.write_str("Locked"),
        }
    }
}

/// A group's task: what the scheduler or a thread runs, and the ticket to settle.
trait Body: Job {
    fn ticket(&self) -> &Ticket;
}

/// A task without a value.
struct Go<F> {
    ticket: Ticket,
    task: F,
}

/// A task with a value for somebody.
struct Spawn<T, F> {
    ticket: Ticket,
    promise: Promise<T>,
    task: F,
}

fn outcome_of<T>(task: impl FnOnce() -> Result<T>) -> Result<T, TaskErrorKind> {
    panic::catch(task)?.map_err(TaskErrorKind::Returned)
}

/// Settles. A value that nobody wants any more, or an error, may panic when it is dropped; the ticket then reports its task
/// as lost, and the worker goes on.
fn told(settle: impl FnOnce()) {
    let _ignored = panic::catch(settle);
}

/// What is left of a task that could not start: its closure is dropped before its end is told, since a scope may end then.
fn refused<T>(task: impl Sized, error: io::Error) -> Result<T, TaskErrorKind> {
    // A closure that panics when dropped has two things to tell; the first comes first.
    let _ignored = panic::catch(|| drop(task));
    Err(TaskErrorKind::Start(error))
}

impl<F: FnOnce() -> Result + Send + 'static> Job for Go<F> {
    type End = (Ticket, Result<(), TaskErrorKind>);

    fn run(self) -> Self::End {
        (self.ticket, outcome_of(self.task))
    }

    fn refuse(self, error: io::Error) -> Self::End {
        (self.ticket, refused(self.task, error))
    }

    fn end((ticket, outcome): Self::End) {
        told(|| ticket.settle(outcome));
    }
}

impl<T: Send + 'static, F: FnOnce() -> Result<T> + Send + 'static> Job for Spawn<T, F> {
    type End = (Ticket, Promise<T>, Result<T, TaskErrorKind>);

    fn run(self) -> Self::End {
        (self.ticket, self.promise, outcome_of(self.task))
    }

    fn refuse(self, error: io::Error) -> Self::End {
        (self.ticket, self.promise, refused(self.task, error))
    }

    fn end((ticket, promise, outcome): Self::End) {
        told(|| ticket.settle_with(promise, outcome));
    }
}

impl<F: FnOnce() -> Result + Send + 'static> Body for Go<F> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

impl<T: Send + 'static, F: FnOnce() -> Result<T> + Send + 'static> Body for Spawn<T, F> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

/// Where a group that names no runtime runs its tasks.
fn default_place(class: Option<Class>, placement: Option<Placement>) -> Result<Place, BuildError> {
    Ok(Place::on(default_runtime()?, class, placement))
}
