//! `Delivery::AtLeastOnce` for messages of any size: whose receivers die, panic, forget or give them back.

use crate::support::{Child, Random, fork, linger, pause, pause_us};
use multi_chan::KillPoint::{
    Acknowledged, ChunkFreed, ChunkUndone, Freed, GivenBack, RunFreed, Taken, Undone,
};
use multi_chan::{
    Builder, BytesReceiver, BytesSender, Delivery, KillPoint, MessageReceiver, MessageSender,
    channel, kill_at,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

crate::tests![
    a_killed_holders_long_message_comes_again_whole,
    a_long_message_given_back_comes_again,
    a_receiver_killed_at_each_step_has_its_message_or_gives_it_back,
    a_sender_killed_after_its_message_was_returned_leaves_it,
    survivors_killed_at_each_step_neither_lose_nor_double_a_message,
    a_panic_with_a_value_in_hand_gives_it_back,
    a_value_that_cannot_be_decoded_does_not_come_again,
    a_forgotten_long_message_comes_again_when_its_process_leaves,
    a_closed_channel_of_messages_ends_when_nothing_can_come_back,
    every_job_is_done_whoever_dies_with_one,
];

const LONG: usize = 30_000;

fn builder(capacity: usize) -> Builder {
    let builder = Builder::new().capacity(capacity).arena_bytes(40 * 4096);
    builder.delivery(Delivery::AtLeastOnce)
}

fn letters(capacity: usize) -> (BytesSender, BytesReceiver) {
    builder(capacity).build_bytes().unwrap()
}

/// Takes a message and holds it.
fn holder(rx: &BytesReceiver) -> Child {
    let (ready_tx, ready) = channel::<u8>(1).unwrap();
    let child = fork(|| {
        let _message = rx.recv_ref().unwrap();
        ready_tx.send(1).unwrap();
        linger()
    });
    ready.recv().unwrap();
    child
}

/// Nothing is left, and the whole arena can be used.
fn is_whole(tx: &BytesSender, rx: &BytesReceiver) {
    assert!(rx.try_recv().unwrap_err().is_empty());
    assert_eq!((tx.arena_used(), rx.dropped(), rx.len()), (0, 0, 0));
    let sender = fork(|| tx.send(&vec![9; tx.bytes_max()]).unwrap());
    assert_eq!(rx.recv().unwrap().len(), tx.bytes_max());
    sender.join();
}

fn a_killed_holders_long_message_comes_again_whole() {
    for capacity in [0, 1, 3] {
        let (tx, rx) = letters(capacity);
        for (number, bytes) in [(1, 0), (2, 112), (3, 113), (4, LONG)] {
            let sender = fork(|| tx.send(&vec![number; bytes]).unwrap());
            for _ in 0..2 {
                holder(&rx).kill();
            }
            // Somebody else's messages do not get its room.
            if capacity > 1 {
                tx.send(&vec![77; LONG]).unwrap();
            }
            // Which comes first depends on when the death is found.
            for _ in 0..capacity.clamp(1, 2) {
                let message = rx.recv_ref().unwrap();
                let (attempts, value, len) = match message.redelivered() {
                    true => (3, number, bytes),
                    false => (1, 77, LONG),
                };
                assert_eq!((message.attempts(), message.len()), (attempts, len));
                assert!(message.iter().all(|&byte| byte == value));
            }
            sender.join();
        }
        is_whole(&tx, &rx);
    }
}

fn a_long_message_given_back_comes_again() {
    let (tx, rx) = letters(2);
    tx.send(&[5; LONG]).unwrap();
    for attempt in 1..6 {
        let message = rx.recv_ref().unwrap();
        assert_eq!((message.attempts(), &*message), (attempt, &[5; LONG][..]));
        message.give_back();
    }
    assert_eq!(rx.recv().unwrap(), [5; LONG]);
    is_whole(&tx, &rx);
}

fn a_receiver_killed_at_each_step_has_its_message_or_gives_it_back() {
    let steps = [
        (Taken, Some(1)),
        (GivenBack, Some(2)),
        (Acknowledged, None),
        (ChunkFreed, None),
        (RunFreed, None),
        (Freed, None),
    ];
    for (point, comes_again) in steps {
        for copies in [false, true] {
            let (tx, rx) = letters(2);
            tx.send(&[6; LONG]).unwrap();
            fork(|| {
                kill_at(point);
                if point == GivenBack {
                    rx.recv_ref().unwrap().give_back();
                } else if copies {
                    rx.recv().unwrap();
                } else {
                    drop(rx.recv_ref().unwrap());
                }
            })
            .killed();
            if let Some(attempts) = comes_again {
                let message = rx.recv_ref().unwrap();
                assert_eq!((message.attempts(), &*message), (attempts, &[6; LONG][..]));
            }
            is_whole(&tx, &rx);
        }
    }
}

fn a_sender_killed_after_its_message_was_returned_leaves_it() {
    let (tx, rx) = letters(2);
    let sender = fork(|| {
        tx.send(&[7; LONG]).unwrap();
        linger()
    });
    let holder = holder(&rx);
    holder.kill();
    // Returned by us, and nobody's: its chunks name the sender.
    assert!(rx.recv_ref().map(|message| message.give_back()).is_ok());
    sender.kill();
    // Looks round, and buries the sender.
    let (other, _other_rx) = (tx.clone(), rx.clone());
    while !other
        .try_send(&[8; 200])
        .is_err_and(|error| error.is_full())
    {}
    assert_eq!(rx.recv().unwrap(), [7; LONG]);
    assert_eq!(rx.recv().unwrap(), [8; 200]);
    is_whole(&tx, &rx);
}

fn survivors_killed_at_each_step_neither_lose_nor_double_a_message() {
    let deaths: [(KillPoint, KillPoint, bool); 3] = [
        (Taken, Undone, true),
        (ChunkFreed, ChunkUndone, false),
        (ChunkFreed, Undone, false),
    ];
    for (victims, survivors, comes_again) in deaths {
        let (tx, rx) = letters(2);
        tx.send(&[3; LONG]).unwrap();
        let (go_tx, go) = channel::<u8>(1).unwrap();
        // Born before: who forks sees to the dead, too.
        let survivor = fork(|| {
            go.recv().unwrap();
            kill_at(survivors);
            rx.recv().unwrap();
        });
        fork(|| {
            kill_at(victims);
            rx.recv().unwrap();
        })
        .killed();
        go_tx.send(1).unwrap();
        survivor.killed();
        if comes_again {
            assert_eq!(rx.recv().unwrap(), [3; LONG]);
        }
        is_whole(&tx, &rx);
    }
}

fn jobs(capacity: usize) -> (MessageSender<Vec<u64>>, MessageReceiver<Vec<u64>>) {
    builder(capacity).build_messages().unwrap()
}

fn a_panic_with_a_value_in_hand_gives_it_back() {
    let (tx, rx) = jobs(2);
    tx.send(&vec![1; 1_000]).unwrap();
    std::panic::set_hook(Box::new(|_| ()));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _job = rx.recv_ref().unwrap();
        panic!("on purpose");
    }));
    drop(std::panic::take_hook());
    assert!(panicked.is_err());
    let job = rx.try_recv_ref().unwrap();
    assert_eq!((job.attempts(), job.len()), (2, 1_000));
    assert_eq!(job.into_inner(), vec![1; 1_000]);
    assert_eq!((rx.len(), rx.arena_used()), (0, 0));
}

fn a_value_that_cannot_be_decoded_does_not_come_again() {
    let (tx, rx) = builder(2).build_messages::<Sour>().unwrap();
    for sour in [true, false] {
        tx.send(&Sour(sour, vec![1; LONG])).unwrap();
    }
    assert!(rx.try_recv_ref().unwrap_err().is_decode());
    let sweet = rx.try_recv_ref().unwrap();
    assert_eq!((sweet.0, sweet.1.len(), sweet.attempts()), (false, LONG, 1));
    drop(sweet);
    assert!(rx.try_recv().unwrap_err().is_empty());
    assert_eq!(rx.arena_used(), 0);
}

/// Refuses to be decoded if it is.
#[derive(Debug, Serialize)]
struct Sour(bool, Vec<u8>);

impl<'de> Deserialize<'de> for Sour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (sour, bytes) = Deserialize::deserialize(deserializer)?;
        if sour {
            return Err(D::Error::custom("on purpose"));
        }
        Ok(Sour(sour, bytes))
    }
}

fn a_forgotten_long_message_comes_again_when_its_process_leaves() {
    let (tx, rx) = letters(2);
    tx.send(&[4; LONG]).unwrap();
    let (leave_tx, leave) = channel::<u8>(1).unwrap();
    let forgetful = fork(|| {
        // This process's copies of the handles, which the parent keeps.
        let (tx, rx) = (tx.clone(), rx.clone());
        #[expect(clippy::mem_forget, reason = "it is what is tested")]
        mem::forget(rx.recv_ref().unwrap());
        leave.recv().unwrap();
        drop((tx, rx));
        crate::support::exit(0);
    });
    while !rx.is_empty() {
        pause(1);
    }
    leave_tx.send(1).unwrap();
    forgetful.join();
    assert_eq!(rx.recv().unwrap(), [4; LONG]);
    is_whole(&tx, &rx);
}

fn a_closed_channel_of_messages_ends_when_nothing_can_come_back() {
    let (tx, rx) = letters(2);
    tx.send(&[1; LONG]).unwrap();
    let holder = holder(&rx);
    tx.close();
    let waiting = fork(|| {
        assert_eq!(rx.recv().unwrap(), [1; LONG]);
        assert!(rx.recv().unwrap_err().is_closed());
    });
    pause(20);
    holder.kill();
    waiting.join();
    // What the waiting thread holds itself it does not wait for.
    let (tx, rx) = letters(2);
    tx.send(&[2; LONG]).unwrap();
    let message = rx.recv_ref().unwrap();
    tx.close();
    assert!(rx.recv().unwrap_err().is_closed());
    message.give_back();
    assert_eq!(rx.recv().unwrap(), [2; LONG]);
    assert!(rx.recv().unwrap_err().is_closed());
}

fn every_job_is_done_whoever_dies_with_one() {
    const JOBS: u64 = 60;
    let (tx, rx) = jobs(4);
    let (done_tx, done) = channel::<u64>(1_000).unwrap();
    let worker = |seed: u64| {
        let (rx, done_tx) = (&rx, &done_tx);
        fork(move || {
            let mut random = Random::new(seed);
            while let Ok(job) = rx.recv_ref() {
                pause_us(random.below(300));
                // A value that is not whole would be another job.
                assert!(job.iter().all(|&word| word == job[0]));
                done_tx.send(job[0]).unwrap();
            }
        })
    };
    let mut random = Random::from_environment();
    let mut workers: Vec<_> = (0..3).map(worker).collect();
    let feeder = fork(|| {
        for job in 0..JOBS {
            tx.send(&vec![job; 1 + job as usize * 50]).unwrap();
        }
        tx.close();
    });
    drop(tx);
    let mut times = [0_u32; JOBS as usize];
    for kill in 0..25 {
        pause_us(random.below(3_000));
        let replaced = mem::replace(&mut workers[kill % 3], worker(random.below(1 << 40)));
        replaced.kill_if_alive();
    }
    feeder.join();
    for worker in workers {
        worker.join();
    }
    while let Ok(job) = done.recv_timeout(Duration::ZERO) {
        times[job as usize] += 1;
    }
    assert!(times.iter().all(|&times| times > 0), "{times:?}");
    assert_eq!((rx.len(), rx.dropped(), rx.arena_used()), (0, 0, 0));
}
