//! Channels: order, hand-off, closing, time limits, tasks and plain threads on either end.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::chan::{RecvError, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use multi_goro::{Group, Runtime, chan};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn values_arrive_in_order_at_every_capacity() {
    let _dog = watchdog(60);
    for workers in [1, 2] {
        let runtime = runtime(workers);
        for capacity in [0, 1, 2, 64] {
            let (tx, rx) = chan(capacity);
            let mut group = runtime.group();
            group.go(move || {
                for n in 0..2000 {
                    tx.send(n)?;
                }
                Ok(())
            });
            let got = group.spawn(move || Ok(rx.iter().collect::<Vec<i32>>()));
            assert!(got.join().unwrap().into_iter().eq(0..2000));
            group.wait().unwrap();
        }
    }
}

#[test]
fn each_senders_order_is_kept_among_many() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    for capacity in [0, 3] {
        let (tx, rx) = chan(capacity);
        let mut group = runtime.group();
        for who in 0..8usize {
            let tx = tx.clone();
            group.go(move || {
                for n in 0..500usize {
                    tx.send((who, n))?;
                }
                Ok(())
            });
        }
        drop(tx);
        let mut next = [0; 8];
        for (who, n) in &rx {
            assert_eq!(next[who], n);
            next[who] += 1;
        }
        assert_eq!(next, [500; 8]);
        group.wait().unwrap();
    }
}

#[test]
fn many_to_many_loses_and_doubles_nothing() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    for capacity in [0, 1, 16] {
        let (tx, rx) = chan(capacity);
        let sum = Arc::new(AtomicUsize::new(0));
        let mut group = runtime.group();
        for part in 0..4usize {
            let tx = tx.clone();
            group.go(move || {
                for n in 0..2500usize {
                    tx.send(part * 2500 + n)?;
                }
                Ok(())
            });
            let (rx, sum) = (rx.clone(), Arc::clone(&sum));
            group.go(move || {
                for n in rx {
                    sum.fetch_add(n, Relaxed);
                }
                Ok(())
            });
        }
        drop((tx, rx));
        group.wait().unwrap();
        assert_eq!(sum.load(Relaxed), (0..10_000).sum::<usize>());
    }
}

#[test]
fn plain_threads_and_tasks_talk_both_ways() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    for capacity in [0, 1] {
        let (to_task, from_thread) = chan(capacity);
        let (to_thread, from_task) = chan(capacity);
        let mut group = runtime.group();
        group.go(move || {
            for n in from_thread {
                to_thread.send(n + 1)?;
            }
            Ok(())
        });
        for n in 0..2000 {
            to_task.send(n).unwrap();
            assert_eq!(from_task.recv(), Ok(n + 1));
        }
        drop(to_task);
        group.wait().unwrap();
        assert_eq!(from_task.recv(), Err(RecvError));
    }
}

#[test]
fn closed_channel_drains_first() {
    let (tx, rx) = chan(4);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    tx.close();
    assert!(rx.is_closed());
    assert_eq!(tx.send(3).unwrap_err().into_inner(), 3);
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.try_recv(), Ok(2));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(rx.recv(), Err(RecvError));
}

#[test]
fn closing_wakes_everybody_with_their_values() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let (tx, rx) = chan::<usize>(0);
    let mut group = runtime.group();
    let senders: Vec<_> = (0..10)
        .map(|n| {
            let tx = tx.clone();
            group.spawn(move || Ok(tx.send(n).unwrap_err().into_inner()))
        })
        .collect();
    thread::sleep(SHORT);
    rx.close();
    for (n, sender) in senders.into_iter().enumerate() {
        assert_eq!(sender.join().unwrap(), n);
    }
    let (tx, rx) = chan::<usize>(0);
    for _ in 0..10 {
        let rx = rx.clone();
        group.go(move || {
            assert_eq!(rx.recv(), Err(RecvError));
            Ok(())
        });
    }
    thread::sleep(SHORT);
    drop(tx);
    group.wait().unwrap();
}

#[test]
fn last_receiver_gone_fails_sends_and_drops_what_was_buffered() {
    let value = Arc::new(());
    let (tx, rx) = chan(2);
    tx.send(Arc::clone(&value)).unwrap();
    let second = rx.clone();
    drop(rx);
    tx.send(Arc::clone(&value)).unwrap();
    assert_eq!(Arc::strong_count(&value), 3);
    drop(second);
    assert_eq!(Arc::strong_count(&value), 1);
    assert!(tx.send(Arc::clone(&value)).is_err());
}

#[test]
fn try_operations_never_wait() {
    let (tx, rx) = chan(1);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    tx.try_send(1).unwrap();
    assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    assert_eq!((tx.len(), rx.capacity()), (1, 1));
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1]);
    let (tx, rx) = chan(0);
    assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
    drop(rx);
    assert_eq!(tx.try_send(1), Err(TrySendError::Closed(1)));
}

#[test]
fn time_limits_are_not_early_and_give_the_value_back() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let check = || {
        let (tx, rx) = chan::<u8>(0);
        let start = Instant::now();
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(tx.send_timeout(7, SHORT), Err(SendTimeoutError::Timeout(7)));
        assert!(start.elapsed() >= 2 * SHORT);
        // Nobody is left in the queues: the channel works as before.
        assert_eq!(tx.try_send(8), Err(TrySendError::Full(8)));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        drop(tx);
        assert_eq!(
            rx.recv_timeout(Duration::MAX),
            Err(RecvTimeoutError::Closed)
        );
    };
    check();
    runtime.run(check);
}

#[test]
fn time_limits_race_with_senders_and_nothing_is_lost() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let (tx, rx) = chan::<usize>(0);
    let mut group = runtime.group();
    let count = 20_000;
    group.go(move || {
        let mut n = 0;
        while n < count {
            match tx.send_timeout(n, Duration::from_micros(n as u64 % 50)) {
                Ok(()) => n += 1,
                Err(SendTimeoutError::Timeout(back)) => assert_eq!(back, n),
                Err(SendTimeoutError::Closed(_)) => panic!("closed"),
            }
        }
        Ok(())
    });
    let mut next = 0;
    loop {
        match rx.recv_timeout(Duration::from_micros(next as u64 % 30)) {
            Ok(n) => {
                assert_eq!(n, next);
                next += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Closed) => break,
        }
    }
    assert_eq!(next, count);
    group.wait().unwrap();
}

#[test]
fn rendezvous_send_returns_after_the_value_was_taken() {
    let _dog = watchdog(60);
    let (tx, rx) = chan(0);
    let taken = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&taken);
    let mut group = Group::new();
    group.go(move || {
        multi_goro::sleep(SHORT);
        taken.store(1, Relaxed);
        rx.recv()?;
        Ok(())
    });
    tx.send(()).unwrap();
    assert_eq!(seen.load(Relaxed), 1);
    group.wait().unwrap();
}

#[test]
fn tasks_of_two_runtimes_share_a_channel() {
    let _dog = watchdog(60);
    let (one, two) = (runtime(1), runtime(1));
    let (tx, rx) = chan(0);
    let (mut senders, mut receivers) = (one.group(), two.group());
    senders.go(move || {
        for n in 0..2000 {
            tx.send(n)?;
        }
        Ok(())
    });
    receivers.go(move || {
        assert!(rx.iter().eq(0..2000));
        Ok(())
    });
    senders.wait().unwrap();
    receivers.wait().unwrap();
}

/// Tasks that have had a channel for themselves for long, and then threads that use it at the same moment: nothing is lost or out of
/// order. Many channels, since only the first visit of each is special.
#[test]
fn worker_that_was_alone_with_a_channel_makes_room() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    for round in 0..200 {
        let (tx, rx) = chan::<u32>(4);
        let visits = round % 7;
        thread::scope(|s| {
            let (count, all) = (4_000, rx.clone());
            let mut group = runtime.group();
            group.go(move || {
                for n in 0..count {
                    tx.send(n)?;
                }
                Ok(())
            });
            let visitor = s.spawn(|| {
                // At one moment or another after the worker has been alone for long.
                thread::sleep(Duration::from_micros(round * 3));
                (0..visits)
                    .filter_map(|_| rx.recv().ok())
                    .collect::<Vec<_>>()
            });
            let mine = group
                .spawn(move || Ok(all.iter().collect::<Vec<_>>()))
                .join()
                .unwrap();
            group.wait().unwrap();
            let theirs = visitor.join().unwrap();
            assert!(mine.is_sorted() && theirs.is_sorted());
            let mut all = [mine, theirs].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count));
        });
    }
}

/// What a channel's `Debug` writes to is the user's: it may use that very channel, and fail.
#[test]
fn channel_is_free_while_it_is_printed() {
    struct Nosy<'a>(&'a multi_goro::Sender<u8>, bool);

    impl std::fmt::Write for Nosy<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            let _either = self.0.try_send(1);
            assert!(!self.1, "fails as it writes");
            Ok(())
        }
    }

    let _dog = watchdog(60);
    let (tx, rx) = chan(2);
    std::fmt::write(&mut Nosy(&tx, false), format_args!("{tx:?} {rx:?}")).unwrap();
    assert_eq!(rx.len(), 2);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        std::fmt::write(&mut Nosy(&tx, true), format_args!("{rx:?}"))
    }));
    assert!(panicked.is_err());
    assert_eq!(rx.iter().take(2).sum::<u8>(), 2);
}
