//! What workers count, for reports. Each counter is written by its worker alone; those of the hot paths are kept in plain cells and
//! handed on every few rounds.

use std::cell::Cell;

use super::shared::{Remote, Shared};
use super::worker::{Worker, bump};
use crate::sync::{AtomicU64, Ordering::*, fence};

/// What one worker has counted.
#[derive(Debug)]
pub(super) struct Counts {
    turns: AtomicU64,
    parks: AtomicU64,
    pub(super) steals: AtomicU64,
    pub(super) halves: AtomicU64,
    wakes: AtomicU64,
    pub(super) sleeps: AtomicU64,
}

/// What a worker has counted and not handed on yet.
#[derive(Debug)]
pub(super) struct Tally {
    /// The round in which it handed on last.
    handed_on: Cell<u32>,
    parks: Cell<u32>,
}

/// What all workers of a runtime have counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) turns: u64,
    pub(crate) parks: u64,
    pub(crate) steals: u64,
    pub(crate) halves: u64,
    pub(crate) wakes: u64,
    pub(crate) sleeps: u64,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            turns: AtomicU64::new(0),
            parks: AtomicU64::new(0),
            steals: AtomicU64::new(0),
            halves: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
        }
    }

    /// A task was found in the inbox. The worker only.
    pub(super) fn was_woken(&self) {
        bump(&self.wakes);
    }
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            handed_on: Cell::new(0),
            parks: Cell::new(0),
        }
    }

    /// The running task parks.
    pub(super) fn parks(&self) {
        self.parks.set(self.parks.get().wrapping_add(1));
    }
}

impl Worker {
    /// Hands on what was counted.
    pub(super) fn hand_on(&self) {
        let counts = &self.remote().counts;
        let round = self.round.get();
        let rounds = round.wrapping_sub(self.tally.handed_on.replace(round));
        add(&counts.turns, rounds);
        add(&counts.parks, self.tally.parks.take());
    }
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, count: u32) {
    // Relaxed, both: one writer, and readers want a number.
    counter.store(counter.load(Relaxed) + u64::from(count), Relaxed);
}

impl Shared {
    /// How many stacks there are: all, those of them in the pool with pages, and without.
    pub(crate) fn stack_counts(&self) -> [usize; 3] {
        self.stacks.counts()
    }

    /// Workers, spare ones that have been needed among them, and how many of them sleep.
    pub(crate) fn worker_counts(&self) -> (usize, usize) {
        let count = self.seated().len();
        let asleep = (0..count).filter(|worker| self.idle.is_asleep(*worker));
        (count, asleep.count())
    }

    /// What was counted since the runtime started.
    pub(crate) fn totals(&self) -> Totals {
        let sum = |pick: fn(&Remote) -> &AtomicU64| -> u64 {
            // Relaxed: numbers of one moment or another.
            self.seated().iter().map(|r| pick(&r.0).load(Relaxed)).sum()
        };
        let ended = sum(|r| &r.finished);
        // Acquire: the ended were read before those that were started, so that they are never more.
        fence(Acquire);
        Totals {
            started: self.started_count(),
            ended,
            turns: sum(|r| &r.counts.turns),
            parks: sum(|r| &r.counts.parks),
            steals: sum(|r| &r.counts.steals),
            halves: sum(|r| &r.counts.halves),
            wakes: sum(|r| &r.counts.wakes),
            sleeps: sum(|r| &r.counts.sleeps),
        }
    }
}
