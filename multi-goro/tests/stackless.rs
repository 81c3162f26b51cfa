//! Tasks that are futures: polled by the workers, without a stack while they wait.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]
#![expect(clippy::print_stdout, reason = "the seed has to be seen")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::watchdog;
use futures_util::future::{join_all, select_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, select};
use multi_goro::chan::RecvError;
use multi_goro::future::{block_on, cancelled, sleep, sleep_until};
use multi_goro::{
    Group, OsThread, Receiver, Result, Runtime, Sender, Spawner, TaskOptions, chan, task_local,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Gives the others a turn, once.
fn yield_async() -> impl Future<Output = ()> {
    let mut has_yielded = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, AcqRel);
    }
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
        text.contains("task 0 \"fails\" (goro, started at multi-goro/tests/stackless.rs:")
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
fn waker_outlives_its_task_and_its_runtime() {
    let _dog = watchdog(60);
    let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
    {
        let runtime = runtime(2);
        let mut group = runtime.group();
        for _ in 0..10 {
            let kept = Arc::clone(&kept);
            group.go_async(poll_fn(move |context| {
                kept.lock().unwrap().push(context.waker().clone());
                Poll::Ready(Ok(()))
            }));
        }
        group.wait().unwrap();
        // While the runtime is there,
        for waker in kept.lock().unwrap().iter() {
            waker.wake_by_ref();
        }
    }
    // and when it is gone; by others, too.
    let wakers = std::mem::take(&mut *kept.lock().unwrap());
    let threads: Vec<_> = wakers
        .into_iter()
        .map(|waker| {
            thread::spawn(move || {
                let other = waker.clone();
                assert!(other.will_wake(&waker));
                waker.wake_by_ref();
                waker.wake();
                drop(other);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn wake_during_a_poll_makes_another_poll() {
    let _dog = watchdog(60);
    for by_thread in [false, true] {
        let mut group = Group::new();
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        group.go_async(poll_fn(move |context| {
            if counted.fetch_add(1, Relaxed) == 2 {
                return Poll::Ready(Ok(()));
            }
            if by_thread {
                let waker = context.waker().clone();
                thread::spawn(move || waker.wake()).join().unwrap();
            } else {
                // Several are one.
                context.waker().wake_by_ref();
                let other = context.waker().clone();
                other.wake();
            }
            Poll::Pending
        }));
        group.wait().unwrap();
        assert_eq!(polls.load(Relaxed), 3);
    }
}

/// A future that is woken by many threads, again and again, while it runs and while it waits.
#[test]
fn waker_storms_lose_no_wake_and_never_poll_twice_at_once() {
    const THREADS: usize = 3;
    let seed = std::env::var("MULTI_STRESS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 | 1
        });
    let seconds = std::env::var("MULTI_STRESS_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(1);
    println!("MULTI_STRESS_SEED={seed} MULTI_STRESS_SECONDS={seconds}");
    let _dog = watchdog(seconds + 60);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = seed;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    while Instant::now() < until {
        let runtime = runtime(1 + next(3) as usize);
        let mut group = runtime.group();
        for _ in 0..1 + next(4) {
            let slot: Arc<Mutex<Option<Waker>>> = Arc::default();
            // Each event is announced, then woken for: the task must come to see them all.
            let events = Arc::new(AtomicUsize::new(0));
            let is_polled = Arc::new(AtomicBool::new(false));
            let each = 1 + next(200) as usize;
            let spin = next(200);
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (slot, events) = (Arc::clone(&slot), Arc::clone(&events));
                    thread::spawn(move || {
                        for n in 0..each {
                            events.fetch_add(1, Relaxed);
                            let waker = slot.lock().unwrap().clone();
                            if let Some(waker) = waker {
                                if n % 2 == 0 {
                                    waker.wake_by_ref();
                                } else {
                                    waker.wake();
                                }
                            }
                            for _ in 0..spin {
                                std::hint::spin_loop();
                            }
                        }
                    })
                })
                .collect();
            group.go_async(poll_fn(move |context| {
                assert!(!is_polled.swap(true, Relaxed), "polled twice at once");
                *slot.lock().unwrap() = Some(context.waker().clone());
                let seen = events.load(Relaxed);
                is_polled.store(false, Relaxed);
                if seen == THREADS * each {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }));
            for thread in threads {
                thread.join().unwrap();
            }
        }
        group.wait().unwrap();
        assert_eq!(runtime.num_tasks(), 0);
    }
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
fn limit_holds_for_futures() {
    let _dog = watchdog(60);
    let mut group = Group::builder().limit(2).build().unwrap();
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        group.go_async(async move {
            let now = running.fetch_add(1, AcqRel) + 1;
            most.fetch_max(now, AcqRel);
            yield_async().await;
            running.fetch_sub(1, AcqRel);
            Ok(())
        });
    }
    group.wait().unwrap();
    assert!((1..=2).contains(&most.load(Acquire)));
}

#[test]
fn go_at_the_limit_from_a_future_of_the_group_does_not_deadlock() {
    let _dog = watchdog(60);
    let mut group = Group::builder().limit(1).build().unwrap();
    let spawner = group.spawner();
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    group.go_async(async move {
        for _ in 0..3 {
            let counted = Arc::clone(&counted);
            spawner.go_async(async move {
                counted.fetch_add(1, Relaxed);
                Ok(())
            });
        }
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!(ran.load(Relaxed), 3);
}

#[test]
fn drop_of_a_group_cancels_its_futures() {
    let _dog = watchdog(60);
    let seen = Arc::new(AtomicBool::new(false));
    let group = Group::new();
    let (token, saw) = (group.cancel_token(), Arc::clone(&seen));
    group.go_async(async move {
        while !token.is_cancelled() {
            yield_async().await;
        }
        saw.store(true, Release);
        Ok(())
    });
    drop(group);
    assert!(seen.load(Acquire));
}

#[test]
fn groups_nest_in_futures() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let sum = group.spawn_async(async {
        // A wait inside a poll: it keeps its stack, and its worker runs the children.
        let mut inner = Group::new();
        let parts = [1, 2, 3].map(|n| {
            inner.spawn_async(async move {
                yield_async().await;
                Ok(n)
            })
        });
        inner.wait()?;
        let mut sum = 0;
        for part in parts {
            sum += part.join()?;
        }
        Ok(sum)
    });
    assert_eq!(sum.join().unwrap(), 6);
    group.wait().unwrap();
}

#[test]
fn locked_group_gives_a_future_a_thread() {
    let _dog = watchdog(60);
    let mut group = Group::locked();
    let (tx, rx) = chan(0);
    let here = thread::current().id();
    let sum = group.spawn_async(async move {
        assert_ne!(thread::current().id(), here);
        Ok(rx.recv_async().await? + rx.recv_async().await?)
    });
    group.go_async(async move {
        tx.send_async(1).await?;
        Ok(tx.send_async(2).await?)
    });
    assert_eq!(sum.join().unwrap(), 3);
    group.wait().unwrap();
}

task_local! {
    static LOCAL: RefCell<Vec<u32>> = RefCell::default();
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

#[test]
fn when_recv_starts_a_task_that_may_block() {
    let _dog = watchdog(60);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let (tx, rx) = chan(0);
    let (reply, replies) = chan(0);
    for _ in 0..10 {
        let (next, reply) = (rx.when_recv(), reply.clone());
        group.go_when(next, move |number: Result<u32, RecvError>| {
            multi_goro::sleep(Duration::from_millis(1));
            reply.send(number? * 2)?;
            Ok(())
        });
    }
    for n in 0..10 {
        tx.send(n).unwrap();
    }
    let sum: u32 = replies.iter().take(10).sum();
    assert_eq!(sum, 90);
    // And the end of a channel is a result like others.
    group.go_when_with(
        TaskOptions::new().name("late"),
        rx.when_recv(),
        |end: Result<u32, RecvError>| {
            assert_eq!(end, Err(RecvError));
            Ok(())
        },
    );
    drop(tx);
    group.wait().unwrap();
}

#[test]
fn operation_is_gone_when_its_task_begins() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    let (tx, rx) = chan(1);
    let operation = rx.when_recv();
    drop(rx);
    let sender = tx.clone();
    group.go_when(operation, move |value| {
        assert_eq!(value, Ok(7));
        assert!(sender.is_closed(), "the last receiver was the operation's");
        Ok(())
    });
    tx.send(7).unwrap();
    group.wait().unwrap();
    // Any future is an operation.
    group.go_when(ready(3), |three| {
        assert_eq!(three, 3);
        Ok(())
    });
    group.wait().unwrap();
}

fn stage(spawner: Spawner, rx: Receiver<u64>, tx: Sender<u64>) {
    let next = rx.when_recv();
    spawner.clone().go_when(next, move |value| {
        if let Ok(value) = value {
            tx.send(value + 1)?;
            stage(spawner, rx, tx);
        }
        Ok(())
    });
}

#[test]
fn pipeline_of_tasks_that_start_their_successors() {
    let _dog = watchdog(60);
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let mut group = runtime.group();
        let (first, mut last) = chan(0);
        for _ in 0..100 {
            let (tx, rx) = chan(0);
            stage(group.spawner(), last, tx);
            last = rx;
        }
        for n in 0..20 {
            first.send(n).unwrap();
            assert_eq!(last.recv(), Ok(n + 100));
        }
        drop(first);
        assert_eq!(last.recv(), Err(RecvError));
        group.wait().unwrap();
    }
}

/// Polls once, with a waker that counts.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn dropped_receive_leaves_the_queue() {
    let _dog = watchdog(60);
    let (tx, rx) = chan(0);
    let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(rx.recv_async())).collect();
    for future in &mut waiting {
        assert!(poll_once(future).is_pending());
    }
    assert!(format!("{:?}", waiting[0]).contains("is_waiting: true"));
    drop(waiting.remove(2));
    drop(waiting.remove(0));
    for n in 0..3 {
        tx.try_send(n).unwrap();
    }
    assert!(tx.try_send(3).is_err(), "nobody is left");
    for (n, future) in waiting.iter_mut().enumerate() {
        assert_eq!(poll_once(future), Poll::Ready(Ok(n)));
    }
}

#[test]
fn value_given_to_a_dropped_receive_goes_to_who_waits_next() {
    let _dog = watchdog(60);
    let (tx, rx) = chan(0);
    let mut first = Box::pin(rx.recv_async());
    let mut second = Box::pin(rx.recv_async());
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    tx.try_send(1).unwrap();
    // It has the value, and was not polled.
    drop(first);
    assert_eq!(poll_once(&mut second), Poll::Ready(Ok(1)));
    // A thread that waits gets it, too.
    let mut first = Box::pin(rx.recv_async());
    assert!(poll_once(&mut first).is_pending());
    thread::scope(|s| {
        let thread = s.spawn(|| rx.recv());
        thread::sleep(Duration::from_millis(5));
        tx.send(2).unwrap();
        drop(first);
        assert_eq!(thread.join().unwrap(), Ok(2));
    });
}

#[test]
fn value_given_to_a_dropped_receive_stays_first_in_the_channel() {
    let _dog = watchdog(60);
    for capacity in [0, 1, 3] {
        let (tx, rx) = chan(capacity);
        let mut given = Box::pin(rx.recv_async());
        assert!(poll_once(&mut given).is_pending());
        tx.try_send(0).unwrap();
        for n in 1..=capacity {
            tx.try_send(n).unwrap();
        }
        assert!(tx.try_send(9).is_err(), "full");
        // One more than fits, until it is received.
        drop(given);
        assert_eq!(rx.len(), capacity + 1);
        let mut sending = Box::pin(tx.send_async(capacity + 1));
        assert!(poll_once(&mut sending).is_pending());
        for n in 0..=capacity {
            assert_eq!(rx.try_recv(), Ok(n));
        }
        assert_eq!(rx.try_recv(), Ok(capacity + 1));
        assert_eq!(poll_once(&mut sending), Poll::Ready(Ok(())));
        assert!(rx.is_empty());
        // It is the channel's last: received after its end, too.
        let mut given = Box::pin(rx.recv_async());
        assert!(poll_once(&mut given).is_pending());
        tx.try_send(7).unwrap();
        tx.close();
        drop(given);
        assert_eq!(rx.recv(), Ok(7));
        assert_eq!(rx.recv(), Err(RecvError));
    }
}

#[test]
fn dropped_send_has_sent_its_value_or_drops_it() {
    let _dog = watchdog(60);
    let drops = Arc::new(AtomicUsize::new(0));
    let value = || Dropped(Arc::clone(&drops));
    let (tx, rx) = chan(0);
    // Never polled, and polled: not sent.
    drop(tx.send_async(value()));
    let mut waiting = Box::pin(tx.send_async(value()));
    assert!(poll_once(&mut waiting).is_pending());
    drop(waiting);
    assert_eq!(drops.load(Relaxed), 2);
    assert!(rx.try_recv().is_err());
    // Taken, then dropped: sent.
    let mut waiting = Box::pin(tx.send_async(value()));
    assert!(poll_once(&mut waiting).is_pending());
    let got = rx.try_recv().unwrap();
    drop(waiting);
    assert_eq!(drops.load(Relaxed), 2);
    drop(got);
    // The channel ends while it waits: given back.
    let mut waiting = Box::pin(tx.send_async(value()));
    assert!(poll_once(&mut waiting).is_pending());
    drop(rx);
    assert!(matches!(poll_once(&mut waiting), Poll::Ready(Err(_))));
    assert_eq!(drops.load(Relaxed), 4);
}

#[test]
fn newest_waker_is_the_one_that_is_woken() {
    let _dog = watchdog(60);
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let counts: [Arc<Count>; 2] = Default::default();
    let wakers = counts.clone().map(Waker::from);
    let (tx, rx) = chan(0);
    let mut future = Box::pin(rx.recv_async());
    for waker in [&wakers[0], &wakers[0], &wakers[1]] {
        let mut context = Context::from_waker(waker);
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    drop(wakers);
    // Its clone in the queue is gone.
    assert_eq!(Arc::strong_count(&counts[0]), 1);
    tx.try_send(7).unwrap();
    assert_eq!(counts.each_ref().map(|c| c.0.load(Relaxed)), [0, 1]);
    assert_eq!(Arc::strong_count(&counts[1]), 1);
    assert_eq!(poll_once(&mut future), Poll::Ready(Ok(7)));
}

#[test]
fn waker_that_panics_harms_nobody_else() {
    let _dog = watchdog(60);
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("a waker of somebody's");
        }
    }
    let (tx, rx) = chan::<u8>(0);
    let bomb = Waker::from(Arc::new(Bomb));
    let mut future = Box::pin(rx.recv_async());
    let mut context = Context::from_waker(&bomb);
    assert!(future.as_mut().poll(&mut context).is_pending());
    thread::scope(|s| {
        let other = s.spawn(|| rx.recv());
        thread::sleep(Duration::from_millis(5));
        tx.close();
        assert_eq!(other.join().unwrap(), Err(RecvError));
    });
    assert_eq!(poll_once(&mut future), Poll::Ready(Err(RecvError)));
}

#[test]
fn combinators_of_others_select_and_join() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    let (tx_a, a) = chan(0);
    let (tx_b, b) = chan(0);
    let (stop, stopped) = chan::<()>(0);
    let sum = group.spawn_async(async move {
        let (mut sum, mut count) = (0u64, 0);
        loop {
            select! {
                value = a.recv_async().fuse() => sum += value.unwrap_or(0),
                value = b.recv_async().fuse() => sum += value.unwrap_or(0),
                _ended = stopped.recv_async().fuse() => break,
            }
            count += 1;
        }
        // Nothing was lost with the futures that were dropped.
        sum += a.try_iter().sum::<u64>() + b.try_iter().sum::<u64>();
        assert!(count <= 2000);
        Ok(sum)
    });
    let senders = [tx_a, tx_b].map(|tx| {
        group.spawn_async(async move {
            for n in 0..1000u64 {
                tx.send_async(n).await?;
            }
            Ok(tx)
        })
    });
    let open: Vec<_> = senders.into_iter().map(|s| s.join().unwrap()).collect();
    drop(stop);
    assert_eq!(sum.join().unwrap(), 2 * 499_500);
    drop(open);

    let (tx, rx) = chan(4);
    group.go_async(async move {
        let all = join_all((0..10).map(|n| tx.send_async(n))).await;
        assert!(all.iter().all(std::result::Result::is_ok));
        Ok(())
    });
    group.go_async(async move {
        let mut waiting: FuturesUnordered<_> = (0..10).map(|_| rx.recv_async()).collect();
        let mut got = BTreeSet::new();
        while let Some(value) = waiting.next().await {
            got.insert(value?);
        }
        assert_eq!(got.len(), 10);
        let never = pending::<u8>().left_future();
        let now = ready(1u8).right_future();
        assert_eq!(select_all([never, now]).await.0, 1);
        Ok(())
    });
    group.wait().unwrap();
}

#[test]
fn futures_tasks_and_threads_share_a_channel() {
    let _dog = watchdog(120);
    const EACH: u64 = 500;
    for capacity in [0, 1, 7] {
        let runtime = runtime(2);
        let mut group = runtime.group();
        let (tx, rx) = chan(capacity);
        let mut sums = Vec::new();
        for _ in 0..2 {
            let (to, from) = (tx.clone(), rx.clone());
            group.go_async(async move {
                for n in 0..EACH {
                    to.send_async(n).await?;
                }
                Ok(())
            });
            sums.push(group.spawn_async(async move {
                let mut sum = 0;
                while let Ok(n) = from.recv_async().await {
                    sum += n;
                }
                Ok(sum)
            }));
            let (to, from) = (tx.clone(), rx.clone());
            group.go(move || (0..EACH).try_for_each(|n| Ok(to.send(n)?)));
            sums.push(group.spawn(move || Ok(from.iter().sum())));
        }
        let to = tx.clone();
        let thread =
            thread::spawn(move || (0..EACH).for_each(|n| block_on(to.send_async(n)).unwrap()));
        drop(tx);
        thread.join().unwrap();
        drop(rx);
        let sum: u64 = sums.into_iter().map(|sum| sum.join().unwrap()).sum();
        assert_eq!(sum, 5 * EACH * (EACH - 1) / 2);
        group.wait().unwrap();
    }
}

#[test]
fn sleep_is_not_early_and_limits_others() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    let pause = Duration::from_millis(5);
    for _ in 0..20 {
        group.go_async(async move {
            let before = Instant::now();
            sleep(pause).await;
            assert!(before.elapsed() >= pause);
            sleep_until(before).await;
            Ok(())
        });
    }
    let (tx, rx) = chan::<u8>(0);
    let (ask, asked) = chan::<()>(0);
    group.go_async(async move {
        for _ in 0..3 {
            select! {
                value = rx.recv_async().fuse() => panic!("{value:?} from nobody"),
                _time = sleep(pause).fuse() => {}
            }
        }
        ask.send_async(()).await?;
        // A limit that is not needed goes with its future.
        select! {
            value = rx.recv_async().fuse() => assert_eq!(value, Ok(9)),
            _time = sleep(Duration::MAX).fuse() => unreachable!(),
        }
        Ok(())
    });
    group.go_async(async move {
        asked.recv_async().await?;
        Ok(tx.send_async(9).await?)
    });
    group.wait().unwrap();
    block_on(sleep(Duration::from_millis(1)));
}

#[test]
fn cancelled_resolves_for_all_who_wait() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    for n in 0..20 {
        let token = group.cancel_token();
        group.go_async(async move {
            if n % 2 == 0 {
                yield_async().await;
            }
            cancelled(&token).await;
            Err(token.check().unwrap_err().into())
        });
    }
    let token = group.cancel_token();
    assert!(poll_once(&mut cancelled(&token)).is_pending());
    group.cancel();
    assert!(poll_once(&mut cancelled(&token)).is_ready());
    let error = group.wait().unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn futures_may_be_bound_to_one_thread() {
    let _dog = watchdog(60);
    let thread = OsThread::spawn("bound").unwrap();
    let mut group = Group::builder().os_thread(&thread).build().unwrap();
    let (tx, rx) = chan(0);
    for _ in 0..10 {
        let rx = rx.clone();
        group.go_async(async move {
            for n in 0..10 {
                assert_eq!(thread::current().name(), Some("bound"));
                if n % 3 == 0 {
                    yield_async().await;
                } else {
                    rx.recv_async().await?;
                }
            }
            Ok(())
        });
    }
    // Woken by a thread, and by a task of other workers.
    for n in 0..30 {
        tx.send(n).unwrap();
    }
    Group::new()
        .spawn(move || (30..60).try_for_each(|n| Ok(tx.send(n)?)))
        .join()
        .unwrap();
    group.wait().unwrap();
}

#[test]
fn futures_of_a_thread_are_receivers_to_lock_to() {
    let _dog = watchdog(60);
    let thread = OsThread::spawn("served").unwrap();
    let home = thread.run(|| thread::current().id());
    let (tx, rx) = chan::<u8>(0);
    let mut group = Group::builder().os_thread(&thread).build().unwrap();
    let here = || thread::current().id();
    // It waits for a receiver,
    let early = {
        let tx = tx.clone();
        thread::spawn(move || tx.lock_to_receiver(here).unwrap())
    };
    thread::sleep(Duration::from_millis(5));
    let from = rx.clone();
    group.go_async(async move {
        assert_eq!(from.recv_async().await, Ok(1));
        Ok(())
    });
    assert_eq!(early.join().unwrap(), home);
    // and finds one that waits.
    assert_eq!(tx.lock_to_receiver(here).unwrap(), home);
    tx.send(1).unwrap();
    group.wait().unwrap();
    // A future that is no task of a thread's is none, whoever polls it.
    let mut nobody = Box::pin(rx.recv_async());
    assert!(poll_once(&mut nobody).is_pending());
    assert!(tx.lock_to_receiver(here).is_err());
}

/// Receives are dropped at any moment while senders are busy: every value is received once.
#[test]
fn cancelled_receives_lose_nothing() {
    let _dog = watchdog(120);
    const EACH: u64 = 3_000;
    for capacity in [0, 2] {
        let runtime = runtime(2);
        let mut group = runtime.group();
        let (tx, rx) = chan(capacity);
        for _ in 0..2 {
            let tx = tx.clone();
            group.go_async(async move {
                for n in 0..EACH {
                    tx.send_async(n).await?;
                    if n % 7 == 0 {
                        yield_async().await;
                    }
                }
                Ok(())
            });
        }
        drop(tx);
        let sums: Vec<_> = (0..3)
            .map(|_| {
                let rx = rx.clone();
                group.spawn_async(async move {
                    let mut sum = 0;
                    loop {
                        // The other branch is ready at its second poll, and then this one is dropped, whatever it has.
                        select! {
                            value = rx.recv_async().fuse() => match value {
                                Ok(n) => sum += n,
                                Err(RecvError) => return Ok(sum),
                            },
                            _now = yield_async().fuse() => {}
                        }
                    }
                })
            })
            .collect();
        drop(rx);
        let sum: u64 = sums.into_iter().map(|sum| sum.join().unwrap()).sum();
        assert_eq!(sum, 2 * EACH * (EACH - 1) / 2);
        group.wait().unwrap();
    }
}

/// Polling a future after its end is a bug of who polls, and nobody else's: the others on the channel go on.
#[test]
fn send_polled_after_its_end_panics_and_leaves_the_channel_whole() {
    let _dog = watchdog(60);
    let (tx, rx) = chan::<u32>(4);
    let mut context = Context::from_waker(Waker::noop());
    let mut send = Box::pin(tx.send_async(1));
    assert!(send.as_mut().poll(&mut context).is_ready());
    let again = catch_unwind(AssertUnwindSafe(|| {
        send.as_mut().poll(&mut context).is_ready()
    }));
    assert!(again.is_err());
    drop(send);
    tx.send(2).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
}
