//! Locks, conditions and permits: for tasks and plain threads alike.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::sync::{Condvar, Mutex, Semaphore};
use multi_goro::{Runtime, scope, sleep, yield_now};

/// Lets the other tasks of the only worker come to where they wait.
fn settle() {
    for _ in 0..20 {
        yield_now();
    }
}

#[test]
fn lock_is_held_across_switches_by_tasks_and_threads() {
    let _dog = watchdog(60);
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let total = Mutex::new(0);
        let add = || {
            for n in 0..500 {
                let mut total = total.lock();
                let seen = *total;
                if n % 3 == 0 {
                    yield_now();
                }
                *total = seen + 1;
            }
        };
        thread::scope(|threads| {
            threads.spawn(add);
            runtime.run(|| {
                scope(|s| {
                    for _ in 0..8 {
                        s.go(|| {
                            add();
                            Ok(())
                        });
                    }
                })
                .unwrap();
            });
        });
        assert_eq!(total.into_inner(), 500 * 9);
    }
}

#[test]
fn lock_is_released_by_a_panic_and_handed_over_in_order() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let order = Mutex::new(Vec::new());
    runtime.run(|| {
        let outcome = scope(|s| {
            let order = &order;
            s.go(move || {
                let _held = order.lock();
                sleep(Duration::from_millis(5));
                panic!("on purpose: with the lock");
            });
            while order.try_lock().is_some() {
                yield_now();
            }
            for n in 0..5 {
                s.go(move || {
                    order.lock().push(n);
                    Ok(())
                });
                settle();
            }
        });
        assert!(outcome.is_err());
    });
    assert_eq!(order.into_inner(), [0, 1, 2, 3, 4]);
}

#[test]
fn condition_wakes_one_or_all_and_gives_up_in_time() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (turn, changed) = (Mutex::new(0), Condvar::new());
    runtime.run(|| {
        scope(|s| {
            for who in 0..10 {
                let (turn, changed) = (&turn, &changed);
                s.go(move || {
                    let mut turn = turn.lock();
                    while *turn != who {
                        turn = changed.wait(turn);
                    }
                    *turn += 1;
                    changed.notify_all();
                    Ok(())
                });
            }
        })
        .unwrap();
    });
    let start = Instant::now();
    let (guard, timed_out) = changed.wait_timeout(turn.lock(), Duration::from_millis(5));
    assert!(timed_out && start.elapsed() >= Duration::from_millis(5));
    assert_eq!(*guard, 10);
    drop(guard);
    changed.notify_one();
}

#[test]
fn no_more_than_the_permits_are_inside() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (permits, inside) = (Semaphore::new(3), Mutex::new((0, 0)));
    runtime.run(|| {
        scope(|s| {
            for n in 0..50u64 {
                let (permits, inside) = (&permits, &inside);
                s.go(move || {
                    let permit = match n % 2 {
                        0 => permits.acquire_timeout(Duration::from_micros(50 * n)),
                        _ => Some(permits.acquire()),
                    };
                    if permit.is_some() {
                        let mut now = inside.lock();
                        now.0 += 1;
                        now.1 = now.1.max(now.0);
                        drop(now);
                        sleep(Duration::from_micros(300));
                        inside.lock().0 -= 1;
                    }
                    Ok(())
                });
            }
        })
        .unwrap();
    });
    let (now, most) = *inside.lock();
    assert_eq!(now, 0);
    assert!((1..=3).contains(&most), "{most} at once");
    assert_eq!(permits.available(), 3);
}

/// Go's `TestMutexFairness`: who asks for a lock that another takes again and again gets it.
#[test]
fn mutex_fairness() {
    let _dog = watchdog(60);
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let (mutex, is_over) = (Mutex::new(()), AtomicBool::new(false));
        runtime.run(|| {
            scope(|s| {
                s.go(|| {
                    while !is_over.load(Relaxed) {
                        let _held = mutex.lock();
                        sleep(Duration::from_micros(100));
                    }
                    Ok(())
                });
                for _ in 0..10 {
                    sleep(Duration::from_micros(100));
                    drop(mutex.lock());
                }
                is_over.store(true, Relaxed);
            })
            .unwrap();
        });
    }
}

/// Go's `TestCondSignalGenerations`: each notification wakes who has waited longest, though others join all the time.
#[test]
fn condition_signal_generations() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (joined, told) = (Mutex::new(0), Condvar::new());
    let order = Mutex::new(Vec::new());
    runtime.run(|| {
        scope(|s| {
            for me in 0..100 {
                let (joined, told, order) = (&joined, &told, &order);
                s.go(move || {
                    let mut joined = joined.lock();
                    *joined += 1;
                    let joined = told.wait(joined);
                    // Still under the lock, so in the order of waking.
                    order.lock().push(me);
                    drop(joined);
                    Ok(())
                });
                // It waits as soon as its lock is free.
                while *joined.lock() <= me {
                    yield_now();
                }
                if me > 0 {
                    drop(joined.lock());
                    told.notify_one();
                    while order.lock().len() < me {
                        yield_now();
                    }
                }
            }
            told.notify_one();
        })
        .unwrap();
    });
    assert!(order.into_inner().into_iter().eq(0..100));
}

/// Go's `TestSemaHandoff`: a permit given back goes to who waits, even if who gave it asks again at once.
#[test]
fn semaphore_hand_off() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let permits = Semaphore::new(1);
    runtime.run(|| {
        scope(|s| {
            for _ in 0..100 {
                let mine = permits.acquire();
                let other = s.spawn(|| {
                    let _permit = permits.acquire();
                    Ok(Instant::now())
                });
                // It starts, and waits for the permit.
                settle();
                drop(mine);
                assert!(permits.try_acquire().is_none(), "it is the waiter's by now");
                drop(permits.acquire());
                other.join().unwrap();
            }
        })
        .unwrap();
    });
    assert_eq!(permits.available(), 1);
}
