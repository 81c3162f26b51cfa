//! Giving a pool something to do.

use super::Pool;
use super::books::{Awaits, Ended, Entry, Terms};
use super::code;
use super::hub::{Blank, Hub, NoRoom, PoolEvent};
use super::lanes::Priority;
use super::unordered::{MapUnordered, Told};
use multi_core::ledger::{Ledger, Ticket};
use multi_core::{Event, Handle, Promise, Result, TaskError, TaskErrorKind, TaskOptions, panic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Gives a pool jobs of one kind: with this priority, with so many attempts. Made by [`Pool::jobs`]; cheap to copy.
///
/// ```
/// use multi_proc::{Pool, Priority};
///
/// // SAFETY: this program has one thread.
/// let pool = unsafe { Pool::builder().workers(2).fork() }?;
/// let urgent = pool.jobs().priority(Priority::High).attempts(1);
/// assert_eq!(urgent.call(|n: u32| Ok(n + 1), 41)?, 42);
/// # Ok::<(), multi_proc::BoxError>(())
/// ```
#[derive(Clone, Copy)]
#[must_use = "it does nothing until it is given a function"]
pub struct Jobs<'a> {
    pool: &'a Pool,
    priority: Priority,
    attempts: u32,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self {
            pool,
            priority: Priority::Usual,
            attempts: pool.attempts,
        }
    }

    /// Which jobs are taken first.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How many workers may die in one job before it fails: for these, instead of what the pool says. 1 is for what must not be done
    /// twice; 0 counts as 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Runs `function(args)` in a worker and waits for its value: see [`Pool::call`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn call<A, T>(self, function: fn(A) -> Result<T>, args: A) -> Result<T, TaskError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        self.call_with(here(), function, args)
    }

    /// As [`call`](Self::call), with a name or a time limit.
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn call_with<A, T>(
        self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<T, TaskError>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        let options = options.started_at(Location::caller());
        let hub = &self.pool.hub;
        hub.check_owner();
        hub.check_may_wait();
        if hub.is_cancelled() {
            return Err(self.refused(options));
        }
        let Ok(mut blank) = hub.take_waiting(None) else {
            return Err(self.refused(options));
        };
        let Ok(mut ticket) = self.pool.calls.try_admit(options.clone()) else {
            return Err(self.refused(options));
        };
        if let Err(kind) = write(hub, &mut blank, function, args) {
            return ticket.settle_here(Err(kind));
        }
        let job = blank.job;
        hub.start(blank, self.terms(&ticket), Entry::Caller);
        while !hub.wait_done(job, None, || false) {}
        let mut ended = hub.collect_own(job);
        let outcome = hub.outcome(job, &mut ended);
        hub.put_back(job);
        ended.tell(&mut ticket, outcome.is_err());
        ticket.settle_here(outcome)
    }

    /// Gives `function(args)` to a worker and returns the handle of its value: see [`Pool::spawn_fn`].
    #[track_caller]
    pub fn spawn_fn<A, T>(self, function: fn(A) -> Result<T>, args: A) -> Handle<T>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_fn_with(here(), function, args)
    }

    /// As [`spawn_fn`](Self::spawn_fn), with a name or a time limit.
    #[track_caller]
    pub fn spawn_fn_with<A, T>(
        self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.pool.hub.check_owner();
        let blank = self.pool.hub.take_waiting(None);
        self.launch(&self.pool.tasks, options, blank, function, args, None)
    }

    /// As [`spawn_fn`](Self::spawn_fn) if there is room in the queue just now; never waits.
    ///
    /// ```
    /// use multi_proc::Pool;
    /// use std::time::Duration;
    ///
    /// // SAFETY: this program has one thread.
    /// let mut pool = unsafe { Pool::builder().workers(1).queue(1).fork() }?;
    /// let sleep = |ms| Ok(std::thread::sleep(Duration::from_millis(ms)));
    /// let (_one, _two) = (pool.spawn_fn(sleep, 100), pool.spawn_fn(sleep, 100));
    /// let full = pool.jobs().try_spawn_fn(sleep, 30).unwrap_err();
    /// assert!(full.is_full());
    /// assert_eq!(full.into_args(), 30);
    /// pool.wait()?;
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TrySpawnError`], with the arguments: the queue is full, or the pool was cancelled.
    #[track_caller]
    pub fn try_spawn_fn<A, T>(
        self,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<Handle<T>, TrySpawnError<A>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_fn_within(Some(Duration::ZERO), function, args)
    }

    /// As [`spawn_fn`](Self::spawn_fn), waiting no longer than `limit` for room in the queue.
    ///
    /// # Errors
    ///
    /// [`TrySpawnError`], with the arguments: the queue is still full, or the pool was cancelled.
    #[track_caller]
    pub fn spawn_fn_timeout<A, T>(
        self,
        limit: Duration,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<Handle<T>, TrySpawnError<A>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_fn_within(Some(limit), function, args)
    }

    #[track_caller]
    fn spawn_fn_within<A, T>(
        self,
        limit: Option<Duration>,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<Handle<T>, TrySpawnError<A>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let hub = &self.pool.hub;
        hub.check_owner();
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let blank = if hub.is_cancelled() {
            Err(NoRoom::Cancelled)
        } else if limit == Some(Duration::ZERO) {
            // What is done makes room.
            hub.sweep();
            hub.take()
        } else {
            hub.take_waiting(until)
        };
        match blank {
            Ok(blank) => Ok(self.launch(&self.pool.tasks, here(), Ok(blank), function, args, None)),
            Err(why) => Err(TrySpawnError { args, why }),
        }
    }

    /// Runs `function` on every item and returns the values in the order of the items: see [`Pool::map`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn map<A, T>(
        self,
        function: fn(A) -> Result<T>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<T>, TaskError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let site = here();
        let mut values: Vec<Option<T>> = Vec::new();
        let (mut first, mut first_at) = (None, usize::MAX);
        let mut results = MapUnordered::new(self, site, function, items.into_iter());
        while let Some((index, result)) = results.next() {
            if values.len() <= index {
                values.resize_with(index + 1, || None);
            }
            match result {
                Ok(value) => values[index] = Some(value),
                Err(error) => {
                    // No more are begun; those that run may still fail earlier in the order.
                    results.stop();
                    if index < first_at {
                        (first, first_at) = (Some(error), index);
                    }
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None => Ok(values.into_iter().flatten().collect()),
        }
    }

    /// Runs `function` on every item and gives the values as they come: see [`Pool::map_unordered`].
    #[track_caller]
    pub fn map_unordered<A, T, I>(
        self,
        function: fn(A) -> Result<T>,
        items: I,
    ) -> MapUnordered<'a, A, T, I::IntoIter>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        MapUnordered::new(self, here(), function, items.into_iter())
    }

    /// For a map: the job if there is room, else its arguments.
    pub(super) fn start_one<A, T>(
        self,
        options: TaskOptions,
        may_wait: bool,
        function: fn(A) -> Result<T>,
        args: A,
        told: impl FnOnce() -> Told,
    ) -> Result<Handle<T>, A>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let hub = &self.pool.hub;
        let blank = if may_wait {
            hub.take_waiting(None)
        } else {
            hub.take()
        };
        let blank = match blank {
            Err(NoRoom::Full) => return Err(args),
            _ if hub.is_cancelled() => Err(NoRoom::Cancelled),
            blank => blank,
        };
        let calls = &self.pool.calls;
        Ok(self.launch(calls, options, blank, function, args, Some(told())))
    }

    pub(super) fn hub(&self) -> &'a Arc<Hub> {
        &self.pool.hub
    }

    /// Starts a job for a handle, or has the ledger refuse it where there is no place for it.
    fn launch<A, T>(
        self,
        ledger: &Ledger,
        options: TaskOptions,
        blank: Result<Blank, NoRoom>,
        function: fn(A) -> Result<T>,
        args: A,
        told: Option<Told>,
    ) -> Handle<T>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let hub = Arc::clone(&self.pool.hub);
        let job = blank
            .as_ref()
            .ok()
            .map(|blank| (blank.job, hub.serial(blank.job)));
        let event: Arc<dyn Event> = Arc::new(PoolEvent {
            hub: Arc::clone(&hub),
            job,
        });
        let (priority, attempts) = (self.priority, self.attempts);
        ledger.launch_with(options, event, move |ticket, promise| {
            let valued = Valued {
                ticket,
                promise,
                told,
            };
            let Ok(mut blank) = blank else {
                return valued.end(Err(TaskErrorKind::Cancelled));
            };
            if let Err(kind) = write(&hub, &mut blank, function, args) {
                drop(blank);
                return valued.end(Err(kind));
            }
            let terms = Terms {
                priority,
                attempts,
                timeout: valued.ticket.timeout(),
            };
            hub.start(blank, terms, Entry::Handle(Box::new(valued)));
        })
    }

    fn terms(&self, ticket: &Ticket) -> Terms {
        Terms {
            priority: self.priority,
            attempts: self.attempts,
            timeout: ticket.timeout(),
        }
    }

    /// The failure of a call that is not made.
    #[cold]
    fn refused(&self, options: TaskOptions) -> TaskError {
        let refused = Err(NoRoom::Cancelled);
        let calls = &self.pool.calls;
        let handle = self.launch::<(), ()>(calls, options, refused, |()| Ok(()), (), None);
        match handle.join() {
            Err(error) => error,
            Ok(()) => unreachable!("a job without a place has no value"),
        }
    }
}

/// Options that say where the caller was called.
#[track_caller]
fn here() -> TaskOptions {
    TaskOptions::new().started_at(Location::caller())
}

/// Writes down what a job is to run and with what.
fn write<A, T>(
    hub: &Hub,
    blank: &mut Blank,
    function: fn(A) -> Result<T>,
    args: A,
) -> Result<(), TaskErrorKind>
where
    A: Serialize + DeserializeOwned,
    T: Serialize,
{
    let order = code::order(&hub.key, function)
        .map_err(|error| TaskErrorKind::Start(io::Error::other(error)))?;
    hub.board.set_order(blank.job, order);
    // Encoding calls the caller's code, and dropping them, too.
    let job = blank.job;
    blank.enclosed =
        panic::catch(move || hub.write_args(job, &args)).and_then(|written| written)?;
    Ok(())
}

/// A job whose value a handle waits for.
struct Valued<T> {
    ticket: Ticket,
    promise: Promise<T>,
    /// After the others: dropped when they are done with.
    told: Option<Told>,
}

impl<T: Send + 'static> Valued<T> {
    fn end(self, outcome: Result<T, TaskErrorKind>) {
        self.ticket.settle_with(self.promise, outcome);
        drop(self.told);
    }
}

impl<T: DeserializeOwned + Send + 'static> Awaits for Valued<T> {
    fn settle(mut self: Box<Self>, hub: &Hub, job: usize, mut ended: Ended) {
        let outcome = hub.outcome(job, &mut ended);
        ended.tell(&mut self.ticket, outcome.is_err());
        self.end(outcome);
    }
}

/// Why a job was not taken, which comes back unharmed.
pub struct TrySpawnError<A> {
    args: A,
    why: NoRoom,
}

impl<A> TrySpawnError<A> {
    /// Whether the queue was full.
    pub fn is_full(&self) -> bool {
        self.why == NoRoom::Full
    }

    /// Whether the pool was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.why == NoRoom::Cancelled
    }

    /// The arguments, for another try.
    pub fn into_args(self) -> A {
        self.args
    }
}

impl<A> fmt::Display for TrySpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            NoRoom::Full => "the pool's queue is full",
            NoRoom::Cancelled => "the pool was cancelled",
            NoRoom::Closed => "the pool is shutting down",
        })
    }
}

impl<A> fmt::Debug for TrySpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySpawnError")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<A> Error for TrySpawnError<A> {}

impl fmt::Debug for Jobs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("priority", &self.priority)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
