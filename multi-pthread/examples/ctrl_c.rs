//! Ctrl-C asks the group to stop; its tasks end in order and `wait` says who was cut short.
//!
//! `cargo run -p multi-pthread --example ctrl_c` and press Ctrl-C, or give the seconds after which it interrupts itself.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use multi_pthread::{CancelToken, Group, Result, TaskOptions};
use std::time::Duration;

fn main() -> Result {
    let stop = CancelToken::new();
    let on_signal = stop.clone();
    ctrlc::set_handler(move || on_signal.cancel())?;

    let mut group = Group::builder()
        .name("counters")
        .cancel_token(stop.clone())
        .build()?;
    for n in 1..=3 {
        let token = group.cancel_token();
        group.go_with(TaskOptions::new().name(format!("counter {n}")), move || {
            for step in 1..=10 {
                if token.wait_timeout(Duration::from_millis(200 * n)) {
                    println!("counter {n} stops at {step}");
                    token.check()?;
                }
            }
            println!("counter {n} is done");
            Ok(())
        });
    }
    if let Some(seconds) = std::env::args().nth(1) {
        let after = Duration::try_from_secs_f64(seconds.parse()?)?;
        let _ended_early = group.wait_timeout(after);
        stop.cancel();
    }
    if let Err(error) = group.wait() {
        println!("{error}");
    }
    Ok(())
}
