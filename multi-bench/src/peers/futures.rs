//! Runtimes of futures: the work is written once here, and each runtime says what a task, a channel, a pause are to it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use crate::Result;
use crate::job::{Job, Lap, Work};
use crate::peers::load::{
    PASSES, PERIOD, bytes_each, each, fib_calls, hog, lateness, nap, rss_bytes, skewed, spin,
    threads,
};

/// What a runtime of futures has.
pub(crate) trait Runtime: Sized + Sync + 'static {
    const NAME: &'static str;
    /// A task, awaited.
    type Task<T: Send + 'static>: Future<Output = T> + Send;
    type Sender: Clone + Send + 'static;
    type Receiver: Send + 'static;
    /// Many tasks wait at it until it opens.
    type Gate: Clone + Send + 'static;

    fn new(workers: usize) -> Result<Self>;
    /// Runs a future as a task.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T;
    /// Starts a task, from a task.
    fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Self::Task<T>;
    /// Lets a task run on with nobody waiting for it.
    fn detach(task: Self::Task<()>);
    fn yield_now() -> impl Future<Output = ()> + Send;
    fn sleep(pause: Duration) -> impl Future<Output = ()> + Send;
    fn blocking(call: impl FnOnce() + Send + 'static) -> impl Future<Output = ()> + Send;
    /// The smallest capacity that there is stands in for 0.
    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver);
    /// Another receiver of the same channel, if it can have several.
    fn share(receiver: &Self::Receiver) -> Option<Self::Receiver>;
    fn send(to: &Self::Sender, value: u64) -> impl Future<Output = bool> + Send;
    fn recv(from: &mut Self::Receiver) -> impl Future<Output = Option<u64>> + Send;
    /// A value from whichever of the channels has one; none if no such selection is written.
    fn select(from: &mut [Self::Receiver]) -> impl Future<Output = Option<u64>> + Send;
    fn gate() -> Self::Gate;
    fn pass(gate: &Self::Gate) -> impl Future<Output = ()> + Send;
    fn open(gate: &Self::Gate);
}

pub(crate) fn perform<R: Runtime>(job: &Job) -> Result<Work> {
    let runtime = R::new(job.count("workers")?)?;
    match &*job.workload {
        "yield" => yields(runtime, job.number("tasks")?),
        "start" => start(runtime, job.number("tasks")?),
        "start-from-thread" => Ok(start_from_thread(runtime)),
        "pingpong" => Ok(ping_pong(runtime)),
        "stream" => stream(runtime, job),
        "select" => select(runtime, job.number("cases")?),
        "pipeline" => pipeline(runtime, job.number("stages")?),
        "parked" => parked(runtime, job.number("tasks")?),
        "unstarted" => unstarted(runtime, job.number("tasks")?),
        "calls" => calls(runtime, job.number("n")?),
        "skew" => skew(runtime, job),
        "sweep" => sweep(runtime, job.number("tasks")?, job.number("units")?),
        "blocking" => blocking(runtime, job),
        "timers" => timers(runtime, job.number("tasks")?, job.number("rounds")?),
        "ticker" => ticker(runtime, job),
        "begin-beside-hogs" => begin(runtime, job),
        _ => job.unknown(R::NAME),
    }
}

async fn all<R: Runtime, T: Send + 'static>(tasks: Vec<R::Task<T>>) {
    for task in tasks {
        task.await;
    }
}

/// Opens a gate when so many tasks have come to a place.
struct Roll<R: Runtime> {
    missing: Arc<AtomicU64>,
    full: R::Gate,
}

impl<R: Runtime> Roll<R> {
    fn of(count: u64) -> Self {
        Self {
            missing: Arc::new(AtomicU64::new(count)),
            full: R::gate(),
        }
    }

    fn another(&self) -> Self {
        Self {
            missing: Arc::clone(&self.missing),
            full: self.full.clone(),
        }
    }

    fn here(self) {
        // AcqRel: the last one to come has seen what the others did before.
        if self.missing.fetch_sub(1, AcqRel) == 1 {
            R::open(&self.full);
        }
    }
}

fn yields<R: Runtime>(runtime: R, tasks: u64) -> Result<Work> {
    Ok(Work::lap(move |operations| {
        let each = operations.div_ceil(tasks);
        Ok(runtime.run(async move {
            let started = Instant::now();
            let yielding = (0..tasks).map(|_| {
                R::spawn(async move {
                    for _ in 0..each {
                        R::yield_now().await;
                    }
                })
            });
            all::<R, _>(yielding.collect()).await;
            Lap {
                operations: each * tasks,
                took: started.elapsed(),
            }
        }))
    }))
}

fn start<R: Runtime>(runtime: R, tasks: u64) -> Result<Work> {
    Ok(Work::lap(move |operations| {
        let groups = (operations / tasks).max(1);
        Ok(runtime.run(async move {
            let started = Instant::now();
            for _ in 0..groups {
                if tasks == 1 {
                    R::spawn(async {}).await;
                } else {
                    all::<R, _>((0..tasks).map(|_| R::spawn(async {})).collect()).await;
                }
            }
            Lap {
                operations: groups * tasks,
                took: started.elapsed(),
            }
        }))
    }))
}

fn start_from_thread<R: Runtime>(runtime: R) -> Work {
    Work::lap(move |operations| {
        let started = Instant::now();
        for _ in 0..operations {
            runtime.run(async {});
        }
        Ok(Lap {
            operations,
            took: started.elapsed(),
        })
    })
}

fn ping_pong<R: Runtime>(runtime: R) -> Work {
    Work::lap(move |operations| {
        runtime.run(async move {
            let (ping, mut pings) = R::channel(0);
            let (pong, mut pongs) = R::channel(0);
            let started = Instant::now();
            let server = R::spawn(async move {
                while let Some(value) = R::recv(&mut pings).await {
                    if !R::send(&pong, value).await {
                        break;
                    }
                }
            });
            for value in 0..operations {
                R::send(&ping, value).await;
                if R::recv(&mut pongs).await != Some(value) {
                    return Err("another value came back".into());
                }
            }
            drop(ping);
            server.await;
            Ok(Lap {
                operations,
                took: started.elapsed(),
            })
        })
    })
}

fn stream<R: Runtime>(runtime: R, job: &Job) -> Result<Work> {
    let (pairs, capacity) = (job.number("pairs")?, job.count("cap")?);
    if pairs > 1 && R::share(&R::channel(1).1).is_none() {
        return Err(format!("{} has channels for one receiver only", R::NAME).into());
    }
    Ok(Work::lap(move |operations| {
        let messages = operations.div_ceil(pairs);
        Ok(runtime.run(async move {
            let (sender, receiver) = R::channel(capacity);
            let mut receivers: Vec<_> = (1..pairs).filter_map(|_| R::share(&receiver)).collect();
            receivers.push(receiver);
            let mut tasks = Vec::new();
            let started = Instant::now();
            for mut receiver in receivers {
                let sender = sender.clone();
                tasks.push(R::spawn(async move {
                    for message in 0..messages {
                        R::send(&sender, message).await;
                    }
                }));
                tasks.push(R::spawn(async move {
                    for _ in 0..messages {
                        R::recv(&mut receiver).await;
                    }
                }));
            }
            all::<R, _>(tasks).await;
            Lap {
                operations: messages * pairs,
                took: started.elapsed(),
            }
        }))
    }))
}

fn select<R: Runtime>(runtime: R, cases: u64) -> Result<Work> {
    Ok(Work::lap(move |operations| {
        let messages = operations.div_ceil(cases);
        runtime.run(async move {
            let (senders, mut receivers): (Vec<_>, Vec<_>) =
                (0..cases).map(|_| R::channel(0)).unzip();
            let started = Instant::now();
            // The senders stay: a channel whose producer is done is silent, not closed.
            let producers = senders.iter().cloned().map(|sender| {
                R::spawn(async move {
                    for message in 0..messages {
                        R::send(&sender, message).await;
                    }
                })
            });
            let producers = producers.collect();
            for _ in 0..messages * cases {
                if R::select(&mut receivers).await.is_none() {
                    return Err(format!("no selection is written for {}", R::NAME).into());
                }
            }
            all::<R, _>(producers).await;
            Ok(Lap {
                operations: messages * cases,
                took: started.elapsed(),
            })
        })
    }))
}

fn pipeline<R: Runtime>(runtime: R, stages: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        runtime.run(async move {
            let roll = Roll::<R>::of(stages);
            let (first, mut from) = R::channel(0);
            let mut last = None;
            let started = Instant::now();
            for _ in 0..stages {
                let (to, next) = R::channel(0);
                let (here, mut from) = (roll.another(), std::mem::replace(&mut from, next));
                let stage = R::spawn(async move {
                    here.here();
                    while let Some(value) = R::recv(&mut from).await {
                        R::send(&to, value + 1).await;
                    }
                });
                if let Some(before) = last.replace(stage) {
                    R::detach(before);
                }
            }
            R::pass(&roll.full).await;
            let create = each(started.elapsed(), stages);
            let bytes = bytes_each(before, stages)?;
            let started = Instant::now();
            for _ in 0..PASSES {
                R::send(&first, 0).await;
                if R::recv(&mut from).await != Some(stages) {
                    return Err("a stage is missing".into());
                }
            }
            let transit = each(started.elapsed(), PASSES * stages);
            drop(first);
            if let Some(last) = last {
                last.await;
            }
            Ok(vec![
                ("create", create),
                ("transit", transit),
                ("bytes", bytes),
            ])
        })
    }))
}

fn parked<R: Runtime>(runtime: R, tasks: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        runtime.run(async move {
            let roll = Roll::<R>::of(tasks);
            let gate = R::gate();
            let mut waiting = Vec::new();
            let started = Instant::now();
            for _ in 0..tasks {
                let (here, gate) = (roll.another(), gate.clone());
                waiting.push(R::spawn(async move {
                    here.here();
                    R::pass(&gate).await;
                }));
            }
            R::pass(&roll.full).await;
            let create = each(started.elapsed(), tasks);
            let bytes = bytes_each(before, tasks)?;
            let started = Instant::now();
            R::open(&gate);
            all::<R, _>(waiting).await;
            let finish = each(started.elapsed(), tasks);
            Ok(vec![
                ("create", create),
                ("finish", finish),
                ("bytes", bytes),
            ])
        })
    }))
}

fn unstarted<R: Runtime>(runtime: R, tasks: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        runtime.run(async move {
            let started = Instant::now();
            let waiting: Vec<_> = (0..tasks).map(|_| R::spawn(async {})).collect();
            let create = each(started.elapsed(), tasks);
            let bytes = bytes_each(before, tasks)?;
            let started = Instant::now();
            all::<R, _>(waiting).await;
            let finish = each(started.elapsed(), tasks);
            Ok(vec![
                ("create", create),
                ("finish", finish),
                ("bytes", bytes),
            ])
        })
    }))
}

fn calls<R: Runtime>(runtime: R, n: u64) -> Result<Work> {
    Ok(Work::lap(move |_| {
        Ok(runtime.run(async move {
            let started = Instant::now();
            fib::<R>(n).await;
            Lap {
                operations: fib_calls(n),
                took: started.elapsed(),
            }
        }))
    }))
}

fn fib<R: Runtime>(n: u64) -> std::pin::Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let one = R::spawn(fib::<R>(n - 1));
        let two = fib::<R>(n - 2).await;
        one.await + two
    })
}

fn skew<R: Runtime>(runtime: R, job: &Job) -> Result<Work> {
    let (workers, tasks) = (job.number("workers")?, job.number("tasks")?);
    let units = job.number("units")?;
    Ok(Work::once(move || {
        let started = Instant::now();
        for task in 0..tasks {
            spin(skewed(task, tasks, units));
        }
        let ideal = each(started.elapsed(), workers);
        let took = runtime.run(async move {
            let started = Instant::now();
            let spawn = |task| R::spawn(async move { spin(skewed(task, tasks, units)) });
            all::<R, _>((0..tasks).map(spawn).collect()).await;
            started.elapsed()
        });
        Ok(vec![("ideal", each(took, 1) / ideal)])
    }))
}

fn sweep<R: Runtime>(runtime: R, tasks: u64, units: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let took = runtime.run(async move {
            let started = Instant::now();
            let spawn = |_| R::spawn(async move { spin(units / tasks) });
            all::<R, _>((0..tasks).map(spawn).collect()).await;
            started.elapsed()
        });
        Ok(vec![("total", each(took, 1))])
    }))
}

fn blocking<R: Runtime>(runtime: R, job: &Job) -> Result<Work> {
    let tasks = job.number("tasks")?;
    let pause = Duration::from_millis(job.number("pause_ms")?);
    Ok(Work::once(move || {
        let took = runtime.run(async move {
            let started = Instant::now();
            let spawn =
                |_| R::spawn(async move { R::blocking(move || std::thread::sleep(pause)).await });
            all::<R, _>((0..tasks).map(spawn).collect()).await;
            started.elapsed()
        });
        Ok(vec![
            ("total", each(took, 1)),
            ("threads", threads()? as f64),
        ])
    }))
}

fn timers<R: Runtime>(runtime: R, tasks: u64, rounds: u64) -> Result<Work> {
    Ok(Work::once(move || {
        let late = runtime.run(async move {
            let sleepers: Vec<_> = (0..tasks)
                .map(|task| {
                    R::spawn(async move {
                        let mut late = Vec::new();
                        for round in 0..rounds {
                            let nap = nap(task, round);
                            let asleep = Instant::now();
                            R::sleep(nap).await;
                            late.push(asleep.elapsed().saturating_sub(nap));
                        }
                        late
                    })
                })
                .collect();
            let mut late = Vec::new();
            for sleeper in sleepers {
                late.extend(sleeper.await);
            }
            late
        });
        Ok(lateness(late))
    }))
}

/// Tasks on every worker that never let go; returns when all of them do.
async fn hogs<R: Runtime>(workers: u64, time: Duration) -> Vec<R::Task<()>> {
    let roll = Roll::<R>::of(workers);
    let hogs = (0..workers)
        .map(|_| {
            let here = roll.another();
            R::spawn(async move {
                here.here();
                hog(time);
            })
        })
        .collect();
    R::pass(&roll.full).await;
    hogs
}

fn ticker<R: Runtime>(runtime: R, job: &Job) -> Result<Work> {
    let (workers, time) = (
        job.number("workers")?,
        Duration::from_millis(job.number("hog_ms")?),
    );
    Ok(Work::once(move || {
        let worst = runtime.run(async move {
            let ready = R::gate();
            let begun = ready.clone();
            let ticking = R::spawn(async move {
                R::open(&begun);
                let begun = Instant::now();
                let mut worst = Duration::ZERO;
                while begun.elapsed() < time {
                    let before = Instant::now();
                    R::sleep(PERIOD).await;
                    worst = worst.max(before.elapsed().saturating_sub(PERIOD));
                }
                worst
            });
            R::pass(&ready).await;
            let hogs = hogs::<R>(workers, time).await;
            let worst = ticking.await;
            all::<R, _>(hogs).await;
            worst
        });
        Ok(vec![("late", each(worst, 1))])
    }))
}

fn begin<R: Runtime>(runtime: R, job: &Job) -> Result<Work> {
    let (workers, time) = (
        job.number("workers")?,
        Duration::from_millis(job.number("hog_ms")?),
    );
    Ok(Work::once(move || {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let (runtime, tell) = (&runtime, tell.clone());
                let hog = async move {
                    let _nobody_waits = tell.send(());
                    hog(time);
                };
                scope.spawn(move || runtime.run(hog));
            }
            for _ in 0..workers {
                told.recv()?;
            }
            let started = Instant::now();
            let late = runtime.run(async move { started.elapsed() });
            Ok(vec![("late", each(late, 1))])
        })
    }))
}
