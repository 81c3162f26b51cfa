//! Tasks that borrow from the caller's stack.

#![expect(
    unsafe_code,
    reason = "a borrow is stretched to 'static and ended before the scope returns"
)]

use super::{Group, spare};
use multi_core::{GroupError, Handle, Result, TaskError, TaskOptions, panic};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `f` with a scope whose tasks may borrow what outlives the call, waits for them, and returns what `f` returned.
///
/// ```
/// let numbers = vec![1, 2, 3, 4];
/// let (left, right) = numbers.split_at(2);
/// let sum = multi_goro::scope(|s| {
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
/// multi_goro::scope(|s| {
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
    let group = spare::take().unwrap_or_default();
    let (returned, waited) = {
        let scope = Scope {
            group: &group,
            scope: PhantomData,
            env: PhantomData,
        };
        let returned = catch_unwind(AssertUnwindSafe(|| f(&scope)));
        // Whatever `f` did, no task outlives this line. Until then they have the scope itself, shared, and may start others in it.
        (returned, scope.group.inner.wait())
    };
    spare::keep(group);
    match returned {
        Ok(value) => waited.map(|()| value),
        Err(panicked) => {
            // One panic is enough: a second, of an error's destructor, would end the process.
            drop(panic::catch(|| drop(waited)));
            resume_unwind(panicked)
        }
    }
}

/// Starts tasks that borrow; made by [`scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    group: &'scope Group,
    /// Invariant, so that `'scope` cannot be shortened to one that ends before the tasks do.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a task that may borrow.
    ///
    /// ```
    /// let mut sums = [0; 2];
    /// let numbers = [[1, 2], [3, 4]];
    /// multi_goro::scope(|s| {
    ///     for (sum, part) in sums.iter_mut().zip(&numbers) {
    ///         s.go(move || {
    ///             *sum = part.iter().sum();
    ///             Ok(())
    ///         });
    ///     }
    /// })?;
    /// assert_eq!(sums, [3, 7]);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn go<F>(&'scope self, task: F)
    where
        F: FnOnce() -> Result + Send + 'scope,
    {
        self.go_with(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// As [`go`](Self::go), with a name, a timeout, a token of its own.
    ///
    /// ```
    /// use multi_goro::TaskOptions;
    ///
    /// let error = multi_goro::scope(|s| {
    ///     s.go_with(TaskOptions::new().name("second half"), || Err("no such half".into()));
    /// })
    /// .unwrap_err();
    /// assert_eq!(error.first().name(), Some("second half"));
    /// ```
    #[track_caller]
    pub fn go_with<F>(&'scope self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'scope,
    {
        // SAFETY: it goes to the scope's group.
        let task = unsafe { outlast_scope(task) };
        self.group
            .inner
            .go(options.started_at(Location::caller()), task);
    }

    /// Starts a task that may borrow, with an OS thread of its own, which ends with it: see [`Group::go_locked`].
    ///
    /// ```
    /// use std::thread;
    ///
    /// let mut seen = Vec::new();
    /// multi_goro::scope(|s| {
    ///     s.go_locked(|| {
    ///         seen.push(thread::current().id());
    ///         Ok(())
    ///     });
    /// })?;
    /// assert_ne!(seen, [thread::current().id()]);
    /// # Ok::<(), multi_goro::GroupError>(())
    /// ```
    #[track_caller]
    pub fn go_locked<F>(&'scope self, task: F)
    where
        F: FnOnce() -> Result + Send + 'scope,
    {
        self.go_locked_with(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// As [`go_locked`](Self::go_locked), with a name (the thread's, too), a timeout, a token of its own.
    #[track_caller]
    pub fn go_locked_with<F>(&'scope self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'scope,
    {
        // SAFETY: it goes to the scope's group, whose `wait` waits for the threads, too.
        let task = unsafe { outlast_scope(task) };
        self.group
            .inner
            .go_locked(options.started_at(Location::caller()), task);
    }

    /// Starts a task that may borrow, and returns the handle of its value.
    ///
    /// ```
    /// let words = vec!["so", "long"];
    /// let longest = multi_goro::scope(|s| {
    ///     let longest = s.spawn(|| Ok(words.iter().map(|word| word.len()).max()));
    ///     longest.join()
    /// })??;
    /// assert_eq!(longest, Some(4));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn spawn<T, F>(&'scope self, task: F) -> ScopedHandle<'scope, T>
    where
        T: Send + 'scope,
        F: FnOnce() -> Result<T> + Send + 'scope,
    {
        let value = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&value);
        let task = move || {
            let made = task()?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
            Ok(())
        };
        // SAFETY: it goes to the scope's group; the slot's other owner is the handle, which cannot outlive 'scope.
        let task = unsafe { outlast_scope(task) };
        let ended = self
            .group
            .inner
            .spawn(TaskOptions::new().started_at(Location::caller()), task);
        ScopedHandle {
            ended,
            value,
            scope: PhantomData,
        }
    }
}

/// A task as one that borrows nothing.
///
/// # Safety
///
/// - It is given to the group of a scope with 'scope, and to nobody else. [`scope`] waits for every task of the group before it returns, also
///   when its closure panics, and the ledger drops a task's closure before it settles the task: so it is gone while 'scope still lasts.
unsafe fn outlast_scope<'scope>(
    task: impl FnOnce() -> Result + Send + 'scope,
) -> Box<dyn FnOnce() -> Result + Send + 'static> {
    let task: Box<dyn FnOnce() -> Result + Send + 'scope> = Box::new(task);
    // SAFETY: the same type but for the lifetime, which the caller sees to.
    unsafe { std::mem::transmute(task) }
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
