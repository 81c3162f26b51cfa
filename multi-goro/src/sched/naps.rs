//! Deadlines of tasks without a stack, on a wheel of the worker that polled them.
//!
//! A task that waits without a stack is nobody's: it may be polled by another worker next, or dropped by any thread, so these wheels have a
//! lock. Only the worker itself adds to its wheel, so nobody has to be woken for a deadline that is set. And only a waker of our
//! own tasks is taken: to wake it runs no code of anybody else, so that it can be done between two tasks.
//!
//! A worker that is stuck in a task fires nothing, and these tasks need not wait for it: the monitor looks after them, see `sched/README.md`.

#![expect(unsafe_code, reason = "timers are freed by who gives them up")]

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::current;
use super::park::OwnedWaiter;
use super::shared::process_id;
use super::timers::{Timer, Timers};
use crate::sync::{AtomicU64, Ordering::*, OsMutex, light_fence, lock};

/// Whom to wake; taken out under the lock of the wheel.
type Sleeper = Cell<Option<OwnedWaiter>>;

/// One worker's.
pub(super) struct Naps {
    /// The process that has them: in a forked child the lock may be held for ever.
    process: u32,
    timers: OsMutex<Timers<Sleeper>>,
    /// The nearest deadline, in nanoseconds from `origin`; [`NEVER`] if there is none. Written under the lock.
    nearest_ns: AtomicU64,
    origin: Instant,
}

const NEVER: u64 = u64::MAX;

// SAFETY: the links and sleepers of timers are touched under the lock only, and the waiters are for any thread.
unsafe impl Send for Naps {}
// SAFETY: as above.
unsafe impl Sync for Naps {}

/// A timer that wakes a task without a stack. Dropped, it wakes nobody.
pub(crate) struct Nap {
    naps: Arc<Naps>,
    /// In a box of its own: others know where it is.
    timer: NonNull<Timer<Sleeper>>,
}

// SAFETY: the timer is touched under the lock of `naps` only.
unsafe impl Send for Nap {}
// SAFETY: as above.
unsafe impl Sync for Nap {}

impl Nap {
    /// Has `waker` woken at `until`, or soon after. None if the caller is not on a worker, or if it is not the waker of a task of ours
    /// without a stack.
    pub(crate) fn set(until: Instant, waker: &Waker) -> Option<Self> {
        let (worker, _) = current::on_task()?;
        let sleeper = OwnedWaiter::of_task(waker)?;
        let naps = Arc::clone(&worker.remote().naps);
        let timer = Box::new(Timer::of(Cell::new(Some(sleeper))));
        let timer = NonNull::from(Box::leak(timer));
        naps.change(|timers| {
            // SAFETY: fresh, and freed in `drop`, which removes it first.
            unsafe { timers.add(timer, until) };
        });
        worker.mind_naps();
        // Fence A. Pairs with fence E in `Watch::doze`: either we see until when the monitor dozes, or it sees the deadline.
        light_fence();
        worker.shared.call_monitor_for(until);
        Some(Self { naps, timer })
    }

    /// Whether it has woken its task, or will not any more.
    pub(crate) fn is_over(&self) -> bool {
        if self.naps.process != process_id() {
            // There nobody wakes it.
            return true;
        }
        let _timers = lock(&self.naps.timers);
        // SAFETY: freed in `drop` only.
        !unsafe { self.timer.as_ref() }.is_set()
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if self.naps.process != process_id() {
            // The memory of it stays, as all that a forked child has of other threads' tasks.
            return;
        }
        self.naps.change(|timers| {
            // SAFETY: set on this wheel.
            unsafe { timers.remove(self.timer) };
        });
        // SAFETY: from a box, out of the wheel, and given up with `self`.
        drop(unsafe { Box::from_raw(self.timer.as_ptr()) });
    }
}

impl fmt::Debug for Nap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nap").finish_non_exhaustive()
    }
}

impl Naps {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            process: process_id(),
            timers: OsMutex::new(Timers::new()),
            nearest_ns: AtomicU64::new(NEVER),
            origin: Instant::now(),
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut Timers<Sleeper>) -> R) -> R {
        let mut timers = lock(&self.timers);
        let result = change(&mut timers);
        let nearest = timers.nearest().map_or(NEVER, |at| {
            u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(NEVER)
        });
        // Relaxed: a hint to the worker, which alone makes it less; the monitor has a fence before, and who adds one behind.
        self.nearest_ns.store(nearest, Relaxed);
        result
    }

    /// When the next one fires, unless it is given up.
    pub(super) fn nearest(&self) -> Option<Instant> {
        // Relaxed: as above.
        match self.nearest_ns.load(Relaxed) {
            NEVER => None,
            ns => self.origin.checked_add(Duration::from_nanos(ns)),
        }
    }

    /// Wakes those whose deadlines have passed at `now`.
    pub(super) fn fire(&self, now: Instant) {
        while self.nearest().is_some_and(|at| at <= now) {
            let due = self.change(|timers| {
                let timer = timers.pop_due(now)?;
                // SAFETY: in the wheel until just now, and it cannot be freed before the lock is.
                Some(unsafe { timer.as_ref() }.what().take())
            });
            match due {
                None => break,
                // Outside the lock: the last reference to a task frees it.
                Some(sleeper) => wake(sleeper),
            }
        }
    }

    /// The worker ends: wakes those that are left, who see for themselves what time it is.
    pub(super) fn close(&self) {
        while let Some(sleeper) = self.change(|timers| {
            let timer = timers.pop_any()?;
            // SAFETY: as in `fire`.
            Some(unsafe { timer.as_ref() }.what().take())
        }) {
            wake(sleeper);
        }
    }
}

fn wake(sleeper: Option<OwnedWaiter>) {
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}
