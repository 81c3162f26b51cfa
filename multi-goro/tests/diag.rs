//! Reports: who runs, who waits and for what.

mod common;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::diag::{self, Dump, TaskState, WaitsFor};
use multi_goro::sync::{Condvar, Mutex, RwLock, Semaphore, WaitGroup};
use multi_goro::{Group, OsThread, Runtime, TaskOptions, chan, join, sleep, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .build()
        .expect("workers")
}

/// Takes dumps until one is as it should be.
fn dump_until(runtime: &Runtime, is_right: impl Fn(&Dump) -> bool) -> Dump {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let dump = runtime.dump();
        if is_right(&dump) {
            return dump;
        }
        assert!(Instant::now() < until, "not as it should be: {dump}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn state(dump: &Dump, name: &str) -> Option<TaskState> {
    let mut tasks = dump.tasks();
    tasks
        .find(|task| task.name() == Some(name))
        .map(diag::TaskReport::state)
}

#[test]
fn parked_tasks_are_listed_with_what_they_wait_for() {
    let _dog = watchdog(30);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let go = |name: &str, task: Box<dyn FnOnce() + Send>| {
        group.go_with(TaskOptions::new().name(name), move || {
            task();
            Ok(())
        });
    };
    let (tx, rx) = chan::<u8>(0);
    let (full, unread) = chan::<u8>(1);
    full.send(1).expect("room for one");
    let mutex = Arc::new(Mutex::new(()));
    let lock = Arc::new(RwLock::new(()));
    let permits = Arc::new(Semaphore::new(1));
    let (condition, others) = (Arc::new(Condvar::new()), Arc::new(WaitGroup::new()));
    others.add(1);
    let held = (mutex.lock(), lock.read(), permits.acquire());

    let receiver = rx.clone();
    go(
        "receive",
        Box::new(move || assert!(receiver.recv().is_err())),
    );
    let sender = full.clone();
    go("send", Box::new(move || assert!(sender.send(2).is_err())));
    go(
        "select",
        Box::new(move || {
            multi_goro::select! {
                recv(rx) -> _got => {}
                send(full, 3) -> _sent => {}
            }
        }),
    );
    let of_task = Arc::clone(&mutex);
    go("mutex", Box::new(move || drop(of_task.lock())));
    let of_task = Arc::clone(&lock);
    go("write", Box::new(move || drop(of_task.write())));
    let of_task = Arc::clone(&permits);
    go("permit", Box::new(move || drop(of_task.acquire())));
    let of_task = Arc::clone(&others);
    go("wait group", Box::new(move || of_task.wait()));
    let of_task = Arc::clone(&condition);
    go(
        "condition",
        Box::new(move || {
            let mutex = Mutex::new(());
            drop(of_task.wait(mutex.lock()));
        }),
    );
    let expected = [
        ("receive", WaitsFor::Receive),
        ("send", WaitsFor::Send),
        ("select", WaitsFor::Select),
        ("mutex", WaitsFor::Mutex),
        ("write", WaitsFor::Write),
        ("permit", WaitsFor::Permit),
        ("wait group", WaitsFor::WaitGroup),
        ("condition", WaitsFor::Condition),
    ];
    let dump = dump_until(&runtime, |dump| {
        let waits = |(name, what)| state(dump, name) == Some(TaskState::Waiting(what));
        expected.into_iter().all(waits)
    });
    assert_eq!(dump.tasks().len(), expected.len());
    for task in dump.tasks() {
        let place = task.started_at().expect("known");
        assert!(place.file().ends_with("tests/diag.rs"), "{place}");
        assert!(task.worker() < 2);
    }
    dump_until(&runtime, Dump::is_stalled);
    let text = runtime.dump().to_string();
    assert!(text.contains("task \"send\" started at "), "{text}");
    assert!(text.contains(" waits to send, for 0."), "{text}");
    assert!(text.ends_with("they wait for ever"), "{text}");

    drop((tx, held, unread));
    others.done();
    while !dump_until(&runtime, |_| true)
        .tasks()
        .all(|task| task.name() != Some("condition"))
    {
        condition.notify_all();
        std::thread::sleep(Duration::from_millis(1));
    }
    group.wait().expect("all end");
    assert_eq!(runtime.dump().tasks().len(), 0);
}

#[test]
fn sleeping_and_calling_tasks_are_no_deadlock() {
    let _dog = watchdog(30);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    group.go_with(TaskOptions::new().name("waiter"), move || {
        assert!(rx.recv().is_err());
        Ok(())
    });
    dump_until(&runtime, Dump::is_stalled);
    let (end, ended) = mpsc::channel::<()>();
    group.go_with(TaskOptions::new().name("caller"), move || {
        let _ended = multi_goro::blocking(move || ended.recv());
        Ok(())
    });
    let is_calling =
        |dump: &Dump| state(dump, "caller") == Some(TaskState::Waiting(WaitsFor::Blocking));
    assert!(!dump_until(&runtime, is_calling).is_stalled());
    drop(end);
    dump_until(&runtime, Dump::is_stalled);
    group.go_with(TaskOptions::new().name("sleeper"), move || {
        sleep(Duration::from_millis(100));
        drop(tx);
        Ok(())
    });
    let is_asleep =
        |dump: &Dump| state(dump, "sleeper") == Some(TaskState::Waiting(WaitsFor::Time));
    assert!(!dump_until(&runtime, is_asleep).is_stalled());
    group.wait().expect("all end");
    assert!(!runtime.dump().is_stalled(), "there is nobody to wait");
}

#[test]
fn running_and_ready_tasks_are_told_apart_while_no_worker_answers() {
    let _dog = watchdog(30);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let (end, ended) = mpsc::channel::<()>();
    let spawner = group.spawner();
    group.go_with(TaskOptions::new().name("yielded"), move || {
        spawner.go_with(TaskOptions::new().name("hog"), move || {
            let _ended = ended.recv();
            Ok(())
        });
        yield_now();
        Ok(())
    });
    let is_stuck = |dump: &Dump| {
        state(dump, "hog") == Some(TaskState::Running)
            && state(dump, "yielded") == Some(TaskState::Ready)
    };
    let dump = dump_until(&runtime, is_stuck);
    assert!(!dump.is_stalled());
    let for_a_while = |dump: &Dump| {
        let mut tasks = dump.tasks();
        tasks.any(|task| task.name() == Some("hog") && task.lasts() >= Duration::from_millis(30))
    };
    dump_until(&runtime, for_a_while);
    drop(end);
    group.wait().expect("both end");
}

#[test]
fn task_finds_itself_running() {
    let _dog = watchdog(30);
    let runtime = runtime(2);
    let states = runtime.run(|| {
        let dump = diag::dump();
        dump.tasks()
            .map(diag::TaskReport::state)
            .collect::<Vec<_>>()
    });
    assert_eq!(states, [TaskState::Running]);
}

#[test]
fn tasks_of_a_kind_share_a_line() {
    let _dog = watchdog(30);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    for _ in 0..1_000 {
        let rx = rx.clone();
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
    }
    let dump = dump_until(&runtime, Dump::is_stalled);
    assert_eq!((dump.tasks().len(), dump.unlisted_count()), (1_000, 0));
    let text = dump.to_string();
    assert!(text.contains("waits to receive"), "{text}");
    assert!(text.contains(", and 999 more like it"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    drop(tx);
    group.wait().expect("all end");
}

#[test]
fn tasks_of_an_os_thread_are_in_the_dump_of_everything() {
    let _dog = watchdog(30);
    let thread = OsThread::spawn("dumped").expect("a thread");
    let (tx, rx) = chan::<()>(0);
    let mut group = thread.group();
    group.go_with(TaskOptions::new().name("on dumped"), move || {
        assert!(rx.recv().is_err());
        Ok(())
    });
    let waits = || {
        let all = diag::dump_all();
        all.iter()
            .any(|dump| state(dump, "on dumped") == Some(TaskState::Waiting(WaitsFor::Receive)))
    };
    while !waits() {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(tx);
    group.wait().expect("it ends");
}

#[test]
fn dumps_are_taken_while_tasks_begin_park_and_end() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let until = Instant::now() + Duration::from_secs(1);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let mut seen = 0;
                while Instant::now() < until {
                    let dump = runtime.dump();
                    for task in dump.tasks() {
                        assert!(matches!(task.name(), None | Some("short" | "fork")));
                        assert!(task.started_at().is_some());
                        seen += 1;
                    }
                }
                assert!(seen > 0);
            });
        }
        runtime.run(|| {
            while Instant::now() < until {
                let mut group = Group::new();
                let (tx, rx) = chan(0);
                for n in 0..50 {
                    let (tx, rx) = (tx.clone(), rx.clone());
                    group.go_with(TaskOptions::new().name("short"), move || {
                        if n % 2 == 0 {
                            tx.send(n)?;
                        } else {
                            rx.recv()?;
                        }
                        Ok(())
                    });
                }
                group.go_with(TaskOptions::new().name("fork"), || {
                    join(|| sleep(Duration::from_micros(10)), yield_now);
                    Ok(())
                });
                group.wait().expect("all end");
            }
        });
    });
}

#[test]
fn more_tasks_than_are_looked_at_at_once_are_listed_once_each() {
    const TASKS: usize = 10_000;
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    for _ in 0..TASKS {
        let rx = rx.clone();
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
    }
    let receives = TaskState::Waiting(WaitsFor::Receive);
    let dump = dump_until(&runtime, |dump| {
        dump.tasks().filter(|task| task.state() == receives).count() == TASKS
    });
    assert_eq!(dump.tasks().len(), TASKS);
    drop(tx);
    group.wait().expect("all end");
    dump_until(&runtime, |dump| dump.tasks().len() == 0);
}

#[test]
fn metrics_count_what_was_done() {
    let _dog = watchdog(30);
    let runtime = runtime(2);
    assert_eq!(runtime.metrics().tasks_started, 0);
    let mut group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    for _ in 0..100 {
        let rx = rx.clone();
        group.go(move || Ok(rx.recv()?));
    }
    dump_until(&runtime, Dump::is_stalled);
    let metrics = runtime.metrics();
    assert_eq!((metrics.workers, metrics.workers_asleep), (2, 2));
    assert_eq!((metrics.tasks, metrics.tasks_started), (100, 100));
    assert_eq!(metrics.tasks_ended, 0);
    assert_eq!((metrics.parks, metrics.halves_taken), (100, 0));
    assert!(metrics.turns >= 100, "{metrics}");
    assert!(metrics.sleeps >= 2, "{metrics}");
    assert!(metrics.stacks >= 100, "{metrics}");
    assert_eq!(metrics.wakes_from_elsewhere, 0);

    // A plain thread wakes each.
    for _ in 0..100 {
        tx.send(()).expect("somebody receives");
    }
    group.wait().expect("all end");
    let (begun, begins) = mpsc::channel();
    runtime.run(|| {
        join(
            move || begins.recv().expect("the other half has begun"),
            move || begun.send(()).expect("the first half waits"),
        )
    });
    let metrics = runtime.metrics();
    assert_eq!(metrics.tasks, 0);
    // The hundred, that of `run`, and the half.
    assert_eq!((metrics.tasks_started, metrics.tasks_ended), (102, 102));
    assert_eq!(metrics.halves_taken, 1);
    assert!(metrics.wakes_from_elsewhere >= 100, "{metrics}");
    let text = metrics.to_string();
    assert!(text.contains("0 tasks, 102 started, 102 ended"), "{text}");
}
