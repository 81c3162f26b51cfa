//! Pools: values, failures, limits, and what is left when they are gone. What is about their workers is in `workers`.

pub(crate) mod workers;

use crate::support::{Residue, Test, sys};
use crate::tests;
use multi_proc::{CancelToken, Output, Pool, PoolBuilder, Priority, TaskErrorKind, shared_token};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &tests![
    values_of_any_size_come_home,
    errors_panics_and_exits_are_told_to_the_caller_alone,
    full_queue_gives_arguments_back_and_waits_no_longer_than_told,
    urgent_jobs_come_first_and_low_ones_last,
    arguments_and_values_beyond_their_limit_fail_that_job_alone,
    cancel_takes_jobs_back_and_ends_the_running_one,
    shutdown_does_what_was_asked_for_first,
    shutdown_now_ends_what_runs,
    map_keeps_the_order_and_stops_at_a_failure,
    unordered_values_come_as_they_are_ready,
    threads_share_a_pool,
    threads_wait_in_turn_for_the_only_place,
    pool_in_a_child_refuses_and_names_both,
    idle_pool_leaves_nothing_behind,
    ten_thousand_jobs_leave_nothing_behind,
    unordered_takes_no_more_items_than_it_can_hold,
    call_for_a_passed_line_is_refused_before_it_begins,
];

#[expect(unsafe_code, reason = "pools of forked workers")]
fn build(builder: PoolBuilder) -> Pool {
    // SAFETY: the tests' other threads hold no lock that a job takes.
    unsafe { builder.grace(Duration::from_millis(100)).fork() }.unwrap()
}

fn pool(workers: usize) -> Pool {
    build(Pool::builder().workers(workers))
}

fn pid(_: ()) -> multi_proc::Result<u32> {
    Ok(std::process::id())
}

fn sleep(ms: u64) -> multi_proc::Result<u64> {
    std::thread::sleep(Duration::from_millis(ms));
    Ok(ms)
}

fn hang(_: ()) -> multi_proc::Result<()> {
    loop {
        std::thread::park();
    }
}

/// What jobs of pools made afterwards wait for: shut until it is cancelled. One test at a time uses it.
static GATE: Mutex<Option<CancelToken>> = Mutex::new(None);

fn shut_gate() -> CancelToken {
    let gate = shared_token().unwrap();
    *GATE.lock().unwrap() = Some(gate.clone());
    gate
}

/// A job that waits until the gate is open.
fn wait_at_gate(_: ()) -> multi_proc::Result<u32> {
    let gate = GATE.lock().unwrap().clone();
    gate.ok_or("no gate")?.wait();
    pid(())
}

/// Looks until `is_so`; the watchdog of the tests ends a look that is in vain.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn values_of_any_size_come_home() {
    let pool = pool(2);
    for len in [0, 1, 900, 959, 960, 961, 5_000, 70_000, 300_000, 3_000_000] {
        let text = "x".repeat(len);
        let back = pool
            .call(|text: String| Ok(text + "!"), text.clone())
            .unwrap();
        assert_eq!(back, text + "!", "{len} bytes");
    }
    let pair = pool
        .call(|(a, b): (u8, Vec<u64>)| Ok((b, a)), (7, vec![1, 2]))
        .unwrap();
    assert_eq!(pair, (vec![1, 2], 7));
}

fn errors_panics_and_exits_are_told_to_the_caller_alone() {
    let mut pool = pool(2);
    let error = pool
        .call(
            |n: u32| -> multi_proc::Result { Err(format!("no {n}"))? },
            7,
        )
        .unwrap_err();
    assert!(error.to_string().ends_with("): no 7"), "{error}");
    assert!(error.to_string().contains("(pool, pid ") && error.attempts() == 1);
    let error = pool
        .call(|n: u32| -> multi_proc::Result { panic!("oh {n}") }, 8)
        .unwrap_err();
    assert!(
        error.is_panicked() && error.to_string().contains("oh 8"),
        "{error}"
    );
    let error = pool
        .jobs()
        .attempts(1)
        .call(
            |code: i32| -> multi_proc::Result { std::process::exit(code) },
            9,
        )
        .unwrap_err();
    assert!(matches!(error.kind(), TaskErrorKind::Exited(9)), "{error}");
    assert!(!error.to_string().contains("attempts"), "{error}");
    pool.wait().unwrap();
    drop(pool.spawn_fn(|()| -> multi_proc::Result { Err("told by wait")? }, ()));
    assert!(
        pool.wait()
            .unwrap_err()
            .to_string()
            .contains("told by wait")
    );
    assert_eq!(pool.status().deaths, 1);
}

fn full_queue_gives_arguments_back_and_waits_no_longer_than_told() {
    let gate = shut_gate();
    let mut pool = build(Pool::builder().workers(1).queue(2));
    for _ in 0..3 {
        drop(pool.spawn_fn(wait_at_gate, ()));
    }
    let refused = pool.jobs().try_spawn_fn(sleep, 5).unwrap_err();
    assert!(refused.is_full() && !refused.is_cancelled());
    assert_eq!(refused.into_args(), 5);
    let (start, limit) = (Instant::now(), Duration::from_millis(10));
    let refused = pool.jobs().spawn_fn_timeout(limit, sleep, 6).unwrap_err();
    assert!(refused.is_full() && start.elapsed() >= limit);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            gate.cancel();
        });
        // Waits for room.
        assert_eq!(pool.spawn_fn(sleep, 7).join().unwrap(), 7);
    });
    pool.wait().unwrap();
}

fn urgent_jobs_come_first_and_low_ones_last() {
    let gate = shut_gate();
    let mut pool = pool(1);
    let busy = pool.spawn_fn(wait_at_gate, ());
    until(|| pool.status().running == 1);
    let start_time = |_: ()| Ok(now());
    let priorities = [Priority::Low, Priority::Usual, Priority::High];
    let handles =
        priorities.map(|priority| pool.jobs().priority(priority).spawn_fn(start_time, ()));
    gate.cancel();
    let [low, usual, high] = handles.map(|handle| handle.join().unwrap());
    assert!(high < usual && usual < low, "{high} {usual} {low}");
    busy.join().unwrap();
    // Workers that sleep hear of every lane.
    for priority in priorities {
        std::thread::sleep(Duration::from_millis(5));
        assert!(pool.jobs().priority(priority).call(start_time, ()).unwrap() > low);
    }
    pool.wait().unwrap();
}

/// Nanoseconds since this worker first asked.
fn now() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn arguments_and_values_beyond_their_limit_fail_that_job_alone() {
    let mut pool = build(
        Pool::builder()
            .workers(1)
            .args_bytes_max(1_000)
            .value_bytes_max(2_000),
    );
    let echo = |text: String| Ok(text.clone() + &text);
    let error = pool.call(echo, "x".repeat(1_000)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("take 1002 bytes, where args_bytes_max is 1000"),
        "{error}"
    );
    let error = pool
        .call(|text: String| Ok(text.repeat(3)), "x".repeat(900))
        .unwrap_err();
    assert!(
        error.to_string().contains("value_bytes_max is 2000"),
        "{error}"
    );
    assert_eq!(pool.call(echo, "x".repeat(900)).unwrap().len(), 1_800);
    let error = pool.spawn_fn(echo, "x".repeat(1_000)).join().unwrap_err();
    assert!(
        matches!(error.kind(), TaskErrorKind::LimitExceeded(_)),
        "{error}"
    );
    assert!(pool.wait().is_err());
}

fn cancel_takes_jobs_back_and_ends_the_running_one() {
    let mut pool = pool(1);
    let running = pool.spawn_fn(hang, ());
    let waiting: Vec<_> = (0..5).map(|n| pool.spawn_fn(sleep, n)).collect();
    until(|| pool.status().running == 1);
    pool.cancel();
    assert!(running.join().unwrap_err().is_cancelled());
    for handle in waiting {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    assert!(pool.call(sleep, 1).unwrap_err().is_cancelled());
    assert!(pool.spawn_fn(sleep, 1).join().unwrap_err().is_cancelled());
    assert!(
        pool.jobs()
            .try_spawn_fn(sleep, 1)
            .unwrap_err()
            .is_cancelled()
    );
    assert!(pool.wait().unwrap_err().is_cancelled());
    assert_eq!(pool.call(sleep, 1).unwrap(), 1, "the next round works");
}

fn shutdown_does_what_was_asked_for_first() {
    let pool = pool(2);
    let pids = pool.worker_pids();
    let handles: Vec<_> = (0..20).map(|n| pool.spawn_fn(sleep, n)).collect();
    pool.shutdown().unwrap();
    for (n, handle) in (0..).zip(handles) {
        assert!(handle.is_finished());
        assert_eq!(handle.join().unwrap(), n);
    }
    assert!(pids.iter().all(|pid| !sys::exists(*pid)));
}

fn shutdown_now_ends_what_runs() {
    let pool = pool(1);
    let pids = pool.worker_pids();
    let running = pool.spawn_fn(hang, ());
    let waiting = pool.spawn_fn(sleep, 1);
    until(|| pool.status().running == 1);
    let error = pool.shutdown_timeout(Duration::ZERO).unwrap_err();
    assert!(error.failed_count() == 2 && error.is_cancelled(), "{error}");
    assert!(running.join().unwrap_err().is_cancelled());
    assert!(waiting.join().unwrap_err().is_cancelled());
    assert!(pids.iter().all(|pid| !sys::exists(*pid)));
}

fn map_keeps_the_order_and_stops_at_a_failure() {
    let pool = build(Pool::builder().workers(2).queue(4));
    let squares = pool.map(|n: u64| Ok(n * n), 0..500).unwrap();
    assert!(squares.iter().zip(0..).all(|(square, n)| *square == n * n));
    assert_eq!(pool.map(|n: u64| Ok(n), []).unwrap(), [0; 0]);
    let error = pool
        .map(
            |n: u64| {
                if n < 40 {
                    Ok(n)
                } else {
                    Err(format!("{n} is too many"))?
                }
            },
            0..100_000,
        )
        .unwrap_err();
    assert!(error.to_string().contains("40 is too many"), "{error}");
    assert!(pool.status().finished < 2_000, "no more were begun");
}

fn unordered_values_come_as_they_are_ready() {
    let pool = pool(2);
    let order: Vec<usize> = pool
        .map_unordered(sleep, [300, 1])
        .map(|(index, _)| index)
        .collect();
    assert_eq!(order, [1, 0]);
    let mut seen = BTreeSet::new();
    for (index, value) in pool.map_unordered(
        |n: usize| {
            if n.is_multiple_of(7) {
                Err("seven")?
            } else {
                Ok(n)
            }
        },
        0..1_000,
    ) {
        assert!(seen.insert(index));
        assert_eq!(value.ok(), (index % 7 != 0).then_some(index));
    }
    assert_eq!(seen.len(), 1_000);
    // Dropped in the middle: the rest runs on, and nothing is left in the way.
    let mut some = pool.map_unordered(sleep, 0..50);
    assert!(some.next().is_some());
    drop(some);
    assert_eq!(pool.call(sleep, 0).unwrap(), 0);
}

fn threads_share_a_pool() {
    let pool = build(Pool::builder().workers(2).queue(1));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..200 {
                    let job = thread * 1_000 + n;
                    if n % 3 == 0 {
                        assert_eq!(
                            pool.spawn_fn(|n: u64| Ok(n + 1), job).join().unwrap(),
                            job + 1
                        );
                    } else {
                        assert_eq!(pool.call(|n: u64| Ok(n + 1), job).unwrap(), job + 1);
                    }
                }
            });
        }
    });
    assert_eq!(pool.status().finished, 800);
}

fn threads_wait_in_turn_for_the_only_place() {
    let pool = build(Pool::builder().workers(1).queue(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..500 {
                    assert_eq!(pool.call(|n: u64| Ok(n + 1), n).unwrap(), n + 1);
                }
            });
        }
    });
    assert_eq!(pool.status().finished, 2_000);
}

fn pool_in_a_child_refuses_and_names_both() {
    let pool = Arc::new(pool(1));
    let here = std::process::id();
    let mut group = crate::support::group();
    let copy = Arc::clone(&pool);
    group.go(move || {
        copy.call(sleep, 1)?;
        Ok(())
    });
    let error = group.wait().unwrap_err().to_string();
    assert!(
        error.contains(&format!("this pool belongs to process {here}")),
        "{error}"
    );
    assert_eq!(pool.call(sleep, 1).unwrap(), 1);
}

/// What the kernel holds for this process, once the clock of earlier tests has stopped.
pub(crate) fn residue() -> Residue {
    let is_clock = |task: std::io::Result<std::fs::DirEntry>| {
        let name = std::fs::read_to_string(task.unwrap().path().join("comm"));
        name.is_ok_and(|name| name.trim() == "multi-clock")
    };
    until(|| !std::fs::read_dir("/proc/self/task").unwrap().any(is_clock));
    Residue::count()
}

fn idle_pool_leaves_nothing_behind() {
    let once = || {
        let pool = pool(2);
        pool.call(sleep, 0).unwrap();
        drop(pool);
        drop(self::pool(1));
    };
    once();
    let before = residue();
    for _ in 0..20 {
        once();
    }
    assert_eq!(residue(), before);
}

fn ten_thousand_jobs_leave_nothing_behind() {
    let pool = pool(2);
    let round = |jobs: u64| {
        for (index, value) in pool.map_unordered(|n: u64| Ok(n + 1), 0..jobs) {
            assert_eq!(value.unwrap(), index as u64 + 1);
        }
    };
    round(500);
    let before = residue();
    round(10_000);
    assert_eq!(residue(), before);
}

fn unordered_takes_no_more_items_than_it_can_hold() {
    let mut pool = build(Pool::builder().workers(1).queue(3).args_bytes_max(8));
    let mut asked = 0;
    let endless = std::iter::repeat_with(|| {
        asked += 1;
        "too long for eight bytes".to_owned()
    });
    let refused = pool.map_unordered(|text: String| Ok(text), endless);
    assert!(refused.take(5).all(|(_, value)| value.is_err()));
    assert!(asked <= 5 + 2 * 4, "{asked} items");

    let mut squares = pool.map_unordered(|n: u64| Ok(n), 0..);
    assert!(squares.next().unwrap().1.is_ok());
    pool.cancel_token().cancel();
    // Some may have ended before.
    assert!(squares.any(|(_, value)| value.is_err_and(|error| error.is_cancelled())));
    drop(squares);
    let error = pool.map(|n: u64| Ok(n), 0..).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    drop(pool.wait());
}

fn call_for_a_passed_line_is_refused_before_it_begins() {
    let pool = Arc::new(pool(1));
    let said = Arc::new(Mutex::new(String::new()));
    let (kept, copy) = (Arc::clone(&said), Arc::clone(&pool));
    let output = Output::lines(move |_, _| {
        let calls = std::panic::AssertUnwindSafe(|| copy.call(sleep, 50));
        let panic = std::panic::catch_unwind(calls).unwrap_err();
        *kept.lock().unwrap() = (*panic.downcast::<&str>().unwrap()).to_owned();
    });
    let mut group = crate::support::group();
    group.task().stdout(output).go(|| {
        println!("now");
        Ok(())
    });
    group.wait().unwrap();
    drop(group);
    assert!(said.lock().unwrap().contains("must not wait for a pool"));
    // It left nothing behind that would have to be waited for.
    until(|| Arc::strong_count(&pool) == 1);
    let pool = Arc::into_inner(pool).unwrap();
    assert_eq!(pool.status().started, 0);
    pool.shutdown().unwrap();
}
