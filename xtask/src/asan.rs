//! `cargo xtask asan`: the tests of the green tasks under `AddressSanitizer`, which is told of every switch of stacks.

use std::time::Duration;

use crate::workspace::Workspace;
use crate::{Result, Verdict, limit};

/// The crate that switches stacks.
const PACKAGE: &str = "multi-goro";
/// Its tests that are left out: one installs handlers for faults and provokes them, and the sanitizer has handlers of its own; the
/// next is the contract, a minute and a half of compiling, and about books rather than stacks; the last has cargo build the examples,
/// which would be with our flags.
const LEFT_OUT: [&str; 3] = ["solo", "conformance", "examples"];
/// The sanitizer's run-time library is linked by the compiler for this one.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Frames stay on the stacks that the code switches (see `arch/sanitizer.rs`).
const FLAGS: &str = "-Zsanitizer=address --cfg asan -Cllvm-args=-asan-use-after-return=never";

/// Builds that crate's tests in a target folder of their own, since the flags change every crate, and runs them. The flag is an
/// unstable one: the compiler is told to take it all the same, which works on the stable one that the workspace is built with.
pub(crate) fn run(workspace: &Workspace, each: Duration) -> Result<Verdict> {
    let member = workspace
        .members
        .iter()
        .find(|member| member.name == PACKAGE)
        .ok_or("the crate that switches stacks is gone")?;
    let tests = member
        .tests
        .iter()
        .filter(|name| !LEFT_OUT.contains(&name.as_str()))
        .flat_map(|name| ["--test", name]);
    let status = limit::cargo_test(workspace, each)?
        .args(["--release", "--no-fail-fast", "--target", TARGET])
        .args(["--target-dir", "target/asan"])
        .args(["--package", PACKAGE, "--lib"])
        .args(tests)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        // Tests leak on purpose (a handle that is forgotten), and what a parked task holds hangs on its stack, where no leak
        // checker looks.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .status()?;
    Ok(Verdict::green_if(status.success()))
}
