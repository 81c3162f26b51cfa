//! A limit on how many run at once, and a first failure that stops the rest.
//!
//!     cargo run -p multi-goro --example limits

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::Duration;

use multi_goro::{Group, Result, sleep};

fn main() -> Result {
    let mut group = Group::builder()
        .name("downloads")
        .limit(3)
        .fail_fast(true)
        .build()?;
    for n in 0..20 {
        let token = group.cancel_token();
        // Waits here while three are running; refused once one has failed.
        group.go(move || {
            token.check()?;
            sleep(Duration::from_millis(10));
            if n == 7 {
                Err("the seventh is missing")?;
            }
            println!("got {n}");
            Ok(())
        });
    }
    match group.wait() {
        Ok(()) => println!("all there"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
