//! What can be set of a pool, and what must be promised for it.

#![expect(
    unsafe_code,
    reason = "workers are forked: a promise of the caller's, given once, here"
)]

use super::Pool;
use super::board::Board;
use super::books::Hand;
use super::buffers::{Arena, Desk};
use super::code::Preparation;
use super::hub::{Hub, PoolEvent, Prepare, Settings};
use super::lanes::Lanes;
use super::worker::Share;
use crate::builder::{GRACE, STUCK_AFTER, check_kernel};
use crate::function::{Image, Key, encode_args};
use crate::functions::{Setting, Source};
use crate::hook;
use crate::limits::Limits;
use crate::reap::{self, Reaper};
use crate::slot::Reach;
use crate::terms::Terms;
use crate::threads::OtherThreads;
use multi_core::ledger::Ledger;
use multi_core::{BuildError, CancelToken, Event, GroupOptions, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Jobs that wait beside those that run: for each worker so many, …
const QUEUE_PER_WORKER: usize = 4;
/// … and so many at least: a queue that short jobs do not run dry while their parent is waking up.
const QUEUE_MIN: usize = 60;
/// A worker is killed for another's sake, or by chance, once; twice is bad luck; a job that three workers died in kills workers.
const ATTEMPTS: u32 = 3;
/// Address space only, until a job needs it.
const BYTES_MAX: usize = 64 << 20;
/// Address space as well.
const SHARED_BYTES_MAX: usize = 1 << 30;
/// multi-chan's channels have 4 096 rows.
const WORKERS_MAX: usize = 2048;
const QUEUE_MAX: usize = 1 << 20;

/// What can be set of a [`Pool`]; [`fork`](Self::fork), [`zygote`](Self::zygote) or [`spawn`](Self::spawn) makes it.
///
/// ```
/// use multi_proc::Pool;
/// use std::time::Duration;
///
/// let builder = Pool::builder()
///     .name("thumbnails")
///     .workers(2)
///     .queue(16)
///     .attempts(2)
///     .recycle_after(1_000)
///     .task_timeout(Duration::from_secs(10));
/// // SAFETY: this program has one thread.
/// let pool = unsafe { builder.fork() }?;
/// assert_eq!(pool.call(|name: String| Ok(name.len()), "multi".to_owned())?, 5);
/// # Ok::<(), multi_proc::BoxError>(())
/// ```
#[must_use = "a builder does nothing until it makes a pool"]
pub struct PoolBuilder {
    options: GroupOptions,
    workers: Option<usize>,
    queue: Option<usize>,
    attempts: u32,
    grace: Duration,
    stuck_after: Duration,
    limits: Option<Limits>,
    in_worker: Option<Result<Prepare, String>>,
    program: Setting,
    shared_bytes_max: Option<usize>,
    settings: Settings,
}

impl PoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            options: GroupOptions::new(),
            workers: None,
            queue: None,
            attempts: ATTEMPTS,
            grace: GRACE,
            stuck_after: STUCK_AFTER,
            limits: None,
            in_worker: None,
            program: Setting::default(),
            shared_bytes_max: None,
            settings: Settings {
                args_bytes_max: BYTES_MAX,
                share: Share {
                    value_bytes_max: BYTES_MAX,
                    jobs: None,
                    resident_bytes: None,
                },
                in_worker: None,
                source: None,
            },
        }
    }

    /// How many workers there are: as many as processors that this program may use, unless set.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count);
        self
    }

    /// How many jobs may wait beside those that run: 4 for each worker and 60 at least, unless set. Who has one more waits.
    pub fn queue(mut self, jobs: usize) -> Self {
        self.queue = Some(jobs);
        self
    }

    /// How many workers may die in one job before it fails, with the last one's reason: 3 unless set. 1 is for jobs that must not be done
    /// twice; 0 counts as 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Replaces each worker after so many jobs: against what leaks.
    pub fn recycle_after(mut self, jobs: u64) -> Self {
        self.settings.share.jobs = Some(jobs.max(1));
        self
    }

    /// Replaces each worker that holds more than so much memory of its own after a job: files that it mapped, and memory that is shared, by
    /// [`SharedBuffer`](crate::SharedBuffer) too, do not count. It is asked after each job, for about 2 µs.
    pub fn recycle_above(mut self, resident_bytes: u64) -> Self {
        self.settings.share.resident_bytes = Some(resident_bytes);
        self
    }

    /// How many bytes the arguments of a job may take: 64 MiB unless set. Reserved as address space for each job that may wait or run.
    pub fn args_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.args_bytes_max = bytes;
        self
    }

    /// How many bytes the value of a job may take: as for [`args_bytes_max`](Self::args_bytes_max).
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.share.value_bytes_max = bytes;
        self
    }

    /// How many bytes of [shared buffers](crate::SharedBuffer) the parent may have made, and each worker, that somebody still has a handle of: 1 GiB
    /// unless set. It is also what one of them may have. They count in pages of 4 KiB; of those below 64 KiB each process may have 16 384. Reserved as
    /// address space, up to thirty times as much for each process; where that is not to be had and nothing was set, it is less, or none.
    pub fn shared_bytes_max(mut self, bytes: usize) -> Self {
        self.shared_bytes_max = Some(bytes);
        self
    }

    /// How long a worker that is to end has between SIGTERM and SIGKILL: 1 s unless set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a worker may take to begin, before it is reported as stuck: see [`Builder::stuck_after`](crate::Builder::stuck_after).
    pub fn stuck_after(mut self, after: Duration) -> Self {
        self.stuck_after = after;
        self
    }

    /// Holds every worker to `limits`. A job whose worker goes beyond one, each time it is tried, fails with the limit's name.
    ///
    /// ```
    /// use multi_proc::{Limits, Pool};
    ///
    /// let limits = Limits::new().memory_bytes_max(64 << 20);
    /// // SAFETY: this program has one thread.
    /// let pool = unsafe { Pool::builder().workers(1).limits(limits).fork() }?;
    /// let error = pool.call(|bytes: usize| Ok(vec![1_u8; bytes].len()), 1 << 30).unwrap_err();
    /// assert!(error.to_string().contains("memory_bytes_max 64 MiB"), "{error}");
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Has every worker call `prepare` before its first job: to load a model, open a connection, drop privileges. What it leaves in
    /// statics, jobs find there. A worker whose `prepare` fails is replaced; if the first ones all fail, the jobs do, with its error.
    ///
    /// ```
    /// use multi_proc::Pool;
    /// use std::sync::OnceLock;
    ///
    /// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    /// let builder = Pool::builder().workers(1).in_worker(|| {
    ///     TABLE.get_or_init(|| (0..100).map(|n| n * n).collect());
    ///     Ok(())
    /// });
    /// // SAFETY: this program has one thread.
    /// let pool = unsafe { builder.fork() }?;
    /// assert_eq!(pool.call(|n: usize| Ok(TABLE.get().ok_or("no table")?[n]), 9)?, 81);
    /// assert!(TABLE.get().is_none(), "in the worker, not here");
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    pub fn in_worker(mut self, prepare: impl Fn() -> Result + Send + Sync + 'static) -> Self {
        self.in_worker = Some(Ok(Prepare::Closure(Box::new(prepare))));
        self
    }

    /// As [`in_worker`](Self::in_worker), with a function and its arguments, which workers of every kind can be given. It stands in the place
    /// of a closure set before.
    ///
    /// ```
    /// use multi_proc::Pool;
    /// use std::sync::OnceLock;
    ///
    /// static GREETING: OnceLock<String> = OnceLock::new();
    ///
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let learn = |greeting| Ok(GREETING.set(greeting)?);
    ///     let pool = Pool::builder().workers(1).in_worker_fn(learn, "good day".to_owned()).zygote()?;
    ///     let greet = |name: String| Ok(format!("{}, {name}", GREETING.get().ok_or("not learnt")?));
    ///     assert_eq!(pool.call(greet, "Ada".to_owned())?, "good day, Ada");
    ///     Ok(())
    /// }
    /// ```
    pub fn in_worker_fn<A>(mut self, prepare: fn(A) -> Result, args: A) -> Self
    where
        A: Serialize + DeserializeOwned,
    {
        let function = Preparation::of(prepare).map_err(|error| error.to_string());
        let args = encode_args(&args).map_err(|error| error.to_string());
        let prepare = function.and_then(|function| Ok(Prepare::Function(function, args?)));
        self.in_worker = Some(prepare);
        self
    }

    /// As [`Builder::env`](crate::Builder::env), for the workers of [`spawn`](Self::spawn).
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.set(name, Some(value.into()));
        self
    }

    /// As [`Builder::env_pass`](crate::Builder::env_pass), for the workers of [`spawn`](Self::spawn).
    pub fn env_pass(mut self, name: impl Into<OsString>) -> Self {
        self.program.set(name, None);
        self
    }

    /// As [`Builder::env_clear`](crate::Builder::env_clear), for the workers of [`spawn`](Self::spawn).
    pub fn env_clear(mut self) -> Self {
        self.program.is_env_clear = true;
        self
    }

    /// As [`Builder::program`](crate::Builder::program), for the workers of [`spawn`](Self::spawn).
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program.program = Some(path.into());
        self
    }

    /// Makes the pool, whose workers are children of a zygote, a copy of this program as it was when [`init`](crate::init) was called, or is now
    /// if it was not: see [`Builder::zygote`](crate::Builder::zygote).
    ///
    /// Such workers have nothing of what the program did since, so that no promise is needed, whatever its threads hold and whenever a worker
    /// is replaced: no descriptor, no memory, but what the pool passes to them. All end with the zygote, and that with this process.
    ///
    /// ```
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let busy = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_millis(5)));
    ///     let pool = multi_proc::Pool::builder().workers(2).zygote()?;
    ///     assert_eq!(pool.map(|n: u64| Ok(n * n), 0..5)?, [0, 1, 4, 9, 16]);
    ///     busy.join().unwrap();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`] where there is no zygote and none can be made, because the program has several threads by now; where an option makes no
    /// sense (what [`in_worker`](Self::in_worker) captures does not exist there: [`in_worker_fn`](Self::in_worker_fn)); and as for
    /// [`fork`](Self::fork).
    pub fn zygote(mut self) -> Result<Pool, BuildError> {
        self.program.check_plain("zygote", "pool")?;
        self.check_functions()?;
        self.settings.source = Some(Source::zygote()?);
        self.make()
    }

    /// Makes the pool, whose workers are executions of this program: [`init`](crate::init), the first call of its `main`, then does a worker's
    /// work instead of returning.
    ///
    /// They inherit what [`Builder::spawn`](crate::Builder::spawn) says and are given what the pool passes to them; no promise is needed. One that is
    /// replaced takes some milliseconds to begin.
    ///
    /// ```
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let pool = multi_proc::Pool::builder().workers(2).env("MODE", "slow").spawn()?;
    ///     assert_eq!(pool.call(|name: String| Ok(std::env::var(name)?), "MODE".to_owned())?, "slow");
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`] where `init` was not called; where the program may do more than whoever executes it; where an option makes no sense (what
    /// [`in_worker`](Self::in_worker) captures does not exist there: [`in_worker_fn`](Self::in_worker_fn)); or as for [`fork`](Self::fork).
    pub fn spawn(mut self) -> Result<Pool, BuildError> {
        self.check_functions()?;
        self.settings.source = Some(Source::executing(&self.program, "pool")?);
        self.make()
    }

    fn check_functions(&self) -> Result<(), BuildError> {
        if !matches!(self.in_worker, Some(Ok(Prepare::Closure(_)))) {
            return Ok(());
        }
        Err(BuildError::new(
            "in_worker takes a closure of this process, which workers that are not forked from it do not have; give a function and its arguments by \
             in_worker_fn, or make the pool by fork()",
        ))
    }

    /// Makes the pool, whose workers are forked copies of this process, now and whenever one is replaced.
    ///
    /// A worker lives as long as the pool, and keeps a copy of every descriptor that was open here when it was forked, close-on-exec or
    /// not: one that replaces another may be forked while a thread of the program has a pipe or a connection open. As long as that worker lives the
    /// reader of the pipe does not find its end, nor the peer that of the connection, after this process has closed its own; and the last sender of a shared
    /// channel is not the last. Where that matters, have [`in_worker`](Self::in_worker) close what the program opened, one by one, or recycle
    /// workers. The pool's own descriptors are among the others: a worker whose initialiser closes all that are open fails, and its error says so.
    ///
    /// # Safety
    ///
    /// As for [`Builder::fork`](crate::Builder::fork), for what jobs and the initialiser do in place of tasks, as long as the pool lives:
    /// workers that died are replaced by forks on the threads that wait for the pool, give it jobs or ask for its status.
    ///
    /// # Errors
    ///
    /// [`BuildError`] where an option makes no sense, or the system has no process, shared memory or descriptors left.
    pub unsafe fn fork(self) -> Result<Pool, BuildError> {
        self.program.check_plain("fork", "pool")?;
        self.make()
    }

    fn make(mut self) -> Result<Pool, BuildError> {
        self.options.check()?;
        self.settings.in_worker = self
            .in_worker
            .transpose()
            .map_err(|why| BuildError::new(format!("in_worker_fn: {why}")))?;
        let workers = self
            .workers
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        let queue = self
            .queue
            .unwrap_or_else(|| (QUEUE_PER_WORKER * workers).max(QUEUE_MIN));
        for (what, count, least, most) in [
            ("workers", workers, 1, WORKERS_MAX),
            ("queue", queue, 0, QUEUE_MAX),
        ] {
            if count < least || count > most {
                return Err(BuildError::new(format!(
                    "{what} {count} cannot be; give {least} to {most}"
                )));
            }
        }
        check_kernel()?;
        hook::install();
        let jobs = workers + queue;
        let (args_max, value_max) = (
            self.settings.args_bytes_max,
            self.settings.share.value_bytes_max,
        );
        let reach = match self.settings.source {
            Some(_) => Reach::Passed,
            None => Reach::Forked,
        };
        let board = Board::new(workers, jobs, args_max, value_max, reach);
        let board = board.map_err(|error| {
            BuildError::new(format!(
                "no shared memory for {jobs} jobs with args_bytes_max {args_max} and value_bytes_max {value_max}: {error}; lower \
                 them or the queue, or raise the limits of address space and file size (ulimit -v, -f)"
            ))
        })?;
        let arena = match self.shared_bytes_max {
            Some(bytes) => Arena::new(workers, bytes, reach),
            None => Arena::new(workers, SHARED_BYTES_MAX, reach)
                .or_else(|_| Arena::new(workers, SHARED_BYTES_MAX / 64, reach))
                .or_else(|_| Arena::new(workers, 0, reach)),
        };
        let arena = arena.map_err(|error| {
            BuildError::new(format!(
                "no address space for shared buffers of {workers} workers: {error}; lower shared_bytes_max, or raise ulimit -v"
            ))
        })?;
        let desk = Desk::of_parent(Arc::new(arena));
        let lanes = Lanes::new(workers, jobs, reach)
            .map_err(|error| BuildError::new(format!("no channel to the workers: {error}")))?;
        let key = Key::new().map_err(|error| BuildError::new(format!("no random key: {error}")))?;
        // Once before any fork: it takes the loader's lock.
        Image::here();
        // A worker has no value; what there is of arguments lies in the same place.
        let value_bytes_max = match &self.settings.in_worker {
            Some(Prepare::Function(_, args)) => args.len(),
            _ => 0,
        };
        let settings = reap::Settings {
            grace: self.grace,
            stuck_after: self.stuck_after,
            value_bytes_max,
            in_child: None,
            other_threads: OtherThreads::Allow,
            terms: self.limits.map(|limits| {
                Arc::new(Terms {
                    limits,
                    ..Terms::default()
                })
            }),
        };
        let reaper = Reaper::reaching(settings, reach).map_err(|error| {
            BuildError::new(format!(
                "no descriptor, or no memory to share, for what becomes of workers: {error}; raise the limits of open files, file size and address \
                 space (ulimit -n, -f, -v)"
            ))
        })?;
        let maker = Arc::clone(&reaper);
        let crew = Ledger::new(
            "pool",
            GroupOptions::new(),
            Arc::clone(&reaper) as _,
            move || maker.new_token(),
        )?;
        let hub = Arc::new(Hub::new(
            board,
            lanes,
            desk,
            key,
            self.settings,
            reaper,
            crew,
        ));
        let event = || -> Arc<dyn Event> {
            Arc::new(PoolEvent {
                hub: Arc::clone(&hub),
                job: None,
            })
        };
        // Calls tell their failures to the caller, and to nobody else.
        let of_calls = self.options.clone().fail_fast(false).limit(usize::MAX);
        let calls = Ledger::new("pool", of_calls, event(), CancelToken::new)?;
        let maker = Arc::clone(&hub);
        let tasks = Ledger::new("pool", self.options, event(), move || maker.new_token())?;
        hub.hire();
        let pool = Pool::new(Arc::clone(&hub), tasks, calls, self.attempts);
        let mut books = hub.lock();
        if !books
            .crew
            .iter()
            .any(|hand| matches!(hand, Hand::At { .. }))
            && let Some(reason) = books.last_false_start.take()
        {
            let why = format!(
                "no worker could be started: {}",
                super::crew::describe(&reason)
            );
            drop(books);
            return Err(BuildError::new(why));
        }
        drop(books);
        Ok(pool)
    }
}

multi_core::builder_face!(PoolBuilder);

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("options", &self.options)
            .field("workers", &self.workers)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
