//! Exercise 9.4 of *The Go Programming Language*: how many tasks, joined by channels, fit in memory, and how long a value takes
//! through all of them.
//!
//!     cargo run --release -p multi-goro --example pipeline -- 100000

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multi_goro::sync::WaitGroup;
use multi_goro::{Group, Receiver, Result, Sender, chan};

/// Values sent through, one after the other.
const VALUES: u32 = 3;

fn main() -> Result {
    let stages = match std::env::args().nth(1) {
        Some(text) => text.parse::<NonZero<u32>>()?.get(),
        None => 1_000,
    };
    let memory = resident_bytes()?;
    let start = Instant::now();
    let mut group = Group::new();
    let (tx, rx) = build(&group, stages);
    let created = start.elapsed();
    let memory = resident_bytes()?.saturating_sub(memory);

    let mut transits = Vec::new();
    for value in 0..VALUES {
        let start = Instant::now();
        tx.send(value)?;
        assert_eq!(rx.recv()?, value);
        transits.push(start.elapsed());
    }
    transits.sort();
    let transit = transits[transits.len() / 2];

    // The first stage hears of it, and so one after the other.
    drop(tx);
    assert!(rx.recv().is_err());
    group.wait()?;

    let each = |total: Duration| total.as_nanos() / u128::from(stages);
    println!("{stages} stages");
    println!("created and waiting: {} ns per stage", each(created));
    println!("transit of a value:  {} ns per stage", each(transit));
    println!(
        "memory:              {} bytes per stage",
        memory / u64::from(stages)
    );
    Ok(())
}

/// A chain of stages, all of them waiting for their first value, and its two ends.
fn build(group: &Group, stages: u32) -> (Sender<u32>, Receiver<u32>) {
    let waiting = Arc::new(WaitGroup::new());
    let (first, mut last) = chan(0);
    for _ in 0..stages {
        let (tx, next) = chan(0);
        let rx = std::mem::replace(&mut last, next);
        let here = Arc::clone(&waiting);
        waiting.add(1);
        group.go(move || {
            here.done();
            drop(here);
            for value in rx {
                tx.send(value)?;
            }
            Ok(())
        });
    }
    waiting.wait();
    (first, last)
}

/// The memory that this process occupies now.
fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(kib
        .ok_or("no VmRSS in /proc/self/status")?
        .trim()
        .parse::<u64>()?
        * 1024)
}
