//! The backend chosen while the program runs: an argument picks it, the rest of the program sees a `dyn DynGroup`.
//!
//! ```text
//! cargo run -p multi-bench --example dyn_backend -- goro|locked|pthread|proc 1000
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_core::{DynGroup, Group, Result};

/// Compiled once, for every backend: the sum of the squares below `n`, four parts of it at once.
fn check_squares(group: &mut dyn DynGroup, n: u64) -> Result {
    const PARTS: u64 = 4;
    for part in 0..PARTS {
        group.go(move || {
            let slow: u64 = (part..n).step_by(PARTS as usize).map(square).sum();
            let fast: u64 = (part..n).step_by(PARTS as usize).map(|i| i * i).sum();
            if slow == fast {
                Ok(())
            } else {
                Err(format!("part {part}: {slow} is not {fast}").into())
            }
        });
    }
    group.wait()?;
    Ok(())
}

/// The square of `i` as the sum of the first `i` odd numbers.
fn square(i: u64) -> u64 {
    (0..i).map(|k| 2 * k + 1).sum()
}

fn main() -> Result {
    let mut args = std::env::args().skip(1);
    let backend = args.next().unwrap_or_else(|| "goro".to_owned());
    let n = args.next().map_or(Ok(1_000), |text| text.parse())?;
    let mut group: Box<dyn DynGroup> = match &*backend {
        "goro" => Box::new(multi_goro::Group::new()),
        "locked" => Box::new(multi_goro::Group::locked()),
        "pthread" => Box::new(multi_pthread::Group::new()),
        // SAFETY: this program has one thread, so nobody else holds a lock that a task could take.
        "proc" => Box::new(unsafe { multi_proc::Group::new() }),
        other => {
            return Err(
                format!("no backend {other:?}; there are goro, locked, pthread and proc").into(),
            );
        }
    };
    check_squares(&mut *group, n)?;
    println!("{backend}: the squares below {n} are right");
    Ok(())
}
