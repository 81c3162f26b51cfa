//! Operations of channels that are dropped before they are over: nothing is lost, nothing is given twice.

use super::*;

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
