//! Operations of channels as futures, and tasks that begin with one.

use super::*;

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
