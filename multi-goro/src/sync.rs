//! Synchronisation for tasks and plain threads alike, and the crate's one door to atomics.
//!
//! Everything here may be used from a green task, which parks and leaves its worker to others, and from a plain thread,
//! which sleeps. A `std::sync::Mutex` held by a task across a switch can deadlock its worker; a channel of
//! capacity 1 does the same and cannot.

#[cfg(not(loom))]
pub(crate) use std::sync::Mutex as OsMutex;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub(crate) use loom::sync::Mutex as OsMutex;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
pub(crate) use event::TaskEvent;

/// Takes a lock whose holder cannot have panicked: nothing of the user's runs under the crate's own locks.
pub(crate) fn lock<T>(mutex: &OsMutex<T>) -> OsGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|_| unreachable!("a lock of the runtime was poisoned"))
}

#[cfg(loom)]
pub(crate) use loom::sync::MutexGuard as OsGuard;
#[cfg(not(loom))]
pub(crate) use std::sync::MutexGuard as OsGuard;

/// Keeps a value on cache lines of its own (two: processors fetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
