//! The other kinds of channels on the same stage: zero copy, select, poll loops, one to one, messages of any size.

use crate::ledger::{Message, SENDERS};
use crate::scenes::{Ours, rx, tx};
use crate::stage::{Scene, Side, Stage, Subject, Tried};
use crate::support::wait_readable;
use multi_chan::{Builder, BytesReceiver, BytesSender, Delivery, Exposed, Receiver, Select, spsc};
use std::cell::RefCell;
use std::os::fd::AsFd;
use std::time::Duration;

/// Slots on loan, and a select, on the channel that everybody has.
pub(crate) fn loans() -> Vec<Scene<Ours>> {
    let reserve = |play: &Stage<Ours>, who| {
        tx(play, |tx| {
            let mut slot = tx.reserve().unwrap();
            *slot = play.ledger.try_next(who);
            let message = *slot;
            slot.commit().unwrap();
            play.ledger.has_sent(message);
        });
    };
    let receive = |play: &Stage<Ours>, _| {
        rx(play, |rx| {
            if let Ok(slot) = rx.recv_ref() {
                play.ledger.has_received(*slot, &mut [0; SENDERS]);
            }
        });
    };
    vec![
        Scene {
            name: "reserve and commit",
            act: reserve,
            ..Scene::quiet(2)
        },
        Scene {
            name: "reserve and commit, receivers asleep",
            sleepers: Some((Side::Receiver, 2)),
            act: reserve,
            ..Scene::quiet(2)
        },
        Scene {
            name: "reserve and take back, receivers asleep",
            sleepers: Some((Side::Receiver, 2)),
            act: |play, _| tx(play, |tx| drop(tx.reserve().unwrap())),
            ..Scene::quiet(2)
        },
        Scene {
            name: "receive in place, senders asleep",
            filled: 2,
            sleepers: Some((Side::Sender, 2)),
            waits_as: Side::Receiver,
            act: receive,
            in_hand: 1,
            ..Scene::quiet(2)
        },
        Scene {
            name: "receive in place, empty",
            waits_as: Side::Receiver,
            act: receive,
            in_hand: 1,
            ..Scene::quiet(1)
        },
        Scene {
            name: "rendezvous receive in place, senders asleep",
            sleepers: Some((Side::Sender, 2)),
            waits_as: Side::Receiver,
            act: receive,
            in_hand: 1,
            ..Scene::quiet(0)
        },
        Scene {
            name: "select, empty",
            waits_as: Side::Receiver,
            act: |play, _| {
                rx(play, |rx| {
                    let mut select = Select::new();
                    select.recv(rx);
                    if let Ok(message) = select.run(|_| rx.recv_now()) {
                        play.ledger.has_received(message, &mut [0; SENDERS]);
                    }
                });
            },
            in_hand: 1,
            ..Scene::quiet(2)
        },
        Scene {
            name: "select to send, full",
            filled: 2,
            act: |play, who| {
                let message = play.ledger.try_next(who);
                tx(play, |tx| {
                    let mut select = Select::new();
                    select.send(tx);
                    if select.run(|_| tx.send_now(message)).is_ok() {
                        play.ledger.has_sent(message);
                    }
                });
            },
            ..Scene::quiet(2)
        },
    ]
}

/// The plain operations, on any kind.
pub(crate) fn operations<S: Subject>(names: [&'static str; 4]) -> [Scene<S>; 4] {
    let [send, send_full, recv, recv_empty] = names;
    [
        Scene {
            name: send,
            sleepers: Some((Side::Receiver, 1)),
            act: |stage, who| {
                stage.send(who, None);
            },
            ..Scene::quiet(2)
        },
        Scene {
            name: send_full,
            filled: 2,
            act: |stage, who| {
                stage.send(who, None);
            },
            ..Scene::quiet(2)
        },
        Scene {
            name: recv,
            filled: 2,
            sleepers: Some((Side::Sender, 1)),
            waits_as: Side::Receiver,
            act: |stage, _| {
                stage.recv(&mut [0; SENDERS], None);
            },
            in_hand: 1,
            ..Scene::quiet(2)
        },
        Scene {
            name: recv_empty,
            waits_as: Side::Receiver,
            act: |stage, _| {
                stage.recv(&mut [0; SENDERS], None);
            },
            in_hand: 1,
            ..Scene::quiet(2)
        },
    ]
}

/// A channel with one sender and one receiver.
pub(crate) struct OneToOne {
    tx: RefCell<Option<spsc::Sender<Message>>>,
    rx: RefCell<spsc::Receiver<Message>>,
}

fn close(stage: &Stage<OneToOne>) {
    if let Some(tx) = stage.subject.tx.borrow_mut().as_mut() {
        tx.close();
    }
}

/// The ends of a channel with one sender and one receiver.
pub(crate) fn endings() -> Vec<Scene<OneToOne>> {
    vec![
        Scene {
            name: "one to one: close, receiver asleep",
            sleepers: Some((Side::Receiver, 1)),
            act: |stage, _| close(stage),
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "one to one: receive from a closed channel",
            before: close,
            act: |stage, _| {
                stage.recv(&mut [0; SENDERS], None);
            },
            waits_as: Side::Receiver,
            goes_on: false,
            ..Scene::quiet(2)
        },
        Scene {
            name: "one to one: send, then drop the sender, receiver asleep",
            sleepers: Some((Side::Receiver, 1)),
            before: |stage| {
                stage.subject.tx.take();
            },
            act: |stage, who| {
                stage.send(who, None);
                stage.subject.tx.take();
            },
            goes_on: false,
            ..Scene::quiet(2)
        },
    ]
}

/// Those who find what a dead sender or receiver of messages has left behind, and those who leave it.
pub(crate) fn heirs<S: Subject>(names: [&'static str; 2]) -> [Scene<S>; 2] {
    let [recv, send] = names;
    [
        Scene {
            name: recv,
            waits_as: Side::Receiver,
            act: |stage, _| {
                stage.recv(&mut [0; SENDERS], None);
            },
            in_hand: 1,
            ..Scene::quiet(2)
        },
        Scene {
            name: send,
            act: |stage, who| {
                stage.send(who, None);
            },
            ..Scene::quiet(2)
        },
    ]
}

/// Deaths with something in hand: in the middle of a send, and of a receive.
pub(crate) fn legacies<S: Subject>() -> Vec<Scene<S>> {
    let [mut recv, send] = heirs(["receive", "send"]);
    recv.filled = 1;
    vec![recv, send]
}

macro_rules! tried {
    ($answer:expr, $not_now:ident) => {
        match $answer {
            Ok(value) => Tried::Done(value),
            Err(error) if error.$not_now() => Tried::NotNow,
            Err(error) => {
                let expected = error.is_closed() || error.is_disconnected();
                assert!(expected, "{error}");
                Tried::Over
            }
        }
    };
}

impl Subject for OneToOne {
    const ONE_USER: bool = true;

    fn new(capacity: usize) -> OneToOne {
        let (tx, rx) = spsc::channel(capacity).unwrap();
        OneToOne {
            tx: RefCell::new(Some(tx)),
            rx: RefCell::new(rx),
        }
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        let mut tx = self.tx.borrow_mut();
        let Some(tx) = tx.as_mut() else {
            return Tried::Over;
        };
        match limit {
            None => tried!(tx.send(message), is_occupied),
            Some(limit) => tried!(tx.send_timeout(message, limit), is_timeout),
        }
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        let mut rx = self.rx.borrow_mut();
        match limit {
            None => tried!(rx.recv(), is_occupied),
            Some(limit) => tried!(rx.recv_timeout(limit), is_timeout),
        }
    }

    fn state(&self) -> String {
        match self.tx.borrow().as_ref() {
            Some(tx) => tx.state(),
            None => "its sender is dropped here".to_owned(),
        }
    }

    fn len(&self) -> usize {
        self.rx.borrow().len()
    }

    fn is_closed(&self) -> bool {
        self.tx.borrow().is_none() || self.rx.borrow().is_closed()
    }
}

/// The same with both sides lent to a select, or to a poll loop.
pub(crate) struct Lent<const POLLED: bool>(OneToOne);

impl<const POLLED: bool> Subject for Lent<POLLED> {
    const ONE_USER: bool = true;

    fn new(capacity: usize) -> Self {
        let builder = Builder::new().capacity(capacity).pollable(POLLED);
        let (tx, rx) = builder.build_spsc().unwrap();
        Lent(OneToOne {
            tx: RefCell::new(Some(tx)),
            rx: RefCell::new(rx),
        })
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        if limit.is_some() {
            return self.0.send(message, limit);
        }
        let mut tx = self.0.tx.borrow_mut();
        let tx = tx.as_mut().unwrap().shared();
        if POLLED {
            let mut readiness = tx.readiness().unwrap();
            loop {
                match tx.send_now(message) {
                    Some(sent) => return tried!(sent, is_occupied),
                    None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
                    None => {}
                }
            }
        }
        let mut select = Select::new();
        select.send(&tx);
        tried!(select.run(|_| tx.send_now(message)), is_occupied)
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        if limit.is_some() {
            return self.0.recv(limit);
        }
        let mut rx = self.0.rx.borrow_mut();
        let rx = rx.shared();
        if POLLED {
            let mut readiness = rx.readiness().unwrap();
            loop {
                match rx.recv_now() {
                    Some(got) => return tried!(got, is_occupied),
                    None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
                    None => {}
                }
            }
        }
        let mut select = Select::new();
        select.recv(&rx);
        tried!(select.run(|_| rx.recv_now()), is_occupied)
    }

    fn state(&self) -> String {
        self.0.state()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A channel of bytes; with `BYTES` beyond the ring's, they lie in the arena. `AGAIN`: what its receiver dies with comes again.
pub(crate) struct Letters<const BYTES: usize, const AGAIN: bool> {
    tx: BytesSender,
    rx: BytesReceiver,
}

impl<const BYTES: usize, const AGAIN: bool> Letters<BYTES, AGAIN> {
    /// The message and a tail that only it has.
    fn letter(message: Message) -> Vec<u8> {
        let head: Vec<u8> = message.iter().flat_map(|word| word.to_le_bytes()).collect();
        head.iter().copied().cycle().take(BYTES).collect()
    }

    /// A letter that is not whole gives a message that is not.
    fn message(letter: &[u8]) -> Message {
        let mut message = Message::default();
        for (word, bytes) in message.iter_mut().zip(letter.chunks(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        if letter == Self::letter(message) {
            message
        } else {
            Message::default()
        }
    }
}

impl<const BYTES: usize, const AGAIN: bool> Subject for Letters<BYTES, AGAIN> {
    const COMES_AGAIN: bool = AGAIN;

    fn new(capacity: usize) -> Self {
        let delivery = match AGAIN {
            false => Delivery::AtMostOnce,
            true => Delivery::AtLeastOnce,
        };
        let builder = Builder::new().capacity(capacity).delivery(delivery);
        let (tx, rx) = builder.build_bytes().unwrap();
        Letters { tx, rx }
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        let letter = Self::letter(message);
        match limit {
            None => tried!(self.tx.send(&letter), is_full),
            Some(Duration::ZERO) => tried!(self.tx.try_send(&letter), is_full),
            Some(limit) => tried!(self.tx.send_timeout(&letter, limit), is_timeout),
        }
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        let letter = match limit {
            None => tried!(self.rx.recv(), is_empty),
            Some(Duration::ZERO) => tried!(self.rx.try_recv(), is_empty),
            Some(limit) => tried!(self.rx.recv_timeout(limit), is_timeout),
        };
        match letter {
            Tried::Done(letter) => Tried::Done(Self::message(&letter)),
            Tried::NotNow => Tried::NotNow,
            Tried::Over => Tried::Over,
        }
    }

    fn state(&self) -> String {
        self.tx.state()
    }

    fn len(&self) -> usize {
        self.tx.len()
    }

    fn is_closed(&self) -> bool {
        self.tx.is_closed()
    }

    fn left_over(&self) -> usize {
        self.tx.arena_used()
    }
}

/// The same, sent by a select.
pub(crate) struct Posted<const BYTES: usize>(Letters<BYTES, false>);

impl<const BYTES: usize> Subject for Posted<BYTES> {
    fn new(capacity: usize) -> Self {
        Posted(Letters::new(capacity))
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        if limit.is_some() {
            return self.0.send(message, limit);
        }
        let letter = Letters::<BYTES, false>::letter(message);
        let room = self.0.tx.sending(BYTES);
        let mut select = Select::new();
        select.send(&room);
        tried!(select.run(|_| self.0.tx.send_now(&letter)), is_full)
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        self.0.recv(limit)
    }

    fn state(&self) -> String {
        self.0.state()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn left_over(&self) -> usize {
        self.0.left_over()
    }
}

/// A channel whose users wait in a poll loop.
pub(crate) struct Polled(Ours);

impl Subject for Polled {
    fn new(capacity: usize) -> Polled {
        let builder = Builder::new().capacity(capacity).pollable(true);
        let (tx, rx) = builder.build().unwrap();
        Polled(Ours::of(tx, rx))
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        if limit.is_some() {
            return self.0.send(message, limit);
        }
        let tx = self.0.tx.borrow();
        let tx = tx.as_ref().unwrap();
        let mut readiness = tx.readiness().unwrap();
        loop {
            match tx.send_now(message) {
                Some(sent) => return sent.map_or(Tried::Over, Tried::Done),
                None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
                None => {}
            }
        }
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        if limit.is_some() {
            return self.0.recv(limit);
        }
        let rx = self.0.rx.borrow();
        let rx = rx.as_ref().unwrap();
        let mut readiness = rx.readiness().unwrap();
        loop {
            match rx.recv_now() {
                Some(got) => return got.map_or(Tried::Over, Tried::Done),
                None if readiness.arm().unwrap() => wait_readable(readiness.as_fd(), None),
                None => {}
            }
        }
    }

    fn state(&self) -> String {
        self.0.state()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A channel in which messages come again.
pub(crate) struct Again(Ours);

impl Subject for Again {
    const COMES_AGAIN: bool = true;

    fn new(capacity: usize) -> Again {
        let builder = Builder::new()
            .capacity(capacity)
            .delivery(Delivery::AtLeastOnce);
        let (tx, rx) = builder.build().unwrap();
        Again(Ours::of(tx, rx))
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        self.0.send(message, limit)
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        self.0.recv(limit)
    }

    fn state(&self) -> String {
        self.0.state()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Again {
    fn rx(&self, act: impl FnOnce(&Receiver<Message>)) {
        act(self.0.rx.borrow().as_ref().unwrap());
    }
}

/// Messages given back, received again, and acknowledged at the end of a closed channel.
pub(crate) fn returns() -> Vec<Scene<Again>> {
    let give_back = |stage: &Stage<Again>| {
        stage.subject.rx(|rx| rx.recv_ref().unwrap().give_back());
    };
    vec![
        Scene {
            name: "at least once: give back",
            filled: 1,
            waits_as: Side::Receiver,
            act: |stage, _| {
                stage.subject.rx(|rx| rx.recv_ref().unwrap().give_back());
            },
            ..Scene::quiet(2)
        },
        Scene {
            name: "at least once: receive again, twice",
            filled: 2,
            before: give_back,
            waits_as: Side::Receiver,
            act: |stage, _| {
                stage.recv(&mut [0; SENDERS], None);
                stage.recv(&mut [0; SENDERS], None);
            },
            in_hand: 1,
            ..Scene::quiet(2)
        },
        Scene {
            name: "at least once: acknowledge the last, and find the end",
            filled: 1,
            before: |stage| stage.subject.rx(|rx| assert!(rx.close())),
            waits_as: Side::Receiver,
            act: |stage, _| {
                stage.recv(&mut [0; SENDERS], None);
                stage.recv(&mut [0; SENDERS], None);
            },
            in_hand: 1,
            goes_on: false,
            ..Scene::quiet(2)
        },
    ]
}
