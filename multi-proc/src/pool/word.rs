//! The word that says what a job is: the only truth about it, for the parent and every worker.

use crate::sync::{Futex, Ordering};
use std::fmt;
use std::time::Duration;

/// State of one job, in shared memory.
///
/// | worker | WAITED | phase   | meaning                                                    | who may change it       |
/// | ------ | ------ | ------- | ---------------------------------------------------------- | ----------------------- |
/// |   0    |  0, 1  | FREE    | nobody's; the parent's books have it in stock              | the parent: to QUEUED   |
/// |   0    |  0, 1  | QUEUED  | arguments are whole; whoever claims it runs it             | any worker, the parent  |
/// |   w    |  0, 1  | RUNNING | worker w runs it, or died in it                            | w; the parent, w buried |
/// |   0    |  0, 1  | DONE    | over: its value is whole, or the parent's books say why not | the parent: to FREE     |
///
/// WAITED: a thread of the parent sleeps on the word. It sets the bit; whoever makes the job DONE clears it and wakes. One that comes to
/// its job when another thread has settled it may set the bit of whatever job has the place by then, or of none: it sleeps for a moment
/// and looks again. Any other combination was scribbled.
///
/// ```text
///   31      16 15       3    2      1   0
///  ┌──────────┬──────────┬────────┬───────┐
///  │  worker  │    0     │ WAITED │ phase │
///  └──────────┴──────────┴────────┴───────┘
/// ```
#[derive(Default)]
#[repr(transparent)]
pub(super) struct JobWord(Futex);

const PHASE: u32 = 0b11;
const WAITED: u32 = 0b100;
const WORKER_SHIFT: u32 = 16;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Queued,
    Running { worker: usize },
    Done,
}

/// What the one that ended a job must do now.
#[must_use = "a sleeper that is not woken sleeps on"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Sleeper,
    Nobody,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Yours,
    /// Its message was an old one: another worker has the job, or had it, or it was taken back.
    Gone,
}

fn phase_of(bits: u32) -> Phase {
    match bits & PHASE {
        0 => Phase::Free,
        1 => Phase::Queued,
        2 => Phase::Running {
            worker: (bits >> WORKER_SHIFT) as usize,
        },
        _ => Phase::Done,
    }
}

fn bits_of(phase: Phase) -> u32 {
    match phase {
        Phase::Free => 0,
        Phase::Queued => 1,
        Phase::Running { worker } => (worker as u32) << WORKER_SHIFT | 2,
        Phase::Done => 3,
    }
}

impl JobWord {
    pub(super) fn phase(&self) -> Phase {
        // Acquire: with Done, the value is whole. Pairs with the Release in `transition`.
        phase_of(self.0.load(Ordering::Acquire))
    }

    /// For the parent: the arguments are written.
    pub(super) fn queue(&self) {
        // Release: publishes the arguments to the worker whose claim reads this. Pairs with the Acquire in `transition`.
        self.0.store(bits_of(Phase::Queued), Ordering::Release);
    }

    /// For a worker: the job is its own if it is anybody's to take.
    pub(super) fn claim(&self, worker: usize) -> Claim {
        match self.transition(Phase::Running { worker }, |phase| phase == Phase::Queued) {
            Some(_) => Claim::Yours,
            None => Claim::Gone,
        }
    }

    /// For a worker: its job's value is written.
    pub(super) fn finish(&self, worker: usize) -> Wake {
        self.end(|phase| phase == Phase::Running { worker })
    }

    /// For the parent: the job of a worker that was collected waits for another one.
    pub(super) fn requeue(&self, worker: usize) {
        let of_the_dead = |phase| phase == Phase::Running { worker };
        // Nobody but the parent changes the word of a dead worker's job.
        let _always = self.transition(Phase::Queued, of_the_dead);
    }

    /// For the parent: the job will not run, if no worker has it yet. None where one has.
    pub(super) fn withdraw(&self) -> Option<Wake> {
        let waited = self.transition(Phase::Done, |phase| phase == Phase::Queued)?;
        Some(wake(waited))
    }

    /// For the parent: the job ended with its worker, which was collected.
    pub(super) fn bury(&self, worker: usize) -> Wake {
        self.end(|phase| phase == Phase::Running { worker })
    }

    /// For the parent: the job is over, since somebody wrote over its word.
    pub(super) fn overrule(&self) -> Wake {
        self.end(|_| true)
    }

    fn end(&self, is_from: impl Fn(Phase) -> bool) -> Wake {
        let waited = self.transition(Phase::Done, is_from);
        wake(waited.unwrap_or(false))
    }

    /// For the parent: the slot is in stock again.
    pub(super) fn clear(&self) {
        // Relaxed: handed on by the lock of the books, and to a worker by `queue`.
        self.0.store(bits_of(Phase::Free), Ordering::Relaxed);
    }

    /// The only code that moves a job on: to `to`, if it `is_from` the right phase; returns whether a thread sleeps on it. WAITED stays
    /// unless the job ends.
    fn transition(&self, to: Phase, is_from: impl Fn(Phase) -> bool) -> Option<bool> {
        // Relaxed: a guess, the exchange decides.
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if !is_from(phase_of(now)) {
                return None;
            }
            let waited = if to == Phase::Done { 0 } else { now & WAITED };
            // AcqRel: Release publishes the value, or hands the job on, to whoever reads this word with Acquire: `phase`, and the
            // Acquire here, by which a claimer sees the arguments that `queue` published. Relaxed on failure: another guess.
            match self.0.compare_exchange_weak(
                now,
                bits_of(to) | waited,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(now & WAITED != 0),
                Err(newer) => now = newer,
            }
        }
    }

    /// For a thread of the parent: sleeps until the job is done, `timeout` at most. May return early for no reason.
    pub(super) fn sleep(&self, timeout: Duration) {
        // AcqRel: either the one that ends the job finds the bit, or this finds it Done. Pairs with the exchange in `transition`,
        // on the same word.
        let before = self.0.fetch_or(WAITED, Ordering::AcqRel);
        if phase_of(before) == Phase::Done {
            // Left set it does no harm: `clear` takes it away.
            return;
        }
        // The kernel compares: a job that moved on since turns the sleeper back.
        self.0.sleep(before | WAITED, timeout);
    }

    /// Wakes who sleeps on the job.
    pub(super) fn wake(&self) {
        self.0.wake();
    }
}

fn wake(waited: bool) -> Wake {
    if waited { Wake::Sleeper } else { Wake::Nobody }
}

impl fmt::Debug for JobWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.phase().fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn queued() -> JobWord {
        let word = JobWord::default();
        word.queue();
        word
    }

    #[test]
    fn one_claim_of_many_succeeds() {
        let word = queued();
        assert_eq!(word.claim(3), Claim::Yours);
        assert_eq!(word.claim(4), Claim::Gone);
        assert_eq!(word.phase(), Phase::Running { worker: 3 });
        assert_eq!(word.finish(3), Wake::Nobody);
        assert_eq!(word.phase(), Phase::Done);
        assert_eq!(word.claim(4), Claim::Gone);
    }

    #[test]
    fn sleeper_is_told_of_whatever_ends_the_job() {
        let word = queued();
        word.sleep(Duration::ZERO);
        assert_eq!(word.claim(1), Claim::Yours);
        word.requeue(1);
        assert_eq!(word.withdraw(), Some(Wake::Sleeper));
        let word = queued();
        word.sleep(Duration::ZERO);
        assert_eq!(word.claim(1), Claim::Yours);
        assert_eq!(word.withdraw(), None, "a worker has it");
        assert_eq!(word.bury(1), Wake::Sleeper);
        // Returns at once.
        word.sleep(Duration::from_secs(60));
        word.clear();
        assert_eq!(word.phase(), Phase::Free);
    }

    #[test]
    fn another_workers_job_is_not_touched() {
        let word = queued();
        assert_eq!(word.claim(2), Claim::Yours);
        word.requeue(1);
        assert_eq!(word.finish(1), Wake::Nobody);
        assert_eq!(word.phase(), Phase::Running { worker: 2 });
    }
}
