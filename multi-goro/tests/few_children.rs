//! Children that are over by the time another worker is up, and those that are not.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use common::watchdog;
use multi_goro::{Group, Runtime};

/// Children of one line: empty ones, or such that stay until `count` of them have begun.
fn start(group: &Group, count: usize, together: bool) {
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let begun = Arc::clone(&begun);
        group.go(move || {
            begun.fetch_add(1, SeqCst);
            while together && begun.load(SeqCst) < count {
                spin_loop();
            }
            Ok(())
        });
    }
}

#[test]
fn workers_sleep_on_beside_children_that_are_over_at_once() {
    const GROUPS: u64 = 3_000;
    let _dog = watchdog(60);
    // Where every child was announced it was 1 700 to 2 800, and else 80 to 420: unless the system gives the woken one's processor to
    // somebody else, which looks as if it had found much to do.
    let sleeps_of = |_| {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| {
            let mut group = Group::new();
            for _ in 0..GROUPS {
                start(&group, 4, false);
                group.wait().unwrap();
            }
        });
        runtime.metrics().sleeps
    };
    let sleeps: Vec<_> = (0..5).map(sleeps_of).collect();
    assert!(
        sleeps.iter().any(|sleeps| *sleeps < GROUPS / 3),
        "{sleeps:?} sleeps in {GROUPS} groups each"
    );
}

#[test]
fn children_that_need_two_workers_get_them_after_thousands_that_did_not() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let mut group = Group::new();
        for _ in 0..3 {
            for _ in 0..1_000 {
                start(&group, 4, false);
                group.wait().unwrap();
            }
            start(&group, 2, true);
            group.wait().unwrap();
        }
    });
}

#[test]
fn child_begins_though_its_parent_goes_on() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let mut group = Group::new();
        for _ in 0..1_000 {
            start(&group, 4, false);
            group.wait().unwrap();
        }
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let begun = Arc::clone(&begun);
            group.go(move || {
                begun.fetch_add(1, SeqCst);
                Ok(())
            });
        }
        while begun.load(SeqCst) == 0 {
            spin_loop();
        }
        group.wait().unwrap();
    });
}
