//! Deadlines, timeouts, and waits that end in time. No rule asserts that something was fast, only that it was not early.

use super::{Subject, Verdict, group, rule_list, with};
use crate::error::{TaskErrorKind, WaitTimeoutError};
use crate::group::{Group, Tasks};
use crate::options::{GroupOptions, TaskOptions};
use std::time::{Duration, Instant};

rule_list![
    wait_timeout_names_who_still_runs_and_loses_nothing,
    wait_timeout_returns_failures,
    wait_timeout_takes_any_duration,
    deadline_cancels_and_reports_timed_out,
    deadline_in_the_past_refuses_every_task,
    task_timeout_costs_that_task_only,
    group_wide_task_timeout_is_per_task,
    timed_out_task_hears_of_it_through_its_token,
    go_at_the_limit_obeys_the_deadline,
    task_in_time_is_not_timed_out,
    elapsed_time_is_told,
];

/// `wait_timeout` is not early, names the tasks that still run, and can be repeated.
fn wait_timeout_names_who_still_runs_and_loses_nothing<S: Subject>() -> Verdict {
    let flag = S::flag();
    let told = flag.clone();
    let mut group = group::<S>();
    group.go(|| Err("kept")?);
    group.go_with(TaskOptions::new().name("slow"), move || {
        told.wait();
        Ok(())
    });
    let start = Instant::now();
    let error = loop {
        let started = Instant::now();
        let error = group.wait_timeout(Duration::from_millis(20)).unwrap_err();
        assert!(started.elapsed() >= Duration::from_millis(20));
        match error {
            WaitTimeoutError::StillRunning(still) if still.count() == 1 => break still,
            other => assert!(start.elapsed() < Duration::from_secs(30), "{other}"),
        }
    };
    assert!(
        error.to_string().contains("task 1 \"slow\" (started at "),
        "{error}"
    );
    flag.cancel();
    assert!(group.wait().unwrap_err().to_string().ends_with("kept"));
    Verdict::Passed
}

/// A group whose tasks end in time returns their failures from `wait_timeout`.
fn wait_timeout_returns_failures<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.go(|| Err("on purpose")?);
    match group.wait_timeout(Duration::from_secs(30)) {
        Err(WaitTimeoutError::Failed(error)) => assert_eq!(error.failed_count(), 1),
        other => panic!("expected a failure, got {other:?}"),
    }
    assert!(group.wait().is_ok(), "reported once");
    Verdict::Passed
}

/// No time at all and for ever are durations too.
fn wait_timeout_takes_any_duration<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.go(|| Ok(()));
    let _either = group.wait_timeout(Duration::ZERO);
    assert!(group.wait_timeout(Duration::MAX).is_ok());
    Verdict::Passed
}

/// At its deadline a group is cancelled; what had not ended is reported as timed out, what had is not.
fn deadline_cancels_and_reports_timed_out<S: Subject>() -> Verdict {
    let start = Instant::now();
    let mut group = with::<S>(GroupOptions::new().timeout(Duration::from_millis(300)));
    let token = group.cancel_token();
    group.go(|| Ok(()));
    group.go_with(TaskOptions::new().name("late"), move || {
        token.wait();
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(error.failed_count(), 1, "{error}");
    assert!(
        error.first().is_timed_out() && error.first().name() == Some("late"),
        "{error}"
    );
    Verdict::Passed
}

/// A deadline that has passed starts nothing.
fn deadline_in_the_past_refuses_every_task<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().deadline(Instant::now()));
    group.go(|| panic!("a task ran after its group's deadline"));
    assert!(group.try_go(|| Ok(())).is_err());
    let error = group.wait().unwrap_err();
    assert!(
        error.failed_count() == 1 && error.first().is_timed_out(),
        "{error}"
    );
    Verdict::Passed
}

/// A task that overruns its own time is reported so, and the others are left alone.
fn task_timeout_costs_that_task_only<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let options = TaskOptions::new()
        .name("slow")
        .timeout(Duration::from_millis(10));
    group.go_with(options, || {
        S::sleep(Duration::from_millis(60));
        Ok(())
    });
    group.go(|| {
        S::sleep(Duration::from_millis(80));
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    assert!(
        matches!(error.first().kind(), TaskErrorKind::TimedOut),
        "{error}"
    );
    assert_eq!(error.first().name(), Some("slow"));
    Verdict::Passed
}

/// A group's `task_timeout` counts from each task's own start.
fn group_wide_task_timeout_is_per_task<S: Subject>() -> Verdict {
    let mut group = with::<S>(
        GroupOptions::new()
            .limit(1)
            .task_timeout(Duration::from_millis(400)),
    );
    for _ in 0..3 {
        group.go(|| {
            S::sleep(Duration::from_millis(150));
            Ok(())
        });
    }
    assert!(
        group.wait().is_ok(),
        "the tasks were in time, each by itself"
    );
    Verdict::Passed
}

/// A task that holds its own token hears that its time is up. (A process is told by a signal as well.)
fn timed_out_task_hears_of_it_through_its_token<S: Subject>() -> Verdict {
    let token = S::flag();
    let own = token.clone();
    let mut group = group::<S>();
    let options = TaskOptions::new()
        .timeout(Duration::from_millis(20))
        .cancel_token(token.clone());
    group.go_with(options, move || {
        own.wait();
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert!(error.first().is_timed_out(), "{error}");
    assert!(error.first().elapsed() >= Duration::from_millis(20));
    assert!(token.is_cancelled());
    Verdict::Passed
}

/// A `go` that waits for room stops waiting at the deadline.
fn go_at_the_limit_obeys_the_deadline<S: Subject>() -> Verdict {
    let mut group = with::<S>(
        GroupOptions::new()
            .limit(1)
            .timeout(Duration::from_millis(50)),
    );
    let token = group.cancel_token();
    let flag = S::flag();
    let told = flag.clone();
    group.go(move || {
        token.wait();
        told.wait();
        Ok(())
    });
    group.go(|| panic!("a task ran after its group's deadline"));
    flag.cancel();
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 2, "{error}");
    assert!(
        error
            .failures()
            .iter()
            .all(|failure| failure.is_timed_out()),
        "{error}"
    );
    Verdict::Passed
}

/// Time limits that are kept change nothing.
fn task_in_time_is_not_timed_out<S: Subject>() -> Verdict {
    let options = GroupOptions::new()
        .timeout(Duration::from_secs(60))
        .task_timeout(Duration::from_secs(30));
    let mut group = with::<S>(options);
    group.go_with(TaskOptions::new().timeout(Duration::MAX), || Ok(()));
    group.go(|| Ok(()));
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A failure says how long its task ran.
fn elapsed_time_is_told<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.go(|| {
        S::sleep(Duration::from_millis(10));
        Err("on purpose")?
    });
    let error = group.wait().unwrap_err();
    assert!(error.first().elapsed() >= Duration::from_millis(10));
    Verdict::Passed
}
