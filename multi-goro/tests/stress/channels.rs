//! Channels with many at each end, and selects that meet each other.

use std::time::Duration;

use multi_goro::chan::{RecvTimeoutError, TryRecvError};
use multi_goro::{Receiver, Runtime, Sender, chan, select, yield_now};

use crate::harness::{Random, stress};

/// Sends `count` numbered values as whoever is number `sender`, in every way there is.
fn send_all(tx: &Sender<(usize, u64)>, sender: usize, count: u64, mut random: Random) {
    for number in 0..count {
        let mut value = (sender, number);
        loop {
            let refused = match random.below(4) {
                0 => tx.try_send(value).err().map(|error| error.into_inner()),
                1 => tx
                    .send_timeout(value, random.pause(100))
                    .err()
                    .map(|error| error.into_inner()),
                2 => {
                    let mut left = Some(value);
                    select! {
                        send(tx, value) -> sent => {
                            sent.unwrap();
                            left = None;
                        }
                        after(random.pause(100)) => {}
                    }
                    left
                }
                _ => {
                    tx.send(value).unwrap();
                    None
                }
            };
            match refused {
                None => break,
                Some(back) => value = back,
            }
            yield_now();
        }
    }
}

/// Takes values until the channel is closed and empty, in every way there is.
fn take_all(rx: &Receiver<(usize, u64)>, mut random: Random) -> Vec<(usize, u64)> {
    let mut taken = Vec::new();
    loop {
        let value = match random.below(4) {
            0 => match rx.try_recv() {
                Ok(value) => Some(value),
                Err(TryRecvError::Closed) => return taken,
                Err(TryRecvError::Empty) => None,
            },
            1 => match rx.recv_timeout(random.pause(100)) {
                Ok(value) => Some(value),
                Err(RecvTimeoutError::Closed) => return taken,
                Err(RecvTimeoutError::Timeout) => None,
            },
            2 => select! {
                recv(rx) -> value => match value {
                    Ok(value) => Some(value),
                    Err(_) => return taken,
                },
                after(random.pause(100)) => None,
            },
            _ => match rx.recv() {
                Ok(value) => Some(value),
                Err(_) => return taken,
            },
        };
        taken.extend(value);
        if random.one_in(8) {
            yield_now();
        }
    }
}

#[test]
fn every_value_arrives_once_and_those_of_a_sender_in_order() {
    stress("channels with many ends", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(4))
            .build()
            .unwrap();
        let (senders, takers) = (1 + random.count(6), 1 + random.count(6));
        let count = random.below(300);
        let (tx, rx) = chan(random.count(5));
        let mut group = runtime.group();
        for sender in 0..senders {
            let (tx, random) = (tx.clone(), random.child());
            let send = move || {
                send_all(&tx, sender, count, random);
                Ok(())
            };
            group.go(send);
        }
        drop(tx);
        // Plain threads take, too.
        let threads: Vec<_> = (0..random.below(3))
            .map(|_| {
                let (rx, random) = (rx.clone(), random.child());
                std::thread::spawn(move || take_all(&rx, random))
            })
            .collect();
        let tasks: Vec<_> = (0..takers)
            .map(|_| {
                let (rx, random) = (rx.clone(), random.child());
                group.spawn(move || Ok(take_all(&rx, random)))
            })
            .collect();
        group.wait().unwrap();
        let mut taken: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        taken.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        let mut all = Vec::new();
        for taken in taken {
            for sender in 0..senders {
                let numbers = taken.iter().filter(|(from, _)| *from == sender);
                assert!(numbers.is_sorted(), "out of order: {taken:?}");
            }
            all.extend(taken);
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..senders)
            .flat_map(|sender| (0..count).map(move |number| (sender, number)))
            .collect();
        assert_eq!(all, expected);
    });
}

/// Tasks that send and receive on the same channels in one select: nobody meets himself, and nothing is lost.
#[test]
fn selects_over_both_ends_of_the_same_channels_pair_up() {
    stress("selects of both ends", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(4))
            .build()
            .unwrap();
        let (one, two) = (chan(0), chan(random.count(2)));
        let mut group = runtime.group();
        let tasks: Vec<_> = (0..2 + random.count(6))
            .map(|id| {
                let (one, two, steps) = (one.clone(), two.clone(), random.below(200));
                let mut random = random.child();
                group.spawn(move || {
                    let (mut sent, mut got) = (0_u64, 0_u64);
                    for _ in 0..steps {
                        let pause = random.pause(100);
                        select! {
                            send(one.0, id) -> done => {
                                done?;
                                sent += 1;
                            }
                            recv(one.1) -> from => {
                                assert_ne!(from?, id, "met himself on a channel without room");
                                got += 1;
                            }
                            send(two.0, id) -> done => {
                                done?;
                                sent += 1;
                            }
                            recv(two.1) -> from => {
                                from?;
                                got += 1;
                            }
                            after(pause) => {}
                        }
                    }
                    Ok((sent, got))
                })
            })
            .collect();
        group.wait().unwrap();
        let (mut sent, mut got) = (0, two.1.try_iter().count() as u64);
        for task in tasks {
            let counts = task.join().unwrap();
            sent += counts.0;
            got += counts.1;
        }
        assert_eq!(sent, got);
    });
}

/// Closing wakes everybody, whatever they wait with.
#[test]
fn a_close_ends_every_wait() {
    stress("closing", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let (tx, rx) = chan::<u8>(random.count(3));
        let (never_tx, never) = chan::<u8>(0);
        let mut group = runtime.group();
        for _ in 0..random.below(30) {
            let (tx, rx, never, which) = (tx.clone(), rx.clone(), never.clone(), random.below(4));
            group.go(move || {
                match which {
                    0 => while tx.send(1).is_ok() {},
                    1 => while rx.recv().is_ok() {},
                    2 => {
                        let wait = || {
                            select! {
                                recv(rx) -> value => value.is_ok(),
                                recv(never) -> _ => false,
                            }
                        };
                        while wait() {}
                    }
                    _ => while rx.recv_timeout(Duration::from_millis(1)).is_ok() {},
                }
                Ok(())
            });
        }
        std::thread::sleep(random.pause(300));
        tx.close();
        group.wait().unwrap();
        drop(never_tx);
    });
}
