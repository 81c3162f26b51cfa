//! The group whose tasks are forked processes.

#![expect(
    unsafe_code,
    reason = "forking a closure is a promise of the caller's, given once, at the constructor"
)]

use crate::builder::Builder;
use crate::children::Children;
use crate::reap::Reaper;
use crate::task::{self, TaskBuilder};
use multi_core::Usage;
use multi_core::ledger::Ledger;
use multi_core::{
    CancelToken, GroupError, Handle, Progress, Result, Spawn, TaskOptions, TryGoError,
    WaitTimeoutError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Tasks as forked processes, one each: see [`multi_core::Group`] for what every group does.
///
/// A task is a copy of this process at the moment of the `go`: it reads everything its closure captured, and what it changes
/// nobody else sees. Its error, its panic and its value come home; whatever else becomes of its process is named:
///
/// ```
/// // SAFETY: this program has one thread.
/// let mut group = unsafe { multi_proc::Group::new() };
/// group.go(|| Ok(()));
/// group.go(|| Err("no luck")?);
/// group.go(|| std::process::exit(7));
/// group.go(|| std::process::abort());
/// let sum = group.spawn(|| Ok((1..=100).sum::<u32>()));
/// assert_eq!(sum.join()?, 5050);
///
/// let error = group.wait().unwrap_err();
/// assert_eq!(error.failed_count(), 3);
/// let text = error.to_string();
/// assert!(text.contains("no luck") && text.contains("exit code 7") && text.contains("SIGABRT"));
/// # Ok::<(), multi_core::BoxError>(())
/// ```
///
/// Dropping the group cancels it, sends every task SIGTERM and, after the grace, SIGKILL, collects them and reports the failures nobody
/// saw. No child outlives the process that forked it, however that ends.
///
/// # Fork
///
/// In a child, the group is its parent's: [`go`](Self::go) and [`wait`](Self::wait) panic and say so, dropping it does nothing, and its
/// [`cancel_token`](Self::cancel_token) works. A child makes groups of its own.
#[must_use = "dropping a group cancels its tasks"]
pub struct Group {
    children: Children,
}

impl Group {
    /// A group without a name or a limit: `Group::builder().fork()`.
    ///
    /// # Safety
    ///
    /// As for [`Builder::fork`].
    ///
    /// # Panics
    ///
    /// Where the system has no shared memory or no descriptors left for it; [`Builder::fork`] returns that.
    pub unsafe fn new() -> Self {
        // SAFETY: the caller's promise is the same.
        match unsafe { Self::builder().fork() } {
            Ok(group) => group,
            Err(error) => panic!("cannot make a group: {error}"),
        }
    }

    /// Sets options first.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = multi_proc::Group::builder().name("resize").limit(4).grace(Duration::from_millis(200));
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { builder.fork() }?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// What the tasks that have ended used: processor time and peak memory.
    ///
    /// ```
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { multi_proc::Group::new() };
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// assert_eq!(group.usage().tasks, 1);
    /// assert!(group.usage().peak_bytes > 0);
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.children.usage()
    }

    /// A task about to be started, to be held to limits of its own.
    ///
    /// ```
    /// use multi_proc::Limits;
    ///
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { multi_proc::Group::new() };
    /// let limits = Limits::new().working_directory("/").nice(5);
    /// let here = group.task().name("looks").limits(limits).spawn(|| Ok(std::env::current_dir()?));
    /// assert_eq!(here.join()?.to_str(), Some("/"));
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    pub fn task(&self) -> TaskBuilder {
        TaskBuilder::new(&self.children.ledger, &self.children.reaper)
    }

    /// Lets the tasks run on by themselves: a thread collects them, and their failures are reported on standard error.
    /// They still end with this process.
    pub fn detach(self) {
        self.children.detach();
    }

    pub(crate) fn new_in(children: Children) -> Self {
        Self { children }
    }
}

impl multi_core::Tasks for Group {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.children.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.children.wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.children.cancel_token()
    }

    fn progress(&self) -> Progress {
        self.children.progress()
    }
}

impl multi_core::Group for Group {
    type Spawner = Spawner;

    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        task::go(
            &self.children.ledger,
            &self.children.reaper,
            None,
            options,
            task,
        );
    }

    #[track_caller]
    fn try_go_with<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        task::try_go(
            &self.children.ledger,
            &self.children.reaper,
            None,
            options,
            task,
        )
    }

    fn spawner(&self) -> Spawner {
        Spawner {
            ledger: self.children.ledger.clone(),
            reaper: Arc::clone(&self.children.reaper),
        }
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Spawn<T> for Group {
    #[track_caller]
    fn spawn_with<F>(&self, options: TaskOptions, task: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        task::spawn(
            &self.children.ledger,
            &self.children.reaper,
            None,
            options,
            task,
        )
    }
}

multi_core::group_face!(Group, value: Serialize + DeserializeOwned + Send + 'static);
multi_core::spawner_face!(Spawner);

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("ledger", &self.children)
            .finish_non_exhaustive()
    }
}

/// Starts tasks in a group from other threads: see [`multi_core::Spawner`]. In a task of the group, which is another process,
/// it panics as [`Group::go`] does.
#[derive(Clone)]
pub struct Spawner {
    ledger: Ledger,
    reaper: Arc<Reaper>,
}

impl Spawner {
    /// As [`Group::task`].
    pub fn task(&self) -> TaskBuilder {
        TaskBuilder::new(&self.ledger, &self.reaper)
    }
}

impl multi_core::Spawner for Spawner {
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        task::go(&self.ledger, &self.reaper, None, options, task);
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}
