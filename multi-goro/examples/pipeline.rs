//! Exercise 9.4 of *The Go Programming Language*: how many tasks, joined by channels, fit in memory, and how long a value takes
//! through all of them.
//!
//!     cargo run --release -p multi-goro --example pipeline -- 100000
//!     cargo run --release -p multi-goro --example pipeline -- 1000000 --stackless
//!     cargo run --release -p multi-goro --example pipeline -- 1000000 --go-when
//!
//! A stage is a task with a stack; or a future, which has none while it waits; or a task for one value, which waits for that without
//! a stack and starts its own successor.

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::num::NonZero;
use std::time::{Duration, Instant};

use multi_goro::{Group, Receiver, Result, Runtime, Sender, Spawner, chan, checkpoint};

/// Values sent through, one after the other, once the first is through.
const VALUES: u32 = 5;

#[derive(Clone, Copy)]
enum Kind {
    Stackful,
    Stackless,
    GoWhen,
}

fn main() -> Result {
    let mut stages = 1_000;
    let mut kind = Kind::Stackful;
    for arg in std::env::args().skip(1) {
        match &*arg {
            "--stackless" => kind = Kind::Stackless,
            "--go-when" => kind = Kind::GoWhen,
            number => stages = number.parse::<NonZero<u32>>()?.get(),
        }
    }
    // A value is in one place at a time: there is nothing to do for a second worker.
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(|| run(runtime.group(), stages, kind))
}

fn run(mut group: Group, stages: u32, kind: Kind) -> Result {
    let memory = resident_bytes()?;
    let start = Instant::now();
    let (tx, rx) = build(&group, stages, kind);
    // When this one is through every stage has begun.
    pass(&tx, &rx, 0)?;
    let created = start.elapsed();
    let memory = resident_bytes()?.saturating_sub(memory);

    let mut transits = Vec::new();
    for value in 1..=VALUES {
        let start = Instant::now();
        pass(&tx, &rx, value)?;
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
    println!("created, first value: {} ns per stage", each(created));
    println!("transit of a value:   {} ns per stage", each(transit));
    println!(
        "memory:               {} bytes per stage",
        memory / u64::from(stages)
    );
    Ok(())
}

fn pass(tx: &Sender<u32>, rx: &Receiver<u32>, value: u32) -> Result {
    tx.send(value)?;
    assert_eq!(rx.recv()?, value);
    Ok(())
}

/// A chain of stages and its two ends.
fn build(group: &Group, stages: u32, kind: Kind) -> (Sender<u32>, Receiver<u32>) {
    let (first, mut last) = chan(0);
    for _ in 0..stages {
        let (tx, next) = chan(0);
        let rx = std::mem::replace(&mut last, next);
        match kind {
            Kind::Stackful => group.go(move || {
                for value in rx {
                    tx.send(value)?;
                }
                Ok(())
            }),
            Kind::Stackless => group.go_async(async move {
                while let Ok(value) = rx.recv_async().await {
                    tx.send_async(value).await?;
                }
                Ok(())
            }),
            Kind::GoWhen => stage(group.spawner(), rx, tx),
        }
        // Making a million takes a while, and those that are made could begin.
        checkpoint();
    }
    (first, last)
}

/// A stage for one value, which starts the stage for the next.
fn stage(spawner: Spawner, rx: Receiver<u32>, tx: Sender<u32>) {
    let next = rx.when_recv();
    spawner.clone().go_when(next, move |value| {
        if let Ok(value) = value {
            tx.send(value)?;
            stage(spawner, rx, tx);
        }
        Ok(())
    });
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
