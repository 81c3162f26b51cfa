//! Messages of any size: through forks, deaths and a full arena.

use crate::support::{Child, Random, fork, fork_through, linger, pause, pause_us};
use multi_chan::KillPoint::{
    self, Bumped, Buried, ChunkClaimed, ChunkFreed, ChunkUndone, Claimed, Freed, Published,
    RunFilled, RunFreed, Taken, Undone,
};
use multi_chan::{
    Builder, BytesReceiver, BytesSender, MessageReceiver, MessageSender, bytes, kill_at,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

crate::tests![
    messages_of_any_size_cross_a_fork_whole,
    a_sender_waits_for_the_arena_and_is_woken,
    a_killed_reader_gives_a_waiting_sender_its_room,
    senders_killed_at_each_step_leave_the_arena_whole,
    receivers_killed_at_each_step_leave_the_arena_whole,
    survivors_killed_while_freeing_chunks_are_survived,
    a_sender_killed_after_its_send_leaves_the_message,
    guards_copied_by_a_fork_do_nothing_in_the_child,
    a_value_that_panics_while_it_is_encoded_leaves_no_room_taken,
    a_value_that_is_never_the_same_size_does_no_harm,
    a_value_that_forks_while_it_is_encoded_is_sent_by_the_parent_alone,
    participants_killed_anywhere_lose_no_chunk,
];

const SIZES: [usize; 9] = [0, 1, 111, 112, 113, 4096, 4097, 30_000, 300_000];

/// A message that tells whether it is whole.
fn message(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(number + 1);
    let mut bytes: Vec<u8> = (0..len.min(64)).map(|_| random.below(256) as u8).collect();
    bytes.resize(len, number as u8);
    bytes
}

fn channel(capacity: usize, chunks: usize) -> (BytesSender, BytesReceiver) {
    let builder = Builder::new().capacity(capacity).arena_bytes(chunks * 4096);
    builder.build_bytes().unwrap()
}

/// Waits until survivors have seen to the dead.
fn bury(tx: &BytesSender, rx: &BytesReceiver) {
    // Both look round before they give up: one at a full channel, one at an empty one.
    while rx.try_recv().is_ok() {}
    assert!(
        rx.recv_timeout(Duration::from_millis(5))
            .unwrap_err()
            .is_timeout()
    );
    assert!(tx.arena_used() == 0, "{} bytes leaked", tx.arena_used());
}

fn messages_of_any_size_cross_a_fork_whole() {
    for capacity in [0, 1, 7] {
        let (tx, rx) = bytes(capacity).unwrap();
        let sender = fork(|| {
            for (number, len) in (0..).zip(SIZES.repeat(20)) {
                tx.send(&message(number, len)).unwrap();
            }
            for len in SIZES {
                let mut room = tx.reserve(len).unwrap();
                room.copy_from_slice(&message(7, len));
                room.commit().unwrap();
            }
        });
        drop(tx);
        let mut buffer = Vec::new();
        for (number, len) in (0..).zip(SIZES.repeat(20)) {
            buffer.clear();
            assert_eq!(rx.recv_into(&mut buffer).unwrap(), len);
            assert_eq!(buffer, message(number, len));
        }
        for len in SIZES {
            assert_eq!(*rx.recv_ref().unwrap(), message(7, len));
        }
        assert!(rx.recv().unwrap_err().is_disconnected());
        assert_eq!(rx.arena_used(), 0);
        sender.join();
    }
}

fn a_sender_waits_for_the_arena_and_is_woken() {
    let (tx, rx) = channel(8, 4);
    for round in 0..200 {
        let sender = fork(|| {
            for number in 0..4 {
                tx.send(&message(round + number, 3 * 4096)).unwrap();
            }
        });
        for number in 0..4 {
            if round % 3 == 0 {
                pause_us(100);
            }
            assert_eq!(rx.recv().unwrap(), message(round + number, 3 * 4096));
        }
        sender.join();
    }
    assert!(tx.try_send(&[0; 4 * 4096 + 1]).unwrap_err().is_too_large());
    tx.try_send(&[0; 4 * 4096]).unwrap();
    assert!(tx.try_send(&[0; 200]).unwrap_err().is_full());
    let limit = Duration::from_millis(10);
    assert!(tx.send_timeout(&[0; 200], limit).unwrap_err().is_timeout());
    tx.try_send(&[0; 100]).unwrap();
    tx.close();
    assert!(tx.send(&[0; 200]).unwrap_err().is_closed());
}

fn a_killed_reader_gives_a_waiting_sender_its_room() {
    let (tx, rx) = channel(8, 4);
    tx.send(&[1; 3 * 4096]).unwrap();
    let (seen_tx, seen_rx) = bytes(1).unwrap();
    let reader = fork(|| {
        let message = rx.recv_ref().unwrap();
        assert_eq!(message.len(), 3 * 4096);
        seen_tx.send(&[]).unwrap();
        linger()
    });
    seen_rx.recv().unwrap();
    let sender = fork(|| tx.send(&[2; 2 * 4096]).unwrap());
    pause(20);
    reader.kill();
    sender.join();
    assert_eq!(rx.recv().unwrap(), [2; 2 * 4096]);
    assert_eq!(rx.dropped(), 1);
    bury(&tx, &rx);
}

const ROUNDS: usize = 10;

fn dying_sender(tx: &BytesSender, point: KillPoint, bytes: &[u8]) -> Child {
    fork(|| {
        kill_at(point);
        tx.send(bytes).ok();
    })
}

fn dying_receiver(rx: &BytesReceiver, point: KillPoint) -> Child {
    fork(|| {
        kill_at(point);
        rx.recv().ok();
    })
}

fn senders_killed_at_each_step_leave_the_arena_whole() {
    for point in [ChunkClaimed, RunFilled, Claimed, Published, Bumped] {
        for capacity in [0, 1, 2] {
            let mut kills = 0;
            for round in 0..ROUNDS as u64 {
                let (tx, rx) = channel(capacity, 4);
                let receiver = fork(|| {
                    let mut last = rx.recv().unwrap();
                    if last == message(round, 9_000) {
                        last = rx.recv().unwrap();
                    }
                    assert_eq!(last, message(99, 16_000));
                });
                pause(4);
                let killed = dying_sender(&tx, point, &message(round, 9_000)).was_killed();
                assert!(killed || point == Bumped);
                kills += u32::from(killed);
                // Needs all of the arena: whatever the dead held has to be found.
                tx.send(&message(99, 16_000)).unwrap();
                receiver.join();
                bury(&tx, &rx);
                assert_eq!(rx.dropped(), 0);
            }
            assert!(kills > 0, "{point:?} {capacity}: never reached");
        }
    }
}

fn receivers_killed_at_each_step_leave_the_arena_whole() {
    for point in [Taken, ChunkFreed, RunFreed, Bumped, Freed] {
        for capacity in [0, 1, 2] {
            let mut kills = 0;
            for _ in 0..ROUNDS {
                let (tx, rx) = channel(capacity, 4);
                // Sleeps for room that the victim has.
                let sender = fork(|| {
                    for number in 0..4 {
                        tx.send(&message(number, 16_000)).unwrap();
                    }
                });
                pause(4);
                let killed = dying_receiver(&rx, point).was_killed();
                assert!(killed || point == Bumped);
                kills += u32::from(killed);
                // A rendezvous keeps what its receiver had not acknowledged.
                let first = u64::from(capacity > 0 || point != Taken);
                for number in first..4 {
                    assert_eq!(rx.recv().unwrap(), message(number, 16_000), "{point:?}");
                }
                sender.join();
                bury(&tx, &rx);
                // Freed by the receiver, chunk by chunk, but not acknowledged.
                let unacknowledged =
                    [Taken, ChunkFreed, RunFreed].contains(&point) || (point == Bumped && killed);
                assert!(rx.dropped() <= u64::from(unacknowledged), "{point:?}");
            }
            assert!(kills > 0, "{point:?} {capacity}: never reached");
        }
    }
}

fn survivors_killed_while_freeing_chunks_are_survived() {
    for first in [Taken, ChunkClaimed, RunFilled, Claimed] {
        for then in [ChunkUndone, Undone, Buried] {
            for _ in 0..ROUNDS {
                let (tx, rx) = channel(1, 4);
                let (other_tx, other_rx) = channel(1, 4);
                if first == Taken {
                    tx.send(&message(1, 9_000)).unwrap();
                }
                // Asleep before the others die: a fork after it would bury them, too.
                let survivor = fork(|| {
                    other_rx.recv().unwrap();
                    kill_at(then);
                    bury(&tx, &rx);
                });
                let point = first;
                if first == Taken {
                    dying_receiver(&rx, point).killed();
                } else {
                    dying_sender(&tx, point, &message(1, 9_000)).killed();
                }
                other_tx.send(&[]).unwrap();
                let killed = survivor.was_killed();
                // A sender that died before its slot has no claim to undo in the ring.
                assert!(killed || (then == Undone && [ChunkClaimed, RunFilled].contains(&first)));
                let sender = fork(|| tx.send(&message(2, 16_000)).unwrap());
                assert_eq!(rx.recv().unwrap(), message(2, 16_000));
                sender.join();
                bury(&tx, &rx);
            }
        }
    }
}

fn a_sender_killed_after_its_send_leaves_the_message() {
    let (tx, rx) = channel(4, 64);
    for number in 0..50 {
        let sender = fork(|| {
            tx.send(&message(number, 20_000)).unwrap();
            // Dies with room reserved beside it.
            let _room = tx.reserve(20_000).unwrap();
            linger()
        });
        while tx.arena_used() < 10 * 4096 {
            pause_us(50);
        }
        sender.kill();
        // A whole burial before the message is looked at: its chunks still name the dead sender.
        assert!(tx.arena_used() >= 5 * 4096);
        let other = fork(|| {
            let message = rx.recv_ref().unwrap();
            assert_eq!(message.len(), 20_000);
            let empty = rx.recv_timeout(Duration::from_millis(5));
            assert!(empty.unwrap_err().is_timeout());
            assert_eq!(*message, self::message(number, 20_000));
            drop(message);
            assert_eq!(rx.arena_used(), 0);
        });
        other.join();
    }
}

fn guards_copied_by_a_fork_do_nothing_in_the_child() {
    let (tx, rx) = channel(4, 16);
    tx.send(&[1; 5_000]).unwrap();
    let room = RefCell::new(Some(tx.reserve(6_000).unwrap()));
    let small = RefCell::new(Some(tx.reserve(5).unwrap()));
    let read = RefCell::new(Some(rx.recv_ref().unwrap()));
    let child = fork(|| {
        // Entered itself, and yet not the owner.
        tx.send(&[3; 200]).unwrap();
        let mut room = room.take().unwrap();
        assert!(panics(|| room.fill(0)));
        assert!(panics(|| drop(read.borrow().as_ref().unwrap().to_vec())));
        assert!(room.try_commit().unwrap_err().is_inherited());
        let mut small = small.take().unwrap();
        assert!(panics(|| small.fill(0)));
        assert!(small.try_commit().unwrap_err().is_inherited());
        drop(read.take());
    });
    child.join();
    assert_eq!(tx.arena_used(), 5 * 4096);
    let mut room = room.take().unwrap();
    room.fill(2);
    room.commit_front(5_500).unwrap();
    small.take().unwrap().commit().unwrap();
    let read = read.take().unwrap();
    assert_eq!(*read, [1; 5_000]);
    drop(read);
    assert_eq!(rx.recv().unwrap(), [3; 200]);
    assert_eq!(rx.recv().unwrap(), [2; 5_500]);
    assert_eq!(rx.recv().unwrap(), [0; 5]);
    bury(&tx, &rx);
}

/// Encodes as a run of bytes that differs each time it is asked.
struct Moody<F>(Cell<u32>, F);

impl<F: Fn(u32) -> usize> Serialize for Moody<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.set(self.0.get() + 1);
        serializer.serialize_bytes(&vec![7; (self.1)(self.0.get())])
    }
}

impl<'de, F> Deserialize<'de> for Moody<F> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("never received as such"))
    }
}

fn moody<F: Fn(u32) -> usize>() -> (MessageSender<Moody<F>>, MessageReceiver<Moody<F>>) {
    let builder = Builder::new().capacity(4).arena_bytes(8 * 4096);
    builder.build_messages().unwrap()
}

/// The same type for both ends and for the value.
fn send_moody<F: Fn(u32) -> usize>(
    act: F,
    test: impl FnOnce(&MessageSender<Moody<F>>, &MessageReceiver<Moody<F>>, Moody<F>),
) {
    let (tx, rx) = moody();
    test(&tx, &rx, Moody(Cell::new(0), act));
    while rx.try_recv().is_err_and(|error| error.is_decode()) {}
    assert_eq!(tx.arena_used(), 0);
}

fn a_value_that_panics_while_it_is_encoded_leaves_no_room_taken() {
    std::panic::set_hook(Box::new(|_| ()));
    for last in 1..=3 {
        let act = move |time| {
            assert!(time < last, "on purpose");
            20_000
        };
        send_moody(act, |tx, _, value| {
            assert!(panics(|| tx.send(&value).unwrap()));
            assert_eq!((value.0.get(), tx.arena_used()), (last, 0));
        });
    }
    drop(std::panic::take_hook());
}

fn a_value_that_is_never_the_same_size_does_no_harm() {
    // As it is tried in a slot, counted, and encoded in the arena.
    for (sizes, sent) in [
        ([200, 200, 6_000], false),
        ([200, 6_000, 200], true),
        ([200, 0, 0], true),
        ([200, 0, 200], false),
        ([200, 300_000, 1], false),
    ] {
        send_moody(
            |time| sizes[time as usize - 1],
            |tx, rx, value| {
                let result = tx.try_send(&value);
                assert_eq!(result.is_ok(), sent, "{sizes:?} {result:?}");
                assert_eq!(rx.len(), usize::from(sent));
            },
        );
    }
}

fn a_value_that_forks_while_it_is_encoded_is_sent_by_the_parent_alone() {
    let child = RefCell::new(None);
    let parent = std::process::id();
    let act = |time| {
        if time == 3 {
            // The child returns, too, with all that its parent had in its hands.
            *child.borrow_mut() = fork_through();
        }
        20_000
    };
    send_moody(act, |tx, rx, value| {
        let sent = tx.send(&value);
        if std::process::id() != parent {
            let refused = sent.is_err_and(|error| error.is_inherited());
            crate::support::exit(if refused { 0 } else { 1 });
        }
        sent.unwrap();
        child.take().unwrap().join();
        assert_eq!(rx.len(), 1);
    });
}

fn panics(act: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(act)).is_err()
}

fn participants_killed_anywhere_lose_no_chunk() {
    let mut random = Random::from_environment();
    for capacity in [0, 1, 5] {
        let (tx, rx) = channel(capacity, 40);
        let mut kills = 0;
        let mut messages = 0;
        for round in 0..15 {
            let children: Vec<_> = (0..3)
                .map(|_| {
                    let seed = random.below(u64::MAX);
                    fork(|| churn(&tx, &rx, seed))
                })
                .collect();
            pause_us(random.below(2_000));
            for child in children {
                child.kill();
                kills += 1;
            }
            // Survivors in the same process, both sides.
            while let Ok(bytes) = rx.try_recv() {
                assert_whole(&bytes);
                messages += 1;
            }
            if capacity > 0 {
                tx.send(&message(round, 40 * 4096)).unwrap();
                let bytes = rx.recv().unwrap();
                assert_whole(&bytes);
            }
            bury(&tx, &rx);
        }
        println!("capacity {capacity}: {kills} kills, {messages} messages were left over");
    }
}

/// Sends and receives by all means until it is killed.
fn churn(tx: &BytesSender, rx: &BytesReceiver, seed: u64) -> ! {
    let mut random = Random::new(seed);
    loop {
        let number = random.below(256);
        let len = match random.below(3) {
            0 => random.below(200),
            1 => random.below(20_000),
            _ => random.below(160_000),
        } as usize;
        match random.below(6) {
            0 | 1 => drop(tx.try_send(&message(number, len))),
            2 => {
                if let Ok(mut room) = tx.try_reserve(len) {
                    room.copy_from_slice(&message(number, len));
                    room.try_commit().ok();
                }
            }
            3 => drop(rx.try_recv_ref().map(|bytes| assert_whole(&bytes))),
            _ => drop(rx.try_recv().map(|bytes| assert_whole(&bytes))),
        }
    }
}

fn assert_whole(bytes: &[u8]) {
    if let Some(&last) = bytes.get(64) {
        assert_eq!(bytes, message(u64::from(last), bytes.len()), "torn");
    }
}
