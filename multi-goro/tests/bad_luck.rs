//! Waits that end in time while others are told, destructors that wait, workers that are taken up.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::sync::{Condvar, Mutex};
use multi_goro::{Group, Receiver, Runtime, WaitTimeoutError, chan};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// A value whose destructor waits for a message.
struct WaitsWhenDropped(Receiver<u8>);

impl Drop for WaitsWhenDropped {
    fn drop(&mut self) {
        let _either = self.0.recv();
    }
}

/// Starts a task whose value waits for `rx` as it is dropped, on the task's side: the handle is gone before the task ends.
fn drop_on_the_tasks_side(group: &Group, rx: Receiver<u8>) {
    let (gone, is_gone) = chan::<()>(1);
    let handle = group.spawn(move || {
        let value = WaitsWhenDropped(rx);
        is_gone.recv()?;
        Ok(value)
    });
    drop(handle);
    gone.send(()).unwrap();
}

#[test]
fn waiter_that_gives_up_while_all_are_told_takes_no_other_along() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let shared = Arc::new((Mutex::new(()), Condvar::new(), AtomicBool::new(false)));
    for n in 0..64 {
        let shared = Arc::clone(&shared);
        group.go(move || {
            let (mutex, changed, stop) = &*shared;
            while !stop.load(Relaxed) {
                let guard = mutex.lock();
                let _either = changed.wait_timeout(guard, Duration::from_micros(200 + n * 7 % 100));
            }
            Ok(())
        });
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(700) {
        shared.1.notify_all();
        thread::sleep(Duration::from_micros(150));
    }
    shared.2.store(true, Relaxed);
    group.wait().unwrap();
}

#[test]
fn value_that_waits_as_it_is_dropped_outlives_the_handle_of_its_runtime() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let (tx, rx) = chan(0);
    drop_on_the_tasks_side(&group, rx);
    while runtime.num_tasks() > 0 {
        thread::yield_now();
    }
    drop(runtime);
    tx.send(7).unwrap();
    group.wait().unwrap();
}

#[test]
fn child_starts_while_the_worker_that_watched_is_taken_up() {
    let _dog = watchdog(60);
    let runtime = runtime(4);
    let wait_for = |flag: &AtomicBool| {
        while !flag.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::sleep(Duration::from_millis(50));
    let (first, second) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    runtime.run(move || {
        let mut group = Group::new();
        let (begun, end) = (Arc::clone(&first), Arc::clone(&second));
        group.go(move || {
            begun.store(true, SeqCst);
            wait_for(&end);
            Ok(())
        });
        // Blocks its worker, as a task that computes does: the child begins on the worker that watches.
        wait_for(&first);
        thread::sleep(Duration::from_millis(50));
        let begun = Arc::clone(&second);
        group.go(move || {
            begun.store(true, SeqCst);
            Ok(())
        });
        wait_for(&second);
        group.wait().unwrap();
    });
}

#[test]
fn wait_timeout_of_locked_tasks_does_not_wait_for_destructors() {
    let _dog = watchdog(60);
    let mut group = Group::locked();
    let (tx, rx) = chan(0);
    drop_on_the_tasks_side(&group, rx);
    let outcome = group.wait_timeout(Duration::from_millis(100));
    assert!(matches!(outcome, Err(WaitTimeoutError::StillRunning(_))));
    tx.send(7).unwrap();
    group.wait().unwrap();
}
