//! shmem-ipc: a ring in a memfd for one sender and one receiver, with eventfds to sleep on.
#![expect(
    unsafe_code,
    reason = "its rings between those who trust each other hand out slices by unsafe functions"
)]

use std::fs::File;

use shmem_ipc::sharedring::{Receiver, Sender};

use super::{Put, Shape, Take, ping_pong, stream};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

/// The sending end; messages are so many words one after the other.
struct To {
    ring: Sender<u64>,
    words: usize,
}

impl Put for To {
    fn put(&mut self, number: u64) -> Result {
        let mut left = self.words;
        while left > 0 {
            let before = left;
            // SAFETY: this is the ring's only sender, and its only receiver was made from it.
            let sent = unsafe {
                self.ring.send_trusted(|room| {
                    let count = room.len().min(left);
                    room[..count].fill(number);
                    left -= count;
                    count
                })
            };
            sent.map_err(|error| error.to_string())?;
            if left == before {
                let room = self.ring.block_until_writable();
                room.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

/// The receiving end.
struct From {
    ring: Receiver<u64>,
    words: usize,
}

impl Take for From {
    fn take(&mut self) -> Result<u64> {
        let (mut number, mut different) = (None, 0);
        let mut left = self.words;
        while left > 0 {
            let before = left;
            // SAFETY: this is the ring's only receiver, and its only sender made it.
            let received = unsafe {
                self.ring.receive_trusted(|came| {
                    let count = came.len().min(left);
                    let number = *number.get_or_insert(came[0]);
                    different = came[..count]
                        .iter()
                        .fold(different, |all, word| all | (word ^ number));
                    left -= count;
                    count
                })
            };
            received.map_err(|error| error.to_string())?;
            if left == before {
                let came = self.ring.block_until_readable();
                came.map_err(|error| error.to_string())?;
            }
        }
        match (number, different) {
            (Some(number), 0) => Ok(number),
            _ => Err("a message is torn".into()),
        }
    }
}

/// A sender and what a receiver is opened from, in whatever process.
fn ring(shape: Shape) -> Result<(To, impl FnOnce() -> Result<From> + Send + 'static)> {
    let words = shape.words();
    let capacity = shape.slots * words;
    let ring = Sender::<u64>::new(capacity).map_err(|error| error.to_string())?;
    let files: [File; 3] = [
        ring.memfd().as_file().try_clone()?,
        ring.empty_signal().try_clone()?,
        ring.full_signal().try_clone()?,
    ];
    let open = move || {
        let [memory, empty, full] = files;
        let ring = Receiver::open(capacity, memory, empty, full);
        Ok(From {
            ring: ring.map_err(|error| error.to_string())?,
            words,
        })
    };
    Ok((To { ring, words }, open))
}

/// The sender's pointers are to memory that a forked process has at the same place.
struct Carried(To);

// SAFETY: the ring's end is one thread's at a time; the mapping belongs to the process.
unsafe impl Send for Carried {}

impl Carried {
    fn unpack(self) -> To {
        self.0
    }
}

pub(crate) fn perform(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?.one_pair("one sender, one receiver")?;
    let (to, from) = ring(shape)?;
    let to = Carried(to);
    if job.workload == "ping" {
        let (back_to, back_from) = ring(shape)?;
        let back_to = Carried(back_to);
        return ping_pong(
            Kind::Processes,
            job,
            move || Ok((to.unpack(), back_from()?)),
            move || Ok((back_to.unpack(), from()?)),
        );
    }
    stream(Kind::Processes, [move || Ok(to.unpack())], [from])
}
