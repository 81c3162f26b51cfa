//! loom models of the arena beside a ring: every interleaving of a participant that dies after any of its writes, the
//! survivors that bury it, and one who goes on.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p multi-chan --lib message`

#![expect(unsafe_code, reason = "lays a channel out in private memory")]

use crate::delivery::Delivery;
use crate::kill::dies_after;
use crate::layout::{Geometry, Owner, row_of};
use crate::message::arena::{Arena, Run};
use crate::message::packet::{Content, Packet};
use crate::message::recover;
use crate::model::put_slots;
use crate::model_memory::{Memory, bound, check};
use crate::ring::{Nothing, Refused, Ring};
use crate::trail::Hint;
use crate::wait::Ticket;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::Mutex;

const VICTIM: Owner = 1;
const OTHER: Owner = 2;

/// A channel of messages in private memory, with loom's atomics in the places of the real ones.
struct Yard {
    ring: Ring<Packet>,
    bare: Ring<()>,
    arena: Arena,
    _memory: Memory,
    /// One per chunk: who uses the bytes of a run says so here, and loom objects to two at a time.
    watched: Vec<UnsafeCell<()>>,
    /// std's: not part of what loom interleaves.
    count: Mutex<Count>,
}

/// What happened to messages in one execution, where they come again.
#[derive(Default)]
struct Count {
    /// Published by who lives.
    sent: u32,
    /// Begun by a victim: published, if it lived so long.
    begun: u32,
    acknowledged: u32,
}

// SAFETY: as the mapping it stands for.
unsafe impl Send for Yard {}

// SAFETY: as above; the cells are what is watched.
unsafe impl Sync for Yard {}

impl Yard {
    fn new(capacity: usize, chunks: usize, delivery: Delivery) -> Arc<Yard> {
        let geometry = Geometry::with_lead::<Packet>(capacity, Packet::LEAD, delivery).unwrap();
        let geometry = geometry.with_arena(chunks * 4096).unwrap();
        let mut memory = Memory::new(geometry.map_bytes);
        put_slots(&mut memory, &geometry);
        let base = memory.base();
        // SAFETY: laid out for this geometry just now, and freed when the last user is gone.
        let ring = unsafe { Ring::new(base, geometry) };
        // SAFETY: as above; any geometry fits the unit type.
        let bare = unsafe { Ring::new(base, geometry) };
        // SAFETY: as above.
        let arena = unsafe { Arena::new(base, geometry.arena.unwrap()) };
        // SAFETY: nobody uses the arena yet.
        unsafe { arena.fill_with_atomics() };
        Arc::new(Yard {
            ring,
            bare,
            arena,
            _memory: memory,
            watched: (0..chunks).map(|_| UnsafeCell::new(())).collect(),
            count: Mutex::default(),
        })
    }

    fn use_bytes(&self, run: Run) {
        for index in run.first..run.first + run.count {
            self.watched[index as usize].with_mut(|_| ());
        }
    }

    /// Sends a message of `chunks` chunks, or returns false for want of room.
    fn send(&self, owner: Owner, chunks: usize) -> bool {
        let Some(run) = self.arena.claim(owner, chunks * 4096) else {
            return false;
        };
        self.use_bytes(run);
        match self.ring.claim_room(owner, &Hint::start()) {
            Ok(claim) => {
                self.ring
                    .write_words(claim, Packet::of_run(run, chunks * 4096));
                self.count.lock().unwrap().begun += u32::from(owner == VICTIM);
                self.ring.publish(claim);
                self.count.lock().unwrap().sent += u32::from(owner != VICTIM);
                true
            }
            Err(Refused::Full { .. }) => {
                self.arena.free(run);
                false
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Receives a message if there is one, and returns its chunks.
    fn recv(&self, owner: Owner) -> Option<u32> {
        let claim = match self.ring.claim_value(owner, &Hint::start()) {
            Ok(claim) => claim,
            Err(Nothing::Empty | Nothing::Pending { .. }) => return None,
            Err(other) => panic!("{other:?}"),
        };
        let head = self.ring.read_words(claim);
        let Some(Content::Run { run, .. }) = Packet::read(head, &self.arena) else {
            panic!("a message that does not hold its run");
        };
        self.use_bytes(run);
        if self.ring.comes_again(claim.lap()) {
            // Before the write, after which a victim may be dead.
            self.count.lock().unwrap().acknowledged += 1;
            let word = Packet::acknowledged(run.count as usize * 4096);
            self.ring.write_word(claim, word);
        }
        self.arena.free(run);
        self.ring.free(claim);
        Some(run.count)
    }

    /// Sends a message of `chunks` chunks as a select does, without the processes.
    fn send_by_select(&self, owner: Owner, chunks: usize) {
        let (freed, room) = (&self.ring.header().freed.0, self.arena.room());
        let mut slept = false;
        // For chunks, or for a slot.
        let mut armed: Option<(bool, Ticket)> = None;
        loop {
            let lacks_chunks = !self.arena.has_room(chunks * 4096);
            if !lacks_chunks {
                match self.ring.peek_room(&Hint::start()) {
                    Ok(()) if self.send(owner, chunks) => break,
                    Ok(()) => continue,
                    Err(Refused::Full { taker: None }) => {}
                    // What would be a short sleep.
                    Err(Refused::Full { .. }) => {
                        armed = None;
                        thread::yield_now();
                        continue;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            let event = if lacks_chunks { room } else { freed };
            match armed.take() {
                Some((for_chunks, ticket)) if for_chunks == lacks_chunks => {
                    event.sleep(ticket, None);
                    slept = true;
                }
                _ => {
                    if slept && lacks_chunks {
                        self.pass_on_slot();
                    }
                    armed = Some((lacks_chunks, event.arm()));
                }
            }
        }
        self.ring.header().sent.0.post(1);
        if slept {
            self.pass_on_slot();
        }
    }

    fn pass_on_slot(&self) {
        let freed = &self.ring.header().freed.0;
        if freed.is_armed() && self.ring.has_room() {
            freed.post(1);
        }
    }

    /// Sends a run that its owner has, as soon as there is a slot, as a plain sender does.
    fn send_run(&self, owner: Owner, run: Run) {
        let freed = &self.ring.header().freed.0;
        let mut ticket = None;
        let mut slept = false;
        let claim = loop {
            match self.ring.claim_room(owner, &Hint::start()) {
                Ok(claim) => break claim,
                Err(Refused::Full { taker: None }) => match ticket.take() {
                    None => ticket = Some(freed.arm()),
                    Some(ticket) => {
                        freed.sleep(ticket, None);
                        slept = true;
                    }
                },
                Err(Refused::Full { .. }) => thread::yield_now(),
                Err(other) => panic!("{other:?}"),
            }
        };
        let words = Packet::of_run(run, run.count as usize * 4096);
        self.ring.write_words(claim, words);
        self.ring.publish(claim);
        self.ring.header().sent.0.post(1);
        if slept {
            self.pass_on_slot();
        }
    }

    /// Receives a message, waiting for one.
    fn await_message(&self) {
        let header = self.ring.header();
        let mut ticket = None;
        while self.recv(OTHER).is_none() {
            match ticket.take() {
                None => ticket = Some(header.sent.0.arm()),
                Some(_) if self.ring.peek(&Hint::start()) != Err(Nothing::Empty) => {
                    thread::yield_now();
                }
                Some(ticket) => header.sent.0.sleep(ticket, None),
            }
        }
        header.freed.0.post(1);
    }

    /// Buries the victim, whose process is dead.
    fn bury(&self) {
        self.bare.sweep(
            row_of(VICTIM),
            || true,
            |slot, stamp| recover::settle(&self.bare, &self.arena, slot, stamp),
        );
        recover::free_runs_of(&self.bare, &self.arena, row_of(VICTIM), || true);
    }

    /// What must hold once the dead are buried and nobody is at work.
    fn is_whole(&self) {
        while self.recv(OTHER).is_some() {}
        if self.ring.looks_behind() {
            let count = self.count.lock().unwrap();
            assert!(count.acknowledged >= count.sent, "lost");
            assert!(
                count.acknowledged <= count.sent + count.begun,
                "received twice"
            );
        }
        assert_eq!(self.arena.bytes_in_use(), 0, "leaked");
        assert!(self.send(OTHER, self.watched.len()), "no room");
        assert_eq!(self.recv(OTHER), Some(self.watched.len() as u32));
    }
}

/// Runs `act` as a victim that dies after each of its writes in turn, beside `beside`; then two survivors bury it, of whom
/// one dies after each of its writes, too.
fn dying(
    preemptions: usize,
    (capacity, chunks, delivery): (usize, usize, Delivery),
    act: impl Fn(&Yard) + Copy + Send + Sync + 'static,
    beside: impl Fn(&Yard) + Copy + Send + Sync + 'static,
) {
    // Not more writes than that: then the victim has ended, and there is nothing to bury.
    const WRITES_MAX: u32 = 24;
    for victims_writes in 1..WRITES_MAX {
        // std's: not part of what loom interleaves.
        let lived = std::sync::Arc::new(Mutex::new(true));
        let told = lived.clone();
        for survivors_writes in [1, 2, 3, u32::MAX] {
            let told = told.clone();
            check(preemptions, move || {
                let yard = Yard::new(capacity, chunks, delivery);
                let doomed = yard.clone();
                let told = told.clone();
                let victim = thread::spawn(move || {
                    if dies_after(victims_writes, || act(&doomed)).is_some() {
                        return;
                    }
                    *told.lock().unwrap() = false;
                    let other = doomed.clone();
                    let survivor =
                        thread::spawn(move || dies_after(survivors_writes, || other.bury()));
                    doomed.bury();
                    survivor.join().unwrap();
                });
                beside(&yard);
                victim.join().unwrap();
                yard.is_whole();
            });
        }
        if *lived.lock().unwrap() {
            return;
        }
    }
    panic!("the victim has more writes than the model tries");
}

#[test]
fn a_sender_dies_beside_a_receiver() {
    dying(
        1,
        (1, 2, Delivery::AtMostOnce),
        |yard| {
            yard.send(VICTIM, 2);
        },
        |yard| {
            yard.recv(OTHER);
        },
    );
}

#[test]
fn a_receiver_dies_beside_a_sender() {
    dying(
        1,
        (1, 3, Delivery::AtMostOnce),
        |yard| {
            yard.send(VICTIM, 2);
            yard.recv(VICTIM);
        },
        |yard| {
            yard.send(OTHER, 1);
        },
    );
}

#[test]
fn two_senders_share_three_chunks_and_one_dies() {
    dying(
        1,
        (2, 3, Delivery::AtMostOnce),
        |yard| {
            yard.send(VICTIM, 2);
        },
        |yard| {
            yard.send(OTHER, 2);
        },
    );
}

#[test]
fn what_a_receiver_dies_with_is_acknowledged_once() {
    // A rendezvous, too, has the message received again as long as nobody has seen it.
    for (capacity, delivery) in [(1, Delivery::AtLeastOnce), (0, Delivery::AtMostOnce)] {
        dying(
            1,
            (capacity, 2, delivery),
            |yard| {
                yard.recv(VICTIM);
            },
            |yard| {
                yard.send(OTHER, 2);
            },
        );
    }
}

#[test]
fn what_a_receiver_dies_with_comes_to_one_beside_it() {
    dying(
        1,
        (1, 2, Delivery::AtLeastOnce),
        |yard| {
            yard.send(VICTIM, 2);
            yard.recv(VICTIM);
        },
        |yard| {
            yard.recv(OTHER);
        },
    );
}

/// The select is woken for the slot and finds the chunks gone: the wake is the plain sender's.
#[test]
fn a_select_that_sends_keeps_no_wake_that_it_cannot_use() {
    // Who lies down in between is all that matters.
    check(bound(0, 1), || {
        const PLAIN: Owner = 3;
        const SELECT: Owner = 4;
        let yard = Yard::new(1, 4, Delivery::AtMostOnce);
        assert!(yard.send(OTHER, 1));
        let run = yard.arena.claim(PLAIN, 4096).unwrap();
        let selecting = {
            let yard = yard.clone();
            thread::spawn(move || yard.send_by_select(SELECT, 2))
        };
        let plain = {
            let yard = yard.clone();
            thread::spawn(move || yard.send_run(PLAIN, run))
        };
        // By another thread, so that the select may have lain down for the slot before.
        let held = {
            let yard = yard.clone();
            thread::spawn(move || yard.arena.claim(OTHER, 2 * 4096))
        };
        let held = held.join().unwrap();
        yard.await_message();
        // The plain sender's, if the chunks are taken.
        yard.await_message();
        if let Some(held) = held {
            yard.arena.free(held);
        }
        yard.await_message();
        selecting.join().unwrap();
        plain.join().unwrap();
        yard.is_whole();
    });
}

#[test]
fn a_select_that_sends_hears_of_chunks_and_of_slots() {
    check(bound(1, 2), || {
        let yard = Yard::new(1, 2, Delivery::AtMostOnce);
        assert!(yard.send(OTHER, 2));
        let selecting = {
            let yard = yard.clone();
            thread::spawn(move || yard.send_by_select(4, 2))
        };
        yard.await_message();
        yard.await_message();
        selecting.join().unwrap();
        yard.is_whole();
    });
}
