//! Participants that end without a word, by `_exit` or by SIGKILL, at any moment.

use crate::support::{Child, Random, arm_watchdog, exit, fork, linger, pause, pause_us, times};
use multi_chan::{Exposed, channel};
use std::time::Duration;

crate::tests![
    a_killed_sole_receiver_disconnects_sleeping_senders,
    a_killed_sole_sender_lets_receivers_drain,
    an_exit_without_drop_disconnects,
    a_killed_rendezvous_receiver_gives_the_value_back,
    one_killed_sender_of_two_does_not_disconnect,
    senders_killed_anywhere_leave_the_channel_whole,
    receivers_killed_anywhere_leave_the_channel_whole,
    rows_of_the_dead_are_used_again,
];

/// What takes longer and hardly sleeps: once is enough.
pub(crate) const LONG: &[&str] = &[
    "senders_killed_anywhere_leave_the_channel_whole",
    "receivers_killed_anywhere_leave_the_channel_whole",
    "rows_of_the_dead_are_used_again",
];

fn a_killed_sole_receiver_disconnects_sleeping_senders() {
    let (tx, rx) = channel::<u64>(2).unwrap();
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(0));
        linger()
    });
    drop(rx);
    tx.send(0).unwrap();
    while !tx.is_empty() {
        pause(1);
    }
    let sender = fork(|| {
        while let Ok(()) = tx.send(1) {}
        assert!(tx.send(1).unwrap_err().is_disconnected());
        assert!(tx.try_send(1).unwrap_err().is_disconnected());
    });
    pause(50);
    receiver.kill();
    sender.join();
    assert_eq!(tx.send(7).unwrap_err().into_inner(), 7);
}

fn a_killed_sole_sender_lets_receivers_drain() {
    let (tx, rx) = channel::<u64>(8).unwrap();
    let (ready_tx, ready_rx) = channel::<u64>(1).unwrap();
    let sender = fork(|| {
        tx.send_batch(&[1, 2, 3]).unwrap();
        ready_tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    assert_eq!(ready_rx.recv(), Ok(1));
    let sleeper = fork(|| {
        // Started by the kill: the drained values may come here too.
        let left = rx.iter().count();
        assert!(left <= 3);
        assert!(rx.recv().unwrap_err().is_disconnected());
    });
    pause(50);
    sender.kill();
    sleeper.join();
    assert!(rx.try_recv().unwrap_err().is_disconnected());
    assert!(
        rx.recv_timeout(Duration::from_secs(9))
            .unwrap_err()
            .is_disconnected()
    );
}

fn an_exit_without_drop_disconnects() {
    let (tx, rx) = channel::<u64>(8).unwrap();
    let sender = fork(|| {
        tx.send(1).unwrap();
        exit(0);
    });
    drop(tx);
    assert_eq!(rx.iter().collect::<Vec<_>>(), [1]);
    sender.join();
    let (tx, rx) = channel::<u64>(1).unwrap();
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(1));
        exit(0);
    });
    drop(rx);
    while tx.send(1).is_ok() {}
    assert!(tx.send(1).unwrap_err().is_disconnected());
    receiver.join();
}

fn a_killed_rendezvous_receiver_gives_the_value_back() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(1));
        linger()
    });
    drop(rx);
    tx.send(1).unwrap();
    let sender = fork(|| {
        let error = tx.send(2).unwrap_err();
        assert!(error.is_disconnected());
        assert_eq!(error.into_inner(), 2);
    });
    pause(50);
    receiver.kill();
    sender.join();
}

fn one_killed_sender_of_two_does_not_disconnect() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (go_tx, go_rx) = channel::<u64>(1).unwrap();
    let victim = fork(|| {
        let _tx = tx.clone();
        linger()
    });
    let other = fork(|| {
        let tx = tx.clone();
        assert_eq!(go_rx.recv(), Ok(1));
        tx.send(2).unwrap();
    });
    drop(tx);
    pause(20);
    victim.kill();
    assert!(
        rx.recv_timeout(Duration::from_millis(50))
            .unwrap_err()
            .is_timeout()
    );
    go_tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    other.join();
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn senders_killed_anywhere_leave_the_channel_whole() {
    let mut random = Random::from_environment();
    for capacity in [0, 1, 2, 7] {
        let (tx, rx) = channel::<[u64; 2]>(capacity).unwrap();
        for round in 0..times(8, 80) {
            let victims = [0, 1].map(|victim| {
                fork(|| {
                    for number in 0.. {
                        tx.send([round * 2 + victim, number]).unwrap();
                    }
                })
            });
            let mut next = [0, 0];
            let enough = random.below(60);
            let mut check = |[who, number]: [u64; 2]| {
                let next = &mut next[(who - round * 2) as usize];
                assert_eq!(number, *next, "lost, doubled or out of order");
                *next += 1;
            };
            for _ in 0..enough {
                check(rx.recv().unwrap());
            }
            pause_us(random.below(50));
            victims.into_iter().for_each(Child::kill);
            // Whatever the dead left half done does not stand in the way of what they had sent.
            while let Ok(message) = rx.try_recv() {
                check(message);
            }
            assert!(rx.try_recv().unwrap_err().is_empty());
            assert!(rx.is_empty());
        }
    }
}

fn receivers_killed_anywhere_leave_the_channel_whole() {
    let mut random = Random::from_environment();
    let kills = times(8, 80);
    for capacity in [0, 1, 2, 7] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let (seen_tx, seen_rx) = channel::<u64>(60 * kills).unwrap();
        let mut number = 0;
        for _ in 0..kills {
            let victims = [(); 2].map(|()| {
                fork(|| {
                    for value in &rx {
                        seen_tx.send(value).unwrap();
                    }
                })
            });
            for _ in 0..random.below(60) {
                tx.send(number).unwrap();
                number += 1;
            }
            pause_us(random.below(50));
            victims.into_iter().for_each(Child::kill);
        }
        // A survivor gets all that is left.
        let mut seen: Vec<u64> = Vec::new();
        while let Ok(value) = rx.try_recv() {
            seen.push(value);
        }
        drop(seen_tx);
        seen.extend(seen_rx);
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "doubled");
        let lost = number - seen.len() as u64;
        // Each victim may take one value with it: in its hands, or between the two channels.
        assert!(lost <= 2 * kills as u64, "{lost} of {number} lost");
        println!(
            "capacity {capacity}: {lost} of {number} lost with {} receivers, {} of them in their hands",
            2 * kills as u64,
            rx.dropped()
        );
        tx.close();
        assert!(rx.recv().unwrap_err().is_closed());
    }
}

fn rows_of_the_dead_are_used_again() {
    // Many are more than the channel's table has rows.
    let (tx, rx) = channel::<u64>(1).unwrap();
    for number in 0..times(60, 4_500) {
        if number % 500 == 0 {
            // On a busy machine so many forks take longer than one test may.
            arm_watchdog();
        }
        let child = fork(|| tx.send(number).unwrap());
        assert_eq!(rx.recv(), Ok(number));
        child.join();
    }
    // The receiver's, and those of a child or two.
    let state = tx.state();
    assert!(
        (2..5).any(|used| state.contains(&format!("rows_used: AtomicU32({used})"))),
        "{state}"
    );
    drop(tx);
    assert!(rx.recv().unwrap_err().is_disconnected());
}
