//! The contract itself: what every backend's group can do.

use crate::cancel::CancelToken;
use crate::error::{GroupError, TryGoError, WaitTimeoutError};
use crate::handle::Handle;
use crate::options::TaskOptions;
use crate::{BoxError, Result};
use std::panic::Location;
use std::time::Duration;

/// Tasks that were started together: waiting for them, asking them to stop, seeing how far they are. What a [`Group`], whose tasks are
/// closures, and a [`SpawnFn`], whose tasks are functions with arguments, have in common.
///
/// ```
/// use multi_core::{GroupError, Tasks};
/// use std::time::Duration;
///
/// /// Whatever runs them: a group, or a pool of processes.
/// fn stop(tasks: &mut impl Tasks) -> Result<(), GroupError> {
///     if tasks.wait_timeout(Duration::from_secs(1)).is_err() {
///         tasks.cancel();
///     }
///     tasks.wait()
/// }
/// ```
pub trait Tasks {
    /// Waits until every task started so far has ended. More can then be started: their round has a fresh
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

    /// The token that is cancelled with this round. Clone it into closures that should stop early.
    fn cancel_token(&self) -> CancelToken;

    /// Asks every task of this round to stop, and refuses new ones until the next [`wait`](Self::wait).
    fn cancel(&self) {
        self.cancel_token().cancel();
    }

    /// How far they are.
    fn progress(&self) -> Progress;
}

/// Tasks started together and waited for together; all their errors come home together.
///
/// A backend's own `Group` has these methods and those of [`Tasks`] as its own, so that one backend can be used without the traits. Code
/// for any backend takes `&mut impl Group`:
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
pub trait Group: Tasks {
    /// What [`spawner`](Self::spawner) gives.
    type Spawner: Spawner;

    /// Starts `task`. Blocks only at the group's limit, and then obeys cancel and deadline. From inside a task of the group
    /// it never blocks: at the limit the new task waits in a queue. A task that cannot be started is a failure of that task,
    /// reported by [`wait`](Tasks::wait).
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

/// Functions and their arguments, without captures: what a pool of processes, or one day another machine, can run too. Every [`Spawn`]
/// is one as well, so that code written to this trait runs on whatever there is.
///
/// ```
/// use multi_core::{SpawnFn, TaskError};
///
/// fn squares(pool: &impl SpawnFn<u64, u64>, numbers: &[u64]) -> Result<Vec<u64>, TaskError> {
///     let handles: Vec<_> = numbers.iter().map(|n| pool.spawn_fn(|n| Ok(n * n), *n)).collect();
///     handles.into_iter().map(|handle| handle.join()).collect()
/// }
/// ```
///
/// A function is a `fn` item, or a closure that captures nothing. What it needs is its argument: several values are a tuple.
///
/// ```compile_fail,E0308
/// fn scaled(pool: &impl multi_core::SpawnFn<u64, u64>, factor: u64) {
///     let handle = pool.spawn_fn(|n| Ok(n * factor), 21); // Instead: spawn_fn(|(n, factor)| Ok(n * factor), (21, factor))
/// }
/// ```
///
/// # Ownership
///
/// The argument belongs to the call from then on, and the value to the [`Handle`]. The backend says what can be either: anything `Send`
/// inside one address space; what can be serialised where it is sent to a process. A forked task has a copy of the argument, and the
/// caller's is dropped right after the fork, so that its destructor runs on both sides; one that was serialised is dropped here as soon as
/// it has been written down.
///
/// # Errors
///
/// A failure reaches both the handle and [`wait`](Tasks::wait), which reports it with the task's name and the line that called
/// `spawn_fn`: an error by its chain of causes and its OS error code, a panic by its message and place, the end of a process by its
/// exit code or signal. What cannot be started, or an argument that cannot be sent, is a failure of that task, never a panic of the
/// caller.
///
/// # Fork
///
/// As a [`Group`] does, whatever implements this belongs to the process that made it. In a forked child it starts nothing, and says so.
pub trait SpawnFn<A, T>: Tasks {
    /// Starts `function(args)` and returns the handle of its value. Blocks only at the limit, and then obeys cancel and deadline.
    #[track_caller]
    fn spawn_fn(&self, function: fn(A) -> Result<T>, args: A) -> Handle<T> {
        let options = TaskOptions::new().started_at(Location::caller());
        self.spawn_fn_with(options, function, args)
    }

    /// As [`spawn_fn`](Self::spawn_fn), with a name, a timeout, a token of its own.
    #[track_caller]
    fn spawn_fn_with(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T>;
}

impl<A: Send + 'static, T: 'static, G: Spawn<T>> SpawnFn<A, T> for G {
    #[track_caller]
    fn spawn_fn_with(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T> {
        self.spawn_with(options.started_at(Location::caller()), move || {
            function(args)
        })
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
