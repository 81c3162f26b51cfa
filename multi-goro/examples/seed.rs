//! Two tasks, one channel: each sends 42. First as green tasks, then each on an OS thread of its own.
//!
//!     cargo run -p multi-goro --example seed

#![expect(clippy::print_stdout, reason = "prints its result")]

use multi_goro::{Group, Result, chan};

fn main() -> Result {
    println!("green tasks: {:?}", both(Group::new())?);
    println!("locked tasks: {:?}", both(Group::locked())?);
    Ok(())
}

fn both(mut group: Group) -> Result<Vec<i32>> {
    let (tx, rx) = chan(2);
    for _ in 0..2 {
        let tx = tx.clone();
        group.go(move || Ok(tx.send(42)?));
    }
    group.wait()?;
    // The channel ends with its last sender.
    drop(tx);
    Ok(rx.iter().collect())
}
