//! The examples do what they say.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs an example with `input` on its standard input, in time and without core files.
fn example(name: &str, args: &[&str], input: &str) -> Output {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c 0; exec timeout 120 \"$@\"", "sh"])
        .args([env!("CARGO"), "run", "--quiet", "--package", "multi-proc"])
        .args(["--example", name, "--"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("its output")
}

/// The lines that an example prints. It must end well.
fn lines_of(name: &str) -> Vec<String> {
    let output = example(name, &[], "");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {complaints}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn values_come_over_a_channel() {
    assert_eq!(lines_of("seed"), ["42", "42"]);
}

#[test]
fn a_tree_of_processes_adds_up() {
    assert_eq!(lines_of("nested"), ["499999500000"]);
}

#[test]
fn every_misfortune_has_its_name() {
    let lines = lines_of("failures");
    assert_eq!(lines[0], "a value came home: 2432902008176640000");
    assert!(
        lines[1].starts_with("group \"misfortunes\": 5 of 7 tasks failed"),
        "{lines:?}"
    );
    for (name, how) in [
        ("reads", "No such file or directory"),
        ("panics", "out of range"),
        ("exits", "exit code 7"),
        ("aborts", "killed by SIGABRT"),
        ("hangs", "timed out"),
    ] {
        let name = format!("\"{name}\"");
        let line = lines.iter().find(|line| line.contains(&name));
        assert!(
            line.is_some_and(|line| line.contains(how)),
            "{name}: {lines:?}"
        );
    }
}

#[test]
fn a_c_library_that_crashes_hangs_and_eats_memory_harms_nobody() {
    let lines = lines_of("crash_isolation");
    assert_eq!(lines[..2], ["letters: true", "digits: false"]);
    for (line, name, how) in [
        (2, "nested", "the stack of one of its threads overflowed"),
        (3, "backtracks", "cpu_time_max 1s"),
        (4, "repeats", "Memory exhausted"),
    ] {
        assert!(
            lines[line].starts_with(name) && lines[line].contains(how),
            "{lines:?}"
        );
    }
    assert_eq!(lines[5..], ["3 of 5 calls failed, and the program goes on"]);
}

#[test]
fn a_damaged_picture_costs_nothing_but_itself() {
    let lines = lines_of("thumbnails");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("task 7 \"picture 07.ppm\" (proc, ")
            && lines[0].contains("bytes of picture"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("11 of 12 pictures made smaller, "),
        "{lines:?}"
    );
    assert!(lines[2].ends_with(" MiB"), "{lines:?}");
}

#[test]
fn a_worker_that_asks_for_too_much_memory_is_told_so() {
    let lines = lines_of("memory_limit");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("short: 5 letters, ") && lines[1].starts_with("long: 18000000 "),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("bomb: memory_bytes_max 64 MiB"),
        "{lines:?}"
    );
}

#[test]
fn a_pool_survives_the_death_of_its_workers() {
    let lines = lines_of("pool_survives");
    assert_eq!(lines[0], "600 jobs, the last found 4409");
    // A worker may have been killed twice before it was missed.
    let deaths = lines[1].split_once(" workers were killed, ");
    let deaths = deaths.and_then(|(count, _)| count.parse::<u32>().ok());
    assert!(
        deaths.is_some_and(|count| (2..=30).contains(&count)),
        "{lines:?}"
    );
    assert_eq!(lines[2..], ["3 workers are there"]);
}

#[test]
fn xargs_runs_commands_side_by_side_and_tells_failures() {
    let input = (1..=9).map(|n| format!("{n}\n")).collect::<String>();
    let echo = ["sh", "-c", "echo \"$0 $1\"; test $0 != 5"];
    let args = [&["-P", "4", "-n", "2"][..], &echo].concat();
    let output = example("xargs", &args, &input);
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1 2", "3 4", "5 6", "7 8", "9 "]);
    assert_eq!(output.status.code(), Some(123));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaints.lines().count(), 1, "{complaints}");
    assert!(
        complaints.starts_with("xargs: task 2 \"sh 5 6\" (proc, ")
            && complaints.contains("exit code 1"),
        "{complaints}"
    );

    let output = example("xargs", &["true"], &input);
    assert_eq!(output.status.code(), Some(0));
    let output = example("xargs", &["--timeout", "0.1", "sleep"], "60\n");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.contains("timed out"), "{complaints}");
    let output = example("xargs", &["/no/such/program"], "1\n");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaints.contains("No such file or directory"),
        "{complaints}"
    );
    let output = example("xargs", &["-P", "0", "true"], "1\n");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && complaints.contains("limit 0 would never start a task"),
        "{complaints}"
    );
}
