//! `cargo xtask ci`: the whole gate, one timed step after another; the first red step ends it.

use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use crate::{Result, Verdict, bench, models, test, tidy};

type Step = (&'static str, fn(&Workspace) -> Result<Verdict>);

/// Quick ones first; the tests last, because their summary closes the output. They include the rules over every backend.
const STEPS: &[Step] = &[
    ("tidy", tidy::run),
    ("fmt", fmt),
    ("clippy", clippy),
    ("doc", doc),
    ("bench smoke", bench::smoke),
    ("models", |workspace| models::run(workspace, false)),
    ("test", |workspace| {
        test::run_with_rules(workspace, Duration::from_secs(test::LIMIT_SECONDS))
    }),
];

/// Runs every step. When all are green, the last line is the tests' `N passed, N failed`.
pub(crate) fn run(workspace: &Workspace) -> Result<Verdict> {
    let started = Instant::now();
    for (number, (name, step)) in (1..).zip(STEPS) {
        println!(
            "== {number}/{} {name} (at {})",
            STEPS.len(),
            seconds(started)
        );
        let step_started = Instant::now();
        let verdict = step(workspace)?;
        // The last step, the tests, says itself what it took and has the last word.
        match verdict {
            _ if number == STEPS.len() => return Ok(verdict),
            Verdict::Green => println!("== {name} ok in {}", seconds(step_started)),
            Verdict::Red => {
                println!(
                    "== {name} FAILED after {}; the steps after it did not run",
                    seconds(step_started)
                );
                return Ok(Verdict::Red);
            }
        }
    }
    Ok(Verdict::Green)
}

fn fmt(workspace: &Workspace) -> Result<Verdict> {
    cargo(workspace, &["fmt", "--all", "--check"], None)
}

fn clippy(workspace: &Workspace) -> Result<Verdict> {
    cargo(
        workspace,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            // The benchmark's contenders of other houses, which nothing else builds.
            "--features",
            "multi-bench/peers",
            "--",
            "-D",
            "warnings",
        ],
        None,
    )
}

fn doc(workspace: &Workspace) -> Result<Verdict> {
    cargo(
        workspace,
        &["doc", "--workspace", "--no-deps"],
        Some(("RUSTDOCFLAGS", "-D warnings")),
    )
}

fn cargo(workspace: &Workspace, args: &[&str], env: Option<(&str, &str)>) -> Result<Verdict> {
    let status = workspace.cargo().args(args).envs(env).status()?;
    Ok(Verdict::green_if(status.success()))
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}
