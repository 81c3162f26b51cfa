//! No child outlives its parent process, however that ends and whichever thread forked it.

#![expect(
    clippy::print_stdout,
    clippy::infinite_loop,
    reason = "tests show what they counted; tasks hang"
)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};
use support::{Test, group, sys};

fn main() -> ExitCode {
    let scenes: &[Test] = &tests![
        forks_on_main,
        forks_on_short_thread,
        forks_deaf_ones_on_threads,
        forks_nested,
        leaves_without_waiting
    ];
    if support::play(scenes) {
        return ExitCode::SUCCESS;
    }
    let tests: &[Test] = &tests![
        killed_parent_leaves_no_child,
        killed_parent_leaves_no_child_of_a_thread_that_ended,
        killed_parent_leaves_no_child_that_holds_every_signal_back,
        killed_parent_leaves_no_grandchild,
        parent_that_leaves_leaves_no_child,
    ];
    support::run(tests, Duration::from_secs(100))
}

/// Says that the task runs, and hangs.
fn hang() -> multi_proc::Result {
    // One write: a line of one process does not mix with another's.
    sys::say(&format!("{}\n", std::process::id()));
    loop {
        std::thread::park();
    }
}

fn forks_on_main() {
    let mut group = group();
    group.go(hang);
    group.go(hang);
    drop(group.wait());
}

fn forks_on_short_thread() {
    let mut group = group();
    for _ in 0..2 {
        let spawner = group.spawner();
        std::thread::spawn(move || multi_core::Spawner::go(&spawner, hang))
            .join()
            .unwrap();
    }
    drop(group.wait());
}

/// One is forked by a thread that lives, one by a thread that has ended; one of these is forked while the other exists.
fn forks_deaf_ones_on_threads() {
    let deaf = || {
        sys::block_all();
        hang()
    };
    let mut group = group();
    let spawner = group.spawner();
    std::thread::spawn(move || {
        multi_core::Spawner::go(&spawner, deaf);
        hang()
    });
    let spawner = group.spawner();
    std::thread::spawn(move || multi_core::Spawner::go(&spawner, deaf))
        .join()
        .unwrap();
    drop(group.wait());
}

fn forks_nested() {
    let mut outer = group();
    outer.go(|| {
        let mut inner = group();
        inner.go(hang);
        inner.wait()?;
        Ok(())
    });
    outer.go(hang);
    drop(outer.wait());
}

#[expect(clippy::exit, reason = "the test is about a parent that does")]
fn leaves_without_waiting() {
    let group = group();
    group.go(hang);
    group.go(hang);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::process::exit(0);
}

/// Starts a parent that plays `scene`, and waits until two of its tasks said their process numbers.
fn parent(scene: &str) -> (Child, [u32; 2]) {
    let mut parent = support::scene(scene)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stderr.take().unwrap()).lines();
    let pids = [(); 2].map(|()| lines.next().unwrap().unwrap().parse().unwrap());
    (parent, pids)
}

/// Whether process `pid` still runs. Dead and not collected is dead: that is up to whoever inherits it.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn all_gone(pids: [u32; 2], round: usize) {
    let start = Instant::now();
    while pids.into_iter().any(runs) {
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "round {round}: {pids:?} outlived their parent"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill_parents(scene: &str, rounds: usize) {
    for round in 0..rounds {
        let (mut parent, pids) = parent(scene);
        assert!(pids.into_iter().all(runs));
        parent.kill().unwrap();
        parent.wait().unwrap();
        all_gone(pids, round);
    }
    println!("    {rounds} of {rounds} parents killed, no child left");
}

fn killed_parent_leaves_no_child() {
    kill_parents("forks_on_main", 100);
}

fn killed_parent_leaves_no_child_of_a_thread_that_ended() {
    kill_parents("forks_on_short_thread", 100);
}

fn killed_parent_leaves_no_child_that_holds_every_signal_back() {
    kill_parents("forks_deaf_ones_on_threads", 50);
}

fn killed_parent_leaves_no_grandchild() {
    kill_parents("forks_nested", 20);
}

fn parent_that_leaves_leaves_no_child() {
    for round in 0..20 {
        let (mut parent, pids) = parent("leaves_without_waiting");
        parent.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert!(parent.wait().unwrap().success());
        all_gone(pids, round);
    }
}
