//! Adds up a slice in as many threads as there are CPUs, without copying it.
//!
//! `cargo run -p multi-pthread --example scoped_sum`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use multi_pthread::{Result, TaskError, scope};

fn main() -> Result {
    let numbers: Vec<u64> = (1..=10_000_000).collect();
    let threads = std::thread::available_parallelism()?.get();
    let sum = scope(|s| {
        let parts = numbers.chunks(numbers.len().div_ceil(threads));
        let handles: Vec<_> = parts
            .map(|part| s.spawn(|| Ok(part.iter().sum::<u64>())))
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join())
            .sum::<Result<u64, TaskError>>()
    })??;
    println!("{threads} threads: {sum}");
    Ok(())
}
