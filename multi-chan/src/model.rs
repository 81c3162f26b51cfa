//! loom models of the ring and its events: every interleaving of two or three threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p multi-chan --lib model`

#![expect(unsafe_code, reason = "lays a channel out in private memory")]

use crate::delivery::Delivery;
use crate::layout::{CountedSlot, Geometry, Slot, Stamp, State};
use crate::model_memory::{Memory, bound, check};
use crate::ring::{Claim, Nothing, Refused, Ring};
use crate::sync::{AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, SeqCst, fence};
use crate::trail::Hint;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A channel in private memory, with loom's atomics in the places of the real ones.
pub(crate) struct Channel {
    pub(crate) ring: Ring<u64>,
    geometry: Geometry,
    memory: Memory,
    /// Stands for the short sleeps beside a claim: `bell` is rung after every operation.
    moments: Mutex<()>,
    bell: Condvar,
}

// SAFETY: as the mapping it stands for.
unsafe impl Send for Channel {}

// SAFETY: as above.
unsafe impl Sync for Channel {}

impl Channel {
    pub(crate) fn new(capacity: usize) -> Arc<Channel> {
        Channel::with_delivery(capacity, Delivery::AtMostOnce)
    }

    pub(crate) fn with_delivery(capacity: usize, delivery: Delivery) -> Arc<Channel> {
        let geometry = Geometry::new::<u64>(capacity, delivery).unwrap();
        let mut memory = Memory::new(geometry.map_bytes);
        put_slots(&mut memory, &geometry);
        // SAFETY: laid out for this geometry just now, and freed when the last user is gone.
        let ring = unsafe { Ring::new(memory.base(), geometry) };
        Arc::new(Channel {
            ring,
            geometry,
            memory,
            moments: Mutex::new(()),
            bell: Condvar::new(),
        })
    }

    fn slot(&self, index: usize) -> &Slot {
        let offset = self.geometry.slots_offset + index * self.geometry.stride;
        // SAFETY: put there by `put_slots`.
        unsafe { self.memory.at(offset) }
    }

    // A new handle for every attempt: each walks the whole way from the beginning.

    pub(crate) fn push(&self, value: u64) -> Result<Claim, Refused> {
        self.ring.push(1, &value, &Hint::start())
    }

    fn pop(&self) -> Result<u64, Nothing> {
        self.ring.pop(2, &Hint::start())
    }

    /// Called after the post of an operation that had a slot claimed.
    pub(crate) fn finished(&self) {
        drop(self.moments.lock().unwrap());
        self.bell.notify_all();
    }

    /// Short sleeps until no slot is in `state`.
    pub(crate) fn moment(&self, state: State) {
        self.moment_until(|| {
            (0..self.geometry.ring_len).all(|index| {
                // Acquire: pairs with the store or exchange that ended what is waited for.
                let bits = self.slot(index).stamp.load(Acquire);
                Stamp::read(bits).unwrap().state != state
            })
        });
    }

    fn moment_until(&self, over: impl Fn() -> bool) {
        let mut guard = self.moments.lock().unwrap();
        while !over() {
            guard = self.bell.wait(guard).unwrap();
        }
    }

    /// Sends as `End::send` does, without the processes.
    pub(crate) fn send(&self, value: u64) {
        let header = self.ring.header();
        let mut slept = false;
        while self.push(value).is_err() {
            let ticket = header.freed.0.arm();
            match self.push(value) {
                Ok(_) => break,
                Err(Refused::Full { taker: Some(_) }) => self.moment(State::Taking),
                Err(Refused::Full { taker: None }) => header.freed.0.sleep(ticket, None),
                Err(other) => panic!("{other:?}"),
            }
            slept = true;
        }
        header.sent.0.post(1);
        if slept && header.freed.0.is_armed() && self.ring.has_room() {
            header.freed.0.post(1);
        }
        self.finished();
    }

    /// Receives as `End::recv` does, without the processes; `None` once closed and drained.
    pub(crate) fn recv(&self) -> Option<u64> {
        let header = self.ring.header();
        let hint = Hint::start();
        let mut slept = false;
        loop {
            if let Ok(value) = self.ring.pop(2, &hint) {
                return Some(self.received(value, slept));
            }
            let ticket = header.sent.0.arm();
            match self.ring.pop(2, &hint) {
                Ok(value) => return Some(self.received(value, slept)),
                Err(Nothing::Sealed) => return None,
                Err(Nothing::Corrupt) => panic!("corrupt"),
                Err(Nothing::Pending { .. }) => self.moment(State::Busy),
                Err(Nothing::Empty) => {
                    // Acquire: as in `Core::flags`; pairs with who closes the channel.
                    if header.gate.0.flags.load(Acquire) != 0 {
                        if self.ring.in_hand() > 0 {
                            let ring = self.ring;
                            self.moment_until(|| ring.may_have_returned() || ring.in_hand() == 0);
                            continue;
                        }
                        if self.ring.seal(&hint) {
                            header.sent.0.post_all();
                            return None;
                        }
                        continue;
                    }
                    header.sent.0.sleep(ticket, None);
                }
            }
            slept = true;
        }
    }

    fn received(&self, value: u64, slept: bool) -> u64 {
        let header = self.ring.header();
        header.freed.0.post(1);
        if slept && header.sent.0.is_armed() && self.ring.has_value() {
            header.sent.0.post(1);
        }
        self.finished();
        value
    }
}

/// Free slots, all round.
pub(crate) fn put_slots(memory: &mut Memory, geometry: &Geometry) {
    for index in 0..geometry.ring_len {
        let slot = Slot {
            stamp: AtomicU64::default(),
            watch: UnsafeCell::new(()),
            words: Default::default(),
        };
        let offset = geometry.slots_offset + index * geometry.stride;
        if geometry.redelivers {
            let attempts = AtomicU32::default();
            memory.put(offset, CountedSlot { slot, attempts });
        } else {
            memory.put(offset, slot);
        }
    }
}

#[test]
fn one_to_one_wakes_and_keeps_order() {
    // In a ring of four the shared words lag.
    for capacity in [1, 2, 4] {
        check(bound(2, 3), move || {
            let channel = Channel::new(capacity);
            let sender = channel.clone();
            let sending = thread::spawn(move || {
                for value in 1..=3 {
                    sender.send(value);
                }
            });
            for value in 1..=3 {
                assert_eq!(channel.recv(), Some(value));
            }
            sending.join().unwrap();
        });
    }
}

#[test]
fn two_senders_share_a_slot_or_two() {
    for (capacity, preemptions) in [(1, 2), (2, bound(1, 2))] {
        check(preemptions, move || {
            let channel = Channel::new(capacity);
            let senders = [1, 2].map(|value| {
                let channel = channel.clone();
                thread::spawn(move || channel.send(value))
            });
            assert_eq!(channel.recv().unwrap() + channel.recv().unwrap(), 3);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }
}

fn two_receivers_get_one_each(capacity: usize, preemptions: usize) {
    check(preemptions, move || {
        let channel = Channel::new(capacity);
        let receivers = [(); 2].map(|()| {
            let channel = channel.clone();
            thread::spawn(move || channel.recv().unwrap())
        });
        channel.send(1);
        channel.send(2);
        let sum: u64 = receivers
            .map(|receiver| receiver.join().unwrap())
            .iter()
            .sum();
        assert_eq!(sum, 3);
    });
}

#[test]
fn two_receivers_get_one_each_of_a_single_slot() {
    two_receivers_get_one_each(1, bound(1, 2));
}

#[test]
fn two_receivers_get_one_each_of_two_slots() {
    two_receivers_get_one_each(2, bound(1, 2));
}

#[test]
fn a_batch_against_single_receives() {
    check(2, || {
        let channel = Channel::new(2);
        let receiver = channel.clone();
        let receiving = thread::spawn(move || [receiver.recv(), receiver.recv()]);
        assert_eq!(
            channel.ring.push_batch(1, &[1, 2, 3], &Hint::start()),
            Ok(2)
        );
        channel.ring.header().sent.0.post(2);
        channel.finished();
        assert_eq!(receiving.join().unwrap(), [Some(1), Some(2)]);
    });
}

#[test]
fn closing_loses_nothing_that_was_sent() {
    check(3, || {
        let channel = Channel::new(1);
        let sender = channel.clone();
        let sending = thread::spawn(move || {
            sender.push(7).is_ok() && {
                sender.ring.header().sent.0.post(1);
                sender.finished();
                true
            }
        });
        let closer = channel.clone();
        let closing = thread::spawn(move || {
            let header = closer.ring.header();
            // AcqRel: as in `Core::close`; pairs with the Acquire load in `recv`.
            header.gate.0.flags.fetch_or(1, AcqRel);
            header.sent.0.post_all();
        });
        let received = channel.recv();
        assert_eq!(received.is_some(), sending.join().unwrap());
        if received.is_some() {
            assert_eq!(channel.recv(), None);
        }
        closing.join().unwrap();
    });
}

#[test]
fn a_value_taken_back_beside_slow_receivers() {
    check(bound(1, 2), || {
        let channel = Channel::new(0);
        let receivers = [(); 2].map(|()| {
            let channel = channel.clone();
            thread::spawn(move || match channel.pop() {
                Ok(value) => value,
                Err(Nothing::Empty | Nothing::Pending { .. }) => 0,
                Err(other) => panic!("{other:?}"),
            })
        });
        let mut taken = 0;
        for value in [1, 2] {
            if let Ok(claim) = channel.push(value)
                && !channel.ring.retract(claim)
            {
                taken += value;
            }
        }
        let received: u64 = receivers
            .map(|receiver| receiver.join().unwrap())
            .iter()
            .sum();
        assert_eq!(received, taken);
        assert_eq!(channel.pop(), Err(Nothing::Empty));
    });
}

#[test]
fn a_withdrawn_slot_is_stepped_over_by_whoever_comes_first() {
    check(2, || {
        let channel = Channel::new(1);
        let withdrawing = {
            let channel = channel.clone();
            thread::spawn(move || {
                if let Ok(claim) = channel.ring.claim_room(3, &Hint::start()) {
                    channel.ring.withdraw(claim);
                    channel.ring.header().sent.0.post_all();
                    channel.ring.header().freed.0.post_all();
                    channel.finished();
                }
            })
        };
        let sender = channel.clone();
        let sending = thread::spawn(move || sender.send(8));
        assert_eq!(channel.recv(), Some(8));
        sending.join().unwrap();
        withdrawing.join().unwrap();
        assert!(channel.ring.len() == 0);
    });
}

#[test]
fn a_dead_senders_claim_is_stepped_over_whoever_sweeps() {
    check(bound(1, 2), || {
        let channel = Channel::new(2);
        // The sender of row 5 died between its claim and its publish.
        let busy = Stamp::new(0, 5, State::Busy).bits();
        // Relaxed: spawning the threads hands it on.
        channel.slot(0).stamp.store(busy, Relaxed);
        let sweepers = [(); 2].map(|()| {
            let channel = channel.clone();
            thread::spawn(move || {
                let undone = channel.ring.sweep(5, || true, |_, _| false);
                channel.ring.header().sent.0.post_all();
                channel.finished();
                undone
            })
        });
        channel.send(8);
        assert_eq!(channel.recv(), Some(8));
        assert_eq!(
            sweepers
                .map(|sweeper| sweeper.join().unwrap())
                .iter()
                .sum::<usize>(),
            1
        );
    });
}

/// Claims a value, gives it back and tells a sleeper, as `End::give_back` does.
fn give_back(channel: &Channel) {
    if let Ok(claim) = channel.ring.claim_value(3, &Hint::start()) {
        channel.ring.count_attempt(claim);
        channel.ring.give_back(claim);
        // SeqCst: as in `End::give_back`; pairs with the fence in `Event::arm`.
        fence(SeqCst);
        channel.ring.header().sent.0.post(1);
        channel.finished();
    }
}

#[test]
fn a_message_given_back_is_received_before_the_end() {
    check(2, || {
        let channel = Channel::with_delivery(1, Delivery::AtLeastOnce);
        channel.send(1);
        let giver = channel.clone();
        let giving = thread::spawn(move || give_back(&giver));
        let header = channel.ring.header();
        // AcqRel: as in `Core::close`; pairs with the Acquire load in `recv`.
        header.gate.0.flags.fetch_or(1, AcqRel);
        header.sent.0.post_all();
        assert_eq!(channel.recv(), Some(1));
        giving.join().unwrap();
        assert_eq!(channel.recv(), None);
    });
}

#[test]
fn a_message_given_back_is_received_by_one() {
    check(2, || {
        let channel = Channel::with_delivery(1, Delivery::AtLeastOnce);
        channel.send(1);
        let giver = channel.clone();
        let giving = thread::spawn(move || give_back(&giver));
        let other = channel.clone();
        let receiving = thread::spawn(move || other.pop().is_ok());
        let first = channel.pop().is_ok();
        let second = receiving.join().unwrap();
        giving.join().unwrap();
        let left = channel.pop().is_ok();
        assert_eq!(u32::from(first) + u32::from(second) + u32::from(left), 1);
    });
}

#[test]
fn a_dead_receivers_message_comes_again_whoever_sweeps() {
    check(2, || {
        let channel = Channel::with_delivery(1, Delivery::AtLeastOnce);
        channel.send(1);
        let taking = Stamp::new(0, 5, State::Taking).bits();
        // Relaxed: spawning the threads hands it on.
        channel.slot(0).stamp.store(taking, Relaxed);
        let sweepers = [(); 2].map(|()| {
            let channel = channel.clone();
            thread::spawn(move || {
                channel.ring.sweep(5, || true, |_, _| false);
                channel.ring.header().sent.0.post_all();
                channel.finished();
            })
        });
        assert_eq!(channel.recv(), Some(1));
        for sweeper in sweepers {
            sweeper.join().unwrap();
        }
        assert_eq!(channel.pop(), Err(Nothing::Empty));
    });
}

#[test]
fn a_dead_receivers_claim_gives_the_slot_back() {
    check(3, || {
        let channel = Channel::new(1);
        channel.send(1);
        // The receiver of row 5 died with the value in its hands.
        let taking = Stamp::new(0, 5, State::Taking).bits();
        // Relaxed: spawning the threads hands it on.
        channel.slot(0).stamp.store(taking, Relaxed);
        let survivor = channel.clone();
        let sweeper = thread::spawn(move || {
            survivor.ring.sweep(5, || true, |_, _| false);
            survivor.ring.header().freed.0.post_all();
            survivor.finished();
        });
        channel.send(2);
        assert_eq!(channel.recv(), Some(2));
        sweeper.join().unwrap();
    });
}

#[path = "model_death.rs"]
mod death;
#[path = "model_runs.rs"]
mod runs;
