//! Tasks that compute.

use std::hint::black_box;
use std::time::Instant;

use multi_goro::{Group, Runtime, join, scope};

use super::runtime;
use crate::Result;
use crate::job::{Figures, Job, Lap, Work};
use crate::peers::load::{fib_calls, skewed, spin};

/// Fibonacci's numbers with both calls joined: the second is a task only if somebody takes it.
pub(super) fn fork_join(job: &Job) -> Result<Work> {
    let (runtime, n) = (runtime(job)?, job.number("n")?);
    Ok(Work::once(move || {
        let took = runtime.run(|| {
            let started = Instant::now();
            fib_joined(n);
            started.elapsed()
        });
        Ok(vec![("total", took.as_secs_f64() * 1e9)])
    }))
}

fn fib_joined(n: u64) -> u64 {
    if n < 2 {
        return black_box(n);
    }
    let (one, two) = join(|| fib_joined(n - 1), || fib_joined(n - 2));
    one + two
}

/// Fibonacci's numbers with a task for one of the two calls, always.
pub(super) fn calls(job: &Job) -> Result<Work> {
    let (runtime, n) = (runtime(job)?, job.number("n")?);
    Ok(Work::lap(move |_| {
        runtime.run(|| {
            let started = Instant::now();
            fib_in_tasks(n)?;
            Ok(Lap {
                operations: fib_calls(n),
                took: started.elapsed(),
            })
        })
    }))
}

fn fib_in_tasks(n: u64) -> Result<u64> {
    if n < 2 {
        return Ok(n);
    }
    scope(|tasks| {
        let one = tasks.spawn(|| fib_in_tasks(n - 1));
        let two = fib_in_tasks(n - 2)?;
        Ok(one.join()? + two)
    })?
}

/// Tasks of very different size, beside the same done by one task alone.
pub(super) fn skew(job: &Job) -> Result<Work> {
    let (runtime, workers) = (runtime(job)?, job.number("workers")?);
    let (tasks, units) = (job.number("tasks")?, job.number("units")?);
    Ok(Work::once(move || {
        let started = Instant::now();
        for task in 0..tasks {
            spin(skewed(task, tasks, units));
        }
        let ideal = started.elapsed() / u32::try_from(workers)?;
        runtime.run(|| {
            let mut group = Group::new();
            let started = Instant::now();
            for task in 0..tasks {
                group.go(move || {
                    spin(skewed(task, tasks, units));
                    Ok(())
                });
            }
            group.wait()?;
            let ratio = started.elapsed().as_secs_f64() / ideal.as_secs_f64();
            Ok(vec![("ideal", ratio)])
        })
    }))
}

/// The same compute-bound program on more and more workers.
pub(super) fn sweep(job: &Job) -> Result<Work> {
    let (runtime, tasks, units) = (runtime(job)?, job.number("tasks")?, job.number("units")?);
    Ok(Work::once(move || swept(&runtime, tasks, units)))
}

fn swept(runtime: &Runtime, tasks: u64, units: u64) -> Result<Figures> {
    let mut group = runtime.group();
    let started = Instant::now();
    for _ in 0..tasks {
        group.go(move || {
            spin(units / tasks);
            Ok(())
        });
    }
    group.wait()?;
    Ok(vec![("total", started.elapsed().as_secs_f64() * 1e9)])
}
