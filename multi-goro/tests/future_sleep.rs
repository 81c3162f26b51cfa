//! `future::sleep`: timers of tasks that wait without a stack, on the wheel of the worker that polled them.

#![expect(
    clippy::disallowed_types,
    reason = "tests are clients, and count with std's atomics"
)]

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::watchdog;
use futures_util::FutureExt;
use futures_util::future::poll_fn;
use multi_goro::future::{sleep, sleep_until};
use multi_goro::{Group, Runtime, chan};

fn has_clock_thread() -> bool {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok())
        .any(|name| name.trim() == "multi-clock")
}

#[test]
fn thousand_sleep_without_a_thread_of_the_clock() {
    let _watchdog = watchdog(30);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let mut group = runtime.group();
    let clock_seen = Arc::new(AtomicBool::new(false));
    for nth in 0..1_000_u64 {
        let clock_seen = Arc::clone(&clock_seen);
        group.go_async(async move {
            for _ in 0..3 {
                let until = Instant::now() + Duration::from_micros(100 + nth * 7 % 5_000);
                sleep_until(until).await;
                assert!(Instant::now() >= until, "woken early");
            }
            if nth == 0 {
                clock_seen.store(has_clock_thread(), Relaxed);
            }
            Ok(())
        });
    }
    group.wait().unwrap();
    assert!(!clock_seen.load(Relaxed), "the clock's thread runs");
}

/// Both workers are kept by tasks that do not let go until the sleepers have woken: somebody else must see to the timers.
#[test]
fn sleepers_wake_beside_tasks_that_keep_every_worker() {
    let _watchdog = watchdog(30);
    let runtime = Runtime::builder()
        .workers(2)
        .report_stuck(false)
        .build()
        .unwrap();
    let mut group = runtime.group();
    let asleep = Arc::new(AtomicUsize::new(0));
    let woken = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let (asleep, woken) = (Arc::clone(&asleep), Arc::clone(&woken));
        group.go_async(async move {
            let mut pause = sleep(Duration::from_millis(30));
            poll_fn(|context| match pause.poll_unpin(context) {
                Poll::Pending => {
                    asleep.fetch_add(1, Relaxed);
                    Poll::Ready(())
                }
                ready => ready,
            })
            .await;
            pause.await;
            woken.fetch_add(1, Relaxed);
            Ok(())
        });
    }
    while asleep.load(Relaxed) < 20 {
        std::thread::yield_now();
    }
    for _ in 0..2 {
        let woken = Arc::clone(&woken);
        group.go(move || {
            while woken.load(Relaxed) < 20 {
                std::hint::spin_loop();
            }
            Ok(())
        });
    }
    group.wait().unwrap();
}

#[test]
fn sleep_can_be_dropped_by_any_thread_at_any_time() {
    let _watchdog = watchdog(30);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let mut group = runtime.group();
    let (tx, rx) = chan(16);
    for nth in 0..200_u64 {
        let tx = tx.clone();
        group.go_async(async move {
            // Around the time at which it is dropped, before and after.
            let mut pause = sleep(Duration::from_micros(50 + nth * 13 % 400));
            poll_fn(|context| {
                let _pending = pause.poll_unpin(context);
                Poll::Ready(())
            })
            .await;
            tx.send_async(pause).await?;
            sleep(Duration::from_micros(nth * 7 % 300)).await;
            Ok(())
        });
    }
    drop(tx);
    let mut dropped = 0;
    for pause in rx {
        drop(pause);
        dropped += 1;
    }
    group.wait().unwrap();
    assert_eq!(dropped, 200);
}

#[test]
fn sleep_outlives_the_runtime_that_polled_it() {
    let _watchdog = watchdog(30);
    let (tx, rx) = chan(1);
    let until = Instant::now() + Duration::from_millis(30);
    {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let mut group = runtime.group();
        group.go_async(async move {
            let mut pause = sleep_until(until);
            poll_fn(|context| {
                assert!(pause.poll_unpin(context).is_pending());
                Poll::Ready(())
            })
            .await;
            tx.send(pause)?;
            Ok(())
        });
        group.wait().unwrap();
    }
    let pause = rx.recv().unwrap();
    assert!(Instant::now() < until, "the runtime waited for it");
    let mut elsewhere = Group::new();
    elsewhere.go_async(async move {
        pause.await;
        Ok(())
    });
    elsewhere.wait().unwrap();
    assert!(Instant::now() >= until);
}

#[test]
fn sleeper_with_a_far_deadline_leaves_with_its_task() {
    let _watchdog = watchdog(30);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mut group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    group.go_async(async move {
        futures_util::select! {
            _value = rx.recv_async().fuse() => Ok(()),
            () = sleep(Duration::from_secs(3_600)).fuse() => Err("an hour later".into()),
        }
    });
    drop(tx);
    group.wait().unwrap();
}

/// Longer than nanoseconds can be counted, up to what the system's clock can.
#[test]
fn sleepers_for_ages_keep_nobody_from_waking() {
    let _watchdog = watchdog(30);
    let runtime = Runtime::builder()
        .workers(1)
        .report_stuck(false)
        .build()
        .unwrap();
    let mut group = runtime.group();
    let (keep, kept) = chan::<()>(0);
    for power in [34, 35, 40, 55, 62, 63] {
        let kept = kept.clone();
        group.go_async(async move {
            futures_util::select! {
                _end = kept.recv_async().fuse() => Ok(()),
                () = sleep(Duration::from_secs(1 << power)).fuse() => Err("woken".into()),
            }
        });
    }
    drop(kept);
    let (begin, begun) = chan::<()>(0);
    let is_asleep = Arc::new(AtomicBool::new(false));
    let is_awake = Arc::new(AtomicBool::new(false));
    {
        let (is_asleep, is_awake) = (Arc::clone(&is_asleep), Arc::clone(&is_awake));
        group.go_async(async move {
            begun.recv_async().await?;
            let mut pause = sleep(Duration::from_millis(30));
            poll_fn(|context| {
                let _pending = pause.poll_unpin(context);
                Poll::Ready(())
            })
            .await;
            is_asleep.store(true, Relaxed);
            pause.await;
            is_awake.store(true, Relaxed);
            Ok(())
        });
    }
    let (stick, stuck) = chan::<()>(0);
    {
        let is_awake = Arc::clone(&is_awake);
        group.go(move || {
            stuck.recv()?;
            // Keeps the only worker: somebody else has to wake the sleeper.
            while !is_awake.load(Relaxed) {
                std::hint::spin_loop();
            }
            Ok(())
        });
    }
    // Long enough for the monitor to doze off.
    std::thread::sleep(Duration::from_millis(100));
    begin.send(()).unwrap();
    while !is_asleep.load(Relaxed) {
        std::thread::yield_now();
    }
    stick.send(()).unwrap();
    while !is_awake.load(Relaxed) {
        std::thread::yield_now();
    }
    drop(keep);
    group.wait().unwrap();
}
