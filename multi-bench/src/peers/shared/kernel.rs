//! What every system has: pipes, socket pairs and message queues of the kernel, and the standard library's channel between threads.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::{Put, Shape, Take, by_words, ping_pong, read, read_bytes, stream, write};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};
use crate::sys::PosixQueue;

/// What a pipe takes in one piece, whoever else writes: see pipe(7).
const PIPE_BUF: usize = 4_096;
/// What a pipe is allowed to hold, where nobody has changed that.
const PIPE_BYTES_MAX: usize = 1 << 20;

/// A descriptor and room for a message.
struct Descriptor {
    file: File,
    message: Vec<u64>,
}

impl Descriptor {
    fn new(descriptor: OwnedFd, shape: Shape) -> Self {
        Self {
            file: File::from(descriptor),
            message: vec![0; shape.words()],
        }
    }
}

impl Put for Descriptor {
    fn put(&mut self, number: u64) -> Result {
        write(&mut self.message, number);
        Ok(self.file.write_all(bytemuck::cast_slice(&self.message))?)
    }
}

impl Take for Descriptor {
    fn take(&mut self) -> Result<u64> {
        self.file
            .read_exact(bytemuck::cast_slice_mut(&mut self.message))?;
        read(&self.message)
    }
}

/// Two ends, the first to write at.
type Ends = (OwnedFd, OwnedFd);

fn descriptors(job: &Job, shape: Shape, make: impl Fn() -> Result<Ends>) -> Result<Work> {
    let (write_at, read_at) = make()?;
    if job.workload == "ping" {
        let (write_back_at, read_back_at) = make()?;
        let end = move |descriptor| Descriptor::new(descriptor, shape);
        return ping_pong(
            Kind::Processes,
            job,
            move || Ok((end(write_at), end(read_back_at))),
            move || Ok((end(write_back_at), end(read_at))),
        );
    }
    let ends = |descriptor: OwnedFd| {
        (0..shape.pairs)
            .map(|_| Ok(descriptor.try_clone()?))
            .collect::<Result<Vec<_>>>()
    };
    let attach = move |descriptor: OwnedFd| move || Ok(Descriptor::new(descriptor, shape));
    stream(
        Kind::Processes,
        ends(write_at)?.into_iter().map(attach),
        ends(read_at)?.into_iter().map(attach),
    )
}

pub(crate) fn pipe(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?;
    if shape.pairs > 1 && shape.bytes > PIPE_BUF {
        return Err("mixes what several write at once beyond 4 096 bytes".into());
    }
    descriptors(job, shape, || {
        let (read_at, write_at) = pipe_with(PipeFlags::CLOEXEC)?;
        if shape.bytes > PIPE_BUF {
            fcntl_setpipe_size(&write_at, PIPE_BYTES_MAX)?;
        }
        Ok((write_at, read_at))
    })
}

/// Packets, which stay whole whoever reads, as far as they are allowed to be that long; then a stream.
pub(crate) fn socket_pair(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?;
    let kind = match shape.bytes {
        ..=PIPE_BUF => SocketType::SEQPACKET,
        _ if shape.pairs > 1 => {
            return Err(
                "mixes what several write at once: messages this long need a stream".into(),
            );
        }
        _ => SocketType::STREAM,
    };
    descriptors(job, shape, || {
        let ends = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok(ends)
    })
}

/// A message queue and room for a message. As many messages as a user without rights may have.
struct Queue {
    queue: Arc<PosixQueue>,
    message: Vec<u64>,
}

const QUEUE_MESSAGES_MAX: usize = 10;

impl Put for Queue {
    fn put(&mut self, number: u64) -> Result {
        write(&mut self.message, number);
        Ok(self.queue.send(bytemuck::cast_slice(&self.message))?)
    }
}

impl Take for Queue {
    fn take(&mut self) -> Result<u64> {
        let message = bytemuck::cast_slice_mut(&mut self.message);
        let count = self.queue.receive(message)?;
        read_bytes(&message[..count])
    }
}

pub(crate) fn posix_queue(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?;
    let slots = shape.slots.min(QUEUE_MESSAGES_MAX);
    let queue = || -> Result<_> { Ok(Arc::new(PosixQueue::new(slots, shape.bytes)?)) };
    let attach = move |queue| Queue {
        queue,
        message: vec![0; shape.words()],
    };
    if job.workload == "ping" {
        let (to, fro) = (queue()?, queue()?);
        let (to_also, fro_also) = (Arc::clone(&to), Arc::clone(&fro));
        return ping_pong(
            Kind::Processes,
            job,
            move || Ok((attach(to), attach(fro))),
            move || Ok((attach(fro_also), attach(to_also))),
        );
    }
    let queue = queue()?;
    let ends = || {
        let queues: Vec<_> = (0..shape.pairs).map(|_| Arc::clone(&queue)).collect();
        queues
            .into_iter()
            .map(move |queue| move || Ok(attach(queue)))
    };
    stream(Kind::Processes, ends(), ends())
}

/// The standard library's channel between threads. Its receiver cannot be cloned, so several takers share it behind a lock.
pub(crate) fn std_threads(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?;
    by_words!(shape, std_channel(job, shape))
}

fn std_channel<const WORDS: usize>(job: &Job, shape: Shape) -> Result<Work> {
    let (tx, rx) = sync_channel::<[u64; WORDS]>(shape.slots);
    if job.workload == "ping" {
        let (tx_back, rx_back) = sync_channel::<[u64; WORDS]>(shape.slots);
        return ping_pong(
            Kind::Threads,
            job,
            move || Ok((tx, rx_back)),
            move || Ok((tx_back, rx)),
        );
    }
    let puts = (0..shape.pairs).map(|_| tx.clone()).collect::<Vec<_>>();
    let puts = puts.into_iter().map(|tx| move || Ok(tx));
    if shape.pairs == 1 {
        return stream(Kind::Threads, puts, [move || Ok(rx)]);
    }
    let rx = Arc::new(Mutex::new(rx));
    let takes = (0..shape.pairs)
        .map(|_| Arc::clone(&rx))
        .collect::<Vec<_>>();
    stream(
        Kind::Threads,
        puts,
        takes.into_iter().map(|rx| move || Ok(rx)),
    )
}

impl<const WORDS: usize> Put for SyncSender<[u64; WORDS]> {
    fn put(&mut self, number: u64) -> Result {
        let mut message = [0; WORDS];
        write(&mut message, number);
        self.send(message).map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl<const WORDS: usize> Take for Receiver<[u64; WORDS]> {
    fn take(&mut self) -> Result<u64> {
        read(&self.recv()?)
    }
}

impl<const WORDS: usize> Take for Arc<Mutex<Receiver<[u64; WORDS]>>> {
    fn take(&mut self) -> Result<u64> {
        let message = self.lock().map_err(|_| "another taker panicked")?.recv()?;
        read(&message)
    }
}
