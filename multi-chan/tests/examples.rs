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
    assert_eq!(
        example("select", &[]),
        [
            "gone: letters",
            "gone: numbers",
            "gone: the silent one",
            "received 1",
            "received 2",
            "received 3",
            "received a",
            "received b",
            "received c",
        ]
    );
}

#[test]
fn prime_sieve_finds_primes() {
    assert_eq!(
        example("prime_sieve", &["6"]),
        ["11", "13", "2", "3", "5", "7"]
    );
}
