//! What went wrong in a group: every failure, or who still runs.

use super::TaskError;
use std::error::Error;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

/// Every failure of a group, in the order in which the tasks were started.
///
/// The first [`GroupError::WHOLE_MAX`] failures, in time, are kept whole and the rest counted. [`Error::source`] is the one
/// that happened first.
pub struct GroupError {
    name: Option<Arc<str>>,
    /// Sorted by task.
    failures: Vec<TaskError>,
    first: TaskError,
    counts: Counts,
}

/// What is known of a group's tasks even where their failures are not kept whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) tasks: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

impl GroupError {
    /// Failures kept whole; those beyond are counted. 64 lines are more than anyone reads and few enough to keep.
    pub const WHOLE_MAX: usize = 64;

    /// `failures` in the order in which they happened; none where it is empty.
    pub(crate) fn new(
        name: Option<Arc<str>>,
        mut failures: Vec<TaskError>,
        counts: Counts,
    ) -> Option<Self> {
        let first = failures.first()?.clone();
        failures.sort_by_key(TaskError::id);
        Some(Self {
            name,
            failures,
            first,
            counts,
        })
    }

    /// The failures kept whole, in the order in which their tasks were started.
    #[must_use]
    pub fn failures(&self) -> &[TaskError] {
        &self.failures
    }

    /// The failure that happened first.
    #[must_use]
    pub fn first(&self) -> &TaskError {
        &self.first
    }

    /// How many tasks failed, those not kept whole included.
    #[must_use]
    pub fn failed_count(&self) -> u64 {
        self.counts.failed
    }

    /// How many tasks ended since the last `wait`, failed or not.
    #[must_use]
    pub fn task_count(&self) -> u64 {
        self.counts.tasks
    }

    /// The whole in one line, for an error that quotes this one: how many, and the first.
    pub(crate) fn summary(&self) -> String {
        let Counts { tasks, failed, .. } = self.counts;
        if failed == 1 {
            return self.first.to_string();
        }
        format!("{failed} of {tasks} tasks failed, first {}", self.first)
    }

    /// Whether nothing went wrong but that tasks were asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.counts.cancelled == self.counts.failed
    }
}

impl IntoIterator for GroupError {
    type Item = TaskError;
    type IntoIter = std::vec::IntoIter<TaskError>;

    fn into_iter(self) -> Self::IntoIter {
        self.failures.into_iter()
    }
}

impl Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "group {name:?}: ")?;
        }
        if self.counts.failed == 1 {
            return self.first.fmt(f);
        }
        write!(
            f,
            "{} of {} tasks failed",
            self.counts.failed, self.counts.tasks
        )?;
        if self.counts.cancelled > 0 {
            write!(f, " ({} cancelled)", self.counts.cancelled)?;
        }
        write!(f, ", first task {}:", self.first.id())?;
        for failure in &self.failures {
            write!(f, "\n  {failure}")?;
        }
        match self
            .counts
            .failed
            .saturating_sub(self.failures.len() as u64)
        {
            0 => Ok(()),
            rest => write!(f, "\n  and {rest} more"),
        }
    }
}

impl fmt::Debug for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupError")
            .field("name", &self.name)
            .field("counts", &self.counts)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Error for GroupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.first)
    }
}

/// Why `wait_timeout` did not return `Ok`.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitTimeoutError {
    /// Every task ended in time, some of them in failure.
    Failed(GroupError),
    /// The time was up first. Nothing is lost: wait again.
    StillRunning(StillRunning),
}

impl Display for WaitTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::StillRunning(still) => still.fmt(f),
        }
    }
}

impl Error for WaitTimeoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::StillRunning(_) => None,
        }
    }
}

/// Who was still running when a `wait_timeout` gave up.
#[derive(Clone, Debug)]
pub struct StillRunning {
    /// A line for each of the first few: number, name, start site, time so far.
    pub(crate) tasks: Vec<String>,
    pub(crate) count: usize,
    pub(crate) waited: Duration,
}

impl StillRunning {
    /// How many tasks had not ended, those waiting for room included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "task" } else { "tasks" };
        write!(
            f,
            "{} {plural} still running after {:.3?}: {}",
            self.count,
            self.waited,
            self.tasks.join(", ")
        )?;
        match self.count.saturating_sub(self.tasks.len()) {
            0 => Ok(()),
            rest => write!(f, " and {rest} more"),
        }
    }
}
