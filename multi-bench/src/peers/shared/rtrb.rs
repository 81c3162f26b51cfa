//! rtrb, a ring for one sender and one receiver, between threads of one process. It never waits: whoever finds it full or empty turns
//! for a while and then gives the processor away.

use std::hint::spin_loop;
use std::thread::yield_now;

use rtrb::{Consumer, PopError, Producer, PushError, RingBuffer};

use super::{Put, Shape, Take, by_words, ping_pong, read, stream, write};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?.one_pair("one sender, one receiver")?;
    by_words!(shape, of_words(job, shape))
}

fn of_words<const WORDS: usize>(job: &Job, shape: Shape) -> Result<Work> {
    let (tx, rx) = RingBuffer::<[u64; WORDS]>::new(shape.slots);
    if job.workload == "ping" {
        let (tx_back, rx_back) = RingBuffer::<[u64; WORDS]>::new(shape.slots);
        return ping_pong(
            Kind::Threads,
            job,
            move || Ok((tx, rx_back)),
            move || Ok((tx_back, rx)),
        );
    }
    stream(Kind::Threads, [move || Ok(tx)], [move || Ok(rx)])
}

/// Busy turns before the processor is given away.
const TURNS: u32 = 60;

fn wait(turns: &mut u32) {
    *turns += 1;
    if *turns < TURNS {
        spin_loop();
    } else {
        yield_now();
    }
}

impl<const WORDS: usize> Put for Producer<[u64; WORDS]> {
    #[inline]
    fn put(&mut self, number: u64) -> Result {
        let mut message = [0; WORDS];
        write(&mut message, number);
        let mut turns = 0;
        while let Err(PushError::Full(back)) = self.push(message) {
            if self.is_abandoned() {
                return Err("the consumer is gone".into());
            }
            message = back;
            wait(&mut turns);
        }
        Ok(())
    }
}

impl<const WORDS: usize> Take for Consumer<[u64; WORDS]> {
    #[inline]
    fn take(&mut self) -> Result<u64> {
        let mut turns = 0;
        loop {
            match self.pop() {
                Ok(message) => return read(&message),
                Err(PopError::Empty) if self.is_abandoned() => {
                    return Err("the producer is gone".into());
                }
                Err(PopError::Empty) => wait(&mut turns),
            }
        }
    }
}
