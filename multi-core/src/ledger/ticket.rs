//! One task's entry in the books, from its start to its end.

use super::Ledger;
use crate::cancel::{CancelToken, Cancelled};
use crate::clock::{self, Alarm};
use crate::error::{Facts, TaskError, TaskErrorKind};
use crate::handle::{Promise, TakesFailure};
use crate::options::{TaskOptions, check_name};
use crate::task::{Lineage, TaskId};
use crate::{Result, panic};
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The right to run one task and the duty to say how it ended. Dropped unsettled, it reports the task as lost.
#[must_use = "dropping a ticket reports its task as lost"]
pub struct Ticket {
    ledger: Ledger,
    id: TaskId,
    pub(super) name: Option<Arc<str>>,
    pub(super) site: &'static Location<'static>,
    pub(super) since: Instant,
    timeout: Option<Duration>,
    token: Option<CancelToken>,
    lineage: Lineage,
    alarm: Option<Alarm>,
    /// The task's handle, which is to hear of a failure.
    pub(super) failure_to: Option<Arc<dyn TakesFailure>>,
    pid: Option<u32>,
    stderr_tail: Option<String>,
    is_settled: bool,
}

impl Ticket {
    pub(super) fn new(
        ledger: Ledger,
        id: TaskId,
        options: TaskOptions,
        site: &'static Location<'static>,
        since: Instant,
        timeout: Option<Duration>,
        lineage: Lineage,
    ) -> Self {
        let TaskOptions {
            name, cancel_token, ..
        } = options;
        Self {
            ledger,
            id,
            name,
            site,
            since,
            timeout,
            token: cancel_token,
            lineage,
            alarm: None,
            failure_to: None,
            pid: None,
            stderr_tail: None,
            is_settled: false,
        }
    }

    /// The task's number in its group.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The line that called `go`.
    #[must_use]
    pub fn started_at(&self) -> &'static Location<'static> {
        self.site
    }

    /// When its time will be up, if it has a time limit: its own or, where that is sooner, its group's.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        let own = self
            .timeout
            .and_then(|timeout| self.since.checked_add(timeout));
        match (own, self.ledger.shared.options.deadline) {
            (Some(own), Some(group)) => Some(own.min(group)),
            (own, group) => own.or(group),
        }
    }

    /// What the task shows as its own lineage when it calls `go` in turn.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }

    /// Adds the process the task runs in to what a failure will say.
    pub fn set_pid(&mut self, pid: u32) {
        self.pid = Some(pid);
    }

    /// Adds the end of what the task wrote on its standard error to what a failure will say.
    pub fn set_stderr_tail(&mut self, tail: String) {
        self.stderr_tail = Some(tail);
    }

    /// Runs `task` here, catching its panic, and settles.
    pub fn run(self, task: impl FnOnce() -> Result) {
        let outcome = outcome_of(task);
        self.settle(outcome);
    }

    /// As [`run`](Self::run), for a task whose value somebody may wait for.
    pub fn run_with<T>(self, promise: Promise<T>, task: impl FnOnce() -> Result<T>) {
        let outcome = outcome_of(task);
        self.settle_with(promise, outcome);
    }

    /// Says how the task ended. A task whose time was up is reported as timed out, whatever it says.
    pub fn settle(mut self, outcome: Result<(), TaskErrorKind>) {
        match self.judge(outcome) {
            Ok(()) => {}
            Err(error) => self.fail(&error),
        }
        self.close();
    }

    /// As [`settle`](Self::settle), and hands the value to whoever waits for it.
    pub fn settle_with<T>(mut self, promise: Promise<T>, outcome: Result<T, TaskErrorKind>) {
        match self.judge(outcome) {
            Ok(value) => promise.keep(value),
            Err(error) => self.fail(&error),
        }
        self.close();
    }

    /// Gives the ticket back: the task was not started and counts for nothing.
    pub fn withdraw(mut self) {
        self.is_settled = true;
        self.ledger.forget(self.id);
    }

    /// Starts the clock of the task's own time limit.
    pub(super) fn begin(mut self) -> Self {
        if let (Some(token), Some(at)) = (self.token.clone(), self.expires_at()) {
            // Without a clock thread the task is still judged at its end; it only is not told in time.
            self.alarm = clock::at(at, move || token.cancel()).ok();
        }
        self
    }

    /// Settles a task that is not to start.
    pub(super) fn refuse(self) {
        let kind = match check_name(self.name.as_deref()) {
            Err(error) => TaskErrorKind::Start(io::Error::new(io::ErrorKind::InvalidInput, error)),
            Ok(()) => TaskErrorKind::Cancelled,
        };
        self.settle(Err(kind));
    }

    fn judge<T>(&mut self, outcome: Result<T, TaskErrorKind>) -> Result<T, TaskError> {
        self.alarm = None;
        let is_late = self.expires_at().is_some_and(|at| Instant::now() >= at);
        match outcome {
            Ok(value) if !is_late => Ok(value),
            Ok(_) => Err(self.error(TaskErrorKind::TimedOut, None)),
            // Why it could not run is worth more than that it is late as well.
            Err(kind @ (TaskErrorKind::Start(_) | TaskErrorKind::LimitExceeded(_))) => {
                Err(self.error(kind, None))
            }
            Err(TaskErrorKind::Returned(error)) if is_late => {
                Err(self.error(TaskErrorKind::TimedOut, Some(error)))
            }
            Err(TaskErrorKind::Cancelled | TaskErrorKind::Signaled { .. }) if is_late => {
                Err(self.error(TaskErrorKind::TimedOut, None))
            }
            Err(TaskErrorKind::Returned(error)) if error.is::<Cancelled>() => {
                Err(self.error(TaskErrorKind::Cancelled, None))
            }
            Err(kind) => Err(self.error(kind, None)),
        }
    }

    fn error(&mut self, kind: TaskErrorKind, afterwards: Option<crate::BoxError>) -> TaskError {
        let facts = Facts {
            id: self.id,
            name: self.name.clone(),
            backend: self.ledger.backend(),
            pid: self.pid,
            site: self.site,
            elapsed: self.since.elapsed(),
            stderr_tail: self.stderr_tail.take(),
        };
        TaskError::new(facts, kind, afterwards)
    }

    fn fail(&mut self, error: &TaskError) {
        self.ledger.record(error);
        if let Some(handle) = self.failure_to.take() {
            handle.fail(error);
        }
    }

    fn close(&mut self) {
        self.is_settled = true;
        self.ledger.leave(self.id);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            let error = self.error(TaskErrorKind::Lost, None);
            self.fail(&error);
            self.close();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What `task` returned, or how it failed.
fn outcome_of<T>(task: impl FnOnce() -> Result<T>) -> Result<T, TaskErrorKind> {
    panic::catch(task)?.map_err(TaskErrorKind::Returned)
}
