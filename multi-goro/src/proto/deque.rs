//! What one task offers to others while it runs something else: it pushes and pops at the bottom, thieves take at the top.
//!
//! # States
//!
//! Items sit at the indices `top.index .. bottom`; both only count on while the deque is in use, but for pops, which bring `bottom`
//! back down to `top.index` at the lowest. The word at the top says who is at work there:
//!
//! | `top`            | meaning                                            | left by                                                     |
//! | ---------------- | -------------------------------------------------- | ----------------------------------------------------------- |
//! | `{ i, quiet }`   | nobody is about to take item `i`                    | a thief, to `{ i, trying }`                                  |
//! | `{ i, trying }`  | one thief is finding out whether there is item `i`  | it, to `{ i + 1, quiet }` (taken) or `{ i, quiet }` (gave up); the owner, to `{ i + 1, quiet }` (kept) |
//!
//! # Steps
//!
//! The **owner** pops item `i` (its own of that index: pops mirror pushes):
//!
//! - *lower* `bottom` to `i`; *light fence*; *look* at `top`;
//! - `index < i`, or `{ i, quiet }`: the item is the owner's. No read-modify-write was needed;
//! - `{ i, trying }`: change it to `{ i + 1, quiet }`. Done so: the owner's. Beaten to it: `{ i, quiet }` says the thief gave up and the item is
//!   the owner's, anything else that it was taken;
//! - `index > i`: it was taken. Then, or having changed the word, *raise* `bottom` to `i + 1`, so that it is never below `top`.
//!
//! A **thief**: change `{ i, quiet }` to `{ i, trying }`; *heavy fence*; *read* `bottom`; not above `i`: give up. Else read the slot, and change
//! `{ i, trying }` to `{ i + 1, quiet }`: if that is done the item is the thief's, if not the owner kept it.
//!
//! # Proof
//!
//! *No item goes to two.* A thief that tries for `i` against an owner that pops `i`: the heavy fence and the light one are ordered. Either
//! the light fence comes first: then the thief reads a `bottom` at least as new as the lowered one. If that is not above `i` it
//! gives up; if it is, a later push filled `i` again, and that item it may take. Or the heavy fence comes first: then the owner's look
//! finds `{ i, trying }` or what followed it, and the two settle it by one compare-and-swap on one word. `{ i, trying }` is never the same
//! word twice after it was left for `i + 1`, since `index` never goes down; left for `{ i, quiet }` it was left by its own thief. Two
//! thieves never try at once. An item below `bottom - 1` is not popped before those above it, so an owner that finds `index < i` has no thief at `i`:
//! one would have to take all between first, for each of which the same argument holds.
//!
//! *The slot is read whole.* The thief reads slot `i` after an Acquire load of a `bottom` above `i`, so it sees the item of that push or a later
//! one of index `i` or `i + SLOT_COUNT`. Each of the latter needs the owner to have popped `i` after that push (then its look finds
//! `{ i, trying }`, and the thief's last change fails and forgets what it read), or `top` to have moved on (the same).
//!
//! *Nobody waits for anybody.* A thief that is not scheduled while it tries keeps other thieves from this deque, never the owner.

use core::ptr::{self, NonNull};

use crate::sync::{AtomicPtr, AtomicU64, Ordering::*, Padded, heavy_fence, light_fence};

/// Items that a deque holds. The oldest are the largest pieces of work, so what comes after so many is not missed.
#[cfg(not(loom))]
pub(crate) const SLOT_COUNT: u64 = 64;
#[cfg(loom)]
pub(crate) const SLOT_COUNT: u64 = 2;

/// Somebody tries to take the item at the top.
const TRYING: u64 = 1;
/// One index in the word at the top.
const INDEX: u64 = 2;

fn index(top: u64) -> u64 {
    top / INDEX
}

/// A bounded double-ended queue of pointers: one owner at the bottom, any number of thieves at the top.
#[derive(Debug)]
pub(crate) struct Deque<T> {
    /// `{ index: 63 bits, trying: 1 bit }`; see the table above. On lines of its own: read by the owner at each push and pop, written when
    /// somebody steals.
    top: Padded<AtomicU64>,
    /// Written by the owner alone.
    bottom: AtomicU64,
    slots: [AtomicPtr<T>; SLOT_COUNT as usize],
}

/// Whose an item is.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pop {
    /// The owner's: nobody else has it or will.
    Kept,
    /// A thief's.
    Stolen,
}

/// What a thief got.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steal<T> {
    Got(NonNull<T>),
    /// There was nothing, or the owner kept it.
    Nothing,
    /// Another thief is at it.
    Busy,
}

impl<T> Deque<T> {
    pub(crate) fn new() -> Self {
        Self {
            top: Padded(AtomicU64::new(0)),
            bottom: AtomicU64::new(0),
            slots: core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    fn slot(&self, index: u64) -> &AtomicPtr<T> {
        &self.slots[(index % SLOT_COUNT) as usize]
    }

    /// Whether there seemed to be nothing to steal at some moment during the call.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed, both: a hint; a sleeper that relies on it has a fence before (see `idle`).
        let top = self.top.0.load(Relaxed);
        // Relaxed: as above.
        self.bottom.load(Relaxed) <= index(top)
    }

    /// Offers an item; false if there is no room. The owner only, which owes one [`pop`](Self::pop) for it after those of all later pushes.
    #[inline]
    #[must_use = "an item for which there was no room is nowhere"]
    pub(crate) fn push(&self, item: NonNull<T>) -> bool {
        // Relaxed: only the owner writes `bottom`.
        let bottom = self.bottom.load(Relaxed);
        // Acquire: pairs with the Release of a thief that took: its read of the slot was over before we fill it again.
        if bottom - index(self.top.0.load(Acquire)) >= SLOT_COUNT {
            return false;
        }
        // Relaxed: published by the store to `bottom`.
        self.slot(bottom).store(item.as_ptr(), Relaxed);
        // Release: publishes the slot and the item behind it. Pairs with the Acquire load of `bottom` in `steal`.
        self.bottom.store(bottom + 1, Release);
        true
    }

    /// Takes the item of the newest push back that was not popped yet. The owner only.
    #[inline]
    pub(crate) fn pop(&self) -> Pop {
        // Relaxed: only the owner writes `bottom`.
        let own = self.bottom.load(Relaxed) - 1;
        // Relaxed: ordered by the fence.
        self.bottom.store(own, Relaxed);
        // Pairs with the heavy fence in `steal`: either that thief sees `bottom` lowered, or we see it trying.
        light_fence();
        // Relaxed: nothing of a thief's is read before the item's own word says that it is done.
        let top = self.top.0.load(Relaxed);
        if top <= own * INDEX {
            return Pop::Kept;
        }
        self.contest(own, top)
    }

    #[cold]
    fn contest(&self, own: u64, top: u64) -> Pop {
        let trying = own * INDEX + TRYING;
        let kept = if top == trying {
            // Relaxed, both: nothing is handed over; who finds the word changed forgets what it read.
            match self
                .top
                .0
                .compare_exchange(trying, (own + 1) * INDEX, Relaxed, Relaxed)
            {
                Ok(_) => true,
                Err(now) if now == own * INDEX => {
                    // The thief gave up, and `bottom` is right as it is.
                    return Pop::Kept;
                }
                Err(_) => false,
            }
        } else {
            false
        };
        // Relaxed: there is nothing below it to publish.
        self.bottom.store(own + 1, Relaxed);
        if kept { Pop::Kept } else { Pop::Stolen }
    }

    /// Takes the oldest item. Anybody; for the owner's thread too, between two of its tasks.
    pub(crate) fn steal(&self) -> Steal<T> {
        // Relaxed: validated by the CAS.
        let top = self.top.0.load(Relaxed);
        if top & TRYING != 0 {
            return Steal::Busy;
        }
        // Relaxed: a look before the cost.
        if self.bottom.load(Relaxed) <= index(top) {
            return Steal::Nothing;
        }
        let trying = top + TRYING;
        // Relaxed, both: ordered by the fence.
        if self
            .top
            .0
            .compare_exchange(top, trying, Relaxed, Relaxed)
            .is_err()
        {
            return Steal::Busy;
        }
        // Pairs with the light fence in `pop`: either we see `bottom` lowered, or the owner sees us trying.
        heavy_fence();
        // Acquire: pairs with the Release store in `push`: the slot and the item behind it are seen.
        if self.bottom.load(Acquire) <= index(top) {
            // Relaxed, both: nothing was read. It fails if the owner has gone on from here.
            let _ignored = self.top.0.compare_exchange(trying, top, Relaxed, Relaxed);
            return Steal::Nothing;
        }
        // Relaxed: see above.
        let item = self.slot(index(top)).load(Relaxed);
        // Release: our read of the slot is over. Pairs with the Acquire load of `top` in `push`.
        // Relaxed on failure: what was read is forgotten.
        match self
            .top
            .0
            .compare_exchange(trying, top + INDEX, Release, Relaxed)
        {
            Ok(_) => NonNull::new(item).map_or(Steal::Nothing, Steal::Got),
            Err(_) => Steal::Nothing,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn item(n: usize) -> NonNull<u8> {
        NonNull::new(ptr::without_provenance_mut(n)).expect("not null")
    }

    #[test]
    fn owner_keeps_the_newest_and_thieves_get_the_oldest() {
        let deque = Deque::new();
        for n in 1..=3 {
            assert!(deque.push(item(n)));
        }
        assert_eq!(deque.steal(), Steal::Got(item(1)));
        assert_eq!(deque.pop(), Pop::Kept);
        assert_eq!(deque.steal(), Steal::Got(item(2)));
        assert_eq!(deque.steal(), Steal::Nothing);
        assert_eq!(deque.pop(), Pop::Stolen);
        assert_eq!(deque.pop(), Pop::Stolen);
        assert!(deque.is_empty());
    }

    #[test]
    fn full_deque_refuses_and_steals_make_room() {
        let deque = Deque::new();
        for round in 0..3 {
            for n in 1..=SLOT_COUNT as usize {
                assert!(deque.push(item(n + round)));
            }
            assert!(!deque.push(item(9999)));
            assert_eq!(deque.steal(), Steal::Got(item(1 + round)));
            assert!(deque.push(item(9999)));
            for _ in 0..SLOT_COUNT {
                assert_eq!(deque.pop(), Pop::Kept);
            }
            assert_eq!(deque.pop(), Pop::Stolen);
            assert!(deque.is_empty());
        }
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use crate::sync::fence;
    use loom::sync::Arc;
    use loom::thread;

    /// Items that say how often they were taken, and what was written before they were offered.
    struct Items([Item; 3]);

    struct Item {
        taken: AtomicU64,
        written: loom::cell::UnsafeCell<u64>,
    }

    impl Items {
        fn new() -> Arc<Self> {
            Arc::new(Self(core::array::from_fn(|_| Item {
                taken: AtomicU64::new(0),
                written: loom::cell::UnsafeCell::new(0),
            })))
        }

        /// Each item passes as its number, so that a stale one is harmless here and noticed.
        fn offer(&self, deque: &Deque<u8>, n: usize) -> bool {
            self.0[n].written.with_mut(|p| {
                #[expect(unsafe_code, reason = "not offered yet: nobody else looks")]
                // SAFETY: before the push.
                unsafe {
                    *p = 40 + n as u64;
                }
            });
            deque.push(NonNull::new(ptr::without_provenance_mut(n + 1)).unwrap())
        }

        fn take(&self, n: usize) {
            // Relaxed: counts.
            assert_eq!(self.0[n].taken.fetch_add(1, Relaxed), 0, "taken twice");
            let written = self.0[n].written.with(|p| {
                #[expect(unsafe_code, reason = "taken: nobody else writes")]
                // SAFETY: who took the item has it for itself.
                unsafe {
                    *p
                }
            });
            assert_eq!(written, 40 + n as u64, "what was written before is seen");
        }

        fn steal(&self, deque: &Deque<u8>) -> Option<usize> {
            match deque.steal() {
                Steal::Got(item) => {
                    let n = item.addr().get() - 1;
                    self.take(n);
                    Some(n)
                }
                Steal::Nothing | Steal::Busy => None,
            }
        }

        /// The owner's end of item `n`: it keeps it, or says that somebody took it.
        fn pop(&self, deque: &Deque<u8>, n: usize) -> Option<usize> {
            match deque.pop() {
                Pop::Kept => {
                    self.take(n);
                    None
                }
                Pop::Stolen => Some(n),
            }
        }
    }

    fn check(bound: usize, thieves: usize, owner: fn(&Items, &Deque<u8>) -> Vec<Option<usize>>) {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(bound);
        bounds.check(move || {
            let deque = Arc::new(Deque::new());
            let items = Items::new();
            let thieves: Vec<_> = (0..thieves)
                .map(|_| {
                    let (deque, items) = (Arc::clone(&deque), Arc::clone(&items));
                    thread::spawn(move || items.steal(&deque))
                })
                .collect();
            let mut lost: Vec<_> = owner(&items, &deque).into_iter().flatten().collect();
            let mut stolen: Vec<_> = thieves
                .into_iter()
                .filter_map(|t| t.join().unwrap())
                .collect();
            lost.sort_unstable();
            stolen.sort_unstable();
            assert_eq!(lost, stolen, "what the owner did not keep, thieves have");
            assert!(deque.is_empty());
        });
    }

    /// The last item, against two thieves. Bounds: three threads, one item, 3 pre-emptions.
    #[test]
    fn last_item_goes_to_one() {
        check(3, 2, |items, deque| {
            assert!(items.offer(deque, 0));
            vec![items.pop(deque, 0)]
        });
    }

    /// Two nested offers, against two thieves: the oldest may go while the newest is popped.
    /// Bounds: three threads, two items, 2 pre-emptions.
    #[test]
    fn nested_offers_go_to_one_each() {
        check(2, 2, |items, deque| {
            assert!(items.offer(deque, 0));
            assert!(items.offer(deque, 1));
            vec![items.pop(deque, 1), items.pop(deque, 0)]
        });
    }

    /// An index that is popped and filled again while a thief is at it. Bounds: two threads, three items of one index, 5 pre-emptions.
    #[test]
    fn index_filled_again_is_another_item() {
        check(5, 1, |items, deque| {
            (0..3)
                .map(|n| {
                    assert!(items.offer(deque, n));
                    items.pop(deque, n)
                })
                .collect()
        });
    }

    /// A deque of two slots: the third offer finds room only where the first was stolen, and its slot is the first one's.
    /// Bounds: three threads, three items, 2 pre-emptions.
    #[test]
    fn full_deque_wraps_only_over_what_was_taken() {
        check(2, 2, |items, deque| {
            assert!(items.offer(deque, 0));
            assert!(items.offer(deque, 1));
            let third = items.offer(deque, 2).then(|| items.pop(deque, 2)).flatten();
            vec![third, items.pop(deque, 1), items.pop(deque, 0)]
        });
    }

    /// An outermost offer against a worker that falls asleep: with a fence between the push and the look at who sleeps, and one between
    /// saying so and the last look, one sees the other. Bounds: two threads, one item.
    #[test]
    fn offer_and_sleeper_see_each_other() {
        loom::model(|| {
            let deque = Arc::new(Deque::<u8>::new());
            let asleep = Arc::new(AtomicU64::new(0));
            let sleeper = {
                let (deque, asleep) = (Arc::clone(&deque), Arc::clone(&asleep));
                thread::spawn(move || {
                    // Relaxed, here and in the load below: the fences order them.
                    asleep.store(1, Relaxed);
                    // SeqCst: pairs with the fence below.
                    fence(SeqCst);
                    !deque.is_empty()
                })
            };
            assert!(deque.push(NonNull::dangling()));
            // SeqCst: pairs with the sleeper's fence.
            fence(SeqCst);
            let seen = asleep.load(Relaxed) == 1;
            assert!(sleeper.join().unwrap() || seen);
        });
    }
}
