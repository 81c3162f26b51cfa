//! Synchronisation for tasks and plain threads alike, and the crate's one door to atomics.
//!
//! Everything here may be used from a green task, which parks and leaves its worker to others, and from a plain thread, which
//! sleeps. A `std::sync::Mutex` held by a task across a switch can deadlock its worker; a [`Mutex`] of this module cannot.

#![cfg_attr(
    not(loom),
    expect(
        clippy::disallowed_types,
        reason = "this is the façade the lint points to"
    )
)]

#[cfg(not(loom))]
pub(crate) use std::sync::Mutex as OsMutex;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{Ordering, compiler_fence, fence};

/// Wraps an atomic of std, so that the lint on std's own names sees it nowhere else.
#[cfg(not(loom))]
macro_rules! atomic {
    ($name:ident $(<$of:ident>)?, $value:ty) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name $(<$of>)? (std::sync::atomic::$name $(<$of>)?);

        impl $(<$of>)? $name $(<$of>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }
        }

        impl $(<$of>)? std::ops::Deref for $name $(<$of>)? {
            type Target = std::sync::atomic::$name $(<$of>)?;

            #[inline]
            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}

#[cfg(not(loom))]
atomic!(AtomicBool, bool);
#[cfg(not(loom))]
atomic!(AtomicU16, u16);
#[cfg(not(loom))]
atomic!(AtomicU32, u32);
#[cfg(not(loom))]
atomic!(AtomicU64, u64);
#[cfg(not(loom))]
atomic!(AtomicUsize, usize);
#[cfg(not(loom))]
atomic!(AtomicPtr<T>, *mut T);

// `cfg(shuttle)` comes with `cfg(loom)`, and puts another checker in its place.
#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::sync::Mutex as OsMutex;
#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::Mutex as OsMutex;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};

mod asymmetric;
#[cfg(not(loom))]
mod barrier;
#[cfg(not(loom))]
mod condvar;
#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod once;
#[cfg(not(loom))]
mod rwlock;
#[cfg(not(loom))]
mod semaphore;
#[cfg(not(loom))]
mod wait_group;

#[cfg(not(loom))]
pub use self::{
    barrier::Barrier,
    condvar::Condvar,
    mutex::{Mutex, MutexGuard},
    once::Once,
    rwlock::{ReadGuard, RwLock, WriteGuard},
    semaphore::{Permit, Semaphore},
    wait_group::WaitGroup,
};
#[cfg(not(loom))]
pub(crate) use asymmetric::prepare_fences;
pub(crate) use asymmetric::{heavy_fence, light_fence};
#[cfg(not(loom))]
pub(crate) use event::TaskEvent;

/// Takes a lock whose holder cannot have panicked: nothing of the user's runs under the crate's own locks.
pub(crate) fn lock<T>(mutex: &OsMutex<T>) -> OsGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|_| unreachable!("a lock of the runtime was poisoned"))
}

/// Takes a lock that two processors may want all the time. Who finds it taken keeps away from it for longer and longer, so that the
/// other does many turns with the memory in its own cache, and sleeps only if that does not help.
pub(crate) fn lock_busy<T>(mutex: &OsMutex<T>) -> OsGuard<'_, T> {
    #[cfg(not(loom))]
    for tries in 0..BUSY_TRIES {
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
        for _ in 0..BUSY_PAUSES << tries {
            std::hint::spin_loop();
        }
    }
    lock(mutex)
}

/// How often a busy lock is tried, and how long it is left alone after the first time; then twice as long each time: 6 us in all.
#[cfg(not(loom))]
const BUSY_TRIES: u32 = 4;
#[cfg(not(loom))]
const BUSY_PAUSES: u32 = 16;

#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::sync::MutexGuard as OsGuard;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::MutexGuard as OsGuard;
#[cfg(not(loom))]
pub(crate) use std::sync::MutexGuard as OsGuard;

/// Lets another thread run: for a wait that is over in a moment.
pub(crate) fn pause() {
    #[cfg(all(loom, not(shuttle)))]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}

/// Keeps a value on cache lines of its own (two: processors fetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
