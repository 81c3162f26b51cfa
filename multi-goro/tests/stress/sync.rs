//! Locks and their kin, for tasks and plain threads together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

use multi_goro::sync::{Barrier, Condvar, Mutex, Once, RwLock, Semaphore, WaitGroup};
use multi_goro::{Runtime, sleep, yield_now};

use crate::harness::{Random, stress};

/// Runs `act` in some tasks and some plain threads at once.
fn everywhere(random: &mut Random, act: impl Fn(Random) + Send + Sync + 'static) {
    let act = Arc::new(act);
    let runtime = Runtime::builder()
        .report_stuck(false)
        .workers(1 + random.count(3))
        .build()
        .unwrap();
    let mut group = runtime.group();
    for _ in 0..2 + random.below(12) {
        let (act, random) = (Arc::clone(&act), random.child());
        group.go(move || {
            act(random);
            Ok(())
        });
    }
    let threads: Vec<_> = (0..random.below(3))
        .map(|_| {
            let (act, random) = (Arc::clone(&act), random.child());
            std::thread::spawn(move || act(random))
        })
        .collect();
    group.wait().unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn linger(random: &mut Random) {
    match random.below(8) {
        0 => sleep(random.pause(50)),
        1 | 2 => yield_now(),
        _ => {}
    }
}

#[test]
fn locks_keep_their_holders_apart() {
    stress("locks", |random| {
        let mutex = Arc::new(Mutex::new(0_u64));
        let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
        let steps = Arc::new(AtomicUsize::new(0));
        let (m, l, s) = (Arc::clone(&mutex), Arc::clone(&lock), Arc::clone(&steps));
        everywhere(random, move |mut random| {
            for _ in 0..random.below(60) {
                match random.below(4) {
                    0 => {
                        let guard = l.read();
                        let before = *guard;
                        assert_eq!(before.0, before.1);
                        linger(&mut random);
                        assert_eq!(*guard, before);
                    }
                    1 => {
                        let mut guard = l.write();
                        guard.0 += 1;
                        linger(&mut random);
                        guard.1 += 1;
                    }
                    which => {
                        let guard = if which == 2 {
                            Some(m.lock())
                        } else {
                            m.try_lock()
                        };
                        let Some(mut guard) = guard else { continue };
                        let before = *guard;
                        linger(&mut random);
                        *guard = before + 1;
                        s.fetch_add(1, Relaxed);
                    }
                }
            }
        });
        assert_eq!(*mutex.lock(), steps.load(Relaxed) as u64);
        let both = *lock.read();
        assert_eq!(both.0, both.1);
    });
}

#[test]
fn permits_are_never_more_than_there_are() {
    stress("permits", |random| {
        let permits = 1 + random.count(3);
        let semaphore = Arc::new(Semaphore::new(permits));
        let inside = AtomicUsize::new(0);
        let all = Arc::clone(&semaphore);
        everywhere(random, move |mut random| {
            for _ in 0..random.below(60) {
                let permit = match random.below(3) {
                    0 => semaphore.try_acquire(),
                    1 => semaphore.acquire_timeout(random.pause(100)),
                    _ => Some(semaphore.acquire()),
                };
                let Some(_permit) = permit else { continue };
                assert!(inside.fetch_add(1, Relaxed) < permits);
                linger(&mut random);
                inside.fetch_sub(1, Relaxed);
            }
        });
        assert_eq!(all.available(), permits);
    });
}

/// A buffer guarded by a lock and two conditions: what is put in comes out.
#[test]
fn nobody_sleeps_through_a_notification() {
    stress("conditions", |random| {
        let room = 1 + random.count(3);
        let state = Arc::new((
            Mutex::new(Vec::new()),
            Condvar::new(),
            Condvar::new(),
            AtomicUsize::new(0),
        ));
        let left = Arc::clone(&state);
        everywhere(random, move |mut random| {
            let (buffer, filled, emptied, sum) = &*state;
            for _ in 0..random.below(40) {
                // Each puts one and takes one, so everybody ends.
                let mut guard = buffer.lock();
                while guard.len() >= room {
                    guard = emptied.wait(guard);
                }
                let value = random.count(100);
                sum.fetch_add(value, Relaxed);
                guard.push(value);
                drop(guard);
                filled.notify_one();
                linger(&mut random);
                let mut guard = buffer.lock();
                loop {
                    if let Some(value) = guard.pop() {
                        sum.fetch_sub(value, Relaxed);
                        break;
                    }
                    guard = if random.one_in(4) {
                        filled.wait_timeout(guard, Duration::from_millis(1)).0
                    } else {
                        filled.wait(guard)
                    };
                }
                drop(guard);
                emptied.notify_one();
            }
        });
        assert_eq!(left.3.load(Relaxed), 0);
        assert!(left.0.lock().is_empty());
    });
}

#[test]
fn meetings_and_counts_come_out_even() {
    stress("meetings", |random| {
        let tasks = 2 + random.count(8);
        let rounds = 1 + random.count(20);
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let all = Arc::new((
            Barrier::new(tasks),
            WaitGroup::new(),
            Once::new(),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        ));
        all.1.add(tasks);
        let mut group = runtime.group();
        for _ in 0..tasks {
            let (all, mut random) = (Arc::clone(&all), random.child());
            group.go(move || {
                let (barrier, count, once, leaders, calls) = &*all;
                once.call_once(|| {
                    yield_now();
                    calls.fetch_add(1, Relaxed);
                });
                assert_eq!(calls.load(Relaxed), 1);
                for round in 0..rounds {
                    linger(&mut random);
                    assert!(leaders.load(Relaxed) <= round);
                    if barrier.wait() {
                        leaders.fetch_add(1, Relaxed);
                    }
                    barrier.wait();
                }
                count.done();
                Ok(())
            });
        }
        all.1.wait();
        group.wait().unwrap();
        assert_eq!(all.3.load(Relaxed), rounds);
    });
}
