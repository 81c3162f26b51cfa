//! `cargo xtask kill-points` and `cargo xtask chaos`: participants of a channel, or workers of a pool, are killed, and the rest must go on.
//! `cargo xtask forks`: processes are forked under fire, and none may hang, nor leave anything behind.
//!
//! All this is done by test programs of multi-chan and multi-proc; here they are built for speed, told how much to do, and counted.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, Verdict, limit};

/// Far beyond what either takes on two processors.
const LIMIT: Duration = Duration::from_secs(3600);

/// What `cargo xtask kill-points` was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct KillPoints {
    /// Kills of each point, per role that reaches it; from 10 on, the tests that kill at random go on for longer, too
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// As where more processes have been about than one sleeper can watch by itself
    #[arg(long)]
    crowd: bool,
    /// Only the tests with this in their names
    filter: Option<String>,
}

/// The tests of each crate whose victims die at a step that they are told.
const KILL_POINTS: [((&str, &str), &str); 2] = [
    (("multi-chan", "solo"), "kill"),
    (("multi-proc", "functions"), "kill_points"),
];

/// Kills each operation of a channel after each write it makes, and a pool's worker at each step of its life; prints the tables.
pub(crate) fn kill_points(workspace: &Workspace, wanted: &KillPoints) -> Result<Verdict> {
    let mut settings = vec![("MULTI_KILLS", wanted.kills.to_string())];
    settings.extend(wanted.crowd.then(|| ("MULTI_CROWD", "1".to_owned())));
    let mut tally = Tally::default();
    for (test, filter) in KILL_POINTS {
        let filter = wanted.filter.as_deref().unwrap_or(filter);
        tally.add(run_counted(workspace, test, filter, &settings)?);
    }
    Ok(told(&tally))
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Victims {
    /// Senders and receivers of channels
    Chan,
    /// Workers of a pool of processes
    Pool,
}

/// What `cargo xtask chaos` was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Chaos {
    /// Whose processes
    #[arg(value_enum, default_value_t = Victims::Chan)]
    victims: Victims,
    /// How many processes to kill [default: 10000 of channels, 2000 of a pool of each kind]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    kills: Option<u64>,
    /// How many jobs a pool is to do at least [default: 100000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// Stop after so many minutes, even if fewer were killed
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// The seed that an earlier run printed
    #[arg(long)]
    seed: Option<u64>,
    /// Kinds of channels, or of a pool's workers, with commas, as the last line of a run names them [default: all]
    #[arg(long)]
    modes: Option<String>,
}

/// Kills and stops processes at random, and accounts for every message, or every job.
pub(crate) fn chaos(workspace: &Workspace, wanted: &Chaos) -> Result<Verdict> {
    let is_pool = wanted.victims == Victims::Pool;
    if !is_pool && wanted.jobs.is_some() {
        return Err("channels do no jobs: --jobs is for `cargo xtask chaos pool`".into());
    }
    let kills = wanted.kills.unwrap_or(if is_pool { 2_000 } else { 10_000 });
    let mut settings = vec![("MULTI_CHAOS_KILLS", kills.to_string())];
    let mut set = |name, value: Option<String>| settings.extend(value.map(|value| (name, value)));
    // A pool's workers are killed until there were enough; so long at most.
    let minutes = wanted.minutes.or(is_pool.then_some(30));
    set(
        "MULTI_CHAOS_MINUTES",
        minutes.map(|minutes| minutes.to_string()),
    );
    set("MULTI_SEED", wanted.seed.map(|seed| seed.to_string()));
    set("MULTI_CHAOS_MODES", wanted.modes.clone());
    if is_pool {
        let jobs = wanted.jobs.unwrap_or(100_000);
        set("MULTI_CHAOS_JOBS", Some(jobs.to_string()));
        return run(workspace, ("multi-proc", "pool_chaos"), "", &settings);
    }
    run(workspace, ("multi-chan", "solo"), "chaos", &settings)
}

/// What `cargo xtask forks` was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Forks {
    /// Forks from a parent whose eight threads print, allocate and panic
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Children that wait for a lock of the parent's: each is to be reported within its deadline and 100 ms
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    locks: u32,
    /// Tasks each way, forked, of a zygote and of a pool, and a twentieth of them executed, after which nothing may be left
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    tasks: u32,
}

/// Forks processes from a busy parent, and looks for any that hangs; then starts many in turn, and looks for what they leave.
pub(crate) fn forks(workspace: &Workspace, wanted: &Forks) -> Result<Verdict> {
    let settings = [
        ("MULTI_PROC_FORKS", wanted.count.to_string()),
        ("MULTI_PROC_LOCKS", wanted.locks.to_string()),
    ];
    let mut tally = run_counted(workspace, ("multi-proc", "busy_parent"), "", &settings)?;
    let tasks = [("MULTI_PROC_TASKS", wanted.tasks.to_string())];
    let residue = ("multi-proc", "functions");
    tally.add(run_counted(workspace, residue, "nothing_is_left", &tasks)?);
    Ok(told(&tally))
}

/// Runs the tests of a package that `filter` names, and says how many passed.
fn run(
    workspace: &Workspace,
    test: (&str, &str),
    filter: &str,
    settings: &[(&str, String)],
) -> Result<Verdict> {
    Ok(told(&run_counted(workspace, test, filter, settings)?))
}

/// Prints what came of it: good if any test ran and none failed.
fn told(tally: &Tally) -> Verdict {
    println!("{tally}");
    Verdict::green_if(tally.failed == 0 && tally.passed > 0)
}

fn run_counted(
    workspace: &Workspace,
    (package, test): (&str, &str),
    filter: &str,
    settings: &[(&str, String)],
) -> Result<Tally> {
    let mut cargo = limit::cargo_test(workspace, LIMIT)?;
    cargo.args(["--release", "--package", package, "--test", test]);
    cargo.args(["--", filter, "--nocapture"]);
    cargo.envs(settings.iter().map(|(name, value)| (name, value)));
    let mut cargo = cargo
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo test: {error}"))?;
    let stdout = cargo
        .stdout
        .take()
        .ok_or("cargo's standard output is not a pipe")?;
    let mut tally = Tally::default();
    limit::relay(stdout, &mut io::stdout(), &mut tally)?;
    let status = cargo.wait()?;
    if !status.success() && tally.failed == 0 {
        tally.failed += 1;
    }
    Ok(tally)
}
