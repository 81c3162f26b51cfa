//! Tasks with an OS thread of their own among green ones, and calls that go to the thread of a channel's receiver.

mod common;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use common::watchdog;
use multi_goro::chan::TryRecvError;
use multi_goro::future::block_on;
use multi_goro::{
    Group, OsThread, Runtime, TaskOptions, chan, num_tasks, select, sleep, yield_now,
};

fn here() -> thread::ThreadId {
    thread::current().id()
}

#[test]
fn locked_tasks_have_a_thread_each_and_share_the_groups_wait() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    let (tx, rx) = chan(0);
    for _ in 0..4 {
        let tx = tx.clone();
        group.go_locked(move || Ok(tx.send(here())?));
    }
    let spawner = group.spawner();
    group.go(move || {
        let tx = tx.clone();
        spawner.go_locked_with(TaskOptions::new().name("by a task"), move || {
            assert_eq!(thread::current().name(), Some("by a task"));
            Ok(tx.send(here())?)
        });
        Ok(())
    });
    let threads: HashSet<_> = rx.iter().collect();
    assert_eq!(
        threads.len(),
        5,
        "while one waits the others have threads of their own"
    );
    group.wait().unwrap();

    group.go_locked(|| Err("locked".into()));
    group.go(|| Err("green".into()));
    group.go_locked(|| panic!("loud"));
    let error = group.wait().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.failures().len(), 3, "{text}");
    for part in ["locked", "green", "loud"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn locked_task_counts_for_the_limit_and_leaves_green_workers_alone() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mut group = Group::builder().runtime(&runtime).limit(1).build().unwrap();
    let (tx, rx) = chan::<()>(0);
    group.go_locked(move || {
        // Blocks its thread, and no worker.
        thread::sleep(Duration::from_millis(20));
        drop(tx);
        Ok(())
    });
    group.go(move || {
        assert!(
            rx.try_recv()
                .is_err_and(|error| error == TryRecvError::Closed)
        );
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!(runtime.run(|| 7), 7);
}

#[test]
fn group_made_in_a_locked_task_is_green() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    group.go_locked(|| {
        let mut inner = Group::new();
        let elsewhere = inner.spawn(|| Ok(here()));
        assert_ne!(elsewhere.join()?, here());
        inner.wait()?;
        Ok(())
    });
    group.wait().unwrap();
}

/// A bound server that answers with its argument and one.
fn server() -> (OsThread, multi_goro::Sender<(u32, multi_goro::Sender<u32>)>) {
    let thread = OsThread::spawn("server").unwrap();
    let (tx, rx) = chan::<(u32, multi_goro::Sender<u32>)>(0);
    thread.go(move || {
        for (question, reply) in rx.iter() {
            reply.send(question + 1)?;
        }
        Ok(())
    });
    (thread, tx)
}

#[test]
fn caller_moves_to_the_thread_of_who_receives() {
    let _dog = watchdog(60);
    let (thread, tx) = server();
    let home = thread.run(here);
    let mut group = Group::new();
    for n in 0..100 {
        let tx = tx.clone();
        group.go(move || {
            let before = here();
            let (reply, answer) = chan(0);
            let mut local = 0;
            tx.lock_to_receiver(|| {
                assert_eq!(here(), home);
                for round in 0..10 {
                    tx.send((n + round, reply.clone())).unwrap();
                    local = answer.recv().unwrap();
                    assert_eq!(local, n + round + 1);
                }
            })?;
            assert_eq!((here(), local), (before, n + 10), "unlocked again");
            Ok(())
        });
    }
    group.wait().unwrap();
}

#[test]
fn closed_channel_is_an_error() {
    let _dog = watchdog(60);
    let (tx, rx) = chan::<u8>(1);
    tx.send(1).unwrap();
    tx.close();
    for error in [
        tx.lock_to_receiver(|| ()).unwrap_err(),
        rx.lock_to_receiver(|| ()).unwrap_err(),
    ] {
        assert!(error.is_closed(), "{error}");
        assert!(error.to_string().contains("closed channel"), "{error}");
    }
}

#[test]
fn it_waits_until_somebody_receives() {
    let _dog = watchdog(60);
    let thread = OsThread::spawn("late").unwrap();
    let home = thread.run(here);
    let (tx, rx) = chan::<u8>(0);
    let mut group = Group::new();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let tx = tx.clone();
            group.spawn(move || Ok(tx.lock_to_receiver(here)?))
        })
        .collect();
    let from_outside = {
        let tx = tx.clone();
        thread::spawn(move || tx.lock_to_receiver(here).unwrap())
    };
    sleep(Duration::from_millis(20));
    assert!(!from_outside.is_finished());
    let receiving = rx.clone();
    thread.go(move || Ok(receiving.recv().map(drop)?));
    for caller in callers {
        assert_eq!(caller.join().unwrap(), home);
    }
    assert_eq!(from_outside.join().unwrap(), home);
    tx.send(1).unwrap();
    group.wait().unwrap();
    drop(rx);
}

#[test]
fn it_waits_until_somebody_selects_or_the_channel_is_closed() {
    let _dog = watchdog(60);
    let thread = OsThread::spawn("selects").unwrap();
    let home = thread.run(here);
    let (tx, rx) = chan::<u8>(0);
    let caller = {
        let tx = tx.clone();
        thread::spawn(move || (tx.lock_to_receiver(here), tx))
    };
    thread.go(move || {
        let (_keep, other) = chan::<u8>(0);
        select! {
            recv(rx) -> value => assert_eq!(value, Ok(1)),
            recv(other) -> _value => unreachable!("nobody sends"),
        }
        Ok(())
    });
    let (there, tx) = caller.join().unwrap();
    assert_eq!(there.unwrap(), home);
    tx.send(1).unwrap();

    let (tx, rx) = chan::<u8>(0);
    let caller = thread::spawn(move || tx.lock_to_receiver(here));
    sleep(Duration::from_millis(20));
    rx.close();
    assert!(caller.join().unwrap().unwrap_err().is_closed());
}

#[test]
fn caller_that_is_locked_is_an_error() {
    let _dog = watchdog(60);
    let (_thread, tx) = server();
    let mut group = Group::new();
    let again = tx.clone();
    group.go_locked(move || {
        assert!(
            again
                .lock_to_receiver(|| ())
                .unwrap_err()
                .is_caller_locked()
        );
        Ok(())
    });
    group.wait().unwrap();
    let other = OsThread::spawn("other").unwrap();
    other.run(|| assert!(tx.lock_to_receiver(|| ()).unwrap_err().is_caller_locked()));
    let nested = tx.lock_to_receiver(|| tx.lock_to_receiver(|| ())).unwrap();
    assert!(nested.unwrap_err().is_caller_locked());
}

#[test]
fn receiver_that_is_not_bound_is_an_error() {
    let _dog = watchdog(60);
    for locked in [false, true] {
        let (tx, rx) = chan::<u8>(0);
        let mut group = Group::new();
        let receive = move || Ok(rx.recv().map(drop)?);
        if locked {
            group.go_locked(receive);
        } else {
            group.go(receive);
        }
        let error = tx.lock_to_receiver(|| ()).unwrap_err();
        assert!(error.is_receiver_not_locked(), "{error}");
        tx.send(1).unwrap();
        group.wait().unwrap();
    }
}

#[test]
fn future_polled_by_nobodys_task_is_bound_to_no_thread() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("polls").unwrap();
    for looks_first in [false, true] {
        let (tx, rx) = chan::<u8>(0);
        let caller = thread::spawn(move || {
            if !looks_first {
                thread::sleep(Duration::from_millis(20));
            }
            let error = tx.lock_to_receiver(|| ()).unwrap_err();
            tx.send(1).unwrap();
            error
        });
        if looks_first {
            thread::sleep(Duration::from_millis(20));
        }
        // Where it is polled does not matter: another time it may be polled elsewhere.
        assert_eq!(os.run(|| block_on(rx.recv_async())), Ok(1));
        let error = caller.join().unwrap();
        assert!(error.is_receiver_not_locked(), "{error}");
    }
}

#[test]
fn panic_there_goes_on_here_and_unlocks() {
    let _dog = watchdog(60);
    let (_thread, tx) = server();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let panic = catch_unwind(AssertUnwindSafe(|| tx.lock_to_receiver(|| panic!("there"))));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"there"));
        yield_now();
        assert_eq!(
            tx.lock_to_receiver(num_tasks).unwrap(),
            2,
            "the server and this"
        );
    });
}
