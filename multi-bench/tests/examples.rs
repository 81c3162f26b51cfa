//! The examples do what they say, on every backend.

use std::process::Command;

const BACKENDS: [(&str, &str); 4] = [
    ("goro", "goro"),
    ("locked", "goro locked"),
    ("pthread", "pthread"),
    ("proc", "proc"),
];

/// What an example prints, and whether it ended well.
fn example(name: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--package",
            "multi-bench",
            "--example",
            name,
            "--",
        ])
        .args(args)
        .output()
        .expect("cargo starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !text.is_empty() || !output.status.success(),
        "{name} {args:?}: {complaints}"
    );
    (output.status.success(), text)
}

/// The lines of the report on `run`, without what the backend adds: its name and the process.
fn report(text: &str, backend: &str) -> Vec<String> {
    text.lines()
        .take(3)
        .map(|line| {
            let Some((before, after)) = line.split_once(&format!(" ({backend}, ")) else {
                return line.to_owned();
            };
            let after = match after
                .strip_prefix("pid ")
                .and_then(|rest| rest.split_once(", "))
            {
                Some((_pid, rest)) => rest,
                None => after,
            };
            format!("{before} ({after}")
        })
        .collect()
}

#[test]
fn failures_read_the_same_on_every_backend() {
    let reports = BACKENDS.map(|(arg, backend)| report(&example("failures", &[arg]).1, backend));
    let first = &reports[0];
    // Which of the two failed first in time may differ.
    assert!(
        first[0].starts_with("2 of 4 tasks failed, first task "),
        "{first:?}"
    );
    assert!(
        first[1].starts_with("  task 1 \"load\" (started at multi-bench/examples/failures.rs:"),
        "{first:?}"
    );
    assert!(
        first[1].ends_with(
            "): cannot read the settings in /no/such/file: No such file or directory (os error 2)"
        ),
        "{first:?}"
    );
    assert!(
        first[2].starts_with("  task 2 \"divide\" (started at "),
        "{first:?}"
    );
    assert!(first[2].ends_with(": the divisor is not zero"), "{first:?}");
    for other in &reports[1..] {
        assert_eq!(other[1..], first[1..]);
    }
}

#[test]
fn a_killed_process_is_named_with_its_signal() {
    let (_, text) = example("failures", &["proc"]);
    let last = text.lines().last().expect("lines");
    assert!(
        last.contains("task 4 \"killed\" (proc, pid ") && last.contains("killed by SIGABRT"),
        "{text}"
    );
}

#[test]
fn the_backend_is_chosen_by_an_argument() {
    for (arg, _) in BACKENDS {
        let (success, text) = example("dyn_backend", &[arg, "100"]);
        assert!(
            success && text == format!("{arg}: the squares below 100 are right\n"),
            "{text}"
        );
    }
    assert!(
        !example("dyn_backend", &["fibre"]).0,
        "an unknown backend was accepted"
    );
    assert!(
        !example("failures", &["fibre"]).0,
        "an unknown backend was accepted"
    );
}

#[test]
fn a_green_task_waits_for_a_process_and_its_worker_goes_on() {
    let (success, text) = example("green_wait", &[]);
    let lines: Vec<_> = text.lines().collect();
    assert!(success && lines.len() == 4, "{text}");
    assert_eq!(lines[..3], ["received 1", "received 2", "received 3"]);
    let turns: Option<u64> = lines[3]
        .strip_prefix("the only worker had ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(turns > Some(0), "{text}");
}
