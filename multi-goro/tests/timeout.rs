//! `timeout`: the limit reaches what waits inside, nothing is interrupted, nothing is lost.

mod common;

use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::{Group, Runtime, chan, scope, sleep, timeout};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

/// Runs `program` on a plain thread, and as a task.
fn everywhere(program: impl Fn() + Sync) {
    let _dog = watchdog(60);
    program();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(&program);
}

#[test]
fn what_ends_in_time_is_returned() {
    everywhere(|| {
        let text = String::from("borrowed");
        let got = timeout(LONG, |limit| {
            assert!(!limit.is_over() && limit.check().is_ok());
            assert!(limit.left() > LONG / 2 && !limit.token().is_cancelled());
            &text
        });
        assert_eq!(got, Ok(&text));
        assert!(timeout(Duration::MAX, |limit| limit.left() == Duration::MAX).unwrap());
    });
}

#[test]
fn late_value_is_in_the_error() {
    everywhere(|| {
        let start = Instant::now();
        let late = timeout(SHORT, |limit| {
            // Looks at nothing, and so is not stopped.
            sleep(2 * SHORT);
            (limit.is_over(), limit.left())
        })
        .unwrap_err();
        assert!(start.elapsed() >= 2 * SHORT);
        assert_eq!(late.to_string(), "timed out");
        assert_eq!(late.into_inner(), (true, Duration::ZERO));
    });
}

#[test]
fn limit_ends_waits_and_tasks_inside() {
    everywhere(|| {
        let (_tx, rx) = chan::<u8>(0);
        let late = timeout(SHORT, |limit| {
            let token = limit.token();
            scope(|s| {
                s.go(|| {
                    token.wait();
                    Ok(())
                });
            })
            .unwrap();
            rx.recv_timeout(limit.left())
        });
        assert!(late.unwrap_err().into_inner().is_err());
    });
}

#[test]
fn token_outlives_its_limit_and_then_stays_open() {
    everywhere(|| {
        let token = timeout(SHORT, multi_goro::Limit::token).unwrap();
        sleep(2 * SHORT);
        assert!(!token.is_cancelled(), "the alarm was taken back");
    });
}

#[test]
fn limit_inside_a_limit_is_the_shorter_one() {
    everywhere(|| {
        let outer = timeout(SHORT, |limit| {
            let inner = limit.timeout(LONG, |inner| {
                assert!(inner.left() <= limit.left() + SHORT);
                inner.token().wait();
            });
            assert!(inner.is_err());
        });
        assert!(outer.is_err());
        let outer = timeout(LONG, |limit| {
            let inner = limit.timeout(SHORT, |inner| sleep(inner.left()));
            assert!(inner.is_err());
        });
        assert!(outer.is_ok());
    });
}

#[test]
fn group_inside_is_cancelled_when_the_time_is_up() {
    everywhere(|| {
        let late = timeout(SHORT, |limit| {
            let group = Group::builder().cancel_token(limit.token()).build();
            group.unwrap().cancel_token().wait();
        });
        assert!(late.is_err());
    });
}
