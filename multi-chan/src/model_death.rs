//! The same with a death: a victim ends after its n-th write, for every n, and survivors that may die in turn see to it.
//!
//! Bounds: two or three threads, capacities 1 and 2, two or three preemptions; a death after any write of a send, a receive, a
//! batch, a seal or a sweep. What the kernel and the table tell of a death (`robust.rs`, `table.rs`) is a flag here.

use super::Channel;
use crate::kill::dies_after;
use crate::layout::{Owner, Stamp, State, row_of};
use crate::model_memory::check;
use crate::ring::{Fate, Nothing};
use crate::sync::{AcqRel, Acquire, AtomicU64, Relaxed};
use crate::trail::Hint;
use loom::sync::Arc;
use loom::thread;
use std::cell::Cell;

/// The victim's row; survivors have 1 and 2.
const DEAD: Owner = 5;

/// More writes than any of the victims makes: a claim, a publish, a mark and three of an event, for each value.
const WRITES_MAX: u32 = 8;

impl Channel {
    /// What a survivor does once it knows of the death.
    pub(crate) fn bury(&self) {
        self.ring.sweep(row_of(DEAD), || true, |_, _| false);
        let header = self.ring.header();
        header.sent.0.post_all();
        header.freed.0.post_all();
        self.finished();
    }

    fn send_as_victim(&self, value: u64) {
        if self.ring.push(DEAD, &value, &Hint::start()).is_ok() {
            self.ring.header().sent.0.post(1);
        }
    }

    fn recv_as_victim(&self) {
        if self.ring.pop(DEAD, &Hint::start()).is_ok() {
            self.ring.header().freed.0.post(1);
        }
    }

    /// All that can be received just now.
    pub(crate) fn drain(&self) -> Vec<u64> {
        let mut values = Vec::new();
        loop {
            match self.pop() {
                Ok(value) => values.push(value),
                Err(Nothing::Empty) => return values,
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// Nobody's claim is left, and the ring takes as many values as it should.
    pub(crate) fn is_whole(&self) {
        for index in 0..self.geometry.ring_len {
            // Relaxed: everybody else has been joined.
            let stamp = Stamp::read(self.slot(index).stamp.load(Relaxed)).unwrap();
            assert!(!matches!(stamp.state, State::Busy | State::Taking));
        }
        for value in 0..self.geometry.ring_len as u64 {
            self.push(value).unwrap();
        }
        assert!(self.push(99).is_err());
        assert_eq!(self.drain().len(), self.geometry.ring_len);
    }
}

#[test]
fn a_sender_may_die_after_any_write_beside_a_sleeping_receiver() {
    for capacity in [1, 2] {
        for writes in 1..=WRITES_MAX {
            check(2, move || {
                let channel = Channel::new(capacity);
                let receiver = channel.clone();
                let receiving = thread::spawn(move || {
                    let mut received = vec![receiver.recv().unwrap()];
                    if received[0] == 7 {
                        received.push(receiver.recv().unwrap());
                    }
                    received
                });
                dies_after(writes, || channel.send_as_victim(7));
                channel.bury();
                channel.send(8);
                let received = receiving.join().unwrap();
                // Its second write is the publish.
                let expected: &[u64] = if writes > 1 { &[7, 8] } else { &[8] };
                assert_eq!(received, expected);
                channel.is_whole();
            });
        }
    }
}

#[test]
fn a_sender_may_die_after_any_write_beside_another_sender() {
    for writes in 1..=WRITES_MAX {
        check(3, move || {
            let channel = Channel::new(2);
            let other = channel.clone();
            let sending = thread::spawn(move || other.push(8).is_ok());
            let ended = dies_after(writes, || channel.send_as_victim(7));
            assert!(sending.join().unwrap());
            channel.ring.sweep(row_of(DEAD), || true, |_, _| false);
            let mut received = channel.drain();
            received.sort_unstable();
            // A victim whose exchange failed once has not published by its second write.
            let all = received == [7, 8];
            assert!(all || received == [8] && ended.is_none());
            assert!(all || writes <= 2);
            channel.is_whole();
        });
    }
}

#[test]
fn a_receiver_may_die_after_any_write_beside_a_sleeping_sender() {
    for writes in 1..=WRITES_MAX {
        check(2, move || {
            let channel = Channel::new(1);
            channel.push(1).unwrap();
            let sender = channel.clone();
            let sending = thread::spawn(move || sender.send(2));
            dies_after(writes, || channel.recv_as_victim());
            channel.bury();
            // The first value died with its receiver, which claimed it with its first write.
            assert_eq!(channel.recv(), Some(2));
            sending.join().unwrap();
            channel.is_whole();
        });
    }
}

impl Channel {
    /// Offers a value as `End::publish` does in a rendezvous, by a sender who takes it back if it has not been received at
    /// once; true if it has been.
    fn offer(&self, value: u64) -> bool {
        let claim = self.push(value).unwrap();
        self.ring.header().sent.0.post(1);
        self.finished();
        loop {
            match self.ring.fate(claim) {
                Fate::Received => return true,
                Fate::Taken { .. } => {
                    let ring = self.ring;
                    self.moment_until(|| !matches!(ring.fate(claim), Fate::Taken { .. }));
                }
                Fate::Offered if self.ring.retract(claim) => return false,
                Fate::Offered => {}
            }
        }
    }
}

#[test]
fn a_rendezvous_sender_is_told_the_truth_about_a_receiver_that_dies_after_any_write() {
    for hands_out in [false, true] {
        for writes in 1..=WRITES_MAX {
            check(3, move || {
                let channel = Channel::new(0);
                let sender = channel.clone();
                let sending = thread::spawn(move || sender.offer(7));
                let seen = Cell::new(false);
                let ended = dies_after(writes, || {
                    let Ok(claim) = channel.ring.claim_value(DEAD, &Hint::start()) else {
                        return;
                    };
                    if hands_out {
                        channel.ring.mark_handed_out(claim);
                        // The user has it from here on.
                        seen.set(true);
                        channel.ring.header().freed.0.post(1);
                    }
                    channel.ring.clear(claim);
                    seen.set(true);
                    channel.ring.header().freed.0.post(1);
                });
                channel.bury();
                let received = channel.pop().ok();
                channel.finished();
                let told = sending.join().unwrap();
                // It died with its second write, which was the one that made the value its own.
                let had_it = seen.get() || ended.is_none() && writes == 2;
                // Told so if one of the two has it, and then only one.
                assert_eq!(told, had_it || received.is_some(), "{received:?}");
                assert!(!(had_it && received.is_some()), "received twice");
                channel.is_whole();
            });
        }
    }
}

#[test]
fn a_receiver_may_die_after_any_write_beside_another_receiver() {
    for writes in 1..=WRITES_MAX {
        check(3, move || {
            let channel = Channel::new(2);
            channel.push(1).unwrap();
            channel.push(2).unwrap();
            let other = channel.clone();
            let receiving = thread::spawn(move || other.pop().unwrap());
            let ended = dies_after(writes, || channel.recv_as_victim());
            let mut received = vec![receiving.join().unwrap()];
            channel.ring.sweep(row_of(DEAD), || true, |_, _| false);
            received.extend(channel.drain());
            received.sort_unstable();
            // Nothing came twice, and nothing was lost but what the victim took.
            let all = received == [1, 2];
            assert!(received == [1] || received == [2] || all && ended.is_none());
            channel.is_whole();
        });
    }
}

#[test]
fn a_batch_may_die_after_any_write_beside_a_receiver() {
    for writes in 1..=WRITES_MAX {
        check(2, move || {
            let channel = Channel::new(2);
            let receiver = channel.clone();
            let receiving = thread::spawn(move || {
                let mut received = Vec::new();
                while received.last() != Some(&9) {
                    received.push(receiver.recv().unwrap());
                }
                received
            });
            dies_after(writes, || {
                let sent = channel.ring.push_batch(DEAD, &[1, 2], &Hint::start());
                channel.ring.header().sent.0.post(sent.unwrap() as u32);
            });
            channel.bury();
            channel.send(9);
            let received = receiving.join().unwrap();
            let expected: &[u64] = match writes {
                // The claim, and the second slot.
                1 | 2 => &[9],
                // The first one, and with it the run.
                _ => &[1, 2, 9],
            };
            assert_eq!(received, expected);
            channel.is_whole();
        });
    }
}

#[test]
fn a_recoverer_may_die_after_any_write_beside_another() {
    for capacity in [1, 2] {
        for (writes, its_writes) in (1..=3).flat_map(|a| (1..=4).map(move |b| (a, b))) {
            check(3, move || {
                let channel = Channel::new(capacity);
                channel.push(1).unwrap();
                dies_after(writes, || {
                    channel.recv_as_victim();
                    channel.send_as_victim(2);
                });
                let survivor = channel.clone();
                let burying = thread::spawn(move || survivor.bury());
                dies_after(its_writes, || channel.bury());
                burying.join().unwrap();
                // Whatever the victim held is free, and what it had published (it could not) would be here.
                channel.is_whole();
            });
        }
    }
}

#[test]
fn who_seals_a_closed_channel_may_die_after_any_write() {
    for writes in 1..=WRITES_MAX {
        check(3, move || {
            let channel = Channel::new(1);
            // Relaxed: spawning a thread hands it on.
            channel.ring.header().gate.0.flags.fetch_or(1, Relaxed);
            let receiver = channel.clone();
            let receiving = thread::spawn(move || receiver.recv());
            let sealed = dies_after(writes, || channel.recv());
            assert!(sealed.is_none_or(|value| value.is_none()));
            channel.bury();
            assert_eq!(receiving.join().unwrap(), None);
            assert_eq!(channel.pop(), Err(Nothing::Sealed));
            assert!(channel.push(1).is_err());
        });
    }
}

/// A row as in the table: two survivors bury its dead process, and a newcomer takes it and sends.
#[test]
fn a_slow_survivor_does_no_harm_to_the_next_owner_of_a_row() {
    const OLD: u64 = 50;
    const NEW: u64 = 60;
    for writes in [1, 2] {
        check(3, move || {
            let channel = Channel::new(2);
            let row = Arc::new(AtomicU64::from(OLD));
            dies_after(writes, || channel.send_as_victim(7));
            let (slow, its_row) = (channel.clone(), row.clone());
            let burying = thread::spawn(move || {
                // Acquire, AcqRel and Relaxed: as in `Core::undo` and `Core::bury_dead`.
                slow.ring
                    .sweep(row_of(DEAD), || its_row.load(Acquire) == OLD, |_, _| false);
                its_row.compare_exchange(OLD, 0, AcqRel, Relaxed).ok();
            });
            // As `Core::claim_row` and the newcomer's first send.
            // Acquire: as above.
            channel
                .ring
                .sweep(row_of(DEAD), || row.load(Acquire) == OLD, |_, _| false);
            let taken = [OLD, 0]
                .into_iter()
                // AcqRel, and Relaxed on failure: as in `Core::claim_row`.
                .any(|old| row.compare_exchange(old, NEW, AcqRel, Relaxed).is_ok());
            if taken {
                // There is room for two.
                channel.ring.push(DEAD, &8, &Hint::start()).unwrap();
            }
            burying.join().unwrap();
            let received = channel.drain();
            let expected: &[u64] = match (writes, taken) {
                (1, true) => &[8],
                (1, false) => &[],
                (_, true) => &[7, 8],
                (_, false) => &[7],
            };
            assert_eq!(received, expected);
        });
    }
}
