//! Trees of joins whose halves wait, yield, panic or compute, of several tasks at once, looked at from outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use multi_goro::{Runtime, join, sleep, yield_now};

use crate::harness::{Random, stress};

/// Returns how many leaves there are, and counts those that ran.
fn tree(depth: u64, mut random: Random, ran: &AtomicU64) -> u64 {
    if depth == 0 {
        match random.below(40) {
            0 => sleep(random.pause(50)),
            1..4 => yield_now(),
            4 => {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    join(yield_now, || std::panic::resume_unwind(Box::new(7_u8)))
                }));
                let panic = caught.map(|_: ((), ())| ()).expect_err("it panics");
                assert_eq!(panic.downcast_ref(), Some(&7_u8));
            }
            _ => {}
        }
        ran.fetch_add(1, Relaxed);
        return 1;
    }
    let (left, right) = (random.child(), random.child());
    // Trees lean to one side or the other.
    let (less, more) = (depth - 1 - random.below(depth.min(2)), depth - 1);
    let (a, b) = join(|| tree(less, left, ran), || tree(more, right, ran));
    a + b
}

#[test]
fn every_half_runs_once() {
    stress("joins", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(4))
            .build()
            .unwrap();
        let mut group = runtime.group();
        let ran = Arc::new(AtomicU64::new(0));
        let mut trees = Vec::new();
        for _ in 0..1 + random.below(4) {
            let (depth, random, ran) = (random.below(11), random.child(), Arc::clone(&ran));
            trees.push(group.spawn(move || Ok(tree(depth, random, &ran))));
        }
        if random.one_in(2) {
            let dump = runtime.dump();
            assert!(dump.tasks().all(|task| task.started_at().is_some()));
        }
        let leaves: u64 = trees.into_iter().map(|tree| tree.join().unwrap()).sum();
        group.wait().unwrap();
        assert_eq!(ran.load(Relaxed), leaves);
        assert_eq!(runtime.num_tasks(), 0);
        let metrics = runtime.metrics();
        assert_eq!(metrics.tasks_started, metrics.tasks_ended);
    });
}
