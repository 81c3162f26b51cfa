//! An OS thread with any number of tasks bound to it.

mod error;
mod lock_to_receiver;
mod thread_loop;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use multi_core::{Result, TryGoError};

use crate::group::{Group, Spawner};
use crate::runtime::ask_lineage_first;
use crate::sched::errand::{self, Outcome};
use crate::sched::{self, Lane, Shared, Unseated, WaitsFor};
use crate::stack::{Class, DEFAULT_BYTES};
use crate::sync::{OsMutex, lock};

pub use error::OsThreadError;
pub use lock_to_receiver::LockToReceiverError;
pub use thread_loop::ThreadLoop;

/// Stack of the thread that [`OsThread::main`] runs its body on: what a main thread has.
const BODY_STACK_BYTES: usize = 8 * 1024 * 1024;

/// A handle to an OS thread whose tasks all run on it and switch in user space: for libraries that want every call from one
/// thread (a window system, a graphics context, a tracer, a C library with thread-local state).
///
/// Compared with a [locked](Group::locked) task that serves requests, nothing is woken or put to sleep between tasks of one
/// thread, and no message goes to a server: [`run`](Self::run) takes a closure there, which may borrow, and brings its value
/// back.
///
/// ```
/// use multi_goro::OsThread;
///
/// let thread = OsThread::spawn("gl")?;
/// let mut frames = Vec::new();
/// let home = thread.run(|| {
///     frames.push(1); // Borrowed: the caller waits.
///     std::thread::current().id()
/// });
/// assert_ne!(home, std::thread::current().id());
///
/// let mut group = thread.group();
/// group.go(move || Ok(assert_eq!(std::thread::current().id(), home)));
/// group.wait()?;
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// A bound task is an ordinary task otherwise. One that computes or blocks keeps the thread, and with it the others bound to
/// it: that is what it is there for. A [`Group`] made inside a bound task is not bound; its tasks run on the global runtime.
///
/// The thread ends when the last handle is gone (groups and spawners made from one count) and its tasks have ended. The drop
/// of the last handle waits for that if no task is left.
///
/// # Fork
///
/// A forked child does not have the thread: everything here is an error there that says so.
#[derive(Clone)]
pub struct OsThread {
    hold: Arc<Hold>,
    lane: Lane,
}

/// Keeps the thread open.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    /// The thread to join, if it was made here.
    thread: OsMutex<Option<JoinHandle<()>>>,
    /// For tasks that nobody waits for, of either lane.
    alone: [OnceLock<Spawner>; 2],
}

impl OsThread {
    /// Starts a thread of that name.
    ///
    /// # Errors
    ///
    /// [`is_refused`](OsThreadError::is_refused): the system gives no thread.
    pub fn spawn(name: &str) -> Result<Self, OsThreadError> {
        let unseated = unseated(name, false)?;
        let shared = Arc::clone(unseated.shared());
        let thread = unseated
            .spawn()
            .map_err(|error| OsThreadError::refused(name, error))?;
        Ok(Self::with(shared, Some(thread)))
    }

    /// Makes the calling thread an [`OsThread`] while `body` runs on a thread of its own, and returns what `body` returned: for what
    /// only the main thread may do.
    ///
    /// ```
    /// let main = std::thread::current().id();
    /// let answer = multi_goro::OsThread::main(|thread| {
    ///     // The program. It runs elsewhere, and asks for the main thread where it needs it.
    ///     assert_ne!(std::thread::current().id(), main);
    ///     thread.run(|| assert_eq!(std::thread::current().id(), main));
    ///     42
    /// });
    /// assert_eq!(answer, 42);
    /// ```
    ///
    /// It returns when `body` has, and the tasks bound to the thread have ended; after that a handle that is left is of a thread
    /// that is gone. Where the main thread has a loop of its own to run, use a [`ThreadLoop`].
    ///
    /// # Panics
    ///
    /// With what `body` panics with; inside a task, whose worker it would block; if the system gives no thread.
    #[track_caller]
    pub fn main<R: Send>(body: impl FnOnce(Self) -> R + Send) -> R {
        /// Lets the tasks end and the caller go on, however the body ends.
        struct Close(Arc<Shared>);
        impl Drop for Close {
            fn drop(&mut self) {
                self.0.close();
            }
        }

        assert!(sched::on_task().is_none(), "{}", OsThreadError::in_task());
        let name = own_name();
        let unseated = match unseated(&name, false) {
            Ok(unseated) => unseated,
            Err(error) => panic!("{error}"),
        };
        let handle = Self::with(Arc::clone(unseated.shared()), None);
        let close = Close(Arc::clone(unseated.shared()));
        let outcome = thread::scope(|scope| {
            let started = thread::Builder::new()
                .name(format!("{name}-body"))
                .stack_size(BODY_STACK_BYTES)
                .spawn_scoped(scope, move || {
                    let _close = close;
                    body(handle)
                });
            match started {
                Ok(thread) => {
                    unseated.serve();
                    thread.join()
                }
                Err(error) => panic!("{}", OsThreadError::refused(&name, error)),
            }
        });
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    }

    fn with(shared: Arc<Shared>, thread: Option<JoinHandle<()>>) -> Self {
        let hold = Hold {
            shared,
            thread: OsMutex::new(thread),
            alone: [OnceLock::new(), OnceLock::new()],
        };
        Self {
            hold: Arc::new(hold),
            lane: Lane::Normal,
        }
    }

    /// The thread's name.
    ///
    /// ```
    /// assert_eq!(multi_goro::OsThread::spawn("db")?.name(), "db");
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.hold.shared.bound().map_or("?", |bound| bound.name())
    }

    /// A handle of the same thread whose tasks come second: they run when no other task of the thread can, and about every
    /// sixtieth time in any case.
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("ui")?;
    /// let mut loading = thread.background().group();
    /// loading.go(|| Ok(()));
    /// loading.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn background(&self) -> Self {
        Self {
            hold: Arc::clone(&self.hold),
            lane: Lane::Background,
        }
    }

    /// Starts a task here that nobody waits for; if it fails, that is reported on standard error. To wait for it or to have a
    /// value from it, start it in a [`group`](Self::group).
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("log")?;
    /// let (tx, rx) = multi_goro::chan(0);
    /// thread.go(move || Ok(tx.send("done")?));
    /// assert_eq!(rx.recv()?, "done");
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn go<F>(&self, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.alone().go(task);
    }

    /// As [`go`](Self::go), but gives the task back if it cannot be started.
    ///
    /// # Errors
    ///
    /// The task and the reason: the thread is gone, or this is a forked child.
    ///
    /// A task outlives its starter, so it can borrow nothing from there; [`run`](Self::run) can:
    ///
    /// ```compile_fail,E0597
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// let text = String::from("borrowed");
    /// let borrowed: &str = &text;
    /// thread.go(move || Ok(assert_eq!(borrowed.len(), 8)));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// and what may not change threads cannot be taken along:
    ///
    /// ```compile_fail,E0277
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// let local = std::rc::Rc::new(1);
    /// thread.go(move || Ok(drop(local)));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn try_go<F>(&self, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.alone().try_go_here(task)
    }

    fn alone(&self) -> &Spawner {
        self.hold.alone[self.lane as usize]
            .get_or_init(|| Group::alone(Arc::clone(&self.hold.shared), self.lane))
    }

    /// A group whose tasks are bound to this thread.
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("audio")?;
    /// let mut group = thread.group();
    /// let sum = group.spawn(|| Ok(1 + 2));
    /// assert_eq!(sum.join()?, 3);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// With options: [`Group::builder`]`().os_thread(&thread)`.
    pub fn group(&self) -> Group {
        Group::builder()
            .os_thread(self)
            .build()
            .unwrap_or_else(|error| unreachable!("the default options are refused: {error}"))
    }

    /// Runs `f` on the thread, waits for it, and returns what it returned. The caller parks or sleeps meanwhile, so `f` may
    /// borrow from it.
    ///
    /// `f` is a task there, and may wait. Called on the thread itself, in a task or not, it is a call.
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// let text = String::from("borrowed");
    /// assert_eq!(thread.run(|| text.len()), 8);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// What may not change threads stays where it is:
    ///
    /// ```compile_fail,E0277
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// let local = std::rc::Rc::new(1);
    /// thread.run(|| println!("{local}"));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With what `f` panics with; where [`try_run`](Self::try_run) has an error.
    #[track_caller]
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.try_run(f).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`run`](Self::run), with an error where the thread cannot run it; `f` has been dropped then.
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// assert_eq!(thread.try_run(|| 6 * 7)?, 42);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The thread is gone, this is a forked child, or there is no memory for a stack.
    ///
    /// # Panics
    ///
    /// With what `f` panics with.
    #[track_caller]
    pub fn try_run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R, OsThreadError> {
        run_on(&self.hold.shared, self.lane, f)
    }

    /// Whether the caller runs on this thread.
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// assert!(!thread.is_current());
    /// assert!(thread.run(|| thread.is_current()));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn is_current(&self) -> bool {
        sched::is_on(&self.hold.shared)
    }

    /// Tasks that have been started here and have not ended.
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("db")?;
    /// assert_eq!(thread.num_tasks(), 0);
    /// let (tx, rx) = multi_goro::chan::<()>(0);
    /// thread.go(move || Ok(drop(rx.recv())));
    /// assert_eq!(thread.num_tasks(), 1);
    /// drop(tx);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn num_tasks(&self) -> usize {
        self.hold.shared.task_count()
    }

    pub(crate) fn parts(&self) -> (Arc<Hold>, Lane) {
        (Arc::clone(&self.hold), self.lane)
    }
}

impl Hold {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A forked child has no thread to tell, and locks that may be held for ever.
        if self.shared.check_process().is_err() {
            return;
        }
        self.shared.close();
        let Some(thread) = lock(&self.thread).take() else {
            return;
        };
        if !sched::is_on(&self.shared) && self.shared.is_deserted() {
            // It ends by returning: there is no panic to pass on.
            let _ignored = thread.join();
        }
    }
}

impl fmt::Debug for OsThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OsThread")
            .field("name", &self.name())
            .field("num_tasks", &self.num_tasks())
            .finish_non_exhaustive()
    }
}

/// Runs `f` on a bound runtime's thread while the caller waits.
#[track_caller]
fn run_on<R: Send>(
    shared: &Arc<Shared>,
    lane: Lane,
    f: impl FnOnce() -> R + Send,
) -> Result<R, OsThreadError> {
    if sched::is_on(shared) {
        return Ok(f());
    }
    let outcome = errand::send(WaitsFor::OsThread, f, |info, parcel| {
        shared.spawn_in(lane, shared.class(), info, parcel);
    });
    match outcome {
        Outcome::Returned(value) => Ok(value),
        Outcome::Panicked(payload) => resume_unwind(payload),
        Outcome::Refused(error) => Err(OsThreadError::of(shared, error)),
    }
}

/// The calling thread's name.
fn own_name() -> String {
    thread::current().name().unwrap_or("thread").to_owned()
}

fn unseated(name: &str, has_bell: bool) -> Result<Unseated, OsThreadError> {
    let class = Class::for_bytes(DEFAULT_BYTES).expect("the default is one of the classes");
    let unseated = Unseated::new(name, class, has_bell)
        .map_err(|error| OsThreadError::refused(name, error))?;
    ask_lineage_first();
    Ok(unseated)
}
