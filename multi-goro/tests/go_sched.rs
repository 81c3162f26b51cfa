//! The behaviours that Go's runtime promises its goroutines, after its own tests (`proc_test.go`), whose names stand beside them. And:
//! nothing that can run waits for ever, whatever others do.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::{Group, Runtime, Spawner, chan, checkpoint, select, sleep, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .report_stuck(false)
        // What these tests show is not owed to other threads.
        .spare_workers(0)
        .build()
        .unwrap()
}

/// Set once; what a hog looks at.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn set(&self) {
        self.0.store(true, SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// Two tasks that hand a value to and fro on an unbuffered channel until told to stop: each switch goes straight to the other.
fn ping_pong(group: &Group, stop: &Flag) -> Arc<AtomicU64> {
    let trips = Arc::new(AtomicU64::new(0));
    let (ping, pinged) = chan::<()>(0);
    let (pong, ponged) = chan::<()>(0);
    group.go(move || {
        while pinged.recv().is_ok() {
            pong.send(())?;
        }
        Ok(())
    });
    let (stop, count) = (stop.clone(), Arc::clone(&trips));
    group.go(move || {
        while !stop.is_set() {
            ping.send(())?;
            ponged.recv()?;
            count.fetch_add(1, SeqCst);
        }
        Ok(())
    });
    trips
}

/// `TestYieldProgress`
#[test]
fn task_that_yields_lets_the_one_it_waits_for_run() {
    let _dog = watchdog(20);
    let runtime = runtime(1);
    let (tx, rx) = chan(1);
    let mut group = runtime.group();
    group.go(move || {
        while rx.try_recv().is_err() {
            yield_now();
        }
        Ok(())
    });
    group.go(move || {
        sleep(Duration::from_millis(10));
        Ok(tx.send(())?)
    });
    group.wait().unwrap();
}

/// `TestYieldLockedProgress`
#[test]
fn locked_task_that_yields_lets_the_one_it_waits_for_run() {
    let _dog = watchdog(20);
    let (tx, rx) = chan(1);
    let mut locked = Group::locked();
    locked.go(move || {
        while rx.try_recv().is_err() {
            yield_now();
        }
        Ok(())
    });
    let runtime = runtime(1);
    let mut group = runtime.group();
    group.go(move || {
        sleep(Duration::from_millis(10));
        Ok(tx.send(())?)
    });
    locked.wait().unwrap();
    group.wait().unwrap();
}

/// `TestBlockLocked`
#[test]
fn locked_task_waits_for_tasks_again_and_again() {
    const TIMES: usize = 10;
    let _dog = watchdog(20);
    let runtime = runtime(1);
    let (tx, rx) = chan(0);
    let mut locked = Group::locked();
    locked.go(move || {
        for _ in 0..TIMES {
            tx.send(())?;
        }
        Ok(())
    });
    runtime.run(|| {
        for _ in 0..TIMES {
            yield_now();
            rx.recv().unwrap();
        }
    });
    locked.wait().unwrap();
}

/// `TestGoroutineParallelism`: tasks that wait for each other without ever letting go of their workers.
#[test]
fn as_many_tasks_run_at_once_as_there_are_workers() {
    const TASKS: usize = 4;
    const TURNS: usize = 10;
    let _dog = watchdog(20);
    let runtime = runtime(TASKS);
    for load in [false, true] {
        runtime.run(|| {
            let mut group = runtime.group();
            let stop = Flag::default();
            if load {
                // `TestGoroutineParallelism2`: with other things to do.
                ping_pong(&group, &stop);
                group.go(|| {
                    sleep(Duration::from_millis(1));
                    Ok(())
                });
                stop.set();
                group.wait().unwrap();
            }
            let turn = Arc::new(AtomicUsize::new(0));
            for nth in 0..TASKS {
                let turn = Arc::clone(&turn);
                group.go(move || {
                    for round in 0..TURNS {
                        while turn.load(SeqCst) != round * TASKS + nth {
                            spin_loop();
                        }
                        turn.fetch_add(1, SeqCst);
                    }
                    Ok(())
                });
            }
            group.wait().unwrap();
        });
    }
}

/// `TestTimerFairness`: two tasks keep a third busy, which also waits for a time.
#[test]
fn timer_fires_beside_channels_that_are_always_ready() {
    let _dog = watchdog(20);
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let (tx, rx) = chan::<()>(0);
        let (stop, stopped) = chan::<()>(0);
        let mut group = runtime.group();
        for _ in 0..2 {
            let (tx, stopped) = (tx.clone(), stopped.clone());
            group.go(move || {
                loop {
                    select! {
                        send(tx, ()) -> _sent => {}
                        recv(stopped) -> _closed => return Ok(()),
                    }
                }
            });
        }
        let (alarm, alarms) = chan::<()>(1);
        group.go(move || {
            sleep(Duration::from_millis(20));
            Ok(alarm.send(())?)
        });
        runtime.run(move || {
            loop {
                select! {
                    recv(rx) -> _value => {}
                    recv(alarms) -> _alarm => break,
                }
            }
            drop(stop);
        });
        group.wait().unwrap();
    }
}

/// `TestTimerFairness2`: two tasks keep each other busy, and wait for a time while they do.
#[test]
fn deadlines_pass_for_tasks_that_keep_each_other_busy() {
    let _dog = watchdog(20);
    let runtime = runtime(1);
    let (tx, rx) = chan::<()>(1);
    let mut group = runtime.group();
    for _ in 0..2 {
        let (tx, rx) = (tx.clone(), rx.clone());
        group.go(move || {
            let until = Instant::now() + Duration::from_millis(20);
            while Instant::now() < until {
                if rx.recv_timeout(Duration::from_millis(1)).is_ok() {
                    tx.send_timeout((), Duration::from_millis(1)).ok();
                }
            }
            Ok(())
        });
    }
    tx.send(()).unwrap();
    group.wait().unwrap();
}

/// `TestPingPongHog`: a pair that does a lot between two switches against one that does little. Both have their turns.
#[test]
fn ping_pong_pair_does_not_starve_another() {
    const TRIPS: u64 = 10_000;
    let _dog = watchdog(30);
    let runtime = runtime(1);
    runtime.run(|| {
        let mut group = runtime.group();
        let stop = Flag::default();
        let [hog, light] = [&stop, &stop].map(|stop| ping_pong(&group, stop));
        while hog.load(SeqCst) < TRIPS {
            black_box((0..100).fold(0, |sum: u64, n| black_box(sum + n)));
            yield_now();
        }
        stop.set();
        let (hog, light) = (hog.load(SeqCst), light.load(SeqCst));
        assert!(light > hog / 20, "{light} turns against {hog}");
        group.wait().unwrap();
    });
}

/// What a ping-pong pair and a chain of newest children, each of which keeps one worker busy for good, must let through.
fn with_hogs(check: impl Fn(&Runtime, &Spawner)) {
    fn chain(spawner: Spawner, stop: Flag) {
        let next = spawner.clone();
        spawner.go(move || {
            if !stop.is_set() {
                chain(next, stop);
            }
            Ok(())
        });
    }
    let hogs: [fn(&Group, &Flag); 4] = [
        |_, _| {},
        |group, stop| drop(ping_pong(group, stop)),
        |group, stop| chain(group.spawner(), stop.clone()),
        |group, stop| {
            for _ in 0..2 {
                let stop = stop.clone();
                group.go(move || {
                    while !stop.is_set() {
                        yield_now();
                    }
                    Ok(())
                });
            }
        },
    ];
    for hog in hogs {
        let runtime = runtime(1);
        let stop = Flag::default();
        let mut group = runtime.group();
        runtime.run(|| hog(&group, &stop));
        check(&runtime, &group.spawner());
        stop.set();
        group.wait().unwrap();
    }
}

#[test]
fn task_from_outside_starts_beside_hogs() {
    let _dog = watchdog(30);
    with_hogs(|runtime, _| {
        for _ in 0..20 {
            assert_eq!(runtime.run(|| 7), 7);
        }
    });
}

#[test]
fn children_start_beside_hogs() {
    let _dog = watchdog(30);
    with_hogs(|runtime, _| {
        runtime.run(|| {
            let mut group = runtime.group();
            // More than a ring has room for.
            for _ in 0..600 {
                group.go(|| Ok(()));
            }
            group.wait().unwrap();
        });
    });
}

#[test]
fn started_task_goes_on_beside_hogs() {
    let _dog = watchdog(30);
    with_hogs(|runtime, _| {
        runtime.run(|| {
            for _ in 0..100 {
                yield_now();
            }
        });
    });
}

#[test]
fn task_unparked_by_a_thread_goes_on_beside_hogs() {
    let _dog = watchdog(30);
    with_hogs(|_, spawner| {
        let (tx, rx) = chan::<u32>(0);
        let (back, backs) = chan::<u32>(0);
        spawner.go(move || {
            while let Ok(value) = rx.recv() {
                back.send(value)?;
            }
            Ok(())
        });
        for value in 0..50 {
            tx.send(value).unwrap();
            assert_eq!(backs.recv(), Ok(value));
        }
    });
}

#[test]
fn timers_fire_beside_hogs() {
    let _dog = watchdog(30);
    with_hogs(|runtime, _| {
        runtime.run(|| {
            for _ in 0..10 {
                sleep(Duration::from_micros(100));
            }
        });
    });
}

/// `TestPreemption`, as far as it goes without a signal: the computing task asks.
#[test]
fn computation_with_checkpoints_lets_everything_run() {
    let _dog = watchdog(30);
    let runtime = runtime(1);
    let stop = Flag::default();
    let mut group = runtime.group();
    for _ in 0..2 {
        let stop = stop.clone();
        group.go(move || {
            let mut sum = 0_u64;
            while !stop.is_set() {
                for n in 0..1000 {
                    sum = black_box(sum.wrapping_add(n));
                    checkpoint();
                }
            }
            Ok(())
        });
    }
    // Unstarted, started, and with a deadline.
    runtime.run(|| {
        for _ in 0..10 {
            yield_now();
            sleep(Duration::from_micros(100));
        }
        let mut children = runtime.group();
        for _ in 0..10 {
            children.go(|| Ok(()));
        }
        children.wait().unwrap();
    });
    stop.set();
    group.wait().unwrap();
    // On a plain thread there is nothing to do.
    checkpoint();
}

/// Recurses until `bytes` of the stack are used.
fn dive(top: usize, bytes: usize) -> usize {
    let frame = black_box([0_u8; 512]);
    let here = frame.as_ptr().addr();
    if top - here + 2048 >= bytes {
        return 1;
    }
    1 + dive(top, bytes) + usize::from(frame[0])
}

/// `TestStackGrowth`: stacks do not grow here; each has its whole size to itself, again and again.
#[test]
fn stack_of_every_class_can_be_used_to_its_end() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let mut bytes = 16 * 1024;
    while bytes <= 8 << 20 {
        let mut group = Group::builder()
            .runtime(&runtime)
            .stack_bytes(bytes)
            .build()
            .unwrap();
        for _ in 0..10 {
            group.go(move || {
                let top = black_box(&raw const bytes).addr();
                // What the runtime has on it, and what a frame of a debug build may have below.
                assert!(dive(top, bytes - 6 * 1024) > bytes / 4096);
                yield_now();
                Ok(())
            });
        }
        group.wait().unwrap();
        bytes *= 2;
    }
}
