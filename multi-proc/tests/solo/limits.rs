//! What a task's process can be held to, and what is said when it goes beyond.

use crate::support::{Test, build, group, quick, sys};
use crate::tests;
use multi_proc::{Group, Limits, TaskError, TaskErrorKind, TaskOptions};
use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &tests![
    allocation_beyond_memory_bytes_max_is_named_so,
    memory_limit_counts_from_what_the_task_starts_with,
    thread_that_runs_out_of_memory_is_named_so,
    abort_within_the_memory_limit_is_an_abort,
    allocation_that_looks_at_its_error_can_go_on,
    cpu_time_beyond_its_limit_is_named_so,
    cpu_time_of_a_task_that_ignores_the_warning_ends_all_the_same,
    file_beyond_file_bytes_max_is_named_so,
    descriptors_beyond_open_files_max_are_errors_of_the_task,
    processes_beyond_processes_max_are_errors_of_the_task,
    nice_cpus_directory_and_umask_are_the_tasks_own,
    kill_signal_and_grace_are_the_tasks_own,
    values_no_process_can_have_are_failures_of_that_task,
    what_the_system_refuses_is_a_failure_of_that_task,
    limits_of_the_group_hold_where_the_task_sets_none,
    limits_of_the_task_end_with_it,
    limit_above_a_softer_one_leaves_that,
];

const MIB: usize = 1 << 20;

/// The failure of one task held to `limits`.
fn failure_within(
    limits: Limits,
    task: impl FnOnce() -> multi_proc::Result + Send + 'static,
) -> TaskError {
    let mut group = group();
    group.task().limits(limits).go(task);
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    println!("    {error}");
    error.first().clone()
}

fn is_limit(error: &TaskError, text: &str) -> bool {
    matches!(error.kind(), TaskErrorKind::LimitExceeded(limit) if limit.starts_with(text))
}

fn memory(bytes: usize) -> Limits {
    Limits::new().memory_bytes_max(bytes as u64)
}

fn allocate(bytes: usize) -> multi_proc::Result {
    black_box(vec![1_u8; bytes]);
    Ok(())
}

fn allocation_beyond_memory_bytes_max_is_named_so() {
    let at_once = failure_within(memory(32 * MIB), || allocate(64 * MIB));
    assert!(is_limit(&at_once, "memory_bytes_max 32 MiB"), "{at_once}");
    let text = at_once.to_string();
    assert!(text.contains("went over its limit: memory_bytes_max 32 MiB"));
    assert!(text.ends_with("raise the limit, or give the task less to do"));
    let bit_by_bit = failure_within(memory(8 * MIB), || {
        let mut kept: Vec<Box<[u8; 1000]>> = Vec::new();
        loop {
            kept.push(Box::new([7; 1000]));
            black_box(&kept);
        }
    });
    assert!(is_limit(&bit_by_bit, "memory_bytes_max"), "{bit_by_bit}");
}

fn memory_limit_counts_from_what_the_task_starts_with() {
    let mut ballast = vec![1_u8; 200 * MIB];
    let mut group = group();
    let task = group.task().limits(memory(32 * MIB));
    task.go(|| allocate(16 * MIB));
    let size = task.spawn(move || {
        // Written to, and so copied, but not allocated.
        ballast.fill(2);
        Ok(ballast.len())
    });
    assert_eq!(size.join().unwrap(), 200 * MIB);
    group.wait().unwrap();
}

fn thread_that_runs_out_of_memory_is_named_so() {
    let error = failure_within(memory(32 * MIB), || {
        std::thread::spawn(|| allocate(64 * MIB)).join().unwrap()
    });
    assert!(is_limit(&error, "memory_bytes_max"), "{error}");
}

fn abort_within_the_memory_limit_is_an_abort() {
    let error = failure_within(memory(32 * MIB), || std::process::abort());
    let is_abort = matches!(error.kind(), TaskErrorKind::Signaled { signal: 6, .. });
    assert!(is_abort, "{error}");
    let error = failure_within(memory(32 * MIB), || {
        sys::raise(6);
        Ok(())
    });
    let is_abort = matches!(error.kind(), TaskErrorKind::Signaled { signal: 6, .. });
    assert!(is_abort, "{error}");
}

fn allocation_that_looks_at_its_error_can_go_on() {
    let mut group = group();
    let refused = group.task().limits(memory(32 * MIB)).spawn(|| {
        let mut room: Vec<u8> = Vec::new();
        Ok(room.try_reserve(64 * MIB).is_err())
    });
    assert!(refused.join().unwrap());
    group.wait().unwrap();
}

fn burn() -> multi_proc::Result {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

fn cpu_time_beyond_its_limit_is_named_so() {
    let limits = Limits::new().cpu_time_max(Duration::from_millis(100));
    let error = failure_within(limits, burn);
    assert!(is_limit(&error, "cpu_time_max 100ms (it used "), "{error}");
    // Sleeping costs nothing.
    let mut group = group();
    let limits = Limits::new().cpu_time_max(Duration::from_millis(100));
    group.task().limits(limits).go(|| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    });
    group.wait().unwrap();
}

fn cpu_time_of_a_task_that_ignores_the_warning_ends_all_the_same() {
    let limits = Limits::new().cpu_time_max(Duration::from_millis(20));
    let error = failure_within(limits, || {
        sys::ignore(sys::SIGXCPU, true);
        burn()
    });
    assert!(is_limit(&error, "cpu_time_max 20ms"), "{error}");
}

/// A folder of this test's own.
fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("multi-proc-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&path));
    fs::create_dir(&path).unwrap();
    path
}

fn file_beyond_file_bytes_max_is_named_so() {
    let folder = scratch("file-bytes");
    let limits = Limits::new()
        .file_bytes_max(64 << 10)
        .working_directory(&folder);
    let error = failure_within(limits, || {
        let mut file = fs::File::create("grows")?;
        loop {
            file.write_all(&[0; 4096])?;
        }
    });
    assert!(is_limit(&error, "file_bytes_max 64 KiB"), "{error}");
    assert_eq!(fs::metadata(folder.join("grows")).unwrap().len(), 64 << 10);
    fs::remove_dir_all(folder).unwrap();
}

fn descriptors_beyond_open_files_max_are_errors_of_the_task() {
    let error = failure_within(Limits::new().open_files_max(40), || {
        let mut open = Vec::new();
        loop {
            assert!(open.len() < 40, "more descriptors than the limit allows");
            open.push(fs::File::open("/")?);
        }
    });
    assert!(error.is_returned(), "{error}");
    assert_eq!(error.os_code(), Some(24), "{error}");
}

fn processes_beyond_processes_max_are_errors_of_the_task() {
    // The superuser is held to no such limit: the task becomes somebody else, as a program that drops its privileges does.
    let builder = Group::builder()
        .in_child(sys::become_nobody)
        .limits(Limits::new().processes_max(0));
    let mut group = build(builder);
    group.go(|| {
        std::thread::Builder::new().spawn(|| {})?;
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert_eq!(error.first().os_code(), Some(11), "{error}");
}

fn nice_cpus_directory_and_umask_are_the_tasks_own() {
    let folder = scratch("own");
    let cpu = first_cpu();
    let limits = Limits::new()
        .nice(7)
        .cpus([cpu])
        .working_directory(&folder)
        .umask(0o077);
    let mut group = group();
    let seen = group.task().limits(limits).spawn(|| {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no name in it")?;
        let nice = fields.split(' ').nth(16).ok_or("no nice in it")?.to_owned();
        fs::write("made", "")?;
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata("made")?);
        Ok((nice, cpus_allowed(), mode & 0o777))
    });
    assert_eq!(
        seen.join().unwrap(),
        ("7".to_owned(), cpu.to_string(), 0o600)
    );
    group.wait().unwrap();
    assert!(folder.join("made").exists());
    assert_ne!(std::env::current_dir().unwrap(), folder);
    fs::remove_dir_all(folder).unwrap();
}

/// As the kernel lists them: `0-3,5`.
fn cpus_allowed() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

fn first_cpu() -> usize {
    let list = cpus_allowed();
    list.split(['-', ',']).next().unwrap().parse().unwrap()
}

fn kill_signal_and_grace_are_the_tasks_own() {
    let hang = || -> multi_proc::Result {
        sys::ignore(sys::SIGTERM, true);
        loop {
            std::thread::park();
        }
    };
    // The group's grace would take the test's time.
    let mut group = build(Group::builder().grace(Duration::from_secs(500)));
    let soon = Duration::from_millis(20);
    let by_int = Limits::new().kill_signal(sys::SIGINT);
    group.task().limits(by_int).timeout(soon).go(hang);
    let by_kill = Limits::new().grace(Duration::from_millis(50));
    group.task().limits(by_kill).timeout(soon).go(hang);
    let start = Instant::now();
    let error = group.wait().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(50), "no grace");
    assert_eq!(error.failed_count(), 2);
    assert!(
        error.failures().iter().all(TaskError::is_timed_out),
        "{error}"
    );
    let by_int = Limits::new()
        .kill_signal(sys::SIGINT)
        .grace(Duration::from_millis(1));
    group.task().limits(by_int).go(hang);
    group.cancel();
    let error = group.wait().unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

fn values_no_process_can_have_are_failures_of_that_task() {
    let mut group = group();
    let bad = group.task().name("hasty").limits(Limits::new().nice(50));
    bad.go(|| Ok(()));
    let refused = bad.try_go(|| Err("came back")?).unwrap_err();
    assert!(refused.to_string().contains("nice 50"), "{refused}");
    assert_eq!(refused.into_task()().unwrap_err().to_string(), "came back");
    assert!(bad.spawn(|| Ok(1)).join().unwrap_err().is_start());
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.task_count()), (2, 3));
    let text = error.first().to_string();
    assert!(
        text.starts_with("task 0 \"hasty\" (proc, started at "),
        "{text}"
    );
    assert!(
        text.ends_with(
            "could not start: nice 50 is no priority; give one from -20, the highest, to 19, the lowest"
        ),
        "{text}"
    );
    let builder = Group::builder().limits(Limits::new().umask(0o7777));
    // SAFETY: as in `support::group`.
    #[expect(unsafe_code, reason = "a group of forked closures")]
    let refused = unsafe { builder.fork() }.unwrap_err();
    assert!(refused.to_string().contains("umask 0o7777"), "{refused}");
}

fn what_the_system_refuses_is_a_failure_of_that_task() {
    let error = failure_within(Limits::new().working_directory("/no/such/place"), || {
        panic!("the closure started")
    });
    assert!(error.is_start() && error.os_code() == Some(2), "{error}");
    assert!(
        error.to_string().ends_with(
            "could not start: cannot change to its working_directory \"/no/such/place\": No such file or directory (os error 2)"
        ),
        "{error}"
    );
    let error = failure_within(Limits::new().cpus([1000]), || Ok(()));
    assert!(error.is_start(), "{error}");
    let error = failure_within(Limits::new().cpus([first_cpu(), 1000]), || Ok(()));
    assert!(
        error.to_string().contains("there is no CPU 1000"),
        "{error}"
    );
}

fn limits_of_the_group_hold_where_the_task_sets_none() {
    let builder = quick().limits(Limits::new().nice(3).umask(0o027));
    let mut group = build(builder);
    let seen = || {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let nice = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(16));
        Ok((nice.unwrap_or_default().to_owned(), sys::umask()))
    };
    let defaults = group.spawn(seen);
    let own = group.task().limits(Limits::new().nice(9)).spawn(seen);
    assert_eq!(defaults.join().unwrap(), ("3".to_owned(), 0o027));
    assert_eq!(own.join().unwrap(), ("9".to_owned(), 0o027));
    group.go_with(TaskOptions::new().name("plain"), || Ok(()));
    group.wait().unwrap();
}

fn limits_of_the_task_end_with_it() {
    let (before, mask) = (std::env::current_dir().unwrap(), sys::umask());
    let limits = memory(MIB).umask(0o111).working_directory("/").nice(19);
    let mut group = group();
    group.task().limits(limits).go(|| Ok(()));
    group.wait().unwrap();
    assert_eq!(
        (std::env::current_dir().unwrap(), sys::umask()),
        (before, mask)
    );
    allocate(8 * MIB).unwrap();
}

fn limit_above_a_softer_one_leaves_that() {
    let limited = sys::limit_descriptors(100);
    let mut group = group();
    let task = group.task().limits(Limits::new().open_files_max(200));
    let line = task.spawn(|| {
        let limits = fs::read_to_string("/proc/self/limits")?;
        let mut lines = limits.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max open files"));
        Ok(line.unwrap_or_default().to_owned())
    });
    let line = line.join().unwrap();
    let [soft, hard] = [0, 1].map(|at| line.split_ascii_whitespace().nth(at).unwrap());
    assert_eq!([soft, hard], ["100", "200"], "{line}");
    group.wait().unwrap();
    drop(limited);
}
