//! Groups of tasks as POSIX threads, one per task.
//!
//! ```
//! let mut group = multi_pthread::Group::builder().name("checks").limit(4).build()?;
//! for n in 0..8 {
//!     group.go(move || {
//!         if n == 5 {
//!             Err("five is out of order")?;
//!         }
//!         Ok(())
//!     });
//! }
//! let error = group.wait().unwrap_err();
//! assert!(error.to_string().contains("five is out of order"));
//! # Ok::<(), multi_core::BoxError>(())
//! ```
//!
//! The smallest backend, written to be read first: `group.rs` is the contract over [`multi_core::ledger::Ledger`], `thread.rs`
//! one thread, `sys.rs` the calls, `scope.rs` threads that borrow.
//!
//! # Trade-offs
//!
//! - A thread costs tens of microseconds to start and a stack of its own; in return the kernel runs it whatever it does: it may
//!   block, spin, or call into a library that knows nothing of this one.
//! - A thread cannot be stopped from outside. Cancelling asks; see [`CancelToken`].
//! - `pthread_create` is called directly, so a thread's panic message has no thread name and a stack overflow is reported by the
//!   system alone (SIGSEGV). The name given to a task is the thread's name for the system (`ps -L`, `gdb`), cut to 15 bytes.
//! - For threads that borrow and nothing else, `std::thread::scope` is as good; [`scope`] adds errors that come home.
//!
//! # Fork
//!
//! Threads do not survive into a forked child. A group must not be used there; make a new one.

mod builder;
mod group;
mod scope;
mod sys;
mod thread;

pub use builder::{Builder, Scheduling};
pub use group::{Group, Spawner};
pub use multi_core::prelude::*;
pub use scope::{Scope, ScopedHandle, scope};
