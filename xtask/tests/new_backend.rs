//! `cargo xtask new-backend` in a copy of this repository: what it writes compiles, keeps the contract, and has its row.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository this test is of.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
}

/// A fresh copy of every tracked or new file, always at the same place, so that cargo can use again what it built for the last one.
fn copy(name: &str) -> PathBuf {
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if copy.exists() {
        fs::remove_dir_all(&copy).expect("an old copy goes away");
    }
    let listing = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(repository())
        .output()
        .expect("git lists the files");
    assert!(
        listing.status.success(),
        "{}",
        String::from_utf8_lossy(&listing.stderr)
    );
    let files = String::from_utf8(listing.stdout).expect("file names are UTF-8");
    for file in files.split_terminator('\0') {
        let (from, to) = (repository().join(file), copy.join(file));
        if from.exists() {
            fs::create_dir_all(to.parent().expect("a folder")).expect("folders can be made");
            fs::copy(&from, &to).expect(file);
        }
    }
    copy
}

fn new_backend(copy: &Path, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["new-backend", name])
        .current_dir(copy)
        .output()
        .expect("xtask starts")
}

/// Runs cargo in the copy, with a build folder that outlives it. This repository's own will not do: cargo tells packages apart by
/// their place in the workspace, so the copy's would overwrite ours while other tests link them.
fn cargo(copy: &Path, args: &[&str]) -> String {
    let target = copy.with_extension("target");
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo starts");
    let (out, complaints) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "cargo {args:?}\n{out}\n{complaints}"
    );
    out.into_owned()
}

#[test]
fn a_new_backend_compiles_keeps_the_contract_and_has_its_row() {
    let copy = copy("new-backend");
    let output = new_backend(&copy, "demo");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for part in [
        "wrote multi-demo",
        "registered it in Cargo.toml",
        "multi-bench/src/contender.rs",
        "now edit",
        "multi-demo/src/group.rs",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    // Another crate of the workspace may be half-written while this runs; the new one stands on multi-core alone.
    let rules = cargo(
        &copy,
        &["test", "--package", "multi-demo", "--test", "conformance"],
    );
    assert!(rules.contains("test result: ok. "), "{rules}");
    assert!(!rules.contains("ok. 0 passed"), "{rules}");
    cargo(&copy, &["test", "--package", "multi-demo", "--doc"]);
    let row = fs::read_to_string(copy.join("multi-bench/src/contender.rs")).expect("it is there");
    assert!(row.contains("multi_demo::Group::new()"), "{row}");
    cargo(&copy, &["check", "--package", "multi-bench"]);
    let again = new_backend(&copy, "demo");
    assert!(!again.status.success());
    assert_eq!(
        String::from_utf8_lossy(&again.stderr),
        "error: multi-demo exists already\n"
    );
}

#[test]
fn a_refused_name_leaves_everything_as_it_was() {
    let copy = copy("refused-names");
    let manifest = fs::read(copy.join("Cargo.toml")).expect("it is there");
    for (name, reason) in [
        ("", "empty"),
        ("Demo", "lower-case"),
        ("core", "exists already"),
        ("loop", "keyword"),
        ("../x", "hyphens"),
    ] {
        let output = new_backend(&copy, name);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name:?}");
        assert!(
            complaint.starts_with("error: ") && complaint.contains(reason),
            "{name:?}: {complaint}"
        );
    }
    assert_eq!(
        fs::read(copy.join("Cargo.toml")).expect("it is there"),
        manifest
    );
}
