//! Pools whose workers a zygote forks, or that execute this program: as those of forked workers, without a promise.

use crate::death::runs;
use crate::passing::descriptors;
use crate::support::{self, Residue, Test, sys};
use crate::tests;
use multi_proc::{
    BuildError, Limits, Pool, PoolBuilder, Priority, Result, SharedBuffer, SharedBufferMut,
    TaskErrorKind, TaskOptions,
};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    values_errors_and_panics_come_home,
    jobs_of_every_priority_are_done,
    job_that_kills_its_workers_is_given_up_with_the_last_reason,
    job_of_a_killed_worker_is_done_by_another,
    idle_workers_that_were_killed_are_replaced,
    time_limit_costs_one_worker,
    workers_are_recycled,
    workers_are_held_to_limits,
    initialiser_is_a_function_with_arguments,
    broken_initialiser_fails_the_jobs_with_its_error,
    worker_that_gives_up_privileges_still_ends_with_its_parent,
    cancel_and_shutdown_end_what_runs,
    shutdown_does_what_was_asked_for_first,
    threads_share_a_pool,
    shared_buffers_travel_without_a_copy,
    workers_have_what_was_passed_alone,
    workers_know_nothing_of_what_the_program_did,
    missing_init_is_named_for_a_pool,
    program_that_is_none_fails_the_jobs_with_the_reason,
    program_that_runs_on_before_init_fails_the_jobs_with_the_reason,
    job_has_a_pool_of_its_own,
    scribbled_job_is_an_error_and_no_more,
    killed_zygote_fails_the_jobs_with_the_reason,
    killed_parent_leaves_no_worker,
    pools_leave_nothing_behind,
];

pub(crate) const SCENES: &[Test] = &tests![
    pool_by_zygote,
    pool_by_spawn,
    pool_by_spawn_from_a_thread,
    pool_loses_its_zygote
];

pub(crate) const BEFORE_INIT: &[Test] = &tests![pool_without_init, worker_runs_on_before_init];

type Way = (
    &'static str,
    fn(PoolBuilder) -> std::result::Result<Pool, BuildError>,
);

const WAYS: [Way; 2] = [
    ("zygote", PoolBuilder::zygote),
    ("spawn", PoolBuilder::spawn),
];

fn build((_, way): Way, builder: PoolBuilder) -> Pool {
    way(builder.grace(Duration::from_millis(100))).unwrap()
}

/// Pools of `workers`, one by each way.
fn pools(workers: usize) -> [(&'static str, Pool); 2] {
    WAYS.map(|way| (way.0, build(way, Pool::builder().workers(workers))))
}

fn pid(_: ()) -> Result<u32> {
    Ok(std::process::id())
}

fn hang(_: ()) -> Result {
    loop {
        std::thread::park();
    }
}

/// Looks until `is_so`; the watchdog of the tests ends a look that is in vain.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn values_errors_and_panics_come_home() {
    for (name, mut pool) in pools(2) {
        for len in [0, 960, 70_000, 3_000_000] {
            let text = "x".repeat(len);
            let back = pool.call(|text: String| Ok(text + "!"), text.clone());
            assert_eq!(back.unwrap(), text + "!", "{name}: {len} bytes");
        }
        let squares = pool.map(|n: u64| Ok(n * n), 0..300).unwrap();
        assert!(squares.iter().zip(0..).all(|(square, n)| *square == n * n));
        let error = pool.call(|n: u32| -> Result { Err(format!("no {n}"))? }, 7);
        assert!(error.unwrap_err().to_string().ends_with("): no 7"));
        let error = pool.call(|n: u32| -> Result { panic!("oh {n}") }, 8);
        let error = error.unwrap_err();
        assert!(error.is_panicked(), "{error}");
        assert!(error.to_string().contains("oh 8"), "{error}");
        drop(pool.spawn_fn(|()| -> Result { Err("told by wait")? }, ()));
        let error = pool.wait().unwrap_err().to_string();
        assert!(error.contains("told by wait"), "{name}: {error}");
        assert_eq!(pool.status().deaths, 0, "{name}");
    }
}

fn jobs_of_every_priority_are_done() {
    for (name, pool) in pools(2) {
        for priority in [Priority::Low, Priority::High, Priority::Usual] {
            let jobs = pool.jobs().priority(priority);
            let values = jobs.map(|n: u64| Ok(n + 1), 0..20).unwrap();
            assert_eq!(values, (1..=20).collect::<Vec<_>>(), "{name}");
        }
    }
}

fn job_that_kills_its_workers_is_given_up_with_the_last_reason() {
    let die = |signal: i32| -> Result {
        sys::raise(signal);
        hang(())
    };
    for (name, pool) in pools(2) {
        let error = pool.call(die, sys::SIGKILL).unwrap_err();
        assert_eq!(error.attempts(), 3, "{name}: {error}");
        assert!(
            matches!(error.kind(), TaskErrorKind::Signaled { signal: 9, .. }),
            "{name}: {error}"
        );
        let exits = |code: i32| -> Result { std::process::exit(code) };
        let error = pool.jobs().attempts(1).call(exits, 9).unwrap_err();
        assert!(
            matches!(error.kind(), TaskErrorKind::Exited(9)),
            "{name}: {error}"
        );
        assert_eq!(pool.call(|n: u8| Ok(n), 7).unwrap(), 7, "{name}");
        until(|| pool.status().workers == 2);
        let status = pool.status();
        assert_eq!((status.deaths, status.retried), (4, 2), "{name}");
    }
}

/// Says on standard error who it is, and returns once `path` exists.
fn wait_for_file(path: String) -> Result<u32> {
    until(|| fs::exists(&path).unwrap_or(true));
    pid(())
}

/// A name for a file that does not exist, and goes with it.
struct Gate(String);

impl Gate {
    fn new(name: &str) -> Self {
        let file = format!("multi-proc-gate-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(file).to_str().unwrap().to_owned())
    }

    fn open(&self) {
        fs::write(&self.0, "").unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn job_of_a_killed_worker_is_done_by_another() {
    for (name, pool) in pools(2) {
        let gate = Gate::new(name);
        let handle = pool.spawn_fn(wait_for_file, gate.0.clone());
        until(|| pool.status().running == 1);
        let before = pool.worker_pids();
        for pid in &before {
            sys::kill(*pid, sys::SIGKILL);
        }
        until(|| pool.status().retried == 1);
        gate.open();
        let by = handle.join().unwrap();
        assert!(!before.contains(&by), "{name}");
        assert!(pool.worker_pids().contains(&by), "{name}");
    }
}

fn idle_workers_that_were_killed_are_replaced() {
    for (name, pool) in pools(3) {
        pool.call(pid, ()).unwrap();
        let before: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
        for pid in &before {
            sys::kill(*pid, sys::SIGKILL);
        }
        let by = pool.call(pid, ()).unwrap();
        assert!(!before.contains(&by), "{name}");
        until(|| {
            let after = pool.status().workers == 3;
            after && pool.worker_pids().iter().all(|pid| !before.contains(pid))
        });
    }
}

fn time_limit_costs_one_worker() {
    for (name, mut pool) in pools(2) {
        let options = TaskOptions::new().timeout(Duration::from_millis(50));
        let slow = pool.spawn_fn_with(options.clone(), hang, ());
        let others: Vec<_> = (0..20).map(|n| pool.spawn_fn(|n: u32| Ok(n), n)).collect();
        let error = slow.join().unwrap_err();
        assert!(error.is_timed_out(), "{name}: {error}");
        assert!(error.elapsed() >= Duration::from_millis(50), "{name}");
        for (n, other) in (0..).zip(others) {
            assert_eq!(other.join().unwrap(), n, "{name}");
        }
        // Kept while nobody waits, too.
        let late = pool.spawn_fn_with(options, hang, ());
        until(|| late.is_finished() || pool.status().deaths == 2);
        assert!(late.join().unwrap_err().is_timed_out(), "{name}");
        assert_eq!(pool.wait().unwrap_err().failed_count(), 2, "{name}");
        assert_eq!(pool.status().retried, 0, "{name}");
    }
}

fn workers_are_recycled() {
    for way in WAYS {
        let pool = build(way, Pool::builder().workers(2).recycle_after(5));
        let pids: Vec<u32> = (0..40).map(|_| pool.call(pid, ()).unwrap()).collect();
        for pid in &pids {
            let jobs = pids.iter().filter(|other| *other == pid).count();
            assert!(jobs <= 5, "{}: {pid} did {jobs}", way.0);
        }
        let status = pool.status();
        assert!(status.recycled >= 6 && status.deaths == 0, "{status:?}");
    }
    static HOARD: OnceLock<Vec<u8>> = OnceLock::new();
    for way in WAYS {
        let pool = build(way, Pool::builder().workers(1).recycle_above(150 << 20));
        let first = pool.call(pid, ()).unwrap();
        assert_eq!(pool.call(pid, ()).unwrap(), first, "{}", way.0);
        let hoard = |_: ()| {
            HOARD.get_or_init(|| vec![1; 200 << 20]);
            pid(())
        };
        assert_eq!(pool.call(hoard, ()).unwrap(), first, "{}", way.0);
        assert_ne!(pool.call(pid, ()).unwrap(), first, "{}", way.0);
    }
}

fn workers_are_held_to_limits() {
    let limits = Limits::new()
        .memory_bytes_max(64 << 20)
        .working_directory("/usr");
    for way in WAYS {
        let builder = Pool::builder().workers(1).attempts(1);
        let pool = build(way, builder.limits(limits.clone()));
        let here = pool.call(|()| Ok(std::env::current_dir()?), ()).unwrap();
        assert_eq!(here.to_str(), Some("/usr"), "{}", way.0);
        let error = pool.call(|bytes: usize| Ok(vec![1_u8; bytes].len()), 1 << 30);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("memory_bytes_max 64 MiB"),
            "{}: {error}",
            way.0
        );
    }
}

static TABLE: OnceLock<Vec<u64>> = OnceLock::new();

fn learn(table: Vec<u64>) -> Result {
    TABLE.set(table).map_err(|_| "twice".into())
}

fn initialiser_is_a_function_with_arguments() {
    for way in WAYS {
        // More than the worker's slot holds beside its header.
        for len in [3, 10_000] {
            let table: Vec<u64> = (0..len).map(|n| n * n).collect();
            let builder = Pool::builder().workers(2).in_worker_fn(learn, table);
            let pool = build(way, builder);
            let look = |n: usize| Ok(TABLE.get().ok_or("no table")?[n]);
            for _ in 0..10 {
                assert_eq!(pool.call(look, 2).unwrap(), 4, "{}", way.0);
            }
            let last = usize::try_from(len).unwrap() - 1;
            assert_eq!(pool.call(look, last).unwrap(), (len - 1) * (len - 1));
            assert_eq!(pool.status().deaths, 0, "{}", way.0);
        }
        let error = (way.1)(Pool::builder().in_worker(|| Ok(()))).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("by in_worker_fn, or make the pool by fork()"),
            "{error}"
        );
    }
    assert!(TABLE.get().is_none(), "in the workers, not here");
    let error = Pool::builder().env("A", "1").zygote().unwrap_err();
    assert!(
        error.to_string().contains("make the pool by spawn()"),
        "{error}"
    );
}

fn broken_initialiser_fails_the_jobs_with_its_error() {
    for way in WAYS {
        let fails = |why: String| -> Result { Err(why)? };
        let builder = Pool::builder().workers(2);
        let pool = build(way, builder.in_worker_fn(fails, "no licence".to_owned()));
        let error = pool.call(pid, ()).unwrap_err();
        assert!(error.is_start(), "{}: {error}", way.0);
        assert!(
            error
                .to_string()
                .contains("its initialiser failed: no licence"),
            "{}: {error}",
            way.0
        );
    }
    for way in WAYS {
        let closes = |()| -> Result {
            (3..100).for_each(sys::close);
            Ok(())
        };
        let pool = build(way, Pool::builder().workers(1).in_worker_fn(closes, ()));
        let error = pool.call(pid, ()).unwrap_err().to_string();
        assert!(
            error.contains("closed the pool's own descriptors"),
            "{}: {error}",
            way.0
        );
    }
    let panics = |()| -> Result { panic!("no luck") };
    let builder = Pool::builder().workers(1).in_worker_fn(panics, ());
    let error = build(WAYS[0], builder).call(pid, ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its initialiser panicked: no luck"),
        "{error}"
    );
}

fn worker_that_gives_up_privileges_still_ends_with_its_parent() {
    let give_up = |()| {
        sys::become_nobody();
        Ok(())
    };
    for way in WAYS {
        let builder = Pool::builder().workers(1).in_worker_fn(give_up, ());
        let tied_by = build(way, builder).call(|()| Ok(sys::parent_death_signal()), ());
        assert_ne!(tied_by.unwrap(), 0, "{}", way.0);
    }
}

fn cancel_and_shutdown_end_what_runs() {
    for (name, mut pool) in pools(1) {
        let running = pool.spawn_fn(hang, ());
        let waiting = pool.spawn_fn(pid, ());
        until(|| pool.status().running == 1);
        pool.cancel();
        assert!(running.join().unwrap_err().is_cancelled(), "{name}");
        assert!(waiting.join().unwrap_err().is_cancelled(), "{name}");
        assert!(pool.wait().unwrap_err().is_cancelled(), "{name}");
        pool.call(pid, ()).expect("the next round works");

        let pids = pool.worker_pids();
        let running = pool.spawn_fn(hang, ());
        until(|| pool.status().running == 1);
        let error = pool.shutdown_timeout(Duration::ZERO).unwrap_err();
        assert!(error.is_cancelled(), "{name}: {error}");
        assert!(running.join().unwrap_err().is_cancelled(), "{name}");
        assert!(pids.iter().all(|pid| !sys::exists(*pid)), "{name}");
    }
}

fn shutdown_does_what_was_asked_for_first() {
    for (name, pool) in pools(2) {
        let handles: Vec<_> = (0..50).map(|n| pool.spawn_fn(|n: u64| Ok(n), n)).collect();
        let pids = pool.worker_pids();
        pool.shutdown().unwrap();
        for (n, handle) in (0..).zip(handles) {
            assert!(handle.is_finished(), "{name}");
            assert_eq!(handle.join().unwrap(), n, "{name}");
        }
        assert!(pids.iter().all(|pid| !sys::exists(*pid)), "{name}");
    }
    // Before its workers have come to anything.
    for (_, pool) in pools(2) {
        pool.shutdown().unwrap();
    }
}

fn threads_share_a_pool() {
    for way in WAYS {
        let pool = build(way, Pool::builder().workers(2).queue(1).recycle_after(50));
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..100 {
                        let job = thread * 1_000 + n;
                        assert_eq!(pool.call(|n: u64| Ok(n + 1), job).unwrap(), job + 1);
                    }
                });
            }
        });
        assert_eq!(pool.status().finished, 400, "{}", way.0);
    }
}

fn workers_have_what_was_passed_alone() {
    let before = descriptors(()).unwrap();
    let file = fs::File::open("/etc/passwd").unwrap();
    // One as C libraries open them, that an executed program would inherit.
    let open_on_exec = sys::open_on_exec(&file);
    for (name, pool) in pools(2) {
        let theirs = pool.call(descriptors, ()).unwrap();
        let is_ours = |fd: &&String| {
            fd.ends_with("anon_inode:[eventfd]")
                || fd.contains("/memfd:multi-chan")
                || fd.starts_with("3 socket:") && name == "spawn"
        };
        let is_strange = |fd: &&String| !before.contains(fd) && !fd.contains("/proc/");
        let (ours, strangers): (Vec<_>, Vec<_>) =
            theirs.iter().filter(is_strange).partition(is_ours);
        assert!(strangers.is_empty(), "{name}: {theirs:?}");
        // The bell, three lanes, their users, and the line.
        assert!(ours.len() <= 6, "{name}: {theirs:?}");
    }
    drop(open_on_exec);
    let pool = Pool::builder()
        .workers(1)
        .env_clear()
        .env("A", "1")
        .spawn()
        .unwrap();
    let names = |()| {
        let names = std::env::vars().map(|(name, _)| name);
        Ok(names.collect::<Vec<_>>())
    };
    assert_eq!(pool.call(names, ()).unwrap(), ["A"]);
}

fn workers_know_nothing_of_what_the_program_did() {
    static SECRET: OnceLock<u32> = OnceLock::new();
    static LOCK: std::sync::Mutex<u32> = std::sync::Mutex::new(7);
    SECRET.get_or_init(|| 42);
    let held = LOCK.lock().unwrap();
    for (name, pool) in pools(1) {
        let secret = pool.call(|()| Ok(SECRET.get().copied()), ()).unwrap();
        assert_eq!(secret, None, "{name}");
        let locked = pool.call(|()| Ok(*LOCK.lock().unwrap()), ()).unwrap();
        assert_eq!(locked, 7, "{name}");
        let is_told = pool.call(|()| Ok(multi_proc::task_token().is_some()), ());
        assert!(!is_told.unwrap(), "{name}: a worker obeys its pool alone");
    }
    drop(held);
}

fn pool_without_init() {
    println!("{}", Pool::builder().spawn().unwrap_err());
    std::thread::scope(|s| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        s.spawn(move || is_done.recv());
        println!("{}", Pool::builder().zygote().unwrap_err());
        drop(done);
    });
}

fn missing_init_is_named_for_a_pool() {
    let (stdout, _) = support::printed_by("pool_without_init");
    let lines: Vec<_> = stdout.lines().collect();
    assert!(
        lines[0]
            .starts_with("multi_proc::init() was not called, so that the processes of this pool, ")
            && lines[0].ends_with("call it first in main"),
        "{stdout}"
    );
    assert!(
        lines[1].starts_with("there is no zygote, and none can be made now")
            && lines[1].ends_with("call multi_proc::init() first in main"),
        "{stdout}"
    );
}

fn program_that_is_none_fails_the_jobs_with_the_reason() {
    let pool = Pool::builder().workers(2).program("/bin/true").spawn();
    let error = pool.unwrap().call(pid, ()).unwrap_err();
    assert!(error.is_start(), "{error}");
    assert!(
        error
            .to_string()
            .contains("its process left with exit code 0 before it came to multi_proc::init(); call that first in main"),
        "{error}"
    );
    let error = Pool::builder().program("/no/such/file").spawn();
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("no worker could be started: ") && error.contains("No such file"),
        "{error}"
    );
}

fn worker_runs_on_before_init() {
    if std::env::args().len() > 1 {
        loop {
            std::thread::park();
        }
    }
    multi_proc::init();
    let builder = Pool::builder().workers(1).env_pass(support::SCENE);
    let pool = builder.stuck_after(Duration::from_millis(5)).spawn();
    println!("{}", pool.unwrap().call(pid, ()).unwrap_err());
}

fn program_that_runs_on_before_init_fails_the_jobs_with_the_reason() {
    let (stdout, _) = support::printed_by("worker_runs_on_before_init");
    assert!(
        stdout.contains("its process did not come to multi_proc::init() for a long time, and was killed; call that first"),
        "{stdout}"
    );
}

fn sum_in_pools(n: u64) -> Result<u64> {
    let mut sum = 0;
    for (_, pool) in pools(2) {
        sum += pool.map(|n: u64| Ok(n + 1), 0..n)?.iter().sum::<u64>();
        pool.shutdown()?;
    }
    Ok(sum)
}

fn job_has_a_pool_of_its_own() {
    for (name, pool) in pools(2) {
        let sums = pool.map(sum_in_pools, [3, 4]).unwrap();
        assert_eq!(sums, [12, 20], "{name}");
    }
}

/// Writes this byte over the only job's place in the pool's memory, and leaves the rest; returns once `path` exists.
fn scribble((byte, path): (u8, String)) -> Result<u32> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    // The slot of the worker lies in a file of the same name, and is smaller; and what there is of shared buffers to write to begins later in it.
    let boards = maps.lines().filter_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16));
        let (start, end) = (start.ok()?, end.ok()?);
        let is_first = line.contains(" rw-s 00000000 ") && line.contains("/memfd:multi-proc");
        (is_first && end - start > 100 << 20).then_some(start)
    });
    let memory = fs::File::options().write(true).open("/proc/self/mem")?;
    for board in boards {
        // The first page is the head's and the rows'.
        memory.write_all_at(&[byte; 2048], board + 4096)?;
    }
    wait_for_file(path)
}

fn scribbled_job_is_an_error_and_no_more() {
    for way in WAYS {
        let pool = build(way, Pool::builder().workers(1).queue(0));
        // What the job's word says then: free, to be taken, run by nobody who exists, done.
        for byte in [0x00, 0xa5, 0xfe, 0xff] {
            let gate = Gate::new(way.0);
            if byte != 0xff {
                // Found when its worker has ended it.
                gate.open();
            }
            let error = pool.call(scribble, (byte, gate.0.clone())).unwrap_err();
            assert!(
                error.to_string().contains("overwritten"),
                "{}: {error}",
                way.0
            );
            gate.open();
            assert_eq!(pool.call(|n: u64| Ok(n + 1), 1).unwrap(), 2, "{}", way.0);
        }
        assert_eq!(pool.status().deaths, 0, "{}", way.0);
    }
}

fn pool_loses_its_zygote() {
    let mut pool = Pool::builder().workers(2).zygote().unwrap();
    let zygote = pool.call(|()| Ok(sys::parent_pid()), ()).unwrap();
    let running = pool.spawn_fn(hang, ());
    until(|| pool.status().running == 1);
    sys::kill(zygote, sys::SIGKILL);
    println!("{}", running.join().unwrap_err());
    println!("{}", pool.call(pid, ()).unwrap_err());
    drop(pool.wait());
    pool.shutdown().unwrap();
}

fn killed_zygote_fails_the_jobs_with_the_reason() {
    let (stdout, _) = support::printed_by("pool_loses_its_zygote");
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    for line in lines {
        assert!(
            line.contains("it could not be started: zygote ")
                && line.ends_with("is gone: it was killed by signal 9"),
            "{stdout}"
        );
    }
}

/// Says on standard error whose process it is and whose child, and hangs.
fn say_and_hang(_: ()) -> Result {
    // One write: a line of one process does not mix with another's.
    sys::say(&format!("{} {}\n", std::process::id(), sys::parent_pid()));
    hang(())
}

fn hang_in(way: Way) {
    let mut pool = (way.1)(Pool::builder().workers(2)).unwrap();
    for _ in 0..2 {
        drop(pool.spawn_fn(say_and_hang, ()));
    }
    drop(pool.wait());
}

fn pool_by_zygote() {
    hang_in(WAYS[0]);
}

fn pool_by_spawn() {
    hang_in(WAYS[1]);
}

fn pool_by_spawn_from_a_thread() {
    let make = || Pool::builder().workers(2).spawn().unwrap();
    let mut pool = std::thread::scope(|s| s.spawn(make).join().unwrap());
    for _ in 0..2 {
        drop(pool.spawn_fn(say_and_hang, ()));
    }
    drop(pool.wait());
}

fn killed_parent_leaves_no_worker() {
    const ROUNDS: usize = 5;
    // By zygote, that is one of those that must end.
    for (scene, others) in [
        ("pool_by_zygote", 3),
        ("pool_by_spawn", 2),
        ("pool_by_spawn_from_a_thread", 2),
    ] {
        for _ in 0..ROUNDS {
            let mut parent = support::scene(scene)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(parent.stderr.take().unwrap()).lines();
            let said: Vec<String> = lines.take(2).map(|line| line.unwrap()).collect();
            let pids: BTreeSet<u32> = said
                .iter()
                .flat_map(|line| line.split(' '))
                .map(|pid| pid.parse().unwrap())
                .filter(|pid| *pid != parent.id())
                .collect();
            assert_eq!(pids.len(), others, "{scene}: {said:?}");
            assert!(pids.iter().all(|pid| runs(*pid)), "{scene}");
            parent.kill().unwrap();
            parent.wait().unwrap();
            until(|| !pids.iter().any(|pid| runs(*pid)));
        }
        println!("    {scene}: {ROUNDS} of {ROUNDS} parents killed, nobody left");
    }
}

fn pools_leave_nothing_behind() {
    let once = || {
        for (name, pool) in pools(2) {
            assert_eq!(pool.call(|n: u8| Ok(n), 7).unwrap(), 7, "{name}");
            for pid in pool.worker_pids() {
                sys::kill(pid, sys::SIGKILL);
            }
            assert_eq!(pool.call(|n: u8| Ok(n), 8).unwrap(), 8, "{name}");
        }
    };
    once();
    let before = Residue::count();
    for _ in 0..8 {
        once();
    }
    let after = Residue::count();
    assert_eq!(
        (after.descriptors, after.children),
        (before.descriptors, before.children)
    );
    // The clock of an earlier test may end meanwhile, and the heap be in pieces.
    assert!(
        after.threads <= before.threads && after.mappings <= before.mappings + 2,
        "{before:?}, then {after:?}"
    );
}

fn shared_buffers_travel_without_a_copy() {
    let is_seven =
        |buffer: &SharedBuffer<u32>| buffer.len() == 50_000 && buffer.iter().all(|n| *n == 7);
    for (name, pool) in pools(2) {
        for _ in 0..100 {
            let mut buffer = pool.buffer::<u32>(50_000).unwrap();
            buffer.fill(6);
            let add = |buffer: SharedBuffer<u32>| {
                let mut sums = SharedBufferMut::new(buffer.len())?;
                for (sum, number) in sums.iter_mut().zip(&*buffer) {
                    *sum = number + 1;
                }
                Ok((buffer, sums.freeze()))
            };
            let given = buffer.freeze();
            let (back, sums) = pool.call(add, given.clone()).unwrap();
            assert_eq!(back.as_ptr(), given.as_ptr(), "{name}");
            assert!(is_seven(&sums), "{name}");
        }
        // What others made its worker cannot write to.
        let given = pool.buffer::<u32>(50_000).unwrap().freeze();
        let first = given[0];
        let error = pool.jobs().attempts(1).call(
            |it: SharedBuffer<u32>| {
                write_astray(it.as_ptr());
                Ok(())
            },
            given.clone(),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("killed by SIGSEGV"), "{name}: {error}");
        assert_eq!(given[0], first, "{name}");
    }
}

#[expect(unsafe_code, reason = "what a stray pointer does")]
fn write_astray(at: *const u32) {
    // SAFETY: none: that it ends the process is what is tested, and this is all that it does.
    unsafe { at.cast_mut().write_volatile(99) };
}
