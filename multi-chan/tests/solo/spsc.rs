//! One sender, one receiver: whose sides they are across forks, and what a death leaves.

use crate::support::{End, Random, exit, fork, linger, pause, pause_us};
use multi_chan::KillPoint::{
    self, Armed, Bumped, Copied, Disowned, Ended, Freed, Owned, Published, Written,
};
use multi_chan::{Builder, channel, kill_at, spsc};
use std::thread;
use std::time::{Duration, Instant};

crate::tests![
    one_process_streams_to_another_in_order,
    one_pair_of_threads_streams_in_order,
    one_pair_batches_across_processes,
    one_pair_makes_ten_thousand_round_trips,
    the_first_user_of_a_side_has_it,
    a_dropped_side_is_taken_over,
    a_dead_senders_side_is_taken_over,
    a_sleeping_receiver_hears_of_its_senders_death,
    a_sleeping_sender_hears_of_its_receivers_death,
    a_close_from_either_side_loses_nothing,
    one_pairs_timeouts_are_never_early,
    a_lone_sender_killed_at_each_step_holds_up_nobody,
    a_lone_receiver_killed_at_each_step_loses_nothing,
    receivers_killed_anywhere_lose_nothing,
    a_close_killed_at_each_step_still_ends_the_channel,
    frames_are_written_and_read_where_they_lie,
    a_slot_dropped_or_inherited_sends_nothing,
    a_message_on_loan_to_the_dead_is_received_again,
    two_handles_of_one_process_do_not_share_a_side,
];

fn one_process_streams_to_another_in_order() {
    for capacity in [1, 2, 7, 64, 1000] {
        let (mut tx, mut rx) = spsc::channel::<[u64; 2]>(capacity).unwrap();
        let sender = fork(|| {
            for value in 0..5_000 {
                tx.send([value, !value]).unwrap();
            }
        });
        drop(tx);
        let mut next = 0;
        for [value, check] in &mut rx {
            assert_eq!((value, check), (next, !next));
            next += 1;
        }
        assert_eq!(next, 5_000);
        assert!(rx.recv().unwrap_err().is_disconnected());
        sender.join();
    }
}

fn one_pair_of_threads_streams_in_order() {
    let (mut tx, mut rx) = spsc::channel::<u64>(3).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for value in 0..20_000 {
                tx.send(value).unwrap();
            }
        });
        assert!(rx.iter().eq(0..20_000));
    });
}

fn one_pair_batches_across_processes() {
    let (mut tx, mut rx) = spsc::channel::<u64>(10).unwrap();
    let values: Vec<u64> = (0..1_000).collect();
    let sender = fork(|| {
        for batch in values.chunks(37) {
            tx.send_batch(batch).unwrap();
        }
    });
    drop(tx);
    let mut received: Vec<u64> = Vec::new();
    let mut some = [0; 23];
    while let Ok(count) = rx.recv_batch(&mut some) {
        received.extend(&some[..count]);
    }
    assert_eq!(received, values);
    sender.join();
}

fn one_pair_makes_ten_thousand_round_trips() {
    let (mut ping_tx, mut ping_rx) = spsc::channel::<u64>(1).unwrap();
    let (mut pong_tx, mut pong_rx) = spsc::channel::<u64>(1).unwrap();
    let echo = fork(|| {
        for value in &mut ping_rx {
            pong_tx.send(value + 1).unwrap();
        }
    });
    for value in 0..10_000 {
        ping_tx.send(value).unwrap();
        assert_eq!(pong_rx.recv(), Ok(value + 1));
    }
    drop(ping_tx);
    echo.join();
}

fn the_first_user_of_a_side_has_it() {
    let (mut tx, mut rx) = spsc::channel::<u64>(4).unwrap();
    let (ready_tx, ready_rx) = channel::<u64>(1).unwrap();
    let (go_tx, go_rx) = channel::<u64>(1).unwrap();
    let user = fork(|| {
        tx.send(1).unwrap();
        ready_tx.send(1).unwrap();
        assert_eq!(go_rx.recv(), Ok(1));
        tx.send(2).unwrap();
    });
    assert_eq!(ready_rx.recv(), Ok(1));
    let error = tx.send(9).unwrap_err();
    assert!(error.is_occupied() && !error.is_closed());
    assert_eq!(error.into_inner(), 9);
    assert!(tx.try_send(9).unwrap_err().is_occupied());
    assert!(tx.send_batch(&[9]).unwrap_err().is_occupied());
    // The other side is still anybody's.
    assert_eq!(rx.recv(), Ok(1));
    fork(|| assert!(rx.recv().unwrap_err().is_occupied())).join();
    go_tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    user.join();
}

fn a_dropped_side_is_taken_over() {
    let (tx, mut rx) = spsc::channel::<u64>(4).unwrap();
    let mut tx = Some(tx);
    for value in 0..3 {
        fork(|| {
            let mut tx = tx.take().unwrap();
            tx.send(value).unwrap();
            drop(tx);
            // Lives on without the side.
            exit(0);
        })
        .join();
    }
    let (ready_tx, ready_rx) = channel::<u64>(1).unwrap();
    let former = fork(|| {
        let mut tx = tx.take().unwrap();
        tx.send(3).unwrap();
        drop(tx);
        ready_tx.send(1).unwrap();
        linger()
    });
    assert_eq!(ready_rx.recv(), Ok(1));
    let mut tx = tx.take().unwrap();
    for value in 0..4 {
        assert_eq!(rx.recv(), Ok(value));
    }
    tx.send(4).unwrap();
    assert_eq!(rx.recv(), Ok(4));
    former.kill();
}

fn a_dead_senders_side_is_taken_over() {
    // More values than slots, so that the successors start all over the ring.
    let (mut tx, mut rx) = spsc::channel::<u64>(3).unwrap();
    for round in 0..10 {
        let victim = fork(|| {
            tx.send(2 * round).unwrap();
            linger()
        });
        assert_eq!(rx.recv(), Ok(2 * round));
        victim.kill();
        fork(|| tx.send(2 * round + 1).unwrap()).join();
        assert_eq!(rx.recv(), Ok(2 * round + 1));
    }
}

fn a_sleeping_receiver_hears_of_its_senders_death() {
    let (mut tx, mut rx) = spsc::channel::<u64>(2).unwrap();
    let sender = fork(|| {
        tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(1));
        assert!(rx.recv().unwrap_err().is_disconnected());
    });
    pause(50);
    sender.kill();
    receiver.join();
}

fn a_sleeping_sender_hears_of_its_receivers_death() {
    let (mut tx, mut rx) = spsc::channel::<u64>(2).unwrap();
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(0));
        linger()
    });
    drop(rx);
    let sender = fork(|| {
        let mut sent = 0;
        let error = loop {
            match tx.send(sent) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(error.is_disconnected());
        assert_eq!(sent, 3, "one was taken, two fit");
    });
    pause(50);
    receiver.kill();
    sender.join();
}

fn a_close_from_either_side_loses_nothing() {
    let mut random = Random::from_environment();
    for round in 0..200 {
        let (mut tx, mut rx) = spsc::channel::<u64>(4).unwrap();
        let wait_us = random.below(80);
        let sender = fork(|| {
            let closes = round % 2 == 0;
            let mut sent = 0;
            while (!closes || sent < wait_us) && tx.send(sent).is_ok() {
                sent += 1;
            }
            tx.close();
            assert!(tx.send(0).unwrap_err().is_closed());
            exit(i32::try_from(sent % 256).unwrap())
        });
        let mut received = 0;
        if round % 2 != 0 {
            pause_us(wait_us);
            while let Ok(value) = rx.try_recv() {
                assert_eq!(value, received);
                received += 1;
            }
            rx.close();
        }
        for value in &mut rx {
            assert_eq!(value, received);
            received += 1;
        }
        assert!(rx.recv().unwrap_err().is_closed());
        assert_eq!(
            sender.wait(),
            End::Exited(i32::try_from(received % 256).unwrap())
        );
        assert!(rx.recv().unwrap_err().is_closed() && rx.is_empty());
    }
}

fn one_pairs_timeouts_are_never_early() {
    let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
    for ms in [1, 15] {
        let limit = Duration::from_millis(ms);
        let start = Instant::now();
        assert!(rx.recv_timeout(limit).unwrap_err().is_timeout());
        assert!(start.elapsed() >= limit);
    }
    tx.send(1).unwrap();
    let limit = Duration::from_millis(15);
    let start = Instant::now();
    assert!(tx.send_timeout(2, limit).unwrap_err().is_timeout());
    assert!(start.elapsed() >= limit);
    assert!(tx.try_send(2).unwrap_err().is_full());
    assert_eq!((rx.len(), rx.try_recv()), (1, Ok(1)));
    assert!(rx.try_recv().unwrap_err().is_empty());
}

const ROUNDS: u64 = 8;
/// Times as many rounds for a point that was not reached.
const PATIENCE: u64 = 20;

fn a_lone_sender_killed_at_each_step_holds_up_nobody() {
    let points: [(KillPoint, bool); 6] = [
        (Owned, false),
        (Written, false),
        (Published, true),
        (Bumped, true),
        (Armed, true),
        (Disowned, true),
    ];
    for (point, sent) in points {
        let mut kills = 0;
        for round in 0..ROUNDS * PATIENCE {
            // Some points are passed only where somebody sleeps, which takes longer on a busy machine.
            if round >= ROUNDS && kills > 0 {
                break;
            }
            let (tx, mut rx) = spsc::channel::<u64>(1).unwrap();
            let mut tx = Some(tx);
            // Asleep, so that a wake that dies with its sender is missed; on its way to the victim's second value.
            let receiver = (point != Armed).then(|| fork(|| while rx.recv().unwrap() != 100 {}));
            pause(if round % 2 == 0 {
                4 * (1 + round / ROUNDS)
            } else {
                0
            });
            let victim = fork(|| {
                let mut tx = tx.take().unwrap();
                kill_at(point);
                tx.send(1).ok();
                if point == Armed {
                    tx.send(2).ok();
                }
            });
            kills += u32::from(victim.was_killed());
            let mut tx = tx.take().unwrap();
            let successor = fork(|| tx.send(100).unwrap());
            match receiver {
                Some(receiver) => receiver.join(),
                None => {
                    let expected: &[u64] = if sent { &[1, 100] } else { &[100] };
                    for &value in expected {
                        assert_eq!(rx.recv(), Ok(value), "{point:?}");
                    }
                }
            }
            successor.join();
        }
        assert!(kills > 0, "{point:?}: never reached");
    }
}

fn a_lone_receiver_killed_at_each_step_loses_nothing() {
    for point in [Owned, Copied, Freed, Bumped, Disowned, Armed] {
        let mut kills = 0;
        for round in 0..ROUNDS * PATIENCE {
            if round >= ROUNDS && kills > 0 {
                break;
            }
            let (mut tx, rx) = spsc::channel::<u64>(1).unwrap();
            let mut rx = Some(rx);
            let sender = (point != Armed).then(|| {
                fork(|| {
                    for value in 0..6 {
                        tx.send(value).unwrap();
                    }
                })
            });
            pause(4 * (1 + round / ROUNDS));
            let victim = fork(|| {
                let mut rx = rx.take().unwrap();
                kill_at(point);
                rx.recv_timeout(Duration::from_secs(9)).ok();
            });
            kills += u32::from(victim.was_killed());
            let sender = sender.unwrap_or_else(|| {
                fork(|| {
                    for value in 0..6 {
                        tx.send(value).unwrap();
                    }
                })
            });
            drop(tx);
            // What the victim gave back was received; everything else is still there.
            let first = u64::from(!matches!(point, Owned | Copied | Armed));
            let rest: Vec<u64> = rx.take().unwrap().into_iter().collect();
            assert_eq!(rest, (first..6).collect::<Vec<_>>(), "{point:?}");
            sender.join();
        }
        assert!(kills > 0, "{point:?}: never reached");
    }
}

fn receivers_killed_anywhere_lose_nothing() {
    let mut random = Random::from_environment();
    for capacity in [1, 2, 7] {
        let (mut tx, mut rx) = spsc::channel::<u64>(capacity).unwrap();
        // Each victim tells what it has received; it may be killed before it can tell of its last.
        let (seen_tx, seen_rx) = channel::<u64>(10_000).unwrap();
        let sender = fork(|| {
            for value in 0.. {
                if tx.send(value).is_err() {
                    break;
                }
            }
        });
        drop(tx);
        let mut next = 0;
        // Victims since the last value that was told of, the one who told included: each may have kept one to itself.
        let mut silent = 0;
        for _ in 0..60 {
            let victim = fork(|| {
                for value in &mut rx {
                    seen_tx.send(value).unwrap();
                }
            });
            pause_us(random.below(300));
            victim.kill();
            while let Ok(value) = seen_rx.try_recv() {
                assert!(
                    (next..=next + silent).contains(&value),
                    "{value} for {next}"
                );
                next = value + 1;
                silent = 0;
            }
            silent += 1;
        }
        rx.close();
        let rest: Vec<u64> = rx.iter().collect();
        if let Some(&first) = rest.first() {
            assert!(
                (next..=next + silent).contains(&first),
                "{first} for {next}"
            );
        }
        assert!(rest.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        sender.join();
    }
}

fn a_close_killed_at_each_step_still_ends_the_channel() {
    for by_sender in [true, false] {
        for _ in 0..ROUNDS {
            let (mut tx, mut rx) = spsc::channel::<u64>(4).unwrap();
            let victim = fork(|| {
                if by_sender {
                    tx.send_batch(&[1, 2]).unwrap();
                    kill_at(Ended);
                    tx.close();
                } else {
                    rx.close();
                    kill_at(Ended);
                    rx.recv().ok();
                }
            });
            victim.killed();
            let left: &[u64] = if by_sender { &[1, 2] } else { &[] };
            assert!(tx.send(3).unwrap_err().is_closed());
            assert_eq!(rx.iter().collect::<Vec<_>>(), left);
            assert!(rx.recv().unwrap_err().is_closed());
        }
    }
}

type Frame = [u64; 512];

fn frames_are_written_and_read_where_they_lie() {
    let (mut tx, mut rx) = spsc::channel::<Frame>(3).unwrap();
    let sender = fork(|| {
        for number in 0..200 {
            let mut frame = tx.reserve().unwrap();
            for (word, n) in frame.iter_mut().zip(0..) {
                *word = number ^ n;
            }
            frame.commit().unwrap();
        }
    });
    drop(tx);
    let mut number = 0;
    while let Ok(frame) = rx.recv_ref() {
        assert!(frame.iter().zip(0..).all(|(&word, n)| word == number ^ n));
        number += 1;
    }
    assert_eq!(number, 200);
    assert!(rx.recv_ref().unwrap_err().is_disconnected());
    sender.join();
}

fn a_slot_dropped_or_inherited_sends_nothing() {
    let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
    *tx.reserve().unwrap() = 1;
    assert!(rx.try_recv_ref().unwrap_err().is_empty());
    let mut slot = Some(tx.reserve().unwrap());
    fork(|| assert!(slot.take().unwrap().commit().unwrap_err().is_inherited())).join();
    assert!(rx.is_empty());
    let mut slot = slot.take().unwrap();
    *slot = 2;
    slot.commit().unwrap();
    assert!(tx.try_reserve().unwrap_err().is_full());
    let limit = Duration::from_millis(5);
    assert!(tx.reserve_timeout(limit).unwrap_err().is_timeout());
    let mut message = Some(rx.recv_ref().unwrap());
    fork(|| drop(message.take())).join();
    assert_eq!(*message.take().unwrap(), 2);
    drop(message);
    assert!(rx.recv_ref_timeout(limit).unwrap_err().is_timeout());
    rx.close();
    assert!(rx.recv_ref().unwrap_err().is_closed());
    assert!(tx.reserve().unwrap_err().is_closed());
}

fn a_message_on_loan_to_the_dead_is_received_again() {
    let (mut tx, mut rx) = spsc::channel::<u64>(2).unwrap();
    let (ready_tx, ready_rx) = channel::<u64>(1).unwrap();
    tx.send_batch(&[1, 2]).unwrap();
    let victim = fork(|| {
        let message = rx.recv_ref().unwrap();
        ready_tx.send(*message).unwrap();
        linger()
    });
    assert_eq!(ready_rx.recv(), Ok(1));
    victim.kill();
    assert!(rx.iter().take(2).eq([1, 2]));
}

fn two_handles_of_one_process_do_not_share_a_side() {
    let builder = Builder::new().capacity(2).in_memfd();
    let (mut tx, mut rx) = builder.build_spsc::<u64>().unwrap();
    let mut other_tx = spsc::Sender::<u64>::attach(tx.descriptors().unwrap()).unwrap();
    let mut other_rx = spsc::Receiver::<u64>::attach(tx.descriptors().unwrap()).unwrap();
    tx.send(1).unwrap();
    // Two of them, on two threads, would write to one slot.
    assert!(other_tx.try_send(2).unwrap_err().is_occupied());
    assert!(other_tx.try_reserve().unwrap_err().is_occupied());
    assert_eq!(other_rx.recv(), Ok(1));
    assert!(rx.try_recv().unwrap_err().is_occupied());
    // The side is free again when its handle is gone.
    drop(tx);
    other_tx.send(3).unwrap();
    drop(other_rx);
    assert_eq!(rx.recv(), Ok(3));
}
