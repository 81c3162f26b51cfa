//! The contract of multi: a [`Group`] of concurrent tasks, started together and waited for together.
//!
//! One function runs on every backend: as green tasks (multi-goro), as POSIX threads (multi-pthread), as forked processes
//! (multi-proc). This crate holds what they have in common and nothing of what sets them apart: it knows no backend, makes no
//! system call of its own and has no unsafe code.
//!
//! ```
//! use multi_core::{Group, Result};
//!
//! /// Starts two tasks on whatever backend it is given; both failures come home.
//! fn check_all(group: &mut impl Group) -> Result {
//!     group.go(|| Ok(()));
//!     group.go(|| Err("the disk is full")?);
//!     group.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | starting tasks and waiting for them | [`Group`], [`Tasks`], [`Spawner`], [`DynGroup`] |
//! | values back from tasks | [`Spawn`], [`Handle`] |
//! | functions with arguments, where closures cannot go | [`SpawnFn`] |
//! | limits, deadlines, names | [`GroupOptions`], [`TaskOptions`] |
//! | asking tasks to stop | [`CancelToken`] |
//! | what went wrong | [`GroupError`], [`TaskError`], [`TaskErrorKind`] |
//! | writing a backend | [`ledger`], [`Event`], [`mod@panic`], and the rules in `conformance` (feature `conformance`) |
//!
//! # Trade-offs
//!
//! - A task is `FnOnce() -> Result<(), BoxError>` and nothing more general: `?` works on any error and `Ok(())` infers. A
//!   generic error type breaks inference at every `?`; [`Group::go_result`] takes a typed result where one is at hand.
//! - Nothing here can stop a task that does not look at its [`CancelToken`]; only a backend whose tasks are processes can.
//! - The bookkeeping of a group is one mutex, taken once a task, by who starts it; the end of a task that has nothing to report is one
//!   exchange on a line that few threads share. A group with a limit takes the mutex at the end too. It is never held while a task
//!   runs. The part of the books that ends are counted on is kept for later groups rather than freed: half a page and 16 bytes for each
//!   task that was ever unfinished at one time.

#![forbid(unsafe_code)]

// What the faces say of methods links to this crate by its name.
extern crate self as multi_core;

mod cancel;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dyn_group;
mod error;
mod event;
mod face;
mod group;
mod handle;
pub mod ledger;
mod lock;
mod options;
pub mod panic;
mod remote;
mod task;
mod usage;

pub use cancel::{CancelToken, CancelWord, Cancelled};
pub use dyn_group::{BoxedTask, DynGroup, DynSpawner};
pub use error::{
    GroupError, StillRunning, TaskError, TaskErrorKind, TryGoError, TryGoReason, WaitTimeoutError,
};
pub use event::{Event, ThreadEvent};
pub use group::{Group, Progress, Spawn, SpawnFn, Spawner, Tasks};
pub use handle::{Handle, JoinTimeoutError, Promise};
pub use options::{BuildError, GroupOptions, TaskOptions};
pub use panic::PanicLocation;
pub use remote::RemoteError;
pub use task::{Lineage, TaskId};
pub use usage::Usage;

/// What a backend hands on to its users, so that they need not name this crate: `pub use multi_core::prelude::*`. A backend's own
/// `Group` and `Spawner` then stand before the traits of those names.
pub mod prelude {
    pub use crate::{
        BoxError, BuildError, CancelToken, Cancelled, DynGroup, Group, GroupError, GroupOptions,
        Handle, JoinTimeoutError, PanicLocation, Progress, RemoteError, Result, Spawn, SpawnFn,
        Spawner, StillRunning, TaskError, TaskErrorKind, TaskId, TaskOptions, Tasks, TryGoError,
        TryGoReason, Usage, WaitTimeoutError,
    };
}

/// Any error a task can end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a task returns: `Ok(())`, or whatever error `?` found.
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;
