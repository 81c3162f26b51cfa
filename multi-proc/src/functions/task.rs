//! A call about to be made, with what is asked for it.

use super::call::Maker;
use super::source::Source;
use crate::limits::Limits;
use crate::outcome::{self, Measured};
use crate::reap::Reaper;
use crate::stdio::{Input, Output};
use crate::task::TaskBuilder;
use multi_core::ledger::Ledger;
use multi_core::{CancelToken, Handle, Result, TaskError, TaskOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A call about to be made, or several alike: what its process is held to, beside a name, a time limit, a token. Made by
/// [`FnGroup::task`](crate::FnGroup::task); nothing happens before [`spawn_fn`](Self::spawn_fn) or [`call`](Self::call).
///
/// It does not keep the group: once that is dropped, a call made here is refused as cancelled; once it is detached, a call made here runs on by itself,
/// too.
#[derive(Clone)]
#[must_use = "nothing is started before spawn_fn or call"]
pub struct FnTaskBuilder {
    /// What is asked for.
    task: TaskBuilder,
    source: Arc<Source>,
}

impl FnTaskBuilder {
    pub(super) fn new(ledger: &Ledger, reaper: &Arc<Reaper>, source: &Arc<Source>) -> Self {
        Self {
            task: TaskBuilder::new(ledger, reaper),
            source: Arc::clone(source),
        }
    }

    fn with(mut self, set: impl FnOnce(TaskBuilder) -> TaskBuilder) -> Self {
        self.task = set(self.task);
        self
    }

    /// As [`TaskOptions::name`].
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|task| task.name(name))
    }

    /// As [`TaskOptions::timeout`].
    pub fn timeout(self, after: Duration) -> Self {
        self.with(|task| task.timeout(after))
    }

    /// As [`TaskOptions::cancel_token`].
    pub fn cancel_token(self, token: CancelToken) -> Self {
        self.with(|task| task.cancel_token(token))
    }

    /// Takes over a whole set of options at once.
    pub fn options(self, options: TaskOptions) -> Self {
        self.with(|task| task.options(options))
    }

    /// Holds the process to `limits` and, where these leave something open, to the group's.
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|task| task.limits(limits))
    }

    /// Where the function reads its standard input from.
    pub fn stdin(self, input: Input) -> Self {
        self.with(|task| task.stdin(input))
    }

    /// Where what the function prints to standard output goes to.
    pub fn stdout(self, output: Output) -> Self {
        self.with(|task| task.stdout(output))
    }

    /// Where what the function prints to standard error goes to.
    pub fn stderr(self, output: Output) -> Self {
        self.with(|task| task.stderr(output))
    }

    fn maker(&self) -> Maker<'_> {
        Maker {
            ledger: &self.task.ledger,
            reaper: &self.task.reaper,
            source: &self.source,
        }
    }

    /// Starts `function(args)`: see [`multi_core::SpawnFn::spawn_fn`]. What no process can be held to is a failure of that task.
    #[track_caller]
    pub fn spawn_fn<A, T>(&self, function: fn(A) -> Result<T>, args: A) -> Handle<T>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let (terms, options) = (self.task.terms.clone(), self.task.options.clone());
        self.maker().spawn(terms, options, function, args)
    }

    /// As [`spawn_fn`](Self::spawn_fn), and brings home what the process used, too. A call that fails has it in its error:
    /// [`TaskError::usage`].
    #[track_caller]
    pub fn spawn_fn_measured<A, T>(
        &self,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<Measured<T>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let (terms, options) = (self.task.terms.clone(), self.task.options.clone());
        self.maker()
            .spawn_for(terms, options, function, args, outcome::weighed)
    }

    /// Calls `function` and waits for it: [`spawn_fn`](Self::spawn_fn) and [`Handle::join`].
    ///
    /// # Errors
    ///
    /// The task's failure; the group's `wait` reports the same.
    #[track_caller]
    pub fn call<A, T>(&self, function: fn(A) -> Result<T>, args: A) -> Result<T, TaskError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_fn(function, args).join()
    }
}

impl fmt::Debug for FnTaskBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnTaskBuilder")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}
