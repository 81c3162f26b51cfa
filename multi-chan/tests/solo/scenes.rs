//! What victims do: each operation of a channel, beside sleepers that it concerns.

use crate::ledger::{Message, SENDERS};
use crate::stage::{Scene, Side, Stage, Subject, Tried};
use crate::support::{bare_clone, fork, without_processes};
use multi_chan::{Exposed, Receiver, Sender, channel};
use std::cell::RefCell;
use std::time::Duration;

/// A channel for many; an end can be dropped.
pub(crate) struct Ours {
    pub(crate) tx: RefCell<Option<Sender<Message>>>,
    pub(crate) rx: RefCell<Option<Receiver<Message>>>,
}

impl Ours {
    pub(crate) fn of(tx: Sender<Message>, rx: Receiver<Message>) -> Ours {
        Ours {
            tx: RefCell::new(Some(tx)),
            rx: RefCell::new(Some(rx)),
        }
    }
}

impl Subject for Ours {
    fn new(capacity: usize) -> Ours {
        let (tx, rx) = channel(capacity).unwrap();
        Ours::of(tx, rx)
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        let tx = self.tx.borrow();
        let Some(tx) = tx.as_ref() else {
            return Tried::Over;
        };
        match limit {
            None => tx.send(message).map_or(Tried::Over, Tried::Done),
            Some(Duration::ZERO) => match tx.try_send(message) {
                Ok(()) => Tried::Done(()),
                Err(error) if error.is_full() => Tried::NotNow,
                Err(error) => over(error.is_closed() || error.is_disconnected(), &error),
            },
            Some(limit) => match tx.send_timeout(message, limit) {
                Ok(()) => Tried::Done(()),
                Err(error) if error.is_timeout() => Tried::NotNow,
                Err(error) => over(error.is_closed() || error.is_disconnected(), &error),
            },
        }
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        let rx = self.rx.borrow();
        let Some(rx) = rx.as_ref() else {
            return Tried::Over;
        };
        match limit {
            None => match rx.recv() {
                Ok(message) => Tried::Done(message),
                Err(error) => over(error.is_closed() || error.is_disconnected(), &error),
            },
            Some(Duration::ZERO) => match rx.try_recv() {
                Ok(message) => Tried::Done(message),
                Err(error) if error.is_empty() => Tried::NotNow,
                Err(error) => over(error.is_closed() || error.is_disconnected(), &error),
            },
            Some(limit) => match rx.recv_timeout(limit) {
                Ok(message) => Tried::Done(message),
                Err(error) if error.is_timeout() => Tried::NotNow,
                Err(error) => over(error.is_closed() || error.is_disconnected(), &error),
            },
        }
    }

    fn state(&self) -> String {
        match self.tx.borrow().as_ref() {
            Some(tx) => tx.state(),
            None => "its sender is dropped here".to_owned(),
        }
    }

    fn len(&self) -> usize {
        self.tx.borrow().as_ref().map_or_else(
            || self.rx.borrow().as_ref().map_or(0, Receiver::len),
            Sender::len,
        )
    }

    fn is_closed(&self) -> bool {
        let (tx, rx) = (self.tx.borrow(), self.rx.borrow());
        tx.as_ref().is_none_or(Sender::is_closed) || rx.as_ref().is_none_or(Receiver::is_closed)
    }
}

#[track_caller]
fn over<T>(expected: bool, error: &dyn std::error::Error) -> Tried<T> {
    assert!(expected, "{error}");
    Tried::Over
}

type Play = Stage<Ours>;

pub(crate) fn tx(play: &Play, act: impl FnOnce(&Sender<Message>)) {
    if let Some(tx) = play.subject.tx.borrow().as_ref() {
        act(tx);
    }
}

pub(crate) fn rx(play: &Play, act: impl FnOnce(&Receiver<Message>)) {
    if let Some(rx) = play.subject.rx.borrow().as_ref() {
        act(rx);
    }
}

fn send(play: &Play, who: usize) {
    play.send(who, None);
}

fn recv(play: &Play, _who: usize) {
    play.recv(&mut [0; SENDERS], None);
}

fn send_batch(play: &Play, who: usize, count: usize) {
    let batch: Vec<Message> = (0..count).map(|_| play.ledger.try_next(who)).collect();
    let mut sent = count;
    tx(play, |tx| {
        sent = tx
            .send_batch(&batch)
            .map_or_else(|error| error.sent(), |()| count);
    });
    for &message in &batch[..sent] {
        play.ledger.has_sent(message);
    }
}

fn recv_batch(play: &Play, most: usize) {
    let mut batch = vec![Message::default(); most];
    rx(play, |rx| {
        let count = rx.recv_batch(&mut batch).unwrap_or(0);
        let mut last = [0; SENDERS];
        for &message in &batch[..count] {
            play.ledger.has_received(message, &mut last);
        }
    });
}

/// Every operation of the channel, alone and beside those it must wake.
pub(crate) fn scenes() -> Vec<Scene<Ours>> {
    use Side::{Receiver, Sender};
    vec![
        Scene {
            name: "send into room",
            act: send,
            ..Scene::quiet(2)
        },
        Scene {
            name: "send, receivers asleep",
            sleepers: Some((Receiver, 2)),
            act: send,
            ..Scene::quiet(2)
        },
        Scene {
            name: "send, full",
            filled: 1,
            act: send,
            ..Scene::quiet(1)
        },
        Scene {
            name: "send five in a ring of 20",
            act: |play, who| (0..5).for_each(|_| send(play, who)),
            ..Scene::quiet(20)
        },
        Scene {
            name: "send a batch",
            act: |play, who| send_batch(play, who, 3),
            ..Scene::quiet(3)
        },
        Scene {
            name: "send a batch, receivers asleep",
            sleepers: Some((Receiver, 2)),
            act: |play, who| send_batch(play, who, 3),
            ..Scene::quiet(3)
        },
        Scene {
            name: "send a batch that is too long",
            act: |play, who| send_batch(play, who, 5),
            ..Scene::quiet(2)
        },
        Scene {
            name: "send a batch of twelve in a ring of 20",
            filled: 2,
            act: |play, who| send_batch(play, who, 12),
            ..Scene::quiet(20)
        },
        Scene {
            name: "rendezvous send, receiver asleep",
            sleepers: Some((Receiver, 1)),
            act: send,
            ..Scene::quiet(0)
        },
        Scene {
            name: "rendezvous send, nobody there",
            act: send,
            ..Scene::quiet(0)
        },
        Scene {
            name: "rendezvous send taken back",
            act: |play, who| {
                play.send(who, Some(Duration::from_millis(3)));
            },
            ..Scene::quiet(0)
        },
        Scene {
            name: "rendezvous try_send",
            sleepers: Some((Receiver, 1)),
            act: |play, who| {
                play.send(who, Some(Duration::ZERO));
            },
            ..Scene::quiet(0)
        },
        Scene {
            name: "receive",
            filled: 1,
            act: recv,
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(2)
        },
        Scene {
            name: "receive, senders asleep",
            filled: 2,
            sleepers: Some((Sender, 2)),
            act: recv,
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(2)
        },
        Scene {
            name: "receive, empty",
            act: recv,
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(2)
        },
        Scene {
            name: "receive in vain",
            act: |play, _| {
                play.recv(&mut [0; SENDERS], Some(Duration::from_millis(3)));
            },
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(2)
        },
        Scene {
            name: "receive five in a ring of 20",
            filled: 6,
            act: |play, who| (0..5).for_each(|_| recv(play, who)),
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(20)
        },
        Scene {
            name: "receive a batch",
            filled: 3,
            act: |play, _| recv_batch(play, 3),
            in_hand: 3,
            waits_as: Receiver,
            ..Scene::quiet(3)
        },
        Scene {
            name: "receive a batch, senders asleep",
            filled: 3,
            sleepers: Some((Sender, 2)),
            act: |play, _| recv_batch(play, 3),
            in_hand: 3,
            waits_as: Receiver,
            ..Scene::quiet(3)
        },
        Scene {
            name: "receive a batch of twelve in a ring of 20",
            filled: 14,
            act: |play, _| recv_batch(play, 12),
            in_hand: 12,
            waits_as: Receiver,
            ..Scene::quiet(20)
        },
        Scene {
            name: "rendezvous receive, sender asleep",
            sleepers: Some((Sender, 2)),
            act: recv,
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(0)
        },
        Scene {
            name: "rendezvous receive, nobody there",
            act: recv,
            in_hand: 1,
            waits_as: Receiver,
            ..Scene::quiet(0)
        },
        Scene {
            name: "close, receivers asleep",
            sleepers: Some((Receiver, 2)),
            act: |play, _| close(play),
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "close, senders asleep",
            filled: 2,
            sleepers: Some((Sender, 2)),
            act: |play, _| close(play),
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "close, rendezvous senders asleep",
            sleepers: Some((Sender, 2)),
            act: |play, _| close(play),
            goes_on: false,
            ..Scene::quiet(0)
        },
        Scene {
            name: "seal a closed channel",
            before: close,
            act: recv,
            waits_as: Receiver,
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "drop the last sender, receivers asleep",
            sleepers: Some((Receiver, 2)),
            before: |play| {
                play.subject.tx.take();
            },
            act: |play, who| {
                tx(play, |tx| drop(tx.clone()));
                send(play, who);
                play.subject.tx.take();
            },
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "drop the last receiver, senders asleep",
            filled: 2,
            sleepers: Some((Sender, 2)),
            before: |play| {
                play.subject.rx.take();
            },
            act: |play, who| {
                recv(play, who);
                play.subject.rx.take();
            },
            in_hand: 4,
            waits_as: Receiver,
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "use both ends, then drop both",
            act: |play, who| {
                send(play, who);
                recv(play, who);
                play.subject.tx.take();
                play.subject.rx.take();
            },
            in_hand: 1,
            ..Scene::quiet(2)
        },
        Scene {
            name: "find the receivers gone",
            filled: 2,
            before: |play| {
                play.subject.rx.take();
            },
            act: send,
            in_hand: 2,
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "fork",
            sleepers: Some((Receiver, 1)),
            act: |_, _| fork(|| {}).join(),
            ..Scene::quiet(2)
        },
        Scene {
            name: "fork and take up the rows",
            sleepers: Some((Receiver, 1)),
            act: |_, _| {},
            at_birth: true,
            ..Scene::quiet(2)
        },
        Scene {
            name: "fork, first use in the child",
            sleepers: Some((Receiver, 1)),
            act: send,
            at_birth: true,
            ..Scene::quiet(2)
        },
        Scene {
            name: "a process unknown so far enters and sends",
            // Not as the first of two deaths: it is a child of the victim that dies here.
            leaves_something: false,
            act: |play, who| {
                let pid = std::process::id();
                // Two processes then: the clone is the one that counts.
                play.ledger.aim_at_others(0, pid);
                bare_clone(|| send(play, who)).was_killed();
            },
            ..Scene::quiet(2)
        },
        Scene {
            name: "find a process dead that held no word",
            before: |play| {
                bare_clone(|| send(play, 5)).join();
            },
            act: |play, who| {
                recv(play, who);
                play.recv(&mut [0; SENDERS], Some(Duration::ZERO));
            },
            in_hand: 1,
            waits_as: Receiver,
            leaves_something: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "fork where it is refused",
            sleepers: Some((Receiver, 1)),
            act: |_, _| without_processes(|was_refused| assert!(was_refused)),
            ..Scene::quiet(2)
        },
        Scene {
            name: "make a channel and drop it",
            leaves_something: false,
            act: |_, _| {
                let (tx, rx) = channel::<u64>(1).unwrap();
                tx.send(1).unwrap();
                assert_eq!(rx.recv(), Ok(1));
            },
            ..Scene::quiet(2)
        },
    ]
}

fn close(play: &Play) {
    tx(play, |tx| {
        tx.close();
    });
}

/// Those who find what another death has left behind.
pub(crate) fn recoverers() -> Vec<Scene<Ours>> {
    let mut recoverers = Vec::new();
    for capacity in [0, 1, 2, 3, 20] {
        recoverers.push(Scene {
            name: "receive twice",
            act: |play, who| (0..2).for_each(|_| recv(play, who)),
            in_hand: 1,
            waits_as: Side::Receiver,
            ..Scene::quiet(capacity)
        });
        recoverers.push(Scene {
            name: "send twice",
            act: |play, who| (0..2).for_each(|_| send(play, who)),
            ..Scene::quiet(capacity)
        });
        recoverers.push(Scene {
            name: "fork beside the dead",
            act: |_, _| fork(|| {}).join(),
            ..Scene::quiet(capacity)
        });
    }
    recoverers
}
