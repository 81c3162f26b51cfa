//! Ctrl-C: once, twice, three times; and as it was before.

use crate::support::{self, Residue, Test, build, sys};
use crate::tests;
use multi_proc::{Group, Interrupt};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Stdio};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    first_interrupt_stops_tasks_in_good_order,
    second_interrupt_kills_tasks_at_once,
    third_interrupt_ends_the_program_and_its_tasks,
    handlers_are_as_before_once_it_is_dropped,
    handler_of_a_dropped_one_does_nothing_for_whoever_still_calls_it,
    handler_that_is_put_back_after_its_end_lets_the_program_end,
    one_may_be_dropped_by_whoever_holds_standard_error,
    ignored_signals_stay_ignored,
    there_is_one_at_a_time,
    task_may_have_one_of_its_own,
];

pub(crate) const SCENES: &[Test] = &tests![
    drains,
    hangs,
    hangs_without_end,
    is_interrupted_after_its_end,
    is_interrupted_when_put_back,
    drops_with_standard_error_held,
];

/// A scene in a process group of its own, as a terminal has its programs, with Ctrl-C heeded.
fn in_foreground(name: &str) -> Child {
    let mut command = support::scene(name);
    command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Reads lines of `scene`'s standard output up to `line`.
fn wait_for(scene: &mut Child, line: &str) {
    let mut out = BufReader::new(scene.stdout.as_mut().unwrap());
    let mut said = String::new();
    while said.trim_end() != line {
        said.clear();
        assert_ne!(out.read_line(&mut said).unwrap(), 0, "no {line:?}");
    }
}

/// What a terminal does at Ctrl-C.
fn press_ctrl_c(scene: &Child) {
    sys::kill_group(scene.id(), sys::SIGINT);
}

fn rest(scene: Child) -> (std::process::ExitStatus, String, String) {
    let output = scene.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status, text(output.stdout), text(output.stderr))
}

fn interrupted_group(grace: Duration) -> (Interrupt, Group) {
    sys::ignore(sys::SIGINT, false);
    let interrupt = Interrupt::install().unwrap();
    let builder = Group::builder().grace(grace).interrupt(&interrupt);
    (interrupt, build(builder))
}

fn drains() {
    let (interrupt, mut group) = interrupted_group(Duration::from_millis(200));
    for n in 0..3 {
        let token = interrupt.token();
        group.go(move || {
            sys::say_out(&format!("task {n}\n"));
            token.wait();
            std::thread::sleep(Duration::from_millis(20));
            sys::say_out(&format!("task {n} in order\n"));
            Ok(())
        });
    }
    group.go(|| {
        sys::say_out("deaf\n");
        loop {
            std::thread::park();
        }
    });
    let error = group.wait().unwrap_err();
    assert_eq!(interrupt.count(), 1);
    assert!(error.failed_count() == 1 && error.is_cancelled(), "{error}");
    // Nothing new begins.
    group.go(|| panic!("a task was started"));
    assert!(group.wait().unwrap_err().is_cancelled());
    sys::say_out("reported\n");
}

fn first_interrupt_stops_tasks_in_good_order() {
    let mut scene = in_foreground("drains");
    let mut ready = BufReader::new(scene.stdout.take().unwrap());
    let mut said = String::new();
    for _ in 0..4 {
        ready.read_line(&mut said).unwrap();
    }
    press_ctrl_c(&scene);
    ready.read_to_string(&mut said).unwrap();
    let (status, _, stderr) = rest(scene);
    assert!(status.success(), "{status}: {said}{stderr}");
    assert_eq!(said.matches("in order").count(), 3, "{said}");
    assert!(said.ends_with("reported\n"), "{said}");
    assert!(
        stderr.contains("tasks are asked to stop; interrupt again to kill them"),
        "{stderr}"
    );
}

fn hangs() {
    let (interrupt, mut group) = interrupted_group(Duration::from_secs(500));
    let token = interrupt.token();
    for _ in 0..2 {
        group.go(|| {
            sys::ignore(sys::SIGTERM, true);
            loop {
                std::thread::park();
            }
        });
    }
    group.go(move || {
        token.wait();
        sys::say_out("asked\n");
        loop {
            std::thread::park();
        }
    });
    sys::say_out("ready\n");
    let error = group.wait().unwrap_err();
    assert_eq!(interrupt.count(), 2);
    assert!(error.failed_count() == 3 && error.is_cancelled(), "{error}");
    assert_eq!(Residue::count().children, 0);
}

fn second_interrupt_kills_tasks_at_once() {
    let mut scene = in_foreground("hangs");
    wait_for(&mut scene, "ready");
    press_ctrl_c(&scene);
    wait_for(&mut scene, "asked");
    press_ctrl_c(&scene);
    let (status, _, stderr) = rest(scene);
    assert!(status.success(), "{status}: {stderr}");
    assert!(
        stderr.contains("multi: interrupted again: 3 tasks are killed"),
        "{stderr}"
    );
}

fn hangs_without_end() {
    let (interrupt, group) = interrupted_group(Duration::from_secs(500));
    group.go(|| {
        sys::say_out(&format!("{}\n", std::process::id()));
        loop {
            std::thread::park();
        }
    });
    loop {
        // Nobody waits for the group, and nobody looks.
        std::thread::sleep(Duration::from_millis(1));
        if interrupt.count() == 2 {
            sys::say_out("twice\n");
            std::thread::sleep(Duration::from_secs(500));
        }
    }
}

fn third_interrupt_ends_the_program_and_its_tasks() {
    let mut scene = in_foreground("hangs_without_end");
    let mut line = String::new();
    BufReader::new(scene.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let task: u32 = line.trim().parse().unwrap();
    press_ctrl_c(&scene);
    sys::kill(scene.id(), sys::SIGTERM);
    wait_for(&mut scene, "twice");
    press_ctrl_c(&scene);
    let (status, _, stderr) = rest(scene);
    assert_eq!(status.signal(), Some(sys::SIGINT), "{status}: {stderr}");
    while sys::is_alive(task) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn handlers_are_as_before_once_it_is_dropped() {
    sys::interrupt_on(sys::SIGINT);
    sys::ignore(sys::SIGTERM, false);
    let before = [sys::SIGINT, sys::SIGTERM].map(sys::handler);
    let threads = Residue::count().threads;
    let interrupt = Interrupt::install().unwrap();
    assert_ne!([sys::SIGINT, sys::SIGTERM].map(sys::handler), before);
    sys::raise(sys::SIGTERM);
    assert!(interrupt.token().wait_timeout(Duration::from_secs(50)));
    drop(interrupt);
    assert_eq!([sys::SIGINT, sys::SIGTERM].map(sys::handler), before);
    assert_eq!(Residue::count().threads, threads);
    sys::ignore(sys::SIGINT, false);
}

/// Another library replaces the handler, and calls it from its own. Then the `Interrupt` is dropped.
fn is_interrupted_after_its_end() {
    sys::ignore(sys::SIGINT, false);
    let interrupt = Interrupt::install().unwrap();
    sys::chain_on(sys::SIGINT);
    sys::raise(sys::SIGINT);
    assert_eq!(interrupt.count(), 1);
    assert!(interrupt.token().wait_timeout(Duration::from_secs(50)));
    drop(interrupt);
    // These have the numbers of what was closed.
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.extend(<[UnixStream; 2]>::from(UnixStream::pair().unwrap()));
    }
    for _ in 0..4 {
        sys::raise(sys::SIGINT);
    }
    assert_eq!(sys::chained(), 5);
    for stranger in &mut strangers {
        stranger.set_nonblocking(true).unwrap();
        let read = stranger.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(read, Err(std::io::ErrorKind::WouldBlock));
    }
    // The next one counts from the beginning.
    let next = Interrupt::install().unwrap();
    assert_eq!(next.count(), 0);
    sys::raise(sys::SIGINT);
    assert_eq!(next.count(), 1);
    assert!(next.token().wait_timeout(Duration::from_secs(50)));
    drop(next);
    println!("alive");
}

fn handler_of_a_dropped_one_does_nothing_for_whoever_still_calls_it() {
    let (stdout, _) = support::printed_by("is_interrupted_after_its_end");
    assert_eq!(stdout, "alive\n");
}

fn is_interrupted_when_put_back() {
    sys::ignore(sys::SIGINT, false);
    let interrupt = Interrupt::install().unwrap();
    sys::chain_on(sys::SIGINT);
    drop(interrupt);
    sys::unchain(sys::SIGINT);
    sys::raise(sys::SIGINT);
    println!("deaf");
}

fn handler_that_is_put_back_after_its_end_lets_the_program_end() {
    let output = support::scene("is_interrupted_when_put_back")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(sys::SIGINT), "{output:?}");
}

fn drops_with_standard_error_held() {
    sys::ignore(sys::SIGINT, false);
    let interrupt = Interrupt::install().unwrap();
    let held = std::io::stderr().lock();
    sys::raise(sys::SIGINT);
    // Its thread has printed, or is about to.
    assert!(interrupt.token().wait_timeout(Duration::from_secs(50)));
    drop(interrupt);
    drop(held);
}

fn one_may_be_dropped_by_whoever_holds_standard_error() {
    let (_, stderr) = support::printed_by("drops_with_standard_error_held");
    assert!(
        stderr.starts_with("multi: interrupted: 0 tasks are asked to stop"),
        "{stderr}"
    );
}

fn ignored_signals_stay_ignored() {
    sys::ignore(sys::SIGINT, true);
    let interrupt = Interrupt::install().unwrap();
    assert!(!interrupt.is_heeded());
    sys::raise(sys::SIGINT);
    assert_eq!(interrupt.count(), 0);
    drop(interrupt);
    sys::ignore(sys::SIGINT, false);
}

fn there_is_one_at_a_time() {
    for _ in 0..3 {
        let first = Interrupt::install().unwrap();
        let error = Interrupt::install().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        drop(first);
    }
}

fn task_may_have_one_of_its_own() {
    let interrupt = Interrupt::install().unwrap();
    let mut group = build(Group::builder().interrupt(&interrupt));
    group.go(|| {
        let own = Interrupt::install()?;
        let mut inner = build(Group::builder().interrupt(&own));
        let token = own.token();
        inner.go(move || {
            token.wait();
            Ok(())
        });
        sys::raise(sys::SIGTERM);
        inner.wait()?;
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!(interrupt.count(), 0);
}
