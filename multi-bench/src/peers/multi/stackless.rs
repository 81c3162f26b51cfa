//! Tasks of multi-goro that are futures and have no stack while they wait.

use std::time::Instant;

use multi_goro::{Group, chan};

use super::{Roll, runtime};
use crate::Result;
use crate::job::{Job, Work};
use crate::peers::load::{PASSES, bytes_each, each, rss_bytes};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    match &*job.workload {
        "pipeline" => pipeline(job),
        "parked" => parked(job),
        _ => job.unknown("multi stackless"),
    }
}

fn pipeline(job: &Job) -> Result<Work> {
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
                group.go_async(async move {
                    here.here();
                    while let Ok(value) = from.recv_async().await {
                        to.send_async(value + 1).await?;
                    }
                    Ok(())
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

fn parked(job: &Job) -> Result<Work> {
    let (runtime, tasks) = (runtime(job)?, job.number("tasks")?);
    Ok(Work::once(move || {
        let before = rss_bytes()?;
        runtime.run(|| {
            let (roll, all_here) = Roll::of(tasks);
            let (gate, closed) = chan::<()>(0);
            let mut group = Group::new();
            let started = Instant::now();
            for _ in 0..tasks {
                let (here, closed) = (roll.clone(), closed.when_recv());
                group.go_async(async move {
                    here.here();
                    let _closed = closed.await;
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
