//! Poll loops: a descriptor is readable in time, whatever becomes of the other side.

use crate::support::{
    Child, Random, die, fork, holdings, linger, pause, pause_us, pidfd, wait_readable,
    without_descriptors,
};
use multi_chan::{Builder, Readiness, Receiver, Select, Sender, channel};
use std::io::ErrorKind::Unsupported;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

crate::tests![
    a_poll_loop_receives_messages_of_any_size,
    a_poll_loop_misses_no_message,
    poll_loops_at_both_ends_of_a_rendezvous_meet,
    poll_loops_and_sleepers_share_a_channel,
    a_poll_loop_hears_of_close_and_of_going,
    a_poll_loop_hears_of_deaths,
    a_poll_loop_hears_of_who_came_later_and_died,
    poll_loops_killed_anywhere_take_nobodys_message_with_them,
    a_poll_loop_sleeps_at_no_cost,
    a_readiness_belongs_to_one_process,
    an_arming_that_fails_takes_no_other_poll_loops_wake,
    pollable_channels_leave_nothing_behind,
    a_select_waits_for_a_child_and_a_channel,
    a_select_of_descriptors_hears_of_deaths,
    a_select_waits_by_poll_where_futexes_fail,
    pollable_channels_are_needed_beside_descriptors,
];

fn pollable(capacity: usize) -> (Sender<u64>, Receiver<u64>) {
    Builder::new()
        .capacity(capacity)
        .pollable(true)
        .build()
        .unwrap()
}

/// Receives as a poll loop does; the watchdog of the test is its only limit.
pub(crate) fn next(rx: &Receiver<u64>, readiness: &mut Readiness<'_>) -> Option<u64> {
    loop {
        match rx.recv_now() {
            Some(got) => return got.ok(),
            None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
            None => {}
        }
    }
}

pub(crate) fn send(tx: &Sender<u64>, readiness: &mut Readiness<'_>, value: u64) -> bool {
    loop {
        match tx.send_now(value) {
            Some(sent) => return sent.is_ok(),
            None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
            None => {}
        }
    }
}

fn a_poll_loop_misses_no_message() {
    for capacity in [1, 4] {
        let (tx, rx) = pollable(capacity);
        let sender = fork(|| {
            let mut readiness = tx.readiness().unwrap();
            let mut random = Random::new(7);
            for value in 0..1_500 {
                if random.below(20) == 0 {
                    pause_us(random.below(400));
                }
                assert!(send(&tx, &mut readiness, value));
            }
        });
        drop(tx);
        let mut readiness = rx.readiness().unwrap();
        for value in 0..1_500 {
            assert_eq!(next(&rx, &mut readiness), Some(value));
        }
        assert_eq!(next(&rx, &mut readiness), None);
        sender.join();
    }
}

fn poll_loops_at_both_ends_of_a_rendezvous_meet() {
    let (tx, rx) = pollable(0);
    let sender = fork(|| {
        let mut readiness = tx.readiness().unwrap();
        for value in 0..60 {
            if value % 7 == 0 {
                pause(2);
            }
            assert!(send(&tx, &mut readiness, value));
        }
        // And with a blocking receiver.
        pause(5);
        assert!(send(&tx, &mut readiness, 60));
    });
    let mut readiness = rx.readiness().unwrap();
    for value in 0..60 {
        if value % 11 == 0 {
            pause(2);
        }
        assert_eq!(next(&rx, &mut readiness), Some(value));
    }
    assert_eq!(rx.recv(), Ok(60));
    sender.join();
    let sender = fork(|| tx.send(61).unwrap());
    assert_eq!(next(&rx, &mut readiness), Some(61));
    sender.join();
}

fn poll_loops_and_sleepers_share_a_channel() {
    const EACH: u64 = 500;
    let (tx, rx) = pollable(3);
    let (seen_tx, seen) = channel::<u64>(64).unwrap();
    let receivers = [0, 1, 2, 3].map(|number| {
        let (rx, seen_tx) = (&rx, &seen_tx);
        fork(move || {
            let mut readiness = rx.readiness().unwrap();
            loop {
                let got = match number {
                    0 | 1 => next(rx, &mut readiness),
                    2 => rx.recv().ok(),
                    _ => {
                        let mut select = Select::new();
                        select.recv(rx);
                        select.run(|_| rx.recv_now()).ok()
                    }
                };
                match got {
                    Some(value) => seen_tx.send(value).unwrap(),
                    None => break,
                }
            }
        })
    });
    let senders = [0, 1].map(|number| {
        let tx = &tx;
        fork(move || {
            let mut readiness = tx.readiness().unwrap();
            let mut random = Random::new(number + 1);
            for value in 0..EACH {
                if random.below(30) == 0 {
                    pause_us(random.below(900));
                }
                assert!(match number {
                    0 => send(tx, &mut readiness, value),
                    _ => tx.send(EACH + value).is_ok(),
                });
            }
        })
    });
    drop((tx, seen_tx));
    let mut seen: Vec<u64> = seen.into_iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..2 * EACH).collect::<Vec<_>>());
    receivers.into_iter().for_each(Child::join);
    senders.into_iter().for_each(Child::join);
}

fn a_poll_loop_hears_of_close_and_of_going() {
    for drops in [false, true] {
        let (tx, rx) = pollable(1);
        // Takes the handle along, so that there is no other sender.
        let other = fork(move || {
            drop(tx.clone());
            pause(40);
            if drops {
                drop(tx);
            } else {
                assert!(tx.close());
            }
            pause(2_000);
        });
        let start = Instant::now();
        assert_eq!(next(&rx, &mut rx.readiness().unwrap()), None);
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(
            start.elapsed() < Duration::from_millis(1_800),
            "told by the other's end only"
        );
        other.kill();
    }
}

fn a_poll_loop_hears_of_deaths() {
    let (tx, rx) = pollable(1);
    let sender = fork(|| {
        tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    let mut readiness = rx.readiness().unwrap();
    assert_eq!(next(&rx, &mut readiness), Some(1));
    let killer = fork(|| {
        pause(40);
        sender.signal(libc::SIGKILL);
    });
    assert_eq!(next(&rx, &mut readiness), None);
    killer.join();

    let (tx, rx) = pollable(1);
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(1));
        linger()
    });
    drop(rx);
    tx.send(1).unwrap();
    let mut readiness = tx.readiness().unwrap();
    assert!(send(&tx, &mut readiness, 2));
    let killer = fork(|| {
        pause(40);
        receiver.signal(libc::SIGKILL);
    });
    assert!(!send(&tx, &mut readiness, 3));
    killer.join();
}

fn a_poll_loop_hears_of_who_came_later_and_died() {
    let (tx, rx) = pollable(1);
    let (awake_tx, awake) = channel::<u64>(1).unwrap();
    let loops = fork(|| {
        let mut readiness = rx.readiness().unwrap();
        awake_tx.send(1).unwrap();
        assert_eq!(next(&rx, &mut readiness), None);
    });
    assert_eq!(awake.recv(), Ok(1));
    pause(30);
    // One that never uses the channel, and one that does.
    let idle = fork(|| linger());
    let last = fork(|| {
        let _tx = tx.clone();
        awake_tx.send(2).unwrap();
        linger()
    });
    assert_eq!(awake.recv(), Ok(2));
    drop((tx, rx));
    pause(30);
    idle.kill();
    pause(10);
    last.kill();
    loops.join();
}

fn poll_loops_killed_anywhere_take_nobodys_message_with_them() {
    let mut random = Random::from_environment();
    let (tx, rx) = pollable(2);
    let (seen_tx, seen) = channel::<u64>(4).unwrap();
    // Takes whatever the victims leave.
    let survivor = fork(|| {
        let mut readiness = rx.readiness().unwrap();
        while let Some(value) = next(&rx, &mut readiness) {
            seen_tx.send(value).unwrap();
        }
    });
    for round in 0..30 {
        let victim = fork(|| {
            let mut readiness = rx.readiness().unwrap();
            loop {
                // Woken, drains and arms, and takes every other only.
                assert!(next(&rx, &mut readiness).is_some());
                while readiness.arm().unwrap() {
                    wait_readable(readiness.as_fd(), Some(Duration::from_micros(50)));
                }
            }
        });
        for _ in 0..random.below(4) {
            tx.send(round).unwrap();
            pause_us(random.below(300));
        }
        pause_us(random.below(800));
        victim.kill();
        while seen.try_recv().is_ok() {}
        // What the survivor was told with the dead one is not lost.
        tx.send(1_000 + round).unwrap();
        while seen.recv_timeout(Duration::from_secs(5)).unwrap() != 1_000 + round {}
    }
    drop(tx);
    survivor.join();
}

fn a_poll_loop_sleeps_at_no_cost() {
    let (tx, rx) = pollable(1);
    let sleeper = fork(|| {
        let mut readiness = rx.readiness().unwrap();
        assert_eq!(next(&rx, &mut readiness), Some(1));
        let mut select = Select::new();
        let nothing = pidfd(std::process::id().cast_signed());
        select.recv(&rx);
        select.readable(&nothing);
        assert_eq!(select.run(|_| rx.recv_now()), Ok(2));
    });
    for value in [1, 2] {
        pause(100);
        let before = sleeper.cost();
        pause(700);
        let after = sleeper.cost();
        assert!(after.0 - before.0 <= 1, "{} sleeps", after.0 - before.0);
        assert!(after.1 - before.1 < 2_000_000, "{} ns", after.1 - before.1);
        tx.send(value).unwrap();
    }
    sleeper.join();
}

fn a_readiness_belongs_to_one_process() {
    let (_tx, rx) = pollable(1);
    let mut readiness = rx.readiness().unwrap();
    assert!(readiness.arm().unwrap());
    fork(|| {
        assert!(readiness.arm().is_err());
        assert!(rx.readiness().unwrap().arm().unwrap());
    })
    .join();
    assert!(readiness.arm().unwrap());
    let (tx, _rx) = channel::<u64>(1).unwrap();
    assert_eq!(tx.readiness().unwrap_err().kind(), Unsupported);
}

fn pollable_channels_leave_nothing_behind() {
    let (_tx, _rx) = pollable(1);
    let before = holdings();
    let many: Vec<_> = (0..150).map(pollable).collect();
    for (tx, rx) in &many {
        let mut readiness = rx.readiness().unwrap();
        assert!(readiness.arm().unwrap());
        assert!(tx.send_now(1).is_none() || tx.capacity() > 0);
    }
    drop(many);
    for _ in 0..500 {
        let (tx, rx) = pollable(1);
        let mut readiness = rx.readiness().unwrap();
        assert!(readiness.arm().unwrap());
        tx.send(1).unwrap();
        assert!(!readiness.arm().unwrap());
    }
    assert_eq!(holdings(), before);
}

fn a_select_waits_for_a_child_and_a_channel() {
    let (tx, rx) = pollable(1);
    let child = fork(|| {
        for value in 0..5 {
            pause(3);
            tx.send(value).unwrap();
        }
        pause(20);
    });
    let ended = pidfd(child.pid());
    let mut select = Select::new();
    let receiving = select.recv(&rx);
    let ending = select.readable(&ended);
    let mut next = 0;
    while select.run(|case| {
        if case == ending {
            return Some(false);
        }
        assert_eq!((case, rx.recv_now()?), (receiving, Ok(next)));
        next += 1;
        Some(true)
    }) {}
    assert_eq!(next, 5);
    child.join();
    let (_reader, writer) = std::io::pipe().unwrap();
    let room = select.writable(&writer);
    select.remove(ending);
    assert_eq!(select.wait(), room);
    select.remove(room);
    assert_eq!(select.wait_timeout(Duration::from_millis(5)), None);
}

fn a_select_of_descriptors_hears_of_deaths() {
    let (tx, rx) = pollable(1);
    let sender = fork(|| {
        tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    let me = pidfd(std::process::id().cast_signed());
    let mut select = Select::new();
    select.readable(&me);
    let receiving = select.recv(&rx);
    assert_eq!(select.run(|_| rx.recv_now()), Ok(1));
    let killer = fork(|| {
        pause(40);
        sender.signal(libc::SIGKILL);
    });
    assert_eq!(select.wait(), receiving);
    assert!(rx.recv().unwrap_err().is_disconnected());
    killer.join();
}

fn a_select_waits_by_poll_where_futexes_fail() {
    multi_chan::pretend_without_waitv(true);
    let (a_tx, a) = pollable(1);
    let (b_tx, b) = pollable(0);
    let sleeper = fork(|| {
        let mut select = Select::new();
        select.recv(&a);
        select.recv(&b);
        for value in [1, 2, 3] {
            let got = select.run(|case| {
                if case == 0 {
                    a.recv_now()
                } else {
                    b.recv_now()
                }
            });
            assert_eq!(got, Ok(value));
        }
        // Here it is one word, and looked at now and then.
        assert_eq!(a.recv(), Ok(4));
    });
    pause(50);
    let before = sleeper.cost();
    pause(500);
    let after = sleeper.cost();
    assert!(after.0 - before.0 <= 1, "{} sleeps", after.0 - before.0);
    a_tx.send(1).unwrap();
    while !a_tx.is_empty() {
        pause(1);
    }
    b_tx.send(2).unwrap();
    b_tx.send(3).unwrap();
    a_tx.send(4).unwrap();
    sleeper.join();
    multi_chan::pretend_without_waitv(false);
}

fn pollable_channels_are_needed_beside_descriptors() {
    fork(|| {
        let (_tx, rx) = channel::<u64>(1).unwrap();
        let me = pidfd(std::process::id().cast_signed());
        let mut select = Select::new();
        select.recv(&rx);
        select.readable(&me);
        std::panic::set_hook(Box::new(|_| {}));
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| select.try_wait()));
        let panic = waited.unwrap_err();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap();
        assert!(text.contains("Builder::pollable(true)"), "{text}");
    })
    .join();
}

fn an_arming_that_fails_takes_no_other_poll_loops_wake() {
    let (tx, rx) = pollable(2);
    let (go_tx, go) = channel::<u8>(1).unwrap();
    let (ready_tx, ready) = channel::<u8>(1).unwrap();
    let sender = fork(|| {
        ready_tx.send(1).unwrap();
        go.recv().unwrap();
        tx.send(5).unwrap();
        linger();
    });
    // It has begun, of which poll loops are told.
    ready.recv().unwrap();
    let mut poor = rx.readiness().unwrap();
    let mut other = rx.readiness().unwrap();
    assert!(other.arm().unwrap());
    go_tx.send(1).unwrap();
    wait_readable(other.as_fd(), None);
    // No descriptor is left for the sender's death.
    assert!(without_descriptors(|| poor.arm()).is_err());
    wait_readable(other.as_fd(), None);
    assert_eq!(rx.try_recv(), Ok(5));
    sender.kill();
}

fn a_poll_loop_receives_messages_of_any_size() {
    let builder = Builder::new().capacity(2).pollable(true);
    let (tx, rx) = builder.build_messages::<Vec<u32>>().unwrap();
    let sender = fork(|| {
        for len in 0..200 {
            if len % 20 == 0 {
                pause(2);
            }
            tx.send(&vec![7; len * 10]).unwrap();
        }
        // Ends without a word.
        die();
    });
    drop(tx);
    let mut readiness = rx.readiness().unwrap();
    let mut lens = 0..200;
    loop {
        match rx.recv_now() {
            Some(Ok(value)) => assert_eq!(Some(value.len() / 10), lens.next()),
            Some(Err(error)) => break assert!(error.is_disconnected()),
            None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
            None => {}
        }
    }
    assert_eq!(lens.next(), None);
    sender.killed();
}
