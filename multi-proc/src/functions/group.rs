//! The group whose tasks are functions in processes that were not forked from this one.

use super::call::Maker;
use super::source::Source;
use super::spawn::Setting;
use super::task::FnTaskBuilder;
use crate::children::Children;
use multi_core::{
    BuildError, CancelToken, GroupError, Handle, Progress, Result, SpawnFn, TaskOptions, Tasks,
    Usage, WaitTimeoutError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Tasks as functions, each in a process of its own that was not forked from this one: see [`multi_core::SpawnFn`] for what every such group does.
///
/// [`Builder::zygote`](crate::Builder::zygote) makes one whose processes a small helper forks, [`Builder::spawn`](crate::Builder::spawn) one that executes
/// this program again for each task. Both are safe to call, whatever the threads of this program hold, and cost the same however
/// much memory it has. What they call is a function, or a closure that captures nothing, and its arguments:
///
/// ```
/// fn main() -> multi_proc::Result {
///     multi_proc::init();
///     let mut group = multi_proc::Group::builder().name("sums").limit(4).zygote()?;
///     let sums: Vec<_> = (1..=8)
///         .map(|n: u64| group.spawn_fn(|n| Ok((1..=n).sum::<u64>()), n))
///         .collect();
///     let sums: Result<Vec<u64>, _> = sums.into_iter().map(|sum| sum.join()).collect();
///     assert_eq!(sums?, [1, 3, 6, 10, 15, 21, 28, 36]);
///     group.spawn_fn(|()| -> multi_proc::Result { std::process::abort() }, ());
///     assert!(group.wait().unwrap_err().to_string().contains("killed by SIGABRT"));
///     Ok(())
/// }
/// ```
///
/// A closure that captures does not compile, since what it captures would stay here: hand it over as an argument.
///
/// ```compile_fail,E0308
/// fn demo(group: &multi_proc::FnGroup, by: u64) -> multi_proc::Handle<u64> {
///     group.spawn_fn(move |n: u64| Ok(n * by), 21)
/// }
/// ```
///
/// ```
/// fn demo(group: &multi_proc::FnGroup, by: u64) -> multi_proc::Handle<u64> {
///     group.spawn_fn(|(n, by): (u64, u64)| Ok(n * by), (21, by))
/// }
/// ```
///
/// Arguments are encoded at the call and dropped here; they may take as many bytes as a value
/// ([`Builder::value_bytes_max`](crate::Builder::value_bytes_max)). Otherwise it is as with [`Group`](crate::Group): failures are named, time limits kept by
/// killing, and dropping the group ends its tasks.
///
/// # Fork
///
/// In a forked child the group is its parent's: starting and waiting panic and say so, dropping it does nothing.
#[must_use = "dropping a group cancels its tasks"]
pub struct FnGroup {
    children: Children,
    source: Arc<Source>,
}

/// For the builder: a group on the program's zygote.
pub(crate) fn make_zygote(make: impl FnOnce(&'static str) -> Parts) -> Result<FnGroup, BuildError> {
    let source = Source::zygote()?;
    FnGroup::of(make("zygote"), source)
}

/// For the builder: a group that executes.
pub(crate) fn make_executing(
    setting: &Setting,
    make: impl FnOnce(&'static str) -> Parts,
) -> Result<FnGroup, BuildError> {
    let source = Source::executing(setting, "group")?;
    FnGroup::of(make("spawn"), source)
}

/// What the builder makes for a backend of that name.
type Parts = Result<Children, BuildError>;

impl FnGroup {
    fn of(parts: Parts, source: Source) -> Result<Self, BuildError> {
        Ok(Self {
            children: parts?,
            source: Arc::new(source),
        })
    }

    /// Calls `function` in a process of its own and waits for it: [`spawn_fn`](Self::spawn_fn) and [`Handle::join`].
    ///
    /// ```
    /// # fn main() -> multi_proc::Result {
    /// multi_proc::init();
    /// let mut group = multi_proc::Group::builder().spawn()?;
    /// let len = group.call(|text: String| Ok(text.len()), "abc".to_owned())?;
    /// assert_eq!(len, 3);
    /// # Ok(group.wait()?)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The task's failure; the group's `wait` reports the same.
    #[track_caller]
    pub fn call<A, T>(
        &self,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<T, multi_core::TaskError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_fn(function, args).join()
    }

    /// What the tasks that have ended used: see [`Group::usage`](crate::Group::usage).
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.children.usage()
    }

    /// A call about to be made, to be held to limits of its own.
    ///
    /// ```
    /// use multi_proc::Limits;
    ///
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let mut group = multi_proc::Group::builder().zygote()?;
    ///     let limits = Limits::new().working_directory("/").nice(5);
    ///     let here = group.task().name("looks").limits(limits).spawn_fn(|()| Ok(std::env::current_dir()?), ());
    ///     assert_eq!(here.join()?.to_str(), Some("/"));
    ///     Ok(group.wait()?)
    /// }
    /// ```
    pub fn task(&self) -> FnTaskBuilder {
        FnTaskBuilder::new(&self.children.ledger, &self.children.reaper, &self.source)
    }

    /// Lets the tasks run on by themselves: a thread collects them, and their failures are reported on standard error. They still end with
    /// this process.
    ///
    /// ```
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let group = multi_proc::Group::builder().zygote()?;
    ///     let half = group.spawn_fn(|n: u32| Ok(n / 2), 42);
    ///     group.detach();
    ///     assert_eq!(half.join()?, 21);
    ///     Ok(())
    /// }
    /// ```
    pub fn detach(self) {
        self.children.detach();
    }

    fn maker(&self) -> Maker<'_> {
        Maker {
            ledger: &self.children.ledger,
            reaper: &self.children.reaper,
            source: &self.source,
        }
    }
}

impl Tasks for FnGroup {
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

impl<A, T> SpawnFn<A, T> for FnGroup
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    #[track_caller]
    fn spawn_fn_with(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T> {
        self.maker().spawn(None, options, function, args)
    }
}

multi_core::tasks_face!(FnGroup);
multi_core::spawn_fn_face!(
    FnGroup,
    args: [Serialize + DeserializeOwned + Send + 'static],
    value: [Serialize + DeserializeOwned + Send + 'static]
);

impl fmt::Debug for FnGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnGroup")
            .field("ledger", &self.children)
            .finish_non_exhaustive()
    }
}
