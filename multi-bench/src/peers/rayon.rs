//! Rayon: a pool of threads for work that never waits.

use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder, join, scope};

use crate::Result;
use crate::job::{Job, Lap, Work};
use crate::peers::load::{each, skewed, spin};
use crate::peers::processes::{burn, jobs, round_trips};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    if job.workload == "ping" {
        return round_trips(job, || {
            let pool = ThreadPoolBuilder::new().num_threads(1).build()?;
            Ok(move |number| Ok(pool.install(|| number)))
        });
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(job.count("workers")?)
        .build()?;
    match &*job.workload {
        "start" => start(pool, job.number("tasks")?),
        "start-from-thread" => Ok(start_from_thread(pool)),
        "join" => fork_join(pool, job.number("n")?),
        "skew" => skew(pool, job),
        "sweep" => sweep(pool, job.number("tasks")?, job.number("units")?),
        "jobs" => jobs(job, move |count, us| {
            pool.install(|| scope(|scope| (0..count).for_each(|_| scope.spawn(move |_| burn(us)))));
            Ok(())
        }),
        _ => job.unknown("rayon"),
    }
}

fn start(pool: ThreadPool, tasks: u64) -> Result<Work> {
    Ok(Work::lap(move |operations| {
        let groups = (operations / tasks).max(1);
        Ok(pool.install(|| {
            let started = Instant::now();
            for _ in 0..groups {
                scope(|scope| (0..tasks).for_each(|_| scope.spawn(|_| {})));
            }
            Lap {
                operations: groups * tasks,
                took: started.elapsed(),
            }
        }))
    }))
}

fn start_from_thread(pool: ThreadPool) -> Work {
    Work::lap(move |operations| {
        let started = Instant::now();
        for _ in 0..operations {
            pool.install(|| {});
        }
        Ok(Lap {
            operations,
            took: started.elapsed(),
        })
    })
}

fn fork_join(pool: ThreadPool, n: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let took = pool.install(|| {
            let started = Instant::now();
            fib(n);
            started.elapsed()
        });
        Ok(vec![("total", each(took, 1))])
    }))
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return std::hint::black_box(n);
    }
    let (one, two) = join(|| fib(n - 1), || fib(n - 2));
    one + two
}

fn skew(pool: ThreadPool, job: &Job) -> Result<Work> {
    let (workers, tasks) = (job.number("workers")?, job.number("tasks")?);
    let units = job.number("units")?;
    Ok(Work::once(move || {
        let started = Instant::now();
        for task in 0..tasks {
            spin(skewed(task, tasks, units));
        }
        let ideal = each(started.elapsed(), workers);
        let took = pool.install(|| {
            let started = Instant::now();
            scope(|scope| {
                for task in 0..tasks {
                    scope.spawn(move |_| {
                        spin(skewed(task, tasks, units));
                    });
                }
            });
            started.elapsed()
        });
        Ok(vec![("ideal", each(took, 1) / ideal)])
    }))
}

fn sweep(pool: ThreadPool, tasks: u64, units: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let took = pool.install(|| {
            let started = Instant::now();
            scope(|scope| {
                for _ in 0..tasks {
                    scope.spawn(|_| {
                        spin(units / tasks);
                    });
                }
            });
            started.elapsed()
        });
        Ok(vec![("total", each(took, 1))])
    }))
}
