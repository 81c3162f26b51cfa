//! As `xargs -P`: reads arguments, one a line, and runs a command with them, several at once.
//!
//! `seq 1 9 | cargo run -p multi-proc --example xargs -- -P 4 -n 2 --timeout 5 sh -c 'echo "$0 $1"; test $0 != 5'`
//!
//! Each command is a task whose process becomes the command, so it ends with this program, is killed at its time limit, and what
//! became of it is told by name.

#![expect(clippy::print_stderr, reason = "a tool says what went wrong")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Result, TaskError, TaskErrorKind, TaskOptions};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const USAGE: &str = "usage: xargs [-P COMMANDS AT ONCE] [-n ARGUMENTS EACH] [--timeout SECONDS] COMMAND [ARGUMENT ..]";

struct Options {
    at_once: usize,
    arguments_max: usize,
    timeout: Duration,
    command: Vec<String>,
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options> {
    let (mut at_once, mut arguments_max, mut timeout) = (1, 1, Duration::MAX);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match &*word {
            "-P" => at_once = value()?.parse()?,
            "-n" => arguments_max = value()?.parse::<usize>()?.max(1),
            "--timeout" => timeout = Duration::try_from_secs_f64(value()?.parse()?)?,
            _ => {
                let command = std::iter::once(word).chain(words).collect();
                return Ok(Options {
                    at_once,
                    arguments_max,
                    timeout,
                    command,
                });
            }
        }
    }
    Err(USAGE.into())
}

/// Runs a command for each few lines of standard input and returns those that failed.
fn run(options: &Options) -> Result<Vec<TaskError>> {
    let builder = Group::builder()
        .limit(options.at_once)
        .task_timeout(options.timeout);
    // SAFETY: this program has one thread.
    let mut group = unsafe { builder.fork() }?;
    let (mut lines, mut commands) = (std::io::stdin().lines(), Vec::new());
    loop {
        let arguments = lines
            .by_ref()
            .take(options.arguments_max)
            .collect::<Result<Vec<_>, _>>()?;
        if arguments.is_empty() {
            break;
        }
        let name = format!("{} {}", options.command[0], arguments.join(" "));
        let mut command = Command::new(&options.command[0]);
        command
            .args(&options.command[1..])
            .args(arguments)
            .stdin(Stdio::null());
        // Returns only where there is no such program.
        let become_it = move || -> Result { Err(command.exec().into()) };
        commands.push(group.spawn_with(TaskOptions::new().name(name), become_it));
    }
    // Each says for itself how it ended.
    let _counted = group.wait();
    let failures = commands
        .into_iter()
        .filter_map(|command| command.join().err());
    // A process that has become a command and ends well never says that its task is done.
    Ok(failures
        .filter(|failure| !matches!(failure.kind(), TaskErrorKind::Exited(0)))
        .collect())
}

/// The exit codes are those of xargs(1).
fn main() -> Result<ExitCode> {
    let failures = run(&options(std::env::args().skip(1))?)?;
    for failure in &failures {
        eprintln!("xargs: {failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(123)
    })
}
