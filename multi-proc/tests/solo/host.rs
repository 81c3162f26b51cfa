//! Programs that make it hard: signals, foreign waits, shortages, threads that come and go.

use crate::support::{Test, build, group, quick, sys};
use crate::tests;
use multi_proc::{Group, TaskErrorKind, TaskOptions};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &tests![
    refused_fork_names_the_remedy_and_the_group_still_works,
    stray_wait_loses_the_task_or_keeps_what_it_said,
    ignored_sigchld_loses_the_task_or_keeps_what_it_said,
    interrupted_system_calls_are_taken_up_again,
    few_descriptors_are_enough_for_many_short_tasks,
    no_descriptor_left_refuses_and_recovers,
    child_of_a_thread_that_ends_lives_on,
    several_threads_wait_at_once,
    handlers_of_the_parent_do_not_run_in_children,
];

fn refused_fork_names_the_remedy_and_the_group_still_works() {
    let mut group = group();
    {
        let _refused = sys::refuse_forks();
        group.go_with(TaskOptions::new().name("refused"), || Ok(()));
        let refused = group.try_go(|| Err("came back")?).unwrap_err();
        assert_eq!(refused.into_task()().unwrap_err().to_string(), "came back");
    }
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.task_count()), (1, 2));
    assert!(error.first().is_start(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("could not start: Resource temporarily unavailable (os error 11)"),
        "{text}"
    );
    assert!(
        text.contains("limit(n)") && text.ends_with("raise the process limit (ulimit -u)"),
        "{text}"
    );
    group.go(|| Ok(()));
    assert!(group.wait().is_ok());
}

fn stray_wait_loses_the_task_or_keeps_what_it_said() {
    for round in 0..20 {
        let mut group = group();
        group.go(|| Ok(()));
        group.go(|| Err("said before it was collected")?);
        group.go(|| sys::exit_now(5));
        while sys::stray_wait().is_some() {}
        let error = group.wait().unwrap_err();
        assert_eq!(error.failed_count(), 2, "round {round}: {error}");
        assert!(
            error.failures()[0]
                .to_string()
                .ends_with("said before it was collected"),
            "{error}"
        );
        assert!(
            matches!(error.failures()[1].kind(), TaskErrorKind::Lost),
            "{error}"
        );
        assert!(
            error.failures()[1].to_string().contains("waitpid(-1)"),
            "{error}"
        );
    }
}

fn ignored_sigchld_loses_the_task_or_keeps_what_it_said() {
    sys::ignore(sys::SIGCHLD, true);
    for round in 0..20 {
        let mut group = group();
        let value = group.spawn(|| Ok(17));
        group.go(|| sys::exit_now(5));
        group.go(|| Ok(()));
        let error = group.wait().unwrap_err();
        assert_eq!(value.join().unwrap(), 17);
        assert_eq!(error.failed_count(), 1, "round {round}: {error}");
        assert!(
            matches!(error.first().kind(), TaskErrorKind::Lost),
            "{error}"
        );
    }
    sys::ignore(sys::SIGCHLD, false);
}

fn interrupted_system_calls_are_taken_up_again() {
    sys::interrupt_on(sys::SIGALRM);
    sys::alarm_every(Duration::from_micros(700));
    let mut group = build(Group::builder().limit(4));
    for n in 0..200_u64 {
        let value = group.spawn(move || Ok(vec![n; 1000]));
        if n % 10 == 0 {
            assert_eq!(value.join().unwrap()[999], n);
        }
    }
    assert!(group.wait().is_ok());
    let token = group.cancel_token();
    let start = Instant::now();
    assert!(!token.wait_timeout(Duration::from_millis(20)));
    assert!(start.elapsed() >= Duration::from_millis(20));
    sys::alarm_every(Duration::ZERO);
    sys::ignore(sys::SIGALRM, false);
}

fn few_descriptors_are_enough_for_many_short_tasks() {
    let mut group = group();
    let _limited = sys::limit_descriptors(64);
    for _ in 0..2000 {
        group.go(|| Ok(()));
    }
    assert!(group.wait().is_ok());
}

fn no_descriptor_left_refuses_and_recovers() {
    let mut group = build(quick());
    let token = group.cancel_token();
    let limited = sys::limit_descriptors(24);
    let mut started = 0;
    let refused = loop {
        let token = token.clone();
        let waits = move || {
            token.wait();
            Ok(())
        };
        match group.try_go(waits) {
            Ok(()) => started += 1,
            Err(refused) => break refused,
        }
        assert!(started < 24, "more children than descriptors");
    };
    assert!(
        refused.to_string().contains("Too many open files"),
        "{refused}"
    );
    drop(limited);
    token.cancel();
    assert!(group.wait().is_ok());
    assert_eq!(group.progress().finished, started);
}

fn child_of_a_thread_that_ends_lives_on() {
    let mut group = group();
    for _ in 0..50 {
        let spawner = group.spawner();
        let starter = std::thread::spawn(move || {
            multi_core::Spawner::go(&spawner, || {
                std::thread::sleep(Duration::from_millis(30));
                Ok(())
            });
        });
        starter.join().unwrap();
    }
    assert!(group.wait().is_ok());
}

fn several_threads_wait_at_once() {
    let mut group = group();
    for round in 0..50 {
        let handles: Vec<_> = (0..4)
            .map(|n| {
                group.spawn(move || {
                    std::thread::sleep(Duration::from_millis(n * round % 7));
                    Ok(n)
                })
            })
            .collect();
        std::thread::scope(|s| {
            for (handle, n) in handles.into_iter().zip(0..) {
                s.spawn(move || assert_eq!(handle.join().unwrap(), n));
            }
        });
        assert!(group.wait().is_ok());
    }
}

fn handlers_of_the_parent_do_not_run_in_children() {
    let mut group = group();
    // Also those that are set later than the group is made.
    sys::interrupt_on(sys::SIGTERM);
    sys::interrupt_on(sys::SIGINT);
    group.go(|| {
        sys::raise(sys::SIGINT);
        sys::raise(sys::SIGTERM);
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert!(
        matches!(
            error.first().kind(),
            TaskErrorKind::Signaled { signal: 15, .. }
        ),
        "{error}"
    );
    sys::ignore(sys::SIGTERM, false);
    sys::ignore(sys::SIGINT, false);
}
