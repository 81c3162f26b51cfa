//! Tasks with OS threads of their own, and tasks that share one, beside green ones and on their channels.

use std::thread;

use multi_goro::{Group, OsThread, Runtime, chan, sleep, yield_now};

use crate::harness::stress;

#[test]
fn locked_and_green_tasks_share_channels() {
    stress("locked tasks", |random| {
        let runtime = Runtime::builder()
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
