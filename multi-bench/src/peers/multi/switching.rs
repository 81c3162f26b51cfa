//! Yielding, starting and waiting.

use std::time::Instant;

use multi_goro::{Group, yield_now};

use super::runtime;
use crate::Result;
use crate::job::{Job, Lap, Work};

pub(super) fn yields(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    Ok(Work::lap(move |operations| {
        let each = operations.div_ceil(tasks);
        runtime.run(|| {
            let mut group = Group::new();
            let started = Instant::now();
            for _ in 0..tasks {
                group.go(move || {
                    (0..each).for_each(|_| yield_now());
                    Ok(())
                });
            }
            group.wait()?;
            Ok(Lap {
                operations: each * tasks,
                took: started.elapsed(),
            })
        })
    }))
}

/// From a task, as Go's program does it from a goroutine.
pub(super) fn start(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    Ok(Work::lap(move |operations| {
        runtime.run(|| start_and_wait(&mut Group::new(), tasks, operations))
    }))
}

/// From a plain thread: a sleeping worker has to be woken, and the thread when the task ends.
pub(super) fn start_from_thread(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    Ok(Work::lap(move |operations| {
        start_and_wait(&mut runtime.group(), tasks, operations)
    }))
}

pub(super) fn start_locked(job: &Job) -> Result<Work> {
    let tasks = job.number("tasks")?;
    Ok(Work::lap(move |operations| {
        start_and_wait(&mut Group::locked(), tasks, operations)
    }))
}

fn start_and_wait(group: &mut Group, tasks: u64, operations: u64) -> Result<Lap> {
    let groups = (operations / tasks).max(1);
    let started = Instant::now();
    for _ in 0..groups {
        for _ in 0..tasks {
            group.go(|| Ok(()));
        }
        group.wait()?;
    }
    Ok(Lap {
        operations: groups * tasks,
        took: started.elapsed(),
    })
}
