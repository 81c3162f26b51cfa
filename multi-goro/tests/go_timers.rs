//! What Go's tests of sleep, timers and tickers by these names check, done anew. A timer here is a wait with a time limit or an
//! `after` of a select, and is stopped by that wait's end.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use everywhere::everywhere;
use multi_goro::chan::RecvTimeoutError;
use multi_goro::{Ticker, chan, scope, select, sleep, yield_now};

const SHORT: Duration = Duration::from_millis(5);

/// Go's `TestAfter`: a time limit is not over before its time.
#[test]
fn after_is_not_early() {
    everywhere(|| {
        let start = Instant::now();
        let (_tx, rx) = chan::<u8>(0);
        select! {
            recv(rx) -> _value => panic!("nobody sends"),
            after(SHORT) => {}
        }
        select! {
            after(SHORT) => {}
        }
        assert!(start.elapsed() >= 2 * SHORT);
    });
}

/// Go's `TestAfterStop`: a time limit that was not needed does nothing later, whichever wait comes next.
#[test]
fn after_stop() {
    everywhere(|| {
        for _ in 0..5 {
            let (tx, rx) = chan(1);
            tx.send(1).unwrap();
            scope(|s| {
                let told = s.spawn(|| {
                    // Its own value comes before the time is up; the next wait is longer than the time, and has to last.
                    let first = rx.recv_timeout(SHORT);
                    let start = Instant::now();
                    let second = rx.recv_timeout(4 * SHORT);
                    Ok((first, second.is_err() && start.elapsed() >= 4 * SHORT))
                });
                let (first, lasted) = told.join().unwrap();
                assert!(
                    first.is_err() || lasted,
                    "the old limit ended the next wait"
                );
                assert_eq!(first, Ok(1));
            })
            .unwrap();
        }
    });
}

/// Go's `TestAfterQueuing`: limits end in the order of their times, in whatever order they were set.
#[test]
fn after_queuing() {
    const SLOTS: [u32; 10] = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9];
    let attempt = || {
        let (tx, rx) = chan(SLOTS.len());
        let delta = Duration::from_millis(20);
        scope(|s| {
            for slot in SLOTS {
                let tx = tx.clone();
                s.go(move || {
                    sleep(slot * delta);
                    Ok(tx.send(slot)?)
                });
            }
        })
        .unwrap();
        drop(tx);
        rx.iter().is_sorted()
    };
    // A machine that is busy elsewhere may start a task a slot too late: it may not every time. Go's test tries five times, too.
    everywhere(|| assert!((0..5).any(|_| attempt())));
}

/// Go's `TestOverflowSleep`: a sleep beyond what the clock can count does not end.
#[test]
fn overflow_sleep() {
    everywhere(|| {
        let (_tx, rx) = chan::<u8>(0);
        let (stop, stopped) = chan::<u8>(1);
        scope(|s| {
            s.go(|| {
                sleep(SHORT);
                Ok(stop.send(1)?)
            });
            select! {
                recv(rx) -> _value => panic!("nobody sends"),
                recv(stopped) -> value => assert_eq!(value, Ok(1)),
                after(Duration::MAX) => panic!("the end of time"),
            }
        })
        .unwrap();
    });
}

/// Go's `TestTimerStopStress`: limits that are set and not needed, by many at once, while others are met at the same moment.
#[test]
fn timer_stop_stress() {
    everywhere(|| {
        let (sent, got, late) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        scope(|s| {
            for me in 0..40_u64 {
                let (tx, rx) = chan(0);
                let (sent, got, late) = (&sent, &got, &late);
                s.go(move || {
                    for n in 0..25 {
                        sleep(Duration::from_micros(50 * ((me + n) % 4)));
                        let is_sent = tx.send_timeout(n, Duration::from_micros(100)).is_ok();
                        sent.fetch_add(usize::from(is_sent), Relaxed);
                    }
                    Ok(())
                });
                s.go(move || {
                    loop {
                        match rx.recv_timeout(Duration::from_micros(70)) {
                            Ok(_) => got.fetch_add(1, Relaxed),
                            Err(RecvTimeoutError::Timeout) => late.fetch_add(1, Relaxed),
                            Err(RecvTimeoutError::Closed) => break Ok(()),
                        };
                    }
                });
            }
        })
        .unwrap();
        assert_eq!(
            sent.into_inner(),
            got.into_inner(),
            "sent, and not received"
        );
        assert!(late.into_inner() > 0);
    });
}

/// Go's `TestTimerResetStress` in spirit: the same tasks set limits of ever other lengths, so that the nearest of a worker changes
/// all the time; none is early, and none is forgotten.
#[test]
fn timer_reset_stress() {
    everywhere(|| {
        scope(|s| {
            for me in 0..50_u64 {
                s.go(move || {
                    for n in 0..20 {
                        let length = Duration::from_micros((me * 37 + n * 101) % 900);
                        let start = Instant::now();
                        sleep(length);
                        assert!(start.elapsed() >= length);
                    }
                    Ok(())
                });
            }
        })
        .unwrap();
    });
}

/// Go's `TestTimerFairness`: what is due gets its turn although tasks that are always ready keep the worker busy.
#[test]
fn timer_fairness() {
    everywhere(|| {
        let is_over = AtomicBool::new(false);
        scope(|s| {
            for _ in 0..4 {
                s.go(|| {
                    while !is_over.load(Relaxed) {
                        yield_now();
                    }
                    Ok(())
                });
            }
            sleep(SHORT);
            is_over.store(true, Relaxed);
        })
        .unwrap();
    });
}

/// Go's `TestTicker`: so many ticks take at least so many periods, and a reset changes nothing about that.
#[test]
fn ticker() {
    everywhere(|| {
        let start = Instant::now();
        let mut ticker = Ticker::new(SHORT);
        let early = (0..5).map(|_| ticker.tick()).sum::<u64>();
        assert!(start.elapsed() >= SHORT * 5 && early >= 5);
        let again = Instant::now();
        ticker.reset();
        ticker.tick();
        assert!(again.elapsed() >= SHORT);
    });
}

/// Go's `TestTeardown`: tickers that come and go, used or not, leave nothing behind that hinders the next.
#[test]
fn ticker_teardown() {
    everywhere(|| {
        for _ in 0..3 {
            let unused = Ticker::new(Duration::from_secs(3600));
            assert!(Ticker::new(Duration::from_millis(1)).tick() >= 1);
            assert!(unused.left() > Duration::from_secs(1800));
        }
    });
}

/// Go's `TestNewTickerLtZeroDuration`: a period of nothing is refused.
#[test]
fn new_ticker_of_zero() {
    let refused = panic::catch_unwind(|| Ticker::new(Duration::ZERO)).unwrap_err();
    let text = refused.downcast_ref::<&str>().copied();
    assert_eq!(text, Some("the period of a Ticker is zero"));
}
