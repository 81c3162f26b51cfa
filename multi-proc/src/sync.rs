//! The only file that names atomics: std's, or loom's when a model is checked.
//!
//! A futex is here too, since loom has none.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

pub(crate) use futex::Futex;

#[cfg(not(loom))]
mod futex {
    use super::AtomicU32;
    use crate::sys;
    use std::ops::Deref;
    use std::time::Duration;

    /// A word in shared memory that threads of any process sleep on.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub(crate) struct Futex(AtomicU32);

    impl Futex {
        /// Sleeps while the word is `expected`, `timeout` at most; may return at any time for no reason.
        pub(crate) fn sleep(&self, expected: u32, timeout: Duration) {
            sys::futex_wait(&self.0, expected, Some(timeout));
        }

        /// Wakes whoever sleeps on the word.
        pub(crate) fn wake(&self) {
            sys::futex_wake(&self.0);
        }
    }

    impl Deref for Futex {
        type Target = AtomicU32;

        fn deref(&self) -> &AtomicU32 {
            &self.0
        }
    }
}

#[cfg(loom)]
mod futex {
    use super::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};
    use std::ops::Deref;
    use std::time::Duration;

    /// A futex as loom can see it: compares and lies down under one lock, as the kernel does. Its sleepers have no time limit, so
    /// that a model does not count on one: who is not woken sleeps for ever, and loom says so.
    #[derive(Debug)]
    pub(crate) struct Futex {
        word: AtomicU32,
        wakes: Mutex<u32>,
        bell: Condvar,
    }

    impl Default for Futex {
        fn default() -> Self {
            Self {
                word: AtomicU32::new(0),
                wakes: Mutex::new(0),
                bell: Condvar::new(),
            }
        }
    }

    impl Futex {
        pub(crate) fn sleep(&self, expected: u32, _timeout: Duration) {
            let mut wakes = self.wakes.lock().unwrap();
            // Relaxed: the kernel's compare is ordered by the queue's lock, as this is.
            if self.word.load(Ordering::Relaxed) != expected {
                return;
            }
            let before = *wakes;
            while *wakes == before {
                wakes = self.bell.wait(wakes).unwrap();
            }
        }

        pub(crate) fn wake(&self) {
            *self.wakes.lock().unwrap() += 1;
            self.bell.notify_all();
        }
    }

    impl Deref for Futex {
        type Target = AtomicU32;

        fn deref(&self) -> &AtomicU32 {
            &self.word
        }
    }
}
