//! `cargo xtask stress`: the long-running tests, for as long as one likes.

use std::io::{self, BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use crate::workspace::{Member, Workspace};
use crate::{Result, Verdict, limit};

/// What a stress binary may take beyond the time it was given, for its checks at the end.
const GRACE: Duration = Duration::from_secs(60);

/// Runs the `stress` test of the crates chosen, for `duration` each, and repeats their seeds at the end.
pub(crate) fn run(workspace: &Workspace, which: &str, duration: Duration) -> Result<Verdict> {
    let mut seeds = Vec::new();
    let mut verdict = Verdict::Green;
    for member in choose(workspace, which)? {
        println!("== {} for {} s", member.name, duration.as_secs());
        let mut cargo = limit::cargo_test(workspace, duration.saturating_mul(2) + GRACE)?;
        cargo.args([
            "--release",
            "--package",
            &member.name,
            "--test",
            "stress",
            "--",
            "--nocapture",
        ]);
        cargo.env("MULTI_STRESS_SECONDS", duration.as_secs().to_string());
        let mut cargo = cargo.stdout(Stdio::piped()).spawn()?;
        let stdout = cargo
            .stdout
            .take()
            .ok_or("cargo's standard output is not a pipe")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            writeln!(io::stdout(), "{line}")?;
            if line.to_ascii_lowercase().contains("seed") {
                seeds.push(format!("{}: {}", member.name, line.trim()));
            }
        }
        if !cargo.wait()?.success() {
            println!("== {} FAILED", member.name);
            verdict = Verdict::Red;
        }
    }
    for seed in seeds {
        println!("{seed}");
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
