//! Why a task was given back instead of started.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

/// Why a `try_go` did not start its task, which comes back unharmed.
pub struct TryGoError<F> {
    task: F,
    reason: TryGoReason,
}

/// The reason in a [`TryGoError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TryGoReason {
    /// As many tasks run as the group's limit allows.
    AtLimit,
    /// The group was cancelled, or its deadline has passed.
    Cancelled,
    /// The backend could not start it.
    Start(io::Error),
}

impl<F> TryGoError<F> {
    /// For backends: `task` was not started, because of `reason`.
    pub fn new(task: F, reason: TryGoReason) -> Self {
        Self { task, reason }
    }

    /// Why the task was not started.
    pub fn reason(&self) -> &TryGoReason {
        &self.reason
    }

    /// The task, to be tried again or done here.
    pub fn into_task(self) -> F {
        self.task
    }

    /// The same reason with another task: for code that wraps the caller's.
    pub(crate) fn map<G>(self, rewrap: impl FnOnce(F) -> G) -> TryGoError<G> {
        TryGoError {
            task: rewrap(self.task),
            reason: self.reason,
        }
    }
}

impl<F> Display for TryGoError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            TryGoReason::AtLimit => f.write_str("the group runs as many tasks as its limit allows"),
            TryGoReason::Cancelled => f.write_str("the group was cancelled"),
            TryGoReason::Start(error) => write!(f, "could not start the task: {error}"),
        }
    }
}

impl<F> fmt::Debug for TryGoError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGoError")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<F> Error for TryGoError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            TryGoReason::Start(error) => Some(error),
            _ => None,
        }
    }
}
