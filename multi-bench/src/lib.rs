//! The benchmark of multi: the same work on every backend, beside what the machine could do at best.
//!
//! `cargo xtask bench` runs it; this library is its parts.
//!
//! | for | see |
//! | --- | --- |
//! | the work itself | [`workload`] |
//! | who does it: one row per backend | [`contender`] |
//! | taking turns, medians and quartiles | [`sample`] |
//! | contenders in child processes, and what they are asked | [`peers`], [`go`], [`boost`], [`python`], [`job`], [`child`], [`serve`] |
//! | tables and JSON | [`report`], [`sheet`], [`machine`] |
//! | the benchmarks | [`suite`] |
//!
//! # One function, every backend
//!
//! ```
//! use multi_core::{Group, GroupError, Result};
//!
//! /// Checks every part on its own task, whatever a task is.
//! fn check(group: &mut impl Group, parts: &[&str]) -> Result<(), GroupError> {
//!     for part in parts {
//!         let part = part.to_string();
//!         group.go(move || {
//!             part.parse::<u32>()?;
//!             Ok(())
//!         });
//!     }
//!     group.wait()
//! }
//!
//! // SAFETY of the fork: the tasks parse a number: they take no lock and share no memory.
//! let mut processes = unsafe { multi_proc::Group::new() };
//! let failures = [
//!     check(&mut processes, &["1", "two", "3"]),
//!     check(&mut multi_pthread::Group::new(), &["1", "two", "3"]),
//!     check(&mut multi_goro::Group::locked(), &["1", "two", "3"]),
//!     check(&mut multi_goro::Group::new(), &["1", "two", "3"]),
//! ];
//! for failure in failures {
//!     let error = failure.unwrap_err();
//!     assert_eq!((error.failed_count(), error.task_count()), (1, 3));
//!     assert!(error.to_string().ends_with("invalid digit found in string"), "{error}");
//! }
//! ```
//!
//! The same behind a pointer, for a backend that is chosen while the program runs:
//!
//! ```
//! use multi_core::{DynGroup, Group, Result};
//!
//! fn two_tasks(group: &mut dyn DynGroup) -> Result {
//!     group.go(|| Ok(()));
//!     group.go(|| Ok(()));
//!     group.wait()?;
//!     assert_eq!(group.progress().finished, 2);
//!     Ok(())
//! }
//!
//! // SAFETY of the fork: the tasks do nothing.
//! let processes = unsafe { multi_proc::Group::new() };
//! let backends: Vec<Box<dyn DynGroup>> = vec![
//!     Box::new(processes),
//!     Box::new(multi_pthread::Group::new()),
//!     Box::new(multi_goro::Group::locked()),
//!     Box::new(multi_goro::Group::new()),
//! ];
//! for mut group in backends {
//!     two_tasks(&mut *group)?;
//! }
//! # Ok::<(), multi_core::BoxError>(())
//! ```
//!
//! # Trade-offs
//!
//! - Contenders take turns, one sample each, so that a machine that slows down slows them all down alike. A contender's caches are
//!   therefore as the others left them, which is nearer to a program's life than a loop of one thing.
//! - A figure is a median with its quartiles. Nothing is thrown away; a noisy machine shows, and is said to be one.

pub mod boost;
pub mod child;
pub mod contender;
mod crew;
mod forked;
pub mod go;
pub mod job;
pub mod machine;
pub mod peers;
pub mod python;
pub mod report;
pub mod sample;
pub mod serve;
pub mod sheet;
pub mod suite;
mod sys;
pub mod workload;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a benchmark returns: any error ends the run.
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;

/// The programs of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
