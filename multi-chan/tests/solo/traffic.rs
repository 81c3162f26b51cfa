//! Values through a channel between processes: all there, once, whole, in order.

use crate::support::{Child, fork};
use multi_chan::bytemuck::{Pod, Zeroable};
use multi_chan::{Chan, channel};

crate::tests![
    two_children_send_42_each,
    both_ends_in_one_handle_cross_a_fork,
    many_processes_lose_double_and_tear_nothing,
    batches_keep_their_order_across_processes,
    a_rendezvous_hands_over_each_value,
    ten_thousand_round_trips,
    ten_thousand_unbuffered_round_trips,
    ten_thousand_channels_leave_nothing_behind,
];

fn two_children_send_42_each() {
    let (tx, rx) = channel::<i32>(2).unwrap();
    let children = [(); 2].map(|()| fork(|| tx.send(42).unwrap()));
    assert_eq!((rx.recv(), rx.recv()), (Ok(42), Ok(42)));
    children.into_iter().for_each(Child::join);
    drop(tx);
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn both_ends_in_one_handle_cross_a_fork() {
    let chan = Chan::<i32>::new(2).unwrap();
    let children = [(); 2].map(|()| fork(|| chan.send(42).unwrap()));
    children.into_iter().for_each(Child::join);
    chan.close();
    assert_eq!(chan.iter().collect::<Vec<_>>(), [42, 42]);
}

/// 64 bytes that show when they are torn.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parcel {
    sender: u64,
    number: u64,
    body: [u64; 5],
    sum: u64,
}

impl Parcel {
    fn new(sender: u64, number: u64) -> Parcel {
        let body =
            [1, 2, 3, 4, 5].map(|n: u64| (number ^ sender << 40).wrapping_mul(n * 0x9e37_79b9));
        let mut parcel = Parcel {
            sender,
            number,
            body,
            sum: 0,
        };
        parcel.sum = parcel.sum();
        parcel
    }

    fn sum(&self) -> u64 {
        let mut sum = self.sender.wrapping_mul(31) ^ self.number;
        for word in self.body {
            sum = sum.rotate_left(7).wrapping_add(word);
        }
        sum
    }
}

const SENDERS: u64 = 4;
const RECEIVERS: u64 = 3;
const PARCELS: u64 = 3_000;

fn many_processes_lose_double_and_tear_nothing() {
    for capacity in [0, 1, 3, 64] {
        let (tx, rx) = channel::<Parcel>(capacity).unwrap();
        let (seen_tx, seen_rx) = channel::<[u64; 2]>(128).unwrap();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                fork(|| {
                    for number in 0..PARCELS {
                        tx.send(Parcel::new(sender, number)).unwrap();
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = (0..RECEIVERS)
            .map(|_| {
                fork(|| {
                    let mut next = [0; SENDERS as usize];
                    for parcel in &rx {
                        assert_eq!(parcel.sum, parcel.sum(), "torn");
                        let next = &mut next[parcel.sender as usize];
                        assert!(parcel.number >= *next, "out of order");
                        *next = parcel.number + 1;
                        seen_tx.send([parcel.sender, parcel.number]).unwrap();
                    }
                })
            })
            .collect();
        drop((tx, rx, seen_tx));
        let mut seen = vec![0_u8; (SENDERS * PARCELS) as usize];
        for [sender, number] in seen_rx {
            seen[(sender * PARCELS + number) as usize] += 1;
        }
        for child in senders.into_iter().chain(receivers) {
            child.join();
        }
        assert!(
            seen.iter().all(|&times| times == 1),
            "lost or doubled at capacity {capacity}"
        );
    }
}

fn batches_keep_their_order_across_processes() {
    const COUNT: u64 = 20_000;
    for capacity in [0, 1, 5, 64] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let sender = fork(|| {
            let values: Vec<u64> = (0..COUNT).collect();
            for batch in values.chunks(23) {
                tx.send_batch(batch).unwrap();
            }
        });
        drop(tx);
        let mut next = 0;
        let mut values = [0; 17];
        while let Ok(count) = rx.recv_batch(&mut values) {
            assert!(count > 0);
            for value in &values[..count] {
                assert_eq!(*value, next);
                next += 1;
            }
        }
        assert_eq!(next, COUNT);
        sender.join();
    }
}

fn a_rendezvous_hands_over_each_value() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let (order_tx, order_rx) = channel::<u64>(8).unwrap();
    let sender = fork(|| {
        for number in 0..3 {
            tx.send(number).unwrap();
            // Only now may the sender say so: the receiver has the value.
            order_tx.send(number).unwrap();
        }
    });
    drop((tx, order_tx));
    for number in 0..3 {
        crate::support::pause(20);
        assert!(
            order_rx.is_empty(),
            "send returned before the value was taken"
        );
        assert_eq!((rx.len(), rx.capacity()), (0, 0));
        assert_eq!(rx.recv(), Ok(number));
        assert_eq!(order_rx.recv(), Ok(number));
    }
    sender.join();
    assert!(rx.recv().unwrap_err().is_disconnected());
}

fn ten_thousand_round_trips() {
    round_trips(1);
}

fn ten_thousand_unbuffered_round_trips() {
    round_trips(0);
}

fn round_trips(capacity: usize) {
    let (ping_tx, ping_rx) = channel::<u64>(capacity).unwrap();
    let (pong_tx, pong_rx) = channel::<u64>(capacity).unwrap();
    let echo = fork(|| {
        for value in &ping_rx {
            pong_tx.send(value + 1).unwrap();
        }
    });
    drop((ping_rx, pong_tx));
    for value in 0..10_000 {
        ping_tx.send(value).unwrap();
        assert_eq!(pong_rx.recv(), Ok(value + 1));
    }
    drop(ping_tx);
    echo.join();
}

fn ten_thousand_channels_leave_nothing_behind() {
    // The first channel of a tree makes the roll, which stays.
    drop(channel::<u64>(1).unwrap());
    let before = crate::support::holdings();
    for _ in 0..10_000 {
        let (tx, rx) = channel::<u64>(4).unwrap();
        tx.send(7).unwrap();
        assert_eq!(rx.recv(), Ok(7));
    }
    let after = crate::support::holdings();
    println!("descriptors and mappings: {before:?} before, {after:?} after");
    assert_eq!(after, before);
}
