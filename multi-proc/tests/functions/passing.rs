//! What a task has of this process: nothing but what was passed on purpose.

use crate::support::{self, Test, sys};
use crate::{groups, tests};
use multi_proc::{Group, Input, Limits, Output, Result};
use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    descriptors_are_not_passed,
    environment_is_passed_on_purpose_only,
    memory_of_the_parent_does_not_weigh_on_a_task,
    locks_of_other_threads_do_not_reach_a_task,
    blocked_signals_of_a_thread_do_not_reach_a_task,
    limits_hold_for_functions_too,
    streams_are_passed_on_purpose,
    one_call_is_held_to_limits_of_its_own,
    hash_keys_differ_between_tasks,
    green_tasks_call_functions_that_have_green_tasks,
    interrupted_system_calls_are_taken_up_again,
    limit_of_file_size_is_an_error_for_who_shares_memory,
    in_child_and_env_are_refused_where_they_mean_nothing,
];

pub(crate) const SCENES: &[Test] = &tests![shows_environment, calls_from_green_tasks];

/// What each descriptor of this process refers to.
pub(crate) fn descriptors(_: ()) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The one of the listing itself is gone by now, or will be.
        if let Ok(link) = fs::read_link(entry.path()) {
            found.push(format!(
                "{} {}",
                entry.file_name().display(),
                link.display()
            ));
        }
    }
    Ok(found)
}

fn descriptors_are_not_passed() {
    let before = descriptors(()).unwrap();
    let file = fs::File::open("/etc/passwd").unwrap();
    // One as C libraries open them, that an executed program would inherit.
    let open_on_exec = sys::open_on_exec(&file);
    for (name, mut group) in groups() {
        for _ in 0..3 {
            let theirs = group.call(descriptors, ()).unwrap();
            let strangers: Vec<_> = theirs
                .iter()
                .filter(|fd| !before.contains(fd) && !fd.contains("/proc/"))
                .collect();
            // What wakes the group where the task cancels it; and an executed task keeps the line that its order came by.
            let (ours, strangers): (Vec<_>, Vec<_>) = strangers.into_iter().partition(|fd| {
                fd.ends_with("anon_inode:[eventfd]") || fd.starts_with("3 socket:")
            });
            assert!(
                ours.len() <= 1 + usize::from(name == "spawn"),
                "{name}: {theirs:?}"
            );
            assert!(strangers.is_empty(), "{name}: {theirs:?}");
        }
        assert!(group.wait().is_ok());
    }
    drop(open_on_exec);
}

fn shows_environment() {
    let show = |()| {
        let mut names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
        names.sort_unstable();
        Ok(names.join(" "))
    };
    for builder in [
        Group::builder(),
        Group::builder()
            .env_clear()
            .env("A", "1")
            .env_pass("SECRET")
            .env_pass("NOT_SET"),
        Group::builder()
            .env("PATH", "/bin")
            .env("A", "1")
            .env("A", "2"),
    ] {
        let mut group = builder.spawn().unwrap();
        println!("{}", group.call(show, ()).unwrap());
        println!(
            "{}",
            group
                .call(|()| Ok(std::env::var("A").unwrap_or_default()), ())
                .unwrap()
        );
        group.wait().unwrap();
    }
}

fn environment_is_passed_on_purpose_only() {
    let output = support::scene("shows_environment")
        .env_clear()
        .env(support::SCENE, "shows_environment")
        .env("PATH", "/usr/bin")
        .env("SECRET", "hush")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(
        lines,
        ["PATH", "", "A SECRET", "1", "A PATH", "2"],
        "{output:?}"
    );
}

/// A line of the task's own `/proc/self/status`.
fn status(name: String) -> Result<String> {
    let mut status = String::new();
    fs::File::open("/proc/self/status")?.read_to_string(&mut status)?;
    let line = status.lines().find_map(|line| line.strip_prefix(&*name));
    Ok(line.ok_or("no such line")?.trim().to_owned())
}

fn memory_of_the_parent_does_not_weigh_on_a_task() {
    const KIB: u64 = 128 << 10;
    let ballast = std::hint::black_box(vec![7_u8; (KIB << 10) as usize]);
    for (name, mut group) in groups() {
        let peak = group.call(status, "VmHWM:".into()).unwrap();
        println!("    {name}: {peak} at most, beside a parent with 128 MiB");
        let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
        assert!(peak < KIB, "{name}: {peak}");
        assert!(group.wait().is_ok());
    }
    drop(ballast);
}

static HELD: Mutex<u32> = Mutex::new(5);

fn locks_of_other_threads_do_not_reach_a_task() {
    let held = HELD.lock().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            for (name, mut group) in groups() {
                let value = group.call(|()| Ok(*HELD.lock().unwrap()), ()).unwrap();
                assert_eq!(value, 5, "{name}");
                assert!(group.wait().is_ok());
            }
        });
    });
    drop(held);
}

fn blocked_signals_of_a_thread_do_not_reach_a_task() {
    std::thread::scope(|s| {
        s.spawn(|| {
            sys::block_termination();
            for (name, mut group) in groups() {
                let blocked = group.call(status, "SigBlk:".into()).unwrap();
                assert_eq!(blocked, "0000000000000000", "{name}");
                assert!(group.wait().is_ok());
            }
        });
    });
}

fn limits_hold_for_functions_too() {
    let leak = |bytes: usize| {
        let leak = std::hint::black_box(vec![7_u8; bytes]);
        Ok(leak.len())
    };
    for (name, way) in crate::WAYS {
        let limits = Limits::new()
            .memory_bytes_max(64 << 20)
            .working_directory("/");
        let mut group = way(Group::builder().limits(limits)).unwrap();
        assert_eq!(
            group.call(|()| Ok(std::env::current_dir()?), ()).unwrap(),
            Path::new("/"),
            "{name}"
        );
        assert_eq!(group.call(leak, 1 << 20).unwrap(), 1 << 20, "{name}");
        let error = group.call(leak, 100 << 20).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("went over its limit: memory_bytes_max 64 MiB"),
            "{name}: {error}"
        );
        assert!(group.wait().is_err());

        let limits = Limits::new().working_directory("/no/such/folder");
        let mut group = way(Group::builder().limits(limits)).unwrap();
        let error = group.call(leak, 1).unwrap_err();
        assert!(
            error.is_start() && error.to_string().contains("working_directory"),
            "{name}: {error}"
        );
        assert!(group.wait().is_err());
    }
}

fn streams_are_passed_on_purpose() {
    for (name, way) in crate::WAYS {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let builder = Group::builder()
            .stdin(Input::file(fs::File::open("/proc/version").unwrap()))
            .stdout(Output::lines(move |_task, line| {
                kept.lock().unwrap().push(line.to_owned());
            }))
            .stderr(Output::tail(100));
        let mut group = way(builder).unwrap();
        let task = |()| -> Result {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            println!("{}", line.split(' ').next().unwrap_or_default());
            println!("two");
            sys::say("last words");
            std::process::abort()
        };
        let error = group.call(task, ()).unwrap_err();
        assert_eq!(error.stderr_tail(), Some("last words"), "{name}: {error}");
        assert!(group.wait().is_err());
        assert_eq!(*lines.lock().unwrap(), ["Linux", "two"], "{name}");

        let mut group = way(Group::builder().stdin(Input::null()).stdout(Output::null())).unwrap();
        let streams = |()| Ok([0, 1].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok()));
        let null = || Some(Path::new("/dev/null").to_owned());
        assert_eq!(group.call(streams, ()).unwrap(), [null(), null()], "{name}");
        assert!(group.wait().is_ok());
    }
}

fn one_call_is_held_to_limits_of_its_own() {
    for (name, way) in crate::WAYS {
        let group_limits = Limits::new().working_directory("/").nice(1);
        let mut group = way(Group::builder().limits(group_limits)).unwrap();
        let place = |()| Ok((std::env::current_dir()?, status("Pid:".into())?));
        let own = group
            .task()
            .name("own")
            .limits(Limits::new().working_directory("/usr"));
        let measured = own.spawn_fn_measured(place, ()).join().unwrap();
        assert_eq!(measured.value.0, Path::new("/usr"), "{name}");
        assert!(measured.usage.peak_bytes > 0);
        assert_eq!(group.call(place, ()).unwrap().0, Path::new("/"), "{name}");
        let late = group
            .task()
            .timeout(Duration::from_millis(50))
            .limits(Limits::new().grace(Duration::ZERO));
        let slow = |()| -> Result {
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        };
        assert!(late.call(slow, ()).unwrap_err().is_timed_out(), "{name}");
        assert_eq!(group.wait().unwrap_err().failed_count(), 1);
    }
}

/// In a process of its own, since the runtime's threads stay.
fn calls_from_green_tasks() {
    for (name, group) in groups() {
        let group = Arc::new(group);
        let mut green = multi_goro::Group::new();
        let sums: Vec<_> = (0..4_u64)
            .map(|n| {
                let group = Arc::clone(&group);
                green.spawn(move || Ok(group.call(sum_in_green_tasks, n)?))
            })
            .collect();
        let sums: Vec<_> = sums.into_iter().map(|sum| sum.join().unwrap()).collect();
        green.wait().unwrap();
        println!("{name} {sums:?}");
    }
}

fn sum_in_green_tasks(n: u64) -> Result<u64> {
    let mut green = multi_goro::Group::new();
    let parts = [n, 10, 20].map(|part| green.spawn(move || Ok(part)));
    let mut sum = 0;
    for part in parts {
        sum += part.join()?;
    }
    green.wait()?;
    Ok(sum)
}

fn green_tasks_call_functions_that_have_green_tasks() {
    let (stdout, _) = support::printed_by("calls_from_green_tasks");
    assert_eq!(stdout, "zygote [30, 31, 32, 33]\nspawn [30, 31, 32, 33]\n");
}

fn hash_keys_differ_between_tasks() {
    let hash = |()| Ok(RandomState::new().hash_one(7));
    for (name, mut group) in groups() {
        let hashes: BTreeSet<u64> = (0..5).map(|_| group.call(hash, ()).unwrap()).collect();
        assert_eq!(hashes.len(), 5, "{name}");
        assert!(group.wait().is_ok());
    }
}

fn interrupted_system_calls_are_taken_up_again() {
    sys::interrupt_on(sys::SIGALRM);
    sys::alarm_every(Duration::from_micros(700));
    for (name, mut group) in groups() {
        for n in 0..20_u64 {
            let value = group.call(|n| Ok(vec![n; 1000]), n).unwrap();
            assert_eq!(value[999], n, "{name}");
        }
        assert!(group.wait().is_ok());
    }
    sys::alarm_every(Duration::ZERO);
    sys::ignore(sys::SIGALRM, false);
}

fn limit_of_file_size_is_an_error_for_who_shares_memory() {
    let mut group = Group::builder().zygote().unwrap();
    let limits = Limits::new().file_bytes_max(1 << 20);
    let make = |()| {
        let group = Group::builder().zygote().unwrap_err();
        let pool = multi_proc::Pool::builder().zygote().unwrap_err();
        Ok([group.to_string(), pool.to_string()])
    };
    let errors = group.task().limits(limits).call(make, ()).unwrap();
    for error in errors {
        assert!(error.contains("File too large"), "{error}");
    }
    group.wait().unwrap();
}

fn in_child_and_env_are_refused_where_they_mean_nothing() {
    for way in crate::WAYS {
        let error = (way.1)(Group::builder().in_child(|| ())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("in_child takes a closure of this process"),
            "{error}"
        );
    }
    let error = Group::builder().env("A", "1").zygote().unwrap_err();
    assert!(
        error.to_string().contains("make the group by spawn()"),
        "{error}"
    );
    let error = Group::builder().env("A=", "1").spawn().unwrap_err();
    assert!(
        error.to_string().contains("cannot have that name"),
        "{error}"
    );
}
