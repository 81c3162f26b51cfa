//! How a future runs as a task: its polls, its end, what it costs while it waits.

use super::*;

task_local! {
    static LOCAL: RefCell<Vec<u32>> = RefCell::default();
}

#[test]
fn futures_run_to_their_end_and_bring_values_home() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let handles: Vec<_> = (0..1000u64)
        .map(|n| {
            group.spawn_async(async move {
                yield_async().await;
                Ok(n)
            })
        })
        .collect();
    let sum: u64 = handles
        .into_iter()
        .map(|handle| handle.join().unwrap())
        .sum();
    assert_eq!(sum, 499_500);
    group.wait().unwrap();
    assert_eq!(runtime.num_tasks(), 0);
}

#[test]
fn failures_and_panics_come_home_with_their_task() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    group.go_async_with(TaskOptions::new().name("fails"), async {
        yield_async().await;
        Err("no luck".into())
    });
    group.go_async_with(TaskOptions::new().name("panics"), async {
        yield_async().await;
        panic!("in a poll");
    });
    group.go_async(async { Ok(()) });
    let error = group.wait().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("2 of 3 tasks failed"), "{text}");
    assert!(
        text.contains("task 0 \"fails\" (goro, started at multi-goro/tests/stackless/life.rs:")
            && text.contains("no luck"),
        "{text}"
    );
    assert!(
        text.contains("task 1 \"panics\" (goro, ") && text.contains("in a poll"),
        "{text}"
    );
    // And a value's handle hears of it.
    let lost = group.spawn_async::<u8, _>(async { panic!("no value") });
    assert!(lost.join().unwrap_err().to_string().contains("no value"));
    assert!(group.wait().is_err());
}

#[test]
fn future_is_dropped_once_before_its_end_is_known() {
    let _dog = watchdog(60);
    for ending in ["ready", "fails", "panics", "panics when dropped"] {
        let drops = Arc::new(AtomicUsize::new(0));
        let held = Dropped(Arc::clone(&drops));
        let mut group = Group::new();
        group.go_async(async move {
            struct Bomb(bool);
            impl Drop for Bomb {
                fn drop(&mut self) {
                    assert!(!self.0, "dropped");
                }
            }
            let _held = held;
            let _bomb = Bomb(ending == "panics when dropped");
            yield_async().await;
            match ending {
                "fails" => Err("as told".into()),
                "panics" => panic!("as told"),
                _ => Ok(()),
            }
        });
        assert_eq!(group.wait().is_err(), ending != "ready", "{ending}");
        assert_eq!(drops.load(Acquire), 1, "{ending}");
    }
}

#[test]
fn refused_future_is_dropped_and_its_task_says_why() {
    let _dog = watchdog(60);
    let drops = Arc::new(AtomicUsize::new(0));
    let mut group = {
        let runtime = runtime(1);
        runtime.group()
    };
    let held = Dropped(Arc::clone(&drops));
    group.go_async(async move {
        drop(held);
        Ok(())
    });
    let error = group.wait().unwrap_err().to_string();
    assert!(error.contains("has been shut down"), "{error}");
    assert_eq!(drops.load(Acquire), 1);
}

#[test]
fn poll_may_wait_as_a_task_does() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let (tx, rx) = chan(0);
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let given = Arc::clone(&waker);
    let mut got = Vec::new();
    group.go_async(poll_fn(move |context| {
        *given.lock().unwrap() = Some(context.waker().clone());
        // Parks, and keeps a stack meanwhile.
        got.push(rx.recv().unwrap());
        if got.len() < 3 {
            return Poll::Pending;
        }
        assert_eq!(got, [1, 2, 3]);
        Poll::Ready(Ok(()))
    }));
    group.go(move || {
        for n in 1..=3 {
            tx.send(n)?;
            // Woken while it is in its poll, or after.
            waker.lock().unwrap().as_ref().unwrap().wake_by_ref();
        }
        Ok(())
    });
    group.wait().unwrap();
}

#[test]
fn stacks_are_needed_while_polled_only() {
    let _dog = watchdog(120);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    let before = mapped_bytes();
    for _ in 0..100_000 {
        let rx = rx.clone();
        group.go_async(async move {
            assert_eq!(rx.recv_async().await, Err(RecvError));
            Ok(())
        });
    }
    while runtime.num_tasks() < 100_000 {
        thread::yield_now();
    }
    let grown = mapped_bytes().saturating_sub(before);
    // With stacks it would be 6.4 GB of addresses.
    assert!(grown < 1 << 30, "{grown} bytes of addresses");
    drop(tx);
    group.wait().unwrap();
}

fn mapped_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn million_futures_wait_at_once() {
    let _dog = watchdog(240);
    let count = if cfg!(debug_assertions) {
        200_000
    } else {
        1_000_000
    };
    let runtime = runtime(2);
    let (tx, rx) = chan(0);
    let mut group = runtime.group();
    let sum = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let (rx, sum) = (rx.clone(), Arc::clone(&sum));
        group.go_async(async move {
            sum.fetch_add(rx.recv_async().await?, Relaxed);
            Ok(())
        });
    }
    for n in 0..count {
        tx.send(n).unwrap();
    }
    group.wait().unwrap();
    assert_eq!(sum.load(Relaxed), count * (count - 1) / 2);
}

#[test]
fn task_local_values_last_for_one_poll() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    group.go_async(async {
        LOCAL.with(|local| local.borrow_mut().push(1));
        LOCAL.with(|local| assert_eq!(*local.borrow(), [1]));
        yield_async().await;
        LOCAL.with(|local| assert!(local.borrow().is_empty()));
        Ok(())
    });
    group.wait().unwrap();
}

#[test]
fn one_that_always_wakes_itself_lets_others_run() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    group.go_async(async move {
        while !told.load(Acquire) {
            yield_async().await;
        }
        Ok(())
    });
    group.go(move || {
        multi_goro::sleep(Duration::from_millis(5));
        multi_goro::yield_now();
        stop.store(true, Release);
        Ok(())
    });
    group.wait().unwrap();
}

#[test]
fn all_workers_poll() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let mut group = runtime.group();
    let threads: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let both = Arc::clone(&threads);
    for _ in 0..4 {
        let threads = Arc::clone(&both);
        group.go_async(async move {
            while threads.lock().unwrap().len() < 2 {
                let name = thread::current().name().map(str::to_owned);
                threads.lock().unwrap().insert(name.unwrap_or_default());
                yield_async().await;
            }
            Ok(())
        });
    }
    group.wait().unwrap();
    assert_eq!(threads.lock().unwrap().len(), 2);
}
