//! May: stackful coroutines that move between its workers. Its channels have no bound.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use may::coroutine::{JoinHandle, sleep, yield_now};
use may::go;
use may::sync::{SyncFlag, mpsc};

use crate::Result;
use crate::job::{Figures, Job, Lap, Work};
use crate::peers::load::{
    PASSES, PERIOD, bytes_each, each, fib_calls, hog, lateness, nap, rss_bytes, skewed, spin,
};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    may::config().set_workers(job.count("workers")?);
    match &*job.workload {
        "yield" => yields(job.number("tasks")?),
        "start" => start(job.number("tasks")?),
        "start-from-thread" => Ok(Work::lap(|operations| Ok(started(1, operations)))),
        "pingpong" => Ok(ping_pong()),
        "pipeline" => pipeline(job.number("stages")?),
        "parked" => parked(job.number("tasks")?),
        "unstarted" => unstarted(job.number("tasks")?),
        "calls" => calls(job.number("n")?),
        "skew" => skew(job),
        "sweep" => sweep(job.number("tasks")?, job.number("units")?),
        "timers" => timers(job.number("tasks")?, job.number("rounds")?),
        "ticker" => ticker(job),
        "begin-beside-hogs" => begin(job),
        _ => job.unknown("may"),
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    go!(work)
}

/// Waits for a coroutine; a panic in it is one here.
fn end<T>(task: JoinHandle<T>) -> T {
    task.join().expect("the coroutine panicked")
}

/// Runs `work` in a coroutine.
fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    end(spawn(work))
}

/// Tells when so many coroutines have come to a place.
#[derive(Clone)]
struct Roll {
    missing: Arc<AtomicU64>,
    full: Arc<SyncFlag>,
}

impl Roll {
    fn of(count: u64) -> Self {
        Self {
            missing: Arc::new(AtomicU64::new(count)),
            full: Arc::new(SyncFlag::new()),
        }
    }

    fn here(self) {
        // AcqRel: the last one to come has seen what the others did before.
        if self.missing.fetch_sub(1, AcqRel) == 1 {
            self.full.fire();
        }
    }
}

fn yields(tasks: u64) -> Result<Work> {
    Ok(Work::lap(move |operations| {
        let each = operations.div_ceil(tasks);
        Ok(run(move || {
            let started = Instant::now();
            let yielding: Vec<_> = (0..tasks)
                .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
                .collect();
            yielding.into_iter().for_each(end);
            Lap {
                operations: each * tasks,
                took: started.elapsed(),
            }
        }))
    }))
}

fn start(tasks: u64) -> Result<Work> {
    Ok(Work::lap(move |operations| {
        Ok(run(move || started(tasks, operations)))
    }))
}

fn started(tasks: u64, operations: u64) -> Lap {
    let groups = (operations / tasks).max(1);
    let started = Instant::now();
    for _ in 0..groups {
        let tasks: Vec<_> = (0..tasks).map(|_| spawn(|| {})).collect();
        tasks.into_iter().for_each(end);
    }
    Lap {
        operations: groups * tasks,
        took: started.elapsed(),
    }
}

fn ping_pong() -> Work {
    Work::lap(move |operations| {
        run(move || {
            let (ping, pings) = mpsc::channel();
            let (pong, pongs) = mpsc::channel();
            let started = Instant::now();
            let server = spawn(move || pings.iter().try_for_each(|value| pong.send(value)).is_ok());
            for value in 0..operations {
                ping.send(value)?;
                if pongs.recv()? != value {
                    return Err("another value came back".into());
                }
            }
            drop(ping);
            end(server);
            Ok(Lap {
                operations,
                took: started.elapsed(),
            })
        })
    })
}

fn pipeline(stages: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        run(move || {
            let roll = Roll::of(stages);
            let (first, mut from) = mpsc::channel();
            let mut last = None;
            let started = Instant::now();
            for _ in 0..stages {
                let (to, next) = mpsc::channel();
                let (here, from) = (roll.clone(), std::mem::replace(&mut from, next));
                last = Some(spawn(move || {
                    here.here();
                    from.iter()
                        .try_for_each(|value: u64| to.send(value + 1))
                        .is_ok()
                }));
            }
            roll.full.wait();
            let create = each(started.elapsed(), stages);
            let bytes = bytes_each(before, stages)?;
            let started = Instant::now();
            for _ in 0..PASSES {
                first.send(0)?;
                if from.recv()? != stages {
                    return Err("a stage is missing".into());
                }
            }
            let transit = each(started.elapsed(), PASSES * stages);
            drop(first);
            last.map(end);
            Ok(vec![
                ("create", create),
                ("transit", transit),
                ("bytes", bytes),
            ])
        })
    }))
}

fn parked(tasks: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        run(move || {
            let roll = Roll::of(tasks);
            let gate = Arc::new(SyncFlag::new());
            let started = Instant::now();
            let waiting: Vec<_> = (0..tasks)
                .map(|_| {
                    let (here, gate) = (roll.clone(), Arc::clone(&gate));
                    spawn(move || {
                        here.here();
                        gate.wait();
                    })
                })
                .collect();
            roll.full.wait();
            let create = each(started.elapsed(), tasks);
            let bytes = bytes_each(before, tasks)?;
            let started = Instant::now();
            gate.fire();
            waiting.into_iter().for_each(end);
            let finish = each(started.elapsed(), tasks);
            Ok(vec![
                ("create", create),
                ("finish", finish),
                ("bytes", bytes),
            ])
        })
    }))
}

fn unstarted(tasks: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        run(move || {
            let started = Instant::now();
            let waiting: Vec<_> = (0..tasks).map(|_| spawn(|| {})).collect();
            let create = each(started.elapsed(), tasks);
            let bytes = bytes_each(before, tasks)?;
            let started = Instant::now();
            waiting.into_iter().for_each(end);
            let finish = each(started.elapsed(), tasks);
            Ok(vec![
                ("create", create),
                ("finish", finish),
                ("bytes", bytes),
            ])
        })
    }))
}

fn calls(n: u64) -> Result<Work> {
    Ok(Work::lap(move |_| {
        Ok(run(move || {
            let started = Instant::now();
            fib(n);
            Lap {
                operations: fib_calls(n),
                took: started.elapsed(),
            }
        }))
    }))
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let one = spawn(move || fib(n - 1));
    let two = fib(n - 2);
    end(one) + two
}

fn skew(job: &Job) -> Result<Work> {
    let (workers, tasks) = (job.number("workers")?, job.number("tasks")?);
    let units = job.number("units")?;
    Ok(Work::once(move || {
        let started = Instant::now();
        for task in 0..tasks {
            spin(skewed(task, tasks, units));
        }
        let ideal = each(started.elapsed(), workers);
        let took = computed((0..tasks).map(|task| skewed(task, tasks, units)).collect());
        Ok(vec![("ideal", took / ideal)])
    }))
}

fn sweep(tasks: u64, units: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let took = computed((0..tasks).map(|_| units / tasks).collect());
        Ok(vec![("total", took)])
    }))
}

/// What a coroutine for each of these amounts of work takes, in nanoseconds.
fn computed(amounts: Vec<u64>) -> f64 {
    run(move || {
        let started = Instant::now();
        let tasks: Vec<_> = amounts
            .into_iter()
            .map(|units| spawn(move || spin(units)))
            .collect();
        for task in tasks {
            end(task);
        }
        each(started.elapsed(), 1)
    })
}

fn timers(tasks: u64, rounds: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let sleepers: Vec<_> = (0..tasks)
            .map(|task| {
                spawn(move || {
                    let late = (0..rounds).map(|round| {
                        let nap = nap(task, round);
                        let asleep = Instant::now();
                        sleep(nap);
                        asleep.elapsed().saturating_sub(nap)
                    });
                    late.collect::<Vec<_>>()
                })
            })
            .collect();
        Ok(lateness(sleepers.into_iter().flat_map(end).collect()))
    }))
}

/// Coroutines on every worker that never let go; returns when all of them do.
fn hogs(job: &Job) -> Result<impl Fn() -> Vec<JoinHandle<()>> + use<>> {
    let (workers, time) = (job.number("workers")?, hog_time(job)?);
    Ok(move || {
        let roll = Roll::of(workers);
        let hogs = (0..workers).map(|_| {
            let here = roll.clone();
            spawn(move || {
                here.here();
                hog(time);
            })
        });
        let hogs = hogs.collect();
        roll.full.wait();
        hogs
    })
}

fn hog_time(job: &Job) -> Result<Duration> {
    Ok(Duration::from_millis(job.number("hog_ms")?))
}

fn ticker(job: &Job) -> Result<Work> {
    let (hogs, time) = (hogs(job)?, hog_time(job)?);
    Ok(Work::once(move || {
        let ready = Arc::new(SyncFlag::new());
        let begun = Arc::clone(&ready);
        let ticking = spawn(move || {
            begun.fire();
            let begun = Instant::now();
            let mut worst = Duration::ZERO;
            while begun.elapsed() < time {
                let before = Instant::now();
                sleep(PERIOD);
                worst = worst.max(before.elapsed().saturating_sub(PERIOD));
            }
            worst
        });
        ready.wait();
        let hogs = hogs();
        let worst = end(ticking);
        hogs.into_iter().for_each(end);
        Ok(vec![("late", each(worst, 1))])
    }))
}

fn begin(job: &Job) -> Result<Work> {
    let hogs = hogs(job)?;
    Ok(Work::once(move || -> Result<Figures> {
        let hogs = hogs();
        let started = Instant::now();
        let late = run(move || started.elapsed());
        hogs.into_iter().for_each(end);
        Ok(vec![("late", each(late, 1))])
    }))
}
