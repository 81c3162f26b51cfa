//! Select against select, channel and time limit: one arm is taken, none is forgotten. Those with Go's names do what Go's tests
//! of these names do.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]
#![expect(clippy::print_stdout, reason = "the seed has to be seen")]

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::watchdog;
use everywhere::everywhere;
use multi_goro::{Receiver, Runtime, Sender, chan, scope, select};

const SHORT: Duration = Duration::from_millis(5);

/// Go's `TestSelectFairness`: of arms that are all ready each is taken often.
#[test]
fn select_fairness() {
    everywhere(|| {
        let ends: Vec<_> = (0..4).map(|_| chan::<u8>(1)).collect();
        for (tx, _) in &ends {
            tx.close();
        }
        let (_open, never) = chan::<u8>(0);
        let mut taken = [0; 4];
        let rounds = 8000;
        for _ in 0..rounds {
            select! {
                recv(never) -> _ => panic!("nobody sends"),
                recv(ends[0].1) -> _ => taken[0] += 1,
                recv(ends[1].1) -> _ => taken[1] += 1,
                recv(ends[2].1) -> _ => taken[2] += 1,
                recv(ends[3].1) -> _ => taken[3] += 1,
            }
        }
        // A fair choice misses this by chance less than once in 10^20 runs.
        for count in taken {
            assert!(
                (rounds / 4 - 450..rounds / 4 + 450).contains(&count),
                "{taken:?}"
            );
        }
    });
}

/// Go's `TestSelfSelect`: two tasks that send and receive on one channel in one select; neither ever meets itself.
#[test]
fn self_select() {
    everywhere(|| {
        for capacity in [0, 10] {
            let (tx, rx) = chan::<usize>(capacity);
            let left = AtomicUsize::new(2);
            scope(|s| {
                for me in 0..2 {
                    let (tx, rx, left) = (tx.clone(), rx.clone(), &left);
                    s.go(move || {
                        for _ in 0..1000 {
                            select! {
                                send(tx, me) -> sent => sent?,
                                recv(rx) -> got => {
                                    let from = got?;
                                    assert!(capacity > 0 || from != me, "met itself");
                                }
                            }
                        }
                        // The other may still need a partner.
                        left.fetch_sub(1, SeqCst);
                        while left.load(SeqCst) > 0 {
                            select! {
                                send(tx, me) -> _ => {}
                                recv(rx) -> _ => {}
                                after(Duration::from_micros(100)) => {}
                            }
                        }
                        Ok(())
                    });
                }
            })
            .unwrap();
        }
    });
}

#[test]
fn lone_self_select_never_meets_itself() {
    everywhere(|| {
        let (tx, rx) = chan::<u8>(0);
        select! {
            send(tx, 1) -> _ => panic!("sent to itself"),
            recv(rx) -> _ => panic!("received from itself"),
            after(SHORT) => {}
        }
    });
}

/// Go's `TestSelectDuplicateChannel`: arms of the same channel do not disturb each other.
#[test]
fn select_duplicate_channel() {
    everywhere(|| {
        let (tx, rx) = chan::<usize>(0);
        let (_open, never) = chan::<usize>(0);
        scope(|s| {
            for _ in 0..3 {
                let (rx, never) = (rx.clone(), never.clone());
                s.go(move || {
                    for _ in 0..100 {
                        select! {
                            recv(rx) -> got => { got?; }
                            recv(never) -> _ => panic!("nobody sends"),
                            recv(rx) -> got => { got?; }
                        }
                    }
                    Ok(())
                });
            }
            for n in 0..300 {
                tx.send(n).unwrap();
            }
        })
        .unwrap();
        assert!(tx.try_send(0).is_err(), "nobody is left in the queue");
    });
}

/// Go's `TestNonblockSelectRace`: one of two channels is ready at every moment, so default is never taken.
#[test]
fn nonblock_select_race() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        for round in 0..5000 {
            let ((a_tx, a_rx), (b_tx, b_rx)) = (chan(1), chan(1));
            a_tx.send(1).unwrap();
            let found = scope(|s| {
                let looking = s.spawn(|| {
                    Ok(select! {
                        recv(a_rx) -> _ => true,
                        recv(b_rx) -> _ => true,
                        default => false,
                    })
                });
                // The second time round the other becomes ready by closing.
                if round % 2 == 0 {
                    b_tx.send(1).unwrap();
                } else {
                    b_tx.close();
                }
                let _drained = a_rx.try_recv();
                looking.join().unwrap()
            });
            assert!(
                found.unwrap(),
                "round {round}: something was ready all the time"
            );
        }
    });
}

/// Go's `TestSelectStress`: four channels, buffered and not; one task per channel sends and one receives, and beside them one
/// sends to all four by select, and one receives from all four by select.
#[test]
fn select_stress() {
    const COUNT: usize = 2000;
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let ends: Vec<(Sender<usize>, Receiver<usize>)> =
            [0, 0, 2, 3].into_iter().map(chan).collect();
        scope(|s| {
            let ends = &ends;
            for (tx, rx) in ends {
                s.go(move || {
                    for n in 0..COUNT {
                        tx.send(n)?;
                    }
                    Ok(())
                });
                s.go(move || {
                    for _ in 0..COUNT {
                        rx.recv()?;
                    }
                    Ok(())
                });
            }
            s.go(move || {
                let mut slots = [Some(0); 4];
                let mut left = [COUNT; 4];
                while slots.iter().any(Option::is_some) {
                    let [a, b, c, d] = &mut slots;
                    let sent = select! {
                        send(ends[0].0, in *a) -> sent => { sent?; 0 }
                        send(ends[1].0, in *b) -> sent => { sent?; 1 }
                        send(ends[2].0, in *c) -> sent => { sent?; 2 }
                        send(ends[3].0, in *d) -> sent => { sent?; 3 }
                    };
                    left[sent] -= 1;
                    slots[sent] = (left[sent] > 0).then_some(0);
                }
                Ok(())
            });
            s.go(move || {
                // A channel of which this has had its share is replaced by one that nobody sends on.
                let (_open, never) = chan(0);
                let mut from: [&Receiver<usize>; 4] = std::array::from_fn(|n| &ends[n].1);
                let mut left = [COUNT; 4];
                for _ in 0..4 * COUNT {
                    let got = select! {
                        recv(from[0]) -> value => { value?; 0 }
                        recv(from[1]) -> value => { value?; 1 }
                        recv(from[2]) -> value => { value?; 2 }
                        recv(from[3]) -> value => { value?; 3 }
                    };
                    left[got] -= 1;
                    if left[got] == 0 {
                        from[got] = &never;
                    }
                }
                Ok(())
            });
        })
        .unwrap();
    });
}

fn seed() -> u64 {
    let given = std::env::var("MULTI_STRESS_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 | 1
    });
    println!("MULTI_STRESS_SEED={seed}");
    seed
}

/// Many producers and consumers, all in selects with time limits, tasks and threads: every value arrives once.
#[test]
fn many_producers_and_consumers_lose_and_double_nothing() {
    let _dog = watchdog(120);
    let mut random = seed();
    let mut below = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) % n
    };
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        let runtime = Runtime::builder()
            .workers(1 + below(3) as usize)
            .build()
            .unwrap();
        let ends: [_; 3] = std::array::from_fn(|_| chan::<usize>(below(3) as usize));
        let (each, parties) = (50 + below(300) as usize, 1 + below(6) as usize);
        let pauses: Vec<_> = (0..2 * parties)
            .map(|_| Duration::from_micros(1 + below(80)))
            .collect();
        let seen: Vec<_> = (0..parties * each).map(|_| AtomicUsize::new(0)).collect();
        let (ends, seen) = (Arc::new(ends), Arc::new(seen));
        let received = Arc::new(AtomicUsize::new(0));
        let produce = |who: usize| {
            let (ends, pause) = (Arc::clone(&ends), pauses[who]);
            move || {
                for n in 0..each {
                    let value = who * each + n;
                    let mut is_sent = false;
                    while !is_sent {
                        is_sent = select! {
                            send(ends[0].0, value) -> sent => sent.is_ok(),
                            send(ends[1].0, value) -> sent => sent.is_ok(),
                            send(ends[2].0, value) -> sent => sent.is_ok(),
                            after(pause) => false,
                        };
                    }
                }
            }
        };
        let consume = |who: usize| {
            let (ends, seen) = (Arc::clone(&ends), Arc::clone(&seen));
            let (received, pause) = (Arc::clone(&received), pauses[parties + who]);
            move || {
                while received.load(Relaxed) < seen.len() {
                    let got = select! {
                        recv(ends[0].1) -> got => got.unwrap(),
                        recv(ends[1].1) -> got => got.unwrap(),
                        recv(ends[2].1) -> got => got.unwrap(),
                        after(pause) => continue,
                    };
                    seen[got].fetch_add(1, Relaxed);
                    received.fetch_add(1, Relaxed);
                }
            }
        };
        let mut group = runtime.group();
        let mut threads = Vec::new();
        for who in 0..parties {
            let (produce, consume) = (produce(who), consume(who));
            // The first of each kind is a plain thread.
            if who == 0 {
                threads.push(thread::spawn(produce));
                threads.push(thread::spawn(consume));
            } else {
                group.go(move || {
                    produce();
                    Ok(())
                });
                group.go(move || {
                    consume();
                    Ok(())
                });
            }
        }
        group.wait().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(seen.iter().all(|times| times.load(Relaxed) == 1));
        for (tx, rx) in ends.iter() {
            assert!(tx.is_empty() && rx.try_recv().is_err());
        }
    }
}

/// A select over a channel that one worker has for itself, one that it shares with a plain thread, and one that a thread joins late:
/// every value arrives once, in its channel's order.
#[test]
fn select_over_channels_of_one_worker_and_of_several() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let count = 3_000_usize;
    for round in 0..60_u64 {
        let ends: Vec<_> = (0..3).map(chan::<usize>).collect();
        let got = thread::scope(|s| {
            let [own, shared, joined] = [0, 1, 2].map(|n| ends[n].0.clone());
            let send = move |to: &Sender<usize>, from, until| -> multi_goro::Result {
                (from..until).try_for_each(|k| Ok(to.send(k)?))
            };
            let late = joined.clone();
            s.spawn(move || send(&shared, 0, count).unwrap());
            let mut group = runtime.group();
            let first = group.spawn(move || send(&joined, 0, count / 2));
            s.spawn(move || {
                first.join().unwrap();
                thread::sleep(Duration::from_micros(round * 5));
                send(&late, count / 2, count).unwrap();
            });
            group.go(move || send(&own, 0, count));
            let rx: Vec<_> = ends.iter().map(|(_, rx)| rx.clone()).collect();
            let got = group.spawn(move || {
                let mut next = [0; 3];
                for _ in 0..3 * count {
                    let (n, k) = select! {
                        recv(rx[0]) -> k => (0, k?),
                        recv(rx[1]) -> k => (1, k?),
                        recv(rx[2]) -> k => (2, k?),
                    };
                    assert_eq!(k, next[n], "channel {n}");
                    next[n] += 1;
                }
                Ok(next)
            });
            let got = got.join().unwrap();
            group.wait().unwrap();
            got
        });
        assert_eq!(got, [count; 3]);
    }
}
