//! Messages of any size sent by selects and poll loops: two things to wait for, a slot and chunks.

use crate::support::{Child, Random, fork, linger, pause, pause_us, pidfd, wait_readable};
use multi_chan::KillPoint::{
    Armed, Bumped, ChunkClaimed, ChunkFreed, Claimed, Published, RunFilled, RunFreed,
};
use multi_chan::{Builder, BytesReceiver, BytesSender, Select, channel, kill_at};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

crate::tests![
    a_message_is_ready_to_be_sent_with_a_slot_and_chunks,
    a_select_that_sends_a_message_is_woken_by_slots_and_by_chunks,
    a_wake_that_finds_no_chunks_is_passed_on,
    a_select_sends_to_rendezvous_of_messages,
    every_message_sent_by_selects_comes_once,
    a_select_that_sends_messages_hears_of_deaths,
    what_dead_holders_of_chunks_had_wakes_a_select,
    selects_killed_at_each_step_of_a_send_leave_the_arena_whole,
    a_poll_loop_sends_messages_of_any_size,
    a_select_of_descriptors_sends_messages,
    a_select_that_waits_for_chunks_sleeps_at_no_cost,
];

const CHUNK: usize = 4096;

fn letters(capacity: usize, chunks: usize) -> (BytesSender, BytesReceiver) {
    let builder = Builder::new().capacity(capacity).pollable(true);
    builder.arena_bytes(chunks * CHUNK).build_bytes().unwrap()
}

fn send_by_select(tx: &BytesSender, bytes: &[u8]) -> bool {
    let room = tx.sending(bytes.len());
    let mut select = Select::new();
    select.send(&room);
    select.run(|_| tx.send_now(bytes)).is_ok()
}

/// Waits until a child's first, short sleeps are over and it lies down for long.
fn await_sleep(child: &Child) {
    while !child.is_asleep() {
        pause(1);
    }
    pause(10);
}

fn a_message_is_ready_to_be_sent_with_a_slot_and_chunks() {
    let (tx, rx) = letters(1, 4);
    let (small, large) = (tx.sending(10), tx.sending(2 * CHUNK));
    let (all, more) = (tx.sending(4 * CHUNK), tx.sending(4 * CHUNK + 1));
    let mut select = Select::new();
    let cases = [
        select.send(&small),
        select.send(&large),
        select.send(&all),
        select.send(&more),
    ];
    let mut ready = || -> Vec<usize> {
        // Chosen at random among those that are ready.
        let mut seen: Vec<usize> = (0..400).filter_map(|_| select.try_wait()).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    };
    assert_eq!(ready(), cases);
    // It will never fit, which the operation says.
    assert!(
        tx.send_now(&[0; 4 * CHUNK + 1])
            .unwrap()
            .unwrap_err()
            .is_too_large()
    );
    let three = tx.reserve(3 * CHUNK).unwrap();
    assert_eq!(ready(), [0, 3]);
    drop(three);
    tx.send(b"in the slot").unwrap();
    assert_eq!(ready(), [3]);
    assert!(tx.send_now(b"x").is_none() && tx.send_now(&[1; CHUNK]).is_none());
    rx.recv().unwrap();
    let two = tx.reserve(2 * CHUNK).unwrap();
    assert_eq!(ready(), [0, 1, 3]);
    drop(two);
    assert!(rx.close());
    assert_eq!(ready(), cases);
    assert!(tx.send_now(b"x").unwrap().unwrap_err().is_closed());
}

fn a_select_that_sends_a_message_is_woken_by_slots_and_by_chunks() {
    for round in 0..10 {
        let (tx, rx) = letters(1, 3);
        let (_open_tx, open) = channel::<u8>(1).unwrap();
        let slot_is_full = round % 2 == 0;
        let held = (!slot_is_full).then(|| tx.reserve(2 * CHUNK).unwrap());
        if slot_is_full {
            tx.send(b"first").unwrap();
        }
        let sender = fork(|| {
            let room = tx.sending(2 * CHUNK);
            let mut select = Select::new();
            select.recv(&open);
            select.send(&room);
            select.run(|_| tx.send_now(&[5; 2 * CHUNK])).unwrap();
        });
        await_sleep(&sender);
        drop(held);
        if slot_is_full {
            assert_eq!(rx.recv().unwrap(), b"first");
        }
        let got = rx.recv_timeout(Duration::from_secs(8));
        assert_eq!(got.expect("a wake was lost"), [5; 2 * CHUNK]);
        sender.join();
        assert_eq!(tx.arena_used(), 0);
    }
}

fn a_wake_that_finds_no_chunks_is_passed_on() {
    for _ in 0..8 {
        let (tx, rx) = letters(1, 4);
        tx.send(&[0; CHUNK]).unwrap();
        // First in the queue for the slot.
        let selecting = fork(|| assert!(send_by_select(&tx, &[2; 2 * CHUNK])));
        await_sleep(&selecting);
        let plain = fork(|| tx.send(b"plain").unwrap());
        await_sleep(&plain);
        let held = tx.reserve(2 * CHUNK).unwrap();
        assert_eq!(rx.recv().unwrap().len(), CHUNK);
        let next = rx.recv_timeout(Duration::from_secs(8));
        // The chunk that came free with the first message makes no room for two beside the two held.
        assert_eq!(next.expect("a wake was lost"), b"plain");
        drop(held);
        let last = rx.recv_timeout(Duration::from_secs(8));
        assert_eq!(last.expect("a wake was lost"), [2; 2 * CHUNK]);
        selecting.join();
        plain.join();
    }
}

fn a_select_sends_to_rendezvous_of_messages() {
    let (tx, rx) = letters(0, 8);
    for size in [10, 3 * CHUNK] {
        for both in [false, true] {
            let sender = fork(|| {
                for number in 0..20 {
                    if number % 6 == 0 {
                        pause(2);
                    }
                    assert!(send_by_select(&tx, &vec![number; size]));
                }
            });
            for number in 0..20 {
                if number % 9 == 0 {
                    pause(2);
                }
                let got = if both {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.run(|_| rx.recv_now())
                } else {
                    rx.recv()
                };
                assert_eq!(got.unwrap(), vec![number; size]);
            }
            sender.join();
        }
    }
    assert_eq!(tx.arena_used(), 0);
}

fn every_message_sent_by_selects_comes_once() {
    const EACH: usize = 150;
    let builder = Builder::new().capacity(2).arena_bytes(6 * CHUNK);
    let (bytes_tx, bytes) = builder.build_bytes().unwrap();
    let (words_tx, words) = builder.build_messages::<Vec<u64>>().unwrap();
    let senders = [0, 1, 2].map(|who| {
        let (bytes_tx, words_tx) = (&bytes_tx, &words_tx);
        fork(move || {
            let mut random = Random::new(11 + who);
            for number in 0..EACH {
                let size = [16, 100, 120, 5_000, 12_000][random.below(5) as usize];
                let letter = number.to_le_bytes().repeat(size / 8);
                let word = vec![number as u64; size / 2];
                if who == 2 {
                    // Plain senders beside them.
                    bytes_tx.send(&letter).unwrap();
                    words_tx.send(&word).unwrap();
                    continue;
                }
                let to_bytes = bytes_tx.sending(letter.len());
                let to_words = words_tx.sending(&word).unwrap();
                let mut select = Select::new();
                let cases = [select.send(&to_bytes), select.send(&to_words)];
                while !select.is_empty() {
                    let case = select.run(|case| {
                        let sent = if case == cases[0] {
                            bytes_tx.send_now(&letter)
                        } else {
                            words_tx.send_now(&word)
                        };
                        sent.map(|sent| sent.map(|()| case))
                    });
                    select.remove(case.unwrap());
                }
            }
        })
    });
    drop((bytes_tx, words_tx));
    let mut seen = [vec![0; EACH], vec![0; EACH]];
    let mut select = Select::new();
    let cases = [select.recv(&bytes), select.recv(&words)];
    let mut random = Random::new(5);
    while !select.is_empty() {
        if random.below(30) == 0 {
            pause_us(random.below(500));
        }
        let (case, number) = select.run(|case| {
            let number = if case == cases[0] {
                bytes.recv_now()?.ok().map(|letter| {
                    let first: [u8; 8] = letter[..8].try_into().unwrap();
                    assert!(letter.chunks(8).all(|word| word == first), "torn");
                    usize::from_le_bytes(first)
                })
            } else {
                words.recv_now()?.ok().map(|word| {
                    assert!(word.iter().all(|&number| number == word[0]), "torn");
                    word[0] as usize
                })
            };
            Some((case, number))
        });
        match number {
            Some(number) => seen[case][number] += 1,
            None => select.remove(case),
        }
    }
    assert_eq!(seen, [vec![3; EACH], vec![3; EACH]]);
    senders.into_iter().for_each(Child::join);
    assert_eq!((bytes.arena_used(), words.arena_used()), (0, 0));
}

fn a_select_that_sends_messages_hears_of_deaths() {
    for lacks_chunks in [false, true] {
        let (tx, rx) = letters(1, 2);
        let (ready_tx, ready) = channel::<u8>(1).unwrap();
        let receiver = fork(|| {
            rx.recv().unwrap();
            ready_tx.send(1).unwrap();
            linger()
        });
        drop(rx);
        tx.send(b"x").unwrap();
        ready.recv().unwrap();
        let held = lacks_chunks.then(|| tx.reserve(CHUNK).unwrap());
        if !lacks_chunks {
            tx.send(b"in the slot").unwrap();
        }
        let killer = fork(|| {
            pause(40);
            receiver.signal(libc::SIGKILL);
        });
        let room = tx.sending(2 * CHUNK);
        let mut select = Select::new();
        select.send(&room);
        let start = Instant::now();
        let error = select.run(|_| tx.send_now(&[0; 2 * CHUNK])).unwrap_err();
        assert!(error.is_disconnected());
        assert!(start.elapsed() < Duration::from_secs(8), "told by the belt");
        killer.join();
        drop(held);
    }
}

fn what_dead_holders_of_chunks_had_wakes_a_select() {
    let (tx, rx) = letters(4, 3);
    for _ in 0..10 {
        let (ready_tx, ready) = channel::<u8>(1).unwrap();
        let holder = fork(|| {
            let _held = tx.reserve(2 * CHUNK).unwrap();
            ready_tx.send(1).unwrap();
            linger()
        });
        ready.recv().unwrap();
        let selecting = fork(|| assert!(send_by_select(&tx, &[9; 2 * CHUNK])));
        await_sleep(&selecting);
        holder.kill();
        let got = rx.recv_timeout(Duration::from_secs(8));
        assert_eq!(got.expect("told by the belt"), [9; 2 * CHUNK]);
        selecting.join();
    }
    assert_eq!(tx.arena_used(), 0);
}

fn selects_killed_at_each_step_of_a_send_leave_the_arena_whole() {
    for (point, sent) in [
        (ChunkClaimed, false),
        (RunFilled, false),
        (Claimed, false),
        (Published, true),
        (Bumped, true),
        (Armed, false),
        (ChunkFreed, false),
        (RunFreed, false),
    ] {
        let mut kills = 0;
        for round in 0..120 {
            if round >= 6 && kills > 0 {
                break;
            }
            let (tx, rx) = letters(1, 4);
            let receiver = fork(|| {
                let first = rx.recv().unwrap();
                assert!(sent && first == [1; 3 * CHUNK] || first == [2; 4 * CHUNK]);
                if first.len() == 3 * CHUNK {
                    assert_eq!(rx.recv().unwrap(), [2; 4 * CHUNK]);
                }
            });
            // Asleep, so that a wake that dies with its sender is missed.
            pause(1 + round % 4);
            // What is missing at first makes the victim arm; chunks are given back where the slot is gone meanwhile.
            let held = (point == Armed).then(|| tx.reserve(2 * CHUNK).unwrap());
            let victim = fork(|| {
                kill_at(point);
                if matches!(point, ChunkFreed | RunFreed) {
                    // As a try for which there is no slot any more does.
                    drop(tx.reserve(3 * CHUNK).unwrap());
                }
                let room = tx.sending(3 * CHUNK);
                let mut select = Select::new();
                select.send(&room);
                select.run(|_| tx.send_now(&[1; 3 * CHUNK])).unwrap();
            });
            let killed = if point == Bumped {
                victim.was_killed()
            } else {
                victim.killed();
                true
            };
            kills += u32::from(killed);
            drop(held);
            // Needs all of the arena: whatever the dead held has to be found.
            assert!(send_by_select(&tx, &[2; 4 * CHUNK]), "{point:?}");
            receiver.join();
            assert_eq!(tx.arena_used(), 0, "{point:?}");
        }
        assert!(kills > 0, "{point:?}: never reached");
    }
}

fn a_poll_loop_sends_messages_of_any_size() {
    let (tx, rx) = letters(2, 6);
    let sender = fork(|| {
        for number in 0..300_usize {
            let letter = vec![number as u8; [20, 3_000, 20_000][number % 3]];
            let room = tx.sending(letter.len());
            let mut readiness = room.readiness().unwrap();
            loop {
                match tx.send_now(&letter) {
                    Some(sent) => break sent.unwrap(),
                    None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
                    None => {}
                }
            }
        }
    });
    drop(tx);
    let mut random = Random::new(2);
    for number in 0..300_usize {
        if random.below(20) == 0 {
            pause_us(random.below(1_500));
        }
        let letter = rx.recv_timeout(Duration::from_secs(8)).unwrap();
        assert_eq!(letter, vec![number as u8; [20, 3_000, 20_000][number % 3]]);
    }
    assert!(rx.recv().unwrap_err().is_disconnected());
    sender.join();
    assert_eq!(rx.arena_used(), 0);
}

fn a_select_of_descriptors_sends_messages() {
    let (tx, rx) = letters(1, 3);
    let held = tx.reserve(2 * CHUNK).unwrap();
    let sender = fork(|| {
        let me = pidfd(std::process::id().cast_signed());
        let room = tx.sending(2 * CHUNK);
        let mut select = Select::new();
        let sending = select.send(&room);
        select.readable(&me);
        for _ in 0..2 {
            select
                .run(|case| {
                    assert_eq!(case, sending);
                    tx.send_now(&[4; 2 * CHUNK])
                })
                .unwrap();
        }
    });
    pause(30);
    drop(held);
    for _ in 0..2 {
        pause(10);
        let got = rx.recv_timeout(Duration::from_secs(8));
        assert_eq!(got.expect("a wake was lost"), [4; 2 * CHUNK]);
    }
    sender.join();
}

fn a_select_that_waits_for_chunks_sleeps_at_no_cost() {
    let (tx, rx) = letters(2, 2);
    let held = tx.reserve(2 * CHUNK).unwrap();
    let sleeper = fork(|| assert!(send_by_select(&tx, &[3; CHUNK])));
    let before = sleeper.cost_until_it_rests();
    pause(400);
    let after = sleeper.cost();
    assert!(after.0 - before.0 <= 1, "{} sleeps", after.0 - before.0);
    assert!(after.1 - before.1 < 2_000_000, "{} ns", after.1 - before.1);
    // Slots that come and go do not concern it.
    for _ in 0..100 {
        tx.send(b"small").unwrap();
        rx.recv().unwrap();
    }
    let sleeps = sleeper.cost().0 - after.0;
    assert!(sleeps <= 2, "{sleeps} sleeps for slots");
    drop(held);
    assert_eq!(rx.recv().unwrap(), [3; CHUNK]);
    sleeper.join();
}
