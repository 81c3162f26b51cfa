//! A lock that may be held across a switch.

#![expect(unsafe_code, reason = "hands out the value it guards")]

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::{OsMutex, lock};
use crate::sched::{self, Behind, Identity, Waiter, Waiters, WaitsFor, wait_behind};

/// A mutual exclusion lock for tasks and plain threads: who waits for it parks, and its holder may wait, sleep and switch.
///
/// Fair: it is handed over in the order of asking. Not poisoned by a panic, which only releases it.
///
/// ```
/// use multi_goro::sync::Mutex;
///
/// let total = Mutex::new(0);
/// multi_goro::scope(|s| {
///     for n in 1..=10 {
///         let total = &total;
///         s.go(move || {
///             let mut total = total.lock();
///             let seen = *total;
///             multi_goro::yield_now();
///             *total = seen + n;
///             Ok(())
///         });
///     }
/// })?;
/// assert_eq!(total.into_inner(), 55);
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
pub struct Mutex<T: ?Sized> {
    state: OsMutex<State>,
    value: UnsafeCell<T>,
}

struct State {
    /// Who holds it, for reports; none if nobody does.
    holder: Option<Identity>,
    /// Not empty only while it is held.
    waiting: Waiters,
}

// SAFETY: the lock lets one caller at a time reach the value, which may be in any thread.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A lock around `value`, not held.
    pub const fn new(value: T) -> Self {
        Self {
            state: OsMutex::new(State {
                holder: None,
                waiting: Waiters::new(),
            }),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting for it.
    ///
    /// A holder that asks again waits for itself, for ever.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let mut state = lock(&self.state);
        if let Some(holder) = state.holder {
            let before = state.waiting.last().unwrap_or(holder);
            // The holder leaves it locked, for us.
            let _unparked = wait_behind(
                &self.state,
                state,
                |state| &mut state.waiting,
                || (),
                WaitsFor::Mutex,
                Some(Behind::One(before)),
                None,
            );
        } else {
            state.holder = Some(Waiter::own_identity());
            drop(state);
            sched::spend();
        }
        MutexGuard::new(self)
    }

    /// Takes the lock if nobody holds it.
    ///
    /// ```
    /// let mutex = multi_goro::sync::Mutex::new(7);
    /// let held = mutex.lock();
    /// assert!(mutex.try_lock().is_none());
    /// drop(held);
    /// assert_eq!(mutex.try_lock().as_deref(), Some(&7));
    /// ```
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let mut state = lock(&self.state);
        if state.holder.is_some() {
            return None;
        }
        state.holder = Some(Waiter::own_identity());
        Some(MutexGuard::new(self))
    }

    /// The value; no lock is needed for who has the mutex alone.
    ///
    /// ```
    /// let mut mutex = multi_goro::sync::Mutex::new(7);
    /// *mutex.get_mut() += 1;
    /// assert_eq!(mutex.into_inner(), 8);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn unlock(&self) {
        let mut state = lock(&self.state);
        debug_assert!(state.holder.is_some());
        match state.waiting.take() {
            None => state.holder = None,
            Some(next) => {
                state.holder = Some(next.identity());
                drop(state);
                next.unpark();
            }
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(guard) => all.field("value", &&*guard).finish(),
            None => all.finish_non_exhaustive(),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// The right to the value of a [`Mutex`], until it is dropped.
#[must_use = "the lock is released at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    // Must stay !Send and !Sync by itself: a shared guard would share the value, whatever its type says.
    /// ```compile_fail,E0277
    /// fn needs_send<T: Send>(_: T) {}
    /// let mutex = multi_goro::sync::Mutex::new(0);
    /// needs_send(mutex.lock());
    /// ```
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self {
            mutex,
            _not_send: PhantomData,
        }
    }

    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists while the lock is held, by one holder.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
