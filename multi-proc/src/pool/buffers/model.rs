//! loom models of a block of shared memory: nobody writes to it while anybody reads.
//!
//! `cargo xtask models`

#![expect(unsafe_code, reason = "cells that loom watches")]

use super::block::{BlockWord, Holders, Phase};
use super::word::{Claim, JobWord, Phase as Of};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// A block, and a job that it is part of.
#[derive(Default)]
struct Block {
    word: BlockWord,
    holders: Holders,
    bytes: UnsafeCell<u32>,
    job: JobWord,
}

// SAFETY: the words say who may look at the cell; loom checks it.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

const WORKER: usize = 3;
const JOB: usize = 7;

impl Block {
    fn write(&self, value: u32) {
        // SAFETY: the claimer's alone, says the word.
        self.bytes.with_mut(|bytes| unsafe { *bytes = value });
    }

    fn read(&self) -> u32 {
        // SAFETY: of somebody with a handle.
        self.bytes.with(|bytes| unsafe { *bytes })
    }

    /// For the parent, whose last handle is gone.
    fn free_when_nobody_holds_it(&self) {
        while self.holders.any() {
            thread::yield_now();
        }
        self.word.free();
    }

    fn wait_done(&self) {
        while self.job.phase() != Of::Done {
            thread::yield_now();
        }
    }
}

fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

#[test]
fn argument_that_a_worker_keeps_is_not_written_over() {
    check(3, || {
        let block = Arc::new(Block::default());
        assert!(block.word.claim(Phase::Kept));
        block.write(1);
        block.job.queue();
        let worker = {
            let block = Arc::clone(&block);
            thread::spawn(move || {
                assert_eq!(block.job.claim(WORKER), Claim::Yours);
                block.holders.hold(WORKER);
                assert_eq!(block.read(), 1);
                let _wake = block.job.finish(WORKER);
                assert_eq!(block.read(), 1, "kept for the next job");
                block.holders.let_go(WORKER);
            })
        };
        block.wait_done();
        block.free_when_nobody_holds_it();
        assert!(block.word.claim(Phase::Kept));
        block.write(2);
        worker.join().unwrap();
    });
}

#[test]
fn value_is_not_written_over_while_parent_or_worker_reads() {
    check(3, || {
        let block = Arc::new(Block::default());
        block.job.queue();
        let worker = {
            let block = Arc::clone(&block);
            thread::spawn(move || {
                assert_eq!(block.job.claim(WORKER), Claim::Yours);
                assert!(block.word.claim(Phase::Draft));
                block.write(1);
                block.holders.hold(WORKER);
                block.word.give(JOB);
                let _wake = block.job.finish(WORKER);
                assert_eq!(block.read(), 1, "kept for the next job");
                block.holders.let_go(WORKER);
                // The next buffer, if the parent has freed this one by now.
                if block.word.claim(Phase::Draft) {
                    block.write(2);
                }
            })
        };
        block.wait_done();
        assert!(block.word.adopt(JOB));
        assert_eq!(block.read(), 1);
        block.free_when_nobody_holds_it();
        worker.join().unwrap();
    });
}
