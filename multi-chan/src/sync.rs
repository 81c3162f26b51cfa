//! The only file that names atomics: std's, or loom's when a model is checked.
//!
//! A futex is here too, since loom has none: [`Bed`] is what a sleeper lies on. In a real build it
//! is empty and the event word itself is the futex.

#![cfg_attr(
    not(loom),
    expect(
        clippy::disallowed_types,
        reason = "this is the façade the lint points to"
    )
)]

#[cfg(any(feature = "kill-points", loom))]
use crate::kill;
#[cfg(loom)]
use loom::sync::atomic as plain;
#[cfg(all(feature = "kill-points", not(loom)))]
use std::sync::atomic as plain;

#[cfg(loom)]
pub(crate) use plain::fence;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::fence;

/// Wraps an atomic of std, so that the lint on std's own names does not see it used elsewhere.
#[cfg(not(loom))]
macro_rules! atomic {
    ($name:ident, $std:ident, $value:ty) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name(std::sync::atomic::$std);

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                $name(value.into())
            }
        }

        impl std::ops::Deref for $name {
            type Target = std::sync::atomic::$std;

            #[inline]
            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}

/// The same, with every write told to `kill::wrote`: so no write can be forgotten by a test that kills
/// after each. Nothing but these methods leads to the atomic.
#[cfg(any(feature = "kill-points", loom))]
macro_rules! watched {
    ($name:ident, $value:ty) => {
        watched!($name, $value: swap fetch_add fetch_sub fetch_or fetch_and fetch_xor fetch_max);
    };
    ($name:ident, $value:ty: $($update:ident)*) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name(plain::$name);

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                $name(plain::$name::new(value))
            }
        }

        #[expect(dead_code, reason = "no type is written in every way")]
        impl $name {
            #[inline]
            #[track_caller]
            pub(crate) fn load(&self, order: plain::Ordering) -> $value {
                self.0.load(order)
            }

            #[inline]
            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: plain::Ordering) {
                self.0.store(value, order);
                kill::wrote();
            }

            #[inline]
            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                now: $value,
                next: $value,
                success: plain::Ordering,
                failure: plain::Ordering,
            ) -> Result<$value, $value> {
                let exchanged = self.0.compare_exchange(now, next, success, failure);
                if exchanged.is_ok() {
                    kill::wrote();
                }
                exchanged
            }

            #[inline]
            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                now: $value,
                next: $value,
                success: plain::Ordering,
                failure: plain::Ordering,
            ) -> Result<$value, $value> {
                let exchanged = self.0.compare_exchange_weak(now, next, success, failure);
                if exchanged.is_ok() {
                    kill::wrote();
                }
                exchanged
            }

            #[cfg(not(loom))]
            #[inline]
            pub(crate) fn as_ptr(&self) -> *mut $value {
                self.0.as_ptr()
            }

            $(
            #[inline]
            #[track_caller]
            pub(crate) fn $update(&self, value: $value, order: plain::Ordering) -> $value {
                let before = self.0.$update(value, order);
                kill::wrote();
                before
            }
            )*
        }
    };
}

#[cfg(any(feature = "kill-points", loom))]
watched!(AtomicU32, u32);
#[cfg(any(feature = "kill-points", loom))]
watched!(AtomicU64, u64);
#[cfg(all(feature = "kill-points", not(loom)))]
watched!(AtomicUsize, usize);

#[cfg(not(any(feature = "kill-points", loom)))]
atomic!(AtomicU32, AtomicU32, u32);
#[cfg(not(any(feature = "kill-points", loom)))]
atomic!(AtomicU64, AtomicU64, u64);
#[cfg(not(any(feature = "kill-points", loom)))]
atomic!(AtomicUsize, AtomicUsize, usize);

// For what one process keeps to itself and writes all the time: nobody is left to find it after a death.
#[cfg(all(feature = "kill-points", not(loom)))]
atomic!(PrivateU32, AtomicU32, u32);
#[cfg(all(feature = "kill-points", not(loom)))]
atomic!(PrivateU64, AtomicU64, u64);
#[cfg(loom)]
pub(crate) use plain::{AtomicU32 as PrivateU32, AtomicU64 as PrivateU64};
#[cfg(not(any(feature = "kill-points", loom)))]
pub(crate) use {AtomicU32 as PrivateU32, AtomicU64 as PrivateU64};

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// One turn of a short busy wait.
pub(crate) fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Stands between a claiming `SeqCst` exchange and the `SeqCst` load of an event.
///
/// The two are in the one order of `SeqCst` operations already, so there is nothing to do, and the
/// fence that is saved costs as much as the exchange. loom knows no such order and needs a fence here.
#[inline]
pub(crate) fn order_before_post() {
    #[cfg(loom)]
    fence(SeqCst);
}

/// Stands between a plain store and the load that must not be made long before it is seen.
///
/// The compiler keeps the two in order; the processor may delay the store past the load, but only for a moment. Whoever counts
/// on such a store waits for that moment (`spsc/README.md`); a fence here would cost every message what a claim costs.
#[inline]
pub(crate) fn store_before_look() {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(SeqCst);
}

#[cfg(not(loom))]
mod bed {
    use super::AtomicU32;
    use crate::sys;
    use std::time::Duration;

    /// What a sleeper lies on: nothing but the futex word itself.
    #[derive(Debug, Default)]
    #[repr(C)]
    pub(crate) struct Bed;

    impl Bed {
        /// Sleeps while `word` holds `seen`; may return at any time for no reason.
        pub(crate) fn sleep(&self, word: &AtomicU32, seen: u32, limit: Option<Duration>) {
            sys::futex_wait(word, seen, limit);
        }

        /// Wakes up to `count` sleepers and returns how many there were.
        pub(crate) fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
            sys::futex_wake(word, count)
        }
    }
}

#[cfg(loom)]
mod bed {
    use super::{AtomicU32, Relaxed};
    use loom::sync::{Arc, Condvar, Mutex};
    use std::sync::OnceLock;
    use std::time::Duration;

    /// An eventfd as loom can see it. Without pollers an event has no steps for it.
    #[derive(Debug)]
    pub(crate) struct Count {
        /// Not part of what loom interleaves: set before there are other threads.
        polls: OnceLock<()>,
        is_readable: Mutex<bool>,
        bell: Condvar,
    }

    impl Default for Count {
        fn default() -> Self {
            Count {
                polls: OnceLock::new(),
                is_readable: Mutex::new(false),
                bell: Condvar::new(),
            }
        }
    }

    impl Count {
        pub(crate) fn make_pollable(&self) {
            self.polls.get_or_init(|| ());
        }

        pub(crate) fn is_pollable(&self) -> bool {
            self.polls.get().is_some()
        }

        pub(crate) fn signal(&self) {
            *self.is_readable.lock().unwrap() = true;
            self.bell.notify_all();
        }

        pub(crate) fn drain(&self) {
            *self.is_readable.lock().unwrap() = false;
        }

        pub(crate) fn wait(&self) {
            let mut is_readable = self.is_readable.lock().unwrap();
            while !*is_readable {
                is_readable = self.bell.wait(is_readable).unwrap();
            }
        }
    }

    /// A futex queue as loom can see it: compare and lie down under one lock, first come, first woken, as the kernel
    /// does.
    #[derive(Debug)]
    pub(crate) struct Bed {
        queue: Mutex<Vec<Arc<Sleeper>>>,
    }

    /// Somebody asleep, in one queue or in several.
    #[derive(Debug)]
    struct Sleeper {
        is_woken: Mutex<bool>,
        bell: Condvar,
    }

    /// A queue, its word, and the value that the word must have for who lies down.
    pub(crate) type Berth<'a> = (&'a Bed, &'a AtomicU32, u32);

    impl Default for Bed {
        fn default() -> Self {
            Bed {
                queue: Mutex::new(Vec::new()),
            }
        }
    }

    impl Bed {
        pub(crate) fn sleep(&self, word: &AtomicU32, seen: u32, _limit: Option<Duration>) {
            Bed::sleep_any(&[(self, word, seen)]);
        }

        /// `futex_waitv`: lies down in one queue after the other, and gets up if one of the words is another.
        pub(crate) fn sleep_any(berths: &[Berth<'_>]) {
            let me = Arc::new(Sleeper {
                is_woken: Mutex::new(false),
                bell: Condvar::new(),
            });
            let stays = berths.iter().all(|(bed, word, seen)| {
                let mut queue = bed.queue.lock().unwrap();
                // Relaxed: the kernel's compare is ordered by the queue's lock, as this is.
                let same = word.load(Relaxed) == *seen;
                if same {
                    queue.push(me.clone());
                }
                same
            });
            if stays {
                let mut woken = me.is_woken.lock().unwrap();
                while !*woken {
                    woken = me.bell.wait(woken).unwrap();
                }
            }
            // A queue that it is no longer in has woken it, and counted it.
            for (bed, ..) in berths {
                let mut queue = bed.queue.lock().unwrap();
                queue.retain(|sleeper| !Arc::ptr_eq(sleeper, &me));
            }
        }

        pub(crate) fn wake(&self, _word: &AtomicU32, count: u32) -> u32 {
            let mut queue = self.queue.lock().unwrap();
            let woken = queue.len().min(count as usize);
            for sleeper in queue.drain(..woken) {
                *sleeper.is_woken.lock().unwrap() = true;
                sleeper.bell.notify_one();
            }
            woken as u32
        }
    }
}

pub(crate) use bed::Bed;
#[cfg(all(loom, test))]
pub(crate) use bed::Berth;
#[cfg(loom)]
pub(crate) use bed::Count;
