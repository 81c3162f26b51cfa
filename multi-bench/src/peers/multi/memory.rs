//! Very many tasks: what they take while they wait.

use std::time::Instant;

use multi_goro::{Group, OsThread, chan};

use super::{Roll, runtime};
use crate::Result;
use crate::job::{Job, Work};
use crate::peers::load::{PASSES, bytes_each, each, rss_bytes};

/// Stages joined by channels; one value goes through all of them.
pub(super) fn pipeline(job: &Job) -> Result<Work> {
    let (runtime, stages) = (runtime(job)?, job.number("stages")?);
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        runtime.run(|| {
            let (roll, all_here) = Roll::of(stages);
            let (first, mut from) = chan(0);
            let mut group = Group::new();
            let started = Instant::now();
            for _ in 0..stages {
                let (to, next) = chan(0);
                let (here, from) = (roll.clone(), std::mem::replace(&mut from, next));
                group.go(move || {
                    here.here();
                    Ok(from.iter().try_for_each(|value: u64| to.send(value + 1))?)
                });
            }
            all_here.recv()?;
            let create = each(started.elapsed(), stages);
            let bytes = bytes_each(before, stages)?;
            let started = Instant::now();
            for _ in 0..PASSES {
                first.send(0)?;
                assert_eq!(from.recv()?, stages);
            }
            let transit = each(started.elapsed(), PASSES * stages);
            drop(first);
            group.wait()?;
            Ok(vec![
                ("create", create),
                ("transit", transit),
                ("bytes", bytes),
            ])
        })
    }))
}

/// Tasks that have started and wait for one channel to close.
pub(super) fn parked(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        runtime.run(|| {
            let (roll, all_here) = Roll::of(tasks);
            let (gate, closed) = chan::<()>(0);
            let mut group = Group::new();
            let started = Instant::now();
            for _ in 0..tasks {
                let (here, closed) = (roll.clone(), closed.clone());
                group.go(move || {
                    here.here();
                    let _closed = closed.recv();
                    Ok(())
                });
            }
            all_here.recv()?;
            let create = each(started.elapsed(), tasks);
            let bytes = bytes_each(before, tasks)?;
            let started = Instant::now();
            drop(gate);
            group.wait()?;
            let finish = each(started.elapsed(), tasks);
            Ok(vec![
                ("create", create),
                ("finish", finish),
                ("bytes", bytes),
            ])
        })
    }))
}

/// Tasks that wait for the only thread that may run them, which is busy starting them. A worker would not do: where one is stuck for long,
/// a spare worker begins what waits for it.
pub(super) fn unstarted(job: &Job) -> Result<Work> {
    let (thread, tasks) = (OsThread::spawn("busy")?, job.number("tasks")?);
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        thread.run(|| {
            let mut group = thread.group();
            let started = Instant::now();
            for _ in 0..tasks {
                group.go(|| Ok(()));
            }
            let create = each(started.elapsed(), tasks);
            let bytes = bytes_each(before, tasks)?;
            let started = Instant::now();
            group.wait()?;
            let finish = each(started.elapsed(), tasks);
            Ok(vec![
                ("create", create),
                ("finish", finish),
                ("bytes", bytes),
            ])
        })
    }))
}
