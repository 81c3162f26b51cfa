//! Waiting for a condition on what a lock guards.

#![expect(unsafe_code, reason = "owes its waiters their unpark")]

use std::fmt;
use std::time::{Duration, Instant};

use super::{MutexGuard, OsMutex, lock};
use crate::proto::wait_queue::WaitQueue;
use crate::sched::{Waiter, Wake, park};

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
    waiting: OsMutex<WaitQueue<Waiter>>,
}

impl Condvar {
    /// A condition variable that nobody waits on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: OsMutex::new(WaitQueue::new()),
        }
    }

    /// Releases the lock, waits to be notified, and takes the lock again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// As [`wait`](Self::wait), for at most `timeout`; also returns whether the time was up.
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
        // Announced before the lock is released, so that no notification falls between.
        let ticket = lock(&self.waiting).push(Waiter::current());
        // The release may park nobody, but it may unpark: it does not touch our own parking word.
        drop(guard);
        let mut timed_out = false;
        if park(until) == Wake::TimedOut {
            timed_out = lock(&self.waiting).remove(ticket).is_some();
            if !timed_out {
                // Somebody has taken us out, and is about to unpark us.
                let Wake::Unparked = park(None) else {
                    unreachable!("a wait without a deadline timed out")
                };
            }
        }
        (mutex.lock(), timed_out)
    }

    /// Wakes the one who has waited longest, if anybody waits.
    pub fn notify_one(&self) {
        let next = lock(&self.waiting).pop();
        if let Some(waiter) = next {
            // SAFETY: taken out of the queue by us alone; `wait_until` waits for it.
            unsafe { waiter.unpark() };
        }
    }

    /// Wakes everybody who waits now.
    pub fn notify_all(&self) {
        let mut all = std::mem::replace(&mut *lock(&self.waiting), WaitQueue::new());
        while let Some(waiter) = all.pop() {
            // SAFETY: taken out of the queue by us alone; `wait_until` waits for it.
            unsafe { waiter.unpark() };
        }
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
