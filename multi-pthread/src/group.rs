//! A group whose tasks are threads.

use crate::builder::Builder;
use crate::thread::{self, Body, Settings, Thread};
use multi_core::ledger::{Ledger, Ticket};
use multi_core::{
    CancelToken, GroupError, Handle, Progress, Promise, Result, TaskId, TaskOptions, ThreadEvent,
    TryGoError, TryGoReason, WaitTimeoutError,
};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tasks that each have a POSIX thread of their own.
///
/// ```
/// let mut group = multi_pthread::Group::new();
/// group.go(|| Ok(()));
/// let answer = group.spawn(|| Ok(6 * 7));
/// assert_eq!(answer.join()?, 42);
/// group.wait()?;
/// # Ok::<(), multi_core::BoxError>(())
/// ```
///
/// Dropped without a [`wait`](Self::wait), it cancels its tasks and waits for them. Every thread is joined: by `wait`, by a
/// later `go` or `wait_timeout` once it is gone, or by the drop.
///
/// # Fork
///
/// A forked child has none of the threads and must not touch the group.
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
pub(crate) struct Inner {
    pub(crate) ledger: Ledger,
    settings: Settings,
    threads: Mutex<Threads>,
}

/// Who is to be joined.
#[derive(Debug, Default)]
struct Threads {
    /// Started and not joined yet.
    live: BTreeMap<TaskId, Thread>,
    /// Those whose task has ended; they are about to be gone.
    ended: Vec<TaskId>,
    is_detached: bool,
}

impl Group {
    /// A group with no limit and no name, whose threads have stacks of 2 MiB.
    pub fn new() -> Self {
        Self::builder()
            .build()
            .unwrap_or_else(|error| unreachable!("the default options are refused: {error}"))
    }

    /// A group with a limit, a name, a deadline, threads of another kind.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn with(ledger: Ledger, settings: Settings) -> Self {
        let inner = Inner {
            ledger,
            settings,
            threads: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            is_detached: false,
        }
    }

    /// Lets the tasks go: they run on with nobody waiting for them, and each failure is reported on standard error.
    pub fn detach(mut self) {
        self.is_detached = true;
        self.inner.ledger.detach();
        let mut threads = self.inner.threads();
        threads.is_detached = true;
        let live = std::mem::take(&mut threads.live);
        drop(threads);
        live.into_values().for_each(Thread::detach);
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
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
        let outcome = self.inner.ledger.wait_timeout(timeout);
        self.inner.join_gone();
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
        let ticket = match self
            .inner
            .ledger
            .try_admit(options.started_at(Location::caller()))
        {
            Ok(ticket) => ticket,
            Err(reason) => return Err(TryGoError::new(task, reason)),
        };
        self.inner
            .start(Go {
                inner: Arc::clone(&self.inner),
                ticket,
                task,
            })
            .map_err(|(error, go)| {
                go.ticket.withdraw();
                TryGoError::new(go.task, TryGoReason::Start(error))
            })
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

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_detached {
            self.inner.ledger.abandon();
            self.inner.join_all();
        }
    }
}

impl Inner {
    pub(crate) fn wait(&self) -> Result<(), GroupError> {
        // Joining is waiting: one sleep a thread instead of two.
        self.join_all();
        let outcome = self.ledger.wait();
        // Those that a task started meanwhile.
        self.join_all();
        outcome
    }

    #[track_caller]
    pub(crate) fn go<F>(self: &Arc<Self>, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let inner = Arc::clone(self);
        self.ledger
            .launch(options.started_at(Location::caller()), move |ticket| {
                let here = Arc::clone(&inner);
                if let Err((error, go)) = here.start(Go {
                    inner,
                    ticket,
                    task,
                }) {
                    // The closure first: a scope may end as soon as its last task is settled.
                    let Go { ticket, task, .. } = go;
                    drop(task);
                    ticket.settle(Err(multi_core::TaskErrorKind::Start(error)));
                }
            });
    }

    #[track_caller]
    pub(crate) fn spawn<T, F>(self: &Arc<Self>, options: TaskOptions, task: F) -> Handle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(self);
        let event = Arc::new(ThreadEvent::new());
        let options = options.started_at(Location::caller());
        self.ledger
            .launch_with(options, event, move |ticket, promise| {
                let here = Arc::clone(&inner);
                if let Err((error, spawn)) = here.start(Spawn {
                    inner,
                    ticket,
                    promise,
                    task,
                }) {
                    let Spawn {
                        ticket,
                        promise,
                        task,
                        ..
                    } = spawn;
                    drop((task, promise));
                    ticket.settle(Err(multi_core::TaskErrorKind::Start(error)));
                }
            })
    }

    fn start<B: TaskBody>(&self, body: B) -> Result<(), (std::io::Error, B)> {
        self.join_gone();
        let id = body.id();
        let thread = Thread::start(&self.settings, body)?;
        let mut threads = self.threads();
        if threads.is_detached {
            thread.detach();
        } else {
            threads.live.insert(id, thread);
        }
        Ok(())
    }

    /// Joins the threads that are gone, so that a group that only starts tasks does not pile up dead threads. Waits for none: a
    /// thread whose task has ended may still be in a thread-local destructor, of which nobody knows what it waits for.
    fn join_gone(&self) {
        let mut threads = self.threads();
        if threads.ended.is_empty() {
            return;
        }
        let Threads { live, ended, .. } = &mut *threads;
        ended.retain(|id| match live.remove(id).map(Thread::try_join) {
            Some(Ok(())) => false,
            Some(Err(thread)) => {
                live.insert(*id, thread);
                true
            }
            // Its starter has not entered it yet.
            None => true,
        });
    }

    /// Joins every thread; blocks until their tasks have ended.
    pub(crate) fn join_all(&self) {
        loop {
            let mut threads = self.threads();
            let live = std::mem::take(&mut threads.live);
            drop(threads);
            if live.is_empty() {
                return;
            }
            let joined: Vec<_> = live.keys().copied().collect();
            live.into_values().for_each(Thread::join);
            self.threads()
                .ended
                .retain(|id| joined.binary_search(id).is_err());
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A spawner may have started a thread while the group was being dropped.
        self.join_all();
    }
}

trait TaskBody: Body {
    fn id(&self) -> TaskId;
}

/// A task without a value.
struct Go<F> {
    inner: Arc<Inner>,
    ticket: Ticket,
    task: F,
}

/// A task with a value for somebody.
struct Spawn<T, F> {
    inner: Arc<Inner>,
    ticket: Ticket,
    promise: Promise<T>,
    task: F,
}

impl<F: FnOnce() -> Result + Send + 'static> Body for Go<F> {
    fn run(self) {
        let Self {
            inner,
            ticket,
            task,
        } = self;
        enter(&ticket);
        let ending = Ending {
            inner,
            id: ticket.id(),
        };
        ticket.run(|| {
            let _ending = ending;
            task()
        });
    }
}

impl<T: Send + 'static, F: FnOnce() -> Result<T> + Send + 'static> Body for Spawn<T, F> {
    fn run(self) {
        let Self {
            inner,
            ticket,
            promise,
            task,
        } = self;
        enter(&ticket);
        let ending = Ending {
            inner,
            id: ticket.id(),
        };
        ticket.run_with(promise, || {
            let _ending = ending;
            task()
        });
    }
}

impl<F: FnOnce() -> Result + Send + 'static> TaskBody for Go<F> {
    fn id(&self) -> TaskId {
        self.ticket.id()
    }
}

impl<T: Send + 'static, F: FnOnce() -> Result<T> + Send + 'static> TaskBody for Spawn<T, F> {
    fn id(&self) -> TaskId {
        self.ticket.id()
    }
}

fn enter(ticket: &Ticket) {
    if let Some(name) = ticket.name() {
        thread::set_name(name);
    }
    ticket.lineage().enter();
}

/// Marks the task's thread as one that can be joined, before the task is settled and `wait` looks.
struct Ending {
    inner: Arc<Inner>,
    id: TaskId,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.inner.threads().ended.push(self.id);
    }
}
