//! A lock that many may hold to look, or one to change.

#![expect(unsafe_code, reason = "hands out the value it guards")]

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::{OsMutex, lock};
use crate::sched::{self, Behind, Identity, Waiter, Waiters, WaitsFor, wait_behind};

/// A reader-writer lock for tasks and plain threads: who waits for it parks, and its holders may wait, sleep and switch.
///
/// Nobody starves: readers that come while a writer waits let it go first, and a writer that is done lets in everybody who
/// waits to read. So a reader must not ask again while it reads: with a writer between, both would wait for ever (and
/// [`diag`](crate::diag) would tell, if nobody else reads). Not poisoned by
/// a panic, which only releases it.
///
/// ```
/// use multi_goro::sync::RwLock;
///
/// let prices = RwLock::new(vec![3, 4]);
/// {
///     let (here, there) = (prices.read(), prices.read());
///     assert_eq!(here.len() + there.len(), 4);
///     assert!(prices.try_write().is_none());
/// }
/// prices.write().push(5);
/// assert_eq!(*prices.read(), [3, 4, 5]);
/// ```
pub struct RwLock<T: ?Sized> {
    state: OsMutex<State>,
    value: UnsafeCell<T>,
}

/// `is_written` and `readers` say who holds the lock: a writer, or that many readers; never both.
struct State {
    is_written: bool,
    readers: usize,
    /// Who writes, or reads and has always been alone, for reports.
    holder: Option<Identity>,
    /// Not empty only while the lock is held.
    writers_waiting: Waiters,
    /// Not empty only while a writer holds the lock or waits.
    readers_waiting: Waiters,
    /// How many there are in `readers_waiting`.
    readers_waiting_count: usize,
}

// SAFETY: the value goes along; one holder at a time changes it, in any thread.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: readers in several threads share the value, a writer in any thread has it alone.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// A lock around `value`, not held.
    pub const fn new(value: T) -> Self {
        Self {
            state: OsMutex::new(State {
                is_written: false,
                readers: 0,
                holder: None,
                writers_waiting: Waiters::new(),
                readers_waiting: Waiters::new(),
                readers_waiting_count: 0,
            }),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock to look, beside others who look; waits while somebody changes the value, or waits to.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let mut state = lock(&self.state);
        if state.may_read() {
            state.add_reader();
            drop(state);
            sched::spend();
        } else {
            state.readers_waiting_count += 1;
            // Who writes lets in all who wait to read, and the first who waits to will write before.
            let before = match state.is_written {
                true => state.holder,
                false => state.writers_waiting.first(),
            };
            // Who lets us in counts us among the readers.
            let _unparked = wait_behind(
                &self.state,
                state,
                |state| &mut state.readers_waiting,
                || (),
                WaitsFor::Read,
                before.map(Behind::One),
                None,
            );
        }
        ReadGuard::new(self)
    }

    /// Takes the lock to change the value; waits while anybody holds it, behind those who asked to write before.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let mut state = lock(&self.state);
        if state.is_free() {
            state.begin_write();
            drop(state);
            sched::spend();
        } else {
            // While we wait no reader joins those who hold it; if a writer lets some in, it says so for us.
            let before = state.writers_waiting.last().or(state.holder);
            // The last holder leaves it written, for us.
            let _unparked = wait_behind(
                &self.state,
                state,
                |state| &mut state.writers_waiting,
                || (),
                WaitsFor::Write,
                before.map(Behind::One),
                None,
            );
        }
        WriteGuard::new(self)
    }

    /// Takes the lock to look if nobody changes the value or waits to.
    ///
    /// ```
    /// let lock = multi_goro::sync::RwLock::new(7);
    /// let changing = lock.write();
    /// assert!(lock.try_read().is_none());
    /// drop(changing);
    /// assert_eq!(lock.try_read().as_deref(), Some(&7));
    /// ```
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        let mut state = lock(&self.state);
        if !state.may_read() {
            return None;
        }
        state.add_reader();
        Some(ReadGuard::new(self))
    }

    /// Takes the lock to change the value if nobody holds it.
    ///
    /// ```
    /// let lock = multi_goro::sync::RwLock::new(7);
    /// let looking = lock.read();
    /// assert!(lock.try_write().is_none());
    /// drop(looking);
    /// assert!(lock.try_write().is_some());
    /// ```
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        let mut state = lock(&self.state);
        if !state.is_free() {
            return None;
        }
        state.begin_write();
        Some(WriteGuard::new(self))
    }

    /// The value; no lock is needed for who has the lock alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn end_read(&self) {
        let mut state = lock(&self.state);
        debug_assert!(!state.is_written);
        state.readers -= 1;
        if state.readers > 0 {
            return;
        }
        state.holder = None;
        if let Some(writer) = state.writers_waiting.take() {
            state.is_written = true;
            state.holder = Some(writer.identity());
            drop(state);
            writer.unpark();
        }
    }

    fn end_write(&self) {
        let mut state = lock(&self.state);
        debug_assert!(state.is_written && state.readers == 0);
        if !state.readers_waiting.is_empty() {
            state.is_written = false;
            state.readers = std::mem::take(&mut state.readers_waiting_count);
            state.holder = match state.readers {
                1 => state.readers_waiting.first(),
                _ => None,
            };
            // It was behind us, or a writer that was before us in the queue.
            let holder = state.holder;
            state.writers_waiting.point_first(holder.map(Behind::One));
            let all = state.readers_waiting.take_all();
            drop(state);
            all.unpark_all();
        } else if let Some(writer) = state.writers_waiting.take() {
            state.holder = Some(writer.identity());
            drop(state);
            writer.unpark();
        } else {
            state.is_written = false;
            state.holder = None;
        }
    }
}

impl State {
    fn is_free(&self) -> bool {
        !self.is_written && self.readers == 0
    }

    fn may_read(&self) -> bool {
        !self.is_written && self.writers_waiting.is_empty()
    }

    /// The caller reads from now on.
    fn add_reader(&mut self) {
        self.readers += 1;
        // Once a second has come, nobody knows who of them is left.
        self.holder = match self.readers {
            1 => Some(Waiter::own_identity()),
            _ => None,
        };
    }

    /// The caller writes from now on.
    fn begin_write(&mut self) {
        self.is_written = true;
        self.holder = Some(Waiter::own_identity());
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("RwLock");
        match self.try_read() {
            Some(guard) => all.field("value", &&*guard).finish(),
            None => all.finish_non_exhaustive(),
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

macro_rules! guard {
    ($(#[$doc:meta])* $name:ident, $take:ident, $end:ident) => {
        $(#[$doc])*
        #[must_use = "the lock is released at once"]
        pub struct $name<'a, T: ?Sized> {
            lock: &'a RwLock<T>,
            // Must stay !Send and !Sync by itself: a guard shares the value as its type says below, and no further.
            /// ```compile_fail,E0277
            /// fn needs_send<T: Send>(_: T) {}
            /// let lock = multi_goro::sync::RwLock::new(0);
            #[doc = concat!("needs_send(lock.", stringify!($take), "());")]
            /// ```
            _not_send: PhantomData<*mut ()>,
        }

        // SAFETY: a shared guard gives `&T` only.
        unsafe impl<T: ?Sized + Sync> Sync for $name<'_, T> {}

        impl<'a, T: ?Sized> $name<'a, T> {
            fn new(lock: &'a RwLock<T>) -> Self {
                Self {
                    lock,
                    _not_send: PhantomData,
                }
            }
        }

        impl<T: ?Sized> Deref for $name<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                // SAFETY: the guard exists while the lock is held, and nobody holds it to write but this guard's owner.
                unsafe { &*self.lock.value.get() }
            }
        }

        impl<T: ?Sized> Drop for $name<'_, T> {
            fn drop(&mut self) {
                self.lock.$end();
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}
guard!(
    /// The right to look at the value of a [`RwLock`], until it is dropped.
    ReadGuard, read, end_read
);
guard!(
    /// The right to change the value of a [`RwLock`], until it is dropped.
    WriteGuard, write, end_write
);

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a writer holds the lock alone, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}
