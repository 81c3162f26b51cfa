//! Threads that borrow from the caller's stack.

#![expect(
    unsafe_code,
    reason = "a borrow is stretched to 'static and ended before the scope returns"
)]

use crate::group::Group;
use multi_core::{GroupError, Handle, Result, TaskError, TaskOptions, panic};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `f` with a scope whose tasks may borrow what outlives the call, waits for them, and returns what `f` returned.
///
/// ```
/// let numbers = vec![1, 2, 3, 4];
/// let (left, right) = numbers.split_at(2);
/// let sum = multi_pthread::scope(|s| {
///     let left = s.spawn(|| Ok(left.iter().sum::<i32>()));
///     let right = s.spawn(|| Ok(right.iter().sum::<i32>()));
///     Ok::<_, multi_core::TaskError>(left.join()? + right.join()?)
/// })??;
/// assert_eq!(sum, 10);
/// # Ok::<(), multi_core::BoxError>(())
/// ```
///
/// A borrow cannot leave its scope:
///
/// ```compile_fail,E0373
/// multi_pthread::scope(|s| {
///     let inside = String::from("gone when the closure returns");
///     s.go(|| {
///         println!("{inside}");
///         Ok(())
///     });
/// }).unwrap();
/// ```
///
/// # Errors
///
/// [`GroupError`] if any task failed; what `f` returned is dropped then.
///
/// # Panics
///
/// With `f`'s panic, after the tasks have ended.
pub fn scope<'env, F, T>(f: F) -> Result<T, GroupError>
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        group: Group::new(),
        scope: PhantomData,
        env: PhantomData,
    };
    let returned = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    // Whatever `f` did, no task outlives this line. Until then they have the scope itself, shared, and may start others in it.
    let waited = scope.group.inner().wait();
    match returned {
        Ok(value) => waited.map(|()| value),
        Err(panicked) => {
            // One panic is enough: a second, of an error's destructor, would end the process.
            drop(panic::catch(|| drop(waited)));
            resume_unwind(panicked)
        }
    }
}

/// Starts threads that borrow; made by [`scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    group: Group,
    /// Invariant, so that `'scope` cannot be shortened to one that ends before the tasks do.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a task that may borrow.
    #[track_caller]
    pub fn go<F>(&'scope self, task: F)
    where
        F: FnOnce() -> Result + Send + 'scope,
    {
        let task: Box<dyn FnOnce() -> Result + Send + 'scope> = Box::new(task);
        // SAFETY: `scope` waits for every task before it returns, also when its closure panics, and the ledger drops a task's
        // closure before it settles the task. So the closure is gone while 'scope still lasts.
        let task: Box<dyn FnOnce() -> Result + Send + 'static> =
            unsafe { std::mem::transmute(task) };
        self.group
            .inner()
            .go(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// Starts a task that may borrow, and returns the handle of its value.
    #[track_caller]
    pub fn spawn<T, F>(&'scope self, task: F) -> ScopedHandle<'scope, T>
    where
        T: Send + 'scope,
        F: FnOnce() -> Result<T> + Send + 'scope,
    {
        let value = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&value);
        let task: Box<dyn FnOnce() -> Result + Send + 'scope> = Box::new(move || {
            let made = task()?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
            Ok(())
        });
        // SAFETY: as in `go`; the slot's other owner is the handle, which cannot outlive 'scope.
        let task: Box<dyn FnOnce() -> Result + Send + 'static> =
            unsafe { std::mem::transmute(task) };
        let ended = self
            .group
            .inner()
            .spawn(TaskOptions::new().started_at(Location::caller()), task);
        ScopedHandle {
            ended,
            value,
            scope: PhantomData,
        }
    }
}

/// The value of a scoped task, once it has ended.
#[derive(Debug)]
#[must_use = "the task's value is lost with its handle"]
pub struct ScopedHandle<'scope, T> {
    ended: Handle<()>,
    value: Arc<Mutex<Option<T>>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedHandle<'_, T> {
    /// Waits for the task and returns its value.
    ///
    /// # Errors
    ///
    /// The task's failure; the scope reports the same.
    pub fn join(self) -> Result<T, TaskError> {
        self.ended.join()?;
        let value = self
            .value
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Ok(value.unwrap_or_else(|| unreachable!("a task ended well without its value")))
    }
}
