//! A pool's worker killed at each step of its life, whichever way it was made: no job is lost, none is settled twice, no shared buffer is spoilt
//! or lost, and another worker takes its place.
//!
//! `cargo xtask kill-points` does it more often: `MULTI_KILLS` says how often.

use crate::support::Test;
use crate::tests;
use multi_proc::{
    BuildError, KillPoint, Pool, PoolBuilder, PoolStatus, Result, SharedBuffer, SharedBufferMut,
    kill_at,
};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &tests![kill_points_of_a_worker_cost_no_job];

/// Of each point, for each way, unless `MULTI_KILLS` says otherwise.
const KILLS: u64 = 1;
const WORKERS: usize = 2;
/// Of a round, by a map; and by calls, from another thread.
const MAPPED: u64 = 6;
const CALLED: u64 = 3;
/// Jobs that a worker does before it leaves, where leaving is what it is killed at; else it has no end.
const SHARE: u64 = 4;

/// Bytes of shared buffers, each of which has a page: as many as a round may need at once, and not many more.
const SHARED: usize = 64 * 4096;

/// A job: its number, also in a shared buffer, at which point the process is to be killed and which one.
type Job = (u64, SharedBuffer<u64>, usize, u32);

/// Takes a moment, so that whoever waits for it lies down. Returns what it was given and what it made.
fn work((number, given, point, victim): Job) -> Result<[SharedBuffer<u64>; 2]> {
    if std::process::id() == victim {
        kill_at(KillPoint::ALL[point]);
    }
    assert!(is_of(&given, number));
    std::thread::sleep(Duration::from_micros(200));
    let mut made = SharedBufferMut::new(100)?;
    made.fill(3 * number + 1);
    Ok([given, made.freeze()])
}

fn is_of(buffer: &SharedBuffer<u64>, number: u64) -> bool {
    buffer.len() == 100 && buffer.iter().all(|n| *n == number)
}

fn is_right([given, made]: &[SharedBuffer<u64>; 2], number: u64) -> bool {
    is_of(given, number) && is_of(made, 3 * number + 1)
}

/// All that a process may have at once.
fn all_of_it(_: ()) -> Result<usize> {
    Ok(SharedBufferMut::<u8>::new(SHARED)?.len())
}

/// Whether a worker killed at `point` leaves a job behind that it began, or was about to.
fn costs_an_attempt(point: KillPoint) -> bool {
    use KillPoint::{
        Acknowledged, ArgsCopied, Begun, BufferAttached, BufferClaimed, BufferGiven, BufferLetGo,
        BuffersListed, Claimed, ValueWritten,
    };
    let buffers = [
        BufferAttached,
        BufferClaimed,
        BuffersListed,
        BufferGiven,
        BufferLetGo,
    ];
    let others = [Claimed, Acknowledged, Begun, ArgsCopied, ValueWritten];
    buffers.contains(&point) || others.contains(&point)
}

type Make = fn(PoolBuilder) -> std::result::Result<Pool, BuildError>;

const WAYS: [(&str, Make); 3] = [
    ("fork", fork),
    ("zygote", PoolBuilder::zygote),
    ("spawn", PoolBuilder::spawn),
];

#[expect(unsafe_code, reason = "a pool of forked workers")]
fn fork(builder: PoolBuilder) -> std::result::Result<Pool, BuildError> {
    // SAFETY: the tests' other threads hold no lock that a job takes.
    unsafe { builder.fork() }
}

fn kill_points_of_a_worker_cost_no_job() {
    let kills = std::env::var("MULTI_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    for (name, make) in WAYS {
        println!("\n    killed at, {name:<8} kills   jobs  done again");
        for (index, point) in KillPoint::ALL.into_iter().enumerate() {
            let jobs = kill_at_point(make, index, kills);
            let again = if costs_an_attempt(point) { kills } else { 0 };
            let point = format!("{point:?}");
            println!("    {point:<19} {kills:5} {jobs:6} {again:11}");
        }
    }
}

/// Jobs done until so many workers were killed at the point.
fn kill_at_point(make: Make, point: usize, kills: u64) -> u64 {
    let is_about_leaving = KillPoint::ALL[point] == KillPoint::Left;
    let builder = Pool::builder().workers(WORKERS).shared_bytes_max(SHARED);
    let builder = if is_about_leaving {
        builder.recycle_after(SHARE)
    } else {
        builder
    };
    let pool = make(builder).unwrap();
    let mut jobs = 0;
    for kill in 1..=kills {
        let victim = pool.worker_pids()[kill as usize % WORKERS];
        let begun = Instant::now();
        while pool.status().deaths < kill {
            // Where it does its share without a death, another is the next victim.
            let victim = if is_about_leaving {
                pool.worker_pids()[0]
            } else {
                victim
            };
            jobs += round(&pool, point, victim);
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "never came to it: {:?}",
                pool.status()
            );
        }
        // The pool is whole again.
        let status = whole(&pool);
        assert_eq!(status.deaths, kill, "{status:?}");
        let is_over = (status.started, status.queued, status.running);
        assert_eq!(is_over, (status.finished, 0, 0), "{status:?}");
        assert_eq!(status.finished, jobs, "{status:?}");
        if !is_about_leaving {
            assert!(!pool.worker_pids().contains(&victim));
        }
        let again = if costs_an_attempt(KillPoint::ALL[point]) {
            kill
        } else {
            0
        };
        assert_eq!(status.retried, again, "{status:?}");
        // Nor is any memory lost, in any process.
        assert_eq!(pool.buffer::<u8>(SHARED).unwrap().len(), SHARED);
    }
    for _ in 0..4 {
        assert_eq!(pool.call(all_of_it, ()).unwrap(), SHARED);
    }
    pool.shutdown().unwrap();
    jobs
}

fn whole(pool: &Pool) -> PoolStatus {
    loop {
        let status = pool.status();
        if status.workers == WORKERS {
            return status;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Jobs from two threads, each of which gets each of its values once.
fn round(pool: &Pool, point: usize, victim: u32) -> u64 {
    let job = |number: u64| {
        let mut given = pool.buffer(100).unwrap();
        given.fill(number);
        (number, given.freeze(), point, victim)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 100..100 + CALLED {
                assert!(is_right(&pool.call(work, job(number)).unwrap(), number));
            }
        });
        let mut seen = [false; MAPPED as usize];
        for (index, value) in pool.map_unordered(work, (0..MAPPED).map(job)) {
            assert!(!std::mem::replace(&mut seen[index], true), "{index} twice");
            assert!(is_right(&value.unwrap(), index as u64));
        }
        assert!(seen.iter().all(|seen| *seen));
    });
    MAPPED + CALLED
}
