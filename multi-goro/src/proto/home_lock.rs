//! A lock that one worker takes without an atomic exchange, once it has been alone with it for a while.
//!
//! Most channels are used by the tasks of one worker, and an exchange each way is most of what an operation costs. So a worker
//! that has used the lock many times in a row becomes its **home**: from then on it says that it is inside with a plain store,
//! looks whether it still is the home, and goes in. Everybody else is a visitor. The first visitor ends the home, for good: all
//! take the shared lock from then on.
//!
//! The home, going in:
//!
//! - *say so*: `inside` = 1;
//! - *light fence*: the compiler keeps the order, the processor need not;
//! - *look*: still the home? In. Otherwise `inside` = 0, and on as a visitor.
//!
//! A visitor, with the shared lock:
//!
//! - *end it*: `home` = `SHARED`;
//! - *heavy fence*: as if each light fence had been a full one (see `sync/asymmetric.rs`);
//! - *wait* until `inside` is 0. In.
//!
//! **Proof.** Either the home's *light fence* comes before the *heavy fence*: then the visitor sees `inside` = 1, and waits for
//! the Release store of 0 that ends that visit. Or it comes after: then the home's *look* sees `SHARED`, and it does not go in.
//! The home is made and ended with the shared lock held, by which each side sees what the other has done before.

#![expect(unsafe_code, reason = "hands out the value it guards")]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

use crate::sync::{
    AtomicU32, Ordering::*, OsGuard, OsMutex, heavy_fence, light_fence, lock_busy, pause,
};

/// No home yet.
const NONE: u32 = 0;
/// There was one, and there will be none again.
const SHARED: u32 = u32::MAX;

/// Uses in a row that make a worker the home. Ending a home costs the first visitor a membarrier (4-6 us
/// on a busy virtual machine) where each use at home saves 10 ns: after this many uses the one has paid for the other.
const STREAK: u32 = if cfg!(loom) { 1 } else { 512 };

/// Who asks: a worker's number, never used again for another, or nobody who could have a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visitor(u32);

impl Visitor {
    /// A plain thread.
    pub(crate) const STRANGER: Self = Self(NONE);

    /// A worker. The number is the caller's to choose, once; a stranger if they are used up.
    pub(crate) fn worker(number: u32) -> Self {
        if number == SHARED {
            Self::STRANGER
        } else {
            Self(number)
        }
    }
}

/// The lock without the value.
#[derive(Debug)]
pub(crate) struct Door {
    /// | value  | meaning                                    | left by                                                       |
    /// | ------ | ------------------------------------------ | ------------------------------------------------------------- |
    /// | NONE   | all take `shared`                          | who holds `shared`, for itself, after a streak                 |
    /// | others | that worker goes in by `inside` alone      | who holds `shared` and is not that worker; the home itself, too |
    /// | SHARED | all take `shared`                          | nobody                                                        |
    home: AtomicU32,
    /// Whether the home is inside, or looking whether it may be. Written by the home only.
    inside: AtomicU32,
    shared: OsMutex<Streak>,
}

/// Who has used the shared lock last, and how many times in a row.
#[derive(Debug)]
pub(crate) struct Streak {
    visitor: u32,
    uses: u32,
}

impl Door {
    fn new() -> Self {
        Self {
            home: AtomicU32::new(NONE),
            inside: AtomicU32::new(0),
            shared: OsMutex::new(Streak {
                visitor: NONE,
                uses: 0,
            }),
        }
    }

    /// Goes in if `visitor` is the home; does not wait.
    #[inline]
    pub(crate) fn enter_home(&self, visitor: Visitor) -> bool {
        // Relaxed: the home sees its own stores, and for others the number is wrong anyway; looked at again below.
        if visitor == Visitor::STRANGER || self.home.load(Relaxed) != visitor.0 {
            return false;
        }
        // Relaxed: ordered against visitors by the fence.
        self.inside.store(1, Relaxed);
        // The light fence. Pairs with the heavy fence in `end_home`.
        light_fence();
        // Relaxed: ordered by the fence.
        if self.home.load(Relaxed) == visitor.0 {
            return true;
        }
        self.leave_home();
        false
    }

    /// Leaves. Of the home only.
    #[inline]
    pub(crate) fn leave_home(&self) {
        // Release: what the home did is seen by the visitor whose Acquire load in `end_home` reads this.
        self.inside.store(0, Release);
    }

    /// Goes in with the shared lock, waiting for it.
    pub(crate) fn enter_shared(&self, visitor: Visitor) -> OsGuard<'_, Streak> {
        let mut streak = lock_busy(&self.shared);
        // Relaxed: changed under the lock only.
        let home = self.home.load(Relaxed);
        if home == SHARED {
            return streak;
        }
        if home != NONE {
            // Also if it is ours: it was not a moment ago, or we would not be here.
            self.end_home();
        } else if visitor == Visitor::STRANGER || streak.visitor != visitor.0 {
            *streak = Streak {
                visitor: visitor.0,
                uses: 1,
            };
        } else {
            streak.uses += 1;
            if streak.uses > STREAK {
                // Relaxed: until this visit ends all others are kept out by the lock, and see this with it.
                self.home.store(visitor.0, Relaxed);
            }
        }
        streak
    }

    #[cold]
    fn end_home(&self) {
        // Relaxed: ordered by the fence.
        self.home.store(SHARED, Relaxed);
        // The heavy fence. Pairs with the light fence in `enter_home`: either it sees that it is no longer the home, or we see it inside.
        heavy_fence();
        // Acquire: pairs with the Release in `leave_home`; what the home did is seen.
        while self.inside.load(Acquire) != 0 {
            pause();
        }
    }
}

/// A value behind a [`Door`].
#[derive(Debug)]
pub(crate) struct HomeLock<T> {
    door: Door,
    value: UnsafeCell<T>,
}

// SAFETY: the door lets one caller at a time reach the value, on any thread.
unsafe impl<T: Send> Sync for HomeLock<T> {}

impl<T> HomeLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            door: Door::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, waiting for it. Nothing below may switch before the guard is dropped: the home is a thread.
    #[inline]
    pub(crate) fn enter(&self, visitor: Visitor) -> HomeGuard<'_, T> {
        let shared = if self.door.enter_home(visitor) {
            None
        } else {
            Some(self.door.enter_shared(visitor))
        };
        HomeGuard { lock: self, shared }
    }

    /// For who goes through several doors at once.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// The value, for who is inside.
    pub(crate) fn value(&self) -> *mut T {
        self.value.get()
    }
}

/// The right to the value of a [`HomeLock`], until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released at once"]
pub(crate) struct HomeGuard<'a, T> {
    lock: &'a HomeLock<T>,
    /// `None`: in as the home.
    shared: Option<OsGuard<'a, Streak>>,
}

impl<T> Deref for HomeGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists while its owner is inside, alone.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for HomeGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for HomeGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // The shared lock is released by its own guard, next.
        if self.shared.is_none() {
            self.lock.door.leave_home();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn is_home(lock: &HomeLock<u32>, visitor: Visitor) -> bool {
        lock.enter(visitor).shared.is_none()
    }

    #[test]
    fn streak_makes_a_home_and_a_visitor_ends_it_for_good() {
        let lock = HomeLock::new(0);
        let (one, two) = (Visitor::worker(1), Visitor::worker(2));
        for _ in 0..STREAK {
            assert!(!is_home(&lock, one));
        }
        // Broken one before its end: it starts anew.
        assert!(!is_home(&lock, two));
        for _ in 0..=STREAK {
            assert!(!is_home(&lock, one));
        }
        assert!(is_home(&lock, one) && is_home(&lock, one));
        assert!(!is_home(&lock, two));
        for _ in 0..2 * STREAK {
            assert!(!is_home(&lock, one));
        }
    }

    #[test]
    fn strangers_have_no_home() {
        let lock = HomeLock::new(0);
        for _ in 0..2 * STREAK {
            assert!(!is_home(&lock, Visitor::STRANGER));
        }
        assert_eq!(Visitor::worker(SHARED), Visitor::STRANGER);
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell as Checked;
    use loom::sync::Arc;
    use loom::thread;

    /// Adds one under the lock; loom checks that nobody else is there.
    fn add(lock: &HomeLock<Checked<u32>>, number: u32) {
        let inside = lock.enter(Visitor::worker(number));
        // SAFETY: checked by loom.
        inside.with_mut(|value| unsafe { *value += 1 });
    }

    fn nobody_meets(uses: u32, visits: u32, visitors: u32, preemptions: usize) {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(preemptions);
        bounds.check(move || {
            let lock = Arc::new(HomeLock::new(Checked::new(0)));
            let threads: Vec<_> = (0..visitors)
                .map(|nth| {
                    let lock = Arc::clone(&lock);
                    thread::spawn(move || (0..visits).for_each(|_| add(&lock, nth + 2)))
                })
                .collect();
            (0..uses).for_each(|_| add(&lock, 1));
            for thread in threads {
                thread.join().unwrap();
            }
            let inside = lock.enter(Visitor::STRANGER);
            // SAFETY: checked by loom.
            let total = inside.with_mut(|value| unsafe { *value });
            assert_eq!(total, uses + visits * visitors);
        });
    }

    /// A worker that gets its home and uses it, and one visitor at any moment.
    /// Bounds: two threads, 4 uses against 1, 3 pre-emptions.
    #[test]
    fn visitor_and_home_are_never_inside_together() {
        nobody_meets(4, 1, 1, 3);
    }

    /// Two visitors at any moment. Bounds: three threads, 3 uses against 1 each, 2 pre-emptions.
    #[test]
    fn two_visitors_and_home_are_never_inside_together() {
        nobody_meets(3, 1, 2, 2);
    }

    /// Both could become the home. Bounds: two threads, 3 uses each, 3 pre-emptions.
    #[test]
    fn two_workers_with_streaks_are_never_inside_together() {
        nobody_meets(3, 3, 1, 3);
    }
}
