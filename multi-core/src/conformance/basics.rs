//! Starting tasks and waiting for them.

use super::tally::Tally;
use super::{NO_SHARED_MEMORY, Subject, Verdict, group, rule_list, with};
use crate::cancel::CancelToken;
use crate::dyn_group::DynGroup;
use crate::error::TryGoReason;
use crate::group::{Group, Spawn, Spawner, Tasks};
use crate::options::{GroupOptions, TaskOptions};
use std::sync::Arc;

rule_list![
    group_without_tasks_waits_for_nothing,
    one_task_runs_once,
    ten_thousand_tasks_all_run,
    group_is_reused_after_wait,
    go_does_not_wait_for_its_task,
    tasks_wait_for_each_other,
    task_gives_up_what_it_captured,
    nested_groups_wait_for_their_own,
    task_starts_tasks_in_its_own_group,
    wait_covers_tasks_started_by_tasks,
    spawner_works_from_another_thread,
    spawner_of_a_dropped_group_is_refused,
    try_go_starts_where_there_is_room,
    try_go_gives_the_task_back_at_the_limit,
    try_go_after_cancel_gives_the_task_back,
    dyn_group_runs_tasks_of_any_backend,
    dyn_try_go_gives_the_task_back,
    progress_counts_every_task_once,
];

/// Waiting for a group that never started a task returns at once.
fn group_without_tasks_waits_for_nothing<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    assert!(group.wait().is_ok());
    assert!(group.wait().is_ok());
    drop(super::group::<S>());
    Verdict::Passed
}

/// A task runs exactly once, before `wait` returns.
fn one_task_runs_once<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let marker = tally.marker();
    let mut group = group::<S>();
    group.go(move || {
        marker.mark(b'x');
        Ok(())
    });
    assert!(group.wait().is_ok());
    assert_eq!(tally.marks(), b"x");
    Verdict::Passed
}

/// Ten thousand tasks of one group all run, each once.
fn ten_thousand_tasks_all_run<S: Subject>() -> Verdict {
    let tally = Tally::new();
    // Threads and processes are not free to have ten thousand of at once: that is what a limit is for.
    let mut group = with::<S>(GroupOptions::new().limit(256));
    for _ in 0..10_000 {
        let marker = tally.marker();
        group.go(move || {
            marker.mark(b'x');
            Ok(())
        });
    }
    assert!(group.wait().is_ok());
    assert_eq!(tally.marks().len(), 10_000);
    Verdict::Passed
}

/// After `wait` the group takes new tasks, and the next `wait` speaks of those alone.
fn group_is_reused_after_wait<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    for round in 0..20 {
        group.go(move || if round % 2 == 0 { Ok(()) } else { Err("odd")? });
        assert_eq!(group.wait().is_ok(), round % 2 == 0, "round {round}");
    }
    assert!(group.wait().is_ok(), "a failure was reported twice");
    Verdict::Passed
}

/// `go` returns while its task still waits.
fn go_does_not_wait_for_its_task<S: Subject>() -> Verdict {
    let flag = S::flag();
    let mut group = group::<S>();
    for _ in 0..8 {
        let flag = flag.clone();
        group.go(move || {
            flag.wait();
            Ok(())
        });
    }
    flag.cancel();
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// Tasks of one group make progress side by side: each of a ring waits for the one before it.
fn tasks_wait_for_each_other<S: Subject>() -> Verdict {
    let flags: Vec<CancelToken> = (0..16).map(|_| S::flag()).collect();
    let mut group = group::<S>();
    for pair in flags.windows(2) {
        let (before, after) = (pair[0].clone(), pair[1].clone());
        group.go(move || {
            before.wait();
            after.cancel();
            Ok(())
        });
    }
    flags[0].cancel();
    assert!(group.wait().is_ok());
    assert!(flags[15].is_cancelled());
    Verdict::Passed
}

/// What a task captured has been dropped when `wait` returns.
fn task_gives_up_what_it_captured<S: Subject>() -> Verdict {
    let shared = Arc::new(());
    let mut group = group::<S>();
    for fails in [false, true] {
        let captured = Arc::clone(&shared);
        group.go(move || {
            let _captured = captured;
            if fails { Err("on purpose")? } else { Ok(()) }
        });
    }
    assert!(group.wait().is_err());
    assert_eq!(Arc::strong_count(&shared), 1);
    Verdict::Passed
}

/// A task may have a group of its own, and that one another.
fn nested_groups_wait_for_their_own<S: Subject>() -> Verdict {
    fn descend<S: Subject>(levels: usize) -> crate::Result {
        if levels > 0 {
            let mut group = group::<S>();
            for _ in 0..2 {
                group.go(move || descend::<S>(levels - 1));
            }
            group.wait()?;
        }
        Ok(())
    }
    let mut outer = group::<S>();
    outer.go(|| descend::<S>(3));
    assert!(outer.wait().is_ok());
    Verdict::Passed
}

/// A task starts further tasks in the group it runs in.
fn task_starts_tasks_in_its_own_group<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    let tally = Tally::new();
    let mut group = group::<S>();
    let (spawner, marker) = (group.spawner(), tally.marker());
    group.go(move || {
        for _ in 0..10 {
            let marker = marker.clone();
            spawner.go(move || {
                marker.mark(b'x');
                Ok(())
            });
        }
        Ok(())
    });
    assert!(group.wait().is_ok());
    assert_eq!(tally.marks().len(), 10);
    Verdict::Passed
}

/// `wait` returns only when the tasks that tasks started have ended as well, however long the chain.
fn wait_covers_tasks_started_by_tasks<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    fn chain<G: Spawner>(spawner: &G, left: u32, last: CancelToken) -> crate::Result {
        if left == 0 {
            last.cancel();
        } else {
            let next = spawner.clone();
            spawner.go(move || chain(&next, left - 1, last));
        }
        Ok(())
    }
    let last = S::flag();
    let mut group = group::<S>();
    let (spawner, told) = (group.spawner(), last.clone());
    group.go(move || chain(&spawner, 100, told));
    assert!(group.wait().is_ok());
    assert!(last.is_cancelled());
    Verdict::Passed
}

/// A spawner starts tasks from a thread that has nothing to do with the group.
fn spawner_works_from_another_thread<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let mut group = group::<S>();
    let (spawner, marker) = (group.spawner(), tally.marker());
    let outsider = std::thread::spawn(move || {
        for _ in 0..4 {
            let marker = marker.clone();
            spawner.go(move || {
                marker.mark(b'x');
                Ok(())
            });
        }
    });
    outsider.join().expect("the outsider panicked");
    assert!(group.wait().is_ok());
    assert_eq!(tally.marks().len(), 4);
    Verdict::Passed
}

/// A spawner that outlives its group starts nothing and drops the task.
fn spawner_of_a_dropped_group_is_refused<S: Subject>() -> Verdict {
    let spawner = group::<S>().spawner();
    let shared = Arc::new(());
    let captured = Arc::clone(&shared);
    spawner.go(move || {
        let _captured = captured;
        panic!("a task of a dropped group ran");
    });
    assert_eq!(Arc::strong_count(&shared), 1);
    Verdict::Passed
}

/// `try_go` starts the task where there is room.
fn try_go_starts_where_there_is_room<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1));
    assert!(group.try_go(|| Err("ran")?).is_ok());
    assert!(group.wait().unwrap_err().to_string().contains("ran"));
    Verdict::Passed
}

/// At the limit `try_go` returns at once, with the task and the reason, and the group counts it for nothing.
fn try_go_gives_the_task_back_at_the_limit<S: Subject>() -> Verdict {
    let flag = S::flag();
    let told = flag.clone();
    let mut group = with::<S>(GroupOptions::new().limit(1));
    group.go(move || {
        told.wait();
        Ok(())
    });
    let refused = group.try_go(|| Err("came back")?).unwrap_err();
    assert!(matches!(refused.reason(), TryGoReason::AtLimit));
    assert_eq!(
        refused.to_string(),
        "the group runs as many tasks as its limit allows"
    );
    assert_eq!(refused.into_task()().unwrap_err().to_string(), "came back");
    assert_eq!(group.progress().started, 1);
    flag.cancel();
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// In a cancelled group `try_go` gives the task back and says so.
fn try_go_after_cancel_gives_the_task_back<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.cancel();
    let refused = group.try_go(|| Ok(())).unwrap_err();
    assert!(matches!(refused.reason(), TryGoReason::Cancelled));
    assert!(group.wait().is_ok(), "a task that came back is no failure");
    Verdict::Passed
}

/// `dyn DynGroup` is a `Group` again: the same function, the same failures.
fn dyn_group_runs_tasks_of_any_backend<S: Subject>() -> Verdict {
    fn any_group<G: Group + ?Sized>(group: &mut G) -> String {
        group.go_with(TaskOptions::new().name("fails"), || Err("on purpose")?);
        group.go(|| Ok(()));
        let error = group.wait().unwrap_err();
        assert_eq!((error.failed_count(), error.task_count()), (1, 2));
        assert_eq!(error.first().started_at().file(), file!());
        error.first().name().unwrap_or_default().to_owned()
    }
    let mut group = group::<S>();
    assert_eq!(any_group(&mut group), "fails");
    let chosen: &mut dyn DynGroup = &mut group;
    assert_eq!(any_group(chosen), "fails");
    Verdict::Passed
}

/// A task refused through `dyn DynGroup` comes back as what it was.
fn dyn_try_go_gives_the_task_back<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.cancel();
    let chosen: &mut dyn DynGroup = &mut group;
    let refused = chosen.try_go(|| Err("came back")?).unwrap_err();
    assert_eq!(refused.into_task()().unwrap_err().to_string(), "came back");
    Verdict::Passed
}

/// `progress` counts what was started, runs, has ended and failed.
fn progress_counts_every_task_once<S: Subject>() -> Verdict {
    let flag = S::flag();
    let mut group = group::<S>();
    for fails in [true, false, false] {
        let flag = flag.clone();
        group.go(move || {
            flag.wait();
            if fails { Err("on purpose")? } else { Ok(()) }
        });
    }
    let before = group.progress();
    assert_eq!(
        (
            before.started,
            before.running,
            before.finished,
            before.failed
        ),
        (3, 3, 0, 0)
    );
    flag.cancel();
    assert!(group.wait().is_err());
    let after = group.progress();
    assert_eq!(
        (after.started, after.running, after.finished, after.failed),
        (3, 0, 3, 1)
    );
    let value = group.spawn(|| Ok(1_u64));
    assert_eq!(value.join().expect("a value"), 1);
    assert!(group.wait().is_ok());
    assert_eq!(group.progress().finished, 4);
    Verdict::Passed
}
