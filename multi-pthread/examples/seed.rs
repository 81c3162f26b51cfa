//! The smallest program with a channel: two threads each send 42 over a buffered channel of 2.
//!
//! `cargo run -p multi-pthread --example seed`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use multi_pthread::{Group, Result};
use std::sync::mpsc::sync_channel;

fn main() -> Result {
    let (tx, rx) = sync_channel(2);
    let mut group = Group::new();
    for _ in 0..2 {
        let tx = tx.clone();
        group.go(move || Ok(tx.send(42)?));
    }
    group.wait()?;
    drop(tx);
    for value in rx {
        println!("{value}");
    }
    Ok(())
}
