//! `cargo xtask test` over a small workspace whose tests end in every way they can.

mod support;

use std::path::PathBuf;

use support::xtask;

/// A workspace of one crate with these integration tests.
fn workspace(name: &str, tests: &[(&str, &str)]) -> PathBuf {
    let manifest = "[package]\nname = \"sample\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let library = "//! ```\n//! assert!(sample::yes());\n//! ```\npub fn yes() -> bool { true }\n";
    let mut files = vec![
        ("sample/Cargo.toml".to_owned(), manifest),
        ("sample/src/lib.rs".to_owned(), library),
    ];
    files.extend(
        tests
            .iter()
            .map(|(name, text)| (format!("sample/tests/{name}.rs"), *text)),
    );
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (&**file, *text)).collect();
    support::workspace(name, &["sample"], &files)
}

#[test]
fn every_way_to_end_is_counted() {
    let root = workspace(
        "every-end",
        &[
            ("aborts", "#[test] fn aborts() { std::process::abort() }"),
            (
                "exits_early",
                "#[test] fn exits_early() { std::process::exit(0) }",
            ),
            (
                "fails",
                "#[test] fn fails() { panic!() } #[test] fn passes() {}",
            ),
            (
                "hangs",
                "#[test] fn hangs() { loop { std::thread::park() } }",
            ),
            ("passes", "#[test] fn one() {} #[test] fn two() {}"),
        ],
    );
    let run = xtask(&root, &["test", "--limit", "3"]);
    assert!(!run.success);
    // Three that pass and a doc test; one that fails, and one each for the abort, the early exit and the hang.
    assert_eq!(
        run.out.lines().last(),
        Some("4 passed, 4 failed"),
        "{}",
        run.out
    );
    let named = |binary: &str, what: &str| {
        run.out.lines().any(|line| {
            line.starts_with("xtask: counted as failed: ")
                && line.contains(&format!("/{binary}-"))
                && line.contains(what)
        })
    };
    assert!(named("hangs", "did not end within 3 s"), "{}", run.out);
    assert!(named("aborts", "without a summary"), "{}", run.out);
    assert!(named("exits_early", "without a summary"), "{}", run.out);
}

#[test]
fn a_test_that_does_not_compile_is_a_failure() {
    let root = workspace(
        "no-compile",
        &[("broken", "#[test] fn broken() { nonsense }")],
    );
    let run = xtask(&root, &["test"]);
    assert!(!run.success);
    assert_eq!(
        run.out.lines().last(),
        Some("0 passed, 1 failed"),
        "{}",
        run.out
    );
}

#[test]
fn all_green_ends_well_and_passes_arguments_on() {
    let root = workspace(
        "green",
        &[("passes", "#[test] fn one() {} #[test] fn two() {}")],
    );
    let run = xtask(&root, &["test", "--", "two"]);
    assert!(run.success);
    assert_eq!(
        run.out.lines().last(),
        Some("1 passed, 0 failed"),
        "{}",
        run.out
    );
}
