//! What a started task does, and since when: one word in its cell, written where it parks and where it goes on, for reports.

use std::fmt;
use std::time::Duration;

use crate::sync::{AtomicU32, Ordering::*};
use crate::sys;

/// What a parked task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum WaitsFor {
    /// A value from a channel.
    Receive,
    /// Room in a channel, or a receiver.
    Send,
    /// One of several channels.
    Select,
    /// A `Mutex`.
    Mutex,
    /// A `RwLock`, to read.
    Read,
    /// A `RwLock`, to write.
    Write,
    /// A `Condvar`.
    Condition,
    /// A permit of a `Semaphore`.
    Permit,
    /// A `WaitGroup`.
    WaitGroup,
    /// The others at a `Barrier`.
    Barrier,
    /// Another caller of a `Once`.
    Once,
    /// A group, a task's value or a limit.
    Group,
    /// The second closure of a `join`, which another worker runs.
    Join,
    /// The clock.
    Time,
    /// A blocking call that runs on a thread of the pool.
    Blocking,
    /// What it has another OS thread do.
    OsThread,
    /// A receiver to lock itself to.
    Receiver,
}

/// How a wait can end by other than a task: of these a report cannot say that nobody ends them.
const TIMED: u32 = 1 << 7;
/// Whether the task has said behind whom it is.
const BEHIND: u32 = 1 << 6;
const WHAT: u32 = BEHIND - 1;
const RUNS: u32 = 0;
const YIELDED: u32 = 1;
const WAITS: u32 = 2;
/// One tick in the word; below are six bits of what, one that says whether it is known behind whom, and one whether a wait has a deadline.
const TICK: u32 = 1 << 8;
const TICK_NS: u64 = 10_000_000;

const ALL: [WaitsFor; WaitsFor::Receiver as usize + 1] = [
    WaitsFor::Receive,
    WaitsFor::Send,
    WaitsFor::Select,
    WaitsFor::Mutex,
    WaitsFor::Read,
    WaitsFor::Write,
    WaitsFor::Condition,
    WaitsFor::Permit,
    WaitsFor::WaitGroup,
    WaitsFor::Barrier,
    WaitsFor::Once,
    WaitsFor::Group,
    WaitsFor::Join,
    WaitsFor::Time,
    WaitsFor::Blocking,
    WaitsFor::OsThread,
    WaitsFor::Receiver,
];

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Receive => "to receive",
            Self::Send => "to send",
            Self::Select => "in a select",
            Self::Mutex => "for a mutex",
            Self::Read => "to read under a lock",
            Self::Write => "to write under a lock",
            Self::Condition => "for a condition",
            Self::Permit => "for a permit",
            Self::WaitGroup => "for a wait group",
            Self::Barrier => "at a barrier",
            Self::Once => "for a once",
            Self::Group => "for a group",
            Self::Join => "for the other half of a join",
            Self::Time => "for the time",
            Self::Blocking => "for a blocking call",
            Self::OsThread => "for an OS thread",
            Self::Receiver => "for a receiver",
        })
    }
}

/// `{ ticks since the system started: 24 bits, has a deadline: 1, is behind somebody known: 1, what: 6 }`. Written by the task's worker, read by reports.
#[derive(Debug)]
pub(super) struct Status(AtomicU32);

/// What [`Status`] says, as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(u32);

/// The time as workers note it: in units of 10 ms, shifted to its place in the word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick(u32);

impl Tick {
    /// Costs some nanoseconds.
    pub(super) fn now() -> Self {
        // Wraps after 46 hours, and so does what reports say.
        Self(((sys::monotonic_coarse_ns() / TICK_NS) as u32).wrapping_mul(TICK))
    }
}

impl Status {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(RUNS))
    }

    fn set(&self, what: u32, tick: Tick) {
        // Relaxed: a report orders nothing by it.
        self.0.store(what | tick.0, Relaxed);
    }

    pub(super) fn runs(&self, tick: Tick) {
        self.set(RUNS, tick);
    }

    pub(super) fn yields(&self, tick: Tick) {
        self.set(YIELDED, tick);
    }

    pub(super) fn waits(&self, what: WaitsFor, has_deadline: bool, tick: Tick) {
        let timed = if has_deadline { TIMED } else { 0 };
        self.set((WAITS + what as u32) | timed, tick);
    }

    /// As [`waits`](Self::waits) without a deadline, of a task that says behind whom.
    pub(super) fn waits_behind(&self, what: WaitsFor, tick: Tick) {
        self.set((WAITS + what as u32) | BEHIND, tick);
    }

    pub(super) fn look(&self) -> Seen {
        // Relaxed: as in `set`.
        Seen(self.0.load(Relaxed))
    }
}

impl Seen {
    /// What it waited for when it last parked, if it has not gone on since.
    pub(super) fn waits_for(self) -> Option<WaitsFor> {
        let what = (self.0 & WHAT).checked_sub(WAITS)?;
        ALL.get(what as usize).copied()
    }

    pub(super) fn has_deadline(self) -> bool {
        self.0 & TIMED != 0
    }

    pub(crate) fn is_behind(self) -> bool {
        self.0 & BEHIND != 0
    }

    pub(super) fn has_yielded(self) -> bool {
        self.0 & WHAT == YIELDED
    }

    pub(super) fn since(self, now: Tick) -> Duration {
        let ticks = now.0.wrapping_sub(self.0 & !(TIMED | BEHIND | WHAT)) / TICK;
        Duration::from_nanos(u64::from(ticks) * TICK_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_keeps_what_and_since_when() {
        let status = Status::new();
        for (nth, what) in ALL.into_iter().enumerate() {
            assert_eq!(what as usize, nth);
            for has_deadline in [false, true] {
                status.waits(what, has_deadline, Tick(TICK.wrapping_mul(0xff_ffff)));
                let seen = status.look();
                assert_eq!(seen.waits_for(), Some(what));
                assert_eq!(seen.has_deadline(), has_deadline);
                // The ticks have wrapped.
                assert_eq!(seen.since(Tick(TICK)), Duration::from_millis(20));
            }
        }
        status.waits_behind(WaitsFor::Mutex, Tick(TICK));
        let seen = status.look();
        assert!(seen.is_behind() && !seen.has_deadline());
        assert_eq!(seen.waits_for(), Some(WaitsFor::Mutex));
        assert_eq!(seen.since(Tick(2 * TICK)), Duration::from_millis(10));
        status.yields(Tick(0));
        assert!(status.look().has_yielded());
        status.runs(Tick(0));
        assert!(!status.look().has_yielded());
        assert_eq!(status.look().waits_for(), None);
    }
}
