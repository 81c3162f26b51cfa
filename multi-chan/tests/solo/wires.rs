//! The kinds of channels that chaos goes through, each with every way to send and to receive.

use crate::account::{Eye, fill};
use crate::again::{Acknowledged, Lent};
use crate::chaos::{Sums, Wire, round};
use crate::letters::{Encoded, Letters};
use crate::support::{Random, pause_us};
use multi_chan::{Exposed, Plain, Receiver, Select, Sender, channel, spsc};
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
    ("zero-copy", round::<InPlace<128>>),
    ("select", round::<Selected>),
    ("one-to-one", round::<OneToOne<2>>),
    ("one-to-one-1k", round::<OneToOne<128>>),
    ("bytes", round::<Letters>),
    ("messages", round::<Encoded>),
    ("at-least-once", round::<Lent>),
    ("at-least-once-by-value", round::<Acknowledged>),
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

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        match random.below(4) {
            0 => match self.rx.try_recv() {
                Ok(message) => eye.see(&message),
                Err(error) => return goes_on(error.is_empty(), error.is_closed(), &error),
            },
            1 => {
                let limit = Duration::from_micros(random.below(300));
                match self.rx.recv_timeout(limit) {
                    Ok(message) => eye.see(&message),
                    Err(error) => return goes_on(error.is_timeout(), error.is_closed(), &error),
                }
            }
            _ => match self.rx.recv() {
                Ok(message) => eye.see(&message),
                Err(error) => return goes_on(false, error.is_closed(), &error),
            },
        }
        true
    }

    fn close(&mut self) {
        self.tx.close();
    }

    fn state(&self) -> String {
        self.tx.state()
    }
}

/// True if there is nothing *yet*; the only other answer that may come is that the channel is closed.
pub(crate) fn goes_on(not_now: bool, closed: bool, error: &dyn std::error::Error) -> bool {
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

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        if random.below(3) == 0 {
            return self.0.recv(random, eye);
        }
        let mut batch = [[0; WORDS]; BATCH];
        match self.0.rx.recv_batch(&mut batch) {
            Ok(count) => {
                batch[..count].iter().for_each(|message| eye.see(message));
                true
            }
            Err(error) => goes_on(false, error.is_closed(), &error),
        }
    }

    fn close(&mut self) {
        self.0.close();
    }

    fn state(&self) -> String {
        self.0.state()
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

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        self.0.recv(random, eye)
    }

    fn close(&mut self) {
        self.0.close();
    }

    fn state(&self) -> String {
        self.0.state()
    }
}

/// Written and read where they lie.
struct InPlace<const WORDS: usize>(Many<WORDS>)
where
    [u64; WORDS]: Plain;

impl<const WORDS: usize> Wire for InPlace<WORDS>
where
    [u64; WORDS]: Plain,
{
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(random: &mut Random) -> Self {
        InPlace(Many::open(random))
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        if random.below(3) == 0 {
            return self.0.send(life, number, random);
        }
        let Ok(mut slot) = self.0.tx.reserve() else {
            return 0;
        };
        fill(&mut *slot, life, number);
        if random.below(8) == 0 {
            return 0;
        }
        u64::from(slot.commit().is_ok())
    }

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        if random.below(3) == 0 {
            return self.0.recv(random, eye);
        }
        match self.0.rx.recv_ref() {
            Ok(slot) => {
                eye.see(&*slot);
                true
            }
            Err(error) => goes_on(false, error.is_closed(), &error),
        }
    }

    fn close(&mut self) {
        self.0.close();
    }

    fn state(&self) -> String {
        self.0.state()
    }
}

/// Two channels, and receivers that wait for either.
struct Selected([Many<2>; 2]);

impl Wire for Selected {
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(random: &mut Random) -> Self {
        Selected([Many::open(random), Many::open(random)])
    }

    fn capacity(&self) -> usize {
        self.0[0].capacity() + self.0[1].capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        // One sender keeps to one channel, so that its messages keep their order.
        self.0[life as usize % 2].send(life, number, random)
    }

    fn recv(&mut self, _random: &mut Random, eye: &mut Eye) -> bool {
        let [one, other] = &self.0;
        if one.rx.is_closed() && other.rx.is_closed() {
            // Drained one after the other: a closed channel ends when it has run out.
            for wire in [one, other] {
                while let Ok(message) = wire.rx.recv() {
                    eye.see(&message);
                }
            }
            return false;
        }
        let mut select = Select::new();
        select.recv(&one.rx);
        select.recv(&other.rx);
        let answer = select.run(|case| self.0[case].rx.recv_now());
        if let Ok(message) = answer {
            eye.see(&message);
        }
        true
    }

    fn close(&mut self) {
        self.0.iter_mut().for_each(Many::close);
    }

    fn state(&self) -> String {
        self.0.iter().map(Wire::state).collect()
    }
}

/// One sender and one receiver, each replaced when it has died.
struct OneToOne<const WORDS: usize>
where
    [u64; WORDS]: Plain,
{
    tx: spsc::Sender<[u64; WORDS]>,
    rx: spsc::Receiver<[u64; WORDS]>,
    capacity: usize,
}

impl<const WORDS: usize> Wire for OneToOne<WORDS>
where
    [u64; WORDS]: Plain,
{
    const CREW: usize = 1;
    const ALONE: bool = true;
    const IN_HAND: u64 = IN_HAND_MAX;

    fn open(random: &mut Random) -> Self {
        let capacity = [1, 2, 7, 64][random.below(4) as usize];
        let (tx, rx) = spsc::channel(capacity).unwrap();
        OneToOne { tx, rx, capacity }
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        match random.below(6) {
            0 => u64::from(self.tx.try_send(one(life, number)).is_ok()),
            4 => {
                let tx = self.tx.shared();
                let mut select = Select::new();
                select.send(&tx);
                u64::from(select.run(|_| tx.send_now(one(life, number))).is_ok())
            }
            1 => {
                let limit = Duration::from_micros(random.below(300));
                u64::from(self.tx.send_timeout(one(life, number), limit).is_ok())
            }
            3 => {
                let Ok(mut slot) = self.tx.reserve() else {
                    return 0;
                };
                fill(&mut *slot, life, number);
                u64::from(random.below(8) != 0 && slot.commit().is_ok())
            }
            2 => {
                let batch: [_; BATCH] = std::array::from_fn(|n| one(life, number + n as u64));
                match self.tx.send_batch(&batch) {
                    Ok(()) => BATCH as u64,
                    Err(error) => error.sent() as u64,
                }
            }
            _ => u64::from(self.tx.send(one(life, number)).is_ok()),
        }
    }

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        match random.below(5) {
            0 => {
                let limit = Duration::from_micros(random.below(300));
                match self.rx.recv_timeout(limit) {
                    Ok(message) => eye.see(&message),
                    Err(error) => return goes_on(error.is_timeout(), error.is_closed(), &error),
                }
            }
            3 => {
                let rx = self.rx.shared();
                let mut select = Select::new();
                select.recv(&rx);
                match select.run(|_| rx.recv_now()) {
                    Ok(message) => eye.see(&message),
                    Err(error) => return goes_on(false, error.is_closed(), &error),
                }
            }
            2 => {
                let message = match self.rx.recv_ref() {
                    Ok(slot) => *slot,
                    Err(error) => return goes_on(false, error.is_closed(), &error),
                };
                // After it was given back: a value that somebody died with in its hands comes again.
                eye.see(&message);
            }
            1 => {
                let mut batch = [[0; WORDS]; BATCH];
                match self.rx.recv_batch(&mut batch) {
                    Ok(count) => batch[..count].iter().for_each(|message| eye.see(message)),
                    Err(error) => return goes_on(false, error.is_closed(), &error),
                }
            }
            _ => match self.rx.recv() {
                Ok(message) => eye.see(&message),
                Err(error) => return goes_on(false, error.is_closed(), &error),
            },
        }
        true
    }

    fn close(&mut self) {
        self.tx.close();
    }

    fn state(&self) -> String {
        self.tx.state()
    }
}
