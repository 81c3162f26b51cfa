//! The word that says whose a block of the arena is.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::fmt;

/// State of one block, in shared memory.
///
/// | job | phase | meaning                                                              | who may change it                      |
/// | --- | ----- | -------------------------------------------------------------------- | -------------------------------------- |
/// |  0  | FREE  | nobody's                                                             | the process whose region it lies in    |
/// |  0  | DRAFT | the worker's in whose region it lies: it writes it, or has done so   | that worker; the parent, w buried      |
/// |  j  | GIVEN | in the value of job j, which that worker runs or has run             | that worker's finish; then the parent  |
/// |  0  | KEPT  | the parent's: it has handles of it, or jobs that have it as argument | the parent                             |
///
/// ```text
///   31        2 1     0
///  ┌───────────┬───────┐
///  │    job    │ phase │
///  └───────────┴───────┘
/// ```
#[derive(Default)]
#[repr(transparent)]
pub(super) struct BlockWord(AtomicU32);

/// Which of sixty-four workers have handles of a block: a bit each, which that worker alone moves, or the parent once it is dead.
#[derive(Default)]
#[repr(transparent)]
pub(super) struct Holders(AtomicU64);

/// Whose a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Draft,
    Given { job: usize },
    Kept,
}

const JOB_SHIFT: u32 = 2;

fn bits_of(phase: Phase) -> u32 {
    match phase {
        Phase::Free => 0,
        Phase::Draft => 1,
        // A pool has no more than 2²⁰ + 2¹¹ jobs.
        Phase::Given { job } => (job as u32) << JOB_SHIFT | 2,
        Phase::Kept => 3,
    }
}

fn phase_of(bits: u32) -> Phase {
    match bits & 3 {
        0 => Phase::Free,
        1 => Phase::Draft,
        2 => Phase::Given {
            job: (bits >> JOB_SHIFT) as usize,
        },
        _ => Phase::Kept,
    }
}

impl BlockWord {
    pub(super) fn phase(&self) -> Phase {
        // Relaxed: a guess where another process may move it on, else what this one wrote or what came with a job's word.
        phase_of(self.0.load(Ordering::Relaxed))
    }

    /// For the process of its region: the block is its own, as a draft or kept, if it is free.
    pub(super) fn claim(&self, to: Phase) -> bool {
        // Acquire: whoever had it before is done with it. Pairs with the Release in `free`.
        self.exchange(Phase::Free, to, Ordering::Acquire)
    }

    /// For a worker that is about to finish `job`, whose value its draft is part of.
    pub(super) fn give(&self, job: usize) {
        // Relaxed: published with the job's word.
        self.0
            .store(bits_of(Phase::Given { job }), Ordering::Relaxed);
    }

    /// For the parent: takes what is part of the value of `job`, which is done.
    pub(super) fn adopt(&self, job: usize) -> bool {
        // Relaxed: acquired with the job's word.
        self.exchange(Phase::Given { job }, Phase::Kept, Ordering::Relaxed)
    }

    /// For whoever has it, and is the last to look at it.
    pub(super) fn free(&self) {
        // Release: whoever writes to it next does so after we looked. Pairs with the Acquire in `claim`.
        self.0.store(bits_of(Phase::Free), Ordering::Release);
    }

    fn exchange(&self, from: Phase, to: Phase, success: Ordering) -> bool {
        // Relaxed on failure: nothing is read for it.
        self.0
            .compare_exchange(bits_of(from), bits_of(to), success, Ordering::Relaxed)
            .is_ok()
    }
}

impl Holders {
    /// Says that a worker has handles of the block.
    pub(super) fn hold(&self, bit: usize) {
        // Relaxed: the worker runs a job that has the block, or gives it one; seen by the parent with that job's end.
        self.0.fetch_or(1 << bit, Ordering::Relaxed);
    }

    /// Says that it has none any more, or is dead.
    pub(super) fn let_go(&self, bit: usize) {
        // Release: the worker is done looking. Pairs with the Acquire in `any`.
        self.0.fetch_and(!(1 << bit), Ordering::Release);
    }

    /// Whether any of them has.
    pub(super) fn any(&self) -> bool {
        // Acquire: whoever had it is done looking. Pairs with the Release in `let_go`.
        self.0.load(Ordering::Acquire) != 0
    }
}

impl fmt::Debug for BlockWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.phase().fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn block_is_claimed_once() {
        let word = BlockWord::default();
        assert!(word.claim(Phase::Draft));
        assert!(!word.claim(Phase::Kept));
        word.free();
        assert!(word.claim(Phase::Kept));
        assert_eq!(word.phase(), Phase::Kept);
    }

    #[test]
    fn only_the_job_that_it_was_given_to_has_it() {
        let word = BlockWord::default();
        assert!(word.claim(Phase::Draft));
        assert!(!word.adopt(7), "not given yet");
        word.give(7);
        assert_eq!(word.phase(), Phase::Given { job: 7 });
        assert!(!word.adopt(6));
        assert!(word.adopt(7));
        assert!(!word.adopt(7), "once");
    }
}
