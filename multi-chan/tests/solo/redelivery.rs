//! `Delivery::AtLeastOnce`: messages whose receivers die, panic, forget or give them back.

#![expect(unsafe_code, reason = "drops a child's copies of handles")]

use crate::support::{Child, Random, fork, linger, pause, pause_us};
use multi_chan::KillPoint::{GivenBack, Taken, Undone};
use multi_chan::{Builder, Delivery, KillPoint, Receiver, Sender, channel, kill_at, spsc};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

crate::tests![
    a_killed_receivers_message_comes_again,
    a_message_given_back_comes_before_newer_ones,
    a_message_given_back_wakes_a_sleeper,
    a_panic_gives_the_message_back,
    attempts_are_counted_across_deaths,
    a_receive_that_died_before_it_returned_was_no_attempt,
    a_receiver_killed_while_giving_back_loses_nothing,
    a_survivor_killed_while_returning_loses_nothing,
    a_closed_channel_ends_when_nothing_can_come_back,
    a_channel_without_senders_ends_when_nothing_can_come_back,
    a_thread_does_not_wait_for_what_it_holds_itself,
    a_forgotten_message_comes_again_when_its_process_leaves,
    a_childs_copy_gives_nothing_back,
    batches_and_len_count_what_came_back,
    a_work_queue_with_dying_workers_does_every_job,
    where_nothing_comes_back_giving_back_is_refused,
];

const SOON: Duration = Duration::from_millis(20);

fn at_least_once(capacity: usize) -> (Sender<u64>, Receiver<u64>) {
    let builder = Builder::new()
        .capacity(capacity)
        .delivery(Delivery::AtLeastOnce);
    builder.build().unwrap()
}

/// Takes a message and holds it.
fn holder(rx: &Receiver<u64>) -> Child {
    let (ready_tx, ready) = channel::<u8>(1).unwrap();
    let child = fork(|| {
        let _message = rx.recv_ref().unwrap();
        ready_tx.send(1).unwrap();
        linger()
    });
    ready.recv().unwrap();
    child
}

fn dying(rx: &Receiver<u64>, point: KillPoint) {
    fork(|| {
        kill_at(point);
        let message = rx.recv_ref().unwrap();
        message.give_back();
    })
    .killed();
}

fn a_killed_receivers_message_comes_again() {
    for capacity in [0, 1, 2, 17] {
        let (tx, rx) = at_least_once(capacity);
        let sender = fork(|| {
            for value in 1..=40 {
                tx.send(value).unwrap();
            }
        });
        let mut received = 0;
        for round in 0..40 {
            if round % 4 == 0 && received < 40 {
                let holder = holder(&rx);
                // Somebody sleeps in the meantime, or finds it later.
                let sleeper = (round % 8 == 0).then(|| fork(|| assert!(rx.recv().is_ok())));
                holder.kill();
                if let Some(sleeper) = sleeper {
                    sleeper.join();
                    received += 1;
                }
            }
            if received < 40 {
                rx.recv_timeout(Duration::from_secs(5)).unwrap();
                received += 1;
            }
        }
        while received < 40 {
            rx.recv().unwrap();
            received += 1;
        }
        sender.join();
        assert!(rx.try_recv().unwrap_err().is_empty() && rx.is_empty());
        assert_eq!(rx.dropped(), 0);
    }
}

fn a_message_given_back_comes_before_newer_ones() {
    let (tx, rx) = at_least_once(4);
    for lap in 0..20 {
        tx.send_batch(&[lap, lap + 1, lap + 2]).unwrap();
        let first = rx.recv_ref().unwrap();
        let second = rx.recv_ref().unwrap();
        assert!(!first.redelivered());
        second.give_back();
        first.give_back();
        let again: Vec<_> = (0..3).map(|_| rx.recv_delivery().unwrap()).collect();
        let attempts = |i: usize| (again[i].value, again[i].attempts, again[i].redelivered());
        assert_eq!(attempts(2), (lap + 2, 1, false));
        let mut old = [attempts(0), attempts(1)];
        old.sort_unstable();
        assert_eq!(old, [(lap, 2, true), (lap + 1, 2, true)]);
    }
    assert!(rx.is_empty());
}

fn a_message_given_back_wakes_a_sleeper() {
    for capacity in [0, 1, 4] {
        let (tx, rx) = at_least_once(capacity);
        let sender = fork(|| tx.send(3).unwrap());
        let message = rx.recv_ref().unwrap();
        sender.join();
        let sleeper = fork(|| assert_eq!(rx.recv(), Ok(3)));
        pause(10);
        message.give_back();
        sleeper.join();
    }
}

fn a_panic_gives_the_message_back() {
    let (tx, rx) = at_least_once(2);
    tx.send(5).unwrap();
    std::panic::set_hook(Box::new(|_| ()));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _message = rx.recv_ref().unwrap();
        panic!("on purpose");
    }));
    drop(std::panic::take_hook());
    assert!(panicked.is_err());
    let message = rx.try_recv_ref().unwrap();
    assert_eq!((*message, message.attempts()), (5, 2));
}

fn attempts_are_counted_across_deaths() {
    for capacity in [0, 1, 3] {
        let (tx, rx) = at_least_once(capacity);
        let sender = fork(|| tx.send(9).unwrap());
        for _ in 0..3 {
            holder(&rx).kill();
        }
        let message = rx.recv_ref().unwrap();
        assert_eq!((*message, message.attempts()), (9, 4));
        assert!(message.redelivered());
        drop(message);
        sender.join();
        // The next message in the slot begins anew.
        for value in 0..4 {
            let sender = fork(|| tx.send(value).unwrap());
            assert_eq!(rx.recv_ref().unwrap().attempts(), 1);
            sender.join();
        }
    }
}

fn a_receive_that_died_before_it_returned_was_no_attempt() {
    let (tx, rx) = at_least_once(2);
    tx.send(1).unwrap();
    fork(|| {
        kill_at(Taken);
        rx.recv().ok();
    })
    .killed();
    dying(&rx, Taken);
    let received = rx.recv_delivery().unwrap();
    assert_eq!((received.value, received.attempts), (1, 1));
}

fn a_receiver_killed_while_giving_back_loses_nothing() {
    for capacity in [0, 1, 2] {
        let (tx, rx) = at_least_once(capacity);
        let sender = fork(|| tx.send(1).unwrap());
        let sleeper = {
            dying(&rx, GivenBack);
            fork(|| assert_eq!(rx.recv_delivery().unwrap().attempts, 2))
        };
        sleeper.join();
        sender.join();
        let sender = fork(|| tx.send(2).unwrap());
        let sleeping = fork(|| assert_eq!(rx.recv(), Ok(2)));
        sleeping.join();
        sender.join();
    }
}

fn a_survivor_killed_while_returning_loses_nothing() {
    for _ in 0..5 {
        let (tx, rx) = at_least_once(2);
        tx.send(1).unwrap();
        let first = holder(&rx);
        let survivor = fork(|| {
            kill_at(Undone);
            rx.recv().ok();
        });
        pause(8);
        first.kill();
        survivor.killed();
        let received = rx.recv_delivery().unwrap();
        assert_eq!((received.value, received.attempts), (1, 2));
    }
}

fn a_closed_channel_ends_when_nothing_can_come_back() {
    for dies in [false, true] {
        let (tx, rx) = at_least_once(2);
        tx.send(1).unwrap();
        let message = rx.recv_ref().unwrap();
        let holder = fork(|| {
            let message = rx.recv_ref().unwrap();
            if dies {
                linger()
            }
            pause(60);
            drop(message);
        });
        message.give_back();
        while !rx.is_empty() {
            pause(1);
        }
        tx.close();
        assert!(rx.try_recv().unwrap_err().is_empty());
        assert!(rx.recv_timeout(SOON).unwrap_err().is_timeout());
        let waiting = fork(|| match rx.recv() {
            Ok(value) => assert!(dies && value == 1),
            Err(error) => assert!(!dies && error.is_closed()),
        });
        pause(10);
        if dies {
            holder.kill();
        } else {
            holder.join();
        }
        waiting.join();
        assert!(rx.recv().unwrap_err().is_closed());
    }
}

fn a_channel_without_senders_ends_when_nothing_can_come_back() {
    for dies in [false, true] {
        let (tx, rx) = at_least_once(2);
        tx.send(1).unwrap();
        let holder = holder(&rx);
        drop(tx);
        assert!(rx.try_recv().unwrap_err().is_empty());
        let waiting = fork(|| match rx.recv() {
            Ok(value) => assert_eq!(value, 1),
            Err(error) => panic!("{error}"),
        });
        pause(20);
        holder.kill();
        waiting.join();
        assert!(rx.recv().unwrap_err().is_disconnected());
        drop(rx);
        let (tx, rx) = at_least_once(2);
        tx.send(1).unwrap();
        let message = rx.recv_ref().unwrap();
        drop(tx);
        let waiting = fork(|| assert!(rx.recv().unwrap_err().is_disconnected()));
        pause(if dies { 1 } else { 30 });
        drop(message);
        waiting.join();
    }
}

fn a_thread_does_not_wait_for_what_it_holds_itself() {
    let (tx, rx) = at_least_once(4);
    tx.send_batch(&[1, 2]).unwrap();
    tx.close();
    let one = rx.recv_ref().unwrap();
    let two = rx.recv_ref().unwrap();
    assert!(rx.recv_ref().unwrap_err().is_closed());
    two.give_back();
    let two = rx.recv_ref().unwrap();
    assert_eq!((*one, *two, two.attempts()), (1, 2, 2));
    // Another thread of the process does wait, since it could get them.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| rx.recv());
        pause(10);
        drop(one);
        two.give_back();
        assert_eq!(other.join().unwrap(), Ok(2));
    });
    assert!(rx.recv().unwrap_err().is_closed());
}

fn a_forgotten_message_comes_again_when_its_process_leaves() {
    let (tx, rx) = at_least_once(2);
    tx.send(1).unwrap();
    let (ready, left) = channel::<u8>(1).unwrap();
    let forgetful = fork(|| {
        #[expect(clippy::mem_forget, reason = "it is what is tested")]
        mem::forget(rx.recv_ref().unwrap());
        // SAFETY: the child never returns to the originals.
        drop(unsafe { ptr::read(&raw const tx) });
        // SAFETY: as above.
        drop(unsafe { ptr::read(&raw const rx) });
        ready.send(1).unwrap();
        linger()
    });
    left.recv().unwrap();
    let message = rx.recv_ref().unwrap();
    assert_eq!((*message, message.attempts()), (1, 2));
    forgetful.kill();
}

fn a_childs_copy_gives_nothing_back() {
    let (tx, rx) = at_least_once(2);
    tx.send(1).unwrap();
    let message = mem::ManuallyDrop::new(rx.recv_ref().unwrap());
    fork(|| {
        // SAFETY: the child's copy; the parent's own is taken out below, in the parent.
        let copy = unsafe { ptr::read(&raw const *message) };
        copy.give_back();
    })
    .join();
    assert!(rx.try_recv().unwrap_err().is_empty());
    mem::ManuallyDrop::into_inner(message).give_back();
    assert_eq!(rx.try_recv(), Ok(1));
}

fn batches_and_len_count_what_came_back() {
    let (tx, rx) = at_least_once(20);
    tx.send_batch(&[1, 2, 3, 4]).unwrap();
    let [a, b] = [(); 2].map(|()| rx.recv_ref().unwrap());
    assert_eq!(rx.len(), 2);
    a.give_back();
    b.give_back();
    assert_eq!(rx.len(), 4);
    let mut values = [0; 8];
    let mut all = Vec::new();
    while all.len() < 4 {
        let count = rx.recv_batch(&mut values).unwrap();
        all.extend_from_slice(&values[..count]);
    }
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4]);
    assert_eq!(rx.len(), 0);
}

fn a_work_queue_with_dying_workers_does_every_job() {
    const JOBS: u64 = 200;
    let mut random = Random::from_environment();
    let (tx, jobs) = at_least_once(8);
    let (done, results) = channel::<u64>(512).unwrap();
    let boss = fork(|| {
        for job in 0..JOBS {
            tx.send(job).unwrap();
        }
        tx.close();
    });
    let worker = || {
        fork(|| {
            while let Ok(job) = jobs.recv_ref() {
                pause_us(500);
                done.send(*job).unwrap();
            }
        })
    };
    let mut workers: Vec<Child> = (0..3).map(|_| worker()).collect();
    let mut seen = [0_u32; JOBS as usize];
    let mut kills = 0;
    while seen.contains(&0) {
        if let Ok(job) = results.recv_timeout(Duration::from_millis(3)) {
            seen[usize::try_from(job).unwrap()] += 1;
        }
        if kills < 40 && random.below(4) == 0 {
            let victim = usize::try_from(random.below(3)).unwrap();
            // Where every job is done already, the victim has ended by itself.
            let victim = mem::replace(&mut workers[victim], worker());
            victim.signal(libc::SIGKILL);
            victim.wait();
            kills += 1;
        }
    }
    boss.join();
    for worker in workers {
        worker.join();
    }
    assert!(jobs.try_recv().unwrap_err().is_closed());
    assert_eq!(jobs.dropped(), 0);
}

fn where_nothing_comes_back_giving_back_is_refused() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    tx.send(1).unwrap();
    std::panic::set_hook(Box::new(|_| ()));
    let refused = catch_unwind(AssertUnwindSafe(|| rx.recv_ref().unwrap().give_back()));
    drop(std::panic::take_hook());
    let text = refused.unwrap_err();
    assert!(text.downcast_ref::<&str>().unwrap().contains("AtLeastOnce"));
    let builder = Builder::new().delivery(Delivery::AtLeastOnce);
    assert!(builder.build_spsc::<u64>().unwrap_err().is_unsupported());
    drop(spsc::channel::<u64>(1).unwrap());
}
