//! The kinds of channels that chaos goes through, each with every way to send and to receive.

use crate::chaos::{Sums, Wire, fill, round};
use crate::support::{Random, pause_us};
use multi_chan::{Plain, Receiver, Sender, channel};
use std::time::Duration;

/// The longest batch.
pub(crate) const IN_HAND_MAX: u64 = BATCH as u64;
const BATCH: usize = 4;

/// One round of a mode: so many kills.
type Round = fn(u64, &mut Random, &mut Sums);

/// Modes by name.
pub(crate) const MODES: &[(&str, Round)] = &[
    ("plain", round::<Many<2>>),
    ("plain-128", round::<Many<16>>),
    ("plain-1k", round::<Many<128>>),
    ("plain-32k", round::<Many<4096>>),
    ("batch", round::<Batches<2>>),
    ("batch-1k", round::<Batches<128>>),
    ("rendezvous", round::<Rendezvous>),
];

/// A channel for many on both sides, one message at a time; `WORDS` of 8 bytes each.
struct Many<const WORDS: usize>
where
    [u64; WORDS]: Plain,
{
    tx: Sender<[u64; WORDS]>,
    rx: Receiver<[u64; WORDS]>,
}

fn one<const WORDS: usize>(life: u64, number: u64) -> [u64; WORDS] {
    let mut message = [0; WORDS];
    fill(&mut message, life, number);
    message
}

impl<const WORDS: usize> Many<WORDS>
where
    [u64; WORDS]: Plain,
{
    fn with(capacity: u64) -> Self {
        let (tx, rx) = channel(capacity as usize).unwrap();
        Many { tx, rx }
    }
}

impl<const WORDS: usize> Wire for Many<WORDS>
where
    [u64; WORDS]: Plain,
{
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(random: &mut Random) -> Self {
        Many::with([1, 2, 3, 7, 16, 64][random.below(6) as usize])
    }

    fn capacity(&self) -> usize {
        self.tx.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        let message = one(life, number);
        let sent = match random.below(4) {
            0 => self.tx.try_send(message).is_ok(),
            1 => {
                let limit = Duration::from_micros(random.below(300));
                self.tx.send_timeout(message, limit).is_ok()
            }
            _ => self.tx.send(message).is_ok(),
        };
        u64::from(sent)
    }

    fn recv(&mut self, random: &mut Random, see: &mut dyn FnMut(&[u64])) -> bool {
        match random.below(4) {
            0 => match self.rx.try_recv() {
                Ok(message) => see(&message),
                Err(error) => return goes_on(error.is_empty(), error.is_closed(), &error),
            },
            1 => {
                let limit = Duration::from_micros(random.below(300));
                match self.rx.recv_timeout(limit) {
                    Ok(message) => see(&message),
                    Err(error) => return goes_on(error.is_timeout(), error.is_closed(), &error),
                }
            }
            _ => match self.rx.recv() {
                Ok(message) => see(&message),
                Err(error) => return goes_on(false, error.is_closed(), &error),
            },
        }
        true
    }

    fn close(&mut self) {
        self.tx.close();
    }
}

/// True if there is nothing *yet*; the only other answer that may come is that the channel is closed.
fn goes_on(not_now: bool, closed: bool, error: &dyn std::error::Error) -> bool {
    assert!(not_now || closed, "{error}");
    not_now
}

/// The same in batches.
struct Batches<const WORDS: usize>(Many<WORDS>)
where
    [u64; WORDS]: Plain;

impl<const WORDS: usize> Wire for Batches<WORDS>
where
    [u64; WORDS]: Plain,
{
    const CREW: usize = 2;
    const IN_HAND: u64 = IN_HAND_MAX;

    fn open(random: &mut Random) -> Self {
        Batches(Many::open(random))
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        if random.below(3) == 0 {
            return self.0.send(life, number, random);
        }
        let batch: [_; BATCH] = std::array::from_fn(|n| one(life, number + n as u64));
        match self.0.tx.send_batch(&batch) {
            Ok(()) => BATCH as u64,
            Err(error) => error.sent() as u64,
        }
    }

    fn recv(&mut self, random: &mut Random, see: &mut dyn FnMut(&[u64])) -> bool {
        if random.below(3) == 0 {
            return self.0.recv(random, see);
        }
        let mut batch = [[0; WORDS]; BATCH];
        match self.0.rx.recv_batch(&mut batch) {
            Ok(count) => {
                batch[..count].iter().for_each(|message| see(message));
                true
            }
            Err(error) => goes_on(false, error.is_closed(), &error),
        }
    }

    fn close(&mut self) {
        self.0.close();
    }
}

/// Capacity 0, with senders that take their value back after a while.
struct Rendezvous(Many<2>);

impl Wire for Rendezvous {
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(_random: &mut Random) -> Self {
        Rendezvous(Many::with(0))
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        if random.below(8) == 0 {
            pause_us(random.below(50));
        }
        self.0.send(life, number, random)
    }

    fn recv(&mut self, random: &mut Random, see: &mut dyn FnMut(&[u64])) -> bool {
        self.0.recv(random, see)
    }

    fn close(&mut self) {
        self.0.close();
    }
}
