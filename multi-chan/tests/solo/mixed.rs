//! Every operation beside every other, with kills: nothing doubled, reordered or torn, nothing corrupt.

use crate::support::{Child, Random, fork, pause_us, times};
use multi_chan::{Receiver, Sender, channel};
use std::time::Duration;

crate::tests![mixed_operations_and_kills_keep_the_contract];

const BATCH: usize = 5;

/// Sends numbers from 0 on, in every way there is; a number that is given back is sent again.
fn send_mixed(tx: &Sender<[u64; 2]>, who: u64, random: &mut Random) -> ! {
    let mut number = 0;
    loop {
        let message = [who, number];
        let sent = match random.below(6) {
            0 => tx.send(message).is_ok(),
            1 => tx.try_send(message).is_ok(),
            2 => tx
                .send_timeout(message, Duration::from_micros(random.below(60)))
                .is_ok(),
            3 => tx.send_timeout(message, Duration::from_millis(3)).is_ok(),
            4 => {
                let batch: [_; BATCH] = std::array::from_fn(|n| [who, number + n as u64]);
                tx.send_batch(&batch).unwrap();
                number += BATCH as u64 - 1;
                true
            }
            _ => {
                pause_us(random.below(30));
                false
            }
        };
        number += u64::from(sent);
    }
}

/// Receives in every way there is, until `count` values came or nobody sends.
fn receive_mixed(
    rx: &Receiver<[u64; 2]>,
    random: &mut Random,
    mut see: impl FnMut([u64; 2]) -> bool,
) {
    let mut values = [[0; 2]; BATCH];
    loop {
        let count = match random.below(4) {
            0 => rx.recv_batch(&mut values).unwrap_or(0),
            way => {
                let received = match way {
                    1 => rx.try_recv().ok(),
                    2 => rx
                        .recv_timeout(Duration::from_micros(random.below(90)))
                        .ok(),
                    _ => match rx.recv_timeout(Duration::from_millis(4)) {
                        Ok(value) => Some(value),
                        Err(error) => {
                            assert!(error.is_timeout(), "{error}");
                            None
                        }
                    },
                };
                values[0] = received.unwrap_or_default();
                usize::from(received.is_some())
            }
        };
        if values[..count].iter().any(|&value| !see(value)) {
            return;
        }
    }
}

fn mixed_operations_and_kills_keep_the_contract() {
    let mut random = Random::from_environment();
    for capacity in [0, 1, 3, 16, 64] {
        // The parent holds both ends throughout: nothing disconnects.
        let (tx, rx) = channel::<[u64; 2]>(capacity).unwrap();
        let (seen_tx, seen_rx) = channel::<[u64; 2]>(1 << 16).unwrap();
        let mut seen: Vec<[u64; 2]> = Vec::new();
        for round in 0..times(5, 40) {
            let seed = random.below(u64::MAX);
            let senders = [0, 1].map(|n| {
                let mut random = Random::new(seed + n);
                fork(|| send_mixed(&tx, round * 2 + n, &mut random))
            });
            let mut receiver_random = Random::new(seed + 2);
            let receiver = fork(|| {
                receive_mixed(&rx, &mut receiver_random, |value| {
                    seen_tx.send(value).is_ok()
                });
            });
            let mut left = 20 + random.below(60);
            let mut next = [0; 2];
            let mut check = |[who, number]: [u64; 2]| {
                let next = &mut next[(who - round * 2) as usize];
                assert!(
                    number >= *next,
                    "doubled or out of order at capacity {capacity}"
                );
                *next = number + 1;
                seen.push([who, number]);
            };
            receive_mixed(&rx, &mut random, |value| {
                check(value);
                left = left.saturating_sub(1);
                left > 0
            });
            pause_us(random.below(200));
            let mut children = [Some(receiver), None, None];
            for (place, sender) in children[1..].iter_mut().zip(senders) {
                *place = Some(sender);
            }
            // In any order.
            children.rotate_left(random.below(3) as usize);
            children.into_iter().flatten().for_each(Child::kill);
            while let Ok(value) = rx.try_recv() {
                check(value);
            }
            assert!(rx.try_recv().unwrap_err().is_empty());
            assert!(rx.is_empty());
        }
        drop(seen_tx);
        seen.extend(seen_rx);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count, "doubled at capacity {capacity}");
        println!(
            "capacity {capacity}: {count} received, {} dropped",
            rx.dropped()
        );
    }
}
