//! The same kills on a ring without recovery, to see that the harness tells: it must find hangs there.
//!
//! The ring is Vyukov's, with a sequence number per slot, in shared memory, and futexes to sleep on.

#![expect(
    unsafe_code,
    clippy::disallowed_types,
    reason = "a ring of the tests' own, on the kernel's futexes"
)]

use crate::ledger::{Message, wrote};
use crate::report;
use crate::stage::{Outcome, Scene, Side, Subject, Tried, perform};
use crate::support::{Random, shared};
use std::panic::Location;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

const SLOTS: u64 = 2;

#[derive(Default)]
struct Slot {
    sequence: AtomicU64,
    value: [AtomicU64; 4],
}

#[derive(Default)]
struct Shared {
    tail: AtomicU64,
    head: AtomicU64,
    /// Raised by every send and by every receive.
    sent: AtomicU32,
    freed: AtomicU32,
    slots: [Slot; SLOTS as usize],
}

struct PlainRing(&'static Shared);

/// Tells the harness of the write just made, as the channel's own atomics do.
#[track_caller]
fn told() {
    wrote(Location::caller());
}

impl PlainRing {
    fn slot(&self, position: u64) -> &Slot {
        &self.0.slots[(position % SLOTS) as usize]
    }

    fn try_send(&self, message: Message) -> bool {
        loop {
            let tail = self.0.tail.load(SeqCst);
            let slot = self.slot(tail);
            let sequence = slot.sequence.load(SeqCst);
            if sequence == tail {
                let claimed = self.0.tail.compare_exchange(tail, tail + 1, SeqCst, SeqCst);
                if claimed.is_err() {
                    continue;
                }
                told();
                for (word, value) in slot.value.iter().zip(message) {
                    word.store(value, SeqCst);
                }
                slot.sequence.store(tail + 1, SeqCst);
                told();
                post(&self.0.sent);
                return true;
            }
            if sequence < tail {
                return false;
            }
        }
    }

    fn try_recv(&self) -> Option<Message> {
        loop {
            let head = self.0.head.load(SeqCst);
            let slot = self.slot(head);
            let sequence = slot.sequence.load(SeqCst);
            if sequence == head + 1 {
                let claimed = self.0.head.compare_exchange(head, head + 1, SeqCst, SeqCst);
                if claimed.is_err() {
                    continue;
                }
                told();
                let message = [0, 1, 2, 3].map(|n: usize| slot.value[n].load(SeqCst));
                slot.sequence.store(head + SLOTS, SeqCst);
                told();
                post(&self.0.freed);
                return Some(message);
            }
            if sequence < head + 1 {
                return None;
            }
        }
    }
}

fn post(word: &AtomicU32) {
    word.fetch_add(1, SeqCst);
    told();
    // SAFETY: the word is never unmapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    told();
}

/// Tries until it is done or the limit is over, asleep in between.
fn wait<R>(
    word: &AtomicU32,
    limit: Option<Duration>,
    mut attempt: impl FnMut() -> Option<R>,
) -> Tried<R> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let seen = word.load(SeqCst);
        if let Some(done) = attempt() {
            return Tried::Done(done);
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Tried::NotNow;
        }
        let left = left.map(|left| libc::timespec {
            tv_sec: 0,
            tv_nsec: left.subsec_nanos().into(),
        });
        let left = left.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the word is never unmapped, and the limit is null or a timespec that outlives the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, left) };
    }
}

impl Subject for PlainRing {
    const HUNG: Duration = Duration::from_millis(300);

    fn new(capacity: usize) -> PlainRing {
        assert_eq!(capacity as u64, SLOTS);
        let ring = PlainRing(shared());
        for n in 0..SLOTS {
            ring.slot(n).sequence.store(n, SeqCst);
        }
        ring
    }

    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()> {
        wait(&self.0.freed, limit, || {
            self.try_send(message).then_some(())
        })
    }

    fn recv(&self, limit: Option<Duration>) -> Tried<Message> {
        wait(&self.0.sent, limit, || self.try_recv())
    }

    fn len(&self) -> usize {
        (self.0.tail.load(SeqCst) - self.0.head.load(SeqCst)) as usize
    }

    fn is_closed(&self) -> bool {
        false
    }
}

/// The results of killing after the first write, the second, .. to the end.
fn results(scene: &Scene<PlainRing>) -> Vec<Outcome> {
    let mut random = Random::new(1);
    let mut results = Vec::new();
    for write in 1.. {
        let shown = perform(scene, write, None, &mut random);
        report::enter(scene.name, None, &shown);
        if shown.site.is_none() {
            assert_eq!(
                shown.result,
                Outcome::Whole,
                "{}: nobody was killed",
                scene.name
            );
            return results;
        }
        results.push(shown.result);
    }
    results
}

pub(crate) fn a_plain_ring_hangs_where_a_sender_is_killed_between_claim_and_publish() {
    let scene = Scene {
        name: "plain ring without recovery, send: hangs are expected",
        sleepers: Some((Side::Receiver, 2)),
        act: |stage, who| {
            stage.send(who, None);
        },
        ..Scene::quiet(2)
    };
    let results = results(&scene);
    // Claim, publish, post, wake: the first kill leaves a hole, the next two leave both asleep.
    assert_eq!(results.len(), 4);
    for result in &results[..3] {
        assert_eq!(*result, Outcome::Hung);
    }
    assert_eq!(results[3], Outcome::Whole);
}

pub(crate) fn a_plain_ring_hangs_where_a_receiver_is_killed_between_claim_and_free() {
    let scene = Scene {
        name: "plain ring without recovery, receive: hangs are expected",
        filled: 2,
        sleepers: Some((Side::Sender, 2)),
        waits_as: Side::Receiver,
        act: |stage, _| {
            stage.recv(&mut Default::default(), None);
        },
        in_hand: 1,
        ..Scene::quiet(2)
    };
    let results = results(&scene);
    assert_eq!(results.len(), 4);
    for result in &results[..3] {
        assert_eq!(*result, Outcome::Hung);
    }
    assert_eq!(results[3], Outcome::Whole);
}
