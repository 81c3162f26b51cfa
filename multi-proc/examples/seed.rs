//! The smallest program with a channel: two processes each send 42 over a buffered channel of 2.
//!
//! `cargo run -p multi-proc --example seed`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Result};

fn main() -> Result {
    let (tx, rx) = multi_chan::channel::<u32>(2)?;
    // SAFETY: this program has one thread, and a multi_chan channel is made to be shared by processes.
    let mut group = unsafe { Group::new() };
    for _ in 0..2 {
        let tx = tx.clone();
        group.go(move || Ok(tx.send(42)?));
    }
    group.wait()?;
    drop(tx);
    for value in &rx {
        println!("{value}");
    }
    Ok(())
}
