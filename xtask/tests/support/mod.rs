//! Small workspaces to run xtask in.
#![expect(
    clippy::print_stderr,
    reason = "the test harness shows it when a test fails"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A workspace of these files, in a folder of its own under cargo's folder for tests. `members` are listed in its manifest.
pub(crate) fn workspace(name: &str, members: &[&str], files: &[(&str, &str)]) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if root.exists() {
        fs::remove_dir_all(&root).expect("an old copy goes away");
    }
    let manifest = format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n");
    for (file, text) in files.iter().copied().chain([("Cargo.toml", &*manifest)]) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
        fs::write(path, text).expect(file);
    }
    root
}

/// What a run of xtask came to.
pub(crate) struct Run {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) complaints: String,
}

/// Runs xtask there.
pub(crate) fn xtask(root: &Path, args: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .expect("xtask starts");
    let run = Run {
        success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        complaints: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    // Shown when the test fails. Inner summaries must not look like this test's own to whoever counts lines.
    eprintln!("{}", run.out.replace("test result:", "inner result:"));
    eprintln!("{}", run.complaints);
    run
}
