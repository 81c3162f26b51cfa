//! Bad luck: long queues, destructors that panic, a standard error that cannot be written, tasks that do not listen.

use super::{NO_SHARED_MEMORY, Subject, Verdict, group, rule_list, scenes, with};
use crate::cancel::CancelToken;
use crate::group::{Group, Spawn, Spawner, Tasks};
use crate::options::{GroupOptions, TaskOptions};
use std::sync::Arc;
use std::time::Duration;

rule_list![
    long_queue_is_refused_whole,
    long_chain_of_tasks_in_a_limited_group_ends,
    several_callers_start_tasks_at_the_limit,
    room_is_free_when_a_join_returns,
    capture_of_a_refused_task_may_panic_as_it_is_dropped,
    destructor_that_panics_fails_its_own_task_alone,
    unwritable_standard_error_harms_nobody,
    own_token_of_a_task_hears_of_the_groups_cancel,
    child_of_a_group_token_hears_of_its_cancel,
    child_token_is_waited_for_like_its_parent,
    task_that_ignores_cancel_does_not_outlive_its_group,
    fail_fast_with_a_limit_refuses_those_that_wait,
];

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // Unprinted: many of these are dropped.
        std::panic::resume_unwind(Box::new("on purpose: dropped"));
    }
}

/// A thousand tasks that wait for room are refused when their group is cancelled, each reported.
fn long_queue_is_refused_whole<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    let mut group = with::<S>(GroupOptions::new().limit(1));
    let (spawner, token) = (group.spawner(), group.cancel_token());
    group.go(move || {
        for _ in 0..1_000 {
            spawner.go(|| panic!("a refused task ran"));
        }
        token.cancel();
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.is_cancelled()), (1_000, true));
    Verdict::Passed
}

/// Tasks that each start the next end well in a limited group, thousands of them.
fn long_chain_of_tasks_in_a_limited_group_ends<S: Subject>() -> Verdict {
    fn chain<G: Spawner>(spawner: &G, left: u32) -> crate::Result {
        if left > 0 {
            let next = spawner.clone();
            spawner.go(move || chain(&next, left - 1));
        }
        Ok(())
    }
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    let mut group = with::<S>(GroupOptions::new().limit(2));
    let spawner = group.spawner();
    group.go(move || chain(&spawner, 5_000));
    assert!(group.wait().is_ok());
    assert_eq!(group.progress().finished, 5_001);
    Verdict::Passed
}

/// Several threads may start tasks in one group at its limit.
fn several_callers_start_tasks_at_the_limit<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(2));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let spawner = group.spawner();
            scope.spawn(move || {
                for _ in 0..25 {
                    spawner.go(|| Ok(()));
                }
            });
        }
    });
    assert!(group.wait().is_ok());
    assert_eq!(group.progress().finished, 100);
    Verdict::Passed
}

/// A task that was joined takes up no room any more.
fn room_is_free_when_a_join_returns<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1));
    for n in 0..50 {
        let value = group.spawn(move || Ok(n));
        assert_eq!(value.join().expect("a value"), n);
        assert!(group.try_go(|| Ok(())).is_ok(), "round {n}");
        assert!(group.wait().is_ok());
    }
    Verdict::Passed
}

/// What a refused task captured may panic as it is dropped: that is this task's failure, and nobody else's.
fn capture_of_a_refused_task_may_panic_as_it_is_dropped<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.cancel();
    let bomb = Bomb;
    group.go(move || {
        let _bomb = bomb;
        Ok(())
    });
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 2);
    assert!(error.failures()[0].is_panicked(), "{error}");
    assert!(error.failures()[1].is_cancelled(), "{error}");
    Verdict::Passed
}

/// A destructor that panics inside a task fails that task; what else it captured is still given up, and the group ends.
fn destructor_that_panics_fails_its_own_task_alone<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let shared = Arc::new(());
    for _ in 0..4 {
        let shared = Arc::clone(&shared);
        group.go(move || {
            let _shared = shared;
            let _bomb = Bomb;
            Ok(())
        });
    }
    assert_eq!(group.wait().unwrap_err().failed_count(), 4);
    assert_eq!(Arc::strong_count(&shared), 1);
    Verdict::Passed
}

/// Reports that cannot be written are lost, and nothing else is.
fn unwritable_standard_error_harms_nobody<S: Subject>() -> Verdict {
    for scene in [scenes::DROP, scenes::DETACH] {
        scenes::play_to_full_device::<S>(scene);
    }
    Verdict::Passed
}

/// A token given to one task hears of the group's cancel too.
fn own_token_of_a_task_hears_of_the_groups_cancel<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let own = S::flag();
    let told = own.clone();
    group.go_with(TaskOptions::new().cancel_token(own), move || {
        told.wait();
        Ok(())
    });
    group.cancel();
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A token made from the group's is cancelled with it, also where the first request came from a task.
fn child_of_a_group_token_hears_of_its_cancel<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let token = group.cancel_token();
    let child = token.child();
    let in_task = token.clone();
    group.go(move || {
        in_task.cancel();
        Ok(())
    });
    token.wait();
    token.cancel();
    assert!(child.is_cancelled());
    assert!(CancelToken::child(&token).is_cancelled());
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// Tasks wait for a child of their group's token as for the token itself, without keeping others from running.
fn child_token_is_waited_for_like_its_parent<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return Verdict::NotApplicable("a child token belongs to the process that made it");
    }
    let mut group = group::<S>();
    let child = group.cancel_token().child();
    // More than any machine has workers.
    for _ in 0..200 {
        let child = child.clone();
        group.go(move || {
            child.wait();
            Ok(())
        });
    }
    group.go(move || {
        child.cancel();
        Ok(())
    });
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A task that does not listen is ended with its group, where tasks can be ended.
fn task_that_ignores_cancel_does_not_outlive_its_group<S: Subject>() -> Verdict {
    if !S::IS_PROCESS {
        return Verdict::NotApplicable(
            "a task that shares its process with the program cannot be ended",
        );
    }
    let mut group = group::<S>();
    group.go(|| {
        // Far longer than any watchdog's patience.
        std::thread::sleep(Duration::from_secs(3_600));
        Ok(())
    });
    group.cancel();
    let error = group.wait().unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    Verdict::Passed
}

/// With `fail_fast` and a limit, a failure refuses the tasks whose `go` waits for room.
fn fail_fast_with_a_limit_refuses_those_that_wait<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1).fail_fast(true));
    group.go(|| Err("the cause")?);
    for _ in 0..5 {
        group.go(|| Ok(()));
    }
    let error = group.wait().unwrap_err();
    assert!(error.first().to_string().ends_with("the cause"), "{error}");
    assert_eq!(error.failed_count(), 6, "{error}");
    Verdict::Passed
}
