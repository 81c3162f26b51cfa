//! What a worker runs, shown to the monitor: who looks keeps it from being freed, and who shows it pays nothing for that.
//!
//! **The owner** *shows* an item. Before the item is freed it *hides* it: takes the pointer back, passes *fence F* (light), and waits while
//! somebody is looking. **The looker** says that it looks, passes *fence G* (heavy), takes the pointer and reads, and says that it
//! is done.
//!
//! Proof that what is read is alive: let the item be `i`. If F of `i`'s hiding comes before G, the looker's load comes after the
//! pointer was taken back, and does not give `i`. Otherwise G comes before F: then the hider sees that somebody looks, unless that is
//! over, and does not free `i` before it is.

use core::ptr::{self, NonNull};

use crate::sync::{AtomicPtr, AtomicU32, Ordering::*, heavy_fence, light_fence};

/// One place to show something.
#[derive(Debug)]
pub(crate) struct Shown<T> {
    item: AtomicPtr<T>,
    /// 1 while the one looker looks.
    looking: AtomicU32,
}

impl<T> Shown<T> {
    pub(crate) fn new() -> Self {
        Self {
            item: AtomicPtr::new(ptr::null_mut()),
            looking: AtomicU32::new(0),
        }
    }

    /// Shows an item in place of what was shown, which stays alive, or nothing. The owner only.
    #[inline]
    pub(crate) fn show(&self, item: Option<NonNull<T>>) {
        let item = item.map_or(ptr::null_mut(), NonNull::as_ptr);
        // Release: publishes the item. Pairs with the Acquire load in `look`.
        self.item.store(item, Release);
    }

    /// Shows nothing, from when it returns: what was shown can be freed. The owner only.
    #[inline]
    pub(crate) fn hide(&self) {
        // Relaxed: ordered by the fence.
        self.item.store(ptr::null_mut(), Relaxed);
        // Fence F. Pairs with fence G in `look`: either that looker finds nothing of ours, or we see that it looks.
        light_fence();
        // Acquire: pairs with the Release store in `look`: its reads were over.
        while self.looking.load(Acquire) != 0 {
            wait();
        }
    }

    /// Whether something is shown. It may be gone by now.
    pub(crate) fn is_some(&self) -> bool {
        // Relaxed: a hint.
        !self.item.load(Relaxed).is_null()
    }

    /// Has `read` look at what is shown, if anything is: it stays alive meanwhile, and its owner may have to wait. One looker at a
    /// time.
    pub(crate) fn look<R>(&self, read: impl FnOnce(NonNull<T>) -> R) -> Option<R> {
        // Relaxed: ordered by the fence.
        self.looking.store(1, Relaxed);
        // Fence G. Pairs with fence F in `hide`.
        heavy_fence();
        // Acquire: pairs with the Release store in `show`: the item is seen whole.
        let seen = NonNull::new(self.item.load(Acquire)).map(read);
        // Release: our reads are over. Pairs with the Acquire load in `hide`.
        self.looking.store(0, Release);
        seen
    }
}

#[cold]
fn wait() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// An owner shows two items, frees the first and then the second, while somebody looks twice: nobody reads a freed one.
    /// Bounds: two threads, two items, two looks, 3 pre-emptions.
    #[test]
    fn nothing_is_freed_while_it_is_looked_at() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let shown = Arc::new(Shown::new());
            // 1: alive, 2: freed.
            let items = Arc::new([AtomicU32::new(1), AtomicU32::new(1)]);
            let looker = {
                let (shown, items) = (Arc::clone(&shown), Arc::clone(&items));
                thread::spawn(move || {
                    for _ in 0..2 {
                        shown.look(|item: NonNull<AtomicU32>| {
                            let nth = items.iter().position(|i| ptr::eq(i, item.as_ptr()));
                            let nth = nth.expect("one of the two");
                            assert_eq!(items[nth].load(Relaxed), 1, "freed");
                        });
                    }
                })
            };
            for item in items.iter() {
                shown.show(Some(NonNull::from(item)));
                shown.hide();
                item.store(2, Relaxed);
            }
            looker.join().unwrap();
        });
    }
}
