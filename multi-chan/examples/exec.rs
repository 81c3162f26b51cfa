//! A program executes another (here: itself) and passes it both ends of two channels through inherited descriptors.
//!
//! `cargo run -p multi-chan --example exec`

#![expect(unsafe_code, reason = "descriptors are told by number")]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use multi_chan::{Builder, Descriptors, Receiver, spsc};
use std::env;
use std::error::Error;
use std::num::ParseIntError;
use std::os::fd::{AsRawFd, RawFd};
use std::process::{self, Command};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [jobs, results] => {
            // SAFETY: `ask` told the numbers of descriptors that it left open for this program, and nothing else here has them.
            let jobs = unsafe { Descriptors::inherited(parse(jobs)?)? };
            // SAFETY: likewise.
            let results = unsafe { Descriptors::inherited(parse(results)?)? };
            square(jobs, results)
        }
        _ => ask(),
    }
}

/// The program that executes the other one.
fn ask() -> Result<(), Box<dyn Error>> {
    let options = Builder::new().capacity(4).in_memfd();
    let (jobs, job_receiver) = options.build::<u64>()?;
    let (result_sender, mut results) = options.build_spsc::<u64>()?;
    let (job_fds, result_fds) = (job_receiver.descriptors()?, result_sender.descriptors()?);
    job_fds.keep_on_exec()?;
    result_fds.keep_on_exec()?;
    let mut child = Command::new(env::current_exe()?)
        .args([numbers(&job_fds), numbers(&result_fds)])
        .spawn()?;
    // No other program that this one executes shall have them.
    drop((job_fds, result_fds));
    for job in 1..=5 {
        jobs.send(job)?;
    }
    jobs.close();
    for _ in 1..=5 {
        println!("{} received {}", process::id(), results.recv()?);
    }
    // Held until the other program had taken its places; without them a channel could have looked deserted.
    drop((job_receiver, result_sender));
    println!("the other program left: {}", results.recv().unwrap_err());
    child.wait()?;
    Ok(())
}

/// The program that is executed.
fn square(jobs: Descriptors, results: Descriptors) -> Result<(), Box<dyn Error>> {
    let jobs = Receiver::<u64>::attach(jobs)?;
    let mut results = spsc::Sender::<u64>::attach(results)?;
    for job in &jobs {
        results.send(job * job)?;
    }
    Ok(())
}

fn numbers(descriptors: &Descriptors) -> String {
    let numbers = descriptors.as_fds().into_iter();
    let numbers: Vec<String> = numbers.map(|fd| fd.as_raw_fd().to_string()).collect();
    numbers.join(",")
}

fn parse(numbers: &str) -> Result<Vec<RawFd>, ParseIntError> {
    numbers.split(',').map(str::parse).collect()
}
