//! A worker's queue of unstarted tasks: it pushes and pops, and any other worker may steal half.
//!
//! The algorithm is the one of Go's run queue: the owner alone moves the tail; head is moved by a compare-and-swap of
//! whoever takes. A thief copies first and moves head after, so what it copied counts only if nobody took in between.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::sync::{AtomicPtr, AtomicU32, Ordering::*, Padded};

/// Slots of a ring. Go's figure: more than a burst of children, and still only 2 KiB of pointers.
#[cfg(not(loom))]
pub(crate) const SLOT_COUNT: u32 = 256;
#[cfg(loom)]
pub(crate) const SLOT_COUNT: u32 = 4;

/// The right to push to and pop from one ring: made once with it, kept by its worker.
#[derive(Debug)]
pub(crate) struct Owner(PhantomData<core::cell::Cell<()>>);

/// A bounded queue of pointers with one producer and any number of takers.
///
/// Indices run freely and wrap at 2³²; `head <= tail <= head + SLOT_COUNT` in that arithmetic.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    /// Next to take. Moved by whoever takes.
    head: Padded<AtomicU32>,
    /// Next to fill. Written by the owner alone.
    tail: Padded<AtomicU32>,
    slots: Box<[AtomicPtr<T>]>,
}

impl<T> Ring<T> {
    pub(crate) fn new() -> (Self, Owner) {
        let ring = Self {
            head: Padded(AtomicU32::new(0)),
            tail: Padded(AtomicU32::new(0)),
            slots: (0..SLOT_COUNT)
                .map(|_| AtomicPtr::new(core::ptr::null_mut()))
                .collect(),
        };
        (ring, Owner(PhantomData))
    }

    fn slot(&self, index: u32) -> &AtomicPtr<T> {
        &self.slots[(index % SLOT_COUNT) as usize]
    }

    /// Whether there was nothing in it at some moment during the call.
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire: pairs with the Release CAS of a taker, so that a tail at least as new as this head is read next.
        let head = self.head.0.load(Acquire);
        // Relaxed: a hint; a sleeper that relies on it has a fence before (see `idle`).
        let tail = self.tail.0.load(Relaxed);
        head == tail
    }

    /// Adds at the tail, or gives the item back when full.
    pub(crate) fn push(&self, _owner: &Owner, item: NonNull<T>) -> Result<(), NonNull<T>> {
        // Relaxed: only this worker writes `tail`.
        let tail = self.tail.0.load(Relaxed);
        // Acquire: pairs with the Release CAS of a taker: its reads of the slot were over before we fill it again.
        let head = self.head.0.load(Acquire);
        if tail.wrapping_sub(head) >= SLOT_COUNT {
            return Err(item);
        }
        // Relaxed: published by the store to `tail`.
        self.slot(tail).store(item.as_ptr(), Relaxed);
        // Release: publishes the slot and the item behind it. Pairs with the Acquire load of `tail` in `steal_half`.
        self.tail.0.store(tail.wrapping_add(1), Release);
        Ok(())
    }

    /// Takes at the head.
    pub(crate) fn pop(&self, _owner: &Owner) -> Option<NonNull<T>> {
        // Relaxed: only this worker writes `tail`, and its own pushes it sees.
        let tail = self.tail.0.load(Relaxed);
        // Relaxed: validated by the CAS.
        let mut head = self.head.0.load(Relaxed);
        loop {
            if head == tail {
                return None;
            }
            // Relaxed: the slot was filled by this worker.
            let item = self.slot(head).load(Relaxed);
            // Release: our read of the slot is over. Pairs with the Acquire load of `head` in `push`.
            // Relaxed on failure: we only try again.
            match self
                .head
                .0
                .compare_exchange_weak(head, head.wrapping_add(1), Release, Relaxed)
            {
                Ok(_) => return NonNull::new(item),
                Err(now) => head = now,
            }
        }
    }

    /// Moves half of this ring (rounded up) to the thief's, whose ring must be empty, and returns one to run.
    pub(crate) fn steal_half(&self, thief: &Self, _owner: &Owner) -> Option<NonNull<T>> {
        // Relaxed: the thief's own tail.
        let into = thief.tail.0.load(Relaxed);
        debug_assert!(thief.is_empty());
        loop {
            // Acquire: pairs with the Release CAS of other takers, so that the tail read next is not older than this.
            let head = self.head.0.load(Acquire);
            // Acquire: pairs with the Release store in `push`: the slots and the items behind them are seen.
            let tail = self.tail.0.load(Acquire);
            let there = tail.wrapping_sub(head);
            if there == 0 {
                return None;
            }
            if there > SLOT_COUNT {
                // `head` is stale: it has moved on, and so has the tail.
                continue;
            }
            let count = there - there / 2;
            // The first is for the caller; the rest go to the thief's slots, unpublished until the CAS below says they are ours.
            // Relaxed: a slot overwritten meanwhile is a value that the failing CAS throws away.
            let first = self.slot(head).load(Relaxed);
            for i in 1..count {
                // Relaxed, both: as above; and the thief's slot is published by its tail.
                let item = self.slot(head.wrapping_add(i)).load(Relaxed);
                thief.slot(into.wrapping_add(i - 1)).store(item, Relaxed);
            }
            // Release: our reads of the slots are over. Pairs with the Acquire load of `head` in `push`.
            // Relaxed on failure: we start over.
            if self
                .head
                .0
                .compare_exchange(head, head.wrapping_add(count), Release, Relaxed)
                .is_ok()
            {
                // Release: publishes what was moved to the next thief. Pairs with the Acquire load of `tail` above.
                thief.tail.0.store(into.wrapping_add(count - 1), Release);
                return NonNull::new(first);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn item(n: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::without_provenance_mut(n)).expect("not null")
    }

    #[test]
    fn ring_is_first_in_first_out_and_says_when_full() {
        let (ring, owner) = Ring::new();
        for round in 0..3usize {
            for n in 1..=SLOT_COUNT as usize {
                ring.push(&owner, item(n + round)).expect("room");
            }
            assert_eq!(ring.push(&owner, item(9999)), Err(item(9999)));
            for n in 1..=SLOT_COUNT as usize {
                assert_eq!(ring.pop(&owner), Some(item(n + round)));
            }
            assert_eq!(ring.pop(&owner), None);
        }
    }

    #[test]
    fn thief_gets_half_rounded_up_and_in_order() {
        let (ring, owner) = Ring::new();
        let (other, thief) = Ring::new();
        for n in 1..=7 {
            ring.push(&owner, item(n)).expect("room");
        }
        assert_eq!(ring.steal_half(&other, &thief), Some(item(1)));
        let moved: Vec<_> = std::iter::from_fn(|| other.pop(&thief)).collect();
        assert_eq!(moved, [item(2), item(3), item(4)]);
        let left: Vec<_> = std::iter::from_fn(|| ring.pop(&owner)).collect();
        assert_eq!(left, [item(5), item(6), item(7)]);
        assert_eq!(ring.steal_half(&other, &thief), None);
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    fn item(n: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::without_provenance_mut(n)).unwrap()
    }

    /// Owner pushes five through a ring of four slots and pops, one thief steals: nothing lost, nothing twice.
    /// Bounds: two threads, 4 slots, 5 items, 3 pre-emptions.
    #[test]
    fn every_item_is_taken_once() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let (ring, owner) = Ring::<u8>::new();
            let ring = Arc::new(ring);
            let victim = Arc::clone(&ring);
            let thief = thread::spawn(move || {
                let (own, token) = Ring::new();
                let mut got = Vec::new();
                if let Some(first) = victim.steal_half(&own, &token) {
                    got.push(first.addr().get());
                    while let Some(next) = own.pop(&token) {
                        got.push(next.addr().get());
                    }
                }
                got
            });
            let mut got = Vec::new();
            for n in 1..=5 {
                if ring.push(&owner, item(n)).is_err() {
                    got.push(ring.pop(&owner).unwrap().addr().get());
                    ring.push(&owner, item(n)).unwrap();
                }
            }
            while let Some(next) = ring.pop(&owner) {
                got.push(next.addr().get());
            }
            got.extend(thief.join().unwrap());
            got.sort_unstable();
            assert_eq!(got, [1, 2, 3, 4, 5]);
        });
    }

    /// Two thieves and the owner. Bounds: three threads, 4 slots, 3 items, 2 pre-emptions.
    #[test]
    fn two_thieves_share() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(|| {
            let (ring, owner) = Ring::<u8>::new();
            let ring = Arc::new(ring);
            for n in 1..=3 {
                ring.push(&owner, item(n)).unwrap();
            }
            let thieves: Vec<_> = (0..2)
                .map(|_| {
                    let victim = Arc::clone(&ring);
                    thread::spawn(move || {
                        let (own, token) = Ring::new();
                        let first = victim.steal_half(&own, &token);
                        first
                            .into_iter()
                            .chain(std::iter::from_fn(|| own.pop(&token)))
                            .map(|p| p.addr().get())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let mut got: Vec<_> = ring
                .pop(&owner)
                .into_iter()
                .map(|p| p.addr().get())
                .collect();
            for thief in thieves {
                got.extend(thief.join().unwrap());
            }
            while let Some(next) = ring.pop(&owner) {
                got.push(next.addr().get());
            }
            got.sort_unstable();
            assert_eq!(got, [1, 2, 3]);
        });
    }
}
