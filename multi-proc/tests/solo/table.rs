//! The table of deaths: every way for a task to end other than well, and what it is called.

use crate::support::{self, Test, build, group, quick, sys};
use crate::tests;
use multi_proc::{Group, Limits, TaskBuilder, TaskError};
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![every_way_to_die_has_its_name];

pub(crate) const SCENES: &[Test] = &tests![forks_one_that_hangs];

const SIGNALS: [&str; 32] = [
    "",
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
/// Those that do not end a process: they are ignored, or stop it, or have it go on.
const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];
/// The C library's own: nobody can raise them.
const OF_THE_C_LIBRARY: [i32; 2] = [32, 33];
const SIGNAL_MAX: i32 = 64;

#[track_caller]
fn row(way: &str, error: &TaskError, name: &str) {
    row_in("proc", way, error, name);
    if let Some(pid) = error.pid() {
        assert!(!sys::exists(pid), "{way}: process {pid} was not collected");
    }
}

/// Prints a row, after a look at what the failure is called.
#[track_caller]
pub(crate) fn row_in(backend: &str, way: &str, error: &TaskError, name: &str) {
    let text = error.to_string();
    let start = format!("started at {}): ", error.started_at());
    let (_, said) = text.split_once(&start).unwrap_or_default();
    println!("    {way:34} {said}");
    assert!(said.starts_with(name), "{way}: {name:?} in {text}");
    if let Some(pid) = error.pid() {
        let begin = format!("task {} ({backend}, pid {pid}, ", error.id());
        assert!(text.starts_with(&begin), "{text}");
    }
}

/// The failure of a group of `builder`'s with one task, started by `start`.
#[track_caller]
fn only(mut group: Group, start: impl FnOnce(TaskBuilder)) -> TaskError {
    start(group.task());
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    error.first().clone()
}

fn of_task(task: impl FnOnce() -> multi_proc::Result + Send + 'static) -> TaskError {
    only(group(), |builder| builder.go(task))
}

fn within(limits: Limits, task: impl FnOnce() -> multi_proc::Result + Send + 'static) -> TaskError {
    only(group(), |builder| builder.limits(limits).go(task))
}

fn every_way_to_die_has_its_name() {
    println!();
    by_itself();
    by_signal();
    by_limit();
    by_order();
    early_and_late();
    with_its_parent();
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
pub(crate) fn overflow(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    overflow(depth + 1) + room[usize::try_from(depth % 64).unwrap()]
}

fn by_itself() {
    let error = of_task(|| Err("out of luck")?);
    row("returns an error", &error, "out of luck");
    let error = of_task(|| panic!("on purpose"));
    row(
        "panics",
        &error,
        "panicked at multi-proc/tests/solo/table.rs:",
    );
    for code in [0, 1, 7, 255] {
        let name = format!("left its process with exit code {code} before it ended");
        let error = of_task(move || std::process::exit(code));
        row(&format!("exit({code})"), &error, &name);
        let error = of_task(move || sys::exit_now(code));
        row(&format!("_exit({code})"), &error, &name);
    }
    row(
        "abort",
        &of_task(|| std::process::abort()),
        "killed by SIGABRT",
    );
    let error = of_task(|| {
        overflow(0);
        Ok(())
    });
    row(
        "overflows its stack",
        &error,
        "went over its limit: the stack of one of its threads overflowed",
    );
    let error = of_task(|| {
        let thread = std::thread::spawn(|| overflow(0));
        drop(thread.join());
        Ok(())
    });
    row(
        "overflows a thread's stack",
        &error,
        "went over its limit: the stack of one of its threads overflowed",
    );
    let error = of_task(|| {
        // Its handler is the standard library's still, as in any program.
        sys::segfault();
        Ok(())
    });
    row("reads where nothing is", &error, "killed by SIGSEGV");
    let error = of_task(|| {
        sys::ignore(11, false);
        sys::segfault();
        Ok(())
    });
    row("the same, without a handler", &error, "killed by SIGSEGV");
}

/// Ends the process by `signal`, with a core file if that may be written.
fn die_of(signal: i32, with_core: bool, folder: &Path) {
    std::env::set_current_dir(folder).unwrap();
    sys::core_bytes_max(if with_core { 1 << 20 } else { 0 });
    if signal != 9 {
        // Whatever the shell or the runtime made of it.
        sys::ignore(signal, false);
        sys::block(signal, false);
    }
    sys::raise(signal);
}

fn by_signal() {
    let folder = std::env::temp_dir().join(format!("multi-proc-cores-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let fatal = (1..=SIGNAL_MAX)
        .filter(|signal| !HARMLESS.contains(signal) && !OF_THE_C_LIBRARY.contains(signal));
    for signal in fatal {
        let name = usize::try_from(signal)
            .ok()
            .and_then(|at| SIGNALS.get(at))
            .map_or_else(|| format!("signal {signal}"), |name| (*name).to_owned());
        for with_core in [false, true] {
            // What the kernel says to those who ask it themselves: where core files go is the machine's affair.
            let theirs = folder.clone();
            let dumps = sys::raw_fork_dumps_core(signal, || die_of(signal, with_core, &theirs));
            if with_core && !dumps {
                continue;
            }
            let theirs = folder.clone();
            let error = of_task(move || {
                die_of(signal, with_core, &theirs);
                Ok(())
            });
            let called = format!("killed by {name}");
            let called = if dumps {
                format!("{called} (core dumped)")
            } else {
                called
            };
            row(
                if with_core {
                    "the same, with a core file"
                } else {
                    &name
                },
                &error,
                &called,
            );
            let text = error.to_string();
            assert!(text.ends_with(&called), "{text}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

pub(crate) fn burn() -> multi_proc::Result {
    loop {
        black_box(0);
    }
}

fn by_limit() {
    let error = within(Limits::new().memory_bytes_max(16 << 20), || {
        black_box(vec![1_u8; 32 << 20]);
        Ok(())
    });
    row(
        "runs out of memory",
        &error,
        "went over its limit: memory_bytes_max 16 MiB",
    );
    let error = within(Limits::new().cpu_time_max(Duration::from_millis(50)), burn);
    row(
        "runs out of processor time",
        &error,
        "went over its limit: cpu_time_max 50ms",
    );
    let path = std::env::temp_dir().join(format!("multi-proc-grows-{}", std::process::id()));
    let theirs = path.clone();
    let limits = Limits::new().file_bytes_max(1000);
    let error = within(limits, move || {
        let mut file = std::fs::File::create(theirs)?;
        loop {
            file.write_all(&[0; 100])?;
        }
    });
    row(
        "writes too large a file",
        &error,
        "went over its limit: file_bytes_max 1000 bytes",
    );
    std::fs::remove_file(path).unwrap();
    let error = within(Limits::new().open_files_max(0), || {
        std::fs::File::open("/")?;
        Ok(())
    });
    row(
        "has no descriptor left",
        &error,
        "Too many open files (os error 24)",
    );
    let builder = Group::builder().value_bytes_max(10);
    let error = only(build(builder), |builder| {
        drop(builder.spawn(|| Ok([7_u64; 30].to_vec())));
    });
    row(
        "returns too large a value",
        &error,
        "went over its limit: its value takes 31 bytes",
    );
}

pub(crate) fn hang() -> multi_proc::Result {
    loop {
        std::thread::park();
    }
}

fn hang_on_sigterm() -> multi_proc::Result {
    sys::ignore(sys::SIGTERM, true);
    hang()
}

fn by_order() {
    let soon = Duration::from_millis(20);
    let error = only(build(quick()), |builder| builder.timeout(soon).go(hang));
    row("takes too long", &error, "timed out after ");
    let error = only(build(quick()), |builder| {
        builder.timeout(soon).go(hang_on_sigterm);
    });
    row(
        "takes too long, and ignores that",
        &error,
        "timed out after ",
    );
    let cancelled = build(quick());
    cancelled.go(hang);
    cancelled.cancel();
    let error = only(cancelled, |_| ());
    row("is cancelled", &error, "cancelled");
    let refused = build(quick());
    refused.cancel();
    let error = only(refused, |builder| builder.go(|| Ok(())));
    row(
        "is cancelled before it starts",
        &error,
        "not started: its group was cancelled",
    );
    let error = within(Limits::new().nice(50), || Ok(()));
    row(
        "has a limit that cannot be",
        &error,
        "could not start: nice 50 is no priority",
    );
    let error = within(Limits::new().working_directory("/no/such/place"), || Ok(()));
    row(
        "begins where nothing is",
        &error,
        "could not start: cannot change to its working_directory",
    );
    let error = {
        let group = group();
        let _refused = sys::refuse_forks();
        group.go(|| Ok(()));
        only(group, |_| ())
    };
    row(
        "finds no process left",
        &error,
        "could not start: Resource temporarily unavailable",
    );
}

/// A value that kills the process that writes it down.
struct Killer;

impl serde::Serialize for Killer {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        sys::raise(sys::SIGKILL);
        unreachable!("survived SIGKILL")
    }
}

impl<'de> serde::Deserialize<'de> for Killer {
    fn deserialize<D: serde::Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

fn early_and_late() {
    let builder = Group::builder().in_child(|| sys::raise(sys::SIGKILL));
    let error = only(build(builder), |builder| builder.go(|| Ok(())));
    row(
        "is killed before it begins",
        &error,
        "killed by SIGKILL before it began",
    );
    let builder = Group::builder().in_child(|| sys::exit_now(3));
    let error = only(build(builder), |builder| builder.go(|| Ok(())));
    row(
        "leaves before it begins",
        &error,
        "its process left with exit code 3 before the task began",
    );
    let error = only(group(), |builder| drop(builder.spawn(|| Ok(Killer))));
    row("is killed while it reports", &error, "killed by SIGKILL");
    let stray = group();
    stray.go(|| sys::exit_now(5));
    while sys::stray_wait().is_some() {}
    let error = only(stray, |_| ());
    row(
        "is collected by somebody else",
        &error,
        "lost: what became of it cannot be known",
    );
}

fn forks_one_that_hangs() {
    let mut group = group();
    group.go(|| {
        sys::say_out(&format!("{}\n", std::process::id()));
        hang()
    });
    drop(group.wait());
}

/// Nobody is left to be told; that it dies at all is what there is to see.
fn with_its_parent() {
    let mut parent = support::scene("forks_one_that_hangs")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = parent.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let task: u32 = line.trim().parse().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    while sys::is_alive(task) {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("    {:34} ended with it", "its parent is killed");
}
