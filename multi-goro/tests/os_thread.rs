//! Tasks bound to one OS thread: where they run, what becomes of them, and of those who ask for them.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::cell::RefCell;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::{Group, OsThread, Runtime, ThreadLoop, chan, yield_now};

fn here() -> thread::ThreadId {
    thread::current().id()
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().expect("a literal")
}

#[test]
fn run_goes_there_and_back_from_threads_and_tasks() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("there").unwrap();
    let mut count = 0;
    let home = os.run(|| {
        count += 1;
        here()
    });
    assert_eq!(
        os.run(|| thread::current().name().map(str::to_owned))
            .as_deref(),
        Some("there")
    );
    assert_ne!(home, here());
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        for _ in 0..1_000 {
            assert_eq!(os.run(|| (count += 1, here()).1), home);
        }
    });
    assert_eq!(count, 1_001);
    assert!(!os.is_current());
    assert!(os.run(|| os.is_current()));
}

#[test]
fn run_from_inside_itself_is_a_call() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("self").unwrap();
    let depth = os.run(|| os.run(|| os.run(|| 3)));
    assert_eq!(depth, 3);
    let (tx, rx) = chan(0);
    let again = os.clone();
    os.go(move || Ok(tx.send(again.run(|| again.num_tasks()))?));
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn panic_of_a_run_goes_on_in_its_caller() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("panics").unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| os.run(|| panic!("there")))).unwrap_err();
    assert_eq!(message(&*panic), "there");
    assert_eq!(os.run(|| 7), 7, "the thread goes on");
}

#[test]
fn bound_tasks_share_the_thread_and_its_locals() {
    thread_local! { static SEEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) } }
    let _dog = watchdog(60);
    let os = OsThread::spawn("locals").unwrap();
    let mut group = os.group();
    for n in 0..10_000 {
        group.go(move || {
            yield_now();
            SEEN.with_borrow_mut(|seen| seen.push(n));
            Ok(())
        });
    }
    group.wait().unwrap();
    let mut seen = os.run(|| SEEN.take());
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..10_000));
    assert_eq!(os.num_tasks(), 0);
}

#[test]
fn failures_and_panics_are_reported_by_the_group() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("fails").unwrap();
    let mut group = os.group();
    group.go(|| Err("no luck".into()));
    group.go(|| panic!("worse"));
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert_eq!(error.failures().len(), 2, "{error}");
    let text = error.to_string();
    assert!(text.contains("no luck") && text.contains("worse"), "{text}");
}

#[test]
fn group_made_in_a_bound_task_is_not_bound() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("parent").unwrap();
    os.run(|| {
        let mut group = Group::new();
        let elsewhere = group.spawn(|| Ok(here()));
        assert_ne!(elsewhere.join().unwrap(), here());
        group.wait().unwrap();
    });
}

#[test]
fn last_handle_gone_ends_the_thread_when_its_tasks_have_ended() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("last").unwrap();
    let (go_on, wait) = chan::<()>(0);
    let (done, ended) = chan(1);
    os.go(move || {
        let _closed = wait.recv();
        Ok(done.send("ended")?)
    });
    drop(os);
    thread::sleep(Duration::from_millis(20));
    assert!(ended.try_recv().is_err());
    drop(go_on);
    assert_eq!(ended.recv(), Ok("ended"));
}

#[test]
fn group_keeps_its_thread_open() {
    let _dog = watchdog(60);
    let mut group = OsThread::spawn("group").unwrap().group();
    group.go(|| Ok(()));
    group.wait().unwrap();
    let spawner = group.spawner();
    group.go(move || {
        spawner.go(|| Ok(()));
        Ok(())
    });
    group.wait().unwrap();
}

#[test]
fn nested_os_threads_serve_each_other() {
    let _dog = watchdog(60);
    let outer = OsThread::spawn("outer").unwrap();
    let sum = outer.run(|| {
        let inner = OsThread::spawn("inner").unwrap();
        // Back into the thread that waits: its task is parked, so it serves.
        inner.run(|| outer.run(|| 1) + inner.run(|| 2))
    });
    assert_eq!(sum, 3);
}

#[test]
fn main_runs_the_body_elsewhere_and_serves_meanwhile() {
    let _dog = watchdog(60);
    let main = here();
    let mut log = Vec::new();
    let (answer, kept) = OsThread::main(|os| {
        assert_ne!(here(), main);
        log.push(os.run(here));
        let mut group = os.group();
        for _ in 0..100 {
            group.go(move || {
                yield_now();
                assert_eq!(here(), main);
                Ok(())
            });
        }
        group.wait().unwrap();
        (42, os)
    });
    assert_eq!((answer, log), (42, vec![main]));
    let error = kept.try_run(|| ()).unwrap_err();
    assert!(error.is_gone(), "{error}");
    assert!(error.to_string().contains("takes no more tasks"), "{error}");
    assert!(kept.try_go(|| Ok(())).is_err());
    let mut group = kept.group();
    group.go(|| Ok(()));
    assert!(
        group
            .wait()
            .unwrap_err()
            .to_string()
            .contains("takes no more tasks")
    );
}

#[test]
fn main_waits_for_bound_tasks_and_passes_the_bodys_panic_on() {
    let _dog = watchdog(60);
    let ended = Arc::new(AtomicUsize::new(0));
    let panic = catch_unwind(|| {
        OsThread::main(|os| {
            let ended = Arc::clone(&ended);
            os.go(move || {
                multi_goro::sleep(Duration::from_millis(20));
                ended.fetch_add(1, SeqCst);
                Ok(())
            });
            panic!("body");
        })
    });
    assert_eq!(message(&*panic.unwrap_err()), "body");
    assert_eq!(ended.load(SeqCst), 1);
}

#[test]
fn a_task_cannot_lend_its_workers_thread() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("tasks").unwrap();
    os.run(|| {
        assert!(ThreadLoop::new().unwrap_err().is_in_task());
        let panic = catch_unwind(|| OsThread::main(|_| ())).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("a task cannot lend"), "{text}");
    });
}

/// Whether a descriptor becomes readable within `wait`.
#[expect(unsafe_code, reason = "polls")]
fn readable(fd: RawFd, wait: Duration) -> bool {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, alive for the call.
    let count = unsafe { libc::poll(&raw mut entry, 1, wait.as_millis().try_into().unwrap()) };
    count == 1
}

const SOON: Duration = Duration::from_secs(20);
const NOW: Duration = Duration::ZERO;

#[test]
fn loop_is_readable_exactly_when_there_is_something_to_run() {
    let _dog = watchdog(60);
    let mut tasks = ThreadLoop::new().unwrap();
    let os = tasks.thread();
    let fd = tasks.as_raw_fd();
    assert!(!readable(fd, NOW));

    let (tx, rx) = chan(0);
    os.go(move || Ok(rx.recv().map(drop)?));
    assert!(readable(fd, NOW), "a task to start");
    assert!(!tasks.run_for(SOON));
    assert!(!readable(fd, NOW), "it waits");

    let sender = thread::spawn(move || tx.send(1));
    assert!(readable(fd, SOON), "a task to go on with");
    assert!(!tasks.run_for(SOON));
    sender.join().unwrap().unwrap();
    assert_eq!(os.num_tasks(), 0);
    assert!(!readable(fd, NOW));

    let start = Instant::now();
    os.go(|| {
        multi_goro::sleep(Duration::from_millis(30));
        Ok(())
    });
    assert!(!tasks.run_for(SOON));
    assert!(!readable(fd, NOW), "not due");
    assert!(tasks.next_deadline().is_some());
    assert!(readable(fd, SOON), "due");
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(!tasks.run_for(SOON));
    assert_eq!(os.num_tasks(), 0);
    assert!(!readable(fd, NOW));
}

#[test]
fn loop_gets_its_thread_back_from_tasks_that_never_rest() {
    let _dog = watchdog(60);
    let mut tasks = ThreadLoop::new().unwrap();
    let stop = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let stop = Arc::clone(&stop);
        tasks.thread().go(move || {
            while stop.load(SeqCst) == 0 {
                yield_now();
            }
            Ok(())
        });
    }
    assert!(tasks.run_ready(10));
    assert!(tasks.run_for(Duration::from_millis(5)));
    assert!(readable(tasks.as_raw_fd(), NOW));
    // One alone has nobody to yield to but the loop.
    stop.store(1, SeqCst);
    assert!(!tasks.run_for(SOON));
    assert_eq!(tasks.thread().num_tasks(), 0);
    stop.store(0, SeqCst);
    let alone = Arc::clone(&stop);
    tasks.thread().go(move || {
        while alone.load(SeqCst) == 0 {
            yield_now();
        }
        Ok(())
    });
    assert!(tasks.run_ready(10));
    stop.store(1, SeqCst);
}

#[test]
fn loop_runs_its_tasks_to_their_end_when_it_is_dropped() {
    let _dog = watchdog(60);
    let tasks = ThreadLoop::new().unwrap();
    let os = tasks.thread();
    let mut group = os.group();
    group.go(|| {
        multi_goro::sleep(Duration::from_millis(20));
        Ok(())
    });
    let (tx, rx) = chan(0);
    group.go(move || Ok(rx.recv().map(drop)?));
    let sender = thread::spawn(move || tx.send(1));
    drop(tasks);
    sender.join().unwrap().unwrap();
    group.wait().unwrap();
    assert!(os.try_run(|| ()).unwrap_err().is_gone());
}

#[test]
fn background_task_does_not_jump_the_others_when_it_is_served() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("served").unwrap();
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (tx, rx) = chan(0);
    let (mut first, mut second) = (os.group(), os.background().group());
    let of_second = Arc::clone(&log);
    second.go(move || {
        let value = rx.recv()?;
        of_second.lock().unwrap().push(value);
        Ok(())
    });
    thread::sleep(Duration::from_millis(20));
    let of_first = Arc::clone(&log);
    os.run(|| {
        first.go(move || {
            of_first.lock().unwrap().push("normal");
            Ok(())
        });
        tx.send("background").unwrap();
    });
    first.wait().unwrap();
    second.wait().unwrap();
    assert_eq!(*log.lock().unwrap(), ["normal", "background"]);
}

#[test]
fn children_start_beside_tasks_of_both_lanes_that_never_rest() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("restless").unwrap();
    let (mut first, mut second) = (os.group(), os.background().group());
    let left = Arc::new(AtomicUsize::new(600));
    let restless = || {
        let left = Arc::clone(&left);
        move || {
            while left.load(SeqCst) > 0 {
                yield_now();
            }
            Ok(())
        }
    };
    first.go(restless());
    first.go(restless());
    second.go(restless());
    let spawner = first.spawner();
    first.go(move || {
        // More than fit in the worker's own ring.
        for _ in 0..600 {
            let left = Arc::clone(&left);
            spawner.go(move || {
                left.fetch_sub(1, SeqCst);
                Ok(())
            });
        }
        Ok(())
    });
    first.wait().unwrap();
    second.wait().unwrap();
}

#[test]
fn ten_thousand_tasks_wait_on_one_thread() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("many").unwrap();
    let mut group = os.group();
    let (tx, rx) = chan::<u32>(0);
    let (done, sums) = chan(16);
    for _ in 0..10_000 {
        let (rx, done) = (rx.clone(), done.clone());
        group.go(move || Ok(done.send(rx.recv()?)?));
    }
    while os.num_tasks() < 10_000 {
        yield_now();
    }
    drop((rx, done));
    let sender = thread::spawn(move || (0..10_000).for_each(|n| tx.send(n).unwrap()));
    assert_eq!(sums.iter().map(u64::from).sum::<u64>(), 9_999 * 10_000 / 2);
    sender.join().unwrap();
    group.wait().unwrap();
}

#[test]
fn loop_dropped_by_a_panic_leaves_its_tasks_and_says_so() {
    let _dog = watchdog(60);
    let os = thread::spawn(|| {
        let kept = RefCell::new(None);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let mut tasks = ThreadLoop::new().unwrap();
            let os = tasks.thread();
            *kept.borrow_mut() = Some(os.clone());
            let (keep, rx) = chan::<u8>(0);
            os.go(move || Ok(rx.recv().map(drop)?));
            assert!(!tasks.run_for(SOON));
            drop(keep);
            panic!("in the loop");
        }));
        assert_eq!(message(&*panic.unwrap_err()), "in the loop");
        kept.into_inner().unwrap()
    })
    .join()
    .unwrap();
    assert_eq!(os.num_tasks(), 1);
    assert!(os.try_run(|| ()).unwrap_err().is_gone());
}

/// Makes a loop on a thread of its own, which panics after `body`.
fn loop_that_panics(
    body: impl FnOnce(&mut ThreadLoop) + Send + 'static,
) -> (OsThread, thread::JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let owner = thread::spawn(move || {
        let mut tasks = ThreadLoop::new().unwrap();
        tell.send(tasks.thread()).unwrap();
        body(&mut tasks);
        // Not by `panic!`, which would print.
        std::panic::resume_unwind(Box::new("in the loop"));
    });
    (told.recv().unwrap(), owner)
}

#[test]
fn loop_dropped_by_a_panic_refuses_what_has_not_started() {
    let _dog = watchdog(60);
    let (begin, begun) = mpsc::channel::<()>();
    let (end, ended) = mpsc::channel::<()>();
    let (polled, was_polled) = mpsc::channel();
    let (os, owner) = loop_that_panics(move |tasks| {
        begun.recv().unwrap();
        tasks.run_for(SOON);
        polled.send(()).unwrap();
        ended.recv().unwrap_err();
    });
    let mut group = os.group();
    // Woken when there is nobody to poll it.
    let (tx, rx) = chan::<u8>(0);
    group.go_async(async move { Ok(rx.recv_async().await.map(drop)?) });
    begin.send(()).unwrap();
    was_polled.recv().unwrap();
    group.go(|| Ok(()));
    let caller = {
        let os = os.clone();
        thread::spawn(move || os.try_run(|| ()).unwrap_err())
    };
    while os.num_tasks() < 3 {
        thread::yield_now();
    }
    drop(end);
    owner.join().unwrap_err();
    assert!(caller.join().unwrap().is_gone());
    assert_eq!(os.num_tasks(), 1);
    tx.send(1).unwrap();
    let failures = group.wait().unwrap_err();
    assert_eq!(
        failures.to_string().matches("takes no more tasks").count(),
        2,
        "{failures}"
    );
    assert_eq!(os.num_tasks(), 0);
}

#[test]
fn loop_dropped_by_a_panic_refuses_futures_that_sleep() {
    let _dog = watchdog(60);
    let (begin, begun) = mpsc::channel::<()>();
    let (os, owner) = loop_that_panics(move |tasks| {
        begun.recv().unwrap();
        while tasks.next_deadline().is_none() {
            tasks.run_for(SOON);
        }
    });
    let mut group = os.group();
    // Nothing but the loop would ever wake it.
    group.go_async(async {
        multi_goro::future::sleep(Duration::from_secs(3_600)).await;
        Ok(())
    });
    begin.send(()).unwrap();
    owner.join().unwrap_err();
    let failures = group.wait().unwrap_err();
    assert!(
        failures.to_string().contains("takes no more tasks"),
        "{failures}"
    );
    assert_eq!(os.num_tasks(), 0);
}

#[test]
fn callers_that_meet_the_end_of_a_loop_come_back() {
    let _dog = watchdog(60);
    for round in 0..300_u64 {
        let (os, owner) = loop_that_panics(move |tasks| {
            tasks.run_for(SOON);
            for _ in 0..round * 200 {
                std::hint::spin_loop();
            }
        });
        let callers = [(); 2].map(|()| {
            let os = os.clone();
            thread::spawn(move || {
                while os.try_run(|| ()).is_ok() {}
                os.try_run(|| ()).unwrap_err()
            })
        });
        owner.join().unwrap_err();
        for caller in callers {
            assert!(caller.join().unwrap().is_gone());
        }
        assert_eq!(os.num_tasks(), 0);
    }
}

#[test]
fn run_while_a_panic_unwinds_blocks_and_ends() {
    struct Asks(OsThread, Arc<AtomicUsize>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.1.store(self.0.run(|| 7), SeqCst);
        }
    }
    let _dog = watchdog(60);
    let seen = Arc::new(AtomicUsize::new(0));
    let mut group = Group::new();
    let asks = Asks(OsThread::spawn("asked").unwrap(), Arc::clone(&seen));
    group.go(move || {
        let _asks = asks;
        panic!("with a destructor that waits");
    });
    group.wait().unwrap_err();
    assert_eq!(seen.load(SeqCst), 7);
}

#[test]
fn closure_that_was_refused_is_dropped() {
    let _dog = watchdog(60);
    let mut kept = None;
    OsThread::main(|os| kept = Some(os));
    let held = Arc::new(());
    let clone = Arc::clone(&held);
    let error = kept.unwrap().try_run(move || drop(clone)).unwrap_err();
    assert!(error.is_gone() && !error.is_refused() && !error.is_in_task());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn run_on_the_loops_own_thread_is_a_call() {
    let _dog = watchdog(60);
    let tasks = ThreadLoop::new().unwrap();
    assert_eq!(tasks.thread().run(here), here());
    assert!(tasks.thread().is_current());
}

#[test]
fn waiting_for_a_loops_tasks_instead_of_running_them_panics() {
    let _dog = watchdog(60);
    let mut tasks = ThreadLoop::new().unwrap();
    let os = tasks.thread();
    let mut group = os.group();
    group.go(|| Ok(()));
    let value = group.spawn(|| Ok(7));
    let panics = [
        catch_unwind(AssertUnwindSafe(|| group.wait().unwrap())).unwrap_err(),
        catch_unwind(AssertUnwindSafe(|| drop(value.join()))).unwrap_err(),
    ];
    for panic in panics {
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("call ThreadLoop::run_for"), "{text}");
    }
    assert!(group.wait_timeout(Duration::from_millis(1)).is_err());
    assert!(!tasks.run_for(SOON));
    group.wait().unwrap();
    // A drop does not panic: it may be one that unwinds.
    let token = group.cancel_token();
    group.go(move || {
        token.wait();
        Ok(())
    });
    drop(group);
    assert!(!tasks.run_for(SOON));
    assert_eq!(os.num_tasks(), 0);
}

#[test]
fn forgotten_loop_makes_no_other_thread_current() {
    let _dog = watchdog(60);
    let os = thread::spawn(|| {
        let tasks = ThreadLoop::new().unwrap();
        let os = tasks.thread();
        assert!(os.is_current());
        Box::leak(Box::new(tasks));
        os
    })
    .join()
    .unwrap();
    // Threads that come later may have everything that the first one had: its stack, its thread-locals.
    for _ in 0..8 {
        let os = os.clone();
        assert!(!thread::spawn(move || os.is_current()).join().unwrap());
    }
}

#[test]
fn background_tasks_come_second_and_not_never() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("lanes").unwrap();
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let log = Arc::clone(&log);
        move || {
            log.lock().unwrap().push(what);
            Ok(())
        }
    };
    let (mut first, mut second) = (os.group(), os.background().group());
    os.run(|| {
        second.go(note("background"));
        first.go(note("normal"));
        first.go(note("normal"));
    });
    first.wait().unwrap();
    second.wait().unwrap();
    assert_eq!(*log.lock().unwrap(), ["normal", "normal", "background"]);

    // From outside, in the same order, while the thread is taken up.
    log.lock().unwrap().clear();
    let (begun, end) = (mpsc::channel(), mpsc::channel::<()>());
    first.go(move || {
        begun.0.send(())?;
        end.1.recv()?;
        Ok(())
    });
    begun.1.recv().unwrap();
    second.go(note("background"));
    first.go(note("normal"));
    end.0.send(()).unwrap();
    first.wait().unwrap();
    second.wait().unwrap();
    assert_eq!(*log.lock().unwrap(), ["normal", "background"]);

    // A normal task that is always ready does not keep the others away for ever.
    let stop = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let stop = Arc::clone(&stop);
        first.go(move || {
            while stop.load(SeqCst) == 0 {
                yield_now();
            }
            Ok(())
        });
    }
    second.go(move || {
        yield_now();
        stop.store(1, SeqCst);
        Ok(())
    });
    first.wait().unwrap();
    second.wait().unwrap();
}
