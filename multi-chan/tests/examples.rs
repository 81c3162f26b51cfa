//! The examples do what they say.

use std::process::Command;

/// The lines that an example prints, sorted. It must end well, and in time.
fn example(name: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new("timeout")
        .args(["120", env!("CARGO"), "run", "--quiet"])
        .args(["--package", "multi-chan", "--example", name, "--"])
        .args(args)
        .output()
        .expect("cargo starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {complaints}");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn two_sends_arrive_from_two_processes() {
    let lines = example("two_sends", &[]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[..2].iter().all(|line| line.ends_with(" received 42")),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("every sender is gone: "), "{lines:?}");
}

#[test]
fn select_hears_of_values_and_of_a_death() {
    let lines = example("select", &[]);
    let gone = "a sender is gone";
    assert_eq!(lines[..2], [gone; 2]);
    let received = ["1", "2", "3", "a", "b", "c"].map(|value| format!("received {value}"));
    assert_eq!(lines[2..8], received);
    assert!(
        lines.len() == 9 && lines[8].starts_with("the silent child ended: signal: 6"),
        "{lines:?}"
    );
}

#[test]
fn exec_passes_channels_to_another_program() {
    let lines = example("exec", &[]);
    let received: Vec<_> = lines
        .iter()
        .filter_map(|line| line.rsplit_once(" received "))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(received, ["1", "16", "25", "4", "9"]);
    assert_eq!(lines.len(), 6, "{lines:?}");
}

#[test]
fn frames_arrive_whole() {
    let lines = example("frames", &["20"]);
    assert!(
        lines.len() == 1 && lines[0].starts_with("20 frames of 1 MiB, 0 spoilt, "),
        "{lines:?}"
    );
}

#[test]
fn work_queue_does_every_job_though_workers_are_killed() {
    let lines = example("work_queue", &["60"]);
    let kills = lines.iter().find_map(|line| {
        line.strip_prefix("60 jobs done, ")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    });
    assert!(kills > Some(0), "{lines:?}");
    let counts: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split_once(" vowels, "))
        .collect();
    assert!(
        matches!(counts[..], [(counted, expected)] if expected == format!("{counted} expected")),
        "{lines:?}"
    );
}

#[test]
fn prime_sieve_finds_primes() {
    assert_eq!(
        example("prime_sieve", &["6"]),
        ["11", "13", "2", "3", "5", "7"]
    );
}
