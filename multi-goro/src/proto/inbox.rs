//! A worker's inbox: anybody posts, the worker takes everything at once, in the order of posting.
//!
//! Intrusive: posting allocates nothing. A stack that is only ever emptied whole has no ABA problem.

#![expect(
    unsafe_code,
    reason = "items are linked through themselves while they are in here"
)]

use core::ptr::{self, NonNull};

use crate::sync::{AtomicBool, AtomicPtr, Ordering::*, fence};

/// Something that can be linked into an [`Inbox`].
///
/// # Safety
///
/// - `link` returns the same place for the same item, inside the item, and nobody else uses it while the item is in an inbox.
pub(crate) unsafe trait Linked {
    /// Where the inbox keeps the pointer to the next item.
    ///
    /// # Safety
    ///
    /// - `item` is alive.
    unsafe fn link(item: NonNull<Self>) -> NonNull<AtomicPtr<Self>>
    where
        Self: Sized;
}

/// A queue with many producers that is emptied whole.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    /// The newest item, linked to the older ones.
    newest: AtomicPtr<T>,
    /// Set once, when the worker takes nothing out any more.
    is_abandoned: AtomicBool,
}

impl<T: Linked> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            is_abandoned: AtomicBool::new(false),
        }
    }

    /// The worker will not come again. It empties the inbox once more after this; what is posted later its poster is to take out.
    pub(crate) fn abandon(&self) {
        // Release: hands over what the worker has done. Pairs with the Acquire in `is_abandoned`.
        self.is_abandoned.store(true, Release);
        // Fence F. Pairs with fence C, which is between a post and the look at `is_abandoned`: either that look sees the flag, or the worker's
        // last look sees the post.
        fence(SeqCst);
    }

    /// After a post and fence C: whether the poster has to empty the inbox itself. Others may do so at the same time.
    pub(crate) fn is_abandoned(&self) -> bool {
        // Acquire: pairs with the Release in `abandon`.
        self.is_abandoned.load(Acquire)
    }

    /// Whether nothing had been posted at some moment during the call.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint; a sleeper that relies on it has a fence before (see `idle`), and `take_all` acquires.
        self.newest.load(Relaxed).is_null()
    }

    /// Adds an item.
    ///
    /// # Safety
    ///
    /// - `item` is alive, in no inbox, and stays alive until it has been taken out.
    pub(crate) unsafe fn post(&self, item: NonNull<T>) {
        // SAFETY: alive, by the caller's promise.
        let link = unsafe { T::link(item) };
        // Relaxed: validated by the CAS.
        let mut newest = self.newest.load(Relaxed);
        loop {
            // SAFETY: the link is inside the live item, and ours while it is in no inbox.
            let link = unsafe { link.as_ref() };
            // Relaxed: published by the CAS.
            link.store(newest, Relaxed);
            // Release: publishes the item and its link. Pairs with the Acquire swap in `take_all`.
            // Relaxed on failure: we only try again.
            match self
                .newest
                .compare_exchange_weak(newest, item.as_ptr(), Release, Relaxed)
            {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// Takes everything out and hands it over, oldest first.
    pub(crate) fn take_all(&self, mut each: impl FnMut(NonNull<T>)) {
        // Acquire: pairs with the Release CAS of each `post`, all of which are in the release sequence of the newest.
        let mut rest = self.newest.swap(ptr::null_mut(), Acquire);
        // Newest first: turn it round.
        let mut oldest: *mut T = ptr::null_mut();
        while let Some(item) = NonNull::new(rest) {
            // SAFETY: what is in the inbox is alive, and taken out by us alone.
            let link = unsafe { T::link(item) };
            // SAFETY: inside the live item.
            let link = unsafe { link.as_ref() };
            // Relaxed, both: the items are ours since the swap.
            rest = link.load(Relaxed);
            link.store(oldest, Relaxed);
            oldest = item.as_ptr();
        }
        while let Some(item) = NonNull::new(oldest) {
            // SAFETY: as above.
            let link = unsafe { T::link(item) };
            // SAFETY: as above.
            let link = unsafe { link.as_ref() };
            // Relaxed: ours. Read before `each`, which may link the item elsewhere.
            oldest = link.load(Relaxed);
            each(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item {
        link: AtomicPtr<Item>,
        value: u32,
    }

    impl Item {
        fn leaked(value: u32) -> NonNull<Self> {
            NonNull::from(Box::leak(Box::new(Self {
                link: AtomicPtr::new(ptr::null_mut()),
                value,
            })))
        }

        fn reclaim(item: NonNull<Self>) -> u32 {
            // SAFETY: made by `leaked`, and out of the inbox.
            unsafe { Box::from_raw(item.as_ptr()) }.value
        }
    }

    // SAFETY: the field, used by nobody else.
    unsafe impl Linked for Item {
        unsafe fn link(item: NonNull<Self>) -> NonNull<AtomicPtr<Self>> {
            // SAFETY: alive.
            NonNull::from(&unsafe { item.as_ref() }.link)
        }
    }

    fn drain(inbox: &Inbox<Item>) -> Vec<u32> {
        let mut got = Vec::new();
        inbox.take_all(|item| got.push(Item::reclaim(item)));
        got
    }

    #[cfg(not(loom))]
    #[test]
    fn inbox_keeps_the_order_of_posting() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        for value in 0..5 {
            // SAFETY: leaked and fresh.
            unsafe { inbox.post(Item::leaked(value)) };
        }
        assert!(!inbox.is_empty());
        assert_eq!(drain(&inbox), [0, 1, 2, 3, 4]);
        assert!(drain(&inbox).is_empty());
    }

    /// Two posters and the worker: nothing lost, each poster's order kept. Bounds: three threads, three items.
    #[cfg(all(loom, not(shuttle)))]
    #[test]
    fn inbox_loses_nothing() {
        loom::model(|| {
            let inbox = loom::sync::Arc::new(Inbox::new());
            let posters: Vec<_> = [vec![1, 2], vec![11]]
                .into_iter()
                .map(|values| {
                    let inbox = loom::sync::Arc::clone(&inbox);
                    loom::thread::spawn(move || {
                        for value in values {
                            // SAFETY: leaked and fresh.
                            unsafe { inbox.post(Item::leaked(value)) };
                        }
                    })
                })
                .collect();
            let mut got = drain(&inbox);
            for poster in posters {
                poster.join().unwrap();
            }
            got.extend(drain(&inbox));
            let firsts: Vec<_> = got.iter().copied().filter(|v| *v < 10).collect();
            assert_eq!(firsts, [1, 2]);
            assert_eq!(got.len(), 3);
        });
    }

    /// Two posters and the worker that goes away: each item is taken out once. Bounds: three threads, two items.
    #[cfg(all(loom, not(shuttle)))]
    #[test]
    fn abandoned_inbox_keeps_nothing() {
        loom::model(|| {
            let inbox = loom::sync::Arc::new(Inbox::new());
            let posters: Vec<_> = [1, 2]
                .into_iter()
                .map(|value| {
                    let inbox = loom::sync::Arc::clone(&inbox);
                    loom::thread::spawn(move || {
                        // SAFETY: leaked and fresh.
                        unsafe { inbox.post(Item::leaked(value)) };
                        // Fence C.
                        fence(SeqCst);
                        if inbox.is_abandoned() {
                            drain(&inbox)
                        } else {
                            Vec::new()
                        }
                    })
                })
                .collect();
            inbox.abandon();
            let mut got = drain(&inbox);
            for poster in posters {
                got.extend(poster.join().unwrap());
            }
            got.sort_unstable();
            assert_eq!(got, [1, 2]);
        });
    }
}
