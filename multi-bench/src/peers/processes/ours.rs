//! Ours: a process for each task, forked, forked by a zygote or executed, and a pool of them.

use multi_core::{BuildError, GroupOptions};
use multi_proc::{Builder, FnGroup, Group};

use super::{burn, jobs, large, round_trips, starts};
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
        "large" => large::shared(job),
        _ => job.unknown("multi pool"),
    }
}

pub(super) fn zygote(job: &Job) -> Result<Work> {
    functions(job, Builder::zygote)
}

pub(super) fn spawn(job: &Job) -> Result<Work> {
    functions(job, Builder::spawn)
}

/// A process for each function.
fn functions(job: &Job, make: fn(Builder) -> Result<FnGroup, BuildError>) -> Result<Work> {
    match &*job.workload {
        "begin" => {
            let group = make(Group::builder())?;
            starts(job, move || Ok(group.call(|()| Ok(()), ())?))
        }
        "ping" => round_trips(job, || {
            let group = make(Group::builder())?;
            Ok(move |number| Ok(group.call(|number: u64| Ok(number), number)?))
        }),
        "jobs" => {
            let mut group = make(Group::builder().limit(job.count("workers")?))?;
            let burn = |us: u64| {
                burn(us);
                Ok(())
            };
            jobs(job, move |count, us| {
                (0..count).for_each(|_| drop(group.spawn_fn(burn, us)));
                Ok(group.wait()?)
            })
        }
        _ => job.unknown("functions in processes"),
    }
}
