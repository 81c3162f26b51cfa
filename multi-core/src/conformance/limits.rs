//! How many tasks run at once.

use super::tally::Tally;
use super::{NO_SHARED_MEMORY, Subject, Verdict, group, rule_list, with};
use crate::group::{Group, Spawner, Tasks};
use crate::options::{GroupOptions, TaskOptions};
use std::time::Duration;

rule_list![
    limit_is_never_exceeded,
    limit_is_used_to_the_full,
    go_at_the_limit_waits_for_room,
    huge_limit_is_no_limit,
    limit_of_zero_is_refused,
    group_name_with_a_nul_is_refused,
    group_name_stands_in_its_error,
    go_from_inside_a_full_group_does_not_deadlock,
    join_from_inside_a_full_group_does_not_deadlock,
    go_from_a_nested_group_into_its_full_outer_group_does_not_deadlock,
    failed_task_gives_its_room_back,
    queued_tasks_keep_to_the_limit,
];

/// How many tasks were between their `(` and their `)` at once, at most.
fn depth_max(marks: &[u8]) -> usize {
    let (mut depth, mut depth_max) = (0_usize, 0);
    for mark in marks {
        match mark {
            b'(' => depth += 1,
            _ => depth -= 1,
        }
        depth_max = depth_max.max(depth);
    }
    depth_max
}

/// With `limit(n)` no more than n tasks run at any time.
fn limit_is_never_exceeded<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let mut group = with::<S>(GroupOptions::new().limit(3));
    for _ in 0..30 {
        let marker = tally.marker();
        group.go(move || {
            marker.mark(b'(');
            S::sleep(Duration::from_millis(1));
            marker.mark(b')');
            Ok(())
        });
    }
    assert!(group.wait().is_ok());
    let marks = tally.marks();
    assert_eq!(marks.len(), 60);
    assert!(
        depth_max(&marks) <= 3,
        "{}",
        String::from_utf8_lossy(&marks)
    );
    Verdict::Passed
}

/// With `limit(n)` n tasks do run at once: they wait for each other.
fn limit_is_used_to_the_full<S: Subject>() -> Verdict {
    let flags = [S::flag(), S::flag(), S::flag()];
    let mut group = with::<S>(GroupOptions::new().limit(3));
    for own in 0..3 {
        let flags = flags.clone();
        group.go(move || {
            flags[own].cancel();
            flags.iter().for_each(|flag| flag.wait());
            Ok(())
        });
    }
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A `go` at the limit returns once a task has ended, not before.
fn go_at_the_limit_waits_for_room<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let mut group = with::<S>(GroupOptions::new().limit(1));
    let marker = tally.marker();
    group.go(move || {
        S::sleep(Duration::from_millis(20));
        marker.mark(b'1');
        Ok(())
    });
    group.go(|| Ok(()));
    tally.marker().mark(b'2');
    assert!(group.wait().is_ok());
    assert_eq!(tally.marks(), b"12");
    Verdict::Passed
}

/// A limit that no machine reaches costs nothing and limits nothing.
fn huge_limit_is_no_limit<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(usize::MAX));
    for _ in 0..8 {
        group.go(|| Ok(()));
    }
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A limit of 0 is refused when the group is built, with the remedy.
fn limit_of_zero_is_refused<S: Subject>() -> Verdict {
    let error = S::group(GroupOptions::new().limit(0))
        .err()
        .expect("a limit of 0 was taken");
    assert_eq!(
        error.to_string(),
        "limit 0 would never start a task; give at least 1, or no limit at all"
    );
    Verdict::Passed
}

/// A group's name with a NUL is refused when the group is built.
fn group_name_with_a_nul_is_refused<S: Subject>() -> Verdict {
    let error = S::group(GroupOptions::new().name("a\0b"))
        .err()
        .expect("a NUL was taken");
    assert!(
        error.to_string().contains("contains a NUL; leave it out"),
        "{error}"
    );
    Verdict::Passed
}

/// The group's name opens its error.
fn group_name_stands_in_its_error<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().name("thumbnails"));
    group.go(|| Err("on purpose")?);
    let error = group.wait().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("group \"thumbnails\": task 0 ("),
        "{error}"
    );
    Verdict::Passed
}

/// A task of a full group may call `go` on it: the new task waits, its parent does not.
fn go_from_inside_a_full_group_does_not_deadlock<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    fn spread<G: Spawner>(spawner: &G, levels: u32) -> crate::Result {
        if levels > 0 {
            for _ in 0..2 {
                let next = spawner.clone();
                spawner.go(move || spread(&next, levels - 1));
            }
        }
        Ok(())
    }
    let mut group = with::<S>(GroupOptions::new().limit(1));
    let spawner = group.spawner();
    group.go(move || spread(&spawner, 6));
    assert!(group.wait().is_ok());
    assert_eq!(group.progress().finished, 127);
    Verdict::Passed
}

/// A task of a full group may join a task it started there: it lends it its room while it waits.
fn join_from_inside_a_full_group_does_not_deadlock<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    use std::sync::Arc;
    let group = Arc::new(std::sync::Mutex::new(with::<S>(
        GroupOptions::new().limit(1),
    )));
    let inner = Arc::clone(&group);
    let ended = S::flag();
    let told = ended.clone();
    crate::lock::lock(&group).go(move || {
        let handle = crate::group::Spawn::<u64>::spawn(&*crate::lock::lock(&inner), || Ok(7));
        drop(inner);
        let value = handle.join();
        told.cancel();
        assert_eq!(value?, 7);
        Ok(())
    });
    ended.wait();
    assert!(crate::lock::lock(&group).wait().is_ok());
    Verdict::Passed
}

/// A task in a group inside a task may call `go` on the outer, full group.
fn go_from_a_nested_group_into_its_full_outer_group_does_not_deadlock<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    let mut outer = with::<S>(GroupOptions::new().limit(1));
    let spawner = outer.spawner();
    outer.go(move || {
        let mut inner = group::<S>();
        inner.go(move || {
            spawner.go(|| Ok(()));
            Ok(())
        });
        inner.wait()?;
        Ok(())
    });
    assert!(outer.wait().is_ok());
    assert_eq!(outer.progress().finished, 2);
    Verdict::Passed
}

/// A task that fails or panics makes room like any other.
fn failed_task_gives_its_room_back<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1));
    group.go(|| Err("on purpose")?);
    group.go(|| panic!("on purpose"));
    group.go_with(TaskOptions::new().name("c"), || Ok(()));
    assert_eq!(group.wait().unwrap_err().failed_count(), 2);
    Verdict::Passed
}

/// Tasks that waited in the queue keep to the limit too.
fn queued_tasks_keep_to_the_limit<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        return NO_SHARED_MEMORY;
    }
    let tally = Tally::new();
    let mut group = with::<S>(GroupOptions::new().limit(2));
    let (spawner, marker) = (group.spawner(), tally.marker());
    group.go(move || {
        marker.mark(b'(');
        for _ in 0..20 {
            let marker = marker.clone();
            spawner.go(move || {
                marker.mark(b'(');
                S::sleep(Duration::from_millis(1));
                marker.mark(b')');
                Ok(())
            });
        }
        marker.mark(b')');
        Ok(())
    });
    assert!(group.wait().is_ok());
    let marks = tally.marks();
    assert_eq!(marks.len(), 42);
    assert!(
        depth_max(&marks) <= 2,
        "{}",
        String::from_utf8_lossy(&marks)
    );
    Verdict::Passed
}
