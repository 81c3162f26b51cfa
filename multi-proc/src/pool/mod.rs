//! Workers that are started once and run functions: see [`Pool`].

mod bell;
mod board;
mod books;
mod buffers;
mod builder;
mod code;
mod crew;
mod dismissal;
mod duty;
mod hub;
mod jobs;
mod lanes;
mod luck;
#[cfg(test)]
mod tests;
mod unordered;
mod word;
mod worker;

pub use buffers::{BufferError, SharedBuffer, SharedBufferMut};
pub use builder::PoolBuilder;
pub use jobs::{Jobs, TrySpawnError};
pub use lanes::Priority;
pub use unordered::MapUnordered;

pub(crate) use buffers::explained;
pub(crate) use duty::Duty;

use hub::Hub;
use multi_core::ledger::Ledger;
use multi_core::{
    CancelToken, Event as _, GroupError, Handle, Progress, Result, SpawnFn, TaskError, TaskOptions,
    Tasks, Usage, WaitTimeoutError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};
use word::Phase;

/// Processes that are started once and then run functions, one at a time each.
///
/// A job is a function without captures and its argument; both ways values travel by `serde` through shared memory. A job that a worker
/// dies in is given to another one, so often as [`attempts`](PoolBuilder::attempts) says, and the worker is replaced. What a job
/// returned counts once, also where its worker died right after it.
///
/// ```
/// use multi_proc::Pool;
///
/// fn digits(n: u64) -> multi_proc::Result<usize> {
///     if n == 13 {
///         std::process::abort();
///     }
///     Ok(n.to_string().len())
/// }
///
/// // SAFETY: this program has one thread.
/// let pool = unsafe { Pool::builder().workers(2).fork() }?;
/// assert_eq!(pool.call(digits, 1_000)?, 4);
///
/// let error = pool.call(digits, 13).unwrap_err();
/// assert_eq!(error.attempts(), 3);
/// assert!(error.to_string().contains("killed by SIGABRT"), "{error}");
///
/// assert_eq!(pool.map(digits, [7, 77, 777])?, [1, 2, 3]);
/// # Ok::<(), multi_proc::BoxError>(())
/// ```
///
/// Workers are copies of this process ([`fork`](PoolBuilder::fork), as here), or, without a promise of the caller's, a zygote's
/// ([`zygote`](PoolBuilder::zygote)) or executions of this program ([`spawn`](PoolBuilder::spawn)). It makes no difference to jobs.
///
/// [`spawn_fn`](Self::spawn_fn) gives a handle and has its failures reported by [`wait`](Self::wait), too, as a group does;
/// [`call`](Self::call) and the maps tell their failures to their caller alone. There is no thread of the pool's: whoever waits for a
/// job, or gives it one, replaces the workers that died meanwhile.
///
/// Dropping the pool cancels its jobs and ends its workers. No worker outlives the process that made the pool, however that ends.
///
/// # Trade-offs
///
/// - A [`call`](Self::call) takes 0.8 times as long as a bare round trip by futex between two processes, and 1/37 of a bare `fork` and
///   `waitpid`; 0.85 times and 1/34 where both have one processor. Of many jobs of 1 µs, one takes 1.7 µs (rayon's threads: 0.8). Medians
///   of a run that called the machine restless: 2 processors, 2026-11-22, `cargo xtask bench proc --peers`.
/// - What is long is encoded where its reader finds it, but copied out once before it is decoded, so that nobody can change it meanwhile. A
///   [`SharedBuffer`] is not.
/// - What a job changes outside its process may happen more than once: its worker may die after it. `attempts(1)` is for what must not.
/// - Workers that die while nobody waits for the pool are replaced by whoever comes next.
/// - Jobs of higher priority are taken first, always: enough of them, and the others wait.
///
/// # Fork
///
/// In a forked worker, and in any other forked child, the pool is its parent's: giving it jobs panics and says so, and dropping it does nothing.
#[must_use = "dropping a pool ends its workers"]
pub struct Pool {
    hub: Arc<Hub>,
    /// What `wait` tells of.
    tasks: Ledger,
    /// What is told to its caller alone.
    calls: Ledger,
    attempts: u32,
    has_ended: bool,
}

/// How far a pool is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Workers that exist.
    pub workers: usize,
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// Jobs that a worker runs.
    pub running: usize,
    /// Jobs given to the pool since it was made.
    pub started: u64,
    /// Jobs that have ended, well or not.
    pub finished: u64,
    /// Jobs given to another worker because theirs died.
    pub retried: u64,
    /// Workers that died.
    pub deaths: u64,
    /// Workers that were replaced because they had done their share or held too much memory.
    pub recycled: u64,
}

impl Pool {
    /// Sets options first.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    fn new(hub: Arc<Hub>, tasks: Ledger, calls: Ledger, attempts: u32) -> Self {
        Self {
            hub,
            tasks,
            calls,
            attempts,
            has_ended: false,
        }
    }

    /// Jobs with a priority or a number of attempts of their own.
    pub fn jobs(&self) -> Jobs<'_> {
        Jobs::new(self)
    }

    /// Runs `function(args)` in a worker and waits for its value. Waits for room in the queue first, if it is full.
    ///
    /// # Errors
    ///
    /// How it failed: what the function returned or panicked with; or the last reason why a worker died in it, after as many
    /// [`attempts`](TaskError::attempts) as were allowed. [`wait`](Self::wait) does not report it again.
    #[track_caller]
    pub fn call<A, T>(&self, function: fn(A) -> Result<T>, args: A) -> Result<T, TaskError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        self.jobs().call(function, args)
    }

    /// As [`call`](Self::call), with a name or a time limit, which counts from when a worker begins.
    ///
    /// ```
    /// use multi_proc::{Pool, TaskOptions};
    /// use std::time::Duration;
    ///
    /// // SAFETY: this program has one thread.
    /// let pool = unsafe { Pool::builder().workers(1).fork() }?;
    /// let options = TaskOptions::new().name("endless").timeout(Duration::from_millis(20));
    /// let error = pool.call_with(options, |()| Ok(loop { std::thread::park() }), ()).map(|never: ()| never).unwrap_err();
    /// assert!(error.is_timed_out());
    /// assert_eq!(pool.call(|n: u8| Ok(n), 1)?, 1, "that cost one worker, which was replaced");
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn call_with<A, T>(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<T, TaskError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        self.jobs().call_with(options, function, args)
    }

    /// Runs `function` on every item and returns the values in the order of the items.
    ///
    /// # Errors
    ///
    /// The first failure, in the order of the items, of those that were begun: after one, no more are.
    #[track_caller]
    pub fn map<A, T>(
        &self,
        function: fn(A) -> Result<T>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<T>, TaskError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.jobs().map(function, items)
    }

    /// Runs `function` on every item and gives what came of each as it comes, with the index of its item.
    ///
    /// ```
    /// use multi_proc::Pool;
    ///
    /// // SAFETY: this program has one thread.
    /// let pool = unsafe { Pool::builder().workers(2).fork() }?;
    /// let mut sum = 0;
    /// for (index, square) in pool.map_unordered(|n: u64| Ok(n * n), 0..100) {
    ///     assert_eq!(square.as_ref().ok(), Some(&((index * index) as u64)));
    ///     sum += square?;
    /// }
    /// assert_eq!(sum, 328_350);
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    #[track_caller]
    pub fn map_unordered<A, T, I>(
        &self,
        function: fn(A) -> Result<T>,
        items: I,
    ) -> MapUnordered<'_, A, T, I::IntoIter>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.jobs().map_unordered(function, items)
    }

    /// How far the pool is, calls and maps included. It looks after the workers in passing.
    ///
    /// ```
    /// use multi_proc::Pool;
    ///
    /// // SAFETY: this program has one thread.
    /// let pool = unsafe { Pool::builder().workers(2).fork() }?;
    /// pool.call(|()| Ok(()), ())?;
    /// let status = pool.status();
    /// assert_eq!((status.workers, status.finished, status.deaths), (2, 1, 0));
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.hub.check_owner();
        self.hub.look_at_workers();
        let phases = (0..self.hub.board.jobs).map(|job| self.hub.board.word(job).phase());
        let (mut queued, mut running) = (0, 0);
        for phase in phases {
            match phase {
                Phase::Queued => queued += 1,
                Phase::Running { .. } => running += 1,
                Phase::Free | Phase::Done => {}
            }
        }
        let books = self.hub.lock();
        PoolStatus {
            workers: books.pids().count(),
            queued,
            running,
            started: books.counts.started,
            finished: books.counts.finished,
            retried: books.counts.retried,
            deaths: books.counts.deaths,
            recycled: books.counts.recycled,
        }
    }

    /// The processes that work: for who wants to watch, or kill, one.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.hub.lock().pids().collect()
    }

    /// What the workers that have ended used: processor time and peak memory.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.hub.reaper.usage()
    }

    /// Waits for all jobs, then ends the workers.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn shutdown(mut self) -> Result<(), GroupError> {
        self.drain(None);
        self.end();
        self.tasks.wait()
    }

    /// Waits for all jobs, for at most `limit`; then takes back those that nobody has begun, and ends the workers, those of jobs that
    /// still run by SIGTERM and, after the grace, SIGKILL. With a `limit` of zero: now.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); jobs that were ended are [`Cancelled`](multi_core::TaskErrorKind::Cancelled).
    pub fn shutdown_timeout(mut self, limit: Duration) -> Result<(), GroupError> {
        self.drain(Instant::now().checked_add(limit));
        self.end();
        self.tasks.wait()
    }

    fn drain(&self, until: Option<Instant>) {
        self.hub.check_owner();
        loop {
            let key = self.hub.reaper.key();
            self.hub.tend();
            let is_late = until.is_some_and(|until| Instant::now() >= until);
            let mut books = self.hub.lock();
            if is_late || books.is_idle() {
                return;
            }
            // Under the same lock: whoever has settled a job and not put its number back yet tells us when it does.
            books.room_waiters += 1;
            drop(books);
            self.hub.wait_for_any(key, until);
            self.hub.lock().room_waiters -= 1;
        }
    }

    /// Ends what is left of the jobs, and the workers.
    fn end(&mut self) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let hub = &self.hub;
        let is_idle = {
            let mut books = hub.lock();
            books.is_closed = true;
            books.is_ending = true;
            books.is_idle()
        };
        hub.cancel_jobs();
        hub.lanes.close();
        if !is_idle {
            hub.reaper.abandon();
        }
        hub.crew.cancel_token().cancel();
        // What became of workers was told by their jobs.
        drop(hub.crew.wait());
        hub.sweep();
    }
}

impl Tasks for Pool {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.hub.check_owner();
        self.tasks.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.hub.check_owner();
        self.tasks.wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.tasks.cancel_token()
    }

    fn progress(&self) -> Progress {
        if self.hub.reaper.owner.is_here() {
            self.hub.sweep();
        }
        self.tasks.progress()
    }
}

impl<A, T> SpawnFn<A, T> for Pool
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    #[track_caller]
    fn spawn_fn_with(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T> {
        let options = options.started_at(Location::caller());
        self.jobs().spawn_fn_with(options, function, args)
    }
}

multi_core::tasks_face!(Pool);
multi_core::spawn_fn_face!(Pool, args: [Serialize + DeserializeOwned + Send + 'static], value: [Serialize + DeserializeOwned + Send + 'static]);

impl Drop for Pool {
    fn drop(&mut self) {
        // In a child there is nobody to end, and the parent's locks are not to be touched.
        if !self.hub.reaper.owner.is_here() {
            return;
        }
        if !self.has_ended {
            self.tasks.cancel_token().cancel();
            self.end();
            self.tasks.abandon();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.hub.board.workers)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}
