//! Tasks that hold each other up for ever are found, and those that somebody may still help are not.
//!
//! What hangs here hangs until the process ends: runtimes and groups with such tasks are let go.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use multi_goro::diag::{Dump, TaskReport, TaskState, WaitsFor};
use multi_goro::sync::{Barrier, Condvar, Mutex, RwLock};
use multi_goro::{BoxError, Runtime, TaskOptions, chan, scope, sleep, yield_now};

mod common;
use common::watchdog;

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().unwrap()
}

/// Longer than what counts as settled.
const SETTLED: Duration = Duration::from_millis(600);

/// Those that are found by two dumps, and the later one.
fn look(runtime: &Runtime) -> (Vec<String>, Dump) {
    let earlier = runtime.dump();
    thread::sleep(SETTLED);
    let dump = runtime.dump();
    let mut names: Vec<_> = dump
        .deadlocked(&earlier)
        .map(|task| task.name().unwrap_or("?").to_owned())
        .collect();
    names.sort();
    (names, dump)
}

fn found(runtime: &Runtime, count: usize) -> Vec<String> {
    loop {
        let (names, _) = look(runtime);
        if names.len() >= count {
            return names;
        }
    }
}

#[test]
fn two_locks_in_two_orders_are_found_beside_other_groups() {
    let _watchdog = watchdog(30);
    let runtime = runtime();
    let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let group = runtime.group();
    for (name, first, second) in [("ab", &a, &b), ("ba", &b, &a)] {
        let (first, second) = (Arc::clone(first), Arc::clone(second));
        group.go_with(TaskOptions::new().name(name), move || {
            let _first = first.lock();
            sleep(Duration::from_millis(20));
            let _second = second.lock();
            Ok(())
        });
    }
    let third = Arc::clone(&a);
    group.go_with(TaskOptions::new().name("behind them"), move || {
        sleep(Duration::from_millis(40));
        drop(third.lock());
        Ok(())
    });
    // Others go on meanwhile, with locks of their own.
    let mut others = runtime.group();
    let busy = Arc::new(Mutex::new(0));
    for _ in 0..2 {
        let busy = Arc::clone(&busy);
        others.go(move || {
            for _ in 0..200 {
                let mut held = busy.lock();
                sleep(Duration::from_millis(2));
                *held += 1;
                drop(held);
                yield_now();
            }
            Ok(())
        });
    }
    assert_eq!(found(&runtime, 3), ["ab", "ba", "behind them"]);
    others.wait().unwrap();
    group.detach();
    let _kept = std::mem::ManuallyDrop::new(runtime);
}

#[test]
fn lock_asked_for_twice_is_found() {
    let _watchdog = watchdog(30);
    let runtime = runtime();
    let group = runtime.group();
    group.go_with(TaskOptions::new().name("twice"), || {
        let mutex = Mutex::new(());
        let _once = mutex.lock();
        let _twice = mutex.lock();
        Ok(())
    });
    assert_eq!(found(&runtime, 1), ["twice"]);
    group.detach();
    let _kept = std::mem::ManuallyDrop::new(runtime);
}

#[test]
fn lock_held_while_waiting_for_tasks_that_need_it_is_found() {
    let _watchdog = watchdog(30);
    let runtime = runtime();
    let group = runtime.group();
    group.go_with(TaskOptions::new().name("parent"), || {
        let mutex = Mutex::new(0);
        let held = mutex.lock();
        let all = scope(|s| {
            s.go(|| {
                *mutex.lock() += 1;
                Ok(())
            });
            s.go(|| Ok(()));
        });
        drop(held);
        Ok(all?)
    });
    assert_eq!(found(&runtime, 2), ["?", "parent"]);
    group.detach();
    let _kept = std::mem::ManuallyDrop::new(runtime);
}

#[test]
fn locks_for_many_are_found_where_their_holder_is_known() {
    let _watchdog = watchdog(30);
    let runtime = runtime();
    let group = runtime.group();
    let go = |name, task: Box<dyn FnOnce() -> Result<(), BoxError> + Send>| {
        group.go_with(TaskOptions::new().name(name), task);
    };
    // Two who write, in two orders.
    let (a, b) = (Arc::new(RwLock::new(())), Arc::new(RwLock::new(())));
    let both = Arc::new(Barrier::new(2));
    for (name, first, second) in [("1 ab", &a, &b), ("2 ba", &b, &a)] {
        let (first, second) = (Arc::clone(first), Arc::clone(second));
        let both = Arc::clone(&both);
        go(
            name,
            Box::new(move || {
                let _first = first.write();
                both.wait();
                let _second = second.write();
                Ok(())
            }),
        );
    }
    // One who reads, and asks again behind one who waits to write.
    let lock = Arc::new(RwLock::new(()));
    let (again, told) = chan::<()>(0);
    let read = Arc::clone(&lock);
    go(
        "3 reads",
        Box::new(move || {
            let _once = read.read();
            told.recv()?;
            drop(read.read());
            Ok(())
        }),
    );
    until(&runtime, "3 reads", WaitsFor::Receive);
    go(
        "4 writes",
        Box::new(move || {
            drop(lock.write());
            Ok(())
        }),
    );
    until(&runtime, "4 writes", WaitsFor::Write);
    again.send(()).unwrap();
    // One who writes lets a reader in before another who waits to write, and that reader needs what the other has.
    let (lock, mutex) = (Arc::new(RwLock::new(())), Arc::new(Mutex::new(())));
    let (end, told) = chan::<()>(0);
    let written = Arc::clone(&lock);
    go(
        "lets go",
        Box::new(move || {
            let _written = written.write();
            Ok(told.recv()?)
        }),
    );
    until(&runtime, "lets go", WaitsFor::Receive);
    let (read, needed) = (Arc::clone(&lock), Arc::clone(&mutex));
    go(
        "5 reads",
        Box::new(move || {
            let _read = read.read();
            drop(needed.lock());
            Ok(())
        }),
    );
    until(&runtime, "5 reads", WaitsFor::Read);
    go(
        "6 writes",
        Box::new(move || {
            let _held = mutex.lock();
            drop(lock.write());
            Ok(())
        }),
    );
    until(&runtime, "6 writes", WaitsFor::Write);
    end.send(()).unwrap();
    assert_eq!(
        found(&runtime, 6),
        ["1 ab", "2 ba", "3 reads", "4 writes", "5 reads", "6 writes"]
    );
    group.detach();
    let _kept = std::mem::ManuallyDrop::new(runtime);
}

/// A writer was behind another that has let go since, and others read, of whom not all need what it has.
#[test]
fn writer_whose_lock_has_other_holders_by_now_is_not_found() {
    let _watchdog = watchdog(60);
    let runtime = runtime();
    let mut group = runtime.group();
    let (lock, mutex) = (Arc::new(RwLock::new(0)), Arc::new(Mutex::new(())));
    let (let_go, told) = chan::<()>(0);
    let (begin, begun) = chan::<()>(0);
    {
        let (lock, mutex) = (Arc::clone(&lock), Arc::clone(&mutex));
        group.go_with(TaskOptions::new().name("wrote"), move || {
            let written = lock.write();
            begun.recv()?;
            drop(written);
            // The one that was behind us has this.
            drop(mutex.lock());
            Ok(())
        });
    }
    until(&runtime, "wrote", WaitsFor::Receive);
    for name in ["reads", "reads too"] {
        let (lock, told) = (Arc::clone(&lock), told.clone());
        group.go_with(TaskOptions::new().name(name), move || {
            let _read = lock.read();
            Ok(told.recv()?)
        });
        until(&runtime, name, WaitsFor::Read);
    }
    {
        let lock = Arc::clone(&lock);
        group.go_with(TaskOptions::new().name("writes"), move || {
            let _held = mutex.lock();
            *lock.write() += 1;
            Ok(())
        });
    }
    until(&runtime, "writes", WaitsFor::Write);
    begin.send(()).unwrap();
    until(&runtime, "wrote", WaitsFor::Mutex);
    for _ in 0..2 {
        let (names, dump) = look(&runtime);
        assert_eq!(names, [""; 0], "{dump}");
    }
    let_go.send(()).unwrap();
    let_go.send(()).unwrap();
    group.wait().unwrap();
    assert_eq!(*lock.read(), 1);
}

/// Returns once the task of that name waits so.
fn until(runtime: &Runtime, name: &str, what: WaitsFor) {
    let waits =
        |task: &TaskReport| task.name() == Some(name) && task.state() == TaskState::Waiting(what);
    while !runtime.dump().tasks().any(waits) {
        thread::yield_now();
    }
}

/// Who waits behind somebody that a thread, a timer, a message or another task may still let go on.
#[test]
fn waits_that_somebody_may_end_are_not_found() {
    let _watchdog = watchdog(60);
    let runtime = runtime();
    let mut group = runtime.group();

    // Behind one who sleeps.
    let slept_on = Arc::new(Mutex::new(()));
    // Behind one who waits for a message.
    let (tx, rx) = chan::<()>(0);
    let received_on = Arc::new(Mutex::new(()));
    // Behind a thread.
    let threads = Arc::new(Mutex::new(()));
    // Behind one who waits for a condition.
    let told = Arc::new((Mutex::new(false), Condvar::new()));
    let waited_on = Arc::new(Mutex::new(()));
    // Behind one who waits to write under a lock that a thread reads.
    let read = Arc::new(RwLock::new(()));
    let written_on = Arc::new(Mutex::new(()));
    // Behind one who waits for a limited group, whose other task may make room.
    let limited = Arc::new(Mutex::new(()));

    let held = threads.lock();
    let reads = read.read();
    {
        let mutex = Arc::clone(&slept_on);
        group.go(move || {
            let _held = mutex.lock();
            sleep(3 * SETTLED);
            Ok(())
        });
        let mutex = Arc::clone(&received_on);
        group.go(move || {
            let _held = mutex.lock();
            Ok(rx.recv()?)
        });
        let (mutex, told) = (Arc::clone(&waited_on), Arc::clone(&told));
        group.go(move || {
            let _held = mutex.lock();
            let mut is_told = told.0.lock();
            while !*is_told {
                is_told = told.1.wait(is_told);
            }
            Ok(())
        });
        let (mutex, read) = (Arc::clone(&written_on), Arc::clone(&read));
        group.go(move || {
            let _held = mutex.lock();
            drop(read.write());
            Ok(())
        });
        let (mutex, slept_on) = (Arc::clone(&limited), Arc::clone(&slept_on));
        group.go(move || {
            let _held = mutex.lock();
            let mut few = multi_goro::Group::builder().limit(1).build()?;
            for _ in 0..2 {
                let slept_on = Arc::clone(&slept_on);
                few.go(move || {
                    drop(slept_on.lock());
                    Ok(())
                });
            }
            Ok(few.wait()?)
        });
    }
    thread::sleep(Duration::from_millis(100));
    for mutex in [
        &slept_on,
        &received_on,
        &threads,
        &waited_on,
        &written_on,
        &limited,
    ] {
        for _ in 0..2 {
            let mutex = Arc::clone(mutex);
            group.go(move || {
                drop(mutex.lock());
                Ok(())
            });
        }
    }
    thread::sleep(SETTLED);
    let (found, dump) = look(&runtime);
    assert!(found.is_empty(), "{found:?} in {dump}");
    drop((held, reads));
    tx.send(()).unwrap();
    *told.0.lock() = true;
    told.1.notify_all();
    group.wait().unwrap();
}

/// A lock goes from one to the next many times while others wait: who is behind whom must stay true.
#[test]
fn lock_that_changes_hands_holds_nobody_up_for_ever() {
    let _watchdog = watchdog(60);
    let runtime = runtime();
    let mut group = runtime.group();
    let locks: Arc<[Mutex<u64>; 3]> = Arc::default();
    for nth in 0..12_usize {
        let locks = Arc::clone(&locks);
        group.go(move || {
            for round in 0..20_usize {
                // Always upwards, so that no ring can be.
                let low = (nth + round) % 2;
                let mut first = locks[low].lock();
                sleep(Duration::from_millis(3));
                *locks[low + 1].lock() += 1;
                *first += 1;
            }
            Ok(())
        });
    }
    while group.progress().running > 0 {
        let (found, dump) = look(&runtime);
        assert!(found.is_empty(), "{found:?} in {dump}");
    }
    group.wait().unwrap();
}
