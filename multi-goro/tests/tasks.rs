//! Green tasks: started, switched, stolen before they start and pinned after.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::{Group, Runtime, chan, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

#[test]
fn many_tasks_all_run_and_are_counted() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let ran = Arc::new(AtomicUsize::new(0));
    for count in [0, 1, 2, 1000, 10_000] {
        ran.store(0, Relaxed);
        let mut group = runtime.group();
        for _ in 0..count {
            let ran = Arc::clone(&ran);
            group.go(move || {
                ran.fetch_add(1, Relaxed);
                Ok(())
            });
        }
        group.wait().unwrap();
        assert_eq!(ran.load(Relaxed), count);
        assert_eq!(runtime.num_tasks(), 0);
    }
}

/// Whether the kernel has `MADV_GUARD_INSTALL`: Linux 6.13.
fn has_light_guards() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(6), Some(13))
}

#[test]
fn hundred_thousand_tasks_wait_at_once() {
    let _dog = watchdog(120);
    // Before Linux 6.13 each guard page is a mapping, and there is room for some 32 000.
    let count = if has_light_guards() { 100_000 } else { 20_000 };
    let runtime = runtime(2);
    let (tx, rx) = chan::<()>(0);
    let mut group = runtime.group();
    let parked = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let (rx, parked) = (rx.clone(), Arc::clone(&parked));
        group.go(move || {
            parked.fetch_add(1, Relaxed);
            assert!(rx.recv().is_err());
            Ok(())
        });
    }
    while parked.load(Relaxed) < count {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(runtime.num_tasks(), count);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // First, so that the tasks end whatever is found.
    drop(tx);
    group.wait().unwrap();
    if has_light_guards() {
        // Threads of the tests beside this one have some, too.
        let count = maps.lines().count();
        assert!(count < 5_000, "{count} mappings");
    }
}

#[test]
fn yield_lets_the_others_run_in_turn() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let (trace, started) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    runtime.run(|| {
        multi_goro::scope(|s| {
            for who in 0..3 {
                let (trace, started) = (&trace, &started);
                s.go(move || {
                    started.fetch_add(1, Relaxed);
                    while started.load(Relaxed) < 3 {
                        yield_now();
                    }
                    for _ in 0..4 {
                        trace.lock().unwrap().push(who);
                        yield_now();
                    }
                    Ok(())
                });
            }
        })
        .unwrap();
    });
    let trace = trace.into_inner().unwrap();
    assert_eq!(trace.len(), 12);
    for turn in trace.chunks(3) {
        assert_eq!(turn.iter().collect::<BTreeSet<_>>().len(), 3, "{trace:?}");
    }
}

#[test]
fn started_task_stays_on_its_thread() {
    let _dog = watchdog(60);
    thread_local!(static MARK: Cell<u64> = const { Cell::new(0) });
    let runtime = runtime(4);
    let mut group = runtime.group();
    let (tx, rx) = chan::<u32>(1);
    for n in 0..200u32 {
        let (tx, rx) = (tx.clone(), rx.clone());
        group.go(move || {
            let home = thread::current().id();
            let address = MARK.with(|mark| std::ptr::from_ref(mark).addr());
            for round in 0..50 {
                match (n + round) % 4 {
                    0 => yield_now(),
                    1 => multi_goro::sleep(Duration::from_micros(50)),
                    2 => drop(tx.send_timeout(n, Duration::from_millis(1))),
                    _ => drop(rx.recv_timeout(Duration::from_millis(1))),
                }
                assert_eq!(thread::current().id(), home);
                assert_eq!(MARK.with(|mark| std::ptr::from_ref(mark).addr()), address);
            }
            Ok(())
        });
    }
    group.wait().unwrap();
}

#[test]
fn unstarted_tasks_are_stolen_from_a_busy_worker() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    // One task fills its own worker's ring and does not give the worker away: the children can only run elsewhere.
    runtime.run(|| {
        let here = thread::current().id();
        let elsewhere = Arc::new(AtomicUsize::new(0));
        let group = Group::new();
        for _ in 0..100 {
            let elsewhere = Arc::clone(&elsewhere);
            group.go(move || {
                assert_ne!(thread::current().id(), here);
                elsewhere.fetch_add(1, Relaxed);
                Ok(())
            });
        }
        // The newest child too: no task waits for ever behind one that does not stop.
        while elsewhere.load(Relaxed) < 100 {
            std::hint::spin_loop();
        }
    });
}

#[test]
fn ping_pong_pair_does_not_starve_others() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let stop = AtomicBool::new(false);
    runtime.run(|| {
        multi_goro::scope(|s| {
            let (there, here) = (chan::<u32>(0), chan::<u32>(0));
            let (ping, pong_in) = there;
            let (pong, ping_in) = here;
            let stop = &stop;
            s.go(move || {
                while !stop.load(Relaxed) {
                    ping.send(1)?;
                    ping_in.recv()?;
                }
                Ok(())
            });
            s.go(move || {
                while let Ok(n) = pong_in.recv() {
                    if pong.send(n).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            // One that has started, then an unstarted one made beside the pair, then a sleeper.
            for _ in 0..1000 {
                yield_now();
            }
            s.spawn(|| Ok(())).join().unwrap();
            multi_goro::sleep(Duration::from_millis(1));
            stop.store(true, Relaxed);
        })
        .unwrap();
    });
}

#[test]
fn task_that_never_waits_on_its_channels_lets_others_run() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let stop = AtomicBool::new(false);
    runtime.run(|| {
        multi_goro::scope(|s| {
            let stop = &stop;
            s.go(move || {
                let (tx, rx) = chan(1);
                while !stop.load(Relaxed) {
                    tx.send(1)?;
                    rx.recv()?;
                }
                Ok(())
            });
            yield_now();
            stop.store(true, Relaxed);
        })
        .unwrap();
    });
}

#[test]
fn two_workers_run_at_the_same_time() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let met = Arc::new(AtomicUsize::new(0));
    let mut group = runtime.group();
    for _ in 0..2 {
        let met = Arc::clone(&met);
        group.go(move || {
            met.fetch_add(1, Relaxed);
            while met.load(Relaxed) < 2 {
                thread::yield_now();
            }
            Ok(())
        });
    }
    group.wait().unwrap();
}

#[test]
fn sleeps_are_not_early_and_wake_in_order() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut group = runtime.group();
    for n in [5u64, 1, 4, 2, 3, 0] {
        let order = Arc::clone(&order);
        group.go(move || {
            let pause = Duration::from_millis(20 * n + 20);
            let start = Instant::now();
            multi_goro::sleep(pause);
            assert!(start.elapsed() >= pause);
            order.lock().unwrap().push(n);
            Ok(())
        });
    }
    group.wait().unwrap();
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn panic_in_a_task_is_an_error_and_the_worker_goes_on() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let mut group = runtime.group();
    group.go(|| panic!("on purpose: in a task"));
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err().to_string();
    assert!(error.contains("on purpose: in a task"), "{error}");
    assert!(error.contains("tests/tasks.rs"), "{error}");
    group.go(|| Ok(()));
    group.wait().unwrap();
}

#[test]
fn task_that_waits_while_it_panics_blocks_and_no_panic_leaks() {
    let _dog = watchdog(60);
    struct Waits(multi_goro::Receiver<u32>, Arc<AtomicBool>);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(thread::panicking());
            yield_now();
            multi_goro::sleep(Duration::from_millis(5));
            assert_eq!(self.0.recv(), Ok(7));
            self.1.store(true, Relaxed);
        }
    }
    let runtime = runtime(1);
    let (tx, rx) = chan(0);
    let waited = Arc::new(AtomicBool::new(false));
    let mut group = runtime.group();
    let waits = Waits(rx, Arc::clone(&waited));
    group.go(move || {
        let _waits = waits;
        panic!("on purpose: waits in a destructor");
    });
    // Would see the other's panic if it ran in the middle of it.
    for _ in 0..10 {
        group.go(|| {
            assert!(!thread::panicking());
            yield_now();
            assert!(!thread::panicking());
            Ok(())
        });
    }
    thread::sleep(Duration::from_millis(20));
    tx.send(7).unwrap();
    assert_eq!(group.wait().unwrap_err().failures().len(), 1);
    assert!(waited.load(Relaxed));
}

#[test]
fn deep_recursion_fits_its_class() {
    let _dog = watchdog(60);
    #[inline(never)]
    fn dive(depth: usize) -> usize {
        let frame = std::hint::black_box([1u8; 256]);
        if depth == 0 {
            return usize::from(frame[7]);
        }
        dive(depth - 1) + usize::from(frame[depth % 256])
    }
    for (kib, depth) in [(16, 5), (64, 40), (1024, 1000), (8192, 10_000)] {
        let mut group = Group::builder().stack_bytes(kib * 1024).build().unwrap();
        let handle = group.spawn(move || Ok(dive(depth)));
        assert_eq!(handle.join().unwrap(), depth + 1);
        group.wait().unwrap();
    }
}

#[test]
fn blocking_call_borrows_and_leaves_the_worker_to_others() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let ticks = AtomicUsize::new(0);
    let (mut sum, mut home) = (0, None);
    runtime.run(|| {
        multi_goro::scope(|s| {
            let ticks = &ticks;
            s.go(move || {
                for _ in 0..3 {
                    ticks.fetch_add(1, Relaxed);
                    yield_now();
                }
                Ok(())
            });
            home = Some(thread::current().id());
            let parts = [1, 2, 3];
            sum = multi_goro::blocking(|| {
                assert_ne!(Some(thread::current().id()), home);
                while ticks.load(Relaxed) < 3 {
                    thread::sleep(Duration::from_millis(1));
                }
                parts.iter().sum()
            });
            assert_eq!(Some(thread::current().id()), home);
        })
        .unwrap();
    });
    assert_eq!((sum, ticks.load(Relaxed)), (6, 3));
}

#[test]
fn panic_of_a_blocking_call_goes_on_in_its_task() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    group.go(|| multi_goro::blocking(|| panic!("on purpose: in a blocking call")));
    let error = group.wait().unwrap_err().to_string();
    assert!(error.contains("on purpose: in a blocking call"), "{error}");
}

#[test]
fn many_blocking_calls_at_once() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..300 {
        let count = Arc::clone(&count);
        group.go(move || {
            multi_goro::blocking(|| thread::sleep(Duration::from_millis(5)));
            count.fetch_add(1, Relaxed);
            Ok(())
        });
    }
    group.wait().unwrap();
    assert_eq!(count.load(Relaxed), 300);
}

#[test]
fn dropped_group_cancels_its_tasks_and_waits() {
    let _dog = watchdog(60);
    let (_tx, rx) = chan::<()>(0);
    let group = Group::new();
    let token = group.cancel_token();
    group.go(move || {
        while !token.is_cancelled() {
            assert!(rx.recv_timeout(Duration::from_millis(1)).is_err());
        }
        Ok(())
    });
    drop(group);
}

#[test]
fn runtime_can_be_dropped_and_made_again() {
    let _dog = watchdog(60);
    for _ in 0..50 {
        let runtime = runtime(2);
        let mut group = runtime.group();
        for _ in 0..10 {
            group.go(|| Ok(()));
        }
        group.wait().unwrap();
    }
    let runtime = runtime(1);
    let mut group = runtime.group();
    drop(runtime);
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err().to_string();
    assert!(error.contains("has been shut down"), "{error}");
}
