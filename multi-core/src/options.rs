//! What can be asked of a group and of a single task.

use crate::cancel::CancelToken;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What every backend's builder takes; a backend adds its own beside it.
///
/// ```
/// use multi_core::GroupOptions;
/// use std::time::Duration;
///
/// let options = GroupOptions::new().name("thumbnails").limit(8).fail_fast(true).timeout(Duration::from_secs(60));
/// assert!(options.check().is_ok());
/// assert_eq!(
///     GroupOptions::new().limit(0).check().unwrap_err().to_string(),
///     "limit 0 would never start a task; give at least 1, or no limit at all",
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct GroupOptions {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) limit: Option<usize>,
    pub(crate) fail_fast: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) cancel_token: Option<CancelToken>,
}

impl GroupOptions {
    /// No name, no limit, no deadline; a failure does not cancel the others.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the group in errors and reports.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Lets at most `tasks` run at once. A `go` beyond it waits for room; from inside a task of the group it is put in a queue
    /// instead, so that no task waits for itself. Any number from 1 up is taken; a huge one costs nothing.
    #[must_use]
    pub fn limit(mut self, tasks: usize) -> Self {
        self.limit = Some(tasks);
        self
    }

    /// Whether there is a limit.
    ///
    /// ```
    /// use multi_core::GroupOptions;
    ///
    /// assert!(GroupOptions::new().limit(8).has_limit());
    /// assert!(!GroupOptions::new().has_limit());
    /// ```
    #[must_use]
    pub fn has_limit(&self) -> bool {
        self.limit.is_some()
    }

    /// Cancels the group at its first failure.
    #[must_use]
    pub fn fail_fast(mut self, on: bool) -> Self {
        self.fail_fast = on;
        self
    }

    /// Cancels the group at `at`. A task that returns after it is reported as timed out, whatever it returns, and so is one that
    /// was not started by then.
    #[must_use]
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }

    /// Sets the [`deadline`](Self::deadline) to `after` from now. A time beyond what the clock can count is no deadline.
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> Self {
        self.deadline = Instant::now().checked_add(after);
        self
    }

    /// Gives each task `after` from its start; see [`TaskOptions::timeout`].
    #[must_use]
    pub fn task_timeout(mut self, after: Duration) -> Self {
        self.task_timeout = Some(after);
        self
    }

    /// Cancels the group whenever `token` is cancelled. Unlike the group's own token it outlives a `wait`: it is the one to
    /// give to a Ctrl-C handler.
    #[must_use]
    pub fn cancel_token(mut self, token: CancelToken) -> Self {
        self.cancel_token = Some(token);
        self
    }

    /// Whether nothing was asked for.
    pub(crate) fn is_plain(&self) -> bool {
        let Self {
            name,
            limit,
            fail_fast,
            deadline,
            task_timeout,
            cancel_token,
        } = self;
        name.is_none()
            && limit.is_none()
            && !fail_fast
            && deadline.is_none()
            && task_timeout.is_none()
            && cancel_token.is_none()
    }

    /// Looks for values that no group can work with.
    ///
    /// # Errors
    ///
    /// [`BuildError`] with the value and the remedy.
    pub fn check(&self) -> Result<(), BuildError> {
        if self.limit == Some(0) {
            return Err(BuildError::new(
                "limit 0 would never start a task; give at least 1, or no limit at all",
            ));
        }
        check_name(self.name.as_deref())
    }
}

/// A NUL would cut the name short wherever the system is told of it.
pub(crate) fn check_name(name: Option<&str>) -> Result<(), BuildError> {
    match name {
        Some(name) if name.contains('\0') => Err(BuildError::new(format!(
            "name {name:?} contains a NUL; leave it out"
        ))),
        _ => Ok(()),
    }
}

/// What can be asked of one task: the second argument's partner in [`Group::go_with`](crate::Group::go_with).
///
/// ```
/// use multi_core::TaskOptions;
/// use std::time::Duration;
///
/// let options = TaskOptions::new().name("resize").timeout(Duration::from_secs(5));
/// # drop(options);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until a task is started with them"]
pub struct TaskOptions {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel_token: Option<CancelToken>,
    pub(crate) site: Option<&'static Location<'static>>,
}

impl TaskOptions {
    /// No name and the group's task timeout.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the task in errors and reports, and its thread where it has one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Gives the task `after` from its start. A task that returns later is reported as timed out, whatever it returns; a process is
    /// killed, any other task is asked through its [`cancel_token`](Self::cancel_token).
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Has `token` cancelled when the task's time is up or its group is cancelled: give the task a clone of it.
    pub fn cancel_token(mut self, token: CancelToken) -> Self {
        self.cancel_token = Some(token);
        self
    }

    /// Sets where the task was started, unless it is set: for code that passes a `go` on.
    pub fn started_at(mut self, site: &'static Location<'static>) -> Self {
        self.site.get_or_insert(site);
        self
    }

    /// Where the task was started, if that is set.
    #[must_use]
    pub fn site(&self) -> Option<&'static Location<'static>> {
        self.site
    }
}

/// Why a group cannot be built: the option, its value and the remedy in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    message: String,
}

impl BuildError {
    /// An error that says `message`: name the option, its value and the remedy, in lower case and without a full stop.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_a_nul_is_refused_by_name() {
        let error = GroupOptions::new().name("a\0b").check().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"name "a\0b" contains a NUL; leave it out"#
        );
    }

    #[test]
    fn huge_limit_and_endless_timeout_are_taken() {
        let options = GroupOptions::new().limit(usize::MAX).timeout(Duration::MAX);
        assert_eq!(options.check(), Ok(()));
        assert_eq!(options.deadline, None);
    }
}
