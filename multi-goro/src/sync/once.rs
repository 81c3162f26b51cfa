//! Something done once, whoever comes first.

use std::fmt;

use super::{AtomicBool, Ordering::*, OsMutex, lock};
use crate::sched::{Waiters, WaitsFor, wait_in};

/// Runs a closure once among all tasks and plain threads that ask; the others wait until it is through.
///
/// A closure that panics has not done it: the panic goes on in its caller, and the next who asks, or who waited, runs its own. (Go's
/// `Once` counts a panic as done; std's refuses from then on. Here nobody is told that something was done which was not, and
/// a passing failure passes.)
///
/// ```
/// use multi_goro::sync::Once;
///
/// static READY: Once = Once::new();
/// READY.call_once(|| assert!(!READY.is_done()));
/// READY.call_once(|| unreachable!("done already"));
/// assert!(READY.is_done());
/// ```
pub struct Once {
    is_done: AtomicBool,
    state: OsMutex<State>,
}

struct State {
    is_running: bool,
    /// Not empty only while a closure runs.
    waiting: Waiters,
}

impl Once {
    /// Not done yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            is_done: AtomicBool::new(false),
            state: OsMutex::new(State {
                is_running: false,
                waiting: Waiters::new(),
            }),
        }
    }

    /// Whether it is done. What the closure did is seen then.
    ///
    /// ```
    /// let once = multi_goro::sync::Once::new();
    /// assert!(!once.is_done());
    /// once.call_once(|| ());
    /// assert!(once.is_done());
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `Running::drop`.
        self.is_done.load(Acquire)
    }

    /// Runs `f` unless it is done; returns when it is.
    ///
    /// A closure that calls this on the same `Once` waits for itself, for ever.
    pub fn call_once(&self, f: impl FnOnce()) {
        if !self.is_done() && self.begin() {
            let mut running = Running {
                once: self,
                is_through: false,
            };
            f();
            running.is_through = true;
        }
    }

    /// True if the caller is the one to do it; false once it is done.
    #[cold]
    fn begin(&self) -> bool {
        loop {
            let mut state = lock(&self.state);
            if self.is_done() {
                return false;
            }
            if !state.is_running {
                state.is_running = true;
                return true;
            }
            let _unparked = wait_in(
                &self.state,
                state,
                |state| &mut state.waiting,
                || (),
                WaitsFor::Once,
                None,
            );
        }
    }
}

/// A closure that runs, and ends by returning or by a panic.
struct Running<'a> {
    once: &'a Once,
    is_through: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.once.state);
        state.is_running = false;
        if self.is_through {
            // Release: pairs with the Acquire in `is_done`; passes on what the closure did.
            self.once.is_done.store(true, Release);
        }
        // After a panic all look again, and one of them runs its own.
        let all = state.waiting.take_all();
        drop(state);
        all.unpark_all();
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}
