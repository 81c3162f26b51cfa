//! Slots on loan: messages made and read where they lie, by processes that die, fork, forget and panic.

#![expect(unsafe_code, reason = "copies a handle as a fork does")]

use crate::support::{fork, linger, page_faults, pause};
use multi_chan::KillPoint::Withdrawn;
use multi_chan::{Builder, channel, kill_at};
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

crate::tests![
    frames_cross_without_a_copy,
    a_dropped_reservation_sends_nothing_and_gives_its_place_back,
    a_dropped_reservation_wakes_the_sender_that_waits_for_the_place,
    receivers_wait_for_a_reserved_message,
    a_closed_channel_delivers_what_was_reserved_before,
    several_are_held_at_once_and_given_back_in_any_order,
    a_rendezvous_commit_waits_for_its_receiver,
    a_rendezvous_sender_goes_on_while_its_message_is_read,
    a_sender_killed_with_a_reservation_is_stepped_over,
    a_sender_killed_while_taking_back_is_stepped_over,
    a_receiver_killed_with_a_message_in_hand_costs_that_message,
    a_childs_copy_is_nobodys,
    forgotten_slots_come_back_when_the_process_leaves,
    a_panic_takes_a_reservation_back_and_acknowledges_a_message,
    a_prefaulted_channel_has_its_pages_in_every_process,
];

const SOON: Duration = Duration::from_millis(20);

type Frame = [u64; 512];

fn a_prefaulted_channel_has_its_pages_in_every_process() {
    const FRAMES: usize = 256;
    let options = Builder::new().capacity(FRAMES).prefault(true);
    let (tx, rx) = options.build::<Frame>().unwrap();
    let fill = || {
        // The first use.
        let tx = tx.clone();
        let before = page_faults();
        for _ in 0..FRAMES {
            let mut frame = tx.reserve().unwrap();
            frame.fill(7);
            frame.commit().unwrap();
        }
        // The frames alone are that many pages. A few for code and stack.
        let faults = page_faults() - before;
        assert!(faults < FRAMES as i64 / 4, "{faults} faults");
    };
    fill();
    for _ in 0..FRAMES {
        assert_eq!(rx.recv_ref().unwrap()[511], 7);
    }
    fork(fill).join();
}

fn frames_cross_without_a_copy() {
    let (tx, rx) = channel::<Frame>(3).unwrap();
    let senders = [1, 2].map(|name| {
        let tx = &tx;
        fork(move || {
            for number in 0..500 {
                let mut frame = tx.reserve().unwrap();
                frame.fill(number);
                frame[0] = name;
                frame.commit().unwrap();
            }
        })
    });
    drop(tx);
    let mut next = [0; 3];
    while let Ok(frame) = rx.recv_ref() {
        let number = frame[1];
        assert!(frame[1..].iter().all(|&word| word == number));
        let name = usize::try_from(frame[0]).unwrap();
        assert_eq!(number, next[name]);
        next[name] += 1;
    }
    assert_eq!(next, [0, 500, 500]);
    for sender in senders {
        sender.join();
    }
}

fn a_dropped_reservation_sends_nothing_and_gives_its_place_back() {
    for capacity in [0, 1, 2, 17] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        for round in 0..40 {
            drop(tx.reserve().unwrap());
            assert!(rx.try_recv().unwrap_err().is_empty());
            if capacity > 0 {
                tx.try_send(round).unwrap();
                drop(tx.try_reserve());
                assert_eq!(rx.try_recv(), Ok(round));
            }
            assert!(rx.is_empty());
        }
    }
}

fn a_dropped_reservation_wakes_the_sender_that_waits_for_the_place() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    let slot = tx.reserve().unwrap();
    let sender = fork(|| tx.send(7).unwrap());
    // Nobody receives meanwhile: the sender gets the place without a receiver's help.
    pause(60);
    drop(slot);
    sender.join();
    assert_eq!(rx.try_recv(), Ok(7));
}

fn receivers_wait_for_a_reserved_message() {
    let (tx, rx) = channel::<u64>(4).unwrap();
    let mut first = tx.reserve().unwrap();
    tx.send(2).unwrap();
    assert!(rx.try_recv().unwrap_err().is_empty());
    assert!(rx.recv_ref_timeout(SOON).unwrap_err().is_timeout());
    *first = 1;
    first.commit().unwrap();
    assert_eq!([rx.recv(), rx.recv()], [Ok(1), Ok(2)]);
}

fn a_closed_channel_delivers_what_was_reserved_before() {
    let (tx, rx) = channel::<u64>(4).unwrap();
    let mut slot = tx.reserve().unwrap();
    let other = tx.reserve().unwrap();
    tx.close();
    assert!(tx.reserve().unwrap_err().is_closed());
    assert!(rx.try_recv().unwrap_err().is_empty());
    *slot = 5;
    slot.commit().unwrap();
    assert_eq!(rx.recv(), Ok(5));
    drop(other);
    assert!(rx.recv().unwrap_err().is_closed());
}

fn several_are_held_at_once_and_given_back_in_any_order() {
    let (tx, rx) = channel::<u64>(3).unwrap();
    for lap in 0..20 {
        let mut slots = [(); 3].map(|()| tx.reserve().unwrap());
        assert!(tx.try_reserve().unwrap_err().is_full());
        assert!(tx.reserve_timeout(SOON / 20).unwrap_err().is_timeout());
        for (slot, value) in slots.iter_mut().zip(lap..) {
            **slot = value;
        }
        let [a, b, c] = slots;
        c.commit().unwrap();
        a.commit().unwrap();
        b.commit().unwrap();
        let messages = [(); 3].map(|()| rx.recv_ref().unwrap());
        assert_eq!([0, 1, 2].map(|i| *messages[i]), [lap, lap + 1, lap + 2]);
        let [a, b, c] = messages;
        drop(b);
        drop(c);
        // The next slot in turn is still read.
        assert!(tx.try_send(0).unwrap_err().is_full());
        drop(a);
    }
    assert!(rx.is_empty());
}

fn a_rendezvous_commit_waits_for_its_receiver() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let receiver = fork(|| {
        pause(20);
        let message = rx.recv_ref().unwrap();
        assert_eq!(*message, 3);
        drop(message);
        assert!(rx.recv().unwrap_err().is_closed());
    });
    let mut slot = tx.reserve().unwrap();
    *slot = 3;
    slot.commit().unwrap();
    let slot = tx.reserve().unwrap();
    tx.close();
    assert!(slot.commit().unwrap_err().is_closed());
    receiver.join();
}

fn a_rendezvous_sender_goes_on_while_its_message_is_read() {
    let (tx, rx) = channel::<u64>(0).unwrap();
    let (answer_tx, answers) = channel::<u64>(0).unwrap();
    let server = fork(|| {
        // The client sleeps in its send by then.
        pause(50);
        let question = rx.recv_ref().unwrap();
        let limit = Duration::from_secs(5);
        answer_tx.send_timeout(2 * *question, limit).unwrap();
    });
    tx.send(21).unwrap();
    assert_eq!(answers.recv(), Ok(42));
    server.join();
}

fn a_sender_killed_with_a_reservation_is_stepped_over() {
    for capacity in [0, 1, 2] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let sleeper = fork(|| assert_eq!(rx.recv(), Ok(2)));
        let sender = fork(|| {
            let mut slot = tx.reserve().unwrap();
            *slot = 1;
            linger()
        });
        pause(20);
        sender.kill();
        tx.send(2).unwrap();
        sleeper.join();
        assert_eq!(rx.dropped(), 0);
    }
}

fn a_sender_killed_while_taking_back_is_stepped_over() {
    for capacity in [1, 2] {
        let (tx, rx) = channel::<u64>(capacity).unwrap();
        let sleeper = fork(|| assert_eq!(rx.recv(), Ok(2)));
        fork(|| {
            kill_at(Withdrawn);
            drop(tx.reserve().unwrap());
        })
        .killed();
        tx.send(2).unwrap();
        sleeper.join();
    }
}

fn a_receiver_killed_with_a_message_in_hand_costs_that_message() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    tx.send(1).unwrap();
    let receiver = fork(|| {
        let message = rx.recv_ref().unwrap();
        assert_eq!(*message, 1);
        linger()
    });
    let sender = fork(|| tx.send(2).unwrap());
    pause(30);
    receiver.kill();
    sender.join();
    assert_eq!(rx.recv(), Ok(2));
    assert_eq!(rx.dropped(), 1);
}

fn a_childs_copy_is_nobodys() {
    let (tx, rx) = channel::<u64>(4).unwrap();
    tx.send(1).unwrap();
    let message = rx.recv_ref().unwrap();
    let mut slot = tx.reserve().unwrap();
    let other = tx.reserve().unwrap();
    *slot = 2;
    // In a child that has used the channel, and in one that has not.
    for uses in [false, true] {
        // The closure takes its captures by value in the child alone: a fork copies them.
        let held = (copy(&message), copy(&slot), copy(&other));
        fork(|| {
            let (message, slot, other) = held;
            if uses {
                assert!(rx.try_recv().unwrap_err().is_empty());
            }
            std::panic::set_hook(Box::new(|_| ()));
            assert!(catch_unwind(AssertUnwindSafe(|| **message)).is_err());
            assert!(catch_unwind(AssertUnwindSafe(|| **slot)).is_err());
            drop(ManuallyDrop::into_inner(message));
            drop(ManuallyDrop::into_inner(other));
            let error = ManuallyDrop::into_inner(slot).commit().unwrap_err();
            assert!(error.is_inherited());
        })
        .join();
    }
    // All is as it was.
    assert_eq!((*message, *slot), (1, 2));
    assert!(rx.try_recv().unwrap_err().is_empty());
    assert_eq!(tx.len(), 2);
    slot.commit().unwrap();
    other.commit().unwrap();
    drop(message);
    assert_eq!(rx.recv(), Ok(2));
}

/// What a fork does: the same bytes once more, to be dropped in the child only.
fn copy<H>(handle: &H) -> ManuallyDrop<H> {
    // SAFETY: the parent never takes the copy out of its `ManuallyDrop`, and the child never returns to the
    // original.
    ManuallyDrop::new(unsafe { ptr::read(handle) })
}

fn forgotten_slots_come_back_when_the_process_leaves() {
    let (tx, rx) = channel::<u64>(2).unwrap();
    let (ready, left) = channel::<u8>(1).unwrap();
    tx.send(1).unwrap();
    let forgetful = fork(|| {
        #[expect(clippy::mem_forget, reason = "it is what is tested")]
        mem::forget(rx.recv_ref().unwrap());
        #[expect(clippy::mem_forget, reason = "it is what is tested")]
        mem::forget(tx.reserve().unwrap());
        assert!(tx.try_send(2).unwrap_err().is_full());
        // Takes the child's copies: it leaves the channel and lives on.
        // SAFETY: the child never returns to the originals.
        drop(unsafe { ptr::read(&raw const tx) });
        // SAFETY: as above.
        drop(unsafe { ptr::read(&raw const rx) });
        ready.send(1).unwrap();
        linger()
    });
    left.recv().unwrap();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    assert_eq!(rx.dropped(), 1);
    forgetful.kill();
}

fn a_panic_takes_a_reservation_back_and_acknowledges_a_message() {
    let (tx, rx) = channel::<u64>(2).unwrap();
    tx.send(1).unwrap();
    std::panic::set_hook(Box::new(|_| ()));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _message = rx.recv_ref().unwrap();
        let _slot = tx.reserve().unwrap();
        panic!("on purpose");
    }));
    drop(std::panic::take_hook());
    assert!(panicked.is_err());
    assert!(rx.try_recv().unwrap_err().is_empty());
    tx.try_send(3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}
