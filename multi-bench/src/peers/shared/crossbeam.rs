//! crossbeam-channel between threads of one process: short messages by value, long ones in boxes, as people send them.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Put, Shape, Take, by_words, ping_pong, read, stream, write};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

/// Words from which on a message travels in a box.
const LONG: usize = 1_024;

pub(crate) fn perform(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?;
    if shape.words() >= LONG {
        let (tx, rx) = bounded::<Box<[u64]>>(shape.slots);
        let words = shape.words();
        return between(job, shape, (tx, rx), None, move |tx| Boxes { tx, words });
    }
    by_words!(shape, by_value(job, shape))
}

fn by_value<const WORDS: usize>(job: &Job, shape: Shape) -> Result<Work> {
    let channel = || bounded::<[u64; WORDS]>(shape.slots);
    between(job, shape, channel(), Some(channel()), |tx| tx)
}

/// Two ends.
type Ends<T> = (Sender<T>, Receiver<T>);

fn between<T: Send + 'static, P: Put + 'static>(
    job: &Job,
    shape: Shape,
    (tx, rx): Ends<T>,
    back: Option<Ends<T>>,
    put: impl Fn(Sender<T>) -> P + Copy + Send + 'static,
) -> Result<Work>
where
    Receiver<T>: Take,
{
    if let ("ping", Some((tx_back, rx_back))) = (&*job.workload, back) {
        return ping_pong(
            Kind::Threads,
            job,
            move || Ok((put(tx), rx_back)),
            move || Ok((put(tx_back), rx)),
        );
    }
    let puts = (0..shape.pairs).map(|_| tx.clone()).collect::<Vec<_>>();
    let takes = (0..shape.pairs).map(|_| rx.clone()).collect::<Vec<_>>();
    stream(
        Kind::Threads,
        puts.into_iter().map(move |tx| move || Ok(put(tx))),
        takes.into_iter().map(|rx| move || Ok(rx)),
    )
}

impl<const WORDS: usize> Put for Sender<[u64; WORDS]> {
    #[inline]
    fn put(&mut self, number: u64) -> Result {
        let mut message = [0; WORDS];
        write(&mut message, number);
        self.send(message).map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl<const WORDS: usize> Take for Receiver<[u64; WORDS]> {
    #[inline]
    fn take(&mut self) -> Result<u64> {
        read(&self.recv()?)
    }
}

struct Boxes {
    tx: Sender<Box<[u64]>>,
    words: usize,
}

impl Put for Boxes {
    fn put(&mut self, number: u64) -> Result {
        let message = vec![number; self.words].into_boxed_slice();
        self.tx.send(message).map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl Take for Receiver<Box<[u64]>> {
    fn take(&mut self) -> Result<u64> {
        read(&self.recv()?)
    }
}
