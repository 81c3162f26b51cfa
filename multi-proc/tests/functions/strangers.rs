//! Process numbers are used again: no signal that was meant for a task reaches a stranger who has its number by now.

use crate::support::{self, Test, sys};
use crate::tests;
use multi_proc::{CancelToken, Pool, TaskErrorKind, TaskOptions};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    signal_for_a_task_reaches_no_stranger_with_its_number,
    signal_for_a_worker_reaches_no_stranger_with_its_number,
];

/// The children of this process, zygote and zombies included.
fn children() -> BTreeSet<u32> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let list = std::fs::read_to_string(path).unwrap();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// The child that `start` starts.
fn child_of(start: impl FnOnce()) -> u32 {
    let before = children();
    start();
    let started: Vec<u32> = children().difference(&before).copied().collect();
    assert_eq!(started.len(), 1);
    started[0]
}

/// The task was over before its number could be given to another.
#[derive(Debug)]
struct TooLate;

/// Kills a child, collects it as if it were the program's own, and has its number given to somebody else. None where this process may not
/// say which number that gets.
fn replace(pid: u32) -> Result<Option<sys::Stranger>, TooLate> {
    // It may have ended by itself.
    sys::try_kill(pid, sys::SIGKILL);
    if !sys::collect(pid) {
        return Err(TooLate);
    }
    let stranger = sys::Stranger::with_number(pid);
    if stranger.is_none() {
        println!(
            "    without a stranger: only who has CAP_CHECKPOINT_RESTORE chooses process numbers"
        );
    }
    Ok(stranger)
}

fn hang(_: ()) -> multi_proc::Result {
    loop {
        std::thread::park();
    }
}

/// Every way in which a group comes to signal its tasks.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Cancel,
    TimeLimit(Duration),
    Drop,
}

fn options(reason: Reason) -> TaskOptions {
    match reason {
        Reason::TimeLimit(limit) => TaskOptions::new().timeout(limit),
        Reason::Cancel | Reason::Drop => TaskOptions::new(),
    }
}

/// Plays `scene` for every reason. A time limit ends a task on its own, on a busy machine before its number is another's: then once more, with
/// more time.
fn for_each_reason(scene: impl Fn(Reason) -> Result<(), TooLate>) {
    scene(Reason::Cancel).unwrap();
    scene(Reason::Drop).unwrap();
    let mut limits = [100, 1_000, 10_000].map(Duration::from_millis).into_iter();
    assert!(limits.any(|limit| scene(Reason::TimeLimit(limit)).is_ok()));
}

/// Signals the task that was replaced, and another one that is there; waits until that has ended, which is later.
fn signal<G>(
    mut group: G,
    reason: Reason,
    token: &CancelToken,
    wait: fn(&mut G) -> multi_proc::GroupError,
) {
    match reason {
        Reason::Cancel => token.cancel(),
        Reason::TimeLimit(_) => {}
        Reason::Drop => return drop(group),
    }
    let error = wait(&mut group);
    let lost = |kind: &TaskErrorKind| matches!(kind, TaskErrorKind::Lost);
    let lost = error.failures().iter().filter(|one| lost(one.kind()));
    // One that was cancelled or late may be called that, whoever collected it.
    assert!(lost.count() <= 1 && error.failed_count() == 2, "{error}");
}

fn signal_for_a_task_reaches_no_stranger_with_its_number() {
    for_each_reason(|reason| {
        let group = support::build(support::quick());
        let start = || group.go_with(options(reason), || hang(()));
        let (first, _) = (child_of(start), child_of(start));
        let stranger = replace(first)?;
        let token = group.cancel_token();
        signal(group, reason, &token, |group| group.wait().unwrap_err());
        assert!(stranger.is_none_or(|one| one.is_unharmed()), "{reason:?}");
        Ok(())
    });
    for_each_reason(|reason| {
        let group = support::quick().spawn().unwrap();
        let start = || drop(group.spawn_fn_with(options(reason), hang, ()));
        let (first, _) = (child_of(start), child_of(start));
        let stranger = replace(first)?;
        let token = group.cancel_token();
        signal(group, reason, &token, |group| group.wait().unwrap_err());
        assert!(
            stranger.is_none_or(|one| one.is_unharmed()),
            "{reason:?}, executed"
        );
        Ok(())
    });
}

fn signal_for_a_worker_reaches_no_stranger_with_its_number() {
    for_each_reason(|reason| {
        let builder = Pool::builder().workers(1).attempts(1);
        let mut pool = builder.grace(Duration::from_millis(100)).spawn().unwrap();
        let handle = pool.spawn_fn_with(options(reason), hang, ());
        while pool.status().running == 0 && !handle.is_finished() {
            std::thread::yield_now();
        }
        let worker = pool.worker_pids().first().copied();
        let stranger = replace(worker.ok_or(TooLate)?)?;
        match reason {
            Reason::Cancel => {
                pool.cancel();
                assert!(handle.join().is_err());
                assert!(pool.wait().is_err());
            }
            Reason::TimeLimit(_) => {
                assert!(handle.join().is_err());
                assert!(pool.wait().is_err());
            }
            Reason::Drop => drop((handle, pool)),
        }
        assert!(stranger.is_none_or(|one| one.is_unharmed()), "{reason:?}");
        Ok(())
    });
}
