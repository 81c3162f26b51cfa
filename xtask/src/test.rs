//! `cargo xtask test`: every test of the workspace, each test binary under a time limit.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::conformance::Reports;
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, Verdict, limit};

/// Time limit of one test binary unless another is given. The slowest take tens of seconds on two cores.
pub(crate) const LIMIT_SECONDS: u64 = 300;

/// Runs `cargo test` and ends with the names of what failed and the line `N passed, N failed`.
pub(crate) fn run(workspace: &Workspace, limit: Duration, args: &[String]) -> Result<Verdict> {
    let (tally, verdict) = count(limit::cargo_test(workspace, limit)?, args)?;
    println!("{tally}");
    Ok(verdict)
}

/// The same for all tests, with the table of the contract's rules over every backend before the last lines.
pub(crate) fn run_with_rules(workspace: &Workspace, limit: Duration) -> Result<Verdict> {
    let reports = Reports::empty(workspace)?;
    let mut cargo = limit::cargo_test(workspace, limit)?;
    reports.ask_of(&mut cargo);
    let (mut tally, mut verdict) = count(cargo, &[])?;
    let table = reports.table()?;
    if verdict == Verdict::Green && table.failed > 0 {
        verdict = Verdict::Red;
        tally.failed += 1;
        tally.failures.push(format!(
            "{} rules did not pass although no test failed: see the table",
            table.failed
        ));
    }
    println!("{}\n{tally}", table.text);
    Ok(verdict)
}

fn count(mut cargo: Command, args: &[String]) -> Result<(Tally, Verdict)> {
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
    let verdict = Verdict::green_if(status.success() && tally.failed == 0);
    Ok((tally, verdict))
}
