//! Ours: a forked process for each task, and a pool of them.

use multi_core::GroupOptions;

use super::{burn, jobs, round_trips, starts};
use crate::Result;
use crate::forked::{self, EmptyTasks};
use crate::job::{Job, Work};

pub(super) fn fork(job: &Job) -> Result<Work> {
    match &*job.workload {
        "begin" => {
            let mut group = EmptyTasks::new();
            starts(job, move || group.one())
        }
        "ping" => round_trips(job, || {
            let group = forked::calculators(GroupOptions::new())?;
            Ok(move |number| Ok(group.spawn(move || Ok(number)).join()?))
        }),
        "jobs" => {
            let limit = job.count("workers")?;
            let mut group = forked::calculators(GroupOptions::new().limit(limit))?;
            jobs(job, move |count, us| {
                for _ in 0..count {
                    group.go(move || {
                        burn(us);
                        Ok(())
                    });
                }
                Ok(group.wait()?)
            })
        }
        _ => job.unknown("multi fork"),
    }
}

pub(super) fn pool(job: &Job) -> Result<Work> {
    match &*job.workload {
        "ping" => round_trips(job, || {
            let pool = forked::pool(1)?;
            Ok(move |number| Ok(pool.call(|number: u64| Ok(number), number)?))
        }),
        "jobs" => {
            let pool = forked::pool(job.count("workers")?)?;
            let burn = |us: u64| {
                burn(us);
                Ok(())
            };
            jobs(job, move |count, us| {
                pool.map(burn, (0..count).map(|_| us))?;
                Ok(())
            })
        }
        _ => job.unknown("multi pool"),
    }
}
