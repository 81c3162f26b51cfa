//! `cargo xtask`: what a person does to this repository, in one word each.
//!
//! Runs cargo; links nothing of ours, so it builds when a backend does not.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports on its standard streams"
)]

mod asan;
mod bench;
mod ci;
mod conformance;
mod faults;
mod limit;
mod models;
mod new_backend;
mod stress;
mod tally;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Any failure of xtask itself; what a step found wrong is a [`Verdict`].
type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What a step that ran to its end found. The details are already printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a red step must end in a non-zero exit code"]
enum Verdict {
    Green,
    Red,
}

impl Verdict {
    fn green_if(condition: bool) -> Self {
        if condition { Self::Green } else { Self::Red }
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Tasks of the multi workspace"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the benchmark in release mode and run it; arguments go to the benchmark (try `cargo xtask bench --help`)
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every test of the workspace and end with "N passed, N failed"
    Test {
        /// Time limit of one test binary, in seconds
        #[arg(long, default_value_t = test::LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Further arguments for `cargo test`, such as `-p multi-core` or `-- NAME`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the contract's rules over every backend and print rules × backends
    Conformance {
        /// Print what each rule says, too
        #[arg(long)]
        docs: bool,
        /// Time limit of one backend's run, in seconds
        #[arg(long, default_value_t = test::LIMIT_SECONDS, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
    /// The whole gate: formatting, lints, docs, tidy, bench smoke, models, tests with the table of rules
    Ci,
    /// Check the rules of this repository that no lint can say
    Tidy,
    /// Check the synchronisation protocols with the model checker
    Models {
        /// Go through more interleavings of the largest models: minutes instead of seconds
        #[arg(long)]
        thorough: bool,
    },
    /// Run the tests of the green tasks under `AddressSanitizer`
    Asan,
    /// Run the stress tests of one backend, or of all
    Stress {
        /// goro, chan, proc, .. or all: the part of the crate's name after `multi-`
        #[arg(default_value = "all")]
        which: String,
        /// How long the stresses of a crate run, side by side [default: 600 for one crate, 10 each for all]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: Option<u64>,
        /// The seed that an earlier run printed, to do the same again
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Kill each operation of a channel after every shared write it makes, and a pool's worker at each step; print points × results
    KillPoints(faults::KillPoints),
    /// Kill a channel's senders and receivers, or a pool's workers, at random, and account for every message, or every job
    Chaos(faults::Chaos),
    /// Fork processes from a parent whose threads print, allocate, panic and hold locks; count those that hang, and what tasks leave
    Forks(faults::Forks),
    /// Write a small working backend, register it, and say what to edit
    NewBackend {
        /// The part of the crate's name after `multi-`, such as `demo`
        name: String,
    },
    /// Run one test binary under a time limit (cargo calls this for `xtask test`)
    #[command(hide = true)]
    RunLimited {
        /// The limit, in seconds
        seconds: u64,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    if let Task::RunLimited { seconds, command } = task {
        return limit::run(&command, Duration::from_secs(seconds));
    }
    let workspace = Workspace::find()?;
    let verdict = match task {
        Task::Bench { args } => return bench::run(&workspace, &args),
        Task::Test { limit, args } => test::run(&workspace, Duration::from_secs(limit), &args)?,
        Task::Conformance { docs, limit } => {
            conformance::run(&workspace, Duration::from_secs(limit), docs)?
        }
        Task::Ci => ci::run(&workspace)?,
        Task::Tidy => tidy::run(&workspace)?,
        Task::Models { thorough } => models::run(&workspace, thorough)?,
        Task::Asan => asan::run(&workspace, Duration::from_secs(test::LIMIT_SECONDS))?,
        Task::Stress {
            which,
            seconds,
            seed,
        } => stress::run(&workspace, &which, seconds.map(Duration::from_secs), seed)?,
        Task::KillPoints(wanted) => faults::kill_points(&workspace, &wanted)?,
        Task::Chaos(wanted) => faults::chaos(&workspace, &wanted)?,
        Task::Forks(wanted) => faults::forks(&workspace, &wanted)?,
        Task::NewBackend { name } => new_backend::run(&workspace, &name)?,
        Task::RunLimited { .. } => unreachable!("handled above: it needs no workspace"),
    };
    Ok(match verdict {
        Verdict::Green => ExitCode::SUCCESS,
        Verdict::Red => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bench_passes_every_argument_through() {
        let cli =
            Cli::try_parse_from(["xtask", "bench", "--json", "start", "--help"]).expect("parses");
        let Task::Bench { args } = cli.task else {
            panic!("not bench: {:?}", cli.task)
        };
        assert_eq!(args, ["--json", "start", "--help"]);
    }

    #[test]
    fn zero_limits_and_unknown_tasks_are_refused() {
        for args in [
            &["xtask", "test", "--limit", "0"][..],
            &["xtask", "stress", "--seconds", "0"],
            &["xtask", "frobnicate"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?} was accepted");
        }
    }
}
