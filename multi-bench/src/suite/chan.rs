//! Channels: 8-byte messages through a buffer, one and two at each end, and the round trip of one message without a buffer.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use multi_core::Group;
use multi_goro::Runtime;

use crate::Result;
use crate::forked;
use crate::machine::Machine;
use crate::report::{Report, Row, Table, Unit};
use crate::sample::{Entry, Rounds, take_turns};
use crate::suite::{notes, progress_bar};

/// The end of a channel that messages go in at.
pub(crate) trait Put: Clone + Send + 'static {
    fn put(&self, message: u64) -> Result;
}

/// The end of a channel that messages come out of.
pub(crate) trait Take: Clone + Send + 'static {
    fn take(&self) -> Result<u64>;
}

/// How many put, how many take, and how many messages each of them handles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pairs: u64,
    messages: u64,
}

impl Shape {
    fn total(self) -> u64 {
        self.pairs * self.messages
    }
}

const GORO: &str = "multi_goro::chan, green tasks";
const GORO_ONE: &str = "multi_goro::chan, green tasks of one worker";
const SHARED_THREADS: &str = "multi_chan, threads";
const SHARED_PROCESSES: &str = "multi_chan, processes";
const STD: &str = "std::sync::mpsc, threads";
const CAPACITIES: [usize; 2] = [64, 1024];

/// Runs every contender and reports.
///
/// # Errors
///
/// That of a contender that lost or reordered a message.
pub fn run(quick: bool) -> Result<Report> {
    let machine = Machine::here();
    // Starting the tasks is part of a sample; with this many messages a fork is under 1 % of it.
    let (messages, trips) = if quick {
        (2_000, 200)
    } else {
        (400_000, 20_000)
    };
    let budget = Duration::from_secs(if quick { 1 } else { 6 });
    let rounds = Rounds::Within {
        budget,
        at_least: 3,
        at_most: 50,
    };
    let one_worker = Runtime::builder().workers(1).build()?;
    let bar = progress_bar();
    let mut tables = Vec::new();
    let mut measure = |title: String, mut entries: Vec<Entry<'_>>| -> Result {
        let stats = take_turns(&mut entries, rounds, &bar)?;
        let rows = entries
            .iter()
            .zip(stats)
            .map(|(entry, stats)| Row::new(entry.name.clone(), entry.ours, stats));
        let mut table = Table::new(title, Unit::Ns, rows.collect());
        table.compare(STD, "std", |row| row.ours);
        tables.push(table);
        Ok(())
    };
    for pairs in [1, 2] {
        for capacity in CAPACITIES {
            let shape = Shape {
                pairs,
                messages: messages / pairs,
            };
            let title = format!(
                "one message of 8 B, {pairs} putting and {pairs} taking, capacity {capacity}"
            );
            measure(title, streams(&one_worker, shape, capacity))?;
        }
    }
    measure(
        "one round trip through two channels of capacity 0".to_owned(),
        round_trips(&one_worker, trips),
    )?;
    bar.finish_and_clear();
    Ok(Report {
        benchmark: "chan",
        command: "cargo xtask bench chan".to_owned() + if quick { " --quick" } else { "" },
        machine,
        settings: vec![
            ("messages per sample", messages),
            ("round trips per sample", trips),
        ],
        tables,
        sheets: vec![],
        failures: vec![],
        notes: notes(
            quick,
            "a sample starts the tasks, too: threads, processes or green tasks",
        )?,
    })
}

fn streams<'a>(one_worker: &'a Runtime, shape: Shape, capacity: usize) -> Vec<Entry<'a>> {
    let total = shape.total();
    vec![
        Entry::timed(GORO, true, total, move || {
            stream(&mut multi_goro::Group::new(), goro_channel(capacity), shape)
        }),
        Entry::timed(GORO_ONE, true, total, move || {
            stream(&mut one_worker.group(), goro_channel(capacity), shape)
        }),
        Entry::timed(SHARED_THREADS, true, total, move || {
            stream(
                &mut multi_pthread::Group::new(),
                shared_channel(capacity)?,
                shape,
            )
        }),
        Entry::timed(SHARED_PROCESSES, true, total, move || {
            forked::stream_messages(capacity, shape)
        }),
        Entry::timed(STD, false, total, move || {
            stream(
                &mut multi_pthread::Group::new(),
                std_channel(capacity),
                shape,
            )
        }),
    ]
}

fn round_trips<'a>(one_worker: &'a Runtime, trips: u64) -> Vec<Entry<'a>> {
    vec![
        Entry::timed(GORO, true, trips, move || {
            round_trip(
                &mut multi_goro::Group::new(),
                goro_channel(0),
                goro_channel(0),
                trips,
            )
        }),
        Entry::timed(GORO_ONE, true, trips, move || {
            round_trip(
                &mut one_worker.group(),
                goro_channel(0),
                goro_channel(0),
                trips,
            )
        }),
        Entry::timed(SHARED_THREADS, true, trips, move || {
            round_trip(
                &mut multi_pthread::Group::new(),
                shared_channel(0)?,
                shared_channel(0)?,
                trips,
            )
        }),
        Entry::timed(SHARED_PROCESSES, true, trips, move || {
            forked::round_trips(trips)
        }),
        Entry::timed(STD, false, trips, move || {
            round_trip(
                &mut multi_pthread::Group::new(),
                std_channel(0),
                std_channel(0),
                trips,
            )
        }),
    ]
}

/// Sends `shape.messages` from each of `shape.pairs` tasks to as many others. Each taker checks that what one putter sent arrives in
/// the order in which it was sent.
pub(crate) fn stream(
    group: &mut impl Group,
    (put, take): (impl Put, impl Take),
    shape: Shape,
) -> Result<Duration> {
    let started = Instant::now();
    for pair in 0..shape.pairs {
        let (put, take) = (put.clone(), take.clone());
        group.go(move || {
            (0..shape.messages).try_for_each(|message| put.put(message * shape.pairs + pair))
        });
        group.go(move || in_order(&take, shape));
    }
    drop((put, take));
    group.wait()?;
    Ok(started.elapsed())
}

fn in_order(take: &impl Take, shape: Shape) -> Result {
    // The next message of each putter that would be in order; with two takers some go to the other one.
    let mut next = [0; 2];
    for _ in 0..shape.messages {
        let message = take.take()?;
        let (putter, number) = ((message % shape.pairs) as usize, message / shape.pairs);
        if number < next[putter] || (shape.pairs == 1 && number > next[putter]) {
            return Err(format!(
                "message {number} of putter {putter} came when {} was next",
                next[putter]
            )
            .into());
        }
        next[putter] = number + 1;
    }
    Ok(())
}

/// Sends one message to and fro between two tasks.
pub(crate) fn round_trip(
    group: &mut impl Group,
    ping: (impl Put, impl Take),
    pong: (impl Put, impl Take),
    trips: u64,
) -> Result<Duration> {
    let ((put_ping, take_ping), (put_pong, take_pong)) = (ping, pong);
    let started = Instant::now();
    group.go(move || {
        for trip in 0..trips {
            put_ping.put(trip)?;
            let back = take_pong.take()?;
            if back != trip {
                return Err(format!("{back} came back, {trip} went out").into());
            }
        }
        Ok(())
    });
    group.go(move || (0..trips).try_for_each(|_| put_pong.put(take_ping.take()?)));
    group.wait()?;
    Ok(started.elapsed())
}

pub(super) fn goro_channel(
    capacity: usize,
) -> (multi_goro::Sender<u64>, multi_goro::Receiver<u64>) {
    multi_goro::chan(capacity)
}

/// A channel in shared memory, for threads and processes.
pub(crate) fn shared_channel(
    capacity: usize,
) -> Result<(multi_chan::Sender<u64>, multi_chan::Receiver<u64>)> {
    Ok(multi_chan::channel(capacity)?)
}

/// The standard library's channel; its receiver cannot be cloned, so several takers share it behind a lock.
pub(super) fn std_channel(capacity: usize) -> (SyncSender<u64>, Arc<Mutex<Receiver<u64>>>) {
    let (sender, receiver) = sync_channel(capacity);
    (sender, Arc::new(Mutex::new(receiver)))
}

impl Put for SyncSender<u64> {
    fn put(&self, message: u64) -> Result {
        Ok(self.send(message)?)
    }
}

impl Take for Arc<Mutex<Receiver<u64>>> {
    fn take(&self) -> Result<u64> {
        Ok(self.lock().map_err(|_| "another taker panicked")?.recv()?)
    }
}

impl Put for multi_goro::Sender<u64> {
    fn put(&self, message: u64) -> Result {
        Ok(self.send(message)?)
    }
}

impl Take for multi_goro::Receiver<u64> {
    fn take(&self) -> Result<u64> {
        Ok(self.recv()?)
    }
}

impl Put for multi_chan::Sender<u64> {
    fn put(&self, message: u64) -> Result {
        Ok(self.send(message)?)
    }
}

impl Take for multi_chan::Receiver<u64> {
    fn take(&self) -> Result<u64> {
        Ok(self.recv()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel that repeats its first message for ever.
    #[derive(Clone)]
    struct Stuck;

    impl Take for Stuck {
        fn take(&self) -> Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn a_repeated_message_is_noticed() {
        let error = in_order(
            &Stuck,
            Shape {
                pairs: 1,
                messages: 2,
            },
        )
        .expect_err("0 came twice");
        assert_eq!(
            error.to_string(),
            "message 0 of putter 0 came when 1 was next"
        );
    }
}
