//! What Go's tests of channels by these names check, done anew. Those of select are in `go_select.rs` and `select_races.rs`.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;
#[path = "common/deep.rs"]
mod deep;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

use common::watchdog;
use deep::deep;
use multi_goro::chan::TryRecvError;
use multi_goro::{Runtime, chan, scope, sleep, yield_now};

/// Runs `program` as a task beside one worker, two and four.
fn with_workers(program: impl Fn() + Sync) {
    let _dog = watchdog(60);
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&program);
    }
}

/// Go's `TestChan`, for one capacity: blocking, closing, order, and many at each end.
fn check_channel(capacity: usize) {
    // An empty channel keeps its receivers waiting.
    let (tx, rx) = chan(capacity);
    let received = AtomicBool::new(false);
    scope(|s| {
        s.go(|| {
            rx.recv()?;
            received.store(true, Relaxed);
            Ok(())
        });
        sleep(Duration::from_millis(1));
        assert!(!received.load(Relaxed), "received from an empty channel");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.send(0).unwrap();
    })
    .unwrap();

    // A full one keeps its senders waiting.
    let (tx, rx) = chan(capacity);
    for n in 0..capacity {
        tx.send(n).unwrap();
    }
    let sent = AtomicBool::new(false);
    scope(|s| {
        s.go(|| {
            tx.send(capacity)?;
            sent.store(true, Relaxed);
            Ok(())
        });
        sleep(Duration::from_millis(1));
        assert!(!sent.load(Relaxed), "sent to a full channel");
        assert!(
            tx.try_send(capacity).is_err(),
            "one waits, so there is no room"
        );
        assert_eq!((rx.len(), rx.capacity()), (capacity, capacity));
        assert_eq!(rx.recv(), Ok(0));
    })
    .unwrap();

    // A closed one gives what is in it, and then its end, again and again.
    let (tx, rx) = chan(capacity);
    for n in 0..capacity {
        tx.send(n).unwrap();
    }
    tx.close();
    assert!(rx.iter().eq(0..capacity));
    for _ in 0..2 {
        assert!(rx.recv().is_err());
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    }

    // Closing wakes who waits to receive.
    let (tx, rx) = chan::<usize>(capacity);
    scope(|s| {
        let woken = s.spawn(|| Ok(rx.recv().is_err()));
        sleep(Duration::from_millis(1));
        tx.close();
        assert!(woken.join().unwrap());
    })
    .unwrap();

    // First in, first out.
    let (tx, rx) = chan(capacity);
    scope(|s| {
        s.go(|| (0..100).try_for_each(|n| Ok(tx.send(n)?)));
        for n in 0..100 {
            assert_eq!(rx.recv(), Ok(n));
        }
    })
    .unwrap();

    // Several at each end: each value comes as often as it was sent.
    const TASKS: usize = 4;
    const VALUES: usize = 100;
    let (tx, rx) = chan(capacity);
    scope(|s| {
        let (tx, rx) = (&tx, &rx);
        let receivers: Vec<_> = (0..TASKS)
            .map(|_| {
                s.go(move || (0..VALUES).try_for_each(|n| Ok(tx.send(n)?)));
                s.spawn(move || {
                    let mut times = [0; VALUES];
                    for _ in 0..VALUES {
                        times[rx.recv()?] += 1;
                    }
                    Ok(times)
                })
            })
            .collect();
        let mut all = [0; VALUES];
        for receiver in receivers {
            for (all, times) in all.iter_mut().zip(receiver.join().unwrap()) {
                *all += times;
            }
        }
        assert_eq!(all, [TASKS; VALUES]);
    })
    .unwrap();
}

/// Go's `TestChan`.
#[test]
fn chan_at_every_capacity() {
    with_workers(|| (0..12).for_each(check_channel));
}

/// Go's `TestNonblockRecvRace`: a channel with a value in it that is closed is ready at every moment.
#[test]
fn nonblock_recv_race() {
    with_workers(|| {
        for _ in 0..2_000 {
            let (tx, rx) = chan(1);
            tx.send(1).unwrap();
            scope(|s| {
                s.go(|| {
                    assert_ne!(rx.try_recv(), Err(TryRecvError::Empty));
                    Ok(())
                });
                tx.close();
                let _value = rx.recv();
            })
            .unwrap();
            assert!(rx.is_empty());
        }
    });
}

/// Go's `TestChanSendInterface`: values whose type is not known are sent, and not sent, whole.
#[test]
fn chan_send_interface() {
    with_workers(|| {
        let (tx, rx) = chan::<Box<dyn Any + Send>>(1);
        tx.send(Box::new("first")).unwrap();
        let back = tx.try_send(Box::new(2_u8)).unwrap_err().into_inner();
        assert_eq!(back.downcast_ref(), Some(&2_u8));
        multi_goro::select! {
            send(tx, Box::new([0; 64]) as Box<dyn Any + Send>) -> _sent => panic!("no room"),
            default => {}
        }
        assert_eq!(rx.recv().unwrap().downcast_ref(), Some(&"first"));
    });
}

/// Go's `TestMultiConsumer`: one feeds many who pass on, some of whom yield; the sum is right.
#[test]
fn multi_consumer() {
    const WORKERS: usize = 23;
    const VALUES: usize = 20_000;
    const PRIMES: [usize; 7] = [2, 3, 7, 11, 13, 17, 19];
    with_workers(|| {
        let (q, from_q) = chan(WORKERS * 3);
        let (r, from_r) = chan(WORKERS * 3);
        scope(|s| {
            for worker in 0..WORKERS {
                let (from_q, r) = (from_q.clone(), r.clone());
                s.go(move || {
                    for value in from_q {
                        // Not always in step with each other.
                        if PRIMES[worker % PRIMES.len()] == value {
                            yield_now();
                        }
                        r.send(value)?;
                    }
                    Ok(())
                });
            }
            drop(r);
            let expected = s.spawn(move || {
                let mut sum = 0;
                for n in 0..VALUES {
                    let value = n % 101;
                    sum += value;
                    q.send(value)?;
                }
                Ok(sum)
            });
            let (count, sum) = from_r
                .iter()
                .fold((0, 0), |(count, sum), value| (count + 1, sum + value));
            assert_eq!((count, sum), (VALUES, expected.join().unwrap()));
        })
        .unwrap();
    });
}

/// Go's `TestShrinkStackDuringBlockedSend`: a task waits to send from deep down its stack, and then from high up, while what it does not use of
/// its stack may be given back.
#[test]
fn shrink_stack_during_blocked_send() {
    with_workers(|| {
        let (tx, rx) = chan(0);
        let count = 20;
        scope(|s| {
            s.go(|| {
                for n in 0..count {
                    deep(40, &mut || tx.send(n).unwrap());
                    tx.send(n)?;
                }
                Ok(())
            });
            for n in 0..count {
                for _ in 0..2 {
                    sleep(Duration::from_millis(1));
                    assert_eq!(rx.recv(), Ok(n));
                }
            }
        })
        .unwrap();
    });
}
