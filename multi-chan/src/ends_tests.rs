//! Unit tests of the ends: what costs a system call, and what a scribbled mapping says.

use super::*;
use crate::delivery::Delivery;
use crate::layout::{LAP_MASK, Stamp, State, next_tenure, owner_of};
use crate::sync::Relaxed;
use crate::sys::FUTEX_CALLS;
use crate::{Builder, Chan, Receiver, Select, Sender, channel, spsc};

fn futex_calls() -> u32 {
    FUTEX_CALLS.with(std::cell::Cell::get)
}

#[test]
fn no_system_call_per_message_while_nobody_sleeps() {
    let (tx, rx) = channel::<u64>(64).unwrap();
    let before = futex_calls();
    for round in 0..10_000 {
        for value in 0..64 {
            tx.send(round + value).unwrap();
        }
        for value in 0..64 {
            assert_eq!(rx.recv(), Ok(round + value));
        }
    }
    assert_eq!(futex_calls(), before);
    // The counter does count: a wait that finds nothing sleeps, unless the machine is so busy that its
    // time is over before.
    while futex_calls() == before {
        rx.recv_timeout(Duration::from_millis(5)).unwrap_err();
    }
}

#[test]
fn after_a_sleep_the_calls_stop_again() {
    let (tx, rx) = channel::<u64>(64).unwrap();
    rx.recv_timeout(Duration::from_millis(1)).unwrap_err();
    let before = futex_calls();
    for value in 0..1_000 {
        tx.send(value).unwrap();
        assert_eq!(rx.recv(), Ok(value));
    }
    assert!(
        futex_calls() - before <= 1,
        "one post may find the sleeper gone"
    );
}

#[test]
fn a_full_and_an_empty_channel_refuse_to_try() {
    let (tx, rx) = channel::<u64>(3).unwrap();
    assert!(rx.try_recv().unwrap_err().is_empty());
    for value in 0..3 {
        tx.try_send(value).unwrap();
    }
    let error = tx.try_send(3).unwrap_err();
    assert!(error.is_full() && error.into_inner() == 3);
    assert_eq!((tx.len(), tx.capacity(), rx.len()), (3, 3, 3));
    assert_eq!(
        [rx.try_recv(), rx.try_recv(), rx.try_recv()],
        [Ok(0), Ok(1), Ok(2)]
    );
    assert!(rx.is_empty());
}

#[test]
fn dropping_all_of_one_side_disconnects_the_other() {
    let (tx, rx) = channel::<u64>(2).unwrap();
    let second = tx.clone();
    drop(tx);
    second.send(1).unwrap();
    drop(second);
    assert_eq!(rx.recv(), Ok(1));
    assert!(rx.recv().unwrap_err().is_disconnected());
    let (tx, rx) = channel::<u64>(2).unwrap();
    drop(rx);
    assert!(tx.send(1).unwrap_err().is_disconnected());
    assert_eq!(tx.try_send(2).unwrap_err().into_inner(), 2);
}

#[test]
fn values_of_no_size_and_of_a_page_pass() {
    let empty = Chan::<[u64; 0]>::new(2).unwrap();
    empty.send([]).unwrap();
    assert_eq!(empty.recv(), Ok([]));
    let page = Chan::<[u8; 4096]>::new(2).unwrap();
    page.send([7; 4096]).unwrap();
    assert_eq!(page.recv(), Ok([7; 4096]));
}

#[test]
fn a_scribbled_stamp_is_an_error() {
    let stamps = [
        7,
        Stamp::new(99, 4_095, State::Busy).bits(),
        Stamp::new(0, 5, State::Free).bits(),
        Stamp::new(0, 5, State::Full).bits(),
    ];
    for bits in stamps {
        let (tx, rx) =
            End::<u64>::pair(&Builder::new().capacity(3), Sides::SENDER, Sides::RECEIVER).unwrap();
        tx.ring.scribble(0, bits);
        let sent = tx.send(&1, Patience::None);
        let received = rx.recv(Patience::None);
        assert!(
            sent == Err(Why::Corrupt) || received == Err(Why::Corrupt),
            "{sent:?} {received:?}"
        );
    }
}

#[test]
fn wild_writes_to_the_mapping_neither_crash_nor_hang() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let limit = Duration::from_micros(300);
    for round in 0..400 {
        let capacity = [0, 1, 3, 16, 64][round % 5];
        let (tx, rx) = End::<u64>::pair(
            &Builder::new().capacity(capacity),
            Sides::SENDER,
            Sides::RECEIVER,
        )
        .unwrap();
        let header = tx.core.header();
        for _ in 0..random(8) {
            tx.send(&1, Patience::for_limit(limit)).ok();
            rx.recv(Patience::None).ok();
        }
        for _ in 0..=random(3) {
            // Near the truth, and anywhere.
            let value = match random(3) {
                0 => random(200),
                1 => random(8) << random(61),
                _ => random(u64::MAX),
            };
            // Relaxed, here and in `scribble`: a test on one thread; whoever scribbles orders nothing.
            match random(6) {
                0 => header.tail.0.store(value, Relaxed),
                1 => header.head.0.store(value, Relaxed),
                2 => header.gate.0.rows_used.store(value as u32, Relaxed),
                3 => header.gate.0.flags.store(value as u32, Relaxed),
                _ => tx
                    .ring
                    .scribble(random(capacity.max(1) as u64) as usize, value),
            }
        }
        for _ in 0..6 {
            tx.send(&1, Patience::for_limit(limit)).ok();
            rx.recv(Patience::for_limit(limit)).ok();
            tx.send_batch(&[]).ok();
            rx.ring.pop_batch(0, &mut [0; 4], &rx.hint).ok();
            tx.ring.push_batch(0, &[0; 4], &tx.hint).ok();
            assert!(tx.len() <= capacity);
        }
        tx.core.is_gone(Sides::RECEIVER);
        tx.core.bury_dead();
        tx.close();
        rx.recv(Patience::for_limit(limit)).ok();
    }
}

#[test]
fn handles_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Sender<u64>>();
    check::<Receiver<u64>>();
    check::<Chan<u64>>();
}

#[test]
fn stamps_that_lead_round_in_a_circle_are_corrupt() {
    // Each is ahead of the one before it, the shorter way round.
    let third = LAP_MASK / 3;
    for state in [State::Busy, State::Full, State::Taking, State::Skip] {
        let (tx, rx) = channel::<u64>(3).unwrap();
        for index in 0..3 {
            let stamp = Stamp::new(1 + third * index, 0, state);
            tx.end.ring.scribble(index as usize, stamp.bits());
        }
        assert!(tx.try_send(1).is_err());
        assert!(rx.try_recv().is_err());
        assert!(tx.len() <= 3);
    }
}

#[test]
fn a_slow_survivor_takes_no_message_from_the_next_owner_of_a_row() {
    const ROW: u16 = 5;
    let builder = Builder::new().capacity(1).delivery(Delivery::AtLeastOnce);
    let (tx, rx) = End::<u64>::pair(&builder, Sides::SENDER, Sides::RECEIVER).unwrap();
    tx.send(&7, Patience::None).unwrap();
    let tenure = next_tenure(0);
    let (dead, heir) = (owner_of(ROW, tenure), owner_of(ROW, next_tenure(tenure)));
    rx.ring.claim_value(dead, &Hint::start()).unwrap();
    let mut claimed = None;
    let claimed_by_heir = std::cell::RefCell::new(&mut claimed);
    let meanwhile = || {
        // The row still names the dead; and then this survivor is stopped. Another one buries it, and the row goes
        // to a process that receives the same message.
        rx.ring.sweep(ROW, || true, |_, _| false);
        let claim = rx.ring.claim_value(heir, &Hint::start()).unwrap();
        **claimed_by_heir.borrow_mut() = Some(claim);
        true
    };
    assert_eq!(rx.ring.sweep(ROW, meanwhile, |_, _| false), 0);
    assert!(
        rx.ring.claim_value(9, &Hint::start()).is_err(),
        "taken from a live receiver"
    );
    assert_eq!(rx.ring.read(claimed.unwrap()), 7);
}

#[test]
fn a_handle_that_was_idle_for_most_laps_is_told_no_nonsense() {
    let (tx, rx) = channel::<u64>(1).unwrap();
    tx.send(1).unwrap();
    rx.recv().unwrap();
    let header = tx.end.core.header();
    for laps in [LAP_MASK / 2, LAP_MASK / 2 + 2, LAP_MASK] {
        // As if that many messages had passed through other handles. Relaxed: a test on one thread.
        header.tail.0.store(laps, Relaxed);
        header.head.0.store(laps, Relaxed);
        let stamp = Stamp::new(laps & LAP_MASK, 0, State::Free);
        tx.end.ring.scribble(0, stamp.bits());
        let (tx, rx) = (tx.clone(), rx.clone());
        tx.try_send(2).unwrap();
        assert_eq!(rx.try_recv(), Ok(2));
    }
}

#[test]
fn a_select_over_two_attachments_of_one_channel_sleeps() {
    let (_tx, rx) = Builder::new().in_memfd().build::<u64>().unwrap();
    let attached = Receiver::<u64>::attach(rx.descriptors().unwrap()).unwrap();
    let mut select = Select::new();
    select.recv(&rx);
    select.recv(&attached);
    let before = futex_calls();
    assert_eq!(select.wait_timeout(Duration::from_millis(100)), None);
    let calls = futex_calls() - before;
    assert!(calls < 20, "turned itself back: {calls} calls in 100 ms");
}

#[test]
fn a_thread_does_not_wait_for_what_it_holds_by_another_attachment() {
    let builder = Builder::new().capacity(2).in_memfd();
    let (tx, rx) = builder
        .delivery(Delivery::AtLeastOnce)
        .build::<u64>()
        .unwrap();
    let attached = Receiver::<u64>::attach(rx.descriptors().unwrap()).unwrap();
    tx.send(1).unwrap();
    let held = rx.recv_ref().unwrap();
    tx.close();
    let error = attached
        .recv_timeout(Duration::from_millis(200))
        .unwrap_err();
    assert!(error.is_closed(), "waited for itself");
    held.give_back();
    assert_eq!(attached.recv(), Ok(1));
}

#[test]
fn an_attachment_is_one_more_handle_of_the_channel() {
    let (tx, rx) = Builder::new()
        .capacity(2)
        .in_memfd()
        .build::<u64>()
        .unwrap();
    let attached = Sender::<u64>::attach(rx.descriptors().unwrap()).unwrap();
    assert!(Arc::ptr_eq(&attached.end.core, &tx.end.core));
    drop(tx);
    attached.send(1).unwrap();
    drop(attached);
    assert_eq!(rx.recv(), Ok(1));
    assert!(rx.try_recv().unwrap_err().is_disconnected());
    // Nobody sends any more, until somebody attaches for it.
    let again = Sender::<u64>::attach(rx.descriptors().unwrap()).unwrap();
    assert!(rx.try_recv().unwrap_err().is_empty());
    again.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn the_second_attachment_of_a_side_with_one_user_waits_for_the_first_to_go() {
    let (mut tx, mut rx) = Builder::new()
        .capacity(2)
        .in_memfd()
        .build_spsc::<u64>()
        .unwrap();
    let mut other = spsc::Sender::<u64>::attach(rx.descriptors().unwrap()).unwrap();
    tx.send(1).unwrap();
    assert!(other.send(2).unwrap_err().is_occupied());
    drop(tx);
    other.send(3).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(3)));
}
