//! The workers of a pool: killed, late, recycled, prepared; and what becomes of their jobs.

use super::{build, hang, pid, pool, shut_gate, sleep, until, wait_at_gate};
use crate::support::{Test, sys};
use crate::tests;
use multi_proc::{Pool, Priority, SharedBuffer, TaskErrorKind, TaskOptions};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    worker_that_gives_up_privileges_still_ends_with_its_parent,
    job_that_kills_its_workers_is_given_up_with_the_last_reason,
    job_of_a_killed_worker_is_done_by_another,
    workers_killed_while_nobody_looks_are_replaced,
    time_limit_of_a_job_costs_one_worker_and_no_other_job,
    time_limit_of_a_job_is_kept_while_nobody_waits,
    time_limit_does_not_count_the_wait_for_a_worker,
    urgent_job_of_a_killed_worker_is_not_forgotten,
    workers_are_recycled_after_their_share,
    workers_that_hold_too_much_memory_are_recycled,
    shared_memory_is_not_a_worker_s_own,
    initialiser_runs_once_per_worker,
    broken_initialiser_fails_the_jobs_with_its_error,
    initialiser_that_closes_the_pools_descriptors_is_told,
    order_of_deaths_does_not_double_a_job,
    worker_that_is_being_ended_begins_no_other_job,
];

fn die(signal: i32) -> multi_proc::Result<u64> {
    sys::raise(signal);
    sleep(60_000)
}

fn job_that_kills_its_workers_is_given_up_with_the_last_reason() {
    let pool = build(Pool::builder().workers(2).attempts(4));
    let error = pool.call(die, sys::SIGKILL).unwrap_err();
    assert_eq!(error.attempts(), 4);
    assert!(
        matches!(error.kind(), TaskErrorKind::Signaled { signal: 9, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("killed by SIGKILL, the last of 4 attempts"),
        "{error}"
    );
    assert!(error.pid().is_some());
    assert_eq!(pool.call(sleep, 0).unwrap(), 0);
    let status = pool.status();
    assert_eq!(
        (status.deaths, status.retried, status.workers),
        (4, 3, 2),
        "{status:?}"
    );
}

fn job_of_a_killed_worker_is_done_by_another() {
    let gate = shut_gate();
    let pool = pool(2);
    let handle = pool.spawn_fn(wait_at_gate, ());
    until(|| pool.status().running == 1);
    for pid in pool.worker_pids() {
        sys::kill(pid, sys::SIGKILL);
    }
    until(|| pool.status().retried == 1);
    gate.cancel();
    let by = handle.join().unwrap();
    assert!(pool.worker_pids().contains(&by));
    assert_eq!(pool.status().workers, 2);
}

fn workers_killed_while_nobody_looks_are_replaced() {
    let pool = pool(3);
    let before: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
    for pid in &before {
        sys::kill(*pid, sys::SIGKILL);
    }
    let by = pool.call(pid, ()).unwrap();
    assert!(!before.contains(&by));
    until(|| pool.status().workers == 3);
    let after: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
    assert!(before.is_disjoint(&after) && after.len() == 3);
}

fn time_limit_of_a_job_costs_one_worker_and_no_other_job() {
    let mut pool = pool(2);
    let options = TaskOptions::new().timeout(Duration::from_millis(50));
    let slow = pool.spawn_fn_with(options, hang, ());
    let others: Vec<_> = (0..20).map(|n| pool.spawn_fn(sleep, n % 5)).collect();
    assert!(slow.join().unwrap_err().is_timed_out());
    for (n, other) in (0..).zip(others) {
        assert_eq!(other.join().unwrap(), n % 5);
    }
    assert_eq!(pool.wait().unwrap_err().failed_count(), 1);
    let status = pool.status();
    assert_eq!(
        (status.deaths, status.retried, status.workers),
        (1, 0, 2),
        "{status:?}"
    );
}

fn time_limit_of_a_job_is_kept_while_nobody_waits() {
    let mut pool = pool(1);
    let pid = pool.worker_pids()[0];
    let options = TaskOptions::new().timeout(Duration::from_millis(30));
    let handle = pool.spawn_fn_with(options, hang, ());
    // Until the clock's thread has had it ended and collected.
    until(|| !sys::exists(pid));
    assert!(handle.join().unwrap_err().is_timed_out());
    assert!(pool.wait().is_err());
}

fn time_limit_does_not_count_the_wait_for_a_worker() {
    let mut pool = pool(1);
    drop(pool.spawn_fn(sleep, 600));
    let options = TaskOptions::new().timeout(Duration::from_millis(500));
    assert_eq!(pool.spawn_fn_with(options, sleep, 1).join().unwrap(), 1);
    pool.wait().unwrap();
}

fn urgent_job_of_a_killed_worker_is_not_forgotten() {
    let pool = pool(2);
    for priority in [Priority::High, Priority::Low] {
        let handle = pool.jobs().priority(priority).spawn_fn(sleep, 30);
        until(|| pool.status().running == 1 || handle.is_finished());
        for pid in pool.worker_pids() {
            sys::kill(pid, sys::SIGKILL);
        }
        assert_eq!(handle.join().unwrap(), 30);
    }
}

fn workers_are_recycled_after_their_share() {
    let pool = build(Pool::builder().workers(2).recycle_after(5));
    let pids: Vec<u32> = (0..40).map(|_| pool.call(pid, ()).unwrap()).collect();
    for pid in &pids {
        let jobs = pids.iter().filter(|other| *other == pid).count();
        assert!(jobs <= 5, "{pid} did {jobs}");
    }
    let status = pool.status();
    assert!(status.recycled >= 6 && status.deaths == 0, "{status:?}");
}

fn workers_that_hold_too_much_memory_are_recycled() {
    static HOARD: OnceLock<Vec<u8>> = OnceLock::new();
    let pool = build(Pool::builder().workers(1).recycle_above(150 << 20));
    let first = pool.call(pid, ()).unwrap();
    assert_eq!(pool.call(pid, ()).unwrap(), first);
    let hoard = |_: ()| {
        HOARD.get_or_init(|| vec![1; 200 << 20]);
        Ok(std::process::id())
    };
    assert_eq!(pool.call(hoard, ()).unwrap(), first);
    assert_ne!(pool.call(pid, ()).unwrap(), first);
    assert_eq!(pool.status().recycled, 1);
}

fn shared_memory_is_not_a_worker_s_own() {
    let builder = Pool::builder().workers(1).shared_bytes_max(256 << 20);
    let pool = build(builder.recycle_above(64 << 20));
    let zeros = pool.buffer::<u8>(100 << 20).unwrap().freeze();
    let look = |bytes: SharedBuffer| {
        assert!(bytes.iter().step_by(1 << 12).all(|byte| *byte == 0));
        Ok(std::process::id())
    };
    let first = pool.call(look, zeros.clone()).unwrap();
    assert_eq!(pool.call(look, zeros).unwrap(), first);
    assert_eq!(pool.call(pid, ()).unwrap(), first);
    assert_eq!(pool.status().recycled, 0);
}

fn initialiser_runs_once_per_worker() {
    static TOLD: OnceLock<u32> = OnceLock::new();
    let tell = || TOLD.set(std::process::id()).map_err(|_| "twice".into());
    let tell_number = |number: u32| TOLD.set(number).map_err(|_| "twice".into());
    let builder = || Pool::builder().workers(2).in_worker(tell);
    // The later one stands.
    let with_function = builder().in_worker_fn(tell_number, 7);
    for (builder, told) in [(builder(), None), (with_function, Some(7))] {
        let pool = build(builder);
        for _ in 0..20 {
            let (here, pid) = pool
                .call(|()| Ok((TOLD.get().copied(), std::process::id())), ())
                .unwrap();
            assert_eq!(here, Some(told.unwrap_or(pid)));
        }
        assert_eq!(pool.status().deaths, 0);
    }
    assert!(TOLD.get().is_none(), "in the workers, not here");
}

fn broken_initialiser_fails_the_jobs_with_its_error() {
    let mut pool = build(
        Pool::builder()
            .workers(2)
            .in_worker(|| Err("no licence".into())),
    );
    for _ in 0..2 {
        let error = pool.call(sleep, 1).unwrap_err();
        assert!(
            error.is_start() && error.to_string().contains("no licence"),
            "{error}"
        );
    }
    let error = pool.spawn_fn(sleep, 1).join().unwrap_err();
    assert!(error.is_start(), "{error}");
    assert!(pool.wait().is_err());
}

fn initialiser_that_closes_the_pools_descriptors_is_told() {
    for is_reopened in [false, true] {
        let builder = Pool::builder().workers(1).in_worker(move || {
            (3..100).for_each(sys::close);
            if is_reopened {
                // Another file in the place of each that the pool had.
                for _ in 3..100 {
                    let _open = File::open("/dev/null")?.into_raw_fd();
                }
            }
            Ok(())
        });
        let error = build(builder).call(sleep, 1).unwrap_err();
        let told = "its initialiser closed the pool's own descriptors";
        assert!(
            error.is_start() && error.to_string().contains(told),
            "{error}"
        );
    }
}

fn order_of_deaths_does_not_double_a_job() {
    // Workers die in every fifth job the first time somebody runs it: what they did before is done again, and counts once.
    let pool = build(Pool::builder().workers(2).attempts(2));
    let folder = tempdir();
    let jobs: Vec<(String, u64)> = (0..100).map(|n| (folder.clone(), n)).collect();
    let mut sum = 0;
    for (_, value) in pool.map_unordered(die_once, jobs) {
        sum += value.unwrap();
    }
    assert_eq!(sum, 4_950);
    let status = pool.status();
    assert_eq!((status.retried, status.deaths), (20, 20), "{status:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

fn die_once((folder, n): (String, u64)) -> multi_proc::Result<u64> {
    if n % 5 == 0 && File::create_new(format!("{folder}/{n}")).is_ok() {
        sys::raise(sys::SIGKILL);
    }
    Ok(n)
}

fn worker_that_is_being_ended_begins_no_other_job() {
    let mut pool = pool(1);
    let folder = tempdir();
    let begun = format!("{folder}/begun");
    let options = TaskOptions::new().timeout(Duration::from_millis(10));
    let late = pool.spawn_fn_with(options, end_once_told_to, ());
    let once = pool.jobs().attempts(1).spawn_fn(begin, begun.clone());
    once.join().unwrap();
    assert_eq!(std::fs::read_to_string(begun).unwrap(), "begun\n");
    // It was too late, and ended all the same.
    drop((late.join(), pool.wait()));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Holds SIGTERM back and returns when it has come, before SIGKILL does.
fn end_once_told_to(_: ()) -> multi_proc::Result<()> {
    sys::block(sys::SIGTERM, true);
    let bit = 1 << (sys::SIGTERM - 1);
    let pending = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    until(|| pending() & bit != 0);
    Ok(())
}

/// Leaves a line behind, and takes longer than it takes for SIGKILL to follow.
fn begin(path: String) -> multi_proc::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    writeln!(file, "begun")?;
    sleep(400)?;
    Ok(())
}

fn tempdir() -> String {
    let folder = std::env::temp_dir().join(format!("multi-pool-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn worker_that_gives_up_privileges_still_ends_with_its_parent() {
    let give_up = || {
        sys::become_nobody();
        Ok(())
    };
    let mut pool = build(Pool::builder().workers(1).in_worker(give_up));
    let tied_by = pool.call(|(): ()| Ok(sys::parent_death_signal()), ());
    assert_ne!(tied_by.unwrap(), 0);
    pool.wait().unwrap();
}
