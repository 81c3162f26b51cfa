//! Whether it pays to wake a worker for a few children.
//!
//! A wake costs the parent some two microseconds, and the worker is up five to twenty later: children that are over by then are better left
//! to the worker of their parent. How long they take nobody knows beforehand; but those that were started by the same line will take as
//! long as the last ones did. So what a wake has led to is remembered by the line that started the task: if the woken worker had nothing to
//! do again within [`PAYS`], or what it did were tasks of less than [`PAYS_EACH`], the next few children from there are not announced, twice
//! as many each time. They *call* the monitor, which announces them at its next tick if they still wait
//! ([`HUSHED_TICK`](super::monitor)). One wake that paid, and all are announced again.
//!
//! Empty tasks started and waited for, two workers of two processors, medians of twelve processes, lowest to highest (AMD EPYC, idle but for
//! this): 4 at once 250-374 ns each when all were announced, and 163-212 so; 100 at once 121-307 and 107-133; 1 000 at once 92-99 and
//! 100-118. Without `PAYS_EACH`, but with all announced that come to a ring of 192: 100 at once 111-409. To have woken workers look on
//! for 3 or 10 µs before they sleep again brought nothing.
//!
//! Hints all of them: lines share places in the table, and counts that two workers write at a time may lose a step.

use std::cell::Cell;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::task::Header;
use super::worker::Worker;
use crate::sync::{AtomicBool, AtomicU32, Ordering::*, Padded};

/// What a woken worker has to find to do, one thing after the other, for its wake to have paid: about what it costs.
const PAYS: Duration = Duration::from_micros(10);
/// What each task that the woken worker ended has to have taken as well: less is what it costs to fetch a task from another processor.
const PAYS_EACH: Duration = Duration::from_nanos(500);
/// Wakes in vain in a row after which `2` to the power of this many children are not announced, and no more.
const IN_VAIN_MAX: u32 = 10;
/// Lines that are told apart, if they do not fall on the same place.
const LINE_COUNT: usize = 64;

/// What is known of the wakes of one runtime.
pub(super) struct Worth {
    /// For each line `{ children that are still not to be announced: 24 bits, wakes in vain in a row: 8 bits }`.
    lines: Padded<[AtomicU32; LINE_COUNT]>,
    /// A child was not announced since the monitor last asked.
    is_hushed: AtomicBool,
}

/// What a worker is woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Something that is not to be judged: tasks from outside, offers.
    Any,
    /// What has waited for a while.
    Waiting,
    /// A child from this line.
    Child(u8),
}

/// Where the errand of a worker is left by who wakes it.
pub(super) struct ErrandWord(AtomicU32);

/// What a worker knows of its last wake.
#[derive(Debug, Clone, Copy)]
struct Trip {
    since: Instant,
    /// Tasks that had ended on the worker by then.
    ended: u64,
    /// The line to be judged by it.
    line: Option<u8>,
    /// It may be that of the first task that is stolen.
    is_open: bool,
}

/// The worker's own side.
#[derive(Debug)]
pub(super) struct Trips(Cell<Option<Trip>>);

impl Worth {
    pub(super) fn new() -> Self {
        Self {
            lines: Padded([const { AtomicU32::new(0) }; LINE_COUNT]),
            is_hushed: AtomicBool::new(false),
        }
    }

    /// Whether a child from this line is to be announced.
    fn takes(&self, line: u8) -> bool {
        let word = &self.lines.0[usize::from(line)];
        // Relaxed, all in this file: hints.
        let (left, in_vain) = parts(word.load(Relaxed));
        if left > 0 {
            // Relaxed: as above.
            word.store(whole(left - 1, in_vain), Relaxed);
            return false;
        }
        if in_vain > 0 {
            // Relaxed: as above.
            word.store(whole(1 << in_vain, in_vain), Relaxed);
        }
        true
    }

    fn hush(&self) {
        // Relaxed, both: as above. The line is mostly only read.
        if !self.is_hushed.load(Relaxed) {
            self.is_hushed.store(true, Relaxed);
        }
    }

    /// Whether a child was not announced since this was last asked. The monitor only.
    pub(super) fn was_hushed(&self) -> bool {
        // Relaxed: as above.
        self.is_hushed.swap(false, Relaxed)
    }

    /// A wake for a child from this line has paid, or not.
    fn judge(&self, line: u8, has_paid: bool) {
        let word = &self.lines.0[usize::from(line)];
        let next = if has_paid {
            0
        } else {
            // Relaxed: as above.
            let (_, in_vain) = parts(word.load(Relaxed));
            let in_vain = (in_vain + 1).min(IN_VAIN_MAX);
            whole(1 << in_vain, in_vain)
        };
        // Relaxed: as above.
        word.store(next, Relaxed);
    }
}

fn parts(word: u32) -> (u32, u32) {
    (word >> 8, word & 0xff)
}

fn whole(left: u32, in_vain: u32) -> u32 {
    left << 8 | in_vain
}

/// The place of the line that started a task.
fn line_of(site: Option<&'static Location<'static>>) -> u8 {
    let address = site.map_or(0, |site| std::ptr::from_ref(site).addr() as u64);
    // Fibonacci's hash: the top bits of a product with 2⁶⁴ over the golden ratio.
    let hash = (address / align_of::<Location<'_>>() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (64 - LINE_COUNT.ilog2())) as u8
}

impl ErrandWord {
    const ANY: u32 = 0;
    const WAITING: u32 = 1;
    const CHILD: u32 = 2;

    pub(super) fn new() -> Self {
        Self(AtomicU32::new(Self::ANY))
    }

    fn leave(&self, errand: Errand) {
        let word = match errand {
            Errand::Any => Self::ANY,
            Errand::Waiting => Self::WAITING,
            Errand::Child(line) => Self::CHILD + u32::from(line),
        };
        // Relaxed: a hint; the worker may be up already, and read an older one.
        self.0.store(word, Relaxed);
    }

    fn read(&self) -> Errand {
        // Relaxed: as above.
        match self.0.load(Relaxed) {
            Self::ANY => Errand::Any,
            Self::WAITING => Errand::Waiting,
            line => Errand::Child((line - Self::CHILD) as u8),
        }
    }
}

impl Trips {
    pub(super) fn new() -> Self {
        Self(Cell::new(None))
    }
}

impl Shared {
    /// As [`announce`](Self::announce), for a child in a ring.
    pub(super) fn announce_child(&self, site: Option<&'static Location<'static>>) {
        // In it is a light fence, as fence A before `announce`.
        if !self.idle.wants_work() {
            self.call_monitor();
            return;
        }
        let line = line_of(site);
        if self.worth.takes(line) {
            self.announce_for(Errand::Child(line));
        } else {
            self.worth.hush();
            self.call_monitor();
        }
    }

    /// Says what a worker that was taken off the list of sleepers is woken for.
    pub(super) fn send(&self, worker: usize, errand: Errand) {
        self.remotes[worker].0.errand.leave(errand);
    }
}

impl Worker {
    /// It was woken to search.
    pub(super) fn sets_out(&self) {
        let (line, is_open) = match self.remote().errand.read() {
            Errand::Any => return,
            Errand::Waiting => (None, true),
            Errand::Child(line) => (Some(line), true),
        };
        self.trips.0.set(Some(Trip {
            since: Instant::now(),
            ended: self.ended(),
            line,
            is_open,
        }));
    }

    /// It has stolen a task.
    pub(super) fn found(&self, task: &Header) {
        if let Some(trip) = self.trips.0.get()
            && trip.is_open
        {
            self.trips.0.set(Some(Trip {
                line: Some(line_of(task.started_at)),
                is_open: false,
                ..trip
            }));
        }
    }

    /// It has nothing to do.
    pub(super) fn comes_home(&self) {
        if let Some(trip) = self.trips.0.take()
            && let Some(line) = trip.line
        {
            let took = trip.since.elapsed();
            let tasks = u32::try_from(self.ended() - trip.ended).unwrap_or(u32::MAX);
            let has_paid = took >= PAYS && took / tasks.max(1) >= PAYS_EACH;
            self.shared.worth.judge(line, has_paid);
        }
    }

    /// Tasks that have ended here.
    fn ended(&self) -> u64 {
        // Relaxed: written by this worker.
        self.remote().finished.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_in_vain_become_rare() {
        let worth = Worth::new();
        let mut wakes = 0;
        for _ in 0..20_000 {
            if worth.takes(3) {
                wakes += 1;
                worth.judge(3, false);
            }
        }
        assert!((10..=40).contains(&wakes), "{wakes} wakes");
    }

    #[test]
    fn wake_that_paid_brings_them_back_for_its_line_alone() {
        let worth = Worth::new();
        for _ in 0..5 {
            worth.judge(3, false);
            worth.judge(4, false);
        }
        assert!(!worth.takes(3));
        worth.judge(3, true);
        assert!((0..100).all(|_| worth.takes(3)));
        assert!(!worth.takes(4));
    }

    #[test]
    fn unjudged_wakes_leave_the_count_as_it_is() {
        let worth = Worth::new();
        worth.judge(3, false);
        // Two in three, for as long as nobody says otherwise.
        let wakes = (0..300).filter(|_| worth.takes(3)).count();
        assert_eq!(wakes, 100);
    }

    #[test]
    fn errands_are_read_as_they_were_left() {
        let word = ErrandWord::new();
        for errand in [
            Errand::Any,
            Errand::Waiting,
            Errand::Child(0),
            Errand::Child(LINE_COUNT as u8 - 1),
        ] {
            word.leave(errand);
            assert_eq!(word.read(), errand);
        }
    }

    #[test]
    fn lines_fall_on_places_of_the_table() {
        assert!(usize::from(line_of(None)) < LINE_COUNT);
        assert!(usize::from(line_of(Some(Location::caller()))) < LINE_COUNT);
    }
}
