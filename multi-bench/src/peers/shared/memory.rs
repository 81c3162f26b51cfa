//! What moving bytes costs where nobody has to wait: one thread, and as many buffers as a channel has slots.

use std::hint::black_box;
use std::time::Instant;

use super::{Shape, read, write};
use crate::Result;
use crate::job::{Job, Lap, Work};

/// The bytes of a message copied once.
pub(crate) fn copy(job: &Job) -> Result<Work> {
    let mut copy = Vec::new();
    each(job, move |message, number| {
        copy.resize(message.len(), 0);
        copy.copy_from_slice(black_box(message));
        black_box(&mut copy);
        Ok(number)
    })
}

/// The bytes of a message written once and read once, as by a sender and a receiver without a channel.
pub(crate) fn write_and_read(job: &Job) -> Result<Work> {
    each(job, |message, number| {
        write(message, black_box(number));
        read(black_box(message))
    })
}

fn each(job: &Job, mut work: impl FnMut(&mut [u64], u64) -> Result<u64> + 'static) -> Result<Work> {
    if job.workload != "stream" {
        return job.unknown("memory");
    }
    let shape = Shape::of(job)?;
    let mut slots = vec![vec![1; shape.words()]; shape.slots];
    Ok(Work::lap(move |messages| {
        let started = Instant::now();
        let mut number = 0;
        while number < messages {
            for slot in &mut slots {
                let same = work(slot, number)?;
                debug_assert_eq!(same, number);
                number += 1;
            }
        }
        Ok(Lap {
            operations: number,
            took: started.elapsed(),
        })
    }))
}
