//! Tasks that are told to stop, at any time and by anybody.

use std::time::Duration;

use multi_goro::{Group, Runtime, WaitTimeoutError, chan, sleep, yield_now};

use crate::harness::stress;

#[test]
fn cancelled_tasks_end_wherever_they_are() {
    stress("cancelling", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let parent = multi_goro::cancel_token();
        let mut group = Group::builder()
            .runtime(&runtime)
            .cancel_token(parent.clone())
            .limit(1 + random.count(40))
            .build()
            .unwrap();
        let (tx, rx) = chan::<()>(0);
        let token = group.cancel_token();
        for _ in 0..random.below(60) {
            let (token, rx, mut random) = (token.clone(), rx.clone(), random.child());
            let _cancelled = group.try_go(move || {
                while !token.is_cancelled() {
                    match random.below(4) {
                        0 => {
                            token.wait();
                        }
                        1 => {
                            let _cancelled = token.wait_timeout(random.pause(200));
                        }
                        2 => {
                            let _open = rx.recv_timeout(random.pause(200));
                        }
                        _ => yield_now(),
                    }
                }
                Ok(())
            });
        }
        std::thread::sleep(random.pause(300));
        if random.one_in(2) {
            parent.cancel();
        } else {
            group.cancel_token().cancel();
        }
        // Tasks that had not begun are reported as cancelled; the others ended well.
        if let Err(error) = group.wait() {
            assert!(error.to_string().contains("cancelled"), "{error}");
        }
        drop(tx);
        assert_eq!(runtime.num_tasks(), 0);
    });
}

#[test]
fn deadlines_end_tasks_and_waits() {
    stress("deadlines", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let mut group = Group::builder()
            .runtime(&runtime)
            .fail_fast(random.one_in(2))
            .build()
            .unwrap();
        let token = group.cancel_token();
        for _ in 0..1 + random.below(20) {
            let (token, mut random) = (token.clone(), random.child());
            group.go(move || {
                let pause = random.pause(1_000);
                if random.one_in(5) {
                    sleep(pause);
                    return Err("on purpose".into());
                }
                let _cancelled = token.wait_timeout(pause);
                Ok(())
            });
        }
        let mut rounds = 0;
        while let Err(error) = group.wait_timeout(random.pause(300)) {
            if matches!(error, WaitTimeoutError::Failed(_)) {
                break;
            }
            rounds += 1;
            assert!(rounds < 100_000, "the tasks do not end");
            std::thread::sleep(Duration::from_micros(10));
        }
        assert_eq!(runtime.num_tasks(), 0);
    });
}
