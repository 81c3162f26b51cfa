//! The deadlines of one worker's parked tasks, on a [`Wheel`].
//!
//! A task's entry lies in the frame of its own wait: setting a timer, giving it up and letting it fire allocate nothing, and an entry is
//! touched when its task is about to run anyway.
//!
//! Rejected: a binary heap in which each task knows its place, which was here before. In one run, nanoseconds, heap / wheel:
//!
//! | armed | deadlines | arm | arm and give up one more | give up all, in any order | fire all |
//! | ---: | --- | ---: | ---: | ---: | ---: |
//! | 1 000 | one limit for all | 11 / 12 | 9 / 15 | 26 / 5 | 69 / 31 |
//! | 1 000 | any | 38 / 24 | 43 / 24 | 24 / 8 | 108 / 87 |
//! | 100 000 | one limit for all | 12 / 18 | 12 / 13 | 76 / 37 | 242 / 59 |
//! | 100 000 | any | 38 / 17 | 50 / 18 | 88 / 44 | 289 / 367 |
//! | 1 000 000 | one limit for all | 29 / 17 | 10 / 17 | 284 / 181 | 333 / 61 |
//! | 1 000 000 | any | 66 / 22 | 49 / 27 | 301 / 180 | 863 / 562 |
//!
//! A heap is some nanoseconds better where each deadline is later than all before it, which it puts last and takes from there. And with
//! entries as far apart as stacks are, the wheel takes 702 ns for each of a million that fire at any time, and the heap 452: but who fires touches
//! its stack in any case.

#![expect(
    unsafe_code,
    reason = "entries are known by address while they are set"
)]

use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::wheel::{Entry, TICK_MAX, Wheel};

/// Nanoseconds of a tick, as a power of two: 1 µs. A timer fires at the end of the tick that its deadline lies in, so this is how much later it may
/// be; with 4 µs the median lateness of 1 000 sleepers was 2 µs longer than with exact deadlines in a heap, with 1 µs no longer.
const TICK_SHIFT: u32 = 10;

/// The timers of one worker.
#[derive(Debug)]
pub(super) struct Timers<T> {
    wheel: Wheel<T>,
    /// Where its ticks are counted from.
    origin: Instant,
}

/// One of them, and whom it is for.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Timer<T>(Entry<T>);

impl<T> Timer<T> {
    pub(super) fn of(whom: T) -> Self {
        Self(Entry::new(whom))
    }

    pub(super) fn what(&self) -> &T {
        &self.0.what
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_filed()
    }
}

impl<T> Timers<T> {
    pub(super) fn new() -> Self {
        Self {
            wheel: Wheel::new(),
            origin: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    /// When the next one fires, unless it is given up.
    pub(super) fn nearest(&self) -> Option<Instant> {
        let tick = self.wheel.nearest()?;
        // What the clock cannot count never comes.
        self.origin
            .checked_add(Duration::from_nanos(tick << TICK_SHIFT))
    }

    /// Sets a timer.
    ///
    /// # Safety
    ///
    /// - The timer is not set, and stays where it is until it has fired or was [removed](Self::remove).
    pub(super) unsafe fn add(&mut self, timer: NonNull<Timer<T>>, at: Instant) {
        let ns = since(self.origin, at);
        // The first tick that is not before the deadline.
        let tick = (ns.saturating_add((1 << TICK_SHIFT) - 1)) >> TICK_SHIFT;
        debug_assert!(tick <= TICK_MAX);
        // SAFETY: the caller's promise.
        unsafe { self.wheel.add(timer.cast(), tick) };
    }

    /// Gives a timer up, if it has not fired.
    ///
    /// # Safety
    ///
    /// - It is alive; if it is set, it is one of these.
    pub(super) unsafe fn remove(&mut self, timer: NonNull<Timer<T>>) {
        // SAFETY: where it was when it was set, by the caller's promise.
        if unsafe { timer.as_ref() }.is_set() {
            // SAFETY: the caller's promise.
            unsafe { self.wheel.remove(timer.cast()) };
        }
    }

    /// Takes out the next one whose deadline has passed at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<NonNull<Timer<T>>> {
        let tick = since(self.origin, now) >> TICK_SHIFT;
        self.wheel.pop_due(tick).map(NonNull::cast)
    }

    /// Takes out any; to be called until none is left.
    pub(super) fn pop_any(&mut self) -> Option<NonNull<Timer<T>>> {
        self.wheel.pop_due(TICK_MAX).map(NonNull::cast)
    }
}

/// Nanoseconds from `origin` to `at`; 584 years fit.
fn since(origin: Instant, at: Instant) -> u64 {
    let since = at.saturating_duration_since(origin);
    since
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(since.subsec_nanos()))
}
