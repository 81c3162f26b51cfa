//! What runs in forked processes, with the promise that forking asks for beside each.
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use std::time::Duration;

use crate::Result;
use crate::suite::chan::{Shape, round_trip, shared_channel, stream};
use crate::workload::Work;

/// Does the work in a group of processes.
pub(crate) fn sum(work: Work) -> Result {
    // SAFETY: the tasks add up numbers: they take no lock that another thread could hold, and share no memory with this process.
    work.in_group(unsafe { multi_proc::Group::new() })
}

/// A group that runs empty tasks and no others.
#[derive(Debug)]
pub(crate) struct EmptyTasks(multi_proc::Group);

impl EmptyTasks {
    pub(crate) fn new() -> Self {
        // SAFETY: the group's only tasks are those of `one`, which do nothing.
        Self(unsafe { multi_proc::Group::new() })
    }

    /// Starts one empty task and waits for it.
    pub(crate) fn one(&mut self) -> Result {
        self.0.go(|| Ok(()));
        self.0.wait()?;
        Ok(())
    }
}

/// Sends messages between processes.
pub(crate) fn stream_messages(capacity: usize, shape: Shape) -> Result<Duration> {
    // SAFETY: the tasks use one channel of multi-chan, made to be used on both sides of a fork, and nothing else.
    let mut group = unsafe { multi_proc::Group::new() };
    stream(&mut group, shared_channel(capacity)?, shape)
}

/// Sends one message to and fro between two processes.
pub(crate) fn round_trips(trips: u64) -> Result<Duration> {
    // SAFETY: the tasks use two channels of multi-chan, made to be used on both sides of a fork, and nothing else.
    let mut group = unsafe { multi_proc::Group::new() };
    round_trip(&mut group, shared_channel(0)?, shared_channel(0)?, trips)
}
