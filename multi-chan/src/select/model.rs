//! loom model of a select: the wakes it gets and does not use.

use crate::layout::State;
use crate::model::Channel;
use crate::model_memory::{bound, check};
use crate::ring::Nothing;
use crate::sync::Bed;
use crate::trail::Hint;
use loom::sync::Arc;
use loom::thread;

/// Takes one value from either channel as a `Turn` does, without the processes: from `first` if there is a choice.
/// Returns whether it was that one.
fn select(first: &Channel, second: &Channel) -> bool {
    let channels = [first, second];
    let hints = [Hint::start(), Hint::start()];
    // The channel that a value came from, or the ones with a claim that is not done with.
    let take = || {
        let mut pending = None;
        for (channel, hint) in channels.iter().zip(&hints) {
            match channel.ring.pop(2, hint) {
                Ok(_) => return Ok(*channel),
                Err(Nothing::Pending { .. }) => pending = Some(*channel),
                Err(_) => {}
            }
        }
        Err(pending)
    };
    let mut slept = false;
    let taken = loop {
        if let Ok(taken) = take() {
            break taken;
        }
        let tickets = channels.map(|channel| channel.ring.header().sent.0.arm());
        match take() {
            Ok(taken) => break taken,
            Err(Some(pending)) => pending.moment(State::Busy),
            Err(None) => {
                let events = channels.map(|channel| &channel.ring.header().sent.0);
                Bed::sleep_any(&[events[0].berth(tickets[0]), events[1].berth(tickets[1])]);
            }
        }
        slept = true;
    };
    taken.ring.header().freed.0.post(1);
    if slept {
        // Without this, the first model below deadlocks.
        for channel in channels {
            let event = &channel.ring.header().sent.0;
            if event.is_armed() && channel.ring.has_value() {
                event.post(1);
            }
        }
    }
    taken.finished();
    std::ptr::eq(taken, first)
}

/// Sends into free room.
fn put(channel: &Channel, value: u64) {
    assert!(channel.push(value).is_ok());
    channel.ring.header().sent.0.post(1);
    channel.finished();
}

#[test]
fn a_wake_that_a_select_does_not_use_reaches_the_other_sleeper() {
    // With one preemption it would not miss the wake that is passed on.
    check(2, || {
        let (a, b) = (Channel::new(1), Channel::new(1));
        let receiving = {
            let a = Arc::clone(&a);
            thread::spawn(move || a.recv())
        };
        let selecting = {
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            thread::spawn(move || select(&b, &a))
        };
        put(&a, 1);
        put(&b, 2);
        if !selecting.join().unwrap() {
            // It took the receiver's value instead.
            a.send(3);
        }
        assert!(receiving.join().unwrap().is_some());
    });
}

#[test]
fn two_selects_take_one_value_each() {
    check(bound(1, 2), || {
        let (a, b) = (Channel::new(1), Channel::new(1));
        let selects = [(); 2].map(|()| {
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            thread::spawn(move || select(&a, &b))
        });
        put(&a, 1);
        put(&b, 2);
        let taken = selects.map(|select| select.join().unwrap());
        assert_ne!(taken[0], taken[1]);
    });
}
