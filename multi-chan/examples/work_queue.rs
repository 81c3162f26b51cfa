//! A work queue whose workers are killed at random: every job is done, and counted once.
//!
//! `cargo run --release -p multi-chan --example work_queue -- 2000`

#![expect(
    unsafe_code,
    reason = "forks and kills by hand, to need no other crate"
)]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use multi_chan::{MessageReceiver, MessageSender, messages};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env;
use std::io;
use std::time::Duration;

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    id: u32,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Done {
    id: u32,
    vowels: usize,
}

const WORKERS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = env::args()
        .nth(1)
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(300);
    let (jobs, queue) = messages::<Job>(16)?;
    let (done, results) = messages::<Done>(16)?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(hire(&queue, &done)?);
    }
    // What is not done yet. A job that was in the hands of a worker when that was killed is gone from the queue: the
    // list knows of it, and it is sent again.
    let mut open: BTreeMap<u32, Job> = (0..count).map(|id| (id, job(id))).collect();
    let mut waiting: Vec<u32> = open.keys().copied().rev().collect();
    let (mut kills, mut twice, mut vowels) = (0, 0, 0);
    while !open.is_empty() {
        while let Some(&id) = waiting.last() {
            if open.get(&id).is_some_and(|job| jobs.try_send(job).is_err()) {
                break;
            }
            waiting.pop();
        }
        match results.recv_timeout(Duration::from_millis(20)) {
            // A worker may be killed after it has answered, or be slow and its job sent again.
            Ok(answer) if open.remove(&answer.id).is_none() => twice += 1,
            Ok(answer) => vowels += answer.vowels,
            // Nobody has anything any more: what is open now died with its worker.
            Err(error) if error.is_timeout() && queue.is_empty() => {
                waiting = open.keys().copied().rev().collect();
            }
            Err(error) if error.is_timeout() => {}
            Err(error) => return Err(error.into()),
        }
        if (open.len() as u32).is_multiple_of(7) && kills < count / 10 {
            let victim = kills as usize % WORKERS;
            kill(workers[victim])?;
            workers[victim] = hire(&queue, &done)?;
            kills += 1;
        }
    }
    jobs.close();
    println!("{count} jobs done, {kills} workers killed, {twice} answers came twice");
    println!(
        "{} jobs and {} answers died in the hands of a worker or on their way",
        queue.dropped(),
        results.dropped()
    );
    let expected: usize = (0..count).map(|id| work(&job(id))).sum();
    // SAFETY: a null status is allowed; the children are ours.
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
    println!("{vowels} vowels, {expected} expected");
    if vowels == expected {
        Ok(())
    } else {
        Err("a job was lost, or counted twice".into())
    }
}

fn job(id: u32) -> Job {
    let text = format!("job {id} of the queue; ").repeat(id as usize % 300);
    Job { id, text }
}

fn work(job: &Job) -> usize {
    job.text
        .chars()
        .filter(|char| "aeiou".contains(*char))
        .count()
}

/// Forks a worker that takes jobs until the queue is closed, or until it is killed.
fn hire(queue: &MessageReceiver<Job>, done: &MessageSender<Done>) -> io::Result<i32> {
    // SAFETY: this program has one thread, so the child inherits no lock that is held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            for job in queue.iter() {
                let vowels = work(&job);
                if done.send(&Done { id: job.id, vowels }).is_err() {
                    break;
                }
            }
            // SAFETY: takes a number; the child leaves without the parent's destructors.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid),
    }
}

/// Kills a worker in the middle of whatever it is doing.
fn kill(pid: i32) -> io::Result<()> {
    // SAFETY: takes numbers; the child is ours and not reaped yet, so the pid is still its own.
    if unsafe { libc::kill(pid, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a null status is allowed.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    Ok(())
}
