//! One task's entry in the books, from its start to its end.

use super::Ledger;
use crate::cancel::{CancelToken, Cancelled};
use crate::clock::{self, Alarm};
use crate::error::{Facts, GroupError, TaskError, TaskErrorKind};
use crate::handle::{Promise, TakesFailure};
use crate::options::{TaskOptions, check_name};
use crate::task::{Lineage, TaskId};
use crate::{BoxError, Result, panic};
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
    /// Its place among the running.
    pub(super) seat: usize,
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
    /// False for a task that its group refused.
    was_started: bool,
}

impl Ticket {
    pub(super) fn new(
        ledger: Ledger,
        id: TaskId,
        seat: usize,
        options: TaskOptions,
        site: &'static Location<'static>,
        since: Instant,
        lineage: Lineage,
    ) -> Self {
        let TaskOptions {
            name,
            timeout,
            cancel_token,
            ..
        } = options;
        Self {
            ledger,
            id,
            seat,
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
            was_started: true,
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

    /// The task's lineage: for the backend to [`enter`](Lineage::enter), or to answer with when asked.
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

    /// Says how the task ended. A task that returned when its time was up is reported as timed out, whatever it returned; one that
    /// panicked, or whose process died for a reason of its own, is reported as that.
    pub fn settle(mut self, outcome: Result<(), TaskErrorKind>) {
        let failure = self.judge(outcome).err();
        self.close(failure);
    }

    /// As [`settle`](Self::settle), and hands the value to whoever waits for it.
    pub fn settle_with<T>(mut self, promise: Promise<T>, outcome: Result<T, TaskErrorKind>) {
        match self.judge(outcome) {
            Err(error) => {
                drop(promise);
                self.close(Some(error));
            }
            Ok(value) => {
                // The promise is then the handle's only partner: if the handle is gone, the value is dropped here, and may panic.
                self.failure_to = None;
                self.is_settled = true;
                self.ledger.leave(self.seat, true);
                if let Err(kind) = panic::catch(|| promise.keep(value)) {
                    let error = self.error(kind, None);
                    self.ledger.record(&error);
                    discard(error);
                }
                self.ledger.published();
            }
        }
    }

    /// Gives the ticket back: the task was not started and counts for nothing.
    pub fn withdraw(mut self) {
        self.is_settled = true;
        self.ledger.forget(self.seat);
    }

    /// Starts the clock of the task's own time limit.
    pub(super) fn begin(mut self) -> Self {
        if let (Some(token), Some(at)) = (self.token.clone(), self.expires_at()) {
            // Without a clock thread the task is still judged at its end; it only is not told in time.
            self.alarm = clock::at(at, move || token.cancel()).ok();
        }
        self
    }

    /// Settles a task that is not to start, `start` being what would have started it: dropped first, since what a scoped task
    /// borrows may be gone once the task is settled.
    pub(super) fn refuse(mut self, start: impl FnOnce(Self)) {
        self.was_started = false;
        let kind = match (
            panic::catch(|| drop(start)),
            check_name(self.name.as_deref()),
        ) {
            (Err(panicked), _) => panicked,
            (Ok(()), Err(error)) => {
                TaskErrorKind::Start(io::Error::new(io::ErrorKind::InvalidInput, error))
            }
            (Ok(()), Ok(())) => TaskErrorKind::Cancelled,
        };
        self.settle(Err(kind));
    }

    fn judge<T>(&mut self, outcome: Result<T, TaskErrorKind>) -> Result<T, TaskError> {
        self.alarm = None;
        let is_late = self.expires_at().is_some_and(|at| Instant::now() >= at);
        match outcome {
            Ok(value) if !is_late => Ok(value),
            Ok(value) => {
                discard(value);
                Err(self.error(TaskErrorKind::TimedOut, None))
            }
            Err(TaskErrorKind::Returned(error)) if is_late => {
                Err(self.error(TaskErrorKind::TimedOut, Some(error)))
            }
            Err(TaskErrorKind::Cancelled | TaskErrorKind::Signaled { .. }) if is_late => {
                Err(self.error(TaskErrorKind::TimedOut, None))
            }
            Err(TaskErrorKind::Returned(error)) if says_cancelled(&error) => {
                Err(self.error(TaskErrorKind::Cancelled, None))
            }
            // Why it could not run, or what killed it, is worth more than that it is late as well.
            Err(kind) => Err(self.error(kind, None)),
        }
    }

    fn error(&mut self, kind: TaskErrorKind, afterwards: Option<BoxError>) -> TaskError {
        let facts = Facts {
            id: self.id,
            name: self.name.clone(),
            backend: self.ledger.backend(),
            pid: self.pid,
            site: self.site,
            elapsed: self.since.elapsed(),
            stderr_tail: self.stderr_tail.take(),
            was_started: self.was_started,
        };
        TaskError::new(facts, kind, afterwards)
    }

    /// Writes the failure down, takes the task off the books, then tells the handle: whoever sees the task gone sees the failure
    /// too.
    fn close(&mut self, failure: Option<TaskError>) {
        self.is_settled = true;
        if let Some(error) = &failure {
            self.ledger.record(error);
        }
        let handle = self.failure_to.take();
        let has_handle = handle.is_some();
        self.ledger.leave(self.seat, has_handle);
        if let (Some(handle), Some(error)) = (handle, &failure) {
            handle.fail(error);
        }
        discard(failure);
        if has_handle {
            self.ledger.published();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            let error = self.error(TaskErrorKind::Lost, None);
            self.close(Some(error));
        }
    }
}

/// Drops what belongs to the task's code, which may panic: such a panic has been printed, and is nobody else's.
fn discard<T>(theirs: T) {
    drop(panic::catch(|| drop(theirs)));
}

/// Whether a task returned because it was asked to stop: the error of its token, or of a group of its own that was cancelled.
fn says_cancelled(error: &BoxError) -> bool {
    let group = error.downcast_ref::<GroupError>();
    error.is::<Cancelled>() || group.is_some_and(GroupError::is_cancelled)
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
