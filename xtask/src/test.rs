//! `cargo xtask test`: every test of the workspace, each test binary under a time limit.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, Verdict, limit};

/// Time limit of one test binary unless another is given. The slowest take tens of seconds on two cores.
pub(crate) const LIMIT_SECONDS: u64 = 300;

/// Runs `cargo test` and ends with the line `N passed, N failed`.
pub(crate) fn run(workspace: &Workspace, limit: Duration, args: &[String]) -> Result<Verdict> {
    let mut cargo = limit::cargo_test(workspace, limit)?;
    let names_packages = args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"));
    if !names_packages {
        cargo.arg("--workspace");
    }
    cargo.arg("--no-fail-fast").args(args);
    let mut cargo = cargo
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo test: {error}"))?;
    let stdout = cargo
        .stdout
        .take()
        .ok_or("cargo's standard output is not a pipe")?;
    let started = Instant::now();
    let mut tally = Tally::default();
    limit::relay(stdout, &mut io::stdout(), &mut tally)?;
    let status = cargo.wait()?;
    if !status.success() && tally.failed == 0 {
        eprintln!("cargo test failed ({status}) although no test did: counted as one failure");
        tally.failed += 1;
    }
    println!("\nthe tests took {:.1} s", started.elapsed().as_secs_f64());
    println!("{tally}");
    Ok(Verdict::green_if(status.success() && tally.failed == 0))
}
