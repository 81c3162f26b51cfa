//! Runs: batches beside single claims, beside each other, and half done by somebody who dies.
//!
//! Bounds: two threads, capacities 2 to 8, two or three preemptions; a death after any write of a batch, whose survivors die in turn.

use super::{Channel, check};
use crate::kill::dies_after;
use crate::layout::Owner;
use crate::ring::{Nothing, Refused};
use crate::sync::Relaxed;
use crate::trail::Hint;
use loom::thread;

/// The victim's row; survivors have 1 and 2.
const DEAD: Owner = 5;

impl Channel {
    fn send_batch(&self, owner: Owner, values: &[u64]) -> usize {
        match self.ring.push_batch(owner, values, &Hint::start()) {
            Ok(count) => {
                self.ring.header().sent.0.post(count as u32);
                self.finished();
                count
            }
            Err(Refused::Full { .. }) => 0,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn recv_batch(&self, owner: Owner, most: usize) -> Vec<u64> {
        let mut values = vec![0; most];
        let count = match self.ring.pop_batch(owner, &mut values, &Hint::start()) {
            Ok(count) => count,
            Err(Nothing::Empty | Nothing::Pending { .. }) => 0,
            Err(other) => panic!("{other:?}"),
        };
        values.truncate(count);
        self.ring.header().freed.0.post(count as u32);
        self.finished();
        values
    }

    /// Sends and receives so many values, so that the stamps are a lap further.
    fn turn_round(&self, values: usize) {
        for _ in 0..values {
            self.push(0).unwrap();
            self.pop().unwrap();
        }
    }
}

#[test]
fn a_run_stays_in_one_piece_beside_another_sender() {
    check(3, || {
        let channel = Channel::new(4);
        let other = channel.clone();
        let sending = thread::spawn(move || other.push(9).is_ok());
        let sent = channel.send_batch(1, &[1, 2]);
        assert_eq!((sent, sending.join().unwrap()), (2, true));
        let received = channel.drain();
        assert!(received == [1, 2, 9] || received == [9, 1, 2]);
    });
}

#[test]
fn a_receiver_with_an_old_hint_does_not_get_into_a_run() {
    check(3, || {
        let channel = Channel::new(8);
        channel.turn_round(8);
        assert_eq!(channel.send_batch(1, &[1, 2, 3, 4, 5, 6, 7, 8]), 8);
        let other = channel.clone();
        let receiving = thread::spawn(move || other.pop());
        let mut received = channel.recv_batch(2, 8);
        match receiving.join().unwrap() {
            Ok(value) => received.push(value),
            Err(Nothing::Empty) => {}
            Err(other) => panic!("{other:?}"),
        }
        received.extend(channel.drain());
        received.sort_unstable();
        assert_eq!(received, [1, 2, 3, 4, 5, 6, 7, 8]);
    });
}

#[test]
fn a_sender_comes_round_to_a_run_that_is_being_received() {
    check(2, || {
        let channel = Channel::new(2);
        channel.turn_round(2);
        assert_eq!(channel.send_batch(1, &[1, 2]), 2);
        let sender = channel.clone();
        let sending = thread::spawn(move || {
            sender.send(3);
            sender.send(4);
        });
        let mut received = channel.recv_batch(2, 2);
        assert_eq!(received, [1, 2]);
        received.extend([channel.recv().unwrap(), channel.recv().unwrap()]);
        assert_eq!(received, [1, 2, 3, 4]);
        sending.join().unwrap();
    });
}

#[test]
fn two_batches_of_receivers_share_what_is_there() {
    check(3, || {
        let channel = Channel::new(4);
        assert_eq!(channel.send_batch(1, &[1, 2, 3, 4]), 4);
        let other = channel.clone();
        let receiving = thread::spawn(move || other.recv_batch(3, 2));
        let mut received = channel.recv_batch(2, 2);
        let others = receiving.join().unwrap();
        assert!(received.is_sorted() && others.is_sorted());
        received.extend(others);
        received.sort_unstable();
        assert_eq!(received, [1, 2, 3, 4]);
    });
}

#[test]
fn a_batch_of_receives_may_die_after_any_write_beside_a_sleeping_sender() {
    // A claim, two slots, and what it tells the sender.
    for writes in 1..=6 {
        check(2, move || {
            let channel = Channel::new(2);
            assert_eq!(channel.send_batch(1, &[1, 2]), 2);
            let sender = channel.clone();
            let sending = thread::spawn(move || sender.send(3));
            dies_after(writes, || channel.recv_batch(DEAD, 2));
            channel.bury();
            // Both died with their receiver, whose claim was its first write.
            assert_eq!(channel.recv(), Some(3));
            sending.join().unwrap();
            // Relaxed: everybody else has been joined.
            let dropped = channel.ring.header().gate.0.dropped.load(Relaxed);
            // Its third write gave the first slot away.
            assert_eq!(dropped, if writes < 3 { 2 } else { 0 });
            channel.is_whole();
        });
    }
}

#[test]
fn a_receiver_with_an_old_hint_gets_nothing_of_a_dead_ones_run() {
    check(3, || {
        let channel = Channel::new(8);
        channel.turn_round(8);
        assert_eq!(channel.send_batch(1, &[1, 2, 3, 4, 5, 6, 7, 8]), 8);
        dies_after(1, || channel.recv_batch(DEAD, 8));
        let other = channel.clone();
        let receiving = thread::spawn(move || other.pop());
        channel.bury();
        assert_eq!(receiving.join().unwrap(), Err(Nothing::Empty));
        assert_eq!(channel.pop(), Err(Nothing::Empty));
    });
}

#[test]
fn survivors_of_a_batch_may_die_after_any_write_beside_another() {
    for receives in [false, true] {
        for (writes, its_writes) in (1..=3).flat_map(|a| (1..=4).map(move |b| (a, b))) {
            check(2, move || {
                let channel = Channel::new(2);
                if receives {
                    assert_eq!(channel.send_batch(1, &[1, 2]), 2);
                    dies_after(writes, || channel.recv_batch(DEAD, 2));
                } else {
                    dies_after(writes, || channel.send_batch(DEAD, &[1, 2]));
                }
                let survivor = channel.clone();
                let burying = thread::spawn(move || {
                    survivor.bury();
                    // It goes on as soon as it is done, beside one that is not.
                    survivor.push(7).is_ok()
                });
                dies_after(its_writes, || channel.bury());
                let sent = burying.join().unwrap();
                let received = channel.drain();
                // The third write gives the first slot away, and with it all.
                let stays: &[u64] = if !receives && writes == 3 {
                    &[1, 2]
                } else {
                    &[]
                };
                assert!(received.starts_with(stays));
                assert_eq!(received[stays.len()..], [7][..usize::from(sent)]);
                assert!(sent || !stays.is_empty());
                channel.is_whole();
            });
        }
    }
}
