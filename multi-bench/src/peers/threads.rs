//! The standard library: a thread per task, and its channels.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::Result;
use crate::job::{Job, Lap, Work};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    match &*job.workload {
        "start" | "start-from-thread" | "start-locked" => start(job),
        "pingpong" => Ok(Work::lap(ping_pong)),
        "stream" => stream(job),
        _ => job.unknown("std"),
    }
}

fn start(job: &Job) -> Result<Work> {
    let tasks = job.number("tasks")?;
    Ok(Work::lap(move |operations| {
        let groups = (operations / tasks).max(1);
        let started = Instant::now();
        for _ in 0..groups {
            thread::scope(|scope| {
                for _ in 0..tasks {
                    scope.spawn(|| {});
                }
            });
        }
        Ok(Lap {
            operations: groups * tasks,
            took: started.elapsed(),
        })
    }))
}

fn ping_pong(operations: u64) -> Result<Lap> {
    let (ping, pings) = sync_channel(0);
    let (pong, pongs) = sync_channel(0);
    let started = Instant::now();
    let server = thread::spawn(move || {
        while let Ok(value) = pings.recv() {
            if pong.send(value).is_err() {
                break;
            }
        }
    });
    for value in 0..operations {
        ping.send(value)?;
        assert_eq!(pongs.recv()?, value);
    }
    drop(ping);
    server.join().map_err(|_| "the server panicked")?;
    Ok(Lap {
        operations,
        took: started.elapsed(),
    })
}

/// The receiver cannot be cloned, so several share it behind a lock.
fn stream(job: &Job) -> Result<Work> {
    let (pairs, capacity) = (job.number("pairs")?, job.count("cap")?);
    Ok(Work::lap(move |operations| {
        let each = operations.div_ceil(pairs);
        let (sender, receiver) = sync_channel(capacity);
        let receiver = Arc::new(Mutex::new(receiver));
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..pairs {
                let (sender, receiver) = (sender.clone(), Arc::clone(&receiver));
                scope.spawn(move || (0..each).try_for_each(|message| sender.send(message)));
                scope.spawn(move || {
                    for _ in 0..each {
                        let _message = receiver.lock().expect("nobody panics").recv();
                    }
                });
            }
        });
        Ok(Lap {
            operations: each * pairs,
            took: started.elapsed(),
        })
    }))
}
