//! `cargo xtask stress`: the long-running tests, for as long as one likes.

use std::io::{self, BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use crate::tally::Tally;
use crate::workspace::{Member, Workspace};
use crate::{Result, Verdict, limit};

/// What a stress binary may take beyond the time it was given, for its checks at the end.
const GRACE: Duration = Duration::from_secs(60);

/// How long a crate's stresses run unless it is said: long where one crate is asked for, a look at each where all are.
const ONE: Duration = Duration::from_secs(600);
const EACH: Duration = Duration::from_secs(10);
/// More than any crate has stresses: all of them run side by side.
const THREADS: &str = "--test-threads=100";

/// Runs the `stress` test of the crates chosen, for `duration` each, and sums up at the end: what ran, with which seed, how it ended.
pub(crate) fn run(
    workspace: &Workspace,
    which: &str,
    duration: Option<Duration>,
    seed: Option<u64>,
) -> Result<Verdict> {
    let duration = duration.unwrap_or(if which == "all" { EACH } else { ONE });
    let seconds = duration.as_secs();
    let mut summaries = Vec::new();
    let mut verdict = Verdict::Green;
    for member in choose(workspace, which)? {
        println!("== {} for {seconds} s", member.name);
        let mut cargo = limit::cargo_test(workspace, duration.saturating_mul(2) + GRACE)?;
        cargo.args(["--release", "--package", &member.name, "--test", "stress"]);
        cargo.args(["--", "--nocapture", THREADS]);
        cargo.env("MULTI_STRESS_SECONDS", seconds.to_string());
        if let Some(seed) = seed {
            cargo.env("MULTI_STRESS_SEED", seed.to_string());
        }
        let mut cargo = cargo.stdout(Stdio::piped()).spawn()?;
        let stdout = cargo
            .stdout
            .take()
            .ok_or("cargo's standard output is not a pipe")?;
        let (mut seeds, mut tally) = (Vec::new(), Tally::default());
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            writeln!(io::stdout(), "{line}")?;
            tally.line(&line);
            if line.to_ascii_lowercase().contains("seed") {
                seeds.push(line.trim().to_owned());
            }
        }
        let success = cargo.wait()?.success();
        if !success {
            verdict = Verdict::Red;
        }
        summaries.push(format!(
            "{}: {} stresses for {seconds} s, {} failed{}; {}",
            member.name,
            tally.passed + tally.failed,
            tally.failed,
            if success { "" } else { ": FAILED" },
            seeds.join(", "),
        ));
    }
    println!();
    for summary in summaries {
        println!("{summary}");
    }
    Ok(verdict)
}

fn choose<'a>(workspace: &'a Workspace, which: &str) -> Result<Vec<&'a Member>> {
    let all: Vec<&Member> = workspace.members_with_test("stress").collect();
    let names = || {
        let names: Vec<&str> = all.iter().map(|member| short(&member.name)).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let chosen: Vec<&Member> = all
        .iter()
        .copied()
        .filter(|member| which == "all" || short(&member.name) == which)
        .collect();
    if chosen.is_empty() {
        return Err(format!("no stress test for {which:?}; there are: {}", names()).into());
    }
    Ok(chosen)
}

fn short(name: &str) -> &str {
    name.strip_prefix("multi-").unwrap_or(name)
}
