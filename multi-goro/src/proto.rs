//! Every synchronisation algorithm of the runtime, with no switch and no system call in it.
//!
//! They speak to memory through [`crate::sync`] only, so that the model checker runs what ships:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p multi-goro --release --lib
//! ```
//!
//! Under `cfg(loom)` the crate is these files alone. Each has its models at its end, with their bounds.

pub(crate) mod channel;
pub(crate) mod idle;
pub(crate) mod inbox;
pub(crate) mod ring;
pub(crate) mod task_word;
pub(crate) mod wait_queue;
