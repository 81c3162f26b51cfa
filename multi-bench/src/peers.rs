//! Who takes part beside the seed's benchmark: a file per contender, each doing the same jobs its own way, in a child process.
//!
//! A job that a contender has nothing for is an error, and becomes a row that says so. Go's part is `multi-bench/go/main.go`.

#[cfg(feature = "peers")]
mod futures;
#[cfg(feature = "peers")]
mod kanal;
mod load;
#[cfg(feature = "peers")]
mod may;
mod multi;
mod processes;
#[cfg(feature = "peers")]
mod rayon;
mod serial;
mod shared;
#[cfg(feature = "peers")]
mod smol;
mod threads;
#[cfg(feature = "peers")]
mod tokio;
mod trips;

use crate::Result;
use crate::job::{Job, Work};

pub(crate) use multi::{LOCAL, SPREAD};
pub use processes::runs_functions;

/// How a contender gets ready for a job.
pub type Perform = fn(&Job) -> Result<Work>;

/// The runtimes of this build; channels beside each other are in `shared`, processes in `processes`.
const CONTENDERS: &[(&str, Perform)] = &[
    ("multi", multi::perform),
    ("multi stackless", multi::stackless::perform),
    ("serial", serial::perform),
    ("std", threads::perform),
    #[cfg(feature = "peers")]
    ("kanal", kanal::perform),
    #[cfg(feature = "peers")]
    ("may", may::perform),
    #[cfg(feature = "peers")]
    ("rayon", rayon::perform),
    #[cfg(feature = "peers")]
    ("smol", smol::perform),
    #[cfg(feature = "peers")]
    ("tokio", tokio::perform),
];

/// The contender of this name.
///
/// # Errors
///
/// If this build does not have it.
pub fn find(name: &str) -> Result<Perform> {
    contenders()
        .find(|(known, _)| *known == name)
        .map(|(_, perform)| *perform)
        .ok_or_else(|| format!("no contender {name:?} in this build").into())
}

/// Whether this build has the contender.
#[must_use]
pub fn has(name: &str) -> bool {
    contenders().any(|(known, _)| *known == name)
}

fn contenders() -> impl Iterator<Item = &'static (&'static str, Perform)> {
    CONTENDERS
        .iter()
        .chain(shared::CONTENDERS)
        .chain(processes::CONTENDERS)
}
