//! Messages between tasks.

use std::time::Instant;

use multi_goro::{Group, OsThread, Receiver, Sender, chan, select};

use super::runtime;
use crate::Result;
use crate::job::{Job, Lap, Work};

pub(super) fn ping_pong(job: &Job) -> Result<Work> {
    let runtime = runtime(job)?;
    Ok(Work::lap(move |operations| {
        runtime.run(|| {
            let mut group = Group::new();
            round_trips(&mut group, operations)
        })
    }))
}

/// The client is the running task; the server is a task of `group`.
fn round_trips(group: &mut Group, operations: u64) -> Result<Lap> {
    let (ping, pings) = chan(0);
    let (pong, pongs) = chan(0);
    let started = Instant::now();
    group.go(move || Ok(pings.iter().try_for_each(|value| pong.send(value))?));
    for value in 0..operations {
        ping.send(value)?;
        assert_eq!(pongs.recv()?, value);
    }
    drop(ping);
    group.wait()?;
    Ok(Lap {
        operations,
        took: started.elapsed(),
    })
}

/// A server that is bound to an OS thread, and a client that has one of its own (`locked=1`) or none. The server is a locked task, an
/// [`OsThread`] that is asked to run closures (`bound=1`), or a task of the same `OsThread` as the client (`bound=2`).
pub(super) fn server(job: &Job) -> Result<Work> {
    let (runtime, locked) = (runtime(job)?, job.number("locked")? == 1);
    let bound = job.number("bound")?;
    let thread = OsThread::spawn("server")?;
    Ok(Work::lap(move |operations| {
        let bound_to = thread.clone();
        let client = move || match bound {
            0 => round_trips(&mut Group::locked(), operations),
            1 => requests(&bound_to, operations),
            _ => round_trips(&mut bound_to.group(), operations),
        };
        if bound == 2 {
            thread.run(client)
        } else if locked {
            let mut group = Group::locked();
            let lap = group.spawn(client);
            group.wait()?;
            Ok(lap.join()?)
        } else {
            runtime.run(client)
        }
    }))
}

fn requests(server: &OsThread, operations: u64) -> Result<Lap> {
    let started = Instant::now();
    for value in 0..operations {
        let answer = server.run(|| value + 1);
        assert_eq!(answer, value + 1);
    }
    Ok(Lap {
        operations,
        took: started.elapsed(),
    })
}

pub(super) fn stream(job: &Job) -> Result<Work> {
    let (runtime, pairs, capacity) = (runtime(job)?, job.number("pairs")?, job.count("cap")?);
    Ok(Work::lap(move |operations| {
        let each = operations.div_ceil(pairs);
        runtime.run(|| {
            let (sender, receiver) = chan(capacity);
            let mut group = Group::new();
            let started = Instant::now();
            for _ in 0..pairs {
                let (sender, receiver) = (sender.clone(), receiver.clone());
                group.go(move || Ok((0..each).try_for_each(|message| sender.send(message))?));
                group.go(move || {
                    for _ in 0..each {
                        receiver.recv()?;
                    }
                    Ok(())
                });
            }
            group.wait()?;
            Ok(Lap {
                operations: each * pairs,
                took: started.elapsed(),
            })
        })
    }))
}

/// One producer per channel; the running task takes from whichever has something.
pub(super) fn select(job: &Job) -> Result<Work> {
    let (runtime, cases) = (runtime(job)?, job.number("cases")?);
    let one = match cases {
        2 => select_2,
        4 => select_4,
        8 => select_8,
        _ => return Err(format!("no select with {cases} cases is written").into()),
    };
    Ok(Work::lap(move |operations| {
        let each = operations.div_ceil(cases);
        runtime.run(|| {
            let (senders, receivers): (Vec<Sender<u64>>, Vec<_>) =
                (0..cases).map(|_| chan(0)).unzip();
            let mut group = Group::new();
            let started = Instant::now();
            // The senders stay: a channel whose producer is done is silent, not closed.
            for sender in &senders {
                let sender = sender.clone();
                group.go(move || Ok((0..each).try_for_each(|message| sender.send(message))?));
            }
            for _ in 0..each * cases {
                one(&receivers)?;
            }
            group.wait()?;
            Ok(Lap {
                operations: each * cases,
                took: started.elapsed(),
            })
        })
    }))
}

fn select_2(from: &[Receiver<u64>]) -> Result<u64> {
    Ok(select! {
        recv(from[0]) -> message => message,
        recv(from[1]) -> message => message,
    }?)
}

fn select_4(from: &[Receiver<u64>]) -> Result<u64> {
    Ok(select! {
        recv(from[0]) -> message => message,
        recv(from[1]) -> message => message,
        recv(from[2]) -> message => message,
        recv(from[3]) -> message => message,
    }?)
}

fn select_8(from: &[Receiver<u64>]) -> Result<u64> {
    Ok(select! {
        recv(from[0]) -> message => message,
        recv(from[1]) -> message => message,
        recv(from[2]) -> message => message,
        recv(from[3]) -> message => message,
        recv(from[4]) -> message => message,
        recv(from[5]) -> message => message,
        recv(from[6]) -> message => message,
        recv(from[7]) -> message => message,
    }?)
}
