//! Forks from a parent whose other threads print, allocate and panic all the time.
//!
//! `cargo test -p multi-proc --test busy_parent -- --unprotected` does the same with a bare fork: many of its children hang.

#![expect(clippy::print_stdout, reason = "printing is what may hang")]

mod support;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::panic;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::sys;

const THREADS: usize = 8;
const FORKS: u32 = 1_000;
/// Each that hangs costs a second.
const UNPROTECTED_FORKS: u32 = 40;

fn main() -> ExitCode {
    if support::play(&tests![forks_under_fire, forks_bare_under_fire]) {
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|argument| argument == "--unprotected") {
        println!("{}", play("forks_bare_under_fire"));
        return ExitCode::SUCCESS;
    }
    support::run(
        &tests![thousand_forks_from_a_busy_parent_do_not_hang],
        Duration::from_secs(110),
    )
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
    for n in 0..FORKS {
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
            "{FORKS} forks in {:.1?}: 0 hangs",
            start.elapsed()
        )),
        Err(error) => say(&format!(
            "{} of {FORKS} hang or fail: {error}",
            error.failed_count()
        )),
    }
}

fn thousand_forks_from_a_busy_parent_do_not_hang() {
    let said = play("forks_under_fire");
    println!("    {said}");
    assert!(said.ends_with("0 hangs"), "{said}");
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
