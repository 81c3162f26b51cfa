//! So many tasks that wait, all on one channel or each on one of its own: what one of them costs in memory, in being made, and
//! in being woken and ending.
//!
//!     cargo run --release -p multi-goro --example million -- 1000000
//!     cargo run --release -p multi-goro --example million -- 1000000 --stackful
//!     cargo run --release -p multi-goro --example million -- 1000000 --own-channels

#![expect(clippy::disallowed_types, reason = "a program of a user's")]
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use multi_goro::{Group, Receiver, Result, Runtime, chan, checkpoint, yield_now};

/// Tasks that have run, and wait.
static BEGUN: AtomicU32 = AtomicU32::new(0);

fn main() -> Result {
    let (mut count, mut is_stackful, mut has_own) = (10_000u32, false, false);
    for arg in std::env::args().skip(1) {
        match &*arg {
            "--stackful" => is_stackful = true,
            "--own-channels" => has_own = true,
            number => count = number.parse()?,
        }
    }
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(|| run(runtime.group(), count, is_stackful, has_own))
}

fn run(mut group: Group, count: u32, is_stackful: bool, has_own: bool) -> Result {
    let memory = resident_bytes()?;
    let start = Instant::now();
    let (shared, all) = chan::<u32>(0);
    let mut own = Vec::new();
    for _ in 0..count {
        let rx = if has_own {
            let (tx, rx) = chan(0);
            own.push(tx);
            rx
        } else {
            all.clone()
        };
        go(&group, rx, is_stackful);
        // Making a million takes a while, and those that are made could begin.
        checkpoint();
    }
    while BEGUN.load(Relaxed) < count {
        yield_now();
    }
    let created = start.elapsed();
    let memory = resident_bytes()?.saturating_sub(memory);

    let start = Instant::now();
    for n in 0..count as usize {
        own.get(n).unwrap_or(&shared).send(1)?;
    }
    group.wait()?;
    let woken = start.elapsed();

    let each = |total: Duration| total.as_nanos() / u128::from(count.max(1));
    println!("{count} tasks");
    println!("created and waiting: {} ns each", each(created));
    println!(
        "memory:              {} bytes each",
        memory / u64::from(count.max(1))
    );
    println!("woken and ended:     {} ns each", each(woken));
    Ok(())
}

fn go(group: &Group, rx: Receiver<u32>, is_stackful: bool) {
    let check = |value| assert_eq!(value, 1);
    if is_stackful {
        group.go(move || {
            BEGUN.fetch_add(1, Relaxed);
            check(rx.recv()?);
            Ok(())
        });
    } else {
        group.go_async(async move {
            BEGUN.fetch_add(1, Relaxed);
            check(rx.recv_async().await?);
            Ok(())
        });
    }
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
