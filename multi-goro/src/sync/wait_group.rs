//! Waiting until a number of things are done.

use std::fmt;
use std::time::{Duration, Instant};

use super::{OsMutex, lock};
use crate::sched::{Waiters, WaitsFor, Wake, wait_in};

/// A count of things to be done, that tasks and plain threads wait for to become zero. Can be used again and again.
///
/// A [`Group`](crate::Group) does this for its tasks, with their failures; this is for anything else.
///
/// ```
/// use multi_goro::sync::WaitGroup;
///
/// let parts = WaitGroup::new();
/// parts.add(3);
/// multi_goro::scope(|s| {
///     for _ in 0..3 {
///         s.go(|| {
///             parts.done();
///             Ok(())
///         });
///     }
///     parts.wait();
/// })?;
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
pub struct WaitGroup {
    state: OsMutex<State>,
}

struct State {
    left: usize,
    /// Not empty only while something is left.
    waiting: Waiters,
}

impl WaitGroup {
    /// Nothing to be done.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: OsMutex::new(State {
                left: 0,
                waiting: Waiters::new(),
            }),
        }
    }

    /// Adds `count` things to be done.
    ///
    /// # Panics
    ///
    /// If more are to be done than can be counted.
    #[track_caller]
    pub fn add(&self, count: usize) {
        let mut state = lock(&self.state);
        match state.left.checked_add(count) {
            Some(left) => state.left = left,
            None => {
                drop(state);
                panic!("a WaitGroup cannot count that far");
            }
        }
    }

    /// Says that one thing is done. The last one wakes everybody who waits.
    ///
    /// # Panics
    ///
    /// If nothing was left to be done; the count stays zero.
    #[track_caller]
    pub fn done(&self) {
        let mut state = lock(&self.state);
        let Some(left) = state.left.checked_sub(1) else {
            drop(state);
            panic!("WaitGroup::done was called more often than was added");
        };
        state.left = left;
        if left == 0 && !state.waiting.is_empty() {
            let all = state.waiting.take_all();
            drop(state);
            all.unpark_all();
        }
    }

    /// How many things are left to be done.
    #[must_use]
    pub fn left(&self) -> usize {
        lock(&self.state).left
    }

    /// Waits until nothing is left. What is added after that moment does not hold it up.
    pub fn wait(&self) {
        let _is_done = self.wait_until(None);
    }

    /// As [`wait`](Self::wait), for at most `timeout`; returns whether nothing was left.
    ///
    /// ```
    /// use std::time::Duration;
    /// use multi_goro::sync::WaitGroup;
    ///
    /// let left = WaitGroup::new();
    /// left.add(1);
    /// assert!(!left.wait_timeout(Duration::from_millis(2)));
    /// left.done();
    /// assert!(left.wait_timeout(Duration::from_millis(2)));
    /// ```
    #[must_use = "things may be left to be done"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, until: Option<Instant>) -> bool {
        let state = lock(&self.state);
        state.left == 0
            || wait_in(
                &self.state,
                state,
                |state| &mut state.waiting,
                || (),
                WaitsFor::WaitGroup,
                until,
            ) == Wake::Unparked
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup")
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}
