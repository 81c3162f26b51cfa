//! Waiting for a condition on what a lock guards.

use std::fmt;
use std::time::{Duration, Instant};

use super::{MutexGuard, OsMutex, lock};
use crate::sched::{Waiters, WaitsFor, Wake, wait_in};

/// A condition variable for tasks and plain threads, with a [`Mutex`](super::Mutex).
///
/// Waiters are woken in the order in which they came. No wake is spurious, but the condition may have changed again by the time
/// the lock is back: look in a loop.
///
/// ```
/// use multi_goro::sync::{Condvar, Mutex};
///
/// let (ready, told) = (Mutex::new(false), Condvar::new());
/// multi_goro::scope(|s| {
///     s.go(|| {
///         *ready.lock() = true;
///         told.notify_one();
///         Ok(())
///     });
///     let mut ready = ready.lock();
///     while !*ready {
///         ready = told.wait(ready);
///     }
/// })?;
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
pub struct Condvar {
    waiting: OsMutex<Waiters>,
}

impl Condvar {
    /// A condition variable that nobody waits on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: OsMutex::new(Waiters::new()),
        }
    }

    /// Releases the lock, waits to be notified, and takes the lock again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// As [`wait`](Self::wait), for at most `timeout`; also returns whether the time was up.
    ///
    /// ```
    /// use std::time::Duration;
    /// use multi_goro::sync::{Condvar, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Condvar::new());
    /// let guard = ready.lock();
    /// // Nobody says so.
    /// let (guard, is_late) = changed.wait_timeout(guard, Duration::from_millis(2));
    /// assert!(!*guard && is_late);
    /// ```
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        self.wait_until(guard, Instant::now().checked_add(timeout))
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Option<Instant>,
    ) -> (MutexGuard<'a, T>, bool) {
        let mutex = guard.mutex();
        let waiting = lock(&self.waiting);
        // The mutex is released when we are in the queue, so that no notification falls between.
        let wake = wait_in(
            &self.waiting,
            waiting,
            |all| all,
            || drop(guard),
            WaitsFor::Condition,
            until,
        );
        (mutex.lock(), wake == Wake::TimedOut)
    }

    /// Wakes the one who has waited longest, if anybody waits.
    pub fn notify_one(&self) {
        let next = lock(&self.waiting).take();
        if let Some(next) = next {
            next.unpark();
        }
    }

    /// Wakes everybody who waits now.
    pub fn notify_all(&self) {
        let all = lock(&self.waiting).take_all();
        all.unpark_all();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
