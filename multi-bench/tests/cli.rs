//! The benchmark as a program: its JSON, its tables, and what it says of bad arguments.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_multi-bench"))
        .args(args)
        .output()
        .expect("the benchmark starts")
}

fn json(args: &[&str]) -> Value {
    let output = bench(args);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {complaints}");
    serde_json::from_slice(&output.stdout).expect("nothing but JSON on standard output")
}

#[test]
fn json_of_the_groups_has_the_seeds_settings_and_a_row_per_contender() {
    let report = json(&[
        "--json",
        "--quick",
        "--workers",
        "3",
        "--numbers",
        "1000",
        "-n",
        "4",
    ]);
    assert_eq!(report["benchmark"], "groups");
    assert_eq!(report["settings"]["workers"], 3);
    assert_eq!(report["settings"]["numbers"], 1000);
    assert_eq!(report["settings"]["n"], 4);
    assert!(report["machine"]["ncpu"].as_u64() >= Some(1));
    let rows = report["tables"][0]["rows"].as_array().expect("rows");
    for name in ["ideal", "std::thread::scope"] {
        let row = rows.iter().find(|row| row["name"] == name).expect(name);
        assert_eq!(row["n"], 4, "{name}");
        assert!(row["median_ns"].as_f64() > Some(0.0), "{name}");
    }
    let titles = report["tables"].as_array().expect("tables")[1..]
        .iter()
        .map(|table| table["title"].as_str().expect("a title"));
    assert_eq!(
        titles.collect::<Vec<_>>(),
        [
            "one message of 8 bytes between processes",
            "one round trip of 8 bytes between processes: half of them"
        ]
    );
}

#[test]
fn every_subcommand_runs_and_has_rows() {
    for suite in SUITES {
        let report = json(&[suite, "--quick", "--json"]);
        assert_eq!(report["benchmark"], *suite);
        let tables = report["tables"].as_array().expect("tables");
        assert!(!tables.is_empty(), "{suite}");
        for table in tables {
            assert!(
                table["rows"]
                    .as_array()
                    .is_some_and(|rows| !rows.is_empty()),
                "{suite}: {table}"
            );
        }
    }
}

const SUITES: &[&str] = &["start", "chan", "goro", "proc"];

#[test]
fn parts_of_goro_can_be_asked_for() {
    let report = json(&[
        "goro", "--quick", "--json", "--only", "yield", "--only", "sel",
    ]);
    let titles: Vec<_> = report["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .filter_map(|table| table["title"].as_str())
        .collect();
    assert_eq!(
        titles,
        [
            "one yield, one worker",
            "one message taken from one of several unbuffered channels"
        ]
    );
    let output = bench(&["goro", "--only", "nothing"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint.contains("no part of that name; there are: yield, start, "),
        "{complaint}"
    );
}

#[test]
fn channels_of_the_house_are_measured_at_both_kinds_of_work() {
    let report = json(&[
        "chan", "--quick", "--json", "--only", "64B", "--only", "ping",
    ]);
    let tables = report["tables"].as_array().expect("tables");
    assert_eq!(
        tables.len(),
        4,
        "a stream, and three figures of round trips"
    );
    for table in tables {
        let rows = table["rows"].as_array().expect("rows");
        for name in ["multi-chan", "multi-chan SPSC", "pipe", "socketpair"] {
            let row = rows.iter().find(|row| row["name"] == name).expect(name);
            let measured = row.get("median_ns").and_then(Value::as_f64);
            assert!(measured > Some(0.0), "{row}");
        }
    }
}

/// What the parent reads: readiness, then an answer for each line.
#[test]
fn a_contender_answers_line_by_line() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_multi-bench"))
        .args(["serve", "multi", "yield tasks=2 workers=1 ms=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the benchmark starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"\n\n").expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends with its input");
    let answers: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers[0]["ready"], true);
    assert!(
        answers[1..]
            .iter()
            .all(|answer| answer["ns"].as_f64() > Some(0.0))
    );
    let output = bench(&["serve", "multi", "yield workers=1"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        r#"{"cannot":"yield needs tasks=NUMBER"}"#
    );
}

#[test]
#[cfg(not(feature = "peers"))]
fn peers_have_to_be_built() {
    let output = bench(&["goro", "--peers", "--quick"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        complaint.contains("cargo xtask bench --peers"),
        "{complaint}"
    );
}

#[test]
fn the_table_says_how_to_repeat_it_and_shows_no_bar_in_a_pipe() {
    let output = bench(&["--quick", "--numbers", "1000", "-n", "3"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "os: ",
        "arch: ",
        "ncpu: ",
        "workers: 4",
        "n: 3",
        "the machine was ",
        "we lose:",
        "again: cargo xtask bench",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn bad_arguments_are_refused_with_the_remedy() {
    for (args, part) in [
        (
            &["--workers", "0"][..],
            "0 workers would do nothing; give at least 1",
        ),
        (&["--workers", "1001"], "give at most 1000"),
        (&["--workers", "99999999999999999999"], "number too large"),
        (&["-n", "0"], "0 executions have no median; give at least 1"),
        (&["--numbers", "0"], "0 is not in 1.."),
        (&["--numbers", "many"], "invalid digit"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (
            &["start", "--workers", "2"],
            "unexpected argument '--workers'",
        ),
    ] {
        let output = bench(args);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(complaint.contains(part), "{args:?}: {complaint}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn options_of_the_groups_do_not_go_with_a_subcommand() {
    let output = bench(&["--workers", "2", "start", "--quick"]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
