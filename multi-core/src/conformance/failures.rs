//! Failures: every one comes home, with its task, its place and its cause.

use super::tally::Tally;
use super::{NO_SHARED_MEMORY, Subject, Verdict, group, rule_list, scenes};
use crate::error::{GroupError, TaskError, TaskErrorKind};
use crate::group::{Group, Tasks};
use crate::options::TaskOptions;
use std::error::Error;
use std::io;

rule_list![
    returned_error_keeps_its_cause_chain_and_os_code,
    panic_is_reported_with_message_and_place,
    panic_without_text_is_reported,
    panic_in_a_destructor_of_the_task_is_reported,
    every_failure_comes_home_in_start_order,
    first_failure_in_time_is_the_source,
    failures_beyond_those_kept_whole_are_counted,
    other_tasks_finish_when_one_fails,
    other_tasks_finish_when_one_panics,
    error_names_task_place_and_cause,
    typed_error_converts_by_itself,
    task_with_a_nul_in_its_name_fails_by_name,
    task_that_exits_is_reported,
    task_that_aborts_is_reported,
    failed_start_is_reported_and_the_group_still_works,
    others_are_waited_for_when_a_start_fails,
    panic_is_printed_when_it_happens,
    dropped_group_reports_unseen_failures_once,
    failures_that_wait_returned_are_not_reported_again,
    detached_group_reports_failures_when_they_happen,
    group_error_of_a_nested_group_keeps_its_causes,
];

const EXIT_ENDS_ALL: Verdict =
    Verdict::NotApplicable("the task shares its process with the program: this would end both");

fn first<S: Subject>(task: impl FnOnce() -> crate::Result + Send + 'static) -> TaskError {
    let mut group = group::<S>();
    group.go(task);
    group.wait().expect_err("the task failed").first().clone()
}

/// What tasks fail with: an error that has a cause, and that one a code of the operating system.
#[derive(Debug)]
pub(super) struct Load(io::Error);

impl Load {
    /// The code's text is that of [`expect`](Self::expect).
    pub(super) const OS_CODE: i32 = 2;

    pub(super) fn new(os_code: i32) -> Self {
        Self(io::Error::from_raw_os_error(os_code))
    }

    /// Looks for all of it in the failure of a task that returned it.
    pub(super) fn expect(error: &TaskError) {
        assert!(error.is_returned());
        let cause = error.source().expect("the returned error");
        assert_eq!(cause.to_string(), "the settings cannot be read");
        assert_eq!(
            cause.source().expect("its cause").to_string(),
            "No such file or directory (os error 2)"
        );
        assert_eq!(error.os_code(), Some(Self::OS_CODE));
        let end = "the settings cannot be read: No such file or directory (os error 2)";
        assert!(error.to_string().ends_with(end), "{error}");
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the settings cannot be read")
    }
}

impl Error for Load {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Looks for the failure of a task that panicked with the text `on purpose: 7`, in this file.
pub(super) fn expect_panic(error: &TaskError, file_end: &str) {
    match error.kind() {
        TaskErrorKind::Panicked {
            message, location, ..
        } => {
            assert_eq!(message, "on purpose: 7");
            let location = location.as_ref().expect("a location");
            assert!(location.file.ends_with(file_end) && location.line > 0);
        }
        other => panic!("expected a panic, got {other:?}"),
    }
}

/// Looks for the failure of a task that panicked with something that is no text.
pub(super) fn expect_wordless_panic(error: &TaskError) {
    assert!(error.is_panicked());
    let said = "a panic whose payload is not text";
    assert!(error.to_string().contains(said), "{error}");
}

/// A returned error keeps the text of its whole chain and the operating system's code.
fn returned_error_keeps_its_cause_chain_and_os_code<S: Subject>() -> Verdict {
    Load::expect(&first::<S>(|| Err(Load::new(Load::OS_CODE))?));
    Verdict::Passed
}

/// A panic is a failure of its task, with what it said and where.
fn panic_is_reported_with_message_and_place<S: Subject>() -> Verdict {
    let error = first::<S>(|| panic!("on purpose: {}", 7));
    expect_panic(&error, "conformance/failures.rs");
    Verdict::Passed
}

/// A panic whose payload is no text is a failure like any other.
fn panic_without_text_is_reported<S: Subject>() -> Verdict {
    expect_wordless_panic(&first::<S>(|| std::panic::panic_any(7_u8)));
    Verdict::Passed
}

/// What a task captured may panic as it is dropped; that is the task's failure too.
fn panic_in_a_destructor_of_the_task_is_reported<S: Subject>() -> Verdict {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose: dropped");
        }
    }
    // Armed in the task: a forked child has its own copy of a capture, and the parent drops the other.
    let error = first::<S>(|| {
        let _bomb = Bomb;
        Ok(())
    });
    assert!(
        error.is_panicked() && error.to_string().contains("on purpose: dropped"),
        "{error}"
    );
    Verdict::Passed
}

/// `wait` returns every failure, sorted by when the tasks were started.
fn every_failure_comes_home_in_start_order<S: Subject>() -> Verdict {
    let flags: Vec<_> = (0..4).map(|_| S::flag()).collect();
    let mut group = group::<S>();
    for n in 0..4 {
        // Each waits for the next: they end in the reverse order.
        let (own, next) = (flags[n].clone(), flags.get(n + 1).cloned());
        group.go(move || {
            if let Some(next) = next {
                next.wait();
            }
            own.cancel();
            Err(format!("failure {n}"))?
        });
    }
    let error = group.wait().unwrap_err();
    let said: Vec<_> = error
        .failures()
        .iter()
        .map(|failure| failure.source().unwrap().to_string())
        .collect();
    assert_eq!(said, ["failure 0", "failure 1", "failure 2", "failure 3"]);
    assert_eq!((error.failed_count(), error.task_count()), (4, 4));
    Verdict::Passed
}

/// The source of a group's error is the failure that happened first, whichever task was started first.
fn first_failure_in_time_is_the_source<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let token = group.cancel_token();
    group.go(move || {
        token.wait();
        Err("second in time")?
    });
    group.go(|| Err("first in time")?);
    while group.progress().failed == 0 {
        // A short wait lets a backend whose owner watches the tasks see this one end.
        let _still_running = group.wait_timeout(std::time::Duration::from_millis(1));
    }
    group.cancel();
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 2);
    assert!(
        error.first().to_string().ends_with("first in time"),
        "{error}"
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        error.first().to_string()
    );
    Verdict::Passed
}

/// A flood of failures is bounded: some are kept whole, all are counted.
fn failures_beyond_those_kept_whole_are_counted<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    for _ in 0..100 {
        group.go(|| Err("on purpose")?);
    }
    let error = group.wait().unwrap_err();
    assert_eq!(error.failures().len(), GroupError::WHOLE_MAX);
    assert_eq!((error.failed_count(), error.task_count()), (100, 100));
    assert!(error.to_string().ends_with("and 36 more"));
    Verdict::Passed
}

fn others_finish<S: Subject>(misfortune: fn() -> crate::Result) {
    let tally = Tally::new();
    let mut group = group::<S>();
    for n in 0..8 {
        let marker = tally.marker();
        group.go(move || {
            if n == 3 {
                misfortune()?;
            }
            S::sleep(std::time::Duration::from_millis(2));
            marker.mark(b'x');
            Ok(())
        });
    }
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1);
    assert_eq!(error.first().id().index(), 3);
    assert_eq!(tally.marks().len(), 7);
}

/// Without `fail_fast`, one task's error leaves the others alone.
fn other_tasks_finish_when_one_fails<S: Subject>() -> Verdict {
    others_finish::<S>(|| Err("on purpose")?);
    Verdict::Passed
}

/// One task's panic leaves the others alone.
fn other_tasks_finish_when_one_panics<S: Subject>() -> Verdict {
    others_finish::<S>(|| panic!("on purpose"));
    Verdict::Passed
}

/// The text of a failure names the task, the line that started it and the cause, in one line.
fn error_names_task_place_and_cause<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let line = line!() + 1;
    group.go_with(TaskOptions::new().name("resize"), || Err("disk full")?);
    let error = group.wait().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("task 0 \"resize\" ("), "{text}");
    assert!(text.contains(&format!("failures.rs:{line}:")), "{text}");
    assert!(
        text.ends_with(": disk full") && text.lines().count() == 1,
        "{text}"
    );
    Verdict::Passed
}

/// A task that returns an error of one type needs no conversion.
fn typed_error_converts_by_itself<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.go_result(|| "x".parse::<u8>().map(drop));
    group.go_result(|| Ok::<(), io::Error>(()));
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1);
    assert!(
        error.to_string().ends_with("invalid digit found in string"),
        "{error}"
    );
    Verdict::Passed
}

/// A name the system cannot take fails its task and nothing else.
fn task_with_a_nul_in_its_name_fails_by_name<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.go_with(TaskOptions::new().name("a\0b"), || Ok(()));
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 1);
    assert!(
        error.first().is_start() && error.to_string().contains("NUL"),
        "{error}"
    );
    Verdict::Passed
}

/// A task that leaves its process is reported with the exit code, 0 included.
#[expect(clippy::exit, reason = "the rule is about a task that does")]
fn task_that_exits_is_reported<S: Subject>() -> Verdict {
    if !S::IS_PROCESS {
        return EXIT_ENDS_ALL;
    }
    for code in [0, 7] {
        let error = first::<S>(move || std::process::exit(code));
        assert!(
            matches!(error.kind(), TaskErrorKind::Exited(found) if *found == code),
            "{error}"
        );
        assert!(error.pid().is_some());
    }
    Verdict::Passed
}

/// A task whose process aborts is reported with the signal.
fn task_that_aborts_is_reported<S: Subject>() -> Verdict {
    if !S::IS_PROCESS {
        return EXIT_ENDS_ALL;
    }
    let error = first::<S>(|| std::process::abort());
    assert!(
        matches!(error.kind(), TaskErrorKind::Signaled { signal: 6, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("killed by SIGABRT"), "{error}");
    Verdict::Passed
}

/// Where the system refuses to start a task, that is this task's failure, with the remedy; the others run, and so does what
/// comes later.
fn failed_start_is_reported_and_the_group_still_works<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    group.go(|| Ok(()));
    assert!(group.wait().is_ok());
    let refused = S::with_starts_refused(&mut || {
        group.go_with(TaskOptions::new().name("refused"), || Ok(()));
        let error = group.wait().expect_err("the task was not refused");
        assert!(
            error.first().is_start() && error.first().os_code().is_some(),
            "{error}"
        );
        assert!(
            error.to_string().contains("limit(n)"),
            "the remedy is missing: {error}"
        );
        let task = group
            .try_go(|| Err("came back")?)
            .expect_err("the task was not refused")
            .into_task();
        assert_eq!(task().unwrap_err().to_string(), "came back");
    });
    if let Err(reason) = refused {
        return Verdict::NotApplicable(reason);
    }
    group.go(|| Ok(()));
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// One task that could not be started does not make `wait` forget those that could.
fn others_are_waited_for_when_a_start_fails<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let flag = S::flag();
    let mut group = group::<S>();
    for _ in 0..3 {
        let (told, marker) = (flag.clone(), tally.marker());
        group.go(move || {
            told.wait();
            S::sleep(std::time::Duration::from_millis(10));
            marker.mark(b'x');
            Ok(())
        });
    }
    let refused = S::with_starts_refused(&mut || group.go(|| Ok(())));
    flag.cancel();
    let outcome = group.wait();
    assert_eq!(tally.marks().len(), 3);
    if let Err(reason) = refused {
        return Verdict::NotApplicable(reason);
    }
    assert_eq!(outcome.unwrap_err().failed_count(), 1);
    Verdict::Passed
}

/// A panic is printed when it happens, not only reported at the end.
fn panic_is_printed_when_it_happens<S: Subject>() -> Verdict {
    let said = scenes::stderr_of::<S>(scenes::PANIC);
    let panic = said
        .find("on purpose: a scene")
        .expect("the panic was not printed");
    let waited = said.find("waited").expect("the scene did not end");
    assert!(panic < waited, "{said}");
    Verdict::Passed
}

/// A group dropped without `wait` says once what nobody saw.
fn dropped_group_reports_unseen_failures_once<S: Subject>() -> Verdict {
    let said = scenes::stderr_of::<S>(scenes::DROP);
    assert_eq!(said.matches("unseen failure").count(), 1, "{said}");
    assert!(
        said.contains("multi: a group was dropped without wait: task 0 "),
        "{said}"
    );
    Verdict::Passed
}

/// What `wait` returned is not repeated when the group is dropped.
fn failures_that_wait_returned_are_not_reported_again<S: Subject>() -> Verdict {
    let said = scenes::stderr_of::<S>(scenes::WAIT);
    assert!(!said.contains("seen failure"), "{said}");
    Verdict::Passed
}

/// A detached group's tasks run on, and their failures are said when they happen.
fn detached_group_reports_failures_when_they_happen<S: Subject>() -> Verdict {
    let said = scenes::stderr_of::<S>(scenes::DETACH);
    assert_eq!(
        said.matches("multi: in a detached group: task 0 ").count(),
        1,
        "{said}"
    );
    Verdict::Passed
}

/// The error of an inner group, passed on with `?`, keeps its inner cause.
fn group_error_of_a_nested_group_keeps_its_causes<S: Subject>() -> Verdict {
    if S::IS_PROCESS {
        // It crosses as text; that the text is whole is `returned_error_keeps_its_cause_chain_and_os_code`.
        return NO_SHARED_MEMORY;
    }
    let error = first::<S>(|| {
        let mut inner = group::<S>();
        inner.go(|| Err(io::Error::from_raw_os_error(13))?);
        inner.wait()?;
        Ok(())
    });
    assert_eq!(error.os_code(), Some(13));
    Verdict::Passed
}
