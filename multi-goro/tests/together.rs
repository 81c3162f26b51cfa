//! Reading together, doing once, waiting for each other: for tasks and plain threads alike.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::Duration;

use common::watchdog;
use multi_goro::sync::{Barrier, Once, RwLock, WaitGroup};
use multi_goro::{Runtime, scope, sleep, yield_now};

/// Lets the other tasks of the only worker come to where they wait.
fn settle() {
    for _ in 0..20 {
        yield_now();
    }
}

#[test]
fn once_runs_once_and_everybody_waits_for_it() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (once, runs) = (Once::new(), AtomicUsize::new(0));
    let ask = || {
        once.call_once(|| {
            sleep(Duration::from_millis(5));
            runs.fetch_add(1, Relaxed);
        });
        assert_eq!(runs.load(Relaxed), 1);
    };
    thread::scope(|threads| {
        threads.spawn(ask);
        runtime.run(|| {
            scope(|s| {
                for _ in 0..20 {
                    s.go(|| {
                        ask();
                        Ok(())
                    });
                }
            })
            .unwrap();
        });
    });
    assert!(once.is_done());
}

#[test]
fn once_with_panic_leaves_it_to_the_next_who_waits() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (once, runs) = (Once::new(), AtomicUsize::new(0));
    let failures = runtime.run(|| {
        scope(|s| {
            for _ in 0..10 {
                s.go(|| {
                    once.call_once(|| {
                        sleep(Duration::from_millis(1));
                        let run = runs.fetch_add(1, Relaxed);
                        assert!(run >= 2, "on purpose: the first two runs");
                    });
                    assert!(once.is_done());
                    Ok(())
                });
            }
        })
        .unwrap_err()
    });
    assert_eq!(failures.failures().len(), 2);
    assert_eq!(runs.load(Relaxed), 3);
    once.call_once(|| unreachable!("done"));
}

#[test]
fn barrier_generations() {
    let _dog = watchdog(60);
    const PARTIES: usize = 5;
    const ROUNDS: usize = 200;
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let line = Barrier::new(PARTIES);
    let (come, leaders) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let party = || {
        for round in 1..=ROUNDS {
            come.fetch_add(1, SeqCst);
            leaders.fetch_add(usize::from(line.wait()), SeqCst);
            // All of this round have come, and nobody can be two rounds ahead.
            let seen = come.load(SeqCst);
            assert!((round * PARTIES..(round + 1) * PARTIES).contains(&seen));
        }
    };
    thread::scope(|threads| {
        threads.spawn(party);
        runtime.run(|| {
            scope(|s| {
                for _ in 1..PARTIES {
                    s.go(|| {
                        party();
                        Ok(())
                    });
                }
            })
            .unwrap();
        });
    });
    assert_eq!(leaders.into_inner(), ROUNDS);
    assert!(Barrier::new(1).wait() && Barrier::new(0).wait());
}

#[test]
fn wait_group_is_used_again_by_many_and_refuses_too_many_dones() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (parts, done) = (WaitGroup::new(), AtomicUsize::new(0));
    parts.wait();
    runtime.run(|| {
        scope(|s| {
            for round in 1..=100 {
                parts.add(8);
                for _ in 0..8 {
                    s.go(|| {
                        done.fetch_add(1, Relaxed);
                        parts.done();
                        Ok(())
                    });
                }
                let second = s.spawn(|| {
                    parts.wait();
                    Ok(())
                });
                parts.wait();
                assert_eq!(done.load(Relaxed), 8 * round);
                second.join().unwrap();
            }
        })
        .unwrap();
    });
    let refused = catch_unwind(AssertUnwindSafe(|| parts.done())).unwrap_err();
    let message = *refused.downcast::<&str>().unwrap();
    assert_eq!(
        message,
        "WaitGroup::done was called more often than was added"
    );
    parts.add(1);
    assert!(!parts.wait_timeout(Duration::from_millis(5)));
    assert_eq!(parts.left(), 1);
    parts.done();
    assert!(parts.wait_timeout(Duration::ZERO));
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let _dog = watchdog(60);
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let pair = RwLock::new((0, 0));
        let inside = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let read = || {
            for _ in 0..200 {
                let pair = pair.read();
                most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                yield_now();
                assert_eq!(pair.0, pair.1);
                inside.fetch_sub(1, SeqCst);
            }
        };
        let write = || {
            for _ in 0..100 {
                let mut pair = pair.write();
                assert_eq!(inside.load(SeqCst), 0);
                pair.0 += 1;
                yield_now();
                pair.1 += 1;
            }
        };
        thread::scope(|threads| {
            threads.spawn(read);
            threads.spawn(write);
            runtime.run(|| {
                scope(|s| {
                    for n in 0..8 {
                        s.go(move || {
                            if n < 6 {
                                read();
                            } else {
                                write();
                            }
                            Ok(())
                        });
                    }
                })
                .unwrap();
            });
        });
        assert!(most.load(SeqCst) > 1, "readers share");
        assert_eq!(pair.into_inner(), (300, 300));
    }
}

#[test]
fn writer_starves_neither_by_readers_nor_they_by_writers() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let value = RwLock::new(0);
    runtime.run(|| {
        scope(|s| {
            let first = value.read();
            let writer = s.spawn(|| {
                *value.write() += 1;
                Ok(())
            });
            settle();
            assert!(value.try_read().is_none(), "a writer waits");
            let reader = s.spawn(|| Ok(*value.read()));
            settle();
            let second_writer = s.spawn(|| {
                *value.write() += 10;
                Ok(())
            });
            settle();
            drop(first);
            writer.join().unwrap();
            // The reader that came before the second writer, and while the first waited, is let in between them.
            assert_eq!(reader.join().unwrap(), 1);
            second_writer.join().unwrap();
        })
        .unwrap();
    });
    assert_eq!(*value.read(), 11);
    let held = catch_unwind(AssertUnwindSafe(|| {
        let _held = value.write();
        panic!("on purpose: with the lock");
    }));
    assert!(held.is_err() && value.try_write().is_some());
}
