//! The benchmark of multi: the same work on every backend, beside what the machine could do at best.
//!
//! `cargo xtask bench` runs it; this library is its parts.
//!
//! | for | see |
//! | --- | --- |
//! | the work itself | [`workload`] |
//! | who does it: one row per backend | [`contender`] |
//! | taking turns, medians and quartiles | [`sample`] |
//! | tables and JSON | [`report`], [`machine`] |
//! | the benchmarks | [`suite`] |
//!
//! # Trade-offs
//!
//! - Contenders take turns, one sample each, so that a machine that slows down slows them all down alike. A contender's caches are
//!   therefore as the others left them, which is nearer to a program's life than a loop of one thing.
//! - A figure is a median with its quartiles. Nothing is thrown away; a noisy machine shows, and is said to be one.

pub mod contender;
mod forked;
pub mod machine;
pub mod report;
pub mod sample;
pub mod suite;
mod sys;
pub mod workload;

/// What a benchmark returns: any error ends the run.
pub type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
