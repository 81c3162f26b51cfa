//! How handles that a fork copied count.

use crate::support::{Child, fork, pause, times};
use multi_chan::channel;
use std::thread;

crate::tests![
    a_child_that_has_not_sent_yet_counts_as_a_sender,
    a_child_that_receives_no_longer_counts_as_a_sender,
    a_child_that_only_inherited_counts_until_it_ends,
    a_child_that_drops_its_copy_stops_counting,
    a_clone_in_a_child_counts_both_sides,
    grandchildren_are_entered_too,
    a_channel_made_in_a_child_is_its_own,
    the_thread_that_made_a_channel_may_end,
    hundreds_of_children_share_a_channel,
];

fn a_child_that_has_not_sent_yet_counts_as_a_sender() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let child = fork(|| {
        pause(150);
        tx.send(1).unwrap();
    });
    drop(tx);
    assert!(rx.try_recv().unwrap_err().is_empty());
    assert_eq!(rx.recv(), Ok(1));
    child.join();
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn a_child_that_receives_no_longer_counts_as_a_sender() {
    let (tx, rx) = channel::<u64>(8).unwrap();
    let (done_tx, done_rx) = channel::<u64>(20).unwrap();
    // Each child has a copy of `tx` that it can neither use nor drop.
    let workers = [(); 3].map(|()| {
        fork(|| {
            for job in &rx {
                done_tx.send(job).unwrap();
            }
        })
    });
    drop((rx, done_tx));
    for job in 0..20 {
        tx.send(job).unwrap();
    }
    drop(tx);
    let mut done: Vec<u64> = done_rx.into_iter().collect();
    done.sort_unstable();
    assert_eq!(done, (0..20).collect::<Vec<_>>());
    workers.into_iter().for_each(Child::join);
}

fn a_child_that_only_inherited_counts_until_it_ends() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (go_tx, go_rx) = channel::<u64>(1).unwrap();
    let child = fork(|| assert_eq!(go_rx.recv(), Ok(1)));
    drop(tx);
    pause(20);
    assert!(rx.try_recv().unwrap_err().is_empty());
    go_tx.send(1).unwrap();
    child.join();
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn a_child_that_drops_its_copy_stops_counting() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (go_tx, go_rx) = channel::<u64>(1).unwrap();
    let mut tx = Some(tx);
    let child = fork(|| {
        tx.take();
        assert_eq!(go_rx.recv(), Ok(1));
    });
    drop(tx.take());
    assert!(rx.recv().unwrap_err().is_disconnected());
    go_tx.send(1).unwrap();
    child.join();
}

fn a_clone_in_a_child_counts_both_sides() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (back_tx, back_rx) = channel::<u64>(1).unwrap();
    let child = fork(|| {
        let tx = tx.clone();
        assert_eq!(rx.recv(), Ok(1));
        back_tx.send(1).unwrap();
        pause(100);
        // Without the clone, the receiver below could have found its senders gone by now.
        tx.send(2).unwrap();
    });
    tx.send(1).unwrap();
    assert_eq!(back_rx.recv(), Ok(1));
    drop(tx);
    assert_eq!(rx.recv(), Ok(2));
    child.join();
}

fn grandchildren_are_entered_too() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let child = fork(|| {
        // Left alone by the child on purpose: the grandchild is then the only sender.
        let grandchild = fork(|| {
            pause(50);
            tx.send(3).unwrap();
        });
        grandchild.join();
    });
    drop(tx);
    assert_eq!(rx.recv(), Ok(3));
    child.join();
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn a_channel_made_in_a_child_is_its_own() {
    let (_tx, _rx) = channel::<u64>(1).unwrap();
    fork(|| {
        let (tx, rx) = channel::<u64>(2).unwrap();
        let grandchild = fork(|| tx.send(4).unwrap());
        drop(tx);
        assert_eq!(rx.iter().collect::<Vec<_>>(), [4]);
        grandchild.join();
    })
    .join();
}

fn the_thread_that_made_a_channel_may_end() {
    // In a child, so that the maker is the first thread of its process to touch a channel.
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (go_tx, go_rx) = channel::<u64>(1).unwrap();
    let child = fork(|| {
        let (own_tx, own_rx) = thread::spawn(|| channel::<u64>(1).unwrap()).join().unwrap();
        let watcher = fork(|| {
            // Asks about its parent again and again, whose holding thread is gone.
            assert_eq!(own_rx.recv(), Ok(5));
            assert!(own_rx.recv().unwrap_err().is_disconnected());
        });
        go_tx.send(1).unwrap();
        pause(200);
        own_tx.send(5).unwrap();
        drop(own_tx);
        watcher.join();
        tx.send(6).unwrap();
    });
    drop(tx);
    assert_eq!(go_rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Ok(6));
    child.join();
}

fn hundreds_of_children_share_a_channel() {
    let (tx, rx) = channel::<u64>(4).unwrap();
    let count = times(200, 300);
    let children: Vec<_> = (0..count)
        .map(|number| fork(|| tx.send(number).unwrap()))
        .collect();
    drop(tx);
    let mut numbers: Vec<u64> = rx.into_iter().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    for child in children {
        child.join();
    }
}
