//! Every way for a task to end that is not its own.

use crate::support::{self, Test, build, failure_of, group, quick, sys};
use crate::tests;
use multi_proc::{Group, TaskErrorKind, TaskOptions};
use std::error::Error;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    exit_codes_of_every_value_are_kept,
    child_killed_before_its_closure_starts_is_told_apart,
    child_killed_while_reporting_said_nothing,
    panic_brings_home_its_message_and_its_place,
    error_brings_home_its_chain_and_its_os_code,
    kill_of_one_of_four_is_one_failure,
    stuck_child_is_reported_by_name,
    child_that_does_not_come_to_its_closure_is_reported,
];

pub(crate) const SCENES: &[Test] = &tests![waits_for_a_lock_held_at_the_fork, stops_in_set_up];

fn exit_codes_of_every_value_are_kept() {
    let mut group = group();
    for code in 1..=60 {
        group.go(move || sys::exit_now(code * 4 + 15));
    }
    let error = group.wait().unwrap_err();
    for (failure, code) in error.failures().iter().zip(1..) {
        assert!(
            matches!(failure.kind(), TaskErrorKind::Exited(found) if *found == code * 4 + 15),
            "{failure}"
        );
    }
}

fn child_killed_before_its_closure_starts_is_told_apart() {
    let builder = Group::builder().in_child(|| sys::raise(sys::SIGKILL));
    let mut group = build(builder);
    group.go_with(TaskOptions::new().name("early"), || {
        panic!("the closure started")
    });
    let error = group.wait().unwrap_err();
    let error = error.first();
    assert!(
        matches!(error.kind(), TaskErrorKind::Signaled { signal: 9, .. }),
        "{error}"
    );
    assert!(error.ended_early(), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("task 0 \"early\" (proc, pid "), "{text}");
    assert!(
        text.ends_with("killed by SIGKILL before it began"),
        "{text}"
    );
    assert!(!failure_of(|| std::process::exit(1)).ended_early());
}

fn child_killed_while_reporting_said_nothing() {
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
    let mut group = group();
    let handle = group.spawn(|| Ok(Killer));
    assert!(matches!(
        handle.join().err().unwrap().kind(),
        TaskErrorKind::Signaled { signal: 9, .. }
    ));
    assert!(group.wait().is_err());
}

fn panic_brings_home_its_message_and_its_place() {
    let line = line!() + 1;
    let error = failure_of(|| panic!("on purpose, {} times", 3));
    match error.kind() {
        TaskErrorKind::Panicked {
            message,
            location: Some(location),
            ..
        } => {
            assert_eq!(message, "on purpose, 3 times");
            assert_eq!((location.file.as_str(), location.line), (file!(), line));
        }
        other => panic!("{other:?}"),
    }
}

fn error_brings_home_its_chain_and_its_os_code() {
    #[derive(Debug)]
    struct Load(std::io::Error);
    impl std::fmt::Display for Load {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot load the table")
        }
    }
    impl Error for Load {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = failure_of(|| Err(Load(std::io::Error::from_raw_os_error(2)))?);
    assert_eq!(error.os_code(), Some(2));
    assert!(
        error
            .to_string()
            .ends_with("cannot load the table: No such file or directory (os error 2)"),
        "{error}"
    );
    let inner = error.source().unwrap().source().unwrap();
    assert_eq!(inner.to_string(), "No such file or directory (os error 2)");
}

fn kill_of_one_of_four_is_one_failure() {
    let mut group = group();
    for round in 0..200 {
        let go_on = multi_proc::shared_token().unwrap();
        let victim = round % 4;
        let pid = multi_proc::shared_token().unwrap();
        for n in 0..4 {
            let (go_on, pid) = (go_on.clone(), pid.clone());
            group.go(move || {
                if n == victim {
                    pid.cancel();
                    loop {
                        std::thread::park();
                    }
                }
                go_on.wait();
                Ok(())
            });
        }
        pid.wait();
        let children =
            std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()))
                .unwrap();
        let victim_pid = children
            .split_whitespace()
            .nth(victim)
            .unwrap()
            .parse()
            .unwrap();
        sys::kill(victim_pid, sys::SIGKILL);
        go_on.cancel();
        let error = group.wait().unwrap_err();
        assert_eq!(
            (error.failed_count(), error.task_count()),
            (1, 4),
            "round {round}: {error}"
        );
        assert_eq!(error.first().pid(), Some(victim_pid));
        assert!(
            matches!(
                error.first().kind(),
                TaskErrorKind::Signaled { signal: 9, .. }
            ),
            "round {round}: {error}"
        );
    }
}

static HELD: Mutex<()> = Mutex::new(());

fn waits_for_a_lock_held_at_the_fork() {
    let (held, is_held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _held = HELD.lock().unwrap();
        held.send(()).unwrap();
        released.recv().unwrap();
    });
    is_held.recv().unwrap();
    let mut group = build(
        quick()
            .stuck_after(Duration::from_millis(100))
            .task_timeout(Duration::from_millis(2000)),
    );
    group.go_with(TaskOptions::new().name("unlucky"), || {
        let _held: MutexGuard<'_, ()> = HELD.lock().unwrap();
        Ok(())
    });
    group.go_with(TaskOptions::new().name("busy"), || {
        std::thread::sleep(Duration::from_millis(400));
        Ok(())
    });
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    assert!(error.first().is_timed_out(), "{error}");
    release.send(()).unwrap();
    holder.join().unwrap();
}

fn stuck_child_is_reported_by_name() {
    let (_, stderr) = support::printed_by("waits_for_a_lock_held_at_the_fork");
    assert_eq!(stderr.matches("is stuck").count(), 1, "{stderr}");
    assert!(
        stderr.starts_with("multi: task 0 \"unlucky\" (proc, pid "),
        "{stderr}"
    );
    assert!(
        stderr.contains("it waits for what nobody in its process can do: release a lock"),
        "{stderr}"
    );
}

fn stops_in_set_up() {
    let builder = quick().in_child(|| sys::raise(sys::SIGSTOP));
    let mut group = build(
        builder
            .stuck_after(Duration::from_millis(50))
            .task_timeout(Duration::from_millis(200)),
    );
    group.go_with(TaskOptions::new().name("stopped"), || Ok(()));
    let error = group.wait().unwrap_err();
    assert!(error.first().is_timed_out(), "{error}");
}

fn child_that_does_not_come_to_its_closure_is_reported() {
    let (_, stderr) = support::printed_by("stops_in_set_up");
    assert!(
        stderr.contains("task 0 \"stopped\" (proc, pid "),
        "{stderr}"
    );
    assert!(
        stderr.contains("it has not come to its closure"),
        "{stderr}"
    );
}
