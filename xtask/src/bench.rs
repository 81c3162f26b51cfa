//! `cargo xtask bench`: builds the benchmark in release mode and runs it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::workspace::Workspace;
use crate::{Result, Verdict};

/// Becomes `cargo run`: cargo shows its progress on a terminal, and standard output is the benchmark's alone.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let mut cargo = command(workspace, "release");
    if args.iter().any(|arg| arg == "--peers") {
        cargo.args(["--features", "peers"]);
    }
    let error = cargo.arg("--").args(args).exec();
    Err(format!("cannot run cargo: {error}").into())
}

/// Runs of a few seconds, whose JSON must have rows that measured something. Built in a hurry: what they measure is not looked at.
pub(crate) fn smoke(workspace: &Workspace) -> Result<Verdict> {
    for suite in [&[][..], &["goro"], &["chan"], &["proc"]] {
        if smoke_of(workspace, suite)? == Verdict::Red {
            return Ok(Verdict::Red);
        }
    }
    Ok(Verdict::Green)
}

fn smoke_of(workspace: &Workspace, suite: &[&str]) -> Result<Verdict> {
    let output = command(workspace, "smoke")
        .args(["--", "--quick", "--json"])
        .args(suite)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        println!("the benchmark failed: {}", output.status);
        return Ok(Verdict::Red);
    }
    Ok(match check(&output.stdout) {
        Ok(rows) => {
            let suite = suite.first().unwrap_or(&"groups");
            println!("the JSON of {suite} is valid: {rows} rows");
            Verdict::Green
        }
        Err(error) => {
            println!("the benchmark's JSON is not as promised: {error}");
            println!("{}", String::from_utf8_lossy(&output.stdout));
            Verdict::Red
        }
    })
}

fn command(workspace: &Workspace, profile: &str) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args([
        "run",
        "--profile",
        profile,
        "--package",
        "multi-bench",
        "--bin",
        "multi-bench",
    ]);
    cargo
}

/// The number of rows in the benchmark's JSON.
fn check(json: &[u8]) -> Result<usize> {
    let report: Value = serde_json::from_slice(json)?;
    let tables = report["tables"].as_array().ok_or("no list \"tables\"")?;
    let mut rows = 0;
    for row in tables
        .iter()
        .flat_map(|table| table["rows"].as_array().into_iter().flatten())
    {
        // A contender that is not to be had here; trouble of ours makes the run fail.
        if row["cannot"].is_string() {
            continue;
        }
        // In nanoseconds, mostly: `median_ns`, `median_bytes`.
        let median = row
            .as_object()
            .into_iter()
            .flatten()
            .find(|(name, _)| name.starts_with("median_"))
            .and_then(|(_, figure)| figure.as_f64())
            .ok_or_else(|| format!("a row without a median: {row}"))?;
        // So little memory may be taken from what was free.
        if median < 0.0 || (median == 0.0 && row["median_bytes"].is_null()) {
            return Err(format!("a median of nothing: {row}").into());
        }
        rows += 1;
    }
    if rows == 0 {
        return Err("no rows".into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_figures_are_refused() {
        assert_eq!(
            check(
                br#"{"tables":[{"rows":[{"median_ns":1.5},{"median_bytes":0},{"cannot":"gone"}]}]}"#
            )
            .expect("good"),
            2
        );
        for bad in [
            &b"not json"[..],
            b"{}",
            br#"{"tables":[]}"#,
            br#"{"tables":[{"rows":[{"median_ns":0}]}]}"#,
            br#"{"tables":[{"rows":[{}]}]}"#,
            br#"{"tables":[{"rows":[{"cannot":"gone"}]}]}"#,
        ] {
            assert!(
                check(bad).is_err(),
                "{} was accepted",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
