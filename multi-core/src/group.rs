//! The contract itself: what every backend's group can do.

use crate::cancel::CancelToken;
use crate::error::{GroupError, TryGoError, WaitTimeoutError};
use crate::handle::Handle;
use crate::options::TaskOptions;
use crate::{BoxError, Result};
use std::panic::Location;
use std::time::Duration;

/// Tasks started together and waited for together; all their errors come home together.
///
/// A backend's own `Group` has these methods as its own, so that one backend can be used without this trait. Code for any
/// backend takes `&mut impl Group`:
///
/// ```
/// use multi_core::{Group, GroupError};
///
/// fn fetch_all(group: &mut impl Group, urls: Vec<String>) -> Result<(), GroupError> {
///     for url in urls {
///         group.go(move || {
///             if url.is_empty() {
///                 Err("an empty address")?;
///             }
///             Ok(())
///         });
///     }
///     group.wait()
/// }
/// ```
///
/// What a task captures must be able to go to another thread, in every backend:
///
/// ```compile_fail,E0277
/// fn start(group: &impl multi_core::Group) {
///     let here_only = std::rc::Rc::new(7);
///     group.go(move || {
///         drop(here_only);
///         Ok(())
///     });
/// }
/// ```
///
/// Dropping a group cancels it, waits for its tasks, and reports the failures nobody saw on standard error.
pub trait Group {
    /// What [`spawner`](Self::spawner) gives.
    type Spawner: Spawner;

    /// Starts `task`. Blocks only at the group's limit, and then obeys cancel and deadline. From inside a task of the group
    /// it never blocks: at the limit the new task waits in a queue. A task that cannot be started is a failure of that task,
    /// reported by [`wait`](Self::wait).
    #[track_caller]
    fn go<F>(&self, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.go_with(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// Starts `task` with a name, a timeout, a token of its own.
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static;

    /// Starts a task that returns an error of one type.
    ///
    /// ```
    /// # fn demo(group: &impl multi_core::Group) {
    /// group.go_result(|| std::fs::remove_file("/tmp/scratch"));
    /// # }
    /// ```
    #[track_caller]
    fn go_result<F, E>(&self, task: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Into<BoxError>,
    {
        self.go_with(
            TaskOptions::new().started_at(Location::caller()),
            move || task().map_err(Into::into),
        );
    }

    /// Starts `task` now or gives it back; never blocks.
    ///
    /// # Errors
    ///
    /// [`TryGoError`] with the task and the reason: at the limit, cancelled, or refused by the system. The group is as it was.
    #[track_caller]
    fn try_go<F>(&self, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.try_go_with(TaskOptions::new().started_at(Location::caller()), task)
    }

    /// As [`try_go`](Self::try_go), with options.
    ///
    /// # Errors
    ///
    /// As [`try_go`](Self::try_go).
    #[track_caller]
    fn try_go_with<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static;

    /// Waits until every task started so far has ended. The group can then be used again: its next round has a fresh
    /// [`cancel_token`](Self::cancel_token) if the last one was cancelled.
    ///
    /// # Errors
    ///
    /// [`GroupError`] with every failure since the last wait.
    fn wait(&mut self) -> Result<(), GroupError>;

    /// As [`wait`](Self::wait), for at most `timeout`. Tasks that are still running then run on.
    ///
    /// # Errors
    ///
    /// [`WaitTimeoutError`]: failed, or still running and who.
    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError>;

    /// The token that is cancelled with this round of the group. Clone it into tasks that should stop early.
    fn cancel_token(&self) -> CancelToken;

    /// Asks every task of this round to stop, and refuses new ones until the next [`wait`](Self::wait).
    fn cancel(&self) {
        self.cancel_token().cancel();
    }

    /// How far the group is.
    fn progress(&self) -> Progress;

    /// A handle that starts tasks in this group from elsewhere, tasks of the group included.
    fn spawner(&self) -> Self::Spawner;
}

/// Starts tasks in a group from wherever it was cloned to. It does not keep the group: once that is dropped, a task started
/// here is refused as cancelled.
pub trait Spawner: Clone + Send + Sync + 'static {
    /// As [`Group::go`].
    #[track_caller]
    fn go<F>(&self, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.go_with(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// As [`Group::go_with`].
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static;
}

/// Tasks that bring a value home. The backend says which values can: any `T: Send` inside one address space, what can be
/// serialised from a process.
///
/// ```
/// use multi_core::Spawn;
///
/// fn sum(group: &impl Spawn<u64>, parts: Vec<Vec<u64>>) -> Result<u64, multi_core::TaskError> {
///     let handles: Vec<_> = parts.into_iter().map(|part| group.spawn(move || Ok(part.iter().sum()))).collect();
///     handles.into_iter().map(|handle| handle.join()).sum()
/// }
/// ```
pub trait Spawn<T>: Group {
    /// Starts `task`, as [`Group::go`] does, and returns the handle of its value. A failure reaches both the handle and the
    /// group's `wait`.
    #[track_caller]
    fn spawn<F>(&self, task: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        self.spawn_with(TaskOptions::new().started_at(Location::caller()), task)
    }

    /// As [`spawn`](Self::spawn), with a name, a timeout, a token of its own.
    #[track_caller]
    fn spawn_with<F>(&self, options: TaskOptions, task: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static;
}

/// Functions and their arguments, without captures: what a pool of processes, or one day another machine, can run too.
///
/// ```
/// use multi_core::{Handle, SpawnFn};
///
/// fn double(pool: &impl SpawnFn<u32, u32>) -> Handle<u32> {
///     pool.spawn_fn(|n| Ok(2 * n), 21)
/// }
/// ```
pub trait SpawnFn<A, T> {
    /// Starts `function(args)` and returns the handle of its value.
    #[track_caller]
    fn spawn_fn(&self, function: fn(A) -> Result<T>, args: A) -> Handle<T>;
}

impl<A: Send + 'static, T: 'static, G: Spawn<T>> SpawnFn<A, T> for G {
    #[track_caller]
    fn spawn_fn(&self, function: fn(A) -> Result<T>, args: A) -> Handle<T> {
        self.spawn_with(
            TaskOptions::new().started_at(Location::caller()),
            move || function(args),
        )
    }
}

/// How far a group is, since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Tasks that `go` took.
    pub started: u64,
    /// Tasks that run now.
    pub running: u64,
    /// Tasks that wait for room, started by a task of the group at its limit.
    pub queued: u64,
    /// Tasks that ended, well or not.
    pub finished: u64,
    /// Tasks that failed.
    pub failed: u64,
}
