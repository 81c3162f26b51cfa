//! Timers that are set, run out, and are given up.

use std::time::{Duration, Instant};

use futures_util::future::select as future_select;
use futures_util::poll;
use multi_goro::{Runtime, Ticker, chan, future, select, sleep, yield_now};

use crate::harness::stress;

#[test]
fn nobody_wakes_early_and_everybody_wakes() {
    stress("timers", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let mut group = runtime.group();
        for _ in 0..random.below(60) {
            let mut random = random.child();
            group.go(move || {
                for _ in 0..random.below(10) {
                    // Mostly short, some in a further turn of the wheel.
                    let most = if random.one_in(10) { 20_000 } else { 500 };
                    let pause = random.pause(most);
                    let asleep = Instant::now();
                    sleep(pause);
                    assert!(asleep.elapsed() >= pause);
                    if random.one_in(4) {
                        yield_now();
                    }
                }
                Ok(())
            });
        }
        group.wait().unwrap();
    });
}

/// Waits with a time limit that end the other way leave a timer to be given up; the next one must not be taken for it.
#[test]
fn timers_given_up_do_not_fire_for_the_next_wait() {
    stress("timers given up", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let (tx, rx) = chan(0);
        let mut group = runtime.group();
        let sends = 20 + random.below(100);
        let mut sender = random.child();
        group.go(move || {
            for number in 0..sends {
                if sender.one_in(3) {
                    sleep(sender.pause(200));
                }
                tx.send(number)?;
            }
            Ok(())
        });
        let mut taker = random.child();
        group.go(move || {
            let mut expected = 0;
            while expected < sends {
                let pause = taker.pause(200);
                let asked = Instant::now();
                let got = if taker.one_in(2) {
                    rx.recv_timeout(pause).ok()
                } else {
                    select! {
                        recv(rx) -> value => value.ok(),
                        after(pause) => None,
                    }
                };
                match got {
                    Some(number) => {
                        assert_eq!(number, expected);
                        expected += 1;
                    }
                    None if expected < sends => assert!(
                        asked.elapsed() >= pause,
                        "timed out {:?} early",
                        pause - asked.elapsed()
                    ),
                    None => {}
                }
                // A long limit that ends at once leaves the wheel something to forget.
                let (now_tx, now) = chan(1);
                now_tx.send(())?;
                now.recv_timeout(Duration::from_secs(1 + taker.below(1_000)))?;
            }
            Ok(())
        });
        group.wait().unwrap();
    });
}

#[test]
fn tickers_that_are_reset_never_tick_before_their_time() {
    stress("tickers", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let mut group = runtime.group();
        for _ in 0..1 + random.below(20) {
            let mut random = random.child();
            group.go(move || {
                let period = Duration::from_micros(50 + random.below(500));
                let mut ticker = Ticker::new(period);
                for _ in 0..random.below(20) {
                    if random.one_in(3) {
                        sleep(random.pause(700));
                        let reset = Instant::now();
                        ticker.reset();
                        // Several at once where the task came late.
                        assert!(ticker.tick() >= 1);
                        assert!(reset.elapsed() >= period);
                    } else {
                        assert!(ticker.tick() >= 1);
                    }
                }
                Ok(())
            });
        }
        group.wait().unwrap();
    });
}

/// Futures that sleep are woken on time, given up at any time, and dropped by whoever has them.
#[test]
fn sleeping_futures_wake_and_can_be_dropped_anywhere() {
    stress("sleeping futures", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let mut group = runtime.group();
        let (tx, rx) = chan(8);
        for _ in 0..random.below(60) {
            let (mut random, tx) = (random.child(), tx.clone());
            group.go_async(async move {
                for _ in 0..random.below(8) {
                    let most = if random.one_in(10) { 20_000 } else { 500 };
                    let until = Instant::now() + random.pause(most);
                    let mut pause = future::sleep_until(until);
                    match random.below(3) {
                        0 => {
                            pause.await;
                            assert!(Instant::now() >= until);
                        }
                        // Given up by another future that ends first, perhaps.
                        1 => {
                            let sooner = future::sleep(random.pause(500));
                            future_select(pause, sooner).await;
                        }
                        // Set, and left to whoever receives it.
                        _ => {
                            let _is_over = poll!(&mut pause);
                            tx.send_async(pause).await?;
                        }
                    }
                }
                Ok(())
            });
        }
        drop(tx);
        let keep = random.child();
        group.go(move || {
            let mut keep = keep;
            for pause in rx {
                if keep.one_in(2) {
                    future::block_on(pause);
                }
            }
            Ok(())
        });
        group.wait().unwrap();
    });
}
