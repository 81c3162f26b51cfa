//! A sum over a borrowed slice, in parts, without a copy and without an `Arc`.
//!
//!     cargo run --release -p multi-goro --example scoped_sum

#![expect(clippy::print_stdout, reason = "prints its result")]

use multi_goro::{Result, TaskError, scope};

fn main() -> Result {
    let numbers: Vec<u64> = (1..=1_000_000).collect();
    let sum = scope(|s| {
        let parts: Vec<_> = numbers
            .chunks(100_000)
            .map(|part| s.spawn(|| Ok(part.iter().sum::<u64>())))
            .collect();
        parts
            .into_iter()
            .map(|part| part.join())
            .sum::<Result<u64, TaskError>>()
    })??;
    println!("{sum}");
    assert_eq!(sum, 500_000_500_000);
    Ok(())
}
