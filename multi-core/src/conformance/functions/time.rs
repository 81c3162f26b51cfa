//! Limits, time and cancellation of calls. No rule asserts that something was fast, only that it was not early.

use super::calls::double;
use super::gate::{Gate, open_and_wait_at, wait_at};
use super::{FnSubject, fn_rule_list, group, with};
use crate::Result;
use crate::cancel::CancelToken;
use crate::conformance::Verdict;
use crate::error::WaitTimeoutError;
use crate::group::{SpawnFn, Tasks};
use crate::options::{GroupOptions, TaskOptions};
use std::time::{Duration, Instant, SystemTime};

fn_rule_list![
    limit_of_calls_is_never_exceeded,
    spawn_fn_at_the_limit_waits_for_room,
    spawn_fn_at_the_limit_obeys_cancel,
    cancelled_group_starts_no_calls_until_wait,
    outer_token_refuses_calls_in_every_round,
    call_that_runs_when_its_group_is_cancelled_ends,
    fail_fast_refuses_the_calls_that_wait,
    dropped_group_waits_for_its_calls,
    deadline_reports_calls_as_timed_out,
    deadline_in_the_past_refuses_every_call,
    timeout_of_a_call_costs_that_call_only,
    task_timeout_counts_from_the_start_of_each_call,
    call_in_time_is_not_timed_out,
    wait_timeout_names_the_call_that_still_runs,
];

/// Calls overlap no more than the limit allows, by the clock of the system.
fn limit_of_calls_is_never_exceeded<S: FnSubject>() -> Verdict {
    fn now() -> Result<u128> {
        Ok(SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_nanos())
    }
    fn from_to<S: FnSubject>(_: String) -> Result<String> {
        let from = now()?;
        S::sleep(Duration::from_millis(3));
        Ok(format!("{from} {}", now()?))
    }
    let mut group = with::<S>(GroupOptions::new().limit(2));
    let handles: Vec<_> = (0..20)
        .map(|_| group.spawn_fn(from_to::<S>, String::new()))
        .collect();
    let mut turns = Vec::new();
    for handle in handles {
        let value = handle.join().expect("a value");
        let (from, to) = value.split_once(' ').expect("two numbers");
        turns.push((from.parse::<u128>().expect("a number"), 1));
        turns.push((to.parse::<u128>().expect("a number"), -1));
    }
    assert!(group.wait().is_ok());
    // One that ends in the same nanosecond as another begins has made room for it.
    turns.sort_unstable();
    let depths = turns.iter().scan(0, |depth, (_, turn)| {
        *depth += turn;
        Some(*depth)
    });
    assert!(depths.max() <= Some(2), "{turns:?}");
    Verdict::Passed
}

/// `spawn_fn` at the limit returns when a call has ended, and not before.
fn spawn_fn_at_the_limit_waits_for_room<S: FnSubject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1));
    let gate = Gate::new();
    let first = group.spawn_fn(wait_at::<S>, gate.name());
    let opener = gate.open_soon();
    let second = group.spawn_fn(double, 21);
    assert!(gate.is_open());
    assert_eq!(second.join().expect("a value"), 42);
    assert_eq!(first.join().expect("a value"), gate.name());
    assert!(group.wait().is_ok());
    opener.join().expect("the opener panicked");
    Verdict::Passed
}

/// A `spawn_fn` that waits for room stops waiting when the group is cancelled; its call never runs.
fn spawn_fn_at_the_limit_obeys_cancel<S: FnSubject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1));
    let gate = Gate::new();
    drop(group.spawn_fn(wait_at::<S>, gate.name()));
    let token = group.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        token.cancel();
    });
    let refused = group.spawn_fn(|_: u64| panic!("a call ran after cancel"), 0);
    assert!(group.cancel_token().is_cancelled());
    gate.open();
    let error = Tasks::wait(&mut group).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let refused: Result<u64, _> = refused.join();
    assert!(refused.unwrap_err().is_cancelled());
    canceller.join().expect("the canceller panicked");
    Verdict::Passed
}

/// A cancelled group starts nothing, and says so to the handle as to `wait`; after `wait` it works again.
fn cancelled_group_starts_no_calls_until_wait<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    group.cancel();
    let refused = group.spawn_fn(
        |_: u64| -> Result<u64> { panic!("a call ran after cancel") },
        0,
    );
    assert!(refused.join().unwrap_err().is_cancelled());
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.is_cancelled()), (1, true));
    assert_eq!(group.spawn_fn(double, 21).join().expect("a value"), 42);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A token given to the builder cancels every round, not only the present one.
fn outer_token_refuses_calls_in_every_round<S: FnSubject>() -> Verdict {
    let outer = CancelToken::new();
    let mut group = with::<S>(GroupOptions::new().cancel_token(outer.clone()));
    assert_eq!(group.spawn_fn(double, 21).join().expect("a value"), 42);
    outer.cancel();
    for _ in 0..2 {
        assert!(
            group
                .spawn_fn(double, 21)
                .join()
                .unwrap_err()
                .is_cancelled()
        );
        assert!(group.wait().unwrap_err().is_cancelled());
    }
    Verdict::Passed
}

/// A call does not outlive a cancelled group: where it has a process it is ended, else it is waited for.
fn call_that_runs_when_its_group_is_cancelled_ends<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let (started, gate) = (Gate::new(), Gate::new());
    let gates = format!("{}\n{}", started.name(), gate.name());
    let handle = group.spawn_fn(open_and_wait_at::<S>, gates);
    started.wait();
    group.cancel();
    if S::IS_PROCESS {
        // The gate stays shut.
        let error = group.wait().unwrap_err();
        assert!(
            error.is_cancelled() && error.first().is_cancelled(),
            "{error}"
        );
        assert!(handle.join().unwrap_err().is_cancelled());
    } else {
        let opener = gate.open_soon();
        assert!(group.wait().is_ok(), "a call that ends well has not failed");
        assert_eq!(handle.join().expect("a value"), gate.name());
        opener.join().expect("the opener panicked");
    }
    Verdict::Passed
}

/// With `fail_fast` and a limit, a failure refuses the calls whose `spawn_fn` waits for room.
fn fail_fast_refuses_the_calls_that_wait<S: FnSubject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1).fail_fast(true));
    drop(group.spawn_fn(|_: u64| -> Result<u64> { Err("the cause")? }, 0));
    for _ in 0..5 {
        drop(group.spawn_fn(double, 21));
    }
    let error = group.wait().unwrap_err();
    assert!(error.first().to_string().ends_with("the cause"), "{error}");
    assert_eq!(error.failed_count(), 6, "{error}");
    assert!(
        error.failures()[1..]
            .iter()
            .all(|failure| failure.is_cancelled()),
        "{error}"
    );
    Verdict::Passed
}

/// Dropping a group returns when no call of it runs any more, and no handle is left waiting.
fn dropped_group_waits_for_its_calls<S: FnSubject>() -> Verdict {
    let group = group::<S>();
    let (started, gate) = (Gate::new(), Gate::new());
    let gates = format!("{}\n{}", started.name(), gate.name());
    let handle = group.spawn_fn(open_and_wait_at::<S>, gates);
    started.wait();
    let opener = gate.open_soon();
    drop(group);
    assert!(handle.is_finished());
    match handle.join() {
        Ok(value) => assert_eq!(value, gate.name()),
        Err(error) => assert!(S::IS_PROCESS && error.is_cancelled(), "{error}"),
    }
    opener.join().expect("the opener panicked");
    Verdict::Passed
}

/// What has not ended at the group's deadline is reported as timed out.
fn deadline_reports_calls_as_timed_out<S: FnSubject>() -> Verdict {
    let start = Instant::now();
    let mut group = with::<S>(GroupOptions::new().timeout(Duration::from_millis(100)));
    let gate = Gate::new();
    let handle = group.spawn_fn(wait_at::<S>, gate.name());
    // Only a process can be ended at its deadline. Any other call ends by itself, later.
    let token = group.cancel_token();
    token.wait();
    assert!(start.elapsed() >= Duration::from_millis(100));
    if !S::IS_PROCESS {
        gate.open();
    }
    let error = group.wait().unwrap_err();
    assert!(
        error.failed_count() == 1 && error.first().is_timed_out(),
        "{error}"
    );
    assert!(handle.join().unwrap_err().is_timed_out());
    Verdict::Passed
}

/// A deadline that has passed starts nothing.
fn deadline_in_the_past_refuses_every_call<S: FnSubject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().deadline(Instant::now()));
    let ran = |_: u64| -> Result<u64> { panic!("a call ran after its group's deadline") };
    assert!(group.spawn_fn(ran, 0).join().unwrap_err().is_timed_out());
    let error = group.wait().unwrap_err();
    assert!(
        error.failed_count() == 1 && error.first().is_timed_out(),
        "{error}"
    );
    Verdict::Passed
}

/// A call that overruns its own time is reported so, and the others are left alone.
fn timeout_of_a_call_costs_that_call_only<S: FnSubject>() -> Verdict {
    fn sleep<S: FnSubject>(ms: u64) -> Result<u64> {
        S::sleep(Duration::from_millis(ms));
        Ok(ms)
    }
    let mut group = group::<S>();
    let options = TaskOptions::new()
        .name("slow")
        .timeout(Duration::from_millis(10));
    let slow = group.spawn_fn_with(options, sleep::<S>, 60);
    let other = group.spawn_fn(sleep::<S>, 80);
    assert_eq!(other.join().expect("a value"), 80);
    let error = slow.join().unwrap_err();
    assert!(
        error.is_timed_out() && error.name() == Some("slow"),
        "{error}"
    );
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    assert!(error.first().elapsed() >= Duration::from_millis(10));
    // Whatever it took to end the one, there is room for the next.
    assert_eq!(group.spawn_fn(double, 21).join().expect("a value"), 42);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A group's `task_timeout` counts for each call by itself, from its own start.
fn task_timeout_counts_from_the_start_of_each_call<S: FnSubject>() -> Verdict {
    fn sleep<S: FnSubject>(ms: u64) -> Result<u64> {
        S::sleep(Duration::from_millis(ms));
        Ok(ms)
    }
    let options = GroupOptions::new()
        .limit(1)
        .task_timeout(Duration::from_millis(800));
    let mut group = with::<S>(options);
    for _ in 0..3 {
        drop(group.spawn_fn(sleep::<S>, 300));
    }
    let outcome = group.wait();
    assert!(outcome.is_ok(), "each call was in time: {outcome:?}");
    Verdict::Passed
}

/// Time limits that are kept change nothing.
fn call_in_time_is_not_timed_out<S: FnSubject>() -> Verdict {
    let options = GroupOptions::new()
        .timeout(Duration::from_secs(60))
        .task_timeout(Duration::from_secs(30));
    let mut group = with::<S>(options);
    let unlimited = TaskOptions::new().timeout(Duration::MAX);
    assert_eq!(
        group
            .spawn_fn_with(unlimited, double, 21)
            .join()
            .expect("a value"),
        42
    );
    assert_eq!(group.spawn_fn(double, 21).join().expect("a value"), 42);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// `wait_timeout` is not early, names the call that still runs, and can be repeated.
fn wait_timeout_names_the_call_that_still_runs<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    let gate = Gate::new();
    let slow = TaskOptions::new().name("slow");
    let handle = group.spawn_fn_with(slow, wait_at::<S>, gate.name());
    for _ in 0..2 {
        let start = Instant::now();
        let error = group.wait_timeout(Duration::from_millis(20)).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(
            matches!(&error, WaitTimeoutError::StillRunning(still) if still.count() == 1),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains("task 0 \"slow\" (started at "), "{text}");
    }
    gate.open();
    assert!(group.wait().is_ok());
    assert_eq!(handle.join().expect("a value"), gate.name());
    Verdict::Passed
}
