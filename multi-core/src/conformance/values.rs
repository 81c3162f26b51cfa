//! Values that tasks bring home.

use super::{NO_SHARED_MEMORY, Subject, Verdict, group, rule_list};
use crate::group::{Spawn, SpawnFn, Tasks};
use crate::handle::JoinTimeoutError;
use crate::options::TaskOptions;
use std::time::{Duration, Instant};

rule_list![
    value_comes_home,
    values_belong_to_their_handles,
    large_value_comes_home_whole,
    failed_task_fails_its_handle_and_its_group,
    panicked_task_fails_its_handle,
    dropped_handle_loses_the_value_only,
    handle_is_finished_after_wait,
    join_timeout_gives_the_handle_back,
    refused_task_fails_its_handle,
    function_and_arguments_run_like_a_task,
    handles_join_from_inside_tasks,
];

/// `join` returns what the task returned.
fn value_comes_home<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let handle = group.spawn(|| Ok(String::from("home")));
    assert_eq!(handle.join().expect("a value"), "home");
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// Each handle has the value of its own task, in whatever order they end and are joined.
fn values_belong_to_their_handles<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let handles: Vec<_> = (0..50_u64)
        .map(|n| (n, group.spawn(move || Ok(n * n))))
        .collect();
    for (n, handle) in handles.into_iter().rev() {
        assert_eq!(handle.id().index(), n);
        assert_eq!(handle.join().expect("a value"), n * n);
    }
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A value of a mebibyte arrives as it was.
fn large_value_comes_home_whole<S: Subject>() -> Verdict {
    let text = || {
        (0..1 << 20)
            .map(|n: u32| char::from(b'a' + (n % 23) as u8))
            .collect::<String>()
    };
    let mut group = group::<S>();
    let handle = group.spawn(move || Ok(text()));
    assert!(handle.join().expect("a value") == text());
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// The failure of a task with a handle is told to both, and both say the same.
fn failed_task_fails_its_handle_and_its_group<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let handle = Spawn::<u64>::spawn_with(&group, TaskOptions::new().name("bad"), || {
        Err("on purpose")?
    });
    let at_the_handle = handle.join().unwrap_err();
    let at_the_group = group.wait().unwrap_err();
    assert_eq!(at_the_handle.to_string(), at_the_group.to_string());
    assert!(at_the_handle.is_returned() && at_the_handle.name() == Some("bad"));
    Verdict::Passed
}

/// A panic is told to the handle.
fn panicked_task_fails_its_handle<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let handle = Spawn::<u64>::spawn(&group, || panic!("on purpose: conformance"));
    assert!(handle.join().unwrap_err().is_panicked());
    assert!(group.wait().is_err());
    Verdict::Passed
}

/// Nobody has to want the value: the task runs, and its failure still reaches the group.
fn dropped_handle_loses_the_value_only<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    drop(group.spawn(|| Ok(1_u64)));
    drop(Spawn::<u64>::spawn(&group, || Err("on purpose")?));
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.task_count()), (1, 2));
    Verdict::Passed
}

/// After the group's `wait` no handle has to be waited for, and the value is still there.
fn handle_is_finished_after_wait<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let handle = group.spawn(|| Ok(7_u64));
    assert!(group.wait().is_ok());
    assert!(handle.is_finished());
    assert_eq!(handle.join().expect("a value"), 7);
    Verdict::Passed
}

/// A join that runs out of time is not early, and can be taken up again.
fn join_timeout_gives_the_handle_back<S: Subject>() -> Verdict {
    let flag = S::flag();
    let told = flag.clone();
    let mut group = group::<S>();
    let handle = group.spawn(move || {
        told.wait();
        Ok(7_u64)
    });
    let start = Instant::now();
    let handle = match handle.join_timeout(Duration::from_millis(20)) {
        Err(JoinTimeoutError::StillRunning(handle)) => handle,
        other => panic!("expected a handle, got {other:?}"),
    };
    assert!(start.elapsed() >= Duration::from_millis(20));
    flag.cancel();
    assert_eq!(handle.join_timeout(Duration::MAX).expect("a value"), 7);
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A task that a cancelled group does not start fails its handle instead of leaving it waiting.
fn refused_task_fails_its_handle<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.cancel();
    let handle = group.spawn(|| Ok(7_u64));
    assert!(handle.join().unwrap_err().is_cancelled());
    assert!(group.wait().unwrap_err().is_cancelled());
    Verdict::Passed
}

/// `spawn_fn` runs a function without captures on its arguments.
fn function_and_arguments_run_like_a_task<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let half = |n: u64| {
        if n.is_multiple_of(2) {
            Ok(n / 2)
        } else {
            Err(format!("{n} is odd"))?
        }
    };
    let good = group.spawn_fn(half, 42);
    let bad = group.spawn_fn(half, 7);
    assert_eq!(good.join().expect("a value"), 21);
    assert!(bad.join().unwrap_err().to_string().contains("7 is odd"));
    assert!(group.wait().is_err());
    Verdict::Passed
}

/// A task joins the handle of another task.
fn handles_join_from_inside_tasks<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    let mut group = group::<S>();
    let first = group.spawn(|| {
        S::sleep(Duration::from_millis(5));
        Ok(20_u64)
    });
    let second = group.spawn(move || Ok(first.join()? + 1));
    let third = group.spawn(move || Ok(second.join()? * 2));
    assert_eq!(third.join().expect("a value"), 42);
    assert!(group.wait().is_ok());
    Verdict::Passed
}
