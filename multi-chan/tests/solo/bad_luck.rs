//! Moments that are rare, made to happen: stragglers, refused forks, children that no handler saw.

use crate::support::{
    Child, bare_clone, exit, fork, fork_stillborn, linger, pause, shared_bytes, without_processes,
};
use multi_chan::KillPoint::{Claimed, Freed, Published};
use multi_chan::{channel, kill_at};
use std::thread;
use std::time::{Duration, Instant};

crate::tests![
    a_value_taken_back_after_a_receiver_left_the_head_behind,
    shared_words_left_laps_behind_are_found_out,
    a_burial_touches_no_slot_that_was_never_used,
    a_bare_clone_may_use_the_channel_and_die,
    a_bare_clone_leaves_its_parents_word_alone,
    a_refused_fork_is_forgotten,
    a_child_killed_before_its_first_step_is_heard_of,
    a_fork_beside_busy_threads_is_entered_whole,
];

fn a_value_taken_back_after_a_receiver_left_the_head_behind() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let sender = fork(|| tx.send(1).unwrap());
    // Frees the slot and does not live to move the head.
    let receiver = fork(|| {
        kill_at(Freed);
        rx.recv().ok();
    });
    receiver.killed();
    sender.join();
    for _ in 0..3 {
        let error = tx.send_timeout(2, Duration::from_millis(5)).unwrap_err();
        assert!(error.is_timeout());
    }
    assert!(rx.try_recv().unwrap_err().is_empty());
    let sender = fork(|| tx.send(3).unwrap());
    assert_eq!(rx.recv(), Ok(3));
    sender.join();
}

fn shared_words_left_laps_behind_are_found_out() {
    // A ring whose tail and head are raised at every fourth position only, and there everybody dies before
    // it is done. Each child's handle knows the beginning only, as its parent's.
    const LEN: u64 = 16;
    let (tx, rx) = channel::<u64>(LEN as usize).unwrap();
    let (_idle_tx, idle_rx) = (tx.clone(), rx.clone());
    let mut taken = 0;
    for number in 0..5 * LEN {
        let milestone = number % 4 == 0;
        let sender = fork(|| {
            if milestone {
                kill_at(Published);
            }
            tx.send(number).unwrap();
        });
        assert_eq!(sender.was_killed(), milestone);
        assert_eq!(rx.len(), 1);
        let receiver = fork(|| {
            if milestone {
                kill_at(Freed);
            }
            assert_eq!(rx.recv(), Ok(number));
        });
        assert_eq!(receiver.was_killed(), milestone);
        taken += u64::from(milestone);
        assert!(rx.is_empty());
    }
    assert_eq!((taken, rx.dropped()), (5 * LEN / 4, 0));
    for number in 0..LEN {
        tx.try_send(number).unwrap();
    }
    assert!(tx.try_send(0).unwrap_err().is_full());
    assert_eq!(idle_rx.len() as u64, LEN);
    for number in 0..LEN {
        assert_eq!(idle_rx.try_recv(), Ok(number));
    }
    assert!(rx.try_recv().unwrap_err().is_empty());
    // Sealing, too, finds the true head.
    rx.close();
    assert!(rx.recv().unwrap_err().is_closed());
}

fn a_burial_touches_no_slot_that_was_never_used() {
    // 4 GiB of slots, all but a few of them never touched.
    let (tx, rx) = channel::<[u8; 4096]>(1 << 20).unwrap();
    let before = shared_bytes();
    tx.send([1; 4096]).unwrap();
    let sender = fork(|| {
        kill_at(Claimed);
        tx.send([2; 4096]).ok();
    });
    sender.killed();
    tx.send([3; 4096]).unwrap();
    assert_eq!(rx.recv().unwrap()[0], 1);
    assert_eq!(rx.recv().unwrap()[0], 3);
    let grown = shared_bytes().saturating_sub(before);
    assert!(grown < 1 << 24, "{grown} bytes touched for three messages");
}

fn a_bare_clone_may_use_the_channel_and_die() {
    let (tx, rx) = channel::<u64>(2).unwrap();
    for _ in 0..3 {
        let child = bare_clone(|| {
            tx.send(1).unwrap();
            kill_at(Claimed);
            tx.send(2).ok();
        });
        assert_eq!(rx.recv(), Ok(1));
        child.killed();
        tx.send(3).unwrap();
        assert_eq!(rx.recv_timeout(Duration::from_secs(9)), Ok(3));
    }
    // The last sender is such a child, and dies while a receiver sleeps.
    let child = bare_clone(|| {
        tx.send(4).unwrap();
        linger()
    });
    assert_eq!(rx.recv(), Ok(4));
    drop(tx);
    let receiver = fork(|| assert!(rx.recv().unwrap_err().is_disconnected()));
    pause(30);
    child.kill();
    receiver.join();
}

fn a_bare_clone_leaves_its_parents_word_alone() {
    // The child of a thread that holds its process's word, as the kernel and the C library know it.
    let (tx, rx) = channel::<u64>(1).unwrap();
    let middle = fork(|| {
        let child = bare_clone(|| {
            tx.send(1).unwrap();
            // Also from a second thread: its end must give back nothing that is its parent's.
            thread::scope(|scope| {
                scope.spawn(|| tx.send(2).unwrap());
            });
        });
        child.join();
        linger()
    });
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Ok(2));
    drop(tx);
    pause(20);
    // The one in the middle inherited a sender: it counts while it lives, and no longer.
    assert!(rx.try_recv().unwrap_err().is_empty());
    middle.kill();
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn a_refused_fork_is_forgotten() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let poor = fork(|| {
        // Not counted as a sender for itself, so only the refused children could count.
        without_processes(|refused| assert!(refused));
        drop(tx.clone());
        tx.send(1).unwrap();
    });
    drop(tx);
    assert_eq!(rx.recv(), Ok(1));
    poor.join();
    let start = Instant::now();
    let error = rx.recv_timeout(Duration::from_secs(9)).unwrap_err();
    assert!(error.is_disconnected());
    let waited = start.elapsed();
    assert!(
        waited < Duration::from_millis(1_500),
        "found late, not refused"
    );
}

fn a_child_killed_before_its_first_step_is_heard_of() {
    // It counts for what its parent counts for, from before the fork.
    let (tx, rx) = channel::<u64>(1).unwrap();
    let start = Instant::now();
    fork_stillborn().killed();
    drop(tx);
    let limit = Duration::from_secs(9);
    assert!(rx.recv_timeout(limit).unwrap_err().is_disconnected());
    // Its parent is gone, too, and a receiver is asleep.
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (_idle_tx, _idle) = channel::<u64>(1).unwrap();
    let receiver = fork(|| assert!(rx.recv().unwrap_err().is_disconnected()));
    let parent = fork(|| {
        drop(tx.clone());
        pause(20);
        fork_stillborn().killed();
    });
    drop((tx, rx));
    parent.join();
    receiver.join();
    let waited = start.elapsed();
    assert!(waited < Duration::from_millis(1_500), "found late");
}

fn a_fork_beside_busy_threads_is_entered_whole() {
    // In a child, so that no other test finds the threads.
    let parent = fork(|| {
        let (tx, rx) = channel::<u64>(4).unwrap();
        let (seen_tx, seen_rx) = channel::<u64>(256).unwrap();
        // Closed when the threads shall stop.
        let (going_tx, going_rx) = channel::<u64>(1).unwrap();
        let going = || !going_rx.is_closed();
        thread::scope(|scope| {
            scope.spawn(|| {
                while going() {
                    let _ = tx.try_send(0);
                }
            });
            scope.spawn(|| {
                while going() {
                    rx.recv_timeout(Duration::from_micros(50)).ok();
                }
            });
            scope.spawn(|| {
                // Channels come and go, and with them the list that a fork copies.
                while going() {
                    let (own_tx, own_rx) = channel::<u64>(1).unwrap();
                    own_tx.clone().send(1).unwrap();
                    drop(own_tx);
                    assert_eq!(own_rx.iter().count(), 1);
                }
            });
            for round in 0..60 {
                let children: Vec<_> = (0..4)
                    .map(|child| {
                        fork(|| {
                            tx.send(0).unwrap();
                            rx.recv_timeout(Duration::from_millis(1)).ok();
                            let (own_tx, own_rx) = channel::<u64>(1).unwrap();
                            own_tx.send(1).unwrap();
                            assert_eq!(own_rx.recv(), Ok(1));
                            seen_tx.send(round * 4 + child).unwrap();
                        })
                    })
                    .collect();
                children.into_iter().for_each(Child::join);
            }
            going_tx.close();
        });
        drop(seen_tx);
        let mut seen: Vec<_> = seen_rx.into_iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..240).collect::<Vec<_>>());
        exit(0);
    });
    parent.join();
}
