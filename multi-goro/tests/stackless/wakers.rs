//! Wakers: they outlive their tasks, are called at any moment, and may be anybody's.

use super::*;

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
