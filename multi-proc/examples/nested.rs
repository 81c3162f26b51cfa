//! Groups in tasks of groups: a tree of processes that adds up numbers, each branch in a process of its own.
//!
//! `cargo run -p multi-proc --example nested`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Result};

/// The sum of `from..to`, halved between two processes until a part is small.
fn sum(from: u64, to: u64) -> Result<u64> {
    if to - from <= 250_000 {
        return Ok((from..to).sum());
    }
    let middle = from.midpoint(to);
    // SAFETY: this program, and so each of its processes, has one thread.
    let mut group = unsafe { Group::new() };
    let parts = [(from, middle), (middle, to)].map(|(from, to)| group.spawn(move || sum(from, to)));
    let mut total = 0;
    for part in parts {
        total += part.join()?;
    }
    group.wait()?;
    Ok(total)
}

fn main() -> Result {
    println!("{}", sum(0, 1_000_000)?);
    Ok(())
}
