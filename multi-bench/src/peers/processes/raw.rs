//! What everybody is set beside: the system calls alone.

use super::{round_trips, starts};
use crate::Result;
use crate::job::{Job, Work};
use crate::sys;

/// `fork` of a child that leaves at once, and `waitpid`. Nothing comes home from it but that it has ended.
pub(super) fn fork(job: &Job) -> Result<Work> {
    match &*job.workload {
        "begin" => starts(job, || Ok(sys::raw_fork()?)),
        "ping" => round_trips(job, || {
            Ok(|number| {
                sys::raw_fork()?;
                Ok(number)
            })
        }),
        _ => job.unknown("a bare fork"),
    }
}
