//! The benchmark's command line; `cargo xtask bench` builds and runs it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use multi_bench::report::Report;
use multi_bench::serve;
use multi_bench::suite::{Options, chan, goro, groups, proc, start};
use multi_bench::workload::Work;

/// Workers of one execution, as in the seed's benchmark.
const WORKERS: usize = 4;
/// Numbers that each worker adds up, as in the seed's benchmark.
const NUMBERS: u64 = 10_000_000;
/// The same for a run of a few seconds.
const QUICK_NUMBERS: u64 = 1_000_000;

/// The benchmark of multi. Without a subcommand: the seed's, a group of workers adding up random numbers, on every backend
#[derive(Debug, Parser)]
#[command(name = "multi-bench", bin_name = "cargo xtask bench")]
struct Cli {
    /// Print one JSON object instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// Take a few seconds: enough to see that everything runs, not to compare
    #[arg(long, global = true)]
    quick: bool,
    /// Set others beside ours: Go where there is a `go`, or a `python3` and a network; for `goro` tokio, may, rayon, smol and kanal, too;
    /// for `chan` crossbeam-channel, rtrb, ipc-channel, iceoryx2, shmem-ipc, ipmpsc, Boost and Python; for `proc` procspawn, Python and rayon
    #[arg(long, global = true)]
    peers: bool,
    /// Workers per execution [default: 4]
    #[arg(long, value_parser = workers)]
    workers: Option<usize>,
    /// Random numbers that each worker adds up [default: 10000000, with --quick 1000000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    numbers: Option<u64>,
    /// Executions per contender [default: as many as fit into 40 s, at most 100]
    #[arg(short, value_parser = executions)]
    n: Option<usize>,
    #[command(subcommand)]
    suite: Option<Suite>,
}

#[derive(Debug, Subcommand)]
enum Suite {
    /// Start one empty task and wait for it, beside the standard library and the bare system calls
    Start,
    /// Channels between processes: messages of 8 bytes to 1 MiB, and round trips; each figure beside its target
    Chan {
        /// Run the parts with this in their names, such as `ping`; can be given more than once
        #[arg(long, value_name = "PART", long_help = only_help(chan::NAMES))]
        only: Vec<String>,
    },
    /// Green tasks: switching, starting, messages, very many of them, computing, blocking, time; each figure beside its target
    Goro {
        /// Run the parts with this in their names, such as `select`; can be given more than once
        #[arg(long, value_name = "PART", long_help = only_help(goro::NAMES))]
        only: Vec<String>,
    },
    /// Processes: starting them, also from a large parent, calls and jobs through pools of them; each figure beside its target
    Proc {
        /// Run the parts with this in their names, such as `call`; can be given more than once
        #[arg(long, value_name = "PART", long_help = only_help(proc::NAMES))]
        only: Vec<String>,
    },
    /// Be a contender: take a sample for each line of standard input (the benchmark runs itself so)
    #[command(hide = true)]
    Serve {
        /// Who
        contender: String,
        /// What, such as `yield tasks=2 workers=1`
        job: String,
    },
}

fn main() -> ExitCode {
    become_task();
    let cli = Cli::parse();
    if cli.suite.is_some() && (cli.workers.is_some() || cli.numbers.is_some() || cli.n.is_some()) {
        let what = "--workers, --numbers and -n are for the run without a subcommand";
        Cli::command()
            .error(ErrorKind::ArgumentConflict, what)
            .exit();
    }
    if cli.peers && !cfg!(feature = "peers") {
        let what = "--peers needs a build with them: `cargo xtask bench --peers`, or `cargo run --features peers`";
        Cli::command()
            .error(ErrorKind::ArgumentConflict, what)
            .exit();
    }
    if let Some(Suite::Serve { contender, job }) = &cli.suite {
        return match serve::run(contender, job) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&*error),
        };
    }
    match run(&cli) {
        Ok(report) => match print(&report, cli.json) {
            ExitCode::SUCCESS if !report.failures.is_empty() => ExitCode::FAILURE,
            code => code,
        },
        Err(error) => fail(&*error),
    }
}

/// Where this process is one that a contender started from this program, it goes no further. Other contenders are spared the zygote.
fn become_task() {
    let mut words = std::env::args().skip(1);
    let contender = words
        .next()
        .is_some_and(|word| word == "serve")
        .then(|| words.next());
    if !matches!(contender.flatten(), Some(name) if !multi_bench::peers::runs_functions(&name)) {
        multi_proc::init();
    }
    #[cfg(feature = "peers")]
    procspawn::init();
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let _unprintable = writeln!(io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

/// What `--only` can be told.
fn only_help(names: &[&str]) -> String {
    let names = names.join(", ");
    format!(
        "Run the parts with this in their names; can be given more than once. There are: {names}"
    )
}

fn run(cli: &Cli) -> multi_bench::Result<Report> {
    let options = |only: &[String]| Options {
        quick: cli.quick,
        peers: cli.peers,
        only: only.to_vec(),
    };
    match &cli.suite {
        None => {
            let numbers = cli
                .numbers
                .unwrap_or(if cli.quick { QUICK_NUMBERS } else { NUMBERS });
            let mut report = groups::run(groups::Options {
                work: Work {
                    workers: cli.workers.unwrap_or(WORKERS),
                    numbers,
                },
                n: cli.n,
                quick: cli.quick,
                peers: cli.peers,
            })?;
            chan::add_brief(&mut report, cli.quick)?;
            Ok(report)
        }
        Some(Suite::Start) => start::run(cli.quick),
        Some(Suite::Chan { only }) => chan::run(&options(only)),
        Some(Suite::Goro { only }) => goro::run(&options(only)),
        Some(Suite::Proc { only }) => proc::run(&options(only)),
        Some(Suite::Serve { .. }) => unreachable!("handled above: it reports nothing"),
    }
}

/// Prints the report; a reader that closed the pipe has seen enough.
fn print(report: &Report, json: bool) -> ExitCode {
    let text = if json {
        format!("{:#}\n", report.json())
    } else {
        report.to_string()
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _unprintable = writeln!(io::stderr(), "error: cannot print the report: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Threads and processes are real ones, so a number with a slip of the finger in it is refused.
fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 workers would do nothing; give at least 1".to_owned()),
        Ok(workers @ 1..=1_000) => Ok(workers),
        Ok(workers) => Err(format!(
            "{workers} workers are as many threads and processes; give at most 1000"
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn executions(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 executions have no median; give at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(error) => Err(error.to_string()),
    }
}
