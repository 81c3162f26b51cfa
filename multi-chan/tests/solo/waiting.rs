//! Sleepers: woken by what they wait for, not by less, and not early.

use crate::support::{Child, can_sleep_long, fork, on_signal, pause};
use multi_chan::{Builder, Delivery, Select, channel};
use std::time::{Duration, Instant};

crate::tests![
    close_wakes_sleeping_receivers,
    close_wakes_sleeping_senders_and_gives_the_value_back,
    a_closed_channel_drains_first,
    timeouts_are_not_early,
    signals_do_not_disturb_a_sleeper,
    a_sleeper_uses_no_processor_time,
    receivers_beside_a_stopped_sender_sleep_and_are_woken,
    senders_beside_a_stopped_receiver_sleep_and_are_woken,
    receivers_of_a_closed_channel_sleep_beside_its_last_message,
    rendezvous_try_send_needs_a_waiting_receiver,
];

fn close_wakes_sleeping_receivers() {
    for capacity in [0, 2] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let sleepers = [(); 3].map(|()| fork(|| assert!(rx.recv().unwrap_err().is_closed())));
        pause(50);
        assert!(tx.close());
        assert!(!tx.close(), "only the first closes");
        sleepers.into_iter().for_each(Child::join);
    }
}

fn close_wakes_sleeping_senders_and_gives_the_value_back() {
    for capacity in [0, 1] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        if capacity == 1 {
            tx.send(1).unwrap();
        }
        let sleepers = [(); 3].map(|()| {
            fork(|| {
                let error = tx.send(2).unwrap_err();
                assert!(error.is_closed());
                assert_eq!(error.into_inner(), 2);
            })
        });
        pause(50);
        rx.close();
        sleepers.into_iter().for_each(Child::join);
    }
}

fn a_closed_channel_drains_first() {
    let (tx, rx) = channel::<u64>(4).unwrap();
    fork(|| {
        tx.send_batch(&[1, 2, 3]).unwrap();
        tx.close();
        assert!(tx.send(4).unwrap_err().is_closed());
        assert!(tx.try_send(4).unwrap_err().is_closed());
        assert_eq!(tx.send_batch(&[4]).unwrap_err().sent(), 0);
    })
    .join();
    assert!(rx.is_closed());
    assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2, 3]);
    assert!(rx.recv().unwrap_err().is_closed());
    assert!(rx.try_recv().unwrap_err().is_closed());
}

fn timeouts_are_not_early() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (rendezvous_tx, _rendezvous_rx) = channel::<u64>(0).unwrap();
    for limit in [0, 1, 7, 60].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(rx.recv_timeout(limit).unwrap_err().is_timeout());
        assert!(start.elapsed() >= limit);
        tx.send(1).unwrap();
        let start = Instant::now();
        let error = tx.send_timeout(2, limit).unwrap_err();
        assert!(error.is_timeout() && error.into_inner() == 2);
        assert!(start.elapsed() >= limit);
        assert_eq!(rx.recv(), Ok(1));
        let start = Instant::now();
        let error = rendezvous_tx.send_timeout(3, limit).unwrap_err();
        assert!(error.is_timeout() && error.into_inner() == 3);
        assert!(start.elapsed() >= limit);
    }
    tx.send(5).unwrap();
    assert_eq!(rx.recv_timeout(Duration::MAX), Ok(5));
}

extern "C" fn ignore(_signal: i32) {}

fn signals_do_not_disturb_a_sleeper() {
    on_signal(libc::SIGUSR1, ignore);
    let (tx, rx) = channel::<u64>(1).unwrap();
    let sleeper = fork(|| {
        let start = Instant::now();
        let limit = Duration::from_millis(100);
        assert!(rx.recv_timeout(limit).unwrap_err().is_timeout());
        assert!(start.elapsed() >= limit);
        assert_eq!(rx.recv(), Ok(9));
    });
    for _ in 0..2_000 {
        sleeper.signal(libc::SIGUSR1);
        crate::support::pause_us(100);
    }
    tx.send(9).unwrap();
    sleeper.join();
}

fn a_sleeper_uses_no_processor_time() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (ticks_tx, ticks_rx) = channel::<u64>(1).unwrap();
    let sleeper = fork(|| {
        let before = processor_ticks();
        assert_eq!(rx.recv(), Ok(1));
        ticks_tx.send(processor_ticks() - before).unwrap();
    });
    pause(1_500);
    tx.send(1).unwrap();
    let ticks = ticks_rx.recv().unwrap();
    assert!(ticks <= 2, "{ticks} clock ticks of 10 ms in 1.5 s of sleep");
    sleeper.join();
}

fn receivers_beside_a_stopped_sender_sleep_and_are_woken() {
    let (tx, rx) = channel::<u64>(2).unwrap();
    let sender = fork(|| {
        let mut slot = tx.reserve().unwrap();
        crate::support::stop();
        *slot = 7;
        slot.commit().unwrap();
        tx.send(7).unwrap();
    });
    sender.await_stop();
    let plain = fork(|| assert_eq!(rx.recv(), Ok(7)));
    let selecting = fork(|| {
        let mut select = Select::new();
        select.recv(&rx);
        assert_eq!(select.run(|_| rx.recv_now()), Ok(7));
    });
    sleep_beside(&sender, [plain, selecting]);
    sender.join();
}

fn senders_beside_a_stopped_receiver_sleep_and_are_woken() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    tx.send(1).unwrap();
    let receiver = fork(|| {
        let value = rx.recv_ref().unwrap();
        crate::support::stop();
        drop(value);
        rx.recv().unwrap();
    });
    receiver.await_stop();
    let plain = fork(|| tx.send(2).unwrap());
    let selecting = fork(|| {
        let mut select = Select::new();
        select.send(&tx);
        select.run(|_| tx.send_now(2)).unwrap();
    });
    sleep_beside(&receiver, [plain, selecting]);
    receiver.join();
}

fn receivers_of_a_closed_channel_sleep_beside_its_last_message() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let builder = Builder::new().capacity(1).delivery(delivery);
        let (tx, rx) = builder.build::<u64>().unwrap();
        tx.send(1).unwrap();
        let holder = fork(|| {
            let message = rx.recv_ref().unwrap();
            crate::support::stop();
            drop(message);
        });
        holder.await_stop();
        tx.close();
        let plain = fork(|| assert!(rx.recv().unwrap_err().is_closed()));
        let selecting = fork(|| {
            let mut select = Select::new();
            select.recv(&rx);
            assert!(select.run(|_| rx.recv_now()).unwrap_err().is_closed());
        });
        sleep_beside(&holder, [plain, selecting]);
        holder.join();
    }
}

fn sleep_beside(stopped: &Child, sleepers: [Child; 2]) {
    // Polling every 12.8 ms would be 39. Without the one call or the other it is every 20 ms, with up to four sleeps each time: a
    // barrier, a pause for the other sleeper, one more barrier.
    let most = if can_sleep_long() { 2 } else { 100 };
    let costs = || sleepers.each_ref().map(|sleeper| sleeper.cost().0);
    // On a busy machine it takes a while until it is settled that only a wake will do.
    let mut seen = Vec::new();
    let settled = (0..12).any(|_| {
        let before = costs();
        pause(500);
        let after = costs();
        seen.push([after[0] - before[0], after[1] - before[1]]);
        seen.last()
            .is_some_and(|more| more.iter().all(|&more| more <= most))
    });
    assert!(
        settled,
        "still polling, wakes in each half second: {seen:?}"
    );
    stopped.signal(libc::SIGCONT);
    sleepers.into_iter().for_each(Child::join);
}

fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let field = |n: usize| -> u64 {
        after_name
            .split_whitespace()
            .nth(n)
            .unwrap()
            .parse()
            .unwrap()
    };
    // utime and stime, fields 14 and 15 of proc_pid_stat(5).
    field(11) + field(12)
}

fn rendezvous_try_send_needs_a_waiting_receiver() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let error = tx.try_send(1).unwrap_err();
    assert!(error.is_full() && error.into_inner() == 1);
    assert!(rx.try_recv().unwrap_err().is_empty());
    let receiver = fork(|| assert_eq!(rx.recv(), Ok(2)));
    while tx.try_send(2).is_err() {
        pause(1);
    }
    receiver.join();
}
