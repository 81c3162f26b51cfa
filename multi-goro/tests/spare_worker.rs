//! Tasks that keep their workers, and what becomes of the others.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::watchdog;
use multi_goro::{Group, Runtime, RuntimeBuilder, TaskOptions, chan};

/// Tasks that keep their workers until they are let go.
struct Hogs {
    group: Group,
    done: Arc<AtomicBool>,
}

impl Hogs {
    /// As many hogs as there are workers, all of them running.
    fn on(runtime: &Runtime) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let group = runtime.group();
        let running = Arc::new(AtomicUsize::new(0));
        for nth in 0..runtime.workers() {
            let (done, running) = (Arc::clone(&done), Arc::clone(&running));
            group.go_with(TaskOptions::new().name(format!("hog {nth}")), move || {
                running.fetch_add(1, SeqCst);
                while !done.load(SeqCst) {
                    spin_loop();
                }
                Ok(())
            });
        }
        while running.load(SeqCst) < runtime.workers() {
            std::thread::yield_now();
        }
        Self { group, done }
    }

    fn end(mut self) {
        self.done.store(true, SeqCst);
        self.group.wait().unwrap();
    }
}

fn quiet(workers: usize) -> RuntimeBuilder {
    Runtime::builder().workers(workers).report_stuck(false)
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}

#[test]
fn task_started_beside_hogs_on_all_workers_begins() {
    let _dog = watchdog(20);
    for workers in [1, 2] {
        let runtime = quiet(workers).build().unwrap();
        let hogs = Hogs::on(&runtime);
        for _ in 0..3 {
            assert_eq!(runtime.run(|| 7), 7);
            // So that the next finds the monitor asleep.
            std::thread::sleep(Duration::from_millis(30));
        }
        hogs.end();
    }
}

#[test]
fn children_of_a_hog_begin_while_it_waits_for_them_in_vain() {
    let _dog = watchdog(20);
    // One stays the newest; three go to the ring; five hundred overflow it.
    for (workers, children) in [(1, 1), (1, 4), (2, 4), (1, 500), (2, 500)] {
        let runtime = quiet(workers).build().unwrap();
        runtime.run(|| {
            let ran = Arc::new(AtomicUsize::new(0));
            let mut group = runtime.group();
            for _ in 0..children {
                let ran = Arc::clone(&ran);
                group.go(move || {
                    ran.fetch_add(1, SeqCst);
                    Ok(())
                });
            }
            while ran.load(SeqCst) < children {
                spin_loop();
            }
            group.wait().unwrap();
        });
    }
}

#[test]
fn hogs_are_told_of_once_with_name_and_place() {
    let _dog = watchdog(20);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let runtime = Runtime::builder()
        .workers(2)
        .on_stuck(move |task| {
            tell.lock().unwrap().push(task.clone());
            // The workers need their monitor whatever this does.
            panic!("a hook that panics");
        })
        .build()
        .unwrap();
    let hogs = Hogs::on(&runtime);
    while told.lock().unwrap().len() < 2 {
        assert_eq!(runtime.run(|| 7), 7);
    }
    for _ in 0..5 {
        assert_eq!(runtime.run(|| 7), 7);
        std::thread::sleep(Duration::from_millis(10));
    }
    hogs.end();
    let told = told.lock().unwrap();
    for nth in 0..2 {
        let name = format!("hog {nth}");
        let of_this: Vec<_> = told
            .iter()
            .filter(|task| task.name() == Some(&name))
            .collect();
        assert_eq!(of_this.len(), 1, "{told:?}");
        let task = of_this[0];
        assert!(task.at_least() >= Duration::from_millis(10));
        assert!(task.worker() < 2);
        let place = task.started_at().unwrap();
        assert!(place.file().ends_with("tests/spare_worker.rs"), "{place}");
        let text = task.to_string();
        let start = format!("task \"{name}\" started at {place} has kept worker ");
        assert!(text.starts_with(&start), "{text}");
    }
}

#[test]
fn task_that_began_on_a_spare_worker_stays_there() {
    let _dog = watchdog(20);
    let runtime = quiet(1).build().unwrap();
    let hogs = Hogs::on(&runtime);
    let (ask, asked) = chan::<()>(0);
    let (reply, replies) = mpsc::channel();
    let mut group = runtime.group();
    group.go(move || {
        reply.send(thread_name())?;
        while asked.recv().is_ok() {
            reply.send(thread_name())?;
        }
        Ok(())
    });
    let first = replies.recv().unwrap();
    assert!(first.starts_with("goro-spare-"), "{first}");
    hogs.end();
    for _ in 0..20 {
        // Long enough for the spare worker to be at rest now and then.
        std::thread::sleep(Duration::from_millis(3));
        ask.send(()).unwrap();
        assert_eq!(replies.recv().unwrap(), first);
    }
    drop(ask);
    group.wait().unwrap();
}

#[test]
fn spare_workers_rest_once_the_hogs_have_ended() {
    let _dog = watchdog(20);
    let runtime = quiet(2).build().unwrap();
    let hogs = Hogs::on(&runtime);
    assert!(runtime.run(thread_name).starts_with("goro-spare-"));
    hogs.end();
    // A worker that the system does not run for long looks stuck too: so not at the first go, perhaps.
    loop {
        std::thread::sleep(Duration::from_millis(30));
        let spared = Arc::new(AtomicUsize::new(0));
        let mut group = runtime.group();
        for _ in 0..100 {
            let spared = Arc::clone(&spared);
            group.go(move || {
                let is_spare = thread_name().starts_with("goro-spare-");
                spared.fetch_add(usize::from(is_spare), SeqCst);
                Ok(())
            });
        }
        group.wait().unwrap();
        if spared.load(SeqCst) == 0 {
            break;
        }
    }
}

#[test]
fn there_are_no_more_spare_workers_than_asked_for() {
    let _dog = watchdog(20);
    for spares in [0, 1] {
        let runtime = quiet(1).spare_workers(spares).build().unwrap();
        let first = Hogs::on(&runtime);
        let begun = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let mut more = runtime.group();
        for _ in 0..3 {
            let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
            more.go(move || {
                begun.fetch_add(1, SeqCst);
                while !done.load(SeqCst) {
                    spin_loop();
                }
                Ok(())
            });
        }
        while begun.load(SeqCst) < spares {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(begun.load(SeqCst), spares);
        done.store(true, SeqCst);
        first.end();
        more.wait().unwrap();
        assert_eq!(begun.load(SeqCst), 3);
    }
}

#[test]
fn runtime_that_is_closed_still_has_spare_workers() {
    let _dog = watchdog(20);
    let runtime = quiet(1).build().unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let mut outer = runtime.group();
    outer.go(move || {
        gone.recv()?;
        let ran = Arc::new(AtomicBool::new(false));
        let child = Arc::clone(&ran);
        let mut group = Group::new();
        group.go(move || {
            child.store(true, SeqCst);
            Ok(())
        });
        while !ran.load(SeqCst) {
            spin_loop();
        }
        Ok(group.wait()?)
    });
    drop(runtime);
    go.send(()).unwrap();
    outer.wait().unwrap();
}
