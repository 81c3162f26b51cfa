//! Groups of tasks as forked processes, one per task.

mod cancel;
mod child;
mod group;
mod hook;
mod identity;
mod reap;
mod report;
mod slot;
mod start;
mod stuck;
mod sys;
mod usage;

pub use cancel::shared_token;
pub use group::{Builder, Group, Spawner};
pub use identity::{child_seed, process_serial};
pub use usage::Usage;

pub use multi_core::{
    BoxError, BuildError, CancelToken, Cancelled, GroupError, Handle, JoinTimeoutError, Progress,
    RemoteError, Result, StillRunning, TaskError, TaskErrorKind, TaskId, TaskOptions, TryGoError,
    TryGoReason, WaitTimeoutError,
};
