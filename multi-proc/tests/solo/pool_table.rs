//! The table of deaths, for jobs of a pool; and pools of programs that collect what is not theirs.

use crate::support::{Test, quick, sys};
use crate::table::{burn, hang, overflow, row_in};
use crate::tests;
use multi_proc::{Limits, Pool, PoolBuilder, Result, TaskError, TaskErrorKind, TaskOptions};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    every_way_to_die_in_a_pool_has_its_name,
    workers_that_somebody_else_collects_are_replaced,
];

#[expect(unsafe_code, reason = "pools of forked workers")]
fn build(builder: PoolBuilder) -> Pool {
    // SAFETY: the tests' other threads hold no lock that a job takes.
    unsafe { builder.grace(Duration::from_millis(100)).fork() }.unwrap()
}

/// A pool that does no job twice.
fn once() -> PoolBuilder {
    Pool::builder().workers(1).attempts(1)
}

fn row(way: &str, error: &TaskError, name: &str) {
    row_in("pool", way, error, name);
}

fn within(limits: Limits, job: fn(()) -> Result) -> TaskError {
    build(once().limits(limits)).call(job, ()).unwrap_err()
}

/// A value that kills the process that writes it down.
struct Killer;

impl serde::Serialize for Killer {
    fn serialize<S: serde::Serializer>(
        &self,
        _serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        sys::raise(sys::SIGKILL);
        unreachable!("survived SIGKILL")
    }
}

impl<'de> serde::Deserialize<'de> for Killer {
    fn deserialize<D: serde::Deserializer<'de>>(
        _deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        Ok(Self)
    }
}

fn every_way_to_die_in_a_pool_has_its_name() {
    println!();
    type Death = (&'static str, &'static str, fn(()) -> Result);
    const DEATHS: [Death; 10] = [
        ("returns an error", "out of luck", |()| Err("out of luck")?),
        (
            "panics",
            "panicked at multi-proc/tests/solo/pool_table.rs:",
            |()| panic!("on purpose"),
        ),
        (
            "exit(0)",
            "left its process with exit code 0 before it ended",
            |()| std::process::exit(0),
        ),
        (
            "_exit(255)",
            "left its process with exit code 255 before it ended",
            |()| sys::exit_now(255),
        ),
        ("abort", "killed by SIGABRT", |()| std::process::abort()),
        (
            "overflows its stack",
            "went over its limit: the stack of one of its threads overflowed",
            |()| {
                overflow(0);
                Ok(())
            },
        ),
        ("reads where nothing is", "killed by SIGSEGV", |()| {
            sys::segfault();
            Ok(())
        }),
        ("SIGKILL", "killed by SIGKILL", |()| {
            sys::raise(sys::SIGKILL);
            Ok(())
        }),
        ("SIGTERM", "killed by SIGTERM", |()| {
            sys::raise(sys::SIGTERM);
            Ok(())
        }),
        ("signal 40", "killed by signal 40", |()| {
            sys::raise(40);
            Ok(())
        }),
    ];
    let pool = build(once());
    for (way, name, job) in DEATHS {
        row(way, &pool.call(job, ()).unwrap_err(), name);
    }
    let error = pool.call(|()| Ok(Killer), ()).map(drop).unwrap_err();
    row("is killed while it reports", &error, "killed by SIGKILL");
    let options = TaskOptions::new().timeout(Duration::from_millis(20));
    let error = pool.call_with(options, |()| hang(), ()).unwrap_err();
    row("takes too long", &error, "timed out after ");
    by_limit();
    by_others();
}

fn by_limit() {
    let memory = Limits::new().memory_bytes_max(16 << 20);
    let error = within(memory, |()| {
        black_box(vec![1_u8; 64 << 20]);
        Ok(())
    });
    row(
        "runs out of memory",
        &error,
        "went over its limit: memory_bytes_max 16 MiB",
    );
    let cpu_time = Limits::new().cpu_time_max(Duration::from_millis(50));
    row(
        "runs out of processor time",
        &within(cpu_time, |()| burn()),
        "went over its limit: cpu_time_max 50ms",
    );
    let pool = build(once().value_bytes_max(10));
    let error = pool.call(|()| Ok([7_u64; 30].to_vec()), ()).unwrap_err();
    row(
        "returns too large a value",
        &error,
        "went over its limit: its value takes 31 bytes",
    );
}

fn by_others() {
    let mut pool = build(once());
    let handle = pool.spawn_fn(|()| hang(), ());
    while pool.status().running == 0 {
        std::thread::yield_now();
    }
    pool.cancel();
    row("is cancelled", &handle.join().unwrap_err(), "cancelled");
    assert!(pool.wait().is_err());
    pool.cancel();
    let error = pool.spawn_fn(|()| Ok(()), ()).join().unwrap_err();
    row(
        "is cancelled before it starts",
        &error,
        "not started: its group was cancelled",
    );
    let error = pool.call(|()| Ok(()), ()).unwrap_err();
    row("is called when all are cancelled", &error, "cancelled");
    assert!(pool.wait().is_err());
    let pool = build(once().in_worker(|| sys::exit_now(3)));
    let error = pool.call(|()| Ok(()), ()).unwrap_err();
    row("has no worker that begins", &error, "could not start: ");
    assert!(error.to_string().contains("exit code 3"), "{error}");
    let pool = build(once());
    sys::ignore(sys::SIGCHLD, true);
    let error = pool
        .call(|()| -> Result { sys::exit_now(5) }, ())
        .unwrap_err();
    sys::ignore(sys::SIGCHLD, false);
    row(
        "is collected by somebody else",
        &error,
        "lost: what became of it cannot be known",
    );
}

fn workers_that_somebody_else_collects_are_replaced() {
    /// Every seventh kills its worker the first time.
    fn job((n, first): (u64, u32)) -> Result<u64> {
        if n % 7 == 0 && std::process::id() == first {
            sys::raise(sys::SIGKILL);
        }
        Ok(n)
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: a flag on its own.
            while !is_over.load(Ordering::Relaxed) {
                sys::stray_look();
                std::thread::yield_now();
            }
        });
        for is_ignored in [false, true] {
            sys::ignore(sys::SIGCHLD, is_ignored);
            let pool = build(Pool::builder().workers(2));
            for round in 1..=10 {
                let first = pool.worker_pids()[0];
                let values = pool.map(job, (0..40).map(|n| (n, first))).unwrap();
                assert_eq!(values, Vec::from_iter(0..40), "round {round}");
                while pool.status().workers < 2 {
                    std::thread::yield_now();
                }
            }
            let error = pool
                .call(|()| -> Result { sys::exit_now(5) }, ())
                .unwrap_err();
            let is_known = matches!(error.kind(), TaskErrorKind::Exited(5));
            let is_lost = matches!(error.kind(), TaskErrorKind::Lost);
            assert!(is_lost || (is_known && !is_ignored), "{error}");
            assert_eq!(error.attempts(), 3);
            pool.shutdown().unwrap();
            // The same of a group: no hang, whatever is known.
            let mut group = crate::support::build(quick());
            group.go(|| Ok(()));
            group.go(|| sys::exit_now(5));
            assert_eq!(group.wait().unwrap_err().failed_count(), 1);
        }
        sys::ignore(sys::SIGCHLD, false);
        is_over.store(true, Ordering::Relaxed);
    });
}
