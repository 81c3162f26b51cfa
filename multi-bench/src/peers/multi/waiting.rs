//! Blocking calls, time, and tasks beside others that do not let go.

use std::thread;
use std::time::{Duration, Instant};

use multi_goro::{Group, Runtime, Ticker, chan, sleep};

use super::runtime;
use crate::Result;
use crate::job::{Figures, Job, Work};
use crate::peers::load::{PERIOD, hog, lateness, nap, threads};

/// Calls that block the thread they are made on.
pub(super) fn blocking(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    let pause = Duration::from_millis(job.number("pause_ms")?);
    Ok(Work::once(move || {
        runtime.run(|| {
            let mut group = Group::new();
            let started = Instant::now();
            for _ in 0..tasks {
                group.go(move || {
                    multi_goro::blocking(|| thread::sleep(pause));
                    Ok(())
                });
            }
            group.wait()?;
            let total = started.elapsed().as_secs_f64() * 1e9;
            Ok(vec![("total", total), ("threads", threads()? as f64)])
        })
    }))
}

/// Tasks that sleep and say how late they were woken.
pub(super) fn timers(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    let rounds = job.number("rounds")?;
    Ok(Work::once(move || {
        runtime.run(|| {
            let (tell, told) = chan(1_024);
            let mut group = Group::new();
            for task in 0..tasks {
                let tell = tell.clone();
                group.go(move || {
                    let late = (0..rounds).map(|round| {
                        let nap = nap(task, round);
                        let asleep = Instant::now();
                        sleep(nap);
                        asleep.elapsed().saturating_sub(nap)
                    });
                    Ok(tell.send(late.collect::<Vec<_>>())?)
                });
            }
            drop(tell);
            let late = told.iter().flatten().collect();
            group.wait()?;
            Ok(lateness(late))
        })
    }))
}

/// How long the hogs keep their workers.
fn hog_time(job: &Job) -> Result<Duration> {
    Ok(Duration::from_millis(job.number("hog_ms")?))
}

/// A hog on each worker: computes and never lets go. Returns when all of them do.
fn hogs(runtime: &Runtime, time: Duration) -> Result<Group> {
    let group = runtime.group();
    let (tell, told) = chan(runtime.workers());
    for _ in 0..runtime.workers() {
        let tell = tell.clone();
        group.go(move || {
            tell.send(())?;
            hog(time);
            Ok(())
        });
    }
    for _ in 0..runtime.workers() {
        told.recv()?;
    }
    Ok(group)
}

/// A started task that ticks, with a hog on every worker.
pub(super) fn ticker(job: &Job) -> Result<Work> {
    let (runtime, time) = (runtime(job)?, hog_time(job)?);
    Ok(Work::once(move || {
        let (tell, told) = chan(1);
        let mut ticking = runtime.group();
        let late = ticking.spawn(move || {
            let mut ticker = Ticker::new(PERIOD);
            ticker.tick();
            tell.send(())?;
            Ok(worst_tick(time, || {
                ticker.tick();
            }))
        });
        told.recv()?;
        hogs(&runtime, time)?.wait()?;
        ticking.wait()?;
        Ok(vec![("late", late.join()?)])
    }))
}

/// The same in a task with a thread of its own.
pub(super) fn ticker_locked(job: &Job) -> Result<Work> {
    let (runtime, time) = (runtime(job)?, hog_time(job)?);
    Ok(Work::once(move || {
        let mut hogs = hogs(&runtime, time)?;
        let mut ticking = Group::locked();
        let late = ticking.spawn(move || Ok(worst_tick(time, || sleep(PERIOD))));
        ticking.wait()?;
        let late = late.join()?;
        hogs.wait()?;
        Ok(vec![("late", late)])
    }))
}

/// How much longer than a period the longest of the ticks took, in nanoseconds.
fn worst_tick(time: Duration, mut tick: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    while begun.elapsed() < time {
        let before = Instant::now();
        tick();
        worst = worst.max(before.elapsed().saturating_sub(PERIOD));
    }
    worst.as_secs_f64() * 1e9
}

/// When a task begins that is started while every worker has a hog.
pub(super) fn begin_beside_hogs(job: &Job) -> Result<Work> {
    let (runtime, time) = (runtime(job)?, hog_time(job)?);
    Ok(Work::once(move || begin(&runtime, time)))
}

fn begin(runtime: &Runtime, time: Duration) -> Result<Figures> {
    let mut hogs = hogs(runtime, time)?;
    let mut group = runtime.group();
    let started = Instant::now();
    let late = group.spawn(move || Ok(started.elapsed().as_secs_f64() * 1e9));
    let late = late.join()?;
    group.wait()?;
    hogs.wait()?;
    Ok(vec![("late", late)])
}
