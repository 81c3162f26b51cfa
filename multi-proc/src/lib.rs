//! Groups of tasks as processes, one per task: forked, a zygote's, or executed.
//!
//! ```
//! // Promised: this program has one thread, see Builder::fork.
//! let mut group = unsafe { multi_proc::Group::builder().name("checks").limit(4).fork() }?;
//! for n in 0..8 {
//!     group.go(move || {
//!         match n {
//!             5 => Err("five is out of order")?,
//!             6 => std::process::abort(),
//!             _ => Ok(()),
//!         }
//!     });
//! }
//! let error = group.wait().unwrap_err().to_string();
//! assert!(error.contains("five is out of order") && error.contains("killed by SIGABRT"));
//! # Ok::<(), multi_core::BoxError>(())
//! ```
//!
//! A task may crash, leak, exit or hang without harm to anyone else, and it can be killed. What it returns comes home: an error as its
//! chain of texts and its OS error code, a panic as message and place, a value by `serde` through shared memory
//! ([`Group::spawn`]). What becomes of its process otherwise is named: exit code, signal, core dump, stack
//! overflow, limit, time limit.
//!
//! # Three ways to a process
//!
//! | | runs | start and wait | the same with 1 GiB in the parent | for |
//! | --- | --- | --- | --- | --- |
//! | [`Builder::fork`] | closures with whatever they capture | 1.5 | 310 | programs with few threads; work on data that is already there |
//! | [`Builder::zygote`] | functions and arguments | 2.8 | 2.8 | programs with threads or much memory |
//! | [`Builder::spawn`] | functions and arguments | 12 | 12 | a clean process: no memory, descriptor or variable of the parent's |
//!
//! The unit is a bare `fork` and `waitpid` of a small program in the same run, 0.17 ms there (`cargo xtask bench proc --peers`, 2026-11-22, 2
//! processors, Linux 6.18, medians taken in turns, pages of 4 KiB).
//!
//! The first is `unsafe` at the constructor, for what the next section says. The others are safe to call, want [`init`] to be called first in
//! `main`, and give a [`FnGroup`]:
//!
//! ```
//! fn main() -> multi_proc::Result {
//!     multi_proc::init();
//!     let mut group = multi_proc::Group::builder().limit(4).zygote()?;
//!     let words = ["one", "two", "three"].map(|word| group.spawn_fn(|word: String| Ok(word.len()), word.to_owned()));
//!     assert_eq!(words.map(|len| len.join().unwrap()), [3, 3, 5]);
//!     Ok(group.wait()?)
//! }
//! ```
//!
//! A [`Pool`] starts its processes once, in any of the three ways, and has them run functions, for a small part of the price of a fork each; a job
//! whose worker dies is done by another:
//!
//! ```
//! fn main() -> multi_proc::Result {
//!     multi_proc::init();
//!     let pool = multi_proc::Pool::builder().workers(2).zygote()?;
//!     let squares = pool.map(|n: u64| Ok(n * n), 0..5)?;
//!     assert_eq!(squares, [0, 1, 4, 9, 16]);
//!     Ok(())
//! }
//! ```
//!
//! What is large in a job's argument or value need not be copied: a [`SharedBuffer`] is read where it was written, on both sides.
//!
//! # What a fork breaks
//!
//! A forked child is a copy of the process with one thread. Each row is tested. Nothing of it holds for the processes of a zygote or of
//! [`Builder::spawn`], which have nothing of what the program did since [`init`].
//!
//! | what | in a child | how |
//! | --- | --- | --- |
//! | `print!`, `eprint!` while other threads print | works; nothing is printed twice | locks taken and flushed around the fork; a child flushes what it printed |
//! | panics while other threads print or panic | printed and reported, without backtrace | a hook that takes no lock stands in for the program's own |
//! | a panic's payload that is not text | reported as such | only text can come home |
//! | allocation, starting threads | works | the C library and allocators see to it |
//! | hash map keys | differ between the children of a group | moved on at each fork |
//! | other random generators | **a copy, unless reseeded** | [`child_seed`], [`process_serial`], [`Builder::in_child`] |
//! | a lock that another thread holds | **held for ever** | promised away at [`Builder::fork`]; a child caught in one is reported by name after [`Builder::stuck_after`]; [`Builder::other_threads`] warns of any thread or refuses |
//! | the parent's thread pools: rayon, tokio, .. | **nobody works there** | reported as stuck, as for a lock; a child makes pools of its own |
//! | a running runtime of green tasks (multi-goro) | refuses to start tasks, and says why | it knows its process; groups work from green tasks |
//! | descriptors | the same files, with one position for both | ours are close-on-exec: programs that a task starts do not get them |
//! | epoll instances, `io_uring` rings | **one for both**: what a child adds, the parent gets | documented; a child makes its own |
//! | the group, its spawner, its handles | refuse, and name both processes | a child makes groups of its own |
//! | cancel tokens of a group, [`shared_token`] | work both ways | a word in shared memory |
//! | the parent ends, by whatever means | killed, and its children too | `PR_SET_PDEATHSIG`; a child of a thread other than main looks whether the thread or the process ended, with the last real-time signal, and is killed by a pipe of its parent's should it hold that back; a task of the main thread that changes its own user or group unties itself (do that in [`Builder::in_child`]) |
//! | SIGTERM, SIGINT, SIGHUP that the parent handles | SIGTERM ends it, the others are ignored | looked up at each fork; a child does not run the parent's handlers |
//! | other handlers; the signal mask | copied; that of the forking thread | all signals are held back around a fork that could be disturbed |
//! | alarms (`setitimer`, `timer_create`) | none | the kernel sees to it |
//! | captured values | dropped in the child, and in the parent right after the fork | promised harmless at [`Builder::fork`] |
//! | `atexit`, thread-local destructors, C's `stdio` buffers | not run, not flushed | a child leaves by `_exit` |
//! | somebody else's `waitpid(-1)`, an ignored SIGCHLD | what the task said still counts, else it is lost | an error, never a hang |
//!
//! # What a task is held to
//!
//! [`Limits`], for one task or all of a group: memory, processor time, descriptors, processes, file size, priority, CPUs, working
//! directory, umask, and how it is asked to end. A task that goes beyond one is reported by the limit's name, out of memory
//! included:
//!
//! ```
//! # use multi_proc::Limits;
//! # // Promised: this program has one thread.
//! # let mut group = unsafe { multi_proc::Group::new() };
//! let limits = Limits::new().memory_bytes_max(32 << 20).cpu_time_max(std::time::Duration::from_secs(10));
//! group.task().name("greedy").limits(limits).go(|| Err(format!("{:?}", vec![7_u8; 1 << 30]))?);
//! let text = group.wait().unwrap_err().to_string();
//! assert!(text.contains("went over its limit: memory_bytes_max 32 MiB"));
//! ```
//!
//! What a task prints goes where its parent's output goes, or nowhere, to a file, line by line to a function, or, the end of it, into the
//! task's error: [`Output`], [`Input`].
//!
//! # Ctrl-C
//!
//! Without further ado, a terminal's SIGINT ends parent and children together. With an [`Interrupt`], the first one asks the tasks to
//! stop and lets `wait` report, the second kills them, the third ends the program.
//!
//! # How it works
//!
//! `start.rs` forks, `child.rs` is the child's life, `report.rs` what it says at its end, in a slot of `slot.rs`; `reap.rs` watches and
//! collects, by whoever waits, and `outcome.rs` says what came of the task; `limits/` holds a child to its limits and tells which one
//! it died of; `capture.rs` reads what tasks print: there is no thread of ours, except a clock where a time limit must be kept, or a
//! pipe emptied, while nobody waits, and one for Ctrl-C where that is asked for. `lifeline.rs` ends a child with its process where the
//! thread that forked it may end first. `function.rs` names functions to other processes, and `functions/README.md` is the protocol of
//! the two ways that need no promise. A pool is `pool/`, with a `README.md` of its own. Atomics come through `sync.rs`, so that a model
//! checker can stand in for them. Where there is unsafe code a file (`sys.rs` for its folder) says so, and why, at its top: system calls,
//! shared memory, functions that come from another process, and the forks.
//!
//! # Trade-offs
//!
//! - An empty task costs 1.3 times a bare `fork` and `waitpid` in a small program and 1.5 times in a large one (2026-11, 2 processors, Linux
//!   6.18, medians taken in turns). Most of either is page faults; a parent with a gigabyte of small pages pays tens of milliseconds a fork.
//! - Values and errors cross as bytes and text: an error's type does not come home, and `downcast` finds a [`RemoteError`].
//! - Whoever waits looks at every running child at each wake-up: thousands at once cost the parent more each.
//! - A cancel made inside a child is seen at once by everyone who looks at the token, but tasks that do not look are signalled only when
//!   somebody next waits, starts a task, or drops the group.
//! - A task that runs out of memory while `RUST_BACKTRACE` is set prints a backtrace, under a lock: where another thread of the parent held
//!   that at the fork, the task is stuck, and reported as such, instead of dead.
//! - To tell a stack overflow from other faults, SIGSEGV comes here first, from the first group on, and is then handled as before.
//! - A lock order of the program's can meet the one here: a thread that holds standard error's lock and then prints to standard
//!   output, while another forks, waits for ever.

#![cfg_attr(
    loom,
    allow(
        dead_code,
        reason = "under the model checker there is nothing above the words of a pool"
    )
)]

#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod cancel;
#[cfg(not(loom))]
mod capture;
#[cfg(not(loom))]
mod child;
#[cfg(not(loom))]
mod children;
#[cfg(not(loom))]
mod function;
#[cfg(not(loom))]
mod functions;
#[cfg(not(loom))]
mod group;
#[cfg(not(loom))]
mod hook;
#[cfg(not(loom))]
mod identity;
#[cfg(not(loom))]
mod interrupt;
mod kill;
#[cfg(not(loom))]
mod lifeline;
#[cfg(not(loom))]
mod limits;
#[cfg(not(loom))]
mod live;
#[cfg(not(loom))]
mod outcome;
#[cfg(not(loom))]
mod pool;
#[cfg(loom)]
#[path = "pool/words.rs"]
mod pool;
#[cfg(not(loom))]
mod reap;
#[cfg(not(loom))]
mod report;
#[cfg(not(loom))]
mod slot;
#[cfg(not(loom))]
mod start;
#[cfg(not(loom))]
mod stdio;
#[cfg(not(loom))]
mod stuck;
mod sync;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod task;
#[cfg(not(loom))]
mod terms;
#[cfg(not(loom))]
mod threads;

#[cfg(not(loom))]
pub use builder::Builder;
#[cfg(not(loom))]
pub use cancel::shared_token;
#[cfg(not(loom))]
pub use functions::{FnGroup, FnTaskBuilder, init, task_token};
#[cfg(not(loom))]
pub use group::{Group, Spawner};
#[cfg(not(loom))]
pub use identity::{child_seed, process_serial};
#[cfg(not(loom))]
pub use interrupt::Interrupt;
#[cfg(all(feature = "kill-points", not(loom)))]
pub use kill::{KillPoint, kill_at};
#[cfg(not(loom))]
pub use limits::Limits;
#[cfg(not(loom))]
pub use multi_chan::Plain;
#[cfg(not(loom))]
pub use multi_core::prelude::*;
#[cfg(not(loom))]
pub use outcome::Measured;
#[cfg(not(loom))]
pub use pool::{
    BufferError, Jobs, MapUnordered, Pool, PoolBuilder, PoolStatus, Priority, SharedBuffer,
    SharedBufferMut, TrySpawnError,
};
#[cfg(not(loom))]
pub use stdio::{Input, Output};
#[cfg(not(loom))]
pub use task::TaskBuilder;
#[cfg(not(loom))]
pub use threads::OtherThreads;
