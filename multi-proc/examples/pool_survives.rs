//! A pool whose workers are killed by `kill -9` while they work: each job is done, and the pool is as large as before.
//!
//! `cargo run -p multi-proc --example pool_survives`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    unsafe_code,
    reason = "a signal to a worker, and a pool whose workers are forked is made by an unsafe method"
)]

use multi_proc::{Pool, Result};

/// Jobs, and after how many results a worker is killed.
const JOBS: u64 = 600;
const KILL_EVERY: usize = 20;

/// The n-th prime number, by trial division.
fn prime(n: u64) -> Result<u64> {
    let is_prime = |n: &u64| {
        (2..)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    Ok((2..)
        .filter(is_prime)
        .nth(usize::try_from(n)?)
        .ok_or("no such prime")?)
}

fn main() -> Result {
    let builder = Pool::builder().workers(3).attempts(100);
    // SAFETY: this program has one thread.
    let pool = unsafe { builder.fork() }?;
    let mut primes = vec![0; usize::try_from(JOBS)?];
    for (done, (index, found)) in pool.map_unordered(prime, 0..JOBS).enumerate() {
        assert_eq!(primes[index], 0, "job {index} has two results");
        primes[index] = found?;
        if done % KILL_EVERY == 0 {
            let pids = pool.worker_pids();
            let victim = i32::try_from(pids[done / KILL_EVERY % pids.len()])?;
            // SAFETY: a signal to a child of ours, which its pool collects no earlier than in its next method.
            unsafe { libc::kill(victim, libc::SIGKILL) };
        }
    }
    let status = pool.status();
    println!("{JOBS} jobs, the last found {}", primes[primes.len() - 1]);
    println!(
        "{} workers were killed, {} jobs begun again",
        status.deaths, status.retried
    );
    println!("{} workers are there", status.workers);
    Ok(pool.shutdown()?)
}
