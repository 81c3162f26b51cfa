//! Values that each task has for itself.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::ptr;
use std::rc::Rc;

use crate::sched::with_locals;

/// Declares values that each task has for itself, as `thread_local!` does for threads: [`TaskLocal`].
///
/// ```
/// use std::cell::Cell;
///
/// multi_goro::task_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
///     pub static REQUEST: Cell<Option<u64>> = Cell::new(None);
/// }
///
/// let mut group = multi_goro::Group::new();
/// for n in 0..3 {
///     group.go(move || {
///         REQUEST.set(Some(n));
///         multi_goro::yield_now();
///         assert_eq!(REQUEST.get(), Some(n), "not another task's, though they share a thread");
///         Ok(())
///     });
/// }
/// group.wait()?;
/// assert_eq!((DEPTH.get(), REQUEST.get()), (0, None));
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
#[macro_export]
macro_rules! task_local {
    ($($(#[$attr:meta])* $vis:vis static $name:ident: $ty:ty = $init:expr);+ $(;)?) => {
        $(
            $(#[$attr])*
            $vis static $name: $crate::TaskLocal<$ty> = {
                fn init() -> $ty {
                    $init
                }
                $crate::TaskLocal::new(init)
            };
        )+
    };
}

/// A value that each task has for itself; made by [`task_local!`](crate::task_local).
///
/// The first use in a task makes its value. It is dropped when the task ends, before the group knows that it has; a destructor that
/// panics then is reported on standard error only. Tasks do not inherit values. Those of a
/// task that is a future last for one poll, since the next may be on another thread. A plain thread has a value of its own, dropped as
/// its thread-locals are.
///
/// Where a library would keep a "current" something in a thread-local while it calls back, which is
/// [wrong in tasks that switch](crate#safety-page-five-rules), [`scope`](Self::scope) is right.
///
/// # Fork
///
/// The forked child of a task has a copy of that task's values.
pub struct TaskLocal<T: 'static> {
    init: fn() -> T,
}

/// The value of a plain thread was asked for when the thread is ending and has dropped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessError(());

impl<T: 'static> TaskLocal<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(init: fn() -> T) -> Self {
        Self { init }
    }

    /// Shows the running task's value to `look`, which may wait.
    ///
    /// ```
    /// multi_goro::task_local! { static NAME: String = "nobody".to_owned() }
    /// assert_eq!(NAME.with(|name| name.len()), 6);
    /// ```
    ///
    /// # Panics
    ///
    /// In a destructor of a plain thread's thread-local, if the value has been dropped before.
    #[track_caller]
    pub fn with<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        self.try_with(look)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`with`](Self::with), with an error instead of the panic.
    ///
    /// # Errors
    ///
    /// The calling plain thread is ending, and has dropped its value.
    pub fn try_with<R>(&'static self, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let key = self.key();
        let known = with_locals(|locals| locals.get(key)).ok_or(AccessError(()))?;
        let value = match known {
            Some(value) => value,
            None => {
                // Anything may happen in there, this value's own first use included: then that one stays.
                let fresh: Rc<dyn Any> = Rc::new((self.init)());
                let before = with_locals(|locals| {
                    let before = locals.get(key);
                    if before.is_none() {
                        locals.replace(key, Some(Rc::clone(&fresh)));
                    }
                    before
                });
                before.ok_or(AccessError(()))?.unwrap_or(fresh)
            }
        };
        let value = value
            .downcast::<T>()
            .unwrap_or_else(|_| unreachable!("a static of another type at the same address"));
        Ok(look(&value))
    }

    /// Runs `f` with `value` in the place of the running task's value, and puts that back, also after a panic.
    ///
    /// ```
    /// multi_goro::task_local! { static USER: &'static str = "nobody" }
    ///
    /// USER.scope("root", || {
    ///     multi_goro::yield_now(); // Others do not see it.
    ///     USER.with(|user| assert_eq!(*user, "root"));
    /// });
    /// USER.with(|user| assert_eq!(*user, "nobody"));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    #[track_caller]
    pub fn scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        let key = self.key();
        let inner: Rc<dyn Any> = Rc::new(value);
        let before = with_locals(|locals| locals.replace(key, Some(inner)));
        let Some(before) = before else {
            panic!("{}", AccessError(()));
        };
        let _restore = Restore { key, before };
        f()
    }

    fn key(&'static self) -> usize {
        ptr::from_ref(self).addr()
    }
}

/// Puts a value back when a scope ends.
struct Restore {
    key: usize,
    before: Option<Rc<dyn Any>>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        let before = self.before.take();
        // Dropped here, and not under the list's eyes.
        drop(with_locals(|locals| locals.replace(self.key, before)));
    }
}

impl<T: 'static> TaskLocal<Cell<T>> {
    /// Copies the value.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Sets the value.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }
}

impl<T: 'static> TaskLocal<RefCell<T>> {
    /// Shows the value, borrowed, to `look`.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with); if it is borrowed mutably.
    #[track_caller]
    pub fn with_borrow<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| look(&cell.borrow()))
    }

    /// Has `change` change the value.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with); if it is borrowed.
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, change: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| change(&mut cell.borrow_mut()))
    }
}

impl<T> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocal").finish_non_exhaustive()
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a task_local! value of a thread that is ending was used after it had been dropped",
        )
    }
}

impl Error for AccessError {}
