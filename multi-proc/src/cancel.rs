//! The flag behind a group's cancel token: a word in shared memory that both sides of a fork can set and sleep on.

use crate::identity::Owner;
use crate::reap::Reaper;
use crate::slot::{Reach, Region, Word};
use crate::sync::{AtomicU32, Ordering, fence};
use crate::sys;
use multi_core::{CancelToken, CancelWord};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// One round's request to stop.
#[derive(Debug)]
pub(crate) struct SharedWord {
    /// Where the word lies: in shared memory or, where there was none left, in this process's own.
    place: Place,
    owner: Owner,
    /// Wakes whoever waits for the group, from any process. Kept open as long as a child could write to it. None for a token
    /// of no group.
    wake: Option<Arc<OwnedFd>>,
    reaper: Weak<Reaper>,
}

#[derive(Debug)]
enum Place {
    Shared(Word),
    /// Children do not see it set; they are signalled after the grace as any that do not look.
    Own {
        word: AtomicU32,
        waiters: AtomicU32,
    },
}

impl SharedWord {
    /// A group's word, `shared` if there is one.
    pub(crate) fn new(shared: Option<Word>, wake: Arc<OwnedFd>, reaper: Weak<Reaper>) -> Self {
        let own = || Place::Own {
            word: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
        };
        Self {
            place: shared.map_or_else(own, Place::Shared),
            owner: Owner::here(),
            wake: Some(wake),
            reaper,
        }
    }

    /// For a process that was given the word: `wake` wakes whoever waits for its group.
    pub(crate) fn borrowed(word: Word, wake: OwnedFd) -> Self {
        Self {
            place: Place::Shared(word),
            owner: Owner::here(),
            wake: Some(Arc::new(wake)),
            reaper: Weak::new(),
        }
    }

    /// What such a process needs: the file and the place of the word in it, and what wakes the group. None where it cannot be passed.
    pub(crate) fn passing(&self) -> Option<(Arc<OwnedFd>, u64, BorrowedFd<'_>)> {
        let Place::Shared(word) = &self.place else {
            return None;
        };
        let (file, at) = word.whereabouts()?;
        Some((file, at, self.wake.as_ref()?.as_fd()))
    }

    fn word(&self) -> &AtomicU32 {
        match &self.place {
            Place::Shared(shared) => shared.word(),
            Place::Own { word, .. } => word,
        }
    }

    fn waiters(&self) -> &AtomicU32 {
        match &self.place {
            Place::Shared(shared) => shared.waiters(),
            Place::Own { waiters, .. } => waiters,
        }
    }
}

/// A token that belongs to no group and works on both sides of every later fork: set it in any process, wait for it in any.
///
/// ```
/// let started = multi_proc::shared_token()?;
/// // SAFETY: this program has one thread.
/// let mut group = unsafe { multi_proc::Group::new() };
/// let told = started.clone();
/// group.go(move || {
///     told.cancel();
///     Ok(())
/// });
/// started.wait(); // Told by the task, from its process.
/// group.wait()?;
/// # Ok::<(), multi_core::BoxError>(())
/// ```
///
/// # Errors
///
/// The system has no shared memory left for it.
pub fn shared_token() -> io::Result<CancelToken> {
    let shared = Region::new(0, Reach::Forked)?.take_word()?;
    let word = SharedWord {
        place: Place::Shared(shared),
        owner: Owner::here(),
        wake: None,
        reaper: Weak::new(),
    };
    Ok(CancelToken::with_word(Arc::new(word)))
}

impl CancelWord for SharedWord {
    fn is_set(&self) -> bool {
        // Acquire: what the canceller wrote before it asked is seen by who obeys. Pairs with the swap in `set`.
        self.word().load(Ordering::Acquire) != 0
    }

    fn set(&self) {
        // AcqRel: Release publishes the reason to the load in `is_set`; Acquire makes a second canceller see the first's.
        if self.word().swap(1, Ordering::AcqRel) != 0 {
            return;
        }
        // Set the word, then look for sleepers; they count themselves, then look at the word: see the fence in `wait`.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.waiters().load(Ordering::Relaxed) > 0 {
            sys::futex_wake(self.word());
        }
        // The reaper's lock is the parent's: elsewhere a copy of it may be held for ever.
        let own = self.owner.is_here().then(|| self.reaper.upgrade());
        if let Some(reaper) = own.flatten() {
            reaper.cancelled();
        } else if let Some(wake) = &self.wake {
            sys::eventfd_set(wake.as_raw_fd());
        }
    }

    fn is_foreign(&self) -> bool {
        !self.owner.is_here()
    }

    fn wait(&self, until: Option<Instant>) -> bool {
        loop {
            if self.is_set() {
                return true;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            // Relaxed: ordered by the fence.
            self.waiters().fetch_add(1, Ordering::Relaxed);
            // Counted, then look at the word, in the kernel: pairs with the fence in `set`.
            fence(Ordering::SeqCst);
            sys::futex_wait(self.word(), 0, left);
            // Relaxed: too high a count costs a wake, nothing else.
            self.waiters().fetch_sub(1, Ordering::Relaxed);
        }
    }
}
