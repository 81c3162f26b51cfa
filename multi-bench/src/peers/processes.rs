//! Processes beside each other: what starting one costs, what a call through a pool costs, and how many jobs a pool gets done.

mod large;
mod ours;
#[cfg(feature = "peers")]
mod procspawn;
mod raw;

use std::time::{Duration, Instant};

use crate::Result;
use crate::job::{Job, Lap, Work};
use crate::peers::shared::Shape;
use crate::peers::{Perform, trips};
use crate::sys::Ballast;

/// The contenders of this build.
pub(super) const CONTENDERS: &[(&str, Perform)] = &[
    ("multi fork", ours::fork),
    ("multi pool", ours::pool),
    ("multi pool copying", large::copied),
    ("one process", large::alone),
    (ZYGOTE, ours::zygote),
    (SPAWN, ours::spawn),
    ("fork+waitpid", raw::fork),
    #[cfg(feature = "peers")]
    ("procspawn", procspawn::perform),
];

const ZYGOTE: &str = "multi zygote";
const SPAWN: &str = "multi spawn";

/// Whether the contender starts processes from this program, whose `main` has to begin with [`multi_proc::init`].
#[must_use]
pub fn runs_functions(contender: &str) -> bool {
    [ZYGOTE, SPAWN].contains(&contender)
}

/// One empty process after the other, started and waited for, by a parent that has touched as much memory as the job says.
fn starts(job: &Job, mut one: impl FnMut() -> Result + 'static) -> Result<Work> {
    let ballast = Ballast::new(job.count("mib")? << 20)?;
    Ok(Work::lap(move |operations| {
        let _carried = &ballast;
        let started = Instant::now();
        for _ in 0..operations {
            one()?;
        }
        Ok(Lap {
            operations,
            took: started.elapsed(),
        })
    }))
}

/// Calls of a sample at least, so that it has a hundredth of them, and at most.
const TRIPS: (u64, u64) = (200, 200_000);

/// One call after the other: a number goes out and comes back. `ready` makes the worker, after this process was put where the job
/// wants it.
pub(crate) fn round_trips<T: FnMut(u64) -> Result<u64> + 'static>(
    job: &Job,
    ready: impl FnOnce() -> Result<T>,
) -> Result<Work> {
    let _pinned = Shape::of(job)?;
    let mut trip = ready()?;
    let least = job.number("ms").map_or(TRIPS.0, |_| TRIPS.0 / 10);
    // As many as take 20 ms; the first ones warm up.
    trips::time(least / 4, &mut trip)?;
    let trial = Instant::now();
    trips::time(least / 4, &mut trip)?;
    let trip_ns = trial.elapsed().as_secs_f64() * 1e9 / (least / 4) as f64;
    let count = ((20e6 / trip_ns) as u64).clamp(least, TRIPS.1);
    Ok(Work::once(move || trips::time(count, &mut trip)))
}

/// So many jobs at once, each of so many microseconds, handed to a pool by `run`, which returns when all are done.
pub(crate) fn jobs(job: &Job, mut run: impl FnMut(u64, u64) -> Result + 'static) -> Result<Work> {
    let us = job.number("us")?;
    Ok(Work::lap(move |operations| {
        let started = Instant::now();
        run(operations, us)?;
        Ok(Lap {
            operations,
            took: started.elapsed(),
        })
    }))
}

/// A job: is busy for so long, by the clock.
pub(crate) fn burn(us: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_micros(us) {}
}
