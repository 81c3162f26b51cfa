//! Workers of a pool killed at random while jobs run, and an account of every job.
//!
//! `MULTI_CHAOS_KILLS`, `MULTI_CHAOS_JOBS` and `MULTI_CHAOS_MINUTES` make it long; without them it is a second's worth of each kind of worker.
//! `MULTI_CHAOS_MODES` names the kinds, with commas, and `MULTI_SEED` gives a printed seed back.

#![expect(
    clippy::print_stdout,
    reason = "the account of what was done and what went wrong"
)]

#[path = "support/mod.rs"]
mod support;

use multi_proc::{BuildError, Pool, PoolBuilder, Priority, Result};
use std::collections::VecDeque;
use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use support::{Residue, sys};

const WORKERS: usize = 4;
/// Callers beside the one that maps.
const CALLERS: u64 = 2;
/// Handles that a caller keeps before it joins the oldest.
const HANDLES: usize = 8;
/// So long without a job that ends: a hang, on whatever machine.
const HUNG: Duration = Duration::from_secs(30);

/// How workers are started.
struct Mode {
    name: &'static str,
    make: fn(PoolBuilder) -> std::result::Result<Pool, BuildError>,
    /// Between two kills: one that is killed before it could begin says nothing of what it leaves behind.
    pause_us_max: u64,
    /// Where nothing is said.
    kills: u64,
    jobs: u64,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "fork",
        make: fork,
        pause_us_max: 3_000,
        kills: 60,
        jobs: 4_000,
    },
    Mode {
        name: "zygote",
        make: PoolBuilder::zygote,
        pause_us_max: 3_000,
        kills: 20,
        jobs: 1_000,
    },
    Mode {
        name: "spawn",
        make: PoolBuilder::spawn,
        pause_us_max: 20_000,
        kills: 20,
        jobs: 1_000,
    },
];

#[expect(unsafe_code, reason = "a pool of forked workers")]
fn fork(builder: PoolBuilder) -> std::result::Result<Pool, BuildError> {
    // SAFETY: the other threads hold no lock that a job takes.
    unsafe { builder.fork() }
}

fn main() -> ExitCode {
    multi_proc::init();
    sys::no_core_files();
    let minutes = setting("MULTI_CHAOS_MINUTES", 2);
    support::run(
        &tests![every_job_is_done_once_whoever_is_killed],
        Duration::from_secs(60 * minutes),
    )
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A job: whether its worker dies of it, its number, and some bytes. Comes back as its number and a digest of the bytes.
type Job = (bool, u64, Vec<u8>);

/// A deadly one sets an alarm that kills this worker in up to 300 µs, wherever it is then: in this job, between jobs, in the next one.
fn work((is_deadly, number, bytes): Job) -> Result<(u64, u64)> {
    if is_deadly {
        sys::alarm_every(Duration::from_micros(1 + multi_proc::child_seed() % 300));
    }
    Ok((number, digest(number, &bytes)))
}

fn digest(number: u64, bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(number ^ 0xcbf2_9ce4_8422_2325, mix)
}

/// xorshift: the same jobs for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Mostly small, sometimes of a size that needs pages of its own.
    fn job(&mut self, number: u64) -> Job {
        let len = match self.below(100) {
            0 => 20_000 + self.below(60_000),
            1..=9 => self.below(3_000),
            _ => self.below(64),
        };
        let bytes = (0..len).map(|_| self.below(256) as u8).collect();
        (self.below(400) == 0, number, bytes)
    }
}

/// What was asked for and what came.
#[derive(Default)]
struct Account {
    done: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
    kills: AtomicU64,
    is_over: AtomicBool,
}

impl Account {
    fn see(
        &self,
        number: u64,
        expected: u64,
        came: std::result::Result<(u64, u64), multi_proc::TaskError>,
    ) {
        match came {
            Ok(value) if value == (number, expected) => {}
            Ok(_) => drop(self.wrong.fetch_add(1, Relaxed)),
            Err(error) => {
                println!("job {number}: {error}");
                self.failed.fetch_add(1, Relaxed);
            }
        }
        self.done.fetch_add(1, Relaxed);
    }
}

fn every_job_is_done_once_whoever_is_killed() {
    let seed = setting("MULTI_SEED", multi_proc::child_seed()).max(1);
    let wanted = env::var("MULTI_CHAOS_MODES").ok();
    let is_wanted = |mode: &&Mode| {
        let wanted = wanted.as_ref();
        wanted.is_none_or(|names| names.split(',').any(|name| name == mode.name))
    };
    println!("\nseed {seed} (give it back as MULTI_SEED)");
    let threads = Residue::count().threads;
    let mut names = Vec::new();
    for mode in MODES.iter().filter(is_wanted) {
        // What is made once stays: stacks and heaps of threads, the tables of processes.
        round(mode, 10, 500, !seed);
        let before = once_alone(threads);
        let kills = setting("MULTI_CHAOS_KILLS", mode.kills);
        let jobs = setting("MULTI_CHAOS_JOBS", mode.jobs);
        println!(
            "{}: at least {kills} kills and {jobs} jobs: {}",
            mode.name,
            round(mode, kills, jobs, seed)
        );
        look_for_residue(before);
        names.push(mode.name);
    }
    assert!(!names.is_empty(), "no such kind of worker: {wanted:?}");
    println!("modes: {}", names.join(","));
}

/// What there is once threads that have ended are gone.
fn once_alone(threads: usize) -> Residue {
    let start = Instant::now();
    loop {
        let now = Residue::count();
        if now.threads == threads {
            return now;
        }
        assert!(start.elapsed() < HUNG, "threads that stay: {now:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn look_for_residue(before: Residue) {
    let start = Instant::now();
    let is_as_before = |now: Residue| {
        // Heaps may be in more pieces than before, or in fewer, but not in one more for each death or job.
        let mappings = now.mappings.min(before.mappings + 16);
        now == Residue { mappings, ..before }
    };
    // Threads that have ended may not be gone yet.
    while !is_as_before(Residue::count()) {
        let left = Residue::count();
        assert!(
            start.elapsed() < HUNG,
            "left behind: {left:?}, before {before:?}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn round(mode: &Mode, kills: u64, jobs: u64, seed: u64) -> String {
    let start = Instant::now();
    let account = Account::default();
    let builder = Pool::builder()
        .workers(WORKERS)
        .queue(24)
        .attempts(u32::MAX);
    let pool = (mode.make)(builder).unwrap();
    thread::scope(|scope| {
        let (pool, account) = (&pool, &account);
        let pause_us_max = mode.pause_us_max;
        scope.spawn(move || kill_at_random(pool, account, kills, pause_us_max, Random(seed)));
        scope.spawn(move || watch(account));
        for caller in 1..=CALLERS {
            let share = jobs / (CALLERS + 1);
            scope.spawn(move || call(pool, account, share, Random(seed ^ caller << 32)));
        }
        map(pool, account, jobs, kills, Random(seed.rotate_left(17)));
        account.is_over.store(true, Relaxed);
    });
    while pool.status().workers < WORKERS {
        thread::sleep(Duration::from_millis(1));
    }
    let status = pool.status();
    let last = pool.map(work, (0..100).map(|n| (false, n, Vec::new())));
    assert!(
        (0..)
            .zip(last.unwrap())
            .all(|(n, value)| value == (n, digest(n, &[])))
    );
    pool.shutdown().unwrap();
    let [done, wrong, failed, killed] = [
        &account.done,
        &account.wrong,
        &account.failed,
        &account.kills,
    ]
    .map(|count| count.load(Relaxed));
    let told = format!(
        "{done} jobs done, {wrong} wrong, {failed} failed, {} begun again; {killed} workers killed, {} by alarms in jobs; 0 hangs, \
         {WORKERS} workers as before; {:.1?}",
        status.retried,
        status.deaths.saturating_sub(killed),
        start.elapsed()
    );
    assert!(
        done >= jobs && killed >= kills && (wrong, failed) == (0, 0),
        "{told}"
    );
    assert!(
        status.deaths >= killed && status.started == status.finished,
        "{told}; {status:?}"
    );
    told
}

/// Ends the program where nothing ends any more.
fn watch(account: &Account) {
    let (mut seen, mut since) = (0, Instant::now());
    while !account.is_over.load(Relaxed) {
        let now = account.done.load(Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > HUNG {
            println!("hung after {seen} jobs");
            std::process::abort();
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn kill_at_random(
    pool: &Pool,
    account: &Account,
    kills: u64,
    pause_us_max: u64,
    mut random: Random,
) {
    // The dead stay in the list until somebody collects them. Numbers come back, but not as soon as that.
    let mut dead = VecDeque::new();
    while account.kills.load(Relaxed) < kills {
        thread::sleep(Duration::from_micros(random.below(pause_us_max)));
        let mut pids = pool.worker_pids();
        pids.retain(|pid| !dead.contains(pid));
        if pids.is_empty() {
            continue;
        }
        let victim = pids[random.below(pids.len() as u64) as usize];
        // It may have died of its own meanwhile.
        if sys::try_kill(victim, sys::SIGKILL) {
            account.kills.fetch_add(1, Relaxed);
            dead.push_front(victim);
            dead.truncate(4 * WORKERS);
        }
    }
}

/// Jobs as values that come in any order, until there were enough of both.
fn map(pool: &Pool, account: &Account, jobs: u64, kills: u64, mut random: Random) {
    let mut first = 0;
    while account.done.load(Relaxed) < jobs || account.kills.load(Relaxed) < kills {
        let batch: Vec<_> = (first..first + 500)
            .map(|number| random.job(number))
            .collect();
        first += 500;
        let expected: Vec<_> = batch
            .iter()
            .map(|(_, number, bytes)| (*number, digest(*number, bytes)))
            .collect();
        let mut seen = vec![false; batch.len()];
        for (index, came) in pool.map_unordered(work, batch) {
            assert!(
                !std::mem::replace(&mut seen[index], true),
                "item {index} came twice"
            );
            let (number, digest) = expected[index];
            account.see(number, digest, came);
        }
        assert!(seen.iter().all(|seen| *seen), "an item never came");
    }
}

/// Jobs as calls and as handles, of every priority.
fn call(pool: &Pool, account: &Account, jobs: u64, mut random: Random) {
    let mut handles = VecDeque::new();
    for number in 0..jobs {
        let job = random.job(number);
        let expected = digest(number, &job.2);
        let priority = [
            Priority::Low,
            Priority::Usual,
            Priority::Usual,
            Priority::High,
        ][random.below(4) as usize];
        let jobs = pool.jobs().priority(priority);
        if random.below(2) == 0 {
            account.see(number, expected, jobs.call(work, job));
        } else {
            handles.push_back((number, expected, jobs.spawn_fn(work, job)));
        }
        if handles.len() > HANDLES
            && let Some((number, expected, handle)) = handles.pop_front()
        {
            account.see(number, expected, handle.join());
        }
    }
    for (number, expected, handle) in handles {
        account.see(number, expected, handle.join());
    }
}
