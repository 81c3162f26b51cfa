//! At most three tasks at a time; the first failure stops the rest.
//!
//! `cargo run -p multi-pthread --example limit_and_fail_fast`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use multi_pthread::{Group, Result, TaskOptions};
use std::time::Duration;

fn main() -> Result {
    let mut group = Group::builder()
        .name("downloads")
        .limit(3)
        .fail_fast(true)
        .build()?;
    for page in 1..=12 {
        let token = group.cancel_token();
        group.go_with(TaskOptions::new().name(format!("page {page}")), move || {
            // A task that sleeps on the token wakes as soon as somebody fails.
            if token.wait_timeout(Duration::from_millis(50)) {
                token.check()?;
            }
            if page == 5 {
                Err("the server said 503")?;
            }
            println!("page {page} is here");
            Ok(())
        });
    }
    match group.wait() {
        Ok(()) => println!("all pages are here"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
