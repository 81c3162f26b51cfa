//! Calls, their arguments, and the values that come home.

use super::gate::{Gate, open_and_wait_at, wait_at};
use super::{FnSubject, fn_rule_list, group, with};
use crate::Result;
use crate::conformance::Verdict;
use crate::group::{SpawnFn, Tasks};
use crate::handle::JoinTimeoutError;
use crate::options::GroupOptions;
use std::time::{Duration, Instant};

fn_rule_list![
    no_call_at_all_is_waited_for,
    value_of_a_call_comes_home,
    argument_and_value_may_be_empty,
    argument_and_value_of_a_mebibyte_arrive_whole,
    values_belong_to_their_calls,
    thousand_calls_all_come_home,
    calls_run_side_by_side,
    calls_are_started_again_after_wait,
    dropped_handle_of_a_call_loses_the_value_only,
    handle_of_a_call_is_finished_after_wait,
    handle_of_a_call_outlives_its_group,
    handle_of_a_call_joins_on_another_thread,
    join_timeout_of_a_call_gives_the_handle_back,
    function_calls_functions_of_its_own,
    progress_counts_every_call_once,
];

pub(super) fn double(n: u64) -> Result<u64> {
    Ok(2 * n)
}

fn echo(text: String) -> Result<String> {
    Ok(text)
}

/// Waiting where nothing was started returns at once.
fn no_call_at_all_is_waited_for<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    assert!(group.wait().is_ok());
    assert!(group.wait().is_ok());
    drop(super::group::<S>());
    Verdict::Passed
}

/// `join` returns what the function made of its argument, be it a `fn` or a closure that captures nothing.
fn value_of_a_call_comes_home<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let doubled = group.spawn_fn(double, 21);
    let next = group.spawn_fn(|n: u64| Ok(n + 1), 21);
    assert_eq!(doubled.join().expect("a value"), 42);
    assert_eq!(next.join().expect("a value"), 22);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// Arguments and values without a byte cross as any.
fn argument_and_value_may_be_empty<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let nothing = group.spawn_fn(|()| Ok(7_u64), ());
    let empty = group.spawn_fn(echo, String::new());
    assert_eq!(nothing.join().expect("a value"), 7);
    assert_eq!(empty.join().expect("a value"), "");
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A mebibyte arrives as it was, on both ways.
fn argument_and_value_of_a_mebibyte_arrive_whole<S: FnSubject>() -> Verdict {
    let text: String = (0..1 << 20)
        .map(|n: u32| char::from(b'a' + (n % 23) as u8))
        .collect();
    let mut group = group::<S>();
    let handle = group.spawn_fn(echo, text.clone());
    assert!(handle.join().expect("a value") == text);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// Each handle has the value of its own call, in whatever order they are joined.
fn values_belong_to_their_calls<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let handles: Vec<_> = (0..50).map(|n| (n, group.spawn_fn(double, n))).collect();
    for (n, handle) in handles.into_iter().rev() {
        assert_eq!(handle.id().index(), n);
        assert_eq!(handle.join().expect("a value"), 2 * n);
    }
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A thousand calls each run, and each value comes home once.
fn thousand_calls_all_come_home<S: FnSubject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(64));
    let handles: Vec<_> = (0..1_000).map(|n| group.spawn_fn(double, n)).collect();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.join().expect("a value"), 2 * n);
    }
    assert!(group.wait().is_ok());
    let progress = group.progress();
    assert_eq!((progress.started, progress.finished), (1_000, 1_000));
    assert_eq!((progress.running, progress.failed), (0, 0));
    Verdict::Passed
}

/// Two calls run at once: each waits for a gate that the other opens.
fn calls_run_side_by_side<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let gates = [Gate::new(), Gate::new()];
    let [one, other] = gates.each_ref().map(Gate::name);
    let handles = [
        group.spawn_fn(open_and_wait_at::<S>, format!("{one}\n{other}")),
        group.spawn_fn(open_and_wait_at::<S>, format!("{other}\n{one}")),
    ];
    for handle in handles {
        handle.join().expect("both came through");
    }
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// After `wait` there can be more calls, and the next `wait` speaks of those alone.
fn calls_are_started_again_after_wait<S: FnSubject>() -> Verdict {
    let even = |n: u64| {
        if n.is_multiple_of(2) {
            Ok(n)
        } else {
            Err(format!("{n} is odd"))?
        }
    };
    let mut group = group::<S>();
    for round in 0..20 {
        let handle = group.spawn_fn(even, round);
        let outcome = group.wait();
        assert_eq!(outcome.is_ok(), round % 2 == 0, "round {round}");
        assert_eq!(handle.join().is_ok(), outcome.is_ok());
    }
    assert!(group.wait().is_ok(), "a failure was reported twice");
    Verdict::Passed
}

/// Nobody has to want the value: the call runs, and its failure still reaches `wait`.
fn dropped_handle_of_a_call_loses_the_value_only<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    drop(group.spawn_fn(double, 1));
    drop(group.spawn_fn(|_: u64| -> Result<u64> { Err("on purpose")? }, 1));
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.task_count()), (1, 2));
    Verdict::Passed
}

/// After `wait` no handle has to be waited for, and the value is still there.
fn handle_of_a_call_is_finished_after_wait<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let handle = group.spawn_fn(double, 21);
    assert!(group.wait().is_ok());
    assert!(handle.is_finished());
    assert_eq!(handle.join().expect("a value"), 42);
    Verdict::Passed
}

/// A value that came home stays with its handle when the group is gone.
fn handle_of_a_call_outlives_its_group<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let handle = group.spawn_fn(double, 21);
    assert!(group.wait().is_ok());
    drop(group);
    assert_eq!(handle.join().expect("a value"), 42);
    Verdict::Passed
}

/// A thread that has nothing to do with the group joins a handle of it.
fn handle_of_a_call_joins_on_another_thread<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let gate = Gate::new();
    let handle = group.spawn_fn(wait_at::<S>, gate.name());
    let joiner = std::thread::spawn(move || handle.join());
    gate.open();
    let value = joiner.join().expect("the joiner panicked");
    assert_eq!(value.expect("a value"), gate.name());
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A join that runs out of time is not early, and can be taken up again.
fn join_timeout_of_a_call_gives_the_handle_back<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let gate = Gate::new();
    let handle = group.spawn_fn(wait_at::<S>, gate.name());
    let start = Instant::now();
    let handle = match handle.join_timeout(Duration::from_millis(20)) {
        Err(JoinTimeoutError::StillRunning(handle)) => handle,
        other => panic!("expected a handle, got {other:?}"),
    };
    assert!(start.elapsed() >= Duration::from_millis(20));
    gate.open();
    let value = handle.join_timeout(Duration::MAX);
    assert_eq!(value.expect("a value"), gate.name());
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A function starts calls in a group of its own, and joins their handles.
fn function_calls_functions_of_its_own<S: FnSubject>() -> Verdict {
    fn sum_of_doubles<S: FnSubject>(count: u64) -> Result<u64> {
        let mut group = S::group(GroupOptions::new())?;
        let handles: Vec<_> = (0..count).map(|n| group.spawn_fn(double, n)).collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.join()?;
        }
        group.wait()?;
        Ok(sum)
    }
    if let Err(reason) = S::NESTED {
        return Verdict::NotApplicable(reason);
    }
    let mut group = group::<S>();
    let handles = [3, 4].map(|count| group.spawn_fn(sum_of_doubles::<S>, count));
    let sums = handles.map(|handle| handle.join().expect("a value"));
    assert_eq!(sums, [6, 12]);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// `progress` counts which calls were started, have ended and failed.
fn progress_counts_every_call_once<S: FnSubject>() -> Verdict {
    fn fail_after<S: FnSubject>(gate: String) -> Result<String> {
        wait_at::<S>(gate)?;
        Err("on purpose")?
    }
    let mut group = group::<S>();
    let gate = Gate::new();
    for function in [fail_after::<S>, wait_at::<S>, wait_at::<S>] {
        drop(group.spawn_fn(function, gate.name()));
    }
    let before = group.progress();
    assert_eq!((before.started, before.finished, before.failed), (3, 0, 0));
    assert_eq!(before.running + before.queued, 3);
    gate.open();
    assert!(group.wait().is_err());
    let after = group.progress();
    assert_eq!((after.started, after.finished, after.failed), (3, 3, 1));
    assert_eq!((after.running, after.queued), (0, 0));
    Verdict::Passed
}
