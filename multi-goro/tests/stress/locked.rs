//! Tasks with OS threads of their own, and tasks that share one, beside green ones and on their channels.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;

use multi_goro::{Group, OsThread, Runtime, ThreadLoop, chan, sleep, yield_now};

use crate::harness::stress;

#[test]
fn locked_and_green_tasks_share_channels() {
    stress("locked tasks", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(2))
            .build()
            .unwrap();
        let (tx, rx) = chan(random.count(3));
        let (mut green, mut locked) = (runtime.group(), Group::locked());
        let senders = 1 + random.below(4);
        let count = random.below(50);
        for sender in 0..senders {
            let (tx, mut random) = (tx.clone(), random.child());
            let send = move || {
                let home = thread::current().id();
                for _ in 0..count {
                    match random.below(6) {
                        0 => sleep(random.pause(100)),
                        1 => yield_now(),
                        _ => {}
                    }
                    tx.send(1)?;
                    assert_eq!(thread::current().id(), home);
                }
                Ok(())
            };
            if sender % 2 == 0 {
                locked.go(send);
            } else {
                green.go(send);
            }
        }
        drop(tx);
        let takers: Vec<_> = (0..1 + random.below(3))
            .map(|taker| {
                let rx = rx.clone();
                let take = move || Ok(rx.iter().sum::<u64>());
                if taker % 2 == 0 {
                    green.spawn(take)
                } else {
                    locked.spawn(take)
                }
            })
            .collect();
        green.wait().unwrap();
        locked.wait().unwrap();
        let sum: u64 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(sum, senders * count);
    });
}

#[test]
fn tasks_of_one_os_thread_stay_on_it() {
    stress("tasks of one OS thread", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(2))
            .build()
            .unwrap();
        let thread = OsThread::spawn("stressed").unwrap();
        let home = thread.run(|| thread::current().id());
        let (mut bound, mut later, mut green) =
            (thread.group(), thread.background().group(), runtime.group());
        let (tx, rx) = chan(random.count(2));
        let mut started = 0;
        for _ in 0..random.below(20) {
            started += 1;
            let (tx, mut random) = (tx.clone(), random.child());
            let group = if random.one_in(2) {
                &mut bound
            } else {
                &mut later
            };
            group.go(move || {
                for _ in 0..random.below(5) {
                    match random.below(3) {
                        0 => sleep(random.pause(100)),
                        _ => yield_now(),
                    }
                    assert_eq!(thread::current().id(), home);
                }
                Ok(tx.send(())?)
            });
        }
        for _ in 0..random.below(10) {
            started += 1;
            let (tx, thread, mut value) = (tx.clone(), thread.clone(), 0);
            green.go(move || {
                thread.run(|| {
                    value += 1;
                    assert_eq!(thread::current().id(), home);
                });
                assert_eq!(value, 1);
                Ok(tx.send(())?)
            });
        }
        drop(tx);
        assert_eq!(rx.iter().count(), started);
        bound.wait().unwrap();
        later.wait().unwrap();
        green.wait().unwrap();
        assert_eq!(thread.num_tasks(), 0);
    });
}

/// Sleeps until a loop's descriptor is readable: for ever, if a wake was lost.
#[expect(unsafe_code, reason = "polls")]
fn wait_readable(tasks: &ThreadLoop) {
    let mut entry = libc::pollfd {
        fd: tasks.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, alive for the call.
    unsafe { libc::poll(&raw mut entry, 1, -1) };
}

#[test]
fn loop_that_waits_for_its_descriptor_alone_runs_everything() {
    stress("tasks of a lent thread", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(2))
            .build()
            .unwrap();
        let mut tasks = ThreadLoop::new().unwrap();
        let (thread, home) = (tasks.thread(), thread::current().id());
        let (mut bound, mut later, mut green) =
            (thread.group(), thread.background().group(), runtime.group());
        let ended = Arc::new(AtomicU64::new(0));
        let count = |started: &mut u64| {
            *started += 1;
            Arc::clone(&ended)
        };
        let (tx, rx) = chan::<u64>(random.count(2));
        let mut started = 0;
        for _ in 0..1 + random.below(10) {
            let (ended, rx, mut random) = (count(&mut started), rx.clone(), random.child());
            let group = if random.one_in(2) {
                &mut bound
            } else {
                &mut later
            };
            group.go(move || {
                for _ in rx.iter() {
                    match random.below(4) {
                        0 => sleep(random.pause(100)),
                        1 => yield_now(),
                        _ => {}
                    }
                    assert_eq!(thread::current().id(), home);
                }
                ended.fetch_add(1, SeqCst);
                Ok(())
            });
        }
        for _ in 0..1 + random.below(10) {
            let (ended, tx, mut random) = (count(&mut started), tx.clone(), random.child());
            let thread = thread.clone();
            green.go(move || {
                for n in 0..random.below(20) {
                    match random.below(4) {
                        0 => sleep(random.pause(100)),
                        1 => assert_eq!(thread.run(|| thread::current().id()), home),
                        _ => tx.send(n)?,
                    }
                }
                drop(tx);
                // The last word comes from the loop's thread, or it may wait for nothing.
                thread.run(|| ended.fetch_add(1, SeqCst));
                Ok(())
            });
        }
        drop((tx, rx));
        while ended.load(SeqCst) < started {
            wait_readable(&tasks);
            if random.one_in(2) {
                tasks.run_for(random.pause(200));
            } else {
                tasks.run_ready(random.below(8) as u32);
            }
        }
        drop(tasks);
        bound.wait().unwrap();
        later.wait().unwrap();
        green.wait().unwrap();
    });
}
