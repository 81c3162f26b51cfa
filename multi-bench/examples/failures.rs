//! One function, the same failures, every backend: what comes home when tasks go wrong.
//!
//! ```text
//! cargo run -p multi-bench --example failures -- goro|locked|pthread|proc
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use std::fmt;
use std::fs;
use std::io;
use std::process::ExitCode;

use multi_core::{Group, GroupError, Result, TaskOptions};

/// Some tasks end well, one finds no file, one panics. `wait` reports both, in the order in which they were started.
fn run<G: Group>(group: &mut G) -> Result<(), GroupError> {
    group.go(|| Ok(()));
    group.go_with(TaskOptions::new().name("load"), || {
        let _settings = settings("/no/such/file")?;
        Ok(())
    });
    group.go_with(TaskOptions::new().name("divide"), || {
        divide(1, 0);
        Ok(())
    });
    group.go(|| Ok(()));
    group.wait()
}

/// An error with a cause: both are shown.
fn settings(path: &'static str) -> Result<String, NoSettings> {
    fs::read_to_string(path).map_err(|cause| NoSettings { path, cause })
}

#[derive(Debug)]
struct NoSettings {
    path: &'static str,
    cause: io::Error,
}

impl fmt::Display for NoSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the settings in {}", self.path)
    }
}

impl std::error::Error for NoSettings {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn divide(a: u32, b: u32) -> u32 {
    a.checked_div(b).expect("the divisor is not zero")
}

fn show(outcome: Result<(), GroupError>) {
    match outcome {
        Ok(()) => println!("every task ended well"),
        Err(error) => println!("{error}"),
    }
}

fn main() -> ExitCode {
    let backend = std::env::args().nth(1).unwrap_or_default();
    match &*backend {
        "goro" => show(run(&mut multi_goro::Group::new())),
        "locked" => show(run(&mut multi_goro::Group::locked())),
        "pthread" => show(run(&mut multi_pthread::Group::new())),
        "proc" => {
            // SAFETY: this program has one thread, so nobody else holds a lock that a task could take.
            let mut group = unsafe { multi_proc::Group::new() };
            show(run(&mut group));
            // The group can be used again. A process may even be killed, and only it ends.
            group.go_with(TaskOptions::new().name("killed"), || std::process::abort());
            show(group.wait());
        }
        _ => {
            println!("usage: failures goro|locked|pthread|proc");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
