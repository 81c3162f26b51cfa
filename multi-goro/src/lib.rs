//! Groups of green tasks on an M:N runtime: goroutines for Rust.
#[cfg(not(loom))]
mod arch;
#[cfg(not(loom))]
mod blocking;
#[cfg(not(loom))]
pub mod chan;
#[cfg(not(loom))]
mod group;
mod proto;
#[cfg(not(loom))]
mod runtime;
#[cfg(not(loom))]
mod sched;
#[cfg(not(loom))]
mod stack;
pub mod sync;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod time;

#[cfg(not(loom))]
pub use crate::{
    blocking::blocking,
    chan::{Receiver, Sender, chan},
    group::{Builder, Group, Scope, ScopedHandle, Spawner, cancel_token, scope},
    runtime::{Runtime, RuntimeBuilder, num_tasks},
    time::{sleep, sleep_until},
};
#[cfg(not(loom))]
pub use multi_core::{
    BoxError, BuildError, CancelToken, Cancelled, GroupError, GroupOptions, Handle, Progress,
    Result, StillRunning, TaskError, TaskErrorKind, TaskOptions, TryGoError, TryGoReason,
    WaitTimeoutError,
};

/// Lets other tasks of this worker run before the caller goes on. A plain thread yields to the system.
///
/// ```
/// multi_goro::yield_now();
/// ```
#[cfg(not(loom))]
pub fn yield_now() {
    sched::yield_now();
}
