//! Random work for as long as one likes: a second each, or `MULTI_STRESS_SECONDS`, one file per area. The seed is printed, and can be
//! given back as `MULTI_STRESS_SEED`. `cargo xtask stress goro` runs all of them side by side.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]
#![expect(clippy::print_stdout, reason = "the seed has to be seen")]

mod common;
#[path = "stress/harness.rs"]
mod harness;

#[path = "stress/blocking.rs"]
mod blocking;
#[path = "stress/cancel.rs"]
mod cancel;
#[path = "stress/channels.rs"]
mod channels;
#[path = "stress/forks.rs"]
mod forks;
#[path = "stress/locked.rs"]
mod locked;
#[path = "stress/mix.rs"]
mod mix;
#[path = "stress/spawning.rs"]
mod spawning;
#[path = "stress/sync.rs"]
mod sync;
#[path = "stress/timers.rs"]
mod timers;
