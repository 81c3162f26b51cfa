//! A pool that survives `kill -9`: somebody kills its workers all the time, and every job is done all the same.
//!
//! `cargo run -p multi-proc --example unkillable`. It kills by itself; from another terminal, `kill -9` any of the workers it names.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(unsafe_code, reason = "a pool that forks is made by an unsafe method")]

use multi_proc::{Pool, Result};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Counts primes below `n`: some milliseconds' work.
fn primes_below(n: u32) -> Result<u32> {
    let is_prime = |n: &u32| {
        (2..*n)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    Ok((2..n).filter(is_prime).count() as u32)
}

fn main() -> Result {
    let builder = Pool::builder().name("primes").workers(3).attempts(100);
    // SAFETY: this program has one thread, and the one below takes no lock that a job takes.
    let pool = unsafe { builder.fork() }?;
    println!("workers: {:?}", pool.worker_pids());
    let total = thread::scope(|scope| -> Result<u32> {
        let killer = scope.spawn(|| -> Result {
            for _ in 0..20 {
                let Some(pid) = pool.worker_pids().first().copied() else {
                    continue;
                };
                Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .output()?;
                while pool.worker_pids().contains(&pid) && pool.status().finished < 600 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(())
        });
        let mut total = 0;
        for (done, (index, primes)) in pool
            .map_unordered(primes_below, (0..600).map(|n| n * 20))
            .enumerate()
        {
            total += primes?;
            if done % 100 == 99 {
                let status = pool.status();
                println!(
                    "{} of 600 done, the last one {index}; {} workers killed, {} jobs begun again, workers now {:?}",
                    done + 1,
                    status.deaths,
                    status.retried,
                    pool.worker_pids()
                );
            }
        }
        killer.join().map_err(|_| "the killer panicked")??;
        Ok(total)
    })?;
    let alone: u32 = (0..600)
        .map(|n| primes_below(n * 20))
        .sum::<Result<u32>>()?;
    println!(
        "{total} primes counted, {alone} without a pool; {} workers killed",
        pool.status().deaths
    );
    assert_eq!(total, alone);
    Ok(())
}
