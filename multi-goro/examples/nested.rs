//! Groups in groups: each task waits for tasks of its own, parked, and its worker runs them meanwhile.
//!
//!     cargo run -p multi-goro --example nested

#![expect(clippy::print_stdout, reason = "prints its result")]

use multi_goro::{Group, Result, TaskError, num_tasks};

fn main() -> Result {
    let total = count(3)?;
    println!("{total} leaves; {} tasks left", num_tasks());
    Ok(())
}

/// A tree with four branches at each of `depth` levels, each branch a task.
fn count(depth: u32) -> Result<u64> {
    if depth == 0 {
        return Ok(1);
    }
    let mut group = Group::builder().name(format!("level {depth}")).build()?;
    let branches: Vec<_> = (0..4)
        .map(|_| group.spawn(move || count(depth - 1)))
        .collect();
    let sum = branches
        .into_iter()
        .map(|branch| branch.join())
        .sum::<Result<u64, TaskError>>()?;
    group.wait()?;
    Ok(sum)
}
