//! Sides of one-to-one channels lent to selects and poll loops.

use crate::support::{
    Child, Random, fork, linger, on_signal, pause, pause_us, pidfd, wait_readable,
};
use multi_chan::KillPoint::{Armed, Bumped, Copied, Freed, Owned, Published, Written};
use multi_chan::{Builder, Readiness, Select, channel, kill_at, spsc};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

crate::tests![
    a_select_receives_one_to_one_beside_other_channels,
    a_select_sends_one_to_one_where_there_is_room,
    selects_at_both_ends_answer_each_other,
    a_one_to_one_case_hears_of_a_close,
    a_one_to_one_case_hears_of_deaths,
    a_one_to_one_case_times_out_and_not_early,
    a_select_of_one_to_one_channels_sleeps_at_no_cost,
    selects_that_share_a_channel_do_not_keep_each_other_awake,
    a_lent_side_belongs_to_its_process,
    one_to_one_poll_loops_miss_no_message,
    one_to_one_poll_loops_hear_of_deaths,
    a_one_to_one_poll_loop_sleeps_at_no_cost,
    two_poll_loops_of_one_side_leave_each_other_asleep,
    a_select_waits_for_a_child_and_a_one_to_one_channel,
    lent_receivers_killed_at_each_step_lose_nothing,
    lent_senders_killed_at_each_step_hold_up_nobody,
];

fn pollable(capacity: usize) -> (spsc::Sender<u64>, spsc::Receiver<u64>) {
    let builder = Builder::new().capacity(capacity).pollable(true);
    builder.build_spsc().unwrap()
}

fn a_select_receives_one_to_one_beside_other_channels() {
    const EACH: u64 = 150;
    let (mut a_tx, mut a) = spsc::channel::<u64>(1).unwrap();
    let (mut b_tx, mut b) = spsc::channel::<[u64; 3]>(4).unwrap();
    let (c_tx, c) = channel::<u64>(2).unwrap();
    let senders = [
        fork(|| {
            for number in 0..EACH {
                if number % 16 == 0 {
                    pause(1);
                }
                a_tx.send(number).unwrap();
            }
        }),
        fork(|| {
            for number in 0..EACH {
                if number % 20 == 0 {
                    pause_us(700);
                }
                b_tx.send([number; 3]).unwrap();
            }
        }),
        fork(|| (0..EACH).for_each(|number| c_tx.send(number).unwrap())),
    ];
    drop((a_tx, b_tx, c_tx));
    let (a, b) = (a.shared(), b.shared());
    let mut select = Select::new();
    let cases = [select.recv(&a), select.recv(&b), select.recv(&c)];
    let mut next = [0; 3];
    while !select.is_empty() {
        let (case, number) = select.run(|case| {
            let got = match case {
                0 => a.recv_now()?,
                1 => b.recv_now()?.map(|value| value[2]),
                _ => c.recv_now()?,
            };
            Some((case, got))
        });
        match number {
            Ok(number) => {
                assert_eq!(number, next[case], "lost, doubled or out of order");
                next[case] += 1;
            }
            Err(error) => {
                assert!(error.is_disconnected());
                select.remove(cases[case]);
            }
        }
    }
    assert_eq!(next, [EACH; 3]);
    senders.into_iter().for_each(Child::join);
}

fn a_select_sends_one_to_one_where_there_is_room() {
    let (mut narrow_tx, mut narrow) = spsc::channel::<u64>(1).unwrap();
    let (wide_tx, wide) = channel::<u64>(3).unwrap();
    let narrow_tx = narrow_tx.shared();
    let mut select = Select::new();
    let to_narrow = select.send(&narrow_tx);
    select.send(&wide_tx);
    let mut send = |value| {
        select.try_run(|case| {
            if case == to_narrow {
                narrow_tx.send_now(value).map(|sent| sent.is_ok())
            } else {
                wide_tx.send_now(value).map(|sent| sent.is_ok())
            }
        })
    };
    assert!((0..4).all(|value| send(value) == Some(true)));
    assert_eq!(send(4), None);
    let receiver = fork(|| {
        pause(20);
        assert!(narrow.recv().is_ok());
    });
    assert_eq!(select.wait(), to_narrow);
    receiver.join();
    assert_eq!(wide.len(), 3);
}

/// Each side sleeps and is awake by turns, so that stores and looks cross in every way.
fn selects_at_both_ends_answer_each_other() {
    let (mut ping_tx, mut ping) = spsc::channel::<u64>(1).unwrap();
    let (mut pong_tx, mut pong) = spsc::channel::<u64>(1).unwrap();
    let (_quiet_tx, mut quiet) = spsc::channel::<u64>(1).unwrap();
    let echo = fork(|| {
        let (ping, tx) = (ping.shared(), pong_tx.shared());
        let mut random = Random::new(3);
        for _ in 0..600 {
            let mut select = Select::new();
            select.recv(&ping);
            let value = select.run(|_| ping.recv_now()).unwrap();
            if random.below(4) == 0 {
                pause_us(random.below(250));
            }
            let mut select = Select::new();
            select.send(&tx);
            select.run(|_| tx.send_now(value + 1)).unwrap();
        }
    });
    let (pong, quiet) = (pong.shared(), quiet.shared());
    let mut select = Select::new();
    let answer = select.recv(&pong);
    select.recv(&quiet);
    let mut random = Random::new(4);
    for value in 0..600 {
        ping_tx.send(value).unwrap();
        if random.below(4) == 0 {
            pause_us(random.below(250));
        }
        let got = select.run_timeout(Duration::from_secs(8), |case| {
            assert_eq!(case, answer);
            pong.recv_now()
        });
        assert_eq!(got, Some(Ok(value + 1)), "late by a lost wake, or wrong");
    }
    echo.join();
}

fn a_one_to_one_case_hears_of_a_close() {
    for by_receiver in [false, true] {
        let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
        let (_open_tx, open) = channel::<u64>(1).unwrap();
        if by_receiver {
            let sender = fork(|| {
                tx.send(1).unwrap();
                let tx = tx.shared();
                let mut select = Select::new();
                select.recv(&open);
                let sending = select.send(&tx);
                let error = select.run(|case| {
                    assert_eq!(case, sending);
                    tx.send_now(2)
                });
                let error = error.unwrap_err();
                assert!(error.is_closed() && error.into_inner() == 2);
            });
            // Not used here, or it would belong to this process.
            pause(30);
            fork(|| assert!(rx.close())).join();
            sender.join();
        } else {
            tx.send(1).unwrap();
            let receiver = fork(|| {
                let rx = rx.shared();
                let mut select = Select::new();
                select.recv(&open);
                select.recv(&rx);
                assert_eq!(select.run(|_| rx.recv_now()), Ok(1));
                assert!(select.run(|_| rx.recv_now()).unwrap_err().is_closed());
            });
            pause(30);
            assert!(tx.close());
            receiver.join();
        }
    }
}

fn a_one_to_one_case_hears_of_deaths() {
    let (_open_tx, open) = channel::<u64>(1).unwrap();
    let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
    let sender = fork(|| {
        tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    let start = Instant::now();
    {
        let rx = rx.shared();
        let mut select = Select::new();
        select.recv(&open);
        select.recv(&rx);
        assert_eq!(select.run(|_| rx.recv_now()), Ok(1));
        let killer = fork(|| {
            pause(40);
            sender.signal(libc::SIGKILL);
        });
        let error = select.run(|_| rx.recv_now()).unwrap_err();
        assert!(error.is_disconnected());
        killer.join();
    }
    let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(1));
        linger()
    });
    drop(rx);
    tx.send(1).unwrap();
    let tx = tx.shared();
    let mut select = Select::new();
    select.recv(&open);
    select.send(&tx);
    select.run(|_| tx.send_now(2)).unwrap();
    let killer = fork(|| {
        pause(40);
        receiver.signal(libc::SIGKILL);
    });
    let error = select.run(|_| tx.send_now(3)).unwrap_err();
    assert!(error.is_disconnected());
    killer.join();
    assert!(start.elapsed() < Duration::from_secs(8), "told by the belt");
}

extern "C" fn ignore(_signal: i32) {}

/// Signals, which end sleeps early, among them the first one on each ticket.
fn a_one_to_one_case_times_out_and_not_early() {
    on_signal(libc::SIGUSR1, ignore);
    let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
    let (timed_out_tx, timed_out) = channel::<u8>(1).unwrap();
    let sleeper = fork(|| {
        let rx = rx.shared();
        let mut select = Select::new();
        select.recv(&rx);
        for limit in [0, 1, 7, 60].map(Duration::from_millis) {
            let start = Instant::now();
            assert_eq!(select.wait_timeout(limit), None);
            assert!(start.elapsed() >= limit);
        }
        timed_out_tx.send(1).unwrap();
        assert_eq!(select.run(|_| rx.recv_now()), Ok(9));
    });
    let signal = || {
        sleeper.signal(libc::SIGUSR1);
        pause_us(100);
    };
    while timed_out.try_recv().is_err() {
        signal();
    }
    (0..100).for_each(|_| signal());
    tx.send(9).unwrap();
    sleeper.join();
}

/// Sleeps of a child in 400 ms of waiting, and their processor time in ns.
fn cost(child: &Child) -> (u64, u64) {
    let before = child.cost_until_it_rests();
    pause(400);
    let after = child.cost();
    (after.0 - before.0, after.1 - before.1)
}

fn a_select_of_one_to_one_channels_sleeps_at_no_cost() {
    let (mut a_tx, mut a) = spsc::channel::<u64>(1).unwrap();
    let (_b_tx, mut b) = spsc::channel::<u64>(1).unwrap();
    let sleeper = fork(|| {
        let (a, b) = (a.shared(), b.shared());
        let mut select = Select::new();
        select.recv(&a);
        select.recv(&b);
        assert_eq!(select.run(|_| a.recv_now()), Ok(1));
    });
    let (sleeps, ns) = cost(&sleeper);
    assert!(sleeps <= 1 && ns < 2_000_000, "{sleeps} sleeps, {ns} ns");
    a_tx.send(1).unwrap();
    sleeper.join();
}

fn selects_that_share_a_channel_do_not_keep_each_other_awake() {
    let (tx, shared) = channel::<u64>(2).unwrap();
    let own = [(); 3].map(|()| spsc::channel::<u64>(1).unwrap());
    let mut own = own.map(|(tx, rx)| (tx, Some(rx)));
    let sleepers: Vec<Child> = own
        .iter_mut()
        .map(|(_, rx)| {
            let shared = &shared;
            fork(move || {
                let mut rx = rx.take().unwrap();
                let rx = rx.shared();
                let mut select = Select::new();
                select.recv(shared);
                select.recv(&rx);
                assert_eq!(select.run(|_| shared.recv_now()), Ok(1));
            })
        })
        .collect();
    let before: Vec<_> = sleepers.iter().map(Child::cost_until_it_rests).collect();
    pause(400);
    for (sleeper, before) in sleepers.iter().zip(before) {
        let sleeps = sleeper.cost().0 - before.0;
        assert!(sleeps <= 2, "{sleeps} sleeps");
    }
    for _ in &sleepers {
        tx.send(1).unwrap();
    }
    sleepers.into_iter().for_each(Child::join);
}

fn a_lent_side_belongs_to_its_process() {
    let (mut tx, mut rx) = spsc::channel::<u64>(1).unwrap();
    tx.send(1).unwrap();
    let lent = rx.shared();
    assert_eq!(lent.recv_now(), Some(Ok(1)));
    let mut select = Select::new();
    select.recv(&lent);
    fork(|| {
        assert_eq!(select.wait(), 0);
        assert!(lent.recv_now().unwrap().unwrap_err().is_occupied());
    })
    .join();
    assert_eq!(select.try_wait(), None);
    drop(select);
    drop(lent);
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    let plain = rx.shared();
    assert!(plain.readiness().is_err(), "not built as pollable");
}

/// Receives as a poll loop does; the watchdog of the test is its only limit.
pub(crate) fn next(
    rx: &spsc::SharedReceiver<'_, u64>,
    readiness: &mut Readiness<'_>,
) -> Option<u64> {
    loop {
        match rx.recv_now() {
            Some(got) => return got.ok(),
            None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
            None => {}
        }
    }
}

pub(crate) fn send(
    tx: &spsc::SharedSender<'_, u64>,
    readiness: &mut Readiness<'_>,
    value: u64,
) -> bool {
    loop {
        match tx.send_now(value) {
            Some(sent) => return sent.is_ok(),
            None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
            None => {}
        }
    }
}

fn one_to_one_poll_loops_miss_no_message() {
    for capacity in [1, 4] {
        let (mut tx, mut rx) = pollable(capacity);
        let sender = fork(|| {
            let tx = tx.shared();
            let mut readiness = tx.readiness().unwrap();
            let mut random = Random::new(7);
            for value in 0..800 {
                if random.below(20) == 0 {
                    pause_us(random.below(400));
                }
                assert!(send(&tx, &mut readiness, value));
            }
        });
        drop(tx);
        let rx = rx.shared();
        let mut readiness = rx.readiness().unwrap();
        for value in 0..800 {
            assert_eq!(next(&rx, &mut readiness), Some(value));
        }
        assert_eq!(next(&rx, &mut readiness), None);
        sender.join();
    }
}

fn one_to_one_poll_loops_hear_of_deaths() {
    let (mut tx, mut rx) = pollable(1);
    let sender = fork(|| {
        tx.send(1).unwrap();
        linger()
    });
    drop(tx);
    let rx = rx.shared();
    let mut readiness = rx.readiness().unwrap();
    assert_eq!(next(&rx, &mut readiness), Some(1));
    let killer = fork(|| {
        pause(40);
        sender.signal(libc::SIGKILL);
    });
    let start = Instant::now();
    assert_eq!(next(&rx, &mut readiness), None);
    killer.join();

    let (mut tx, mut rx) = pollable(1);
    let receiver = fork(|| {
        assert_eq!(rx.recv(), Ok(1));
        linger()
    });
    drop(rx);
    tx.send(1).unwrap();
    let tx = tx.shared();
    let mut readiness = tx.readiness().unwrap();
    assert!(send(&tx, &mut readiness, 2));
    let killer = fork(|| {
        pause(40);
        receiver.signal(libc::SIGKILL);
    });
    assert!(!send(&tx, &mut readiness, 3));
    killer.join();
    assert!(start.elapsed() < Duration::from_secs(8), "told by the belt");
}

fn a_one_to_one_poll_loop_sleeps_at_no_cost() {
    let (mut tx, mut rx) = pollable(1);
    let sleeper = fork(|| {
        let rx = rx.shared();
        let mut readiness = rx.readiness().unwrap();
        assert_eq!(next(&rx, &mut readiness), Some(1));
        let mut select = Select::new();
        let nothing = pidfd(std::process::id().cast_signed());
        select.recv(&rx);
        select.readable(&nothing);
        assert_eq!(select.run(|_| rx.recv_now()), Ok(2));
    });
    for value in [1, 2] {
        let (sleeps, ns) = cost(&sleeper);
        assert!(sleeps <= 1 && ns < 2_000_000, "{sleeps} sleeps, {ns} ns");
        tx.send(value).unwrap();
    }
    sleeper.join();
}

/// One loop over two sets of the same side: arming one does not send the other round again and again.
fn two_poll_loops_of_one_side_leave_each_other_asleep() {
    let (mut tx, mut rx) = pollable(1);
    let sleeper = fork(|| {
        let rx = rx.shared();
        let mut both = [rx.readiness().unwrap(), rx.readiness().unwrap()];
        let mut select = Select::new();
        loop {
            if let Some(got) = rx.recv_now() {
                assert_eq!(got, Ok(1));
                break;
            }
            if both.iter_mut().all(|readiness| readiness.arm().unwrap()) {
                let fds = both.each_ref().map(|readiness| readiness.as_fd());
                let mut waiting = Select::new();
                for fd in &fds {
                    waiting.readable(fd);
                }
                waiting.wait();
            }
        }
        select.recv(&rx);
        assert_eq!(select.run(|_| rx.recv_now()), Ok(2));
    });
    let (sleeps, ns) = cost(&sleeper);
    assert!(sleeps <= 1 && ns < 2_000_000, "{sleeps} sleeps, {ns} ns");
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    sleeper.join();
}

fn a_select_waits_for_a_child_and_a_one_to_one_channel() {
    let (mut tx, mut rx) = pollable(1);
    let child = fork(|| {
        for value in 0..5 {
            pause(3);
            tx.send(value).unwrap();
        }
        pause(20);
    });
    let ended = pidfd(child.pid());
    let rx = rx.shared();
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
}

const ROUNDS: u64 = 3;
/// Times as many rounds for a point that was not reached.
const PATIENCE: u64 = 20;

fn lent_receivers_killed_at_each_step_lose_nothing() {
    for polled in [false, true] {
        for point in [Owned, Copied, Freed, Bumped, Armed] {
            let mut kills = 0;
            for round in 0..ROUNDS * PATIENCE {
                if round >= ROUNDS && kills > 0 {
                    break;
                }
                let (mut tx, rx) = pollable(1);
                let mut rx = Some(rx);
                let sending = |tx: &mut spsc::Sender<u64>| {
                    (0..6).for_each(|value| tx.send(value).unwrap());
                };
                // Asleep and full, or yet to come: then there is something to arm for.
                let sender = (point != Armed).then(|| fork(|| sending(&mut tx)));
                pause(4 * (1 + round / ROUNDS));
                let victim = fork(|| {
                    let mut rx = rx.take().unwrap();
                    let rx = rx.shared();
                    kill_at(point);
                    if polled {
                        next(&rx, &mut rx.readiness().unwrap());
                    } else {
                        let mut select = Select::new();
                        select.recv(&rx);
                        select.run(|_| rx.recv_now()).ok();
                    }
                });
                let sender = sender.unwrap_or_else(|| {
                    while !victim.has_ended() {
                        pause(1);
                    }
                    fork(|| sending(&mut tx))
                });
                let killed = victim.was_killed();
                kills += u32::from(killed);
                drop(tx);
                // What the victim gave back was received; everything else is still there.
                let first = u64::from(!killed || matches!(point, Freed | Bumped));
                let rest: Vec<u64> = rx.take().unwrap().into_iter().collect();
                assert_eq!(rest, (first..6).collect::<Vec<_>>(), "{point:?}, {polled}");
                sender.join();
            }
            assert!(kills > 0, "{point:?}: never reached");
        }
    }
}

fn lent_senders_killed_at_each_step_hold_up_nobody() {
    for polled in [false, true] {
        for (point, sent) in [
            (Owned, false),
            (Written, false),
            (Published, true),
            (Bumped, true),
        ] {
            let mut kills = 0;
            for round in 0..ROUNDS * PATIENCE {
                if round >= ROUNDS && kills > 0 {
                    break;
                }
                let (tx, mut rx) = pollable(1);
                let mut tx = Some(tx);
                let receiver = fork(|| {
                    let rx = rx.shared();
                    let mut got = Vec::new();
                    if polled {
                        let mut readiness = rx.readiness().unwrap();
                        while got.last() != Some(&100) {
                            got.push(next(&rx, &mut readiness).unwrap());
                        }
                    } else {
                        let mut select = Select::new();
                        select.recv(&rx);
                        while got.last() != Some(&100) {
                            got.push(select.run(|_| rx.recv_now()).unwrap());
                        }
                    }
                    assert!(got == [1, 100] || got == [100] && !sent, "{got:?}");
                });
                // Asleep, so that a wake that dies with its sender is missed.
                pause(4 * (1 + round / ROUNDS));
                let victim = fork(|| {
                    let mut tx = tx.take().unwrap();
                    let tx = tx.shared();
                    kill_at(point);
                    tx.send_now(1).unwrap().unwrap();
                });
                kills += u32::from(victim.was_killed());
                let mut tx = tx.take().unwrap();
                fork(|| tx.send(100).unwrap()).join();
                receiver.join();
            }
            assert!(kills > 0, "{point:?}: never reached");
        }
    }
}
