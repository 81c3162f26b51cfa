use super::*;

#[derive(Debug)]
struct Wrapped(&'static str, Option<Box<Wrapped>>);

impl Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|inner| inner as _)
    }
}

fn facts(id: u64, name: Option<&str>, pid: Option<u32>) -> Facts {
    Facts {
        id: TaskId(id),
        name: name.map(Into::into),
        backend: "proc",
        pid,
        site: Location::caller(),
        elapsed: Duration::from_millis(1500),
        stderr_tail: None,
        usage: None,
        was_started: true,
        ended_early: false,
        attempts: 1,
    }
}

#[track_caller]
fn error(id: u64, kind: TaskErrorKind) -> TaskError {
    TaskError::new(facts(id, None, None), kind, None)
}

/// The line without the start site, which changes with every edit of this file.
fn line(error: &TaskError) -> String {
    error
        .to_string()
        .replace(&format!(", started at {}", error.started_at()), "")
}

#[test]
fn killed_task_is_named_with_its_process_and_signal() {
    let kind = TaskErrorKind::Signaled {
        signal: 9,
        core_dumped: false,
    };
    let error = TaskError::new(facts(3, Some("resize"), Some(4711)), kind, None);
    assert_eq!(
        line(&error),
        r#"task 3 "resize" (proc, pid 4711): killed by SIGKILL"#
    );
    assert!(error.to_string().contains(file!()), "{error}");
}

#[test]
fn every_kind_says_its_cause_and_its_remedy() {
    let cases = [
        (
            TaskErrorKind::Returned(Box::new(Wrapped(
                "load",
                Some(Box::new(Wrapped("no such file", None))),
            ))),
            "load: no such file",
        ),
        (
            TaskErrorKind::Returned(Box::new(Wrapped(
                "x: y",
                Some(Box::new(Wrapped("y", None))),
            ))),
            "x: y",
        ),
        (
            TaskErrorKind::Panicked {
                message: "boom".into(),
                location: Some(PanicLocation {
                    file: "a.rs".into(),
                    line: 3,
                    column: 5,
                }),
                backtrace: None,
            },
            "panicked at a.rs:3:5: boom",
        ),
        (
            TaskErrorKind::Panicked {
                message: "boom".into(),
                location: None,
                backtrace: None,
            },
            "panicked: boom",
        ),
        (
            TaskErrorKind::Exited(7),
            "left its process with exit code 7 before it ended",
        ),
        (
            TaskErrorKind::Signaled {
                signal: 11,
                core_dumped: true,
            },
            "killed by SIGSEGV (core dumped)",
        ),
        (
            TaskErrorKind::Signaled {
                signal: 40,
                core_dumped: false,
            },
            "killed by signal 40",
        ),
        (
            TaskErrorKind::TimedOut,
            "timed out after 1.500s; give it more time, or let it watch its cancel token",
        ),
        (TaskErrorKind::Cancelled, "cancelled"),
        (
            TaskErrorKind::LimitExceeded("64 MiB of memory".into()),
            "went over its limit: 64 MiB of memory; raise the limit, or give the task less to do",
        ),
        (
            TaskErrorKind::Lost,
            "lost: what became of it cannot be known",
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(line(&error(0, kind)), format!("task 0 (proc): {expected}"));
    }
}

#[test]
fn refused_start_names_the_limit_to_raise_and_keeps_the_code() {
    let error = error(0, TaskErrorKind::Start(io::Error::from_raw_os_error(11)));
    assert_eq!(
        line(&error),
        "task 0 (proc): could not start: Resource temporarily unavailable (os error 11); \
         run fewer tasks at once with limit(n), give them smaller stacks, or raise the process limit (ulimit -u)"
    );
    assert_eq!(error.os_code(), Some(11));
}

#[test]
fn late_error_is_kept_behind_the_timeout() {
    let error = TaskError::new(
        facts(0, None, None),
        TaskErrorKind::TimedOut,
        Some("interrupted".into()),
    );
    assert!(
        line(&error).starts_with("task 0 (proc): timed out after 1.500s (then: interrupted); ")
    );
    assert_eq!(error.source().unwrap().to_string(), "interrupted");
}

#[test]
fn group_error_lists_in_start_order_and_points_at_the_first_in_time() {
    let failures = vec![
        error(
            2,
            TaskErrorKind::Returned("late start, first failure".into()),
        ),
        error(0, TaskErrorKind::Cancelled),
    ];
    let counts = Counts {
        tasks: 4,
        failed: 2,
        cancelled: 1,
    };
    let group = GroupError::new(Some("thumbs".into()), failures, counts).unwrap();
    let text = group.to_string();
    assert!(
        text.starts_with(
            "group \"thumbs\": 2 of 4 tasks failed (1 cancelled), first task 2:\n  task 0 "
        ),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3);
    assert_eq!(
        group.source().unwrap().to_string(),
        group.first().to_string()
    );
    assert_eq!(group.first().id().index(), 2);
    assert!(!group.is_cancelled());
}

#[test]
fn single_failure_is_one_line() {
    let counts = Counts {
        tasks: 9,
        failed: 1,
        cancelled: 0,
    };
    let group = GroupError::new(None, vec![error(5, TaskErrorKind::Exited(1))], counts).unwrap();
    assert_eq!(group.to_string(), group.first().to_string());
}

#[test]
fn failures_beyond_those_kept_are_counted() {
    let failures = (0..64)
        .map(|id| error(id, TaskErrorKind::Cancelled))
        .collect();
    let group = GroupError::new(
        None,
        failures,
        Counts {
            tasks: 100,
            failed: 100,
            cancelled: 100,
        },
    )
    .unwrap();
    assert!(group.to_string().ends_with("\n  and 36 more"));
    assert!(group.is_cancelled());
}

#[test]
fn lost_process_names_who_may_have_collected_it() {
    let error = TaskError::new(facts(0, None, Some(4711)), TaskErrorKind::Lost, None);
    assert!(
        line(&error).contains("(waitpid(-1), an ignored SIGCHLD)"),
        "{error}"
    );
}

#[test]
fn task_that_was_refused_is_not_told_to_take_less_time() {
    let refused = |kind| {
        let facts = Facts {
            was_started: false,
            ..facts(1, None, None)
        };
        line(&TaskError::new(facts, kind, None))
    };
    let late = refused(TaskErrorKind::TimedOut);
    assert_eq!(
        late,
        "task 1 (proc): not started: its group's deadline had passed"
    );
    let cancelled = refused(TaskErrorKind::Cancelled);
    assert_eq!(
        cancelled,
        "task 1 (proc): not started: its group was cancelled"
    );
}

#[test]
fn message_of_several_lines_becomes_one() {
    let message = "assertion `left == right` failed\n  left: 1\n right: 2\n".to_owned();
    let kind = TaskErrorKind::Panicked {
        message,
        location: None,
        backtrace: None,
    };
    let expected = "panicked: assertion `left == right` failed | left: 1 | right: 2";
    assert_eq!(line(&error(0, kind)), format!("task 0 (proc): {expected}"));
}

#[test]
fn group_error_inside_a_task_error_is_summed_up() {
    let failures = vec![
        error(0, TaskErrorKind::Returned("a".into())),
        error(1, TaskErrorKind::Exited(1)),
    ];
    let inner = GroupError::new(
        None,
        failures,
        Counts {
            tasks: 3,
            failed: 2,
            cancelled: 0,
        },
    )
    .unwrap();
    let text = line(&error(7, TaskErrorKind::Returned(Box::new(inner))));
    // Both are made on one line of this file, which `line` takes out.
    assert_eq!(
        text,
        "task 7 (proc): 2 of 3 tasks failed, first task 0 (proc): a"
    );
}

#[test]
fn task_that_never_began_says_so() {
    let early = |kind| {
        let facts = Facts {
            ended_early: true,
            ..facts(3, None, Some(4711))
        };
        TaskError::new(facts, kind, None)
    };
    let killed = early(TaskErrorKind::Signaled {
        signal: 9,
        core_dumped: false,
    });
    assert!(killed.ended_early());
    assert_eq!(
        line(&killed),
        "task 3 (proc, pid 4711): killed by SIGKILL before it began"
    );
    assert_eq!(
        line(&early(TaskErrorKind::Exited(1))),
        "task 3 (proc, pid 4711): its process left with exit code 1 before the task began"
    );
}

#[test]
fn start_that_failed_keeps_the_os_code_of_another_process() {
    let remote = RemoteError::new(
        vec!["cannot change directory".into(), "no such file".into()],
        Some(2),
    );
    let error = error(0, TaskErrorKind::Start(io::Error::other(remote)));
    assert_eq!(error.os_code(), Some(2));
    assert_eq!(
        line(&error),
        "task 0 (proc): could not start: cannot change directory: no such file"
    );
}

#[test]
fn end_of_what_a_task_printed_is_shown_in_its_line() {
    let with_tail = |tail: &str| {
        let facts = Facts {
            stderr_tail: Some(tail.into()),
            ..facts(3, None, Some(4711))
        };
        line(&TaskError::new(facts, TaskErrorKind::Exited(7), None))
    };
    let plain = "task 3 (proc, pid 4711): left its process with exit code 7 before it ended";
    assert_eq!(
        with_tail("no paper\n  on fire\n"),
        format!("{plain}; its standard error ends with: no paper | on fire")
    );
    assert_eq!(with_tail(" \n"), plain);
    let long = with_tail(&"ä".repeat(1000));
    assert!(long.ends_with(&format!(": …{}", "ä".repeat(250))), "{long}");
}
