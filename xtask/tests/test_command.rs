//! `cargo xtask test` over a small workspace whose tests end in every way they can.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A workspace of one crate, in a folder of its own under cargo's folder for tests.
fn workspace(name: &str, tests: &[(&str, &str)]) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if root.exists() {
        fs::remove_dir_all(&root).expect("an old copy goes away");
    }
    fs::create_dir_all(root.join("sample/src")).expect("a folder for the crate");
    fs::create_dir_all(root.join("sample/tests")).expect("a folder for its tests");
    let write = |file: &str, text: &str| fs::write(root.join(file), text).expect(file);
    write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"sample\"]\n",
    );
    write(
        "sample/Cargo.toml",
        "[package]\nname = \"sample\"\nversion = \"0.0.0\"\nedition = \"2024\"\n",
    );
    write(
        "sample/src/lib.rs",
        "//! ```\n//! assert!(sample::yes());\n//! ```\npub fn yes() -> bool { true }\n",
    );
    for (name, text) in tests {
        write(&format!("sample/tests/{name}.rs"), text);
    }
    root
}

/// Runs `xtask test` there; true for success, and what it printed.
fn xtask_test(root: &PathBuf, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("test")
        .args(args)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .expect("xtask starts");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    // Inner summaries must not look like ours to whoever counts the lines of this test.
    eprintln!("{}", out.replace("test result:", "inner result:"));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), out)
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
    let (success, out) = xtask_test(&root, &["--limit", "3"]);
    assert!(!success);
    // Three that pass and a doc test; one that fails, and one each for the abort, the early exit and the hang.
    assert_eq!(out.lines().last(), Some("4 passed, 4 failed"), "{out}");
    let named = |binary: &str, what: &str| {
        out.lines().any(|line| {
            line.starts_with("xtask: counted as failed: ")
                && line.contains(&format!("/{binary}-"))
                && line.contains(what)
        })
    };
    assert!(named("hangs", "did not end within 3 s"), "{out}");
    assert!(named("aborts", "without a summary"), "{out}");
    assert!(named("exits_early", "without a summary"), "{out}");
}

#[test]
fn a_test_that_does_not_compile_is_a_failure() {
    let root = workspace(
        "no-compile",
        &[("broken", "#[test] fn broken() { nonsense }")],
    );
    let (success, out) = xtask_test(&root, &[]);
    assert!(!success);
    assert_eq!(out.lines().last(), Some("0 passed, 1 failed"), "{out}");
}

#[test]
fn all_green_ends_well_and_passes_arguments_on() {
    let root = workspace(
        "green",
        &[("passes", "#[test] fn one() {} #[test] fn two() {}")],
    );
    let (success, out) = xtask_test(&root, &["--", "two"]);
    assert!(success);
    assert_eq!(out.lines().last(), Some("1 passed, 0 failed"), "{out}");
}
