//! Time limits and cancel, on tasks that do not cooperate.

use crate::support::{Test, build, quick, sys};
use crate::tests;
use multi_proc::{Group, TaskOptions};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &tests![
    task_that_ignores_sigterm_is_killed_after_the_grace,
    task_that_obeys_sigterm_is_not_waited_for_longer,
    cancel_kills_what_does_not_listen_and_says_cancelled,
    cancel_from_a_child_reaches_a_task_that_does_not_listen,
    cancel_from_a_child_reaches_dependants_here,
    token_of_an_ended_round_stays_cancelled_for_those_who_hold_it,
    fail_fast_ends_tasks_that_do_not_listen,
    deadline_ends_tasks_that_do_not_listen,
    time_limit_is_kept_while_nobody_waits,
    dropped_group_ends_its_tasks,
    dropped_group_ends_tasks_that_ignore_sigterm,
    stopped_task_is_killed_all_the_same,
];

fn hang() -> multi_proc::Result {
    loop {
        std::thread::park();
    }
}

fn hang_on_sigterm() -> multi_proc::Result {
    sys::ignore(sys::SIGTERM, true);
    hang()
}

fn task_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut group = build(quick());
    let start = Instant::now();
    group.go_with(
        TaskOptions::new()
            .name("deaf")
            .timeout(Duration::from_millis(500)),
        hang_on_sigterm,
    );
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert!(
        error.failed_count() == 1 && error.first().is_timed_out(),
        "{error}"
    );
    assert!(error.to_string().contains("timed out after"), "{error}");
}

fn task_that_obeys_sigterm_is_not_waited_for_longer() {
    let mut group = build(Group::builder().grace(Duration::from_secs(50)));
    group.go_with(TaskOptions::new().timeout(Duration::from_millis(20)), hang);
    assert!(group.wait().unwrap_err().first().is_timed_out());
}

fn cancel_kills_what_does_not_listen_and_says_cancelled() {
    let mut group = build(quick());
    group.go(hang);
    group.go(hang_on_sigterm);
    let start = Instant::now();
    group.cancel();
    let error = group.wait().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(100), "no grace");
    assert_eq!(error.failed_count(), 2);
    assert!(error.is_cancelled(), "{error}");
    group.go(|| Ok(()));
    assert!(
        group.wait().is_ok(),
        "the next round has a token of its own"
    );
}

fn cancel_from_a_child_reaches_a_task_that_does_not_listen() {
    let mut group = build(quick());
    let token = group.cancel_token();
    group.go(hang);
    group.go(move || {
        std::thread::sleep(Duration::from_millis(20));
        token.cancel();
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert!(error.failed_count() == 1 && error.is_cancelled(), "{error}");
}

fn cancel_from_a_child_reaches_dependants_here() {
    let mut group = build(quick());
    for round in 0..100 {
        let token = group.cancel_token();
        let dependant = token.child();
        group.go(move || {
            token.cancel();
            Ok(())
        });
        assert!(group.wait().is_ok());
        assert!(dependant.is_cancelled(), "round {round}");
    }
}

fn token_of_an_ended_round_stays_cancelled_for_those_who_hold_it() {
    let (mut first, mut second) = (build(quick()), build(quick()));
    let (checked, told) = (multi_proc::shared_token().unwrap(), first.cancel_token());
    let go_on = checked.clone();
    second.go(move || {
        go_on.wait();
        assert!(told.is_cancelled(), "the request was taken back");
        Ok(())
    });
    first.cancel();
    assert!(first.wait().is_ok());
    let release = multi_proc::shared_token().unwrap();
    for _ in 0..20 {
        let release = release.clone();
        first.go(move || {
            release.wait();
            Ok(())
        });
    }
    checked.cancel();
    assert!(second.wait().is_ok());
    release.cancel();
    assert!(first.wait().is_ok());
}

fn fail_fast_ends_tasks_that_do_not_listen() {
    let mut group = build(quick().fail_fast(true));
    group.go(hang);
    group.go(|| Err("the cause")?);
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 2);
    assert!(
        error.first().to_string().ends_with("the cause") && error.failures()[0].is_cancelled(),
        "{error}"
    );
}

fn deadline_ends_tasks_that_do_not_listen() {
    let start = Instant::now();
    let mut group = build(quick().timeout(Duration::from_millis(100)));
    group.go(hang_on_sigterm);
    group.go(hang);
    let error = group.wait().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(
        error
            .failures()
            .iter()
            .all(|failure| failure.is_timed_out()),
        "{error}"
    );
}

fn time_limit_is_kept_while_nobody_waits() {
    let mut group = build(quick());
    group.go_with(
        TaskOptions::new().timeout(Duration::from_millis(50)),
        hang_on_sigterm,
    );
    // Nobody waits: the pidfds of the children are looked at by nobody but the clock.
    let start = Instant::now();
    let children = || crate::support::Residue::count().children;
    let is_dead = || {
        let pids =
            std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()))
                .unwrap();
        pids.split_whitespace().all(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.contains(") Z "))
        })
    };
    assert_eq!(children(), 1);
    while !is_dead() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the task outlived its time"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(group.wait().unwrap_err().first().is_timed_out());
}

fn dropped_group_ends_its_tasks() {
    let group = build(Group::builder().grace(Duration::from_secs(50)));
    for _ in 0..4 {
        group.go(hang);
    }
    drop(group);
    assert_eq!(crate::support::Residue::count().children, 0);
}

fn dropped_group_ends_tasks_that_ignore_sigterm() {
    let group = build(quick());
    let ready = multi_proc::shared_token().unwrap();
    let told = ready.clone();
    group.go(move || {
        sys::ignore(sys::SIGTERM, true);
        told.cancel();
        hang()
    });
    ready.wait();
    let start = Instant::now();
    drop(group);
    assert!(start.elapsed() >= Duration::from_millis(100), "no grace");
    assert_eq!(crate::support::Residue::count().children, 0);
}

fn stopped_task_is_killed_all_the_same() {
    let mut group = build(quick().task_timeout(Duration::from_millis(50)));
    group.go(|| {
        sys::raise(sys::SIGSTOP);
        Ok(())
    });
    assert!(group.wait().unwrap_err().first().is_timed_out());
}
