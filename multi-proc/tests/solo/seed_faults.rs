//! What the construction this crate learnt from got wrong, each with a test that would fail on it.

use crate::support::{Residue, Test, build, group, sys};
use crate::tests;
use multi_proc::Group;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const TESTS: &[Test] = &tests![
    wait_reaps_every_child,
    child_that_dies_silently_does_not_hang_wait,
    groups_leak_no_descriptors,
    failed_fork_does_not_make_wait_forget_the_others,
    children_draw_different_random_numbers,
    child_that_allocates_64_mb_does_not_hang,
];

fn wait_reaps_every_child() {
    let mut group = group();
    for _ in 0..50 {
        group.go(|| Ok(()));
    }
    assert!(group.wait().is_ok());
    assert_eq!(Residue::count().children, 0);
    assert_eq!(sys::stray_wait(), None);
}

fn child_that_dies_silently_does_not_hang_wait() {
    let mut group = group();
    group.go(|| sys::exit_now(0));
    group.go(|| {
        sys::raise(sys::SIGKILL);
        Ok(())
    });
    assert_eq!(group.wait().unwrap_err().failed_count(), 2);
}

fn groups_leak_no_descriptors() {
    let one_group = || {
        let mut group = group();
        for fails in [false, true, false, true] {
            group.go(move || if fails { Err("on purpose")? } else { Ok(()) });
        }
        assert!(group.wait().is_err());
    };
    one_group();
    let before = Residue::count();
    (0..1000).for_each(|_| one_group());
    let after = Residue::count();
    println!("    1 000 groups of 4: before {before:?}, after {after:?}");
    assert_eq!((after.descriptors, after.children), (before.descriptors, 0));
    // A clock of an earlier test may have been there before.
    assert!(
        after.threads <= before.threads,
        "before {before:?}, after {after:?}"
    );
    // The allocator may have taken or returned one of its own.
    assert!(
        after.mappings <= before.mappings + 2,
        "before {before:?}, after {after:?}"
    );
}

fn failed_fork_does_not_make_wait_forget_the_others() {
    let go_on = multi_proc::shared_token().unwrap();
    let mut group = group();
    let ran: Vec<_> = (0..3)
        .map(|n| {
            let go_on = go_on.clone();
            group.spawn(move || {
                go_on.wait();
                Ok(n)
            })
        })
        .collect();
    {
        let _refused = sys::refuse_forks();
        group.go(|| Ok(()));
    }
    go_on.cancel();
    let error = group.wait().unwrap_err();
    assert_eq!(
        (error.failed_count(), error.task_count()),
        (1, 4),
        "{error}"
    );
    for (ran, n) in ran.into_iter().zip(0..) {
        assert!(ran.is_finished());
        assert_eq!(ran.join().unwrap(), n);
    }
}

fn children_draw_different_random_numbers() {
    static STATE: AtomicU64 = AtomicU64::new(42);
    // Relaxed: one thread in each process.
    let builder =
        Group::builder().in_child(|| STATE.store(multi_proc::child_seed(), Ordering::Relaxed));
    let group = build(builder);
    let draws: Vec<_> = (0..20)
        .map(|_| {
            group.spawn(|| {
                let from_maps = (0..4).map(|_| RandomState::new().hash_one(1));
                let own = [
                    STATE.load(Ordering::Relaxed),
                    multi_proc::child_seed(),
                    multi_proc::process_serial(),
                ];
                Ok(from_maps.chain(own).collect::<Vec<u64>>())
            })
        })
        .collect();
    let draws: Vec<u64> = draws
        .into_iter()
        .flat_map(|draw| draw.join().unwrap())
        .collect();
    assert_eq!(draws.len(), 140);
    assert_eq!(
        draws.iter().collect::<HashSet<_>>().len(),
        140,
        "a number was drawn twice"
    );
}

fn child_that_allocates_64_mb_does_not_hang() {
    let mut group = group();
    for _ in 0..6 {
        group.go(|| {
            let memory = vec![7_u8; 64 << 20];
            assert_eq!(std::hint::black_box(&memory)[memory.len() - 1], 7);
            Ok(())
        });
    }
    assert!(group.wait().is_ok());
}
