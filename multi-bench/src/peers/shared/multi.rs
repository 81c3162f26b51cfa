//! multi-chan: values copied in and out, one by one and in batches, or written and read where they lie; messages of any size; and its
//! channel for one sender and one receiver.

use multi_chan::{Builder, BytesReceiver, BytesSender, Receiver, Sender, channel, spsc};

use super::{
    Order, Put, Shape, Take, by_words, numbered, ping_pong, read, read_bytes, stream, write,
};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

/// Messages in one batch.
const BATCH: usize = 64;

pub(crate) fn copies(job: &Job) -> Result<Work> {
    of_kind(Kind::Processes, job)
}

pub(crate) fn threads(job: &Job) -> Result<Work> {
    of_kind(Kind::Threads, job)
}

fn of_kind(kind: Kind, job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?;
    // Long messages go as batches of one.
    by_words!(shape, copied(kind, job, shape), batched(kind, shape, 1))
}

pub(crate) fn batches(job: &Job) -> Result<Work> {
    if job.workload != "stream" {
        return job.unknown("multi-chan batch");
    }
    let shape = Shape::of(job)?;
    by_words!(
        shape,
        batched(Kind::Processes, shape, BATCH),
        batched(Kind::Processes, shape, BATCH)
    )
}

pub(crate) fn loans(job: &Job) -> Result<Work> {
    if job.workload != "stream" {
        return job.unknown("multi-chan loans");
    }
    let shape = Shape::of(job)?;
    by_words!(shape, lent(shape), lent(shape))
}

/// Messages of bytes, written and read where they lie.
pub(crate) fn bytes(job: &Job) -> Result<Work> {
    if job.workload != "stream" {
        return job.unknown("multi-chan bytes");
    }
    let shape = Shape::of(job)?;
    let (tx, rx) = Builder::new()
        .capacity(shape.slots)
        .arena_bytes((shape.slots * shape.bytes).max(ARENA_BYTES_MIN))
        .build_bytes()?;
    let puts = (0..shape.pairs).map(|_| tx.clone()).collect::<Vec<_>>();
    let takes = (0..shape.pairs).map(|_| rx.clone()).collect::<Vec<_>>();
    let bytes = shape.bytes;
    stream(
        Kind::Processes,
        puts.into_iter().map(|tx| move || Ok(BytesOf { tx, bytes })),
        takes.into_iter().map(|rx| move || Ok(rx)),
    )
}

/// Room for the messages in flight that do not lie in the ring itself.
const ARENA_BYTES_MIN: usize = 1 << 20;

struct BytesOf {
    tx: BytesSender,
    bytes: usize,
}

impl Put for BytesOf {
    fn put(&mut self, number: u64) -> Result {
        let mut room = self.tx.reserve(self.bytes)?;
        let (words, _) = room.as_chunks_mut();
        words.fill(number.to_ne_bytes());
        Ok(room.commit()?)
    }
}

impl Take for BytesReceiver {
    fn take(&mut self) -> Result<u64> {
        read_bytes(&self.recv_ref()?)
    }
}

pub(crate) fn one_to_one(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?.one_pair("one sender, one receiver")?;
    by_words!(shape, alone(job, shape), alone_by_batches(shape))
}

fn copied<const WORDS: usize>(kind: Kind, job: &Job, shape: Shape) -> Result<Work> {
    let (tx, rx) = channel::<[u64; WORDS]>(shape.slots)?;
    if job.workload == "ping" {
        let (tx_back, rx_back) = channel::<[u64; WORDS]>(shape.slots)?;
        return ping_pong(
            kind,
            job,
            move || Ok((tx, rx_back)),
            move || Ok((tx_back, rx)),
        );
    }
    let puts = (0..shape.pairs).map(|_| tx.clone()).collect::<Vec<_>>();
    let takes = (0..shape.pairs).map(|_| rx.clone()).collect::<Vec<_>>();
    stream(
        kind,
        puts.into_iter().map(|tx| move || Ok(tx)),
        takes.into_iter().map(|rx| move || Ok(rx)),
    )
}

fn batched<const WORDS: usize>(kind: Kind, shape: Shape, batch: usize) -> Result<Work> {
    let (tx, rx) = channel::<[u64; WORDS]>(shape.slots)?;
    let batch = batch.min(shape.slots);
    let puts = (0..shape.pairs).map(|_| tx.clone()).collect::<Vec<_>>();
    let takes = (0..shape.pairs).map(|_| rx.clone()).collect::<Vec<_>>();
    stream(
        kind,
        puts.into_iter().map(|tx| move || Ok(Batch::new(tx, batch))),
        takes
            .into_iter()
            .map(|rx| move || Ok(Batch::new(rx, batch))),
    )
}

/// An end whose messages stay where they are.
struct Lent<End>(End);

fn lent<const WORDS: usize>(shape: Shape) -> Result<Work> {
    let (tx, rx) = channel::<[u64; WORDS]>(shape.slots)?;
    let puts = (0..shape.pairs).map(|_| tx.clone()).collect::<Vec<_>>();
    let takes = (0..shape.pairs).map(|_| rx.clone()).collect::<Vec<_>>();
    stream(
        Kind::Processes,
        puts.into_iter().map(|tx| move || Ok(Lent(tx))),
        takes.into_iter().map(|rx| move || Ok(Lent(rx))),
    )
}

impl<const WORDS: usize> Put for Lent<Sender<[u64; WORDS]>> {
    #[inline]
    fn put(&mut self, number: u64) -> Result {
        let mut message = self.0.reserve()?;
        write(&mut *message, number);
        Ok(message.commit()?)
    }
}

impl<const WORDS: usize> Take for Lent<Receiver<[u64; WORDS]>> {
    #[inline]
    fn take(&mut self) -> Result<u64> {
        read(&*self.0.recv_ref()?)
    }
}

fn alone<const WORDS: usize>(job: &Job, shape: Shape) -> Result<Work> {
    let (tx, rx) = spsc::channel::<[u64; WORDS]>(shape.slots)?;
    if job.workload == "ping" {
        let (tx_back, rx_back) = spsc::channel::<[u64; WORDS]>(shape.slots)?;
        return ping_pong(
            Kind::Processes,
            job,
            move || Ok((tx, rx_back)),
            move || Ok((tx_back, rx)),
        );
    }
    stream(Kind::Processes, [move || Ok(tx)], [move || Ok(rx)])
}

fn alone_by_batches<const WORDS: usize>(shape: Shape) -> Result<Work> {
    let (tx, rx) = spsc::channel::<[u64; WORDS]>(shape.slots)?;
    stream(
        Kind::Processes,
        [move || Ok(Batch::new(tx, 1))],
        [move || Ok(Batch::new(rx, 1))],
    )
}

/// Both kinds of senders and receivers, one message by value.
macro_rules! by_value {
    ($sender:ty, $receiver:ty) => {
        impl<const WORDS: usize> Put for $sender {
            #[inline]
            fn put(&mut self, number: u64) -> Result {
                let mut message = [0; WORDS];
                write(&mut message, number);
                // The error has the message in it.
                self.send(message).map_err(|error| error.to_string())?;
                Ok(())
            }
        }

        impl<const WORDS: usize> Take for $receiver {
            #[inline]
            fn take(&mut self) -> Result<u64> {
                read(&self.recv()?)
            }
        }
    };
}
by_value!(Sender<[u64; WORDS]>, Receiver<[u64; WORDS]>);
by_value!(spsc::Sender<[u64; WORDS]>, spsc::Receiver<[u64; WORDS]>);

/// An end, and room for a batch of messages.
struct Batch<End, const WORDS: usize> {
    end: End,
    messages: Vec<[u64; WORDS]>,
}

impl<End, const WORDS: usize> Batch<End, WORDS> {
    fn new(end: End, batch: usize) -> Self {
        let messages = vec![[0; WORDS]; batch];
        Self { end, messages }
    }
}

/// Both kinds of senders and receivers, by batches.
macro_rules! by_batches {
    ($sender:ty, $receiver:ty) => {
        impl<const WORDS: usize> Put for Batch<$sender, WORDS> {
            fn put(&mut self, number: u64) -> Result {
                write(&mut self.messages[0], number);
                Ok(self.end.send_batch(&self.messages[..1])?)
            }

            fn put_all(&mut self, putter: u64, count: u64) -> Result {
                let mut index = 0;
                while index < count {
                    let batch = (count - index).min(self.messages.len() as u64);
                    let messages = &mut self.messages[..batch as usize];
                    for (message, index) in messages.iter_mut().zip(index..) {
                        write(message, numbered(index, putter));
                    }
                    self.end.send_batch(messages)?;
                    index += batch;
                }
                Ok(())
            }
        }

        impl<const WORDS: usize> Take for Batch<$receiver, WORDS> {
            fn take(&mut self) -> Result<u64> {
                let _one = self.end.recv_batch(&mut self.messages[..1])?;
                read(&self.messages[0])
            }

            fn take_all(&mut self, count: u64, order: &mut Order) -> Result {
                let mut left = count as usize;
                while left > 0 {
                    let room = left.min(self.messages.len());
                    let came = self.end.recv_batch(&mut self.messages[..room])?;
                    for message in &self.messages[..came] {
                        order.see(read(message)?)?;
                    }
                    left -= came;
                }
                Ok(())
            }
        }
    };
}
by_batches!(Sender<[u64; WORDS]>, Receiver<[u64; WORDS]>);
by_batches!(spsc::Sender<[u64; WORDS]>, spsc::Receiver<[u64; WORDS]>);
