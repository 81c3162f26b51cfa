//! A number of permits.

use std::fmt;
use std::time::{Duration, Instant};

use super::{OsMutex, lock};
use crate::sched::{self, Waiters, WaitsFor, Wake, wait_in};

/// Permits that tasks and plain threads take and give back, in the order of asking.
///
/// ```
/// use multi_goro::sync::Semaphore;
///
/// let doors = Semaphore::new(2);
/// let (first, second) = (doors.acquire(), doors.acquire());
/// assert!(doors.try_acquire().is_none());
/// drop(first);
/// assert!(doors.try_acquire().is_some());
/// # drop(second);
/// ```
pub struct Semaphore {
    state: OsMutex<State>,
}

struct State {
    free: usize,
    /// Not empty only while no permit is free.
    waiting: Waiters,
}

impl Semaphore {
    /// A semaphore with `permits` free.
    #[must_use]
    pub const fn new(permits: usize) -> Self {
        Self {
            state: OsMutex::new(State {
                free: permits,
                waiting: Waiters::new(),
            }),
        }
    }

    /// Takes a permit, waiting for one.
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_until(None)
            .unwrap_or_else(|| unreachable!("a wait without a deadline timed out"))
    }

    /// Takes a permit, waiting for at most `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use multi_goro::sync::Semaphore;
    ///
    /// let permits = Semaphore::new(1);
    /// let held = permits.acquire();
    /// assert!(permits.acquire_timeout(Duration::from_millis(2)).is_none());
    /// drop(held);
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.acquire_until(Instant::now().checked_add(timeout))
    }

    /// Takes a permit if one is free.
    ///
    /// ```
    /// let permits = multi_goro::sync::Semaphore::new(1);
    /// let permit = permits.try_acquire();
    /// assert!(permit.is_some() && permits.try_acquire().is_none());
    /// drop(permit);
    /// assert_eq!(permits.available(), 1);
    /// ```
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut state = lock(&self.state);
        state.free = state.free.checked_sub(1)?;
        Some(Permit(self))
    }

    /// Permits that are free now.
    #[must_use]
    pub fn available(&self) -> usize {
        lock(&self.state).free
    }

    fn acquire_until(&self, until: Option<Instant>) -> Option<Permit<'_>> {
        let mut state = lock(&self.state);
        if state.free > 0 {
            state.free -= 1;
            drop(state);
            sched::spend();
            return Some(Permit(self));
        }
        // Who gives a permit back hands it to us without freeing it.
        let wake = wait_in(
            &self.state,
            state,
            |state| &mut state.waiting,
            || (),
            WaitsFor::Permit,
            until,
        );
        (wake == Wake::Unparked).then(|| Permit(self))
    }

    fn release(&self) {
        let mut state = lock(&self.state);
        match state.waiting.take() {
            None => state.free += 1,
            Some(next) => {
                drop(state);
                next.unpark();
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

/// One of a [`Semaphore`]'s permits; given back when dropped.
#[derive(Debug)]
#[must_use = "the permit is given back at once"]
pub struct Permit<'a>(&'a Semaphore);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}
