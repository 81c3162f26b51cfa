//! The object-safe face of a group: for a backend chosen while the program runs.

use crate::Result;
use crate::cancel::CancelToken;
use crate::error::{GroupError, TryGoError, WaitTimeoutError};
use crate::group::{Group, Progress, Spawner, Tasks};
use crate::options::TaskOptions;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// A task behind a pointer.
pub type BoxedTask = Box<dyn FnOnce() -> Result + Send + 'static>;

/// Every [`Group`] is one; `dyn DynGroup` is a [`Group`] again, so that code for any backend takes it too. This is the only
/// place where a task is boxed for the trait's sake.
///
/// ```
/// use multi_core::{DynGroup, Group, Result};
///
/// fn run(group: &mut dyn DynGroup) -> Result {
///     group.go(|| Ok(()));
///     group.wait()?;
///     Ok(())
/// }
/// ```
pub trait DynGroup {
    /// [`Group::go_with`].
    #[track_caller]
    fn dyn_go(&self, options: TaskOptions, task: BoxedTask);
    /// [`Group::try_go_with`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    fn dyn_try_go(
        &self,
        options: TaskOptions,
        task: BoxedTask,
    ) -> Result<(), TryGoError<BoxedTask>>;
    /// [`Tasks::wait`].
    ///
    /// # Errors
    ///
    /// As there.
    fn dyn_wait(&mut self) -> Result<(), GroupError>;
    /// [`Tasks::wait_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    fn dyn_wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError>;
    /// [`Tasks::cancel_token`].
    fn dyn_cancel_token(&self) -> CancelToken;
    /// [`Tasks::progress`].
    fn dyn_progress(&self) -> Progress;
    /// [`Group::spawner`].
    fn dyn_spawner(&self) -> DynSpawner;
}

impl<G: Group> DynGroup for G {
    #[track_caller]
    fn dyn_go(&self, options: TaskOptions, task: BoxedTask) {
        self.go_with(options.started_at(Location::caller()), task);
    }

    #[track_caller]
    fn dyn_try_go(
        &self,
        options: TaskOptions,
        task: BoxedTask,
    ) -> Result<(), TryGoError<BoxedTask>> {
        self.try_go_with(options.started_at(Location::caller()), task)
    }

    fn dyn_wait(&mut self) -> Result<(), GroupError> {
        self.wait()
    }

    fn dyn_wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.wait_timeout(timeout)
    }

    fn dyn_cancel_token(&self) -> CancelToken {
        self.cancel_token()
    }

    fn dyn_progress(&self) -> Progress {
        self.progress()
    }

    fn dyn_spawner(&self) -> DynSpawner {
        let spawner = self.spawner();
        DynSpawner {
            go: Arc::new(move |options, task| spawner.go_with(options, task)),
        }
    }
}

// So that `Group` is all there is to import.
crate::tasks_face!(dyn DynGroup + '_);

impl Tasks for dyn DynGroup + '_ {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.dyn_wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.dyn_wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.dyn_cancel_token()
    }

    fn progress(&self) -> Progress {
        self.dyn_progress()
    }
}

impl Group for dyn DynGroup + '_ {
    type Spawner = DynSpawner;

    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.dyn_go(options.started_at(Location::caller()), Box::new(task));
    }

    #[track_caller]
    fn try_go_with<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        // The caller gets its own closure back: it travels in a cell that the box only borrows a share of.
        let shared = Arc::new(std::sync::Mutex::new(Some(task)));
        let lent = Arc::clone(&shared);
        let boxed: BoxedTask = Box::new(move || match crate::lock::lock(&lent).take() {
            Some(task) => task(),
            None => Ok(()),
        });
        self.dyn_try_go(options.started_at(Location::caller()), boxed)
            .map_err(|refused| {
                refused.map(|boxed| {
                    drop(boxed);
                    match crate::lock::lock(&shared).take() {
                        Some(task) => task,
                        None => unreachable!("a refused task was run"),
                    }
                })
            })
    }

    fn spawner(&self) -> DynSpawner {
        self.dyn_spawner()
    }
}

/// The [`Spawner`] of a `dyn DynGroup`.
#[derive(Clone)]
pub struct DynSpawner {
    go: Arc<dyn Fn(TaskOptions, BoxedTask) + Send + Sync>,
}

impl Spawner for DynSpawner {
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        (self.go)(options.started_at(Location::caller()), Box::new(task));
    }
}

impl fmt::Debug for DynSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynSpawner").finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn DynGroup + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynGroup")
            .field("progress", &self.dyn_progress())
            .finish_non_exhaustive()
    }
}
