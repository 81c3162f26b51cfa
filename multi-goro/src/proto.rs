//! Every synchronisation algorithm of the runtime, with no switch and no system call in it.
//!
//! They speak to memory through [`crate::sync`] only, so that the model checker runs what ships:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p multi-goro --release --lib
//! ```
//!
//! Under `cfg(loom)` the crate is these files alone. Each has its models at its end, with their bounds. The models were tried on
//! weakened copies: each fence of `idle`, `watch` and `shown` removed, the Release of the parking word, the inbox, the ring's tail and the deque's bottom
//! made Relaxed, the fences of the deque and the gate removed, the claim's compare-and-swap made a load and a store, each fence
//! and the Release of the home lock, each ordering of the poll word, and a wake of it that only looks where the state would
//! stay, is found. What loom cannot see is a load that moves behind a later store: the Release with
//! which a thief moves the ring's head or the deque's top is there for that, and is argued where it stands.
//!
//! With `--cfg shuttle` beside it, `many.rs` runs them with four to eight workers in random orders, of which loom could not try all.

pub(crate) mod channel;
pub(crate) mod claim;
pub(crate) mod deque;
pub(crate) mod gate;
pub(crate) mod home_lock;
pub(crate) mod idle;
pub(crate) mod inbox;
#[cfg(all(test, shuttle))]
mod many;
pub(crate) mod offer_word;
pub(crate) mod poll_word;
pub(crate) mod ring;
pub(crate) mod shown;
pub(crate) mod task_word;
pub(crate) mod wait_queue;
pub(crate) mod watch;
