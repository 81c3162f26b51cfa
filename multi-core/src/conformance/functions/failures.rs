//! Calls that fail: each failure comes home, to its handle and to `wait`.

use super::calls::double;
use super::gate::{Gate, wait_at};
use super::{FnSubject, fn_rule_list, group};
use crate::Result;
use crate::conformance::Verdict;
use crate::conformance::failures::{Load, expect_panic, expect_wordless_panic};
use crate::error::{TaskError, TaskErrorKind};
use crate::group::{SpawnFn, Tasks};
use crate::options::TaskOptions;
use std::error::Error;
use std::time::Duration;

fn_rule_list![
    error_of_a_call_keeps_its_cause_chain_and_os_code,
    panic_of_a_call_is_reported_with_message_and_place,
    panic_of_a_call_without_text_is_reported,
    failed_call_fails_its_handle_and_its_group,
    failures_of_calls_come_home_in_start_order,
    other_calls_finish_when_one_fails,
    other_calls_finish_when_one_panics,
    other_calls_finish_when_one_dies,
    call_that_exits_is_reported_with_its_code,
    call_that_aborts_is_reported_with_its_signal,
    call_that_is_killed_is_reported_with_its_signal,
    failed_start_of_a_call_is_reported_and_the_next_call_works,
];

const EXIT_ENDS_ALL: Verdict =
    Verdict::NotApplicable("the call shares its process with the program: this would end both");

/// How `function` fails, as its handle and its group say alike.
fn failure<S: FnSubject>(function: fn(u64) -> Result<u64>, args: u64) -> TaskError {
    let mut group = group::<S>();
    let at_the_handle = group.spawn_fn(function, args).join().expect_err("it fails");
    let at_the_group = group.wait().expect_err("it failed");
    assert_eq!(at_the_handle.to_string(), at_the_group.first().to_string());
    at_the_handle
}

/// A returned error keeps the text of its whole chain and the operating system's code.
fn error_of_a_call_keeps_its_cause_chain_and_os_code<S: FnSubject>() -> Verdict {
    let load = |code: u64| -> Result<u64> { Err(Load::new(i32::try_from(code)?))? };
    Load::expect(&failure::<S>(load, Load::OS_CODE as u64));
    Verdict::Passed
}

/// A panic is a failure of its call, with what it said and where.
fn panic_of_a_call_is_reported_with_message_and_place<S: FnSubject>() -> Verdict {
    let error = failure::<S>(|n| panic!("on purpose: {n}"), 7);
    expect_panic(&error, "functions/failures.rs");
    Verdict::Passed
}

/// A panic whose payload is no text is a failure like any other.
fn panic_of_a_call_without_text_is_reported<S: FnSubject>() -> Verdict {
    expect_wordless_panic(&failure::<S>(|n| std::panic::panic_any(n), 7));
    Verdict::Passed
}

/// A failure names the call, the line that started it and the cause, in one line, to the handle as to `wait`.
fn failed_call_fails_its_handle_and_its_group<S: FnSubject>() -> Verdict {
    let full = |_: u64| -> Result<u64> { Err("disk full")? };
    let mut group = group::<S>();
    let line = line!() + 1;
    let handle = group.spawn_fn_with(TaskOptions::new().name("resize"), full, 0);
    let at_the_handle = handle.join().unwrap_err();
    let at_the_group = group.wait().unwrap_err();
    let text = at_the_group.to_string();
    assert_eq!(at_the_handle.to_string(), text);
    assert!(at_the_handle.is_returned() && at_the_handle.name() == Some("resize"));
    assert!(text.starts_with("task 0 \"resize\" ("), "{text}");
    assert!(text.contains(&format!("failures.rs:{line}:")), "{text}");
    assert!(
        text.ends_with(": disk full") && text.lines().count() == 1,
        "{text}"
    );
    let line = line!() + 1;
    let unnamed = group.spawn_fn(full, 0).join().unwrap_err();
    assert_eq!(unnamed.started_at().line(), line);
    assert!(unnamed.started_at().file().ends_with("failures.rs"));
    assert!(group.wait().is_err());
    Verdict::Passed
}

/// `wait` returns every failure, sorted by when the calls were started; its source is the one that happened first.
fn failures_of_calls_come_home_in_start_order<S: FnSubject>() -> Verdict {
    fn fail_after<S: FnSubject>(gate: String) -> Result<String> {
        wait_at::<S>(gate)?;
        Err("failure 0")?
    }
    let mut group = group::<S>();
    let gate = Gate::new();
    drop(group.spawn_fn(fail_after::<S>, gate.name()));
    for n in 1..4_u64 {
        drop(group.spawn_fn(|n: u64| -> Result<u64> { Err(format!("failure {n}"))? }, n));
    }
    while group.progress().failed < 3 {
        // A short wait lets a backend whose owner watches the calls see them end.
        let _still_running = group.wait_timeout(Duration::from_millis(1));
    }
    gate.open();
    let error = group.wait().unwrap_err();
    let said: Vec<_> = error
        .failures()
        .iter()
        .map(|failure| failure.source().expect("a cause").to_string())
        .collect();
    assert_eq!(said, ["failure 0", "failure 1", "failure 2", "failure 3"]);
    assert_eq!((error.failed_count(), error.task_count()), (4, 4));
    assert_ne!(error.first().id().index(), 0, "{error}");
    Verdict::Passed
}

fn others_finish<S: FnSubject>(misfortune: fn(u64) -> Result<u64>) {
    let mut group = group::<S>();
    let handles: Vec<_> = (0..8)
        .map(|n| group.spawn_fn(if n == 3 { misfortune } else { double }, n))
        .collect();
    for (n, handle) in (0..).zip(handles) {
        match handle.join() {
            Ok(value) => assert!(n != 3 && value == 2 * n),
            Err(error) => assert!(n == 3, "{error}"),
        }
    }
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1, "{error}");
    assert_eq!(error.first().id().index(), 3);
}

/// Without `fail_fast`, one call's error leaves the others alone.
fn other_calls_finish_when_one_fails<S: FnSubject>() -> Verdict {
    others_finish::<S>(|_| Err("on purpose")?);
    Verdict::Passed
}

/// One call's panic leaves the others alone.
fn other_calls_finish_when_one_panics<S: FnSubject>() -> Verdict {
    others_finish::<S>(|_| panic!("on purpose"));
    Verdict::Passed
}

/// The end of one call's process leaves the others alone.
fn other_calls_finish_when_one_dies<S: FnSubject>() -> Verdict {
    if !S::IS_PROCESS {
        return EXIT_ENDS_ALL;
    }
    others_finish::<S>(|_| std::process::abort());
    Verdict::Passed
}

/// A call that leaves its process is reported with the exit code, 0 included.
#[expect(clippy::exit, reason = "the rule is about a call that does")]
fn call_that_exits_is_reported_with_its_code<S: FnSubject>() -> Verdict {
    if !S::IS_PROCESS {
        return EXIT_ENDS_ALL;
    }
    for code in [0, 7] {
        let error = failure::<S>(|code| std::process::exit(i32::try_from(code)?), code);
        assert!(
            matches!(error.kind(), TaskErrorKind::Exited(found) if u64::try_from(*found) == Ok(code)),
            "{error}"
        );
        assert!(error.pid().is_some(), "{error}");
    }
    Verdict::Passed
}

/// A call whose process aborts is reported with the signal.
fn call_that_aborts_is_reported_with_its_signal<S: FnSubject>() -> Verdict {
    if !S::IS_PROCESS {
        return EXIT_ENDS_ALL;
    }
    let error = failure::<S>(|_| std::process::abort(), 0);
    assert!(
        matches!(error.kind(), TaskErrorKind::Signaled { signal: 6, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("killed by SIGABRT"), "{error}");
    Verdict::Passed
}

/// A call whose process is killed from outside is reported with the signal.
fn call_that_is_killed_is_reported_with_its_signal<S: FnSubject>() -> Verdict {
    fn be_killed<S: FnSubject>(_: u64) -> Result<u64> {
        let pid = std::process::id().to_string();
        let status = std::process::Command::new("sh")
            .args(["-c", "kill -9 \"$1\"", "sh", &pid])
            .status()?;
        // The signal is on its way.
        S::sleep(Duration::from_secs(60));
        Err(format!("kill ended with {status}, and nothing happened"))?
    }
    if !S::IS_PROCESS {
        return EXIT_ENDS_ALL;
    }
    let error = failure::<S>(be_killed::<S>, 0);
    assert!(
        matches!(error.kind(), TaskErrorKind::Signaled { signal: 9, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("killed by SIGKILL"), "{error}");
    Verdict::Passed
}

/// Where the system refuses to start a call, that is this call's failure, with the OS error code; what comes later runs.
fn failed_start_of_a_call_is_reported_and_the_next_call_works<S: FnSubject>() -> Verdict {
    let mut group = group::<S>();
    assert_eq!(group.spawn_fn(double, 1).join().expect("a value"), 2);
    let refused = S::with_starts_refused(&mut || {
        let error = group.spawn_fn(double, 1).join().unwrap_err();
        assert!(error.is_start() && error.os_code().is_some(), "{error}");
        assert_eq!(group.wait().unwrap_err().failed_count(), 1);
    });
    assert_eq!(group.spawn_fn(double, 2).join().expect("a value"), 4);
    assert!(group.wait().is_ok());
    refused.map_or_else(Verdict::NotApplicable, |()| Verdict::Passed)
}
