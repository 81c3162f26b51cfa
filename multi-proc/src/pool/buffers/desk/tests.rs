//! A desk of a parent and one of a worker, in one process.

use super::*;
use crate::slot::Reach;

/// A parent and a worker, both of them here.
fn desks() -> (Arc<Desk>, Arc<Desk>) {
    let arena = Arc::new(Arena::new(1, 1 << 20, Reach::Forked).unwrap());
    let worker = Desk::at(Arc::clone(&arena), Whose::Worker(0));
    (Desk::of_parent(arena), worker)
}

fn in_use(desk: &Desk) -> usize {
    let arena = &desk.arena;
    (0..2)
        .flat_map(|region| arena.used_blocks(region))
        .filter(|block| arena.word(*block).phase() != Phase::Free)
        .count()
}

#[test]
fn burial_frees_what_no_job_that_is_done_has() {
    let (parent, worker) = desks();
    let holds: Vec<_> = (0..3)
        .map(|_| Arc::new(worker.make(100).unwrap()))
        .collect();
    worker.give(5, &holds[..1]);
    worker.give(6, &holds[1..2]);
    assert_eq!(in_use(&parent), 3);
    parent.bury(0, |job| job == 5);
    assert_eq!(in_use(&parent), 1);
    let adopted = parent.adopt(5, &[holds[0].enclosure()], &[]).unwrap();
    assert!(
        parent.adopt(5, &[holds[0].enclosure()], &[]).is_none(),
        "once"
    );
    drop(adopted);
    assert_eq!(in_use(&parent), 0);
    // The dead drop nothing.
    Box::leak(Box::new(holds));
}

#[test]
fn argument_is_free_when_the_last_of_both_sides_lets_go() {
    let (parent, worker) = desks();
    let hold = Arc::new(parent.make(100).unwrap());
    let there = worker.attach(&[hold.enclosure()]).unwrap();
    let again = worker.attach(&[hold.enclosure()]).unwrap();
    drop(hold);
    drop(there);
    parent.sweep();
    assert_eq!(in_use(&parent), 1);
    drop(again);
    assert_eq!(in_use(&parent), 1, "nobody has looked");
    parent.sweep();
    assert_eq!(in_use(&parent), 0);
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let (parent, worker) = desks();
    let hold = Arc::new(parent.make(100).unwrap());
    let Enclosure { block, .. } = hold.enclosure();
    let refused = [(block, 2 << 20), (block + 1, 1), (u32::MAX, 1)];
    for (block, bytes) in refused {
        let enclosures = [hold.enclosure(), Enclosure { block, bytes }];
        assert!(worker.attach(&enclosures).is_none());
        assert!(parent.adopt(0, &enclosures, &[]).is_none());
    }
    drop(hold);
    assert_eq!(in_use(&parent), 0, "what was attached is let go of");
}

#[test]
fn who_takes_over_a_region_counts_what_is_there() {
    let (parent, worker) = desks();
    let hold = Arc::new(worker.make(1 << 19).unwrap());
    worker.give(1, std::slice::from_ref(&hold));
    let adopted = parent.adopt(1, &[hold.enclosure()], &[]).unwrap();
    parent.bury(0, |_| false);
    let next = Desk::at(Arc::clone(&parent.arena), Whose::Worker(0));
    assert!(matches!(next.make(1 << 20), Err(NoBlock::Full { .. })));
    let half = next.make(1 << 19).unwrap();
    assert_ne!(half.block, hold.block);
    drop(half);
    drop(adopted);
    drop(next.make(1 << 20).unwrap());
    Box::leak(Box::new(hold));
}
