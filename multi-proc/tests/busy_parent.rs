//! Forks from a parent whose other threads print, allocate and panic all the time.
//!
//! `cargo xtask forks` does it 5 000 times, and looks at the clock. `cargo test -p multi-proc --test busy_parent -- --unprotected` does the
//! same with a bare fork: many of its children hang.

#![expect(clippy::print_stdout, reason = "printing is what may hang")]

mod support;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::panic;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::sys;

const THREADS: usize = 8;
/// Unless `MULTI_PROC_FORKS` says otherwise.
const FORKS: u32 = 1_000;
/// Unless `MULTI_PROC_LOCKS` says otherwise. If it does, those reported late fail the test.
const LOCKS: u32 = 20;
/// How many of them are stuck at a time.
const LOCKS_AT_ONCE: usize = 10;
const LOCK_DEADLINE: Duration = Duration::from_millis(200);
const LATE_MAX: Duration = Duration::from_millis(100);
/// Each that hangs costs a second.
const UNPROTECTED_FORKS: u32 = 40;

fn main() -> ExitCode {
    let scenes = tests![
        forks_under_fire,
        forks_bare_under_fire,
        forks_with_a_lock_held
    ];
    if support::play(&scenes) {
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|argument| argument == "--unprotected") {
        println!("{}", play("forks_bare_under_fire"));
        return ExitCode::SUCCESS;
    }
    support::run(
        &tests![
            forks_from_a_busy_parent_do_not_hang,
            child_that_waits_for_a_held_lock_is_reported_in_time_every_time,
        ],
        Duration::from_secs(110 * u64::from(forks().max(FORKS) / FORKS)),
    )
}

fn set(name: &str) -> Option<u32> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

fn forks() -> u32 {
    set("MULTI_PROC_FORKS").unwrap_or(FORKS)
}

/// What `scene` has to say at its end, in a process whose standard output goes nowhere.
fn play(scene: &str) -> String {
    let path = std::env::temp_dir().join(format!("multi-proc-busy-{}", std::process::id()));
    let result = std::fs::File::create(&path).unwrap();
    let mut command = support::scene(scene);
    // Where they print does not matter, only that they all do; what is to be said goes to standard input, of all places, which
    // nobody else writes to.
    let status = command
        .stdin(result)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let mut said = String::new();
    std::fs::File::open(&path)
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(status.success(), "{scene} ended with {status}: {said}");
    said
}

fn say(text: &str) {
    std::fs::OpenOptions::new()
        .append(true)
        .open("/proc/self/fd/0")
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// What both the parent's threads and the tasks do.
#[expect(clippy::print_stderr, reason = "printing is what may hang")]
fn work(n: usize) {
    println!("line {n}");
    eprintln!("error {n}");
    let memory: Vec<Vec<u8>> = (0..20).map(|size| vec![1; 1 << (size % 17)]).collect();
    black_box(memory);
    assert!(panic::catch_unwind(|| panic!("on purpose: {n}")).is_err());
}

fn busy_threads(stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<()>> {
    let busy = |_| {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let mut n = 0;
            // Relaxed: a flag on its own.
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                work(n);
            }
        })
    };
    (0..THREADS).map(busy).collect()
}

fn forks_under_fire() {
    let stop = Arc::new(AtomicBool::new(false));
    let threads = busy_threads(&stop);
    let start = Instant::now();
    let mut group = support::build(
        support::quick()
            .limit(4)
            .task_timeout(Duration::from_secs(10)),
    );
    let forks = forks();
    for n in 0..forks {
        group.go(move || {
            work(n as usize);
            Ok(())
        });
    }
    let outcome = group.wait();
    // Relaxed: a flag on its own.
    stop.store(true, Ordering::Relaxed);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    match outcome {
        Ok(()) => say(&format!(
            "{forks} forks in {:.1?}: 0 hangs",
            start.elapsed()
        )),
        Err(error) => say(&format!(
            "{} of {forks} hang or fail: {error}",
            error.failed_count()
        )),
    }
}

fn forks_from_a_busy_parent_do_not_hang() {
    let said = play("forks_under_fire");
    println!("    {said}");
    assert!(said.ends_with("0 hangs"), "{said}");
}

static HELD: Mutex<()> = Mutex::new(());

fn forks_with_a_lock_held() {
    let (release, released) = mpsc::channel::<()>();
    let (held, is_held) = mpsc::channel();
    let holder = std::thread::spawn(move || {
        let _held = HELD.lock().unwrap();
        held.send(()).unwrap();
        let _closed = released.recv();
    });
    is_held.recv().unwrap();
    let locks = set("MULTI_PROC_LOCKS").unwrap_or(LOCKS);
    let (mut in_time, mut reported, mut latest) = (0, 0, Duration::ZERO);
    while reported < locks {
        let mut group = support::build(support::quick().task_timeout(LOCK_DEADLINE));
        for _ in 0..LOCKS_AT_ONCE {
            group.go(|| {
                drop(HELD.lock());
                Ok(())
            });
        }
        let error = group.wait().unwrap_err();
        for failure in error.failures() {
            assert!(failure.is_timed_out(), "{failure}");
            let late = failure.elapsed().saturating_sub(LOCK_DEADLINE);
            latest = latest.max(late);
            reported += 1;
            in_time += u32::from(late <= LATE_MAX);
        }
    }
    drop(release);
    holder.join().unwrap();
    say(&format!(
        "{in_time} of {reported} reported within the deadline + 100 ms, the last one {latest:.1?} after it"
    ));
}

fn child_that_waits_for_a_held_lock_is_reported_in_time_every_time() {
    let said = play("forks_with_a_lock_held");
    println!("    {said}");
    let mut words = said.split(' ');
    let (in_time, reported) = (words.next(), words.nth(1));
    assert!(in_time.is_some() && reported.is_some(), "{said}");
    // Where the machine is not ours alone, all that counts is that each is reported.
    let is_strict = set("MULTI_PROC_LOCKS").is_some();
    assert!(!is_strict || in_time == reported, "{said}");
}

fn forks_bare_under_fire() {
    let stop = Arc::new(AtomicBool::new(false));
    let threads = busy_threads(&stop);
    let hangs = (0..UNPROTECTED_FORKS)
        .filter(|&n| sys::raw_fork_hangs(Duration::from_secs(1), || work(n as usize)))
        .count();
    // Relaxed: a flag on its own.
    stop.store(true, Ordering::Relaxed);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    say(&format!("{hangs} of {UNPROTECTED_FORKS} bare forks hang"));
}
