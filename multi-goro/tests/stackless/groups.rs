//! Futures as tasks of groups, with limits, times and threads.

use super::*;

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
