//! Groups of green tasks on an M:N runtime: goroutines for Rust.
//!
//! A task is an ordinary closure with a stack of its own. When it waits (for a value, for time, for a group) its worker, an OS
//! thread, runs another; there is one worker per processor, and any number of tasks. No function is marked, no `.await` is
//! written, and plain threads use the same channels.
//!
//! ```
//! use multi_goro::{Group, chan};
//!
//! let (tx, rx) = chan(2);
//! let mut group = Group::new();
//! for n in 0..2 {
//!     let tx = tx.clone();
//!     group.go(move || Ok(tx.send(40 + n)?));
//! }
//! drop(tx);
//! assert_eq!(rx.iter().sum::<i32>(), 81);
//! group.wait()?;
//! # Ok::<(), multi_goro::GroupError>(())
//! ```
//!
//! | for | see |
//! | --- | --- |
//! | starting tasks and waiting for them | [`Group`], [`scope`] for tasks that borrow |
//! | a task with an OS thread of its own | [`Group::go_locked`], [`Group::locked`] for a group of them |
//! | tasks on one given OS thread, the main thread included | [`OsThread`], [`ThreadLoop`] |
//! | two halves of a computation, in parallel where a worker is idle | [`join`](fn@join) |
//! | tasks that are futures, without a stack | [`Group::go_async`], [`Group::go_when`] |
//! | values between tasks, and threads | [`chan`](fn@chan) |
//! | waiting for one of several channels, or for a time | [`select!`] |
//! | letting time pass, letting others run | [`sleep`], [`Ticker`], [`yield_now`], [`checkpoint`] |
//! | a time for something made of several waits | [`timeout`] |
//! | locks for tasks | [`sync`] |
//! | calls that block the thread | [`blocking`] |
//! | values that each task has for itself; code during which no other task may run | [`task_local!`], [`no_switch`] |
//! | who runs, who waits and for what | [`diag::dump`] |
//! | workers and stacks | [`Runtime`], the variable `MULTI_WORKERS` |
//!
//! `examples/` has a pipeline of as many tasks as fit in memory (`pipeline`), ping-pong (`ping_pong`), a computation on 1, 2, 4 and
//! 8 workers (`workers_sweep`), producers and consumers with time limits (`producer_consumer`, `select`), and smaller ones.
//!
//! # Safety page: five rules
//!
//! Nothing here is marked `unsafe`, and two of these rules (1 and 5) can break memory all the same: tasks take turns on a thread, and
//! code that is right on a thread of its own may not be right in a task.
//!
//! 1. **Code that saves a thread-local value, sets another, calls you back and then restores it must not switch in the
//!    callback** (the scoped thread-local crates, some libraries' "current context"). Another task would see the wrong value, and
//!    with a pointer in it this can be undefined behaviour in that library. Do not wait, send, receive or yield inside such
//!    a callback; or put it into [`no_switch`], where that blocks the thread instead; or, where the code is your own, use
//!    [`task_local!`] in the place of the thread-local. A thread-local's own address is always right: a task may be stolen by another worker before it first runs,
//!    and stays on its thread from then on.
//! 2. **A lock of `std` held across a switch can deadlock its worker**: the next task that wants it blocks the very thread that
//!    the holder needs. Release it before anything that waits, or use [`sync::Mutex`].
//! 3. **A worker that owns started tasks never exits**, and a task is never destroyed while it waits: a task that waits for ever
//!    keeps its stack and what is on it. Close channels, cancel groups.
//! 4. **No switch while a panic unwinds.** The thread's panic count belongs to the panicking task; so a destructor that waits
//!    while its task panics blocks the thread, and the worker's other tasks with it, until the wait ends. If it waits for a task of
//!    the same worker (a group dropped by a panic in a task does), that is never.
//! 5. **No switch inside the initialiser of a `thread_local!` that has a destructor, or of a `LazyLock`, `OnceLock` or `Once` of `std`.**
//!    Another task of the worker that comes to the same `thread_local!` meanwhile initialises it, and its value is dropped under
//!    its eyes when the first initialiser ends: undefined behaviour, in code without a line of `unsafe`. The others block the worker.
//!
//! Also: the floating-point control state (rounding, exceptions) is the worker's, not the task's. Change it back before anything
//! that waits.
//!
//! A task cannot take along what may not change threads:
//!
//! ```compile_fail,E0277
//! let local = std::rc::Rc::new(1);
//! let mut group = multi_goro::Group::new();
//! group.go(move || {
//!     println!("{local}");
//!     Ok(())
//! });
//! ```
//!
//! nor send it:
//!
//! ```compile_fail,E0277
//! let (tx, rx) = multi_goro::chan(1);
//! let mut group = multi_goro::Group::new();
//! group.go(move || Ok(drop(tx.send(std::rc::Rc::new(1)))));
//! ```
//!
//! # Trade-offs
//!
//! - Nothing interrupts a task. One that computes or blocks for more than 10 ms keeps its worker: tasks that have not started begin on
//!   a spare worker, and it is named on standard error; those of its worker that have started, and their timers, must wait; those without a stack need not. Call
//!   [`checkpoint`] now and then, or use [`Group::locked`], where the kernel shares the processors.
//! - A task that has run stays on its worker, so a bad spread of long tasks is not mended later. In return thread-locals, and
//!   everything else that is tied to a thread, work in tasks.
//! - Tasks that talk all the time and lie on different workers pay for it, a wake each way: some are better off in a [`Runtime`] of one
//!   worker, on one [`OsThread`], or with [`Placement::Local`]. Tasks that live long and compute now and then are better off with
//!   [`Placement::Spread`]: of 1 000 that one task started, and that waited at once, the default left 61 to 100 in a hundred on one of two
//!   workers.
//! - A stack is 64 KiB of addresses and the pages that were touched, one at least. It does not grow: an overflow is caught by
//!   a guard page, reported with the task's name and the remedy, and aborts the process. [`Builder::stack_bytes`] gives 16 KiB
//!   to 8 MiB.
//! - A blocking call (a file, a lock of another library) blocks its worker, unless it is made through [`blocking`].
//! - Linux, tested on x86-64. Other processors switch stacks through corosensei, three times as slow, and are untested.
//!
//! # Fork
//!
//! A forked child has the memory of the tasks and none of the workers. Starting a task there is an error that says so; a runtime
//! built in the child works.

#![cfg_attr(
    loom,
    expect(
        dead_code,
        reason = "under the model checker there is nothing above the protocols"
    )
)]

#[cfg(not(loom))]
mod arch;
#[cfg(not(loom))]
mod blocking;
#[cfg(not(loom))]
pub mod chan;
#[cfg(not(loom))]
pub mod diag;
#[cfg(not(loom))]
pub mod future;
#[cfg(not(loom))]
mod group;
#[cfg(not(loom))]
mod join;
#[cfg(not(loom))]
mod no_switch;
#[cfg(not(loom))]
mod os_thread;
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
mod task_local;
#[cfg(not(loom))]
mod time;

#[cfg(not(loom))]
pub use crate::{
    blocking::blocking,
    chan::{Receiver, Sender, chan},
    group::{Builder, Group, Scope, ScopedHandle, Spawner, cancel_token, scope},
    join::join,
    no_switch::no_switch,
    os_thread::{LockToReceiverError, OsThread, OsThreadError, ThreadLoop},
    runtime::{Runtime, RuntimeBuilder, num_tasks},
    sched::{Placement, StuckTask},
    task_local::{AccessError, TaskLocal},
    time::{Limit, Ticker, TimedOut, sleep, sleep_until, timeout},
};
#[cfg(not(loom))]
pub use multi_core::prelude::*;

/// Lets other tasks of this worker run before the caller goes on. A plain thread yields to the system.
///
/// ```
/// multi_goro::yield_now();
/// ```
#[cfg(not(loom))]
pub fn yield_now() {
    sched::yield_now();
}

/// Lets other tasks of this worker run if the caller has had its share, a millisecond. For long computations: it may be called in an
/// inner loop, since most calls only count down (a nanosecond or two; the clock is read some sixteen times a millisecond).
///
/// Nothing else interrupts a task: without it, or [`yield_now`], the started tasks of its worker wait until it is done. On a
/// plain thread it does nothing, since the system interrupts that.
///
/// ```
/// let mut sum = 0_u64;
/// for n in 0..1_000_000 {
///     sum = sum.wrapping_add(n);
///     multi_goro::checkpoint();
/// }
/// ```
#[cfg(not(loom))]
pub fn checkpoint() {
    sched::checkpoint();
}
