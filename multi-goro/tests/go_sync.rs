//! What Go's tests of locks, conditions and the like by these names check, done anew. `TestMutexFairness`,
//! `TestCondSignalGenerations` and `TestSemaHandoff` are in `sync.rs`.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::*};

use common::watchdog;
use multi_goro::sync::{Condvar, Mutex, Once, RwLock, Semaphore, WaitGroup};
use multi_goro::{Runtime, chan, scope, yield_now};

/// Runs `program` as a task beside one worker, two and four.
fn with_workers(program: impl Fn() + Sync) {
    let _dog = watchdog(60);
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&program);
    }
}

/// Go's `TestMutex`: many take the lock many times, now and then only if it is free; one is inside at a time.
#[test]
fn mutex_hammer() {
    with_workers(|| {
        let (mutex, inside) = (Mutex::new(0_u32), AtomicI32::new(0));
        let taken = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..10 {
                s.go(|| {
                    for n in 0..1000 {
                        let guard = if n % 3 == 0 {
                            mutex.try_lock()
                        } else {
                            Some(mutex.lock())
                        };
                        let Some(mut guard) = guard else { continue };
                        assert_eq!(inside.fetch_add(1, Relaxed), 0);
                        if n % 50 == 0 {
                            yield_now();
                        }
                        *guard += 1;
                        taken.fetch_add(1, Relaxed);
                        inside.fetch_sub(1, Relaxed);
                    }
                    Ok(())
                });
            }
        })
        .unwrap();
        assert_eq!(mutex.into_inner() as usize, taken.into_inner());
    });
}

/// Go's `TestParallelReaders`: as many as like read at once.
#[test]
fn parallel_readers() {
    with_workers(|| {
        for count in [1, 3, 4] {
            let lock = RwLock::new(());
            let (inside, all_in) = chan::<()>(0);
            let (leave, left) = chan::<()>(0);
            scope(|s| {
                for _ in 0..count {
                    s.go(|| {
                        let _read = lock.read();
                        inside.send(())?;
                        // All of them are in before any leaves.
                        Ok(left.recv()?)
                    });
                }
                (0..count).for_each(|_| all_in.recv().unwrap());
                (0..count).for_each(|_| leave.send(()).unwrap());
            })
            .unwrap();
            assert!(lock.try_write().is_some());
        }
    });
}

/// Go's `TestRWMutex`: readers and writers in many numbers; a writer is alone, readers are with readers only.
#[test]
fn rw_mutex_hammer() {
    with_workers(|| {
        for readers in [1, 3, 10] {
            let lock = RwLock::new(());
            // A reader adds one, a writer 10 000.
            let activity = AtomicI32::new(0);
            let rounds = 300;
            scope(|s| {
                for _ in 0..2 {
                    s.go(|| {
                        for _ in 0..rounds {
                            let _write = lock.write();
                            assert_eq!(activity.fetch_add(10_000, Relaxed), 0);
                            yield_now();
                            activity.fetch_sub(10_000, Relaxed);
                        }
                        Ok(())
                    });
                }
                for _ in 0..readers {
                    s.go(|| {
                        for _ in 0..rounds {
                            let _read = lock.read();
                            let before = activity.fetch_add(1, Relaxed);
                            assert!((0..10_000).contains(&before), "beside a writer");
                            yield_now();
                            activity.fetch_sub(1, Relaxed);
                        }
                        Ok(())
                    });
                }
            })
            .unwrap();
        }
    });
}

/// Go's `TestCondSignal`: each notification wakes one, and no more.
#[test]
fn cond_signal() {
    with_workers(|| {
        let count = 4_usize;
        let (waiting, told) = (Mutex::new(0), Condvar::new());
        let awake = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..count {
                s.go(|| {
                    let mut waiting = waiting.lock();
                    *waiting += 1;
                    let _waiting = told.wait(waiting);
                    awake.fetch_add(1, Relaxed);
                    Ok(())
                });
            }
            while *waiting.lock() < count {
                yield_now();
            }
            for n in 0..count {
                let held = waiting.lock();
                told.notify_one();
                // The lock is still ours, so the one that was woken is not out.
                assert_eq!(awake.load(Relaxed), n);
                drop(held);
                while awake.load(Relaxed) == n {
                    yield_now();
                }
                for _ in 0..20 {
                    yield_now();
                    assert_eq!(awake.load(Relaxed), n + 1, "too many are awake");
                }
            }
            // Nobody is left; nothing is kept for who comes later.
            told.notify_one();
        })
        .unwrap();
    });
}

/// Go's `TestCondBroadcast`: everybody who waits is woken, round after round.
#[test]
fn cond_broadcast() {
    with_workers(|| {
        let (count, rounds) = (50_usize, 20);
        let (state, told) = (Mutex::new((0, 0)), Condvar::new());
        let out = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..count {
                s.go(|| {
                    for round in 1..=rounds {
                        let mut guard = state.lock();
                        guard.0 += 1;
                        while guard.1 < round {
                            guard = told.wait(guard);
                        }
                        drop(guard);
                        out.fetch_add(1, Relaxed);
                    }
                    Ok(())
                });
            }
            for round in 1..=rounds {
                while state.lock().0 < count * round {
                    yield_now();
                }
                assert_eq!(out.load(Relaxed), count * (round - 1), "not told yet");
                state.lock().1 = round;
                told.notify_all();
                while out.load(Relaxed) < count * round {
                    yield_now();
                }
            }
        })
        .unwrap();
    });
}

/// Go's `TestRace` of conditions: three that wait for each other's turn through one condition.
#[test]
fn cond_race() {
    with_workers(|| {
        let (x, told) = (Mutex::new(0), Condvar::new());
        scope(|s| {
            s.go(|| {
                let mut x = x.lock();
                *x = 1;
                let x = told.wait(x);
                assert_eq!(*x, 2);
                drop(x);
                told.notify_one();
                Ok(())
            });
            s.go(|| {
                loop {
                    let mut x = x.lock();
                    if *x == 1 {
                        *x = 2;
                        told.notify_one();
                        break Ok(());
                    }
                    drop(x);
                    yield_now();
                }
            });
            s.go(|| {
                loop {
                    let x = x.lock();
                    if *x == 2 {
                        // Whoever is told first: nobody is told twice.
                        break Ok(());
                    }
                    drop(x);
                    yield_now();
                }
            });
        })
        .unwrap();
    });
}

/// Go's `TestCondSignalStealing`: who waits when everybody is told is told, and nobody that comes at that moment is told in its place.
#[test]
fn cond_signal_stealing() {
    with_workers(|| {
        for _ in 0..300 {
            let (mutex, told) = (Mutex::new(false), Condvar::new());
            let (ready, is_ready) = chan::<()>(1);
            scope(|s| {
                let first = s.spawn(|| {
                    let guard = mutex.lock();
                    ready.send(())?;
                    drop(told.wait(guard));
                    Ok(())
                });
                is_ready.recv().unwrap();
                // It waits as soon as its lock is free.
                drop(mutex.lock());
                s.go(|| {
                    told.notify_all();
                    Ok(())
                });
                s.go(|| {
                    let mut done = mutex.lock();
                    while !*done {
                        done = told.wait(done);
                    }
                    Ok(())
                });
                first.join().unwrap();
                *mutex.lock() = true;
                told.notify_all();
            })
            .unwrap();
        }
    });
}

fn semaphore_hand_off(workers: usize) {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.run(|| {
        let permits = Semaphore::new(1);
        let (turns, is_waiting) = (AtomicUsize::new(0), AtomicBool::new(false));
        scope(|s| {
            let mut mine = permits.acquire();
            for turn in 0..200 {
                is_waiting.store(false, Relaxed);
                let other = s.spawn(|| {
                    is_waiting.store(true, Relaxed);
                    let _theirs = permits.acquire();
                    turns.fetch_add(1, Relaxed);
                    Ok(())
                });
                while !is_waiting.load(Relaxed) {
                    yield_now();
                }
                // Its next step is to wait; with one worker it has made it, since nothing made it stop before.
                drop(mine);
                mine = permits.acquire();
                let had = turns.load(Relaxed);
                assert!(had == turn + 1 || workers > 1, "overtaken: {had}");
                drop(mine);
                other.join().unwrap();
                mine = permits.acquire();
            }
            drop(mine);
        })
        .unwrap();
    });
}

/// Go's `TestSemaHandoff1`: with one worker, a permit that is given back goes to who waits before the giver has another.
#[test]
fn sema_handoff_1() {
    semaphore_hand_off(1);
}

/// Go's `TestSemaHandoff2`: the same with two, where the waiter may not have got to waiting; nothing is lost or counted twice.
#[test]
fn sema_handoff_2() {
    semaphore_hand_off(2);
}

/// Go's `TestOnce`: many at once; it runs once, and everybody sees that it has.
#[test]
fn once_for_many() {
    with_workers(|| {
        let (once, runs) = (Once::new(), AtomicUsize::new(0));
        scope(|s| {
            for _ in 0..10 {
                s.go(|| {
                    once.call_once(|| {
                        yield_now();
                        runs.fetch_add(1, Relaxed);
                    });
                    assert_eq!(runs.load(Relaxed), 1);
                    Ok(())
                });
            }
        })
        .unwrap();
        assert_eq!(runs.into_inner(), 1);
    });
}

/// Go's `TestOncePanic`, with the other answer: a run that panics has not happened, as with `std`, and the next caller makes up for it.
#[test]
fn once_panic() {
    with_workers(|| {
        let once = Once::new();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            once.call_once(|| panic!("on purpose"));
        }));
        assert!(failed.is_err() && !once.is_done());
        let mut ran = false;
        once.call_once(|| ran = true);
        assert!(ran && once.is_done());
        once.call_once(|| unreachable!("done"));
    });
}

/// Go's `TestWaitGroup`: nobody gets on before all are done; the group is used again.
#[test]
fn wait_group() {
    with_workers(|| {
        let (one, other) = (WaitGroup::new(), WaitGroup::new());
        for _ in 0..8 {
            let count = 16;
            one.add(count);
            other.add(count);
            let through = AtomicUsize::new(0);
            scope(|s| {
                for _ in 0..count {
                    s.go(|| {
                        one.done();
                        other.wait();
                        through.fetch_add(1, Relaxed);
                        Ok(())
                    });
                }
                one.wait();
                for _ in 0..count {
                    assert_eq!(through.load(Relaxed), 0, "released too early");
                    other.done();
                }
            })
            .unwrap();
            assert_eq!(through.into_inner(), count);
        }
    });
}

/// Go's `TestWaitGroupMisuse`: more done than was to be done is an error of the program, and says so.
#[test]
fn wait_group_misuse() {
    let parts = WaitGroup::new();
    parts.add(1);
    parts.done();
    assert!(catch_unwind(AssertUnwindSafe(|| parts.done())).is_err());
    parts.add(1);
    assert_eq!(parts.left(), 1);
}

/// Go's `TestWaitGroupRace`: one waits while two are done; both have been by then.
#[test]
fn wait_group_race() {
    with_workers(|| {
        for _ in 0..1_000 {
            let (parts, done) = (WaitGroup::new(), AtomicUsize::new(0));
            scope(|s| {
                for _ in 0..2 {
                    parts.add(1);
                    s.go(|| {
                        done.fetch_add(1, Relaxed);
                        parts.done();
                        Ok(())
                    });
                }
                parts.wait();
                assert_eq!(done.load(Relaxed), 2);
            })
            .unwrap();
        }
    });
}
