//! What the tests that fork have in common: a runner on the main thread and a watchdog.

#![allow(dead_code, reason = "not every test program uses everything here")]
#![allow(unsafe_code, reason = "groups of forked closures")]

pub(crate) mod sys;

use libtest_mimic::{Arguments, Failed, Trial};
use multi_proc::Group;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A test by its name.
pub(crate) type Test = (&'static str, fn());

/// Lists tests: `tests![a, b]`.
#[macro_export]
macro_rules! tests {
    ($($test:ident),+ $(,)?) => { [$((stringify!($test), $test as fn())),+] };
}

static CURRENT: Mutex<Option<(&'static str, Instant)>> = Mutex::new(None);

/// Runs `tests` one after the other on this thread, each for at most `time_max`.
pub(crate) fn run(tests: &[Test], time_max: Duration) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if !arguments.list {
        std::thread::spawn(move || watch(time_max));
    }
    let trials = tests.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            set_current(Some((name, Instant::now())));
            let outcome = std::panic::catch_unwind(test);
            set_current(None);
            outcome.map_err(|_| Failed::without_message())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn set_current(current: Option<(&'static str, Instant)>) {
    *CURRENT.lock().unwrap() = current;
}

/// Ends a program that hangs, by name, with its processes: none outlives its parent.
fn watch(time_max: Duration) {
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let current = *CURRENT.lock().unwrap();
        if let Some((name, since)) = current
            && since.elapsed() > time_max
        {
            sys::say(&format!("{name} hangs: {:.1?} are over\n", since.elapsed()));
            for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let read =
                    |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                sys::say(&format!(
                    "  thread {:?} {}: {}\n",
                    task.file_name(),
                    read("comm").trim(),
                    read("syscall").trim()
                ));
            }
            std::process::abort();
        }
    }
}

/// A group with the default options.
pub(crate) fn group() -> Group {
    // SAFETY: the tests' other threads hold no lock that a task takes, unless that is what the test is about.
    unsafe { Group::new() }
}

/// A group with `builder`'s options.
pub(crate) fn build(builder: multi_proc::Builder) -> Group {
    // SAFETY: as in `group`.
    unsafe { builder.fork() }.unwrap()
}

/// A builder whose groups do not wait long before they kill.
pub(crate) fn quick() -> multi_proc::Builder {
    Group::builder().grace(Duration::from_millis(100))
}

/// Which scene this process is to play instead of running tests.
pub(crate) const SCENE: &str = "MULTI_PROC_SCENE";

/// Plays the scene this process was started for, if it was.
pub(crate) fn play(scenes: &[Test]) -> bool {
    let Ok(name) = std::env::var(SCENE) else {
        return false;
    };
    let (_, scene) = scenes.iter().find(|(scene, _)| *scene == name).unwrap();
    scene();
    true
}

/// As [`play`], if the scene is one of these.
pub(crate) fn play_if_there(scenes: &[Test]) -> bool {
    let name = std::env::var(SCENE);
    let is_one = |(scene, _): &Test| name.as_deref() == Ok(*scene);
    scenes.iter().any(is_one) && play(scenes)
}

/// This program again, to play `scene`.
pub(crate) fn scene(scene: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(SCENE, scene)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null());
    command
}

/// Plays `scene` to its end and returns what it printed: standard output, standard error.
pub(crate) fn printed_by(name: &str) -> (String, String) {
    let output = scene(name).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(
        output.status.success(),
        "{name} ended with {}: {stdout}{stderr}",
        output.status
    );
    (stdout, stderr)
}

/// The failures of a group of one task that is to fail, as the kind of the one there is.
pub(crate) fn failure_of(
    task: impl FnOnce() -> multi_proc::Result + Send + 'static,
) -> multi_proc::TaskError {
    let mut group = group();
    group.go(task);
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    error.first().clone()
}

/// What the kernel holds for this process: descriptors, mappings, threads, children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Residue {
    pub(crate) descriptors: usize,
    pub(crate) mappings: usize,
    pub(crate) threads: usize,
    pub(crate) children: usize,
}

impl Residue {
    pub(crate) fn count() -> Self {
        Self::of("self")
    }

    /// That of another process, by its number.
    pub(crate) fn of(process: &str) -> Self {
        let place = |name: &str| format!("/proc/{process}/{name}");
        let entries = |name| std::fs::read_dir(place(name)).unwrap().count();
        let children = |task: std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("children"))
                .unwrap_or_default()
                .split_whitespace()
                .count()
        };
        Self {
            descriptors: entries("fd"),
            mappings: std::fs::read_to_string(place("maps"))
                .unwrap()
                .lines()
                .count(),
            threads: entries("task"),
            children: std::fs::read_dir(place("task"))
                .unwrap()
                .flatten()
                .map(children)
                .sum(),
        }
    }
}
