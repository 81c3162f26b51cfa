//! What calls leave behind: nothing.

use super::calls::double;
use super::gate::{Gate, wait_at};
use super::{FnSubject, fn_rule_list, group};
use crate::Result;
use crate::conformance::Verdict;
use crate::conformance::residue::compare;
use crate::group::{SpawnFn, Tasks};

fn_rule_list![
    calls_leave_nothing_behind,
    failing_calls_leave_nothing_behind,
    groups_dropped_during_calls_leave_nothing_behind,
];

/// Groups of calls leave the process's threads, descriptors, mappings and children as they were.
fn calls_leave_nothing_behind<S: FnSubject>() -> Verdict {
    compare(S::NAME, S::RESIDUE_GROUPS, || {
        let mut group = group::<S>();
        for n in 0..4 {
            assert_eq!(group.spawn_fn(double, n).join().expect("a value"), 2 * n);
        }
        assert!(group.wait().is_ok());
    });
    Verdict::Passed
}

/// Calls that fail leave nothing either.
fn failing_calls_leave_nothing_behind<S: FnSubject>() -> Verdict {
    let fail = |_: u64| -> Result<u64> { Err("on purpose")? };
    let unwind =
        |_: u64| -> Result<u64> { std::panic::resume_unwind(Box::new("on purpose, unprinted")) };
    compare(S::NAME, S::RESIDUE_GROUPS, || {
        let mut group = group::<S>();
        drop(group.spawn_fn(fail, 0));
        drop(group.spawn_fn(unwind, 0));
        assert!(group.wait().is_err());
    });
    Verdict::Passed
}

/// Groups that are dropped while their calls run leave nothing either. Few: each says on standard error what nobody waited for.
fn groups_dropped_during_calls_leave_nothing_behind<S: FnSubject>() -> Verdict {
    compare(S::NAME, 10, || {
        let group = group::<S>();
        let gate = Gate::new();
        for _ in 0..2 {
            drop(group.spawn_fn(wait_at::<S>, gate.name()));
        }
        // Where there is no process to end, they end by themselves.
        if !S::IS_PROCESS {
            gate.open();
        }
        drop(group);
    });
    Verdict::Passed
}
