//! One task's entry in the books, from its start to its end.

use super::Shared;
use super::tally::Tally;
use crate::cancel::{CancelToken, Cancelled};
use crate::clock::{self, Alarm};
use crate::error::{Facts, GroupError, TaskError, TaskErrorKind};
use crate::handle::{Promise, TakesFailure};
use crate::options::check_name;
use crate::task::{Lineage, TaskId};
use crate::usage::Usage;
use crate::{BoxError, Result, panic};
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The right to run one task and the duty to say how it ended. Dropped unsettled, it reports the task as lost.
///
/// Small, since it is most of what a task costs before it runs: what few tasks have is behind one pointer.
#[must_use = "dropping a ticket reports its task as lost"]
pub struct Ticket {
    tally: &'static Tally,
    /// Its place among the running.
    pub(super) seat: u32,
    /// Its group has a deadline.
    has_deadline: bool,
    /// Its group has a limit: see [`Shared::leave`].
    is_limited: bool,
    is_settled: bool,
    extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Ticket>() == 24);

/// What only some tasks have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<Arc<str>>,
    /// When it started, and how long it may take.
    pub(super) timeout: Option<(Instant, Duration)>,
    pub(super) token: Option<CancelToken>,
    pub(super) lineage: Lineage,
    pub(super) site: Option<&'static Location<'static>>,
    pub(super) alarm: Option<Alarm>,
    /// The task's handle, which is to hear of a failure.
    pub(super) failure_to: Option<Arc<dyn TakesFailure>>,
    pub(super) pid: Option<u32>,
    pub(super) stderr_tail: Option<String>,
    pub(super) usage: Option<Usage>,
    /// When the backend began it, where that was later than its start.
    pub(super) began: Option<Instant>,
    /// How often it was tried, where more than once.
    pub(super) attempts: Option<u32>,
    /// The group refused the task: it was never started.
    pub(super) was_refused: bool,
    /// Its process ended before it came to the task.
    pub(super) ended_early: bool,
}

impl Ticket {
    pub(super) fn new(books: &Shared, seat: u32, extra: Option<Box<Extra>>) -> Self {
        Self {
            tally: books.tally,
            seat,
            has_deadline: books.options.deadline.is_some(),
            is_limited: books.options.limit.is_some(),
            is_settled: false,
            extra,
        }
    }

    /// The task's number in its group.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.tally.roster.look(self.seat).id
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.extra.as_ref()?.name.as_deref()
    }

    /// The name of its backend, as in errors.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.tally.owner().backend
    }

    /// The line that called `go`. Looked up under the books' lock: for reports.
    #[must_use]
    pub fn started_at(&self) -> &'static Location<'static> {
        let kept = self.extra.as_ref().and_then(|extra| extra.site);
        kept.or_else(|| {
            let index = self.tally.roster.look(self.seat).site;
            self.tally.owner().site(index)
        })
        .unwrap_or_else(|| unreachable!("a site is in the books, or with its task"))
    }

    /// When its time will be up, if it has a time limit: its own or, where that is sooner, its group's.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        let timeout = self.extra.as_ref().and_then(|extra| extra.timeout);
        let own = timeout.and_then(|(since, timeout)| since.checked_add(timeout));
        let group = match self.has_deadline {
            true => self.tally.owner().options.deadline,
            false => None,
        };
        match (own, group) {
            (Some(own), Some(group)) => Some(own.min(group)),
            (own, group) => own.or(group),
        }
    }

    /// The task's lineage: for the backend to [`enter`](Lineage::enter), or to answer with when asked.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        match &self.extra {
            Some(extra) => extra.lineage.clone(),
            None => Lineage::NONE,
        }
    }

    /// Adds the process the task runs in to what a failure will say.
    pub fn set_pid(&mut self, pid: u32) {
        self.extra().pid = Some(pid);
    }

    /// Adds the end of what the task wrote on its standard error to what a failure will say.
    pub fn set_stderr_tail(&mut self, tail: String) {
        self.extra().stderr_tail = Some(tail);
    }

    /// Adds what the task used to what a failure will say.
    pub fn set_usage(&mut self, usage: Usage) {
        self.extra().usage = Some(usage);
    }

    /// Adds that its process ended before it came to the task's closure to what a failure will say.
    pub fn set_ended_early(&mut self) {
        self.extra().ended_early = true;
    }

    /// How long the task may take, where that is limited.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let (_, timeout) = self.extra.as_ref()?.timeout?;
        Some(timeout)
    }

    /// For a backend with a queue of its own: the task has waited there until `at`. Its time limit and the time it took count from then.
    pub fn began_at(&mut self, at: Instant) {
        let extra = self.extra();
        extra.began = Some(at);
        if let Some((since, _)) = &mut extra.timeout {
            *since = at;
        }
    }

    /// Adds how often the task was tried to what a failure will say: for a backend that gives the tasks of a dead process to another.
    pub fn set_attempts(&mut self, attempts: u32) {
        self.extra().attempts = Some(attempts);
    }

    /// Has the task's handle told of a failure.
    pub(super) fn tell(&mut self, handle: Arc<dyn TakesFailure>) {
        self.extra().failure_to = Some(handle);
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
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
    #[inline]
    pub fn settle(mut self, outcome: Result<(), TaskErrorKind>) {
        if outcome.is_ok() && !self.has_deadline && self.extra.is_none() {
            self.leave(false);
        } else {
            self.settle_with_care(outcome);
        }
    }

    /// Not part of `settle`, so that its large frame is not part of every task's.
    #[inline(never)]
    fn settle_with_care(mut self, outcome: Result<(), TaskErrorKind>) {
        let failure = self.judge(outcome).err();
        self.close(failure);
    }

    /// As [`settle`](Self::settle), and hands the outcome, as it was judged, to the caller.
    ///
    /// # Errors
    ///
    /// The failure that the group's `wait` reports, too.
    pub fn settle_here<T>(mut self, outcome: Result<T, TaskErrorKind>) -> Result<T, TaskError> {
        if outcome.is_ok() && !self.has_deadline && self.extra.is_none() {
            self.leave(false);
            return outcome.map_err(|_kind| unreachable!("it is a value"));
        }
        let judged = self.judge(outcome);
        self.close(judged.as_ref().err().cloned());
        judged
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
                self.extra().failure_to = None;
                if self.is_limited {
                    self.hand_over(promise, value);
                } else {
                    let kept = panic::catch(|| promise.keep(value));
                    let failure = kept.err().map(|kind| self.error(kind, None));
                    self.close(failure);
                }
            }
        }
    }

    /// In a group with a limit: leaves its room, and then hands the value over, so that there is room when a join returns.
    fn hand_over<T>(&mut self, promise: Promise<T>, value: T) {
        let books = self.tally.owner();
        let facts = self.facts();
        if facts.name.is_some() {
            books.forget_name(facts.id);
        }
        self.leave(true);
        if let Err(kind) = panic::catch(|| promise.keep(value)) {
            let error = TaskError::new(facts, kind, None);
            books.record(&error);
            discard(error);
        }
        books.published();
    }

    /// Gives the ticket back: the task was not started and counts for nothing.
    pub fn withdraw(mut self) {
        let books = self.tally.owner();
        if self.name().is_some() {
            books.forget_name(self.id());
        }
        self.is_settled = true;
        self.tally.roster.get_up(self.seat);
        books.forget();
    }

    /// Starts the clock of the task's own time limit.
    pub(super) fn begin(mut self) -> Self {
        let token = self.extra.as_ref().and_then(|extra| extra.token.clone());
        if let Some(token) = token
            && let Some(at) = self.expires_at()
        {
            // Without a clock thread the task is still judged at its end; it only is not told in time.
            self.extra().alarm = clock::at(at, move || token.cancel()).ok();
        }
        self
    }

    /// The task has waited in a queue until now.
    pub(super) fn restart_clock(&mut self) {
        if let Some(extra) = &mut self.extra
            && let Some((since, _)) = &mut extra.timeout
        {
            *since = Instant::now();
        }
    }

    /// Settles a task that is not to start, `start` being what would have started it: dropped first, since what a scoped task
    /// borrows may be gone once the task is settled.
    pub(super) fn refuse<S>(mut self, start: S) {
        self.extra().was_refused = true;
        let kind = match (panic::catch(|| drop(start)), check_name(self.name())) {
            (Err(panicked), _) => panicked,
            (Ok(()), Err(error)) => {
                TaskErrorKind::Start(io::Error::new(io::ErrorKind::InvalidInput, error))
            }
            (Ok(()), Ok(())) => TaskErrorKind::Cancelled,
        };
        self.settle(Err(kind));
    }

    fn judge<T>(&mut self, outcome: Result<T, TaskErrorKind>) -> Result<T, TaskError> {
        if let Some(extra) = &mut self.extra {
            extra.alarm = None;
        }
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
        TaskError::new(self.facts(), kind, afterwards)
    }

    fn facts(&mut self) -> Facts {
        let seated = self.tally.roster.look(self.seat);
        let site = self.started_at();
        let now = clock::ticks(Instant::now());
        let extra = self.extra();
        let (name, pid) = (extra.name.clone(), extra.pid);
        let (stderr_tail, was_started) = (extra.stderr_tail.take(), !extra.was_refused);
        let (usage, ended_early) = (extra.usage, extra.ended_early);
        let attempts = extra.attempts.unwrap_or(1);
        let since = extra.began.map_or(seated.ticks, clock::ticks);
        Facts {
            id: seated.id,
            name,
            backend: self.tally.owner().backend,
            pid,
            site,
            elapsed: Duration::from_nanos(now.saturating_sub(since)),
            stderr_tail,
            usage,
            was_started,
            ended_early,
            attempts,
        }
    }

    /// Writes the failure down, takes the task off the books, then tells the handle: whoever sees the task gone sees the failure
    /// too. In a group without a limit the handle comes first, since after it there is nothing to wait for.
    fn close(&mut self, failure: Option<TaskError>) {
        let handle = self
            .extra
            .as_mut()
            .and_then(|extra| extra.failure_to.take());
        if self.name().is_some() {
            self.tally.owner().forget_name(self.id());
        }
        if let Some(error) = &failure {
            self.tally.owner().record(error);
        }
        if !self.is_limited {
            tell(handle, failure);
            self.leave(false);
        } else if handle.is_some() {
            let books = self.tally.owner();
            self.leave(true);
            tell(handle, failure);
            books.published();
        } else {
            discard(failure);
            self.leave(false);
        }
    }

    /// Gives up the seat and counts the end.
    #[inline]
    fn leave(&mut self, has_handle: bool) {
        self.is_settled = true;
        self.tally.roster.get_up(self.seat);
        if !self.tally.count_end() {
            self.tally.owner().leave(has_handle);
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

/// Tells the handle, if there is one and anything to tell.
fn tell(handle: Option<Arc<dyn TakesFailure>>, failure: Option<TaskError>) {
    if let (Some(handle), Some(error)) = (handle, &failure) {
        handle.fail(error);
    }
    discard(failure);
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
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// What `task` returned, or how it failed.
fn outcome_of<T>(task: impl FnOnce() -> Result<T>) -> Result<T, TaskErrorKind> {
    panic::catch(task)?.map_err(TaskErrorKind::Returned)
}
