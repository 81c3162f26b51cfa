//! `cargo xtask conformance` over small workspaces whose rules end in every way they can.

mod support;

use support::{Run, xtask};

/// A `tests/conformance.rs` without a harness that reports these `(backend, rule, verdict)`s and then does `end`.
fn rules(lines: &[(&str, &str, &str)], end: &str) -> String {
    let reports: String = lines
        .iter()
        .map(|(backend, rule, verdict)| {
            let line = format!(
                r#"{{"backend":"{backend}","rule":"{rule}","verdict":"{verdict}","reason":"because of {rule}","doc":"A rule."}}"#
            );
            format!("writeln!(report, \"{{}}\", r##\"{line}\"##).unwrap();\n")
        })
        .collect();
    format!(
        "use std::io::Write;\nfn main() {{\n\
         let path = std::env::var_os(\"MULTI_CONFORMANCE_REPORT\").unwrap();\n\
         let mut report = std::fs::OpenOptions::new().append(true).open(path).unwrap();\n\
         {reports}{end}\nprintln!(\"test result: ok. 1 passed; 0 failed;\");\n}}\n"
    )
}

/// Runs the rules of the crates `multi-a` and `multi-b`.
fn run(name: &str, a: &str, b: &str) -> Run {
    let manifest = |krate: &str| {
        format!(
            "[package]\nname = \"multi-{krate}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [[test]]\nname = \"conformance\"\nharness = false\n"
        )
    };
    let files = [
        ("multi-a/Cargo.toml", &*manifest("a")),
        ("multi-a/src/lib.rs", ""),
        ("multi-a/tests/conformance.rs", a),
        ("multi-b/Cargo.toml", &*manifest("b")),
        ("multi-b/src/lib.rs", ""),
        ("multi-b/tests/conformance.rs", b),
    ];
    let root = support::workspace(name, &["multi-a", "multi-b"], &files);
    xtask(&root, &["conformance", "--limit", "3"])
}

#[test]
fn every_backend_of_every_crate_is_a_column() {
    let a = [
        ("a", "first", "passed"),
        ("a", "second", "passed"),
        ("a locked", "first", "passed"),
        ("a locked", "second", "not applicable"),
    ];
    let b = [("b", "first", "passed"), ("b", "second", "passed")];
    let run = run("rules-green", &rules(&a, ""), &rules(&b, ""));
    assert!(run.success);
    assert!(
        run.out
            .ends_with("2 rules × 3 backends; 1 not applicable\n5 passed, 0 failed\n"),
        "{}",
        run.out
    );
    for part in ["a locked", "n/a [1]", "[1] because of second"] {
        assert!(run.out.contains(part), "no {part:?} in\n{}", run.out);
    }
}

#[test]
fn a_backend_that_dies_or_hangs_half_way_fails_the_rules_it_did_not_reach() {
    let all = [("b", "first", "passed"), ("b", "second", "passed")];
    for (name, end) in [
        ("rules-abort", "std::process::abort();"),
        ("rules-hang", "loop { std::thread::park(); }"),
    ] {
        let run = run(
            name,
            &rules(&[("a", "first", "passed")], end),
            &rules(&all, ""),
        );
        assert!(!run.success);
        // The rule without a verdict, and the run that failed without naming a rule.
        assert!(run.out.ends_with("\n3 passed, 2 failed\n"), "{}", run.out);
        assert!(run.out.contains("MISSING"), "{}", run.out);
        assert!(run.out.contains("multi-a: the run failed"), "{}", run.out);
    }
}

#[test]
fn a_failed_rule_shows_its_reason_and_its_output() {
    let a = rules(
        &[("a", "first", "failed")],
        "println!(\"what happened\"); std::process::exit(101);",
    );
    let run = run("rules-red", &a, &rules(&[("b", "first", "passed")], ""));
    assert!(!run.success);
    assert!(run.out.ends_with("\n1 passed, 1 failed\n"), "{}", run.out);
    for part in ["FAILED [1]", "[1] because of first", "what happened"] {
        assert!(run.out.contains(part), "no {part:?} in\n{}", run.out);
    }
}
