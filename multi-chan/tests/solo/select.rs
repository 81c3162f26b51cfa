//! Selects: one operation of several, done once, by who gets there first.

use crate::support::{Child, Random, fork, linger, on_signal, pause, pause_us};
use multi_chan::KillPoint::{Armed, Bumped, Claimed, Freed, Published, Taken};
use multi_chan::{Builder, Select, channel, kill_at};
use std::time::{Duration, Instant};

crate::tests![
    a_closed_channel_is_ready_for_who_is_behind,
    a_select_receives_messages_of_any_size,
    a_select_receives_from_channels_of_any_type,
    a_select_sends_where_there_is_room,
    every_ready_case_has_its_turn,
    a_closed_channel_is_ready,
    the_death_of_a_sole_sender_makes_a_case_ready,
    the_death_of_a_sole_receiver_makes_a_case_ready,
    a_select_times_out_and_not_early,
    signals_do_not_disturb_a_select,
    a_wake_that_a_select_does_not_use_is_passed_on,
    a_wake_that_dies_with_a_select_is_made_good,
    two_selects_meet_in_a_rendezvous,
    a_select_and_a_plain_end_meet_in_a_rendezvous,
    one_channel_may_be_in_a_select_twice,
    selects_killed_anywhere_lose_nothing_that_others_sent,
    selects_killed_at_each_step_hold_up_nobody,
    every_message_through_selects_comes_once,
];

fn a_select_receives_from_channels_of_any_type() {
    let (words_tx, words) = channel::<[u8; 4]>(2).unwrap();
    let (numbers_tx, numbers) = channel::<u64>(0).unwrap();
    let sender = fork(|| {
        for number in 0..200 {
            if number % 3 == 0 {
                pause_us(300);
            }
            words_tx.send([number; 4]).unwrap();
            numbers_tx.send(number.into()).unwrap();
        }
    });
    let mut select = Select::new();
    let from_words = select.recv(&words);
    let from_numbers = select.recv(&numbers);
    let mut next = [0; 2];
    for _ in 0..400 {
        select.run(|case| {
            let (kind, number) = if case == from_words {
                (0, u64::from(words.recv_now()?.unwrap()[3]))
            } else {
                assert_eq!(case, from_numbers);
                (1, numbers.recv_now()?.unwrap())
            };
            assert_eq!(number, next[kind], "lost, doubled or out of order");
            next[kind] += 1;
            Some(())
        });
    }
    assert_eq!(next, [200; 2]);
    assert_eq!(select.try_wait(), None);
    sender.join();
}

fn a_select_sends_where_there_is_room() {
    let (narrow_tx, narrow) = channel::<u64>(1).unwrap();
    let (wide_tx, wide) = channel::<u64>(3).unwrap();
    let mut select = Select::new();
    let to_narrow = select.send(&narrow_tx);
    select.send(&wide_tx);
    let mut send = |value| {
        select.try_run(|case| {
            if case == to_narrow {
                narrow_tx.send_now(value)
            } else {
                wide_tx.send_now(value)
            }
        })
    };
    assert!((0..4).all(|value| send(value) == Some(Ok(()))));
    assert_eq!(send(4), None);
    let receiver = fork(|| {
        pause(20);
        assert!(wide.recv().is_ok());
    });
    assert_eq!(select.wait(), 1);
    receiver.join();
    assert_eq!(narrow.len(), 1);
}

fn every_ready_case_has_its_turn() {
    let channels = [(); 5].map(|()| channel::<u64>(1).unwrap());
    for (tx, _) in &channels {
        tx.send(1).unwrap();
    }
    let mut select = Select::new();
    for (_, rx) in &channels {
        select.recv(rx);
    }
    let mut turns = [0; 5];
    for _ in 0..2_000 {
        turns[select.wait()] += 1;
    }
    assert!(turns.iter().all(|&turns| turns > 100), "{turns:?}");
    select.remove(3);
    assert!((0..200).all(|_| select.wait() != 3));
}

fn a_closed_channel_is_ready() {
    for capacity in [0, 2] {
        let (_open_tx, open) = channel::<u64>(1).unwrap();
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let (full_tx, _full) = channel::<u64>(capacity).unwrap();
        let sleeper = fork(|| {
            let mut select = Select::new();
            select.recv(&open);
            let closed = select.recv(&rx);
            let error = select.run(|case| {
                assert_eq!(case, closed);
                rx.recv_now()
            });
            assert!(error.unwrap_err().is_closed());
        });
        let full = fork(|| {
            let mut select = Select::new();
            select.recv(&open);
            let closed = select.send(&full_tx);
            while select.run(|case| {
                assert_eq!(case, closed);
                full_tx.send_now(1).map(|sent| sent.is_ok())
            }) {}
            assert!(full_tx.send(1).unwrap_err().is_closed());
        });
        pause(30);
        tx.close();
        full_tx.close();
        sleeper.join();
        full.join();
    }
}

fn the_death_of_a_sole_sender_makes_a_case_ready() {
    let (other_tx, other) = channel::<u64>(1).unwrap();
    let (tx, rx) = channel::<u64>(1).unwrap();
    let sender = fork(|| {
        tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    let mut select = Select::new();
    select.recv(&other);
    let orphan = select.recv(&rx);
    assert_eq!(select.wait(), orphan);
    assert_eq!(rx.recv(), Ok(1));
    let killer = fork(|| {
        pause(40);
        sender.signal(libc::SIGKILL);
    });
    let start = Instant::now();
    let error = select.run(|case| {
        assert_eq!(case, orphan);
        rx.recv_now()
    });
    assert!(error.unwrap_err().is_disconnected());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "told by the belt only"
    );
    killer.join();
    drop(other_tx);
}

fn the_death_of_a_sole_receiver_makes_a_case_ready() {
    for capacity in [0, 1] {
        let (_other_tx, other) = channel::<u64>(1).unwrap();
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let receiver = fork(|| {
            assert_eq!(rx.recv(), Ok(0));
            linger()
        });
        drop(rx);
        tx.send(0).unwrap();
        while !tx.is_empty() {
            pause(1);
        }
        if capacity == 1 {
            tx.send(9).unwrap();
        }
        let mut select = Select::new();
        select.recv(&other);
        let orphan = select.send(&tx);
        assert_eq!(select.wait_timeout(Duration::from_millis(20)), None);
        let killer = fork(|| {
            pause(40);
            receiver.signal(libc::SIGKILL);
        });
        let error = select.run(|case| {
            assert_eq!(case, orphan);
            tx.send_now(5)
        });
        let error = error.unwrap_err();
        assert!(error.is_disconnected() && error.into_inner() == 5);
        killer.join();
    }
}

fn a_select_times_out_and_not_early() {
    let (_tx, rx) = channel::<u64>(1).unwrap();
    let (rendezvous_tx, _rendezvous) = channel::<u64>(0).unwrap();
    let mut select = Select::new();
    select.recv(&rx);
    select.send(&rendezvous_tx);
    for limit in [0, 1, 7, 60].map(Duration::from_millis) {
        let start = Instant::now();
        assert_eq!(select.wait_timeout(limit), None);
        assert!(start.elapsed() >= limit);
    }
}

extern "C" fn ignore(_signal: i32) {}

fn signals_do_not_disturb_a_select() {
    on_signal(libc::SIGUSR1, ignore);
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (_other_tx, other) = channel::<u64>(1).unwrap();
    let sleeper = fork(|| {
        let mut select = Select::new();
        select.recv(&rx);
        select.recv(&other);
        let start = Instant::now();
        let limit = Duration::from_millis(60);
        assert_eq!(select.wait_timeout(limit), None);
        assert!(start.elapsed() >= limit);
        assert_eq!(select.wait(), 0);
    });
    for _ in 0..1_000 {
        sleeper.signal(libc::SIGUSR1);
        pause_us(100);
    }
    tx.send(9).unwrap();
    sleeper.join();
}

fn a_wake_that_a_select_does_not_use_is_passed_on() {
    let (a_tx, a) = channel::<u64>(1).unwrap();
    let (b_tx, b) = channel::<u64>(1).unwrap();
    let (done_tx, done) = channel::<u64>(2).unwrap();
    // Takes from `b` only, but sleeps on both, before the other and so first in the kernel's queue.
    let picky = fork(|| {
        let mut select = Select::new();
        select.recv(&a);
        select.recv(&b);
        for _ in 0..60 {
            let value = select.run(|case| if case == 1 { b.recv_now() } else { None });
            done_tx.send(value.unwrap()).unwrap();
            pause(1);
        }
    });
    let plain = fork(|| {
        for _ in 0..60 {
            pause(3);
            done_tx.send(a.recv().unwrap()).unwrap();
        }
    });
    for round in 0..60 {
        pause(6);
        a_tx.send(round).unwrap();
        b_tx.send(round).unwrap();
        // Late only if a wake was lost, and then by the belt.
        for _ in 0..2 {
            let value = done.recv_timeout(Duration::from_secs(4));
            assert_eq!(value, Ok(round), "a wake was lost");
        }
    }
    picky.join();
    plain.join();
}

fn a_wake_that_dies_with_a_select_is_made_good() {
    let (a_tx, a) = channel::<u64>(1).unwrap();
    let (_b_tx, b) = channel::<u64>(1).unwrap();
    for _ in 0..20 {
        let victim = fork(|| {
            let mut select = Select::new();
            select.recv(&a);
            select.recv(&b);
            // Woken, and no more.
            select.run(|_| -> Option<()> { crate::support::exit(0) });
        });
        pause(4);
        let plain = fork(|| assert_eq!(a.recv_timeout(Duration::from_secs(4)), Ok(1)));
        pause(4);
        a_tx.send(1).unwrap();
        plain.join();
        // Still there if the wake was not for it.
        drop(victim);
    }
}

fn two_selects_meet_in_a_rendezvous() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let (_other_tx, other) = channel::<u64>(1).unwrap();
    let sender = fork(|| {
        let mut select = Select::new();
        select.recv(&other);
        let sending = select.send(&tx);
        for number in 0..60 {
            if number % 4 == 0 {
                pause(2);
            }
            select
                .run(|case| {
                    assert_eq!(case, sending);
                    tx.send_now(number)
                })
                .unwrap();
        }
    });
    let mut select = Select::new();
    let receiving = select.recv(&rx);
    select.recv(&other);
    for number in 0..60 {
        if number % 5 == 0 {
            pause(2);
        }
        let got = select.run(|case| {
            assert_eq!(case, receiving);
            rx.recv_now()
        });
        assert_eq!(got, Ok(number));
    }
    sender.join();
}

fn a_select_and_a_plain_end_meet_in_a_rendezvous() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let (_other_tx, other) = channel::<u64>(1).unwrap();
    for pauses in [[0, 15], [15, 0]] {
        let selecting = fork(|| {
            pause(pauses[0]);
            let mut select = Select::new();
            select.send(&tx);
            select.recv(&other);
            select.run(|_| tx.send_now(1)).unwrap();
        });
        pause(pauses[1]);
        assert_eq!(rx.recv(), Ok(1));
        selecting.join();
        let selecting = fork(|| {
            pause(pauses[0]);
            let mut select = Select::new();
            select.recv(&other);
            select.recv(&rx);
            assert_eq!(select.run(|_| rx.recv_now()), Ok(2));
        });
        pause(pauses[1]);
        tx.send(2).unwrap();
        selecting.join();
    }
}

fn one_channel_may_be_in_a_select_twice() {
    let chan = multi_chan::Chan::<u64>::new(1).unwrap();
    let rx = chan.clone();
    let mut select = Select::new();
    select.recv(&chan);
    select.recv(&chan);
    select.recv(&rx);
    let sender = fork(|| {
        pause(20);
        chan.send(3).unwrap();
    });
    assert!(select.wait() < 3);
    assert_eq!(rx.recv(), Ok(3));
    sender.join();
    select.send(&chan);
    assert_eq!(select.wait(), 3);
    assert_eq!(processor_time_of_an_idle_select(&rx).as_millis() / 50, 0);
}

/// What a select on one channel twice costs in 300 ms of waiting.
fn processor_time_of_an_idle_select(rx: &multi_chan::Chan<u64>) -> Duration {
    let before = crate::support::processor_time();
    let mut select = Select::new();
    select.recv(rx);
    select.recv(rx);
    assert_eq!(select.wait_timeout(Duration::from_millis(300)), None);
    crate::support::processor_time() - before
}

fn selects_killed_anywhere_lose_nothing_that_others_sent() {
    let mut random = Random::from_environment();
    for capacity in [0, 1, 3] {
        let (a_tx, a) = channel::<u64>(capacity).unwrap();
        let (b_tx, b) = channel::<u64>(capacity).unwrap();
        let mut sent = 0;
        for _ in 0..40 {
            let victims = [(); 2].map(|()| {
                fork(|| {
                    let mut select = Select::new();
                    select.recv(&a);
                    select.recv(&b);
                    while select
                        .run(|case| {
                            if case == 0 {
                                a.recv_now()
                            } else {
                                b.recv_now()
                            }
                        })
                        .is_ok()
                    {}
                })
            });
            for _ in 0..random.below(40) {
                if random.below(2) == 0 {
                    a_tx.send(sent)
                } else {
                    b_tx.send(sent)
                }
                .unwrap();
                sent += 1;
            }
            pause_us(random.below(60));
            victims.into_iter().for_each(Child::kill);
            // What the dead left half done stands in nobody's way.
            while a.try_recv().is_ok() || b.try_recv().is_ok() {}
            for (tx, rx) in [(&a_tx, &a), (&b_tx, &b)] {
                let sender = fork(|| tx.send(7).unwrap());
                assert_eq!(rx.recv(), Ok(7));
                sender.join();
            }
        }
    }
}

fn selects_killed_at_each_step_hold_up_nobody() {
    for point in [Armed, Taken, Freed, Claimed, Published, Bumped] {
        for capacity in [0, 1] {
            for _ in 0..8 {
                let (tx, rx) = channel::<u64>(capacity).unwrap();
                let (back_tx, back) = channel::<u64>(1).unwrap();
                let victim = fork(|| {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.send(&back_tx);
                    kill_at(point);
                    for _ in 0..3 {
                        select.run(|case| {
                            if case == 0 {
                                rx.recv_now().map(drop)
                            } else {
                                back_tx.send_now(5).map(drop)
                            }
                        });
                    }
                });
                let sender = fork(|| {
                    for value in 0..4 {
                        tx.send(value).ok();
                    }
                });
                let killed = victim.was_killed();
                assert!(killed || matches!(point, Armed | Bumped | Taken | Freed));
                let values = fork(|| {
                    drop(tx);
                    assert!(rx.iter().count() <= 4);
                });
                drop(back_tx);
                values.join();
                assert!(back.iter().count() <= 3);
                sender.join();
            }
        }
    }
}

fn every_message_through_selects_comes_once() {
    const EACH: u64 = 800;
    let channels = [1, 0, 5].map(|capacity| channel::<u64>(capacity).unwrap());
    let (seen_tx, seen) = channel::<u64>(16).unwrap();
    let receivers = [(); 3].map(|()| {
        fork(|| {
            let mut select = Select::new();
            for (_, rx) in &channels {
                select.recv(rx);
            }
            while !select.is_empty() {
                let (case, got) = select.run(|case| Some((case, channels[case].1.recv_now()?)));
                match got {
                    Ok(value) => seen_tx.send(value).unwrap(),
                    Err(_) => select.remove(case),
                }
            }
        })
    });
    let senders = [0, 1].map(|sender| {
        let (channels, seen) = (&channels, &seen);
        fork(move || {
            let _ = seen;
            let mut select = Select::new();
            for (tx, _) in channels {
                select.send(tx);
            }
            for number in 0..EACH {
                let value = sender * EACH + number;
                select.run(|case| channels[case].0.send_now(value)).unwrap();
            }
        })
    });
    drop((channels, seen_tx));
    let mut seen: Vec<u64> = seen.into_iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..2 * EACH).collect::<Vec<_>>());
    receivers.into_iter().for_each(Child::join);
    senders.into_iter().for_each(Child::join);
}

fn a_select_receives_messages_of_any_size() {
    let builder = Builder::new().capacity(1);
    let (letters_tx, letters) = builder.build_bytes().unwrap();
    let (words_tx, words) = builder.build_messages::<String>().unwrap();
    let (numbers_tx, numbers) = builder.build::<u64>().unwrap();
    const EACH: u64 = 60;
    let sender = fork(|| {
        for number in 0..EACH {
            if number % 8 == 0 {
                pause(2);
            }
            letters_tx.send(&vec![1; number as usize * 100]).unwrap();
            words_tx.send(&"w".repeat(number as usize * 70)).unwrap();
            numbers_tx.send(number).unwrap();
        }
    });
    drop((letters_tx, words_tx, numbers_tx));
    let mut select = Select::new();
    let cases = [
        select.recv(&letters),
        select.recv(&words),
        select.recv(&numbers),
    ];
    let mut got = [0, 0, 0];
    while !select.is_empty() {
        // What each message says that its number is, or the end.
        let (case, number) = select.run(|case| {
            let number = if case == cases[0] {
                letters
                    .recv_now()?
                    .ok()
                    .map(|letter| letter.len() as u64 / 100)
            } else if case == cases[1] {
                words.recv_now()?.ok().map(|word| word.len() as u64 / 70)
            } else {
                numbers.recv_now()?.ok()
            };
            Some((case, number))
        });
        match number {
            Some(number) => {
                assert_eq!(number, got[case]);
                got[case] += 1;
            }
            None => select.remove(case),
        }
    }
    assert_eq!(got, [EACH; 3]);
    sender.join();
}

/// Another receiver took everything, so this one has never been at the end that it finds.
fn a_closed_channel_is_ready_for_who_is_behind() {
    for capacity in [1, 2, 20] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let behind = rx.clone();
        for value in 0..3 * capacity as u64 + 1 {
            tx.send(value).unwrap();
            assert_eq!(rx.recv(), Ok(value));
        }
        tx.close();
        let mut select = Select::new();
        select.recv(&behind);
        let answer = select.run_timeout(Duration::from_secs(5), |_| behind.recv_now());
        assert!(answer.unwrap().unwrap_err().is_closed());
    }
}
