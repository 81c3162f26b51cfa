//! Blocking calls beside tasks that go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread;

use multi_goro::{Runtime, blocking, chan, yield_now};

use crate::harness::stress;

#[test]
fn blocking_calls_come_back_while_others_run() {
    stress("blocking calls", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let mut beside = runtime.group();
        let stop = Arc::clone(&done);
        beside.go(move || {
            while !stop.load(Relaxed) {
                yield_now();
            }
            Ok(())
        });
        let mut group = runtime.group();
        let (tx, rx) = chan(random.count(3));
        let calls = random.below(40);
        for call in 0..calls {
            let (tx, mut random) = (tx.clone(), random.child());
            group.go(move || {
                let mut borrowed = call;
                let home = thread::current().id();
                if random.one_in(10) {
                    // A panic goes on in the caller.
                    let caught = std::panic::catch_unwind(|| {
                        blocking(|| std::panic::resume_unwind(Box::new("on purpose")));
                    });
                    assert!(caught.is_err());
                }
                let pause = random.pause(300);
                let away = blocking(|| {
                    borrowed += 1;
                    thread::sleep(pause);
                    thread::current().id()
                });
                assert_ne!(away, home);
                assert_eq!(thread::current().id(), home);
                Ok(tx.send(borrowed)?)
            });
        }
        drop(tx);
        let mut got: Vec<_> = rx.iter().collect();
        group.wait().unwrap();
        done.store(true, Relaxed);
        beside.wait().unwrap();
        got.sort_unstable();
        assert_eq!(got, (1..=calls).collect::<Vec<_>>());
    });
}
