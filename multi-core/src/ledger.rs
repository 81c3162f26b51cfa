//! The bookkeeping every backend shares: who runs, who waits for room, who failed.
//!
//! A backend's group holds a [`Ledger`]. Each `go` asks it to [`launch`](Ledger::launch) a task; the ledger decides whether the
//! task starts now, waits, is queued or is refused, and hands the backend a [`Ticket`] when it is to start. Whoever sees the
//! task end settles the ticket. Limits, deadlines, `fail_fast`, errors and their order, progress and waiting are done here,
//! once; what is left to a backend is to start a task and to say what waiting means ([`Event`]).
//!
//! ```
//! use multi_core::ledger::Ledger;
//! use multi_core::{CancelToken, GroupOptions, TaskOptions, ThreadEvent};
//! use std::sync::Arc;
//!
//! let ledger = Ledger::new("demo", GroupOptions::new(), Arc::new(ThreadEvent::new()), CancelToken::new)?;
//! ledger.launch(TaskOptions::new(), |ticket| {
//!     std::thread::spawn(|| ticket.run(|| Err("no luck".into())));
//! });
//! assert!(ledger.wait().unwrap_err().to_string().contains("no luck"));
//! # Ok::<(), multi_core::BuildError>(())
//! ```
//!
//! # Fork
//!
//! A ledger belongs to the process that made it. A forked child must not touch it: a lock of it may be held for ever there.

use crate::cancel::CancelToken;
use crate::clock::{self, Alarm};
use crate::error::{GroupError, StillRunning, TryGoReason, WaitTimeoutError};
use crate::event::Event;
use crate::group::Progress;
use crate::handle::{Handle, Promise, promise};
use crate::lock::lock;
use crate::options::{BuildError, GroupOptions, TaskOptions, check_name};
use crate::panic;
use crate::task::TaskId;
use std::fmt;
use std::io::{self, Write as _};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

mod books;
mod roster;
mod sites;
mod tally;
mod ticket;

pub use ticket::Ticket;

use books::{Closing, State, Verdict};
use tally::Tally;

/// Tasks that [`StillRunning`] names; beyond them it counts.
const NAMED_MAX: usize = 8;

/// A group's books. Clones are the same books.
#[derive(Clone)]
pub struct Ledger {
    open: Arc<Open>,
}

/// The books while somebody has them open.
struct Open {
    shared: Arc<Shared>,
}

struct Shared {
    backend: &'static str,
    /// Tells limited groups apart in a [`Lineage`](crate::Lineage); never used twice in a process.
    serial: u64,
    options: GroupOptions,
    event: Arc<dyn Event>,
    new_token: Box<dyn Fn() -> CancelToken + Send + Sync>,
    /// Rings at the deadline. Here so that it lives as long as the books.
    deadline_alarm: Mutex<Option<Alarm>>,
    /// What tickets know of this.
    tally: &'static Tally,
    state: Mutex<State>,
}

impl Ledger {
    /// Opens the books of a group.
    ///
    /// `backend` is the name in errors, `event` what `wait` and a `go` at the limit wait on, `new_token` makes a cancel token
    /// that this backend's tasks can wait on; it is called again for the first round after a cancelled one.
    ///
    /// # Errors
    ///
    /// [`BuildError`] where an option makes no sense, or the deadline's clock cannot be started.
    pub fn new(
        backend: &'static str,
        options: GroupOptions,
        event: Arc<dyn Event>,
        new_token: impl Fn() -> CancelToken + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);
        options.check()?;
        panic::install_hook();
        let shared = Arc::new(Shared {
            backend,
            // Relaxed: the number only has to be unique.
            serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
            event,
            deadline_alarm: Mutex::new(None),
            tally: Tally::take(),
            state: Mutex::new(State::new(new_token())),
            new_token: Box::new(new_token),
            options,
        });
        shared.tally.belongs_to(&shared);
        shared.watch(&shared.state().token);
        if let Some(deadline) = shared.options.deadline {
            let late = Arc::downgrade(&shared);
            let alarm = clock::at(deadline, move || {
                if let Some(shared) = late.upgrade() {
                    let token = shared.state().token.clone();
                    token.cancel();
                }
            });
            let alarm = alarm.map_err(|error| {
                BuildError::new(format!("no thread for the deadline's clock: {error}"))
            })?;
            *lock(&shared.deadline_alarm) = Some(alarm);
        }
        Ok(Self {
            open: Arc::new(Open { shared }),
        })
    }

    fn books(&self) -> &Shared {
        &self.open.shared
    }

    /// Starts a task, by calling `start` with its ticket: at once where there is room, when room has come where there is none
    /// (blocking the caller), later and from elsewhere where the caller is itself a task of this group ([`Lineage`](crate::Lineage)).
    /// A cancelled group drops `start` and settles the task as cancelled. Whichever happens, `start` is gone before the task is
    /// settled, so that a group that waits may lend its tasks what it owns.
    #[track_caller]
    pub fn launch(&self, options: TaskOptions, start: impl FnOnce(Ticket) + Send + 'static) {
        let (ticket, verdict) = self.books().admit(options.started_at(Location::caller()));
        match verdict {
            Verdict::Start => start(ticket.begin()),
            Verdict::Refuse => ticket.refuse(start),
            Verdict::Queue => self.books().queue(ticket, Box::new(start)),
        }
    }

    /// As [`launch`](Self::launch), calling `start` with `host`, the ticket and the task. Shares `host` only where the task has to wait:
    /// one that starts at once costs no count of references.
    #[track_caller]
    pub fn launch_on<H, F>(
        &self,
        options: TaskOptions,
        host: &Arc<H>,
        task: F,
        start: fn(&Arc<H>, Ticket, F),
    ) where
        H: Send + Sync + 'static,
        F: Send + 'static,
    {
        let (ticket, verdict) = self.books().admit(options.started_at(Location::caller()));
        match verdict {
            Verdict::Start => start(host, ticket.begin(), task),
            Verdict::Refuse => ticket.refuse(task),
            Verdict::Queue => {
                let host = Arc::clone(host);
                let start = move |ticket| start(&host, ticket, task);
                self.books().queue(ticket, Box::new(start));
            }
        }
    }

    /// As [`launch`](Self::launch), for a task whose value somebody may wait for, on `event`.
    #[track_caller]
    pub fn launch_with<T: Send + 'static>(
        &self,
        options: TaskOptions,
        event: Arc<dyn Event>,
        start: impl FnOnce(Ticket, Promise<T>) + Send + 'static,
    ) -> Handle<T> {
        let books = self.books();
        let (mut ticket, verdict) = books.admit(options.started_at(Location::caller()));
        let may_queue = books.options.limit.is_some();
        let (handle, promise, failure_to) =
            promise(ticket.id(), may_queue.then(|| self.clone()), event);
        ticket.tell(failure_to);
        let start = move |ticket| start(ticket, promise);
        match verdict {
            Verdict::Start => start(ticket.begin()),
            Verdict::Refuse => ticket.refuse(start),
            Verdict::Queue => books.queue(ticket, Box::new(start)),
        }
        handle
    }

    /// A ticket for a task that is to start now or not at all. Where the backend then cannot start it,
    /// [`Ticket::withdraw`] makes it as if this had not been called.
    ///
    /// # Errors
    ///
    /// [`TryGoReason::AtLimit`] or [`TryGoReason::Cancelled`].
    #[track_caller]
    pub fn try_admit(&self, options: TaskOptions) -> Result<Ticket, TryGoReason> {
        let options = options.started_at(Location::caller());
        if let Err(error) = check_name(options.name.as_deref()) {
            return Err(TryGoReason::Start(io::Error::new(
                io::ErrorKind::InvalidInput,
                error,
            )));
        }
        let books = self.books();
        let mut state = books.state();
        if books.is_over(&state) {
            return Err(TryGoReason::Cancelled);
        }
        if !books.has_room(&state) {
            return Err(TryGoReason::AtLimit);
        }
        let ticket = books.enter(&mut state, options);
        drop(state);
        Ok(ticket.begin())
    }

    /// After a [`wait`](Self::wait): makes the books as they were when they were opened, for the next user, and says whether it could. It
    /// does so where nothing of them is left anywhere: no clone of them or of their token, no task, no failure that was told, and no
    /// option that another group would not have.
    ///
    /// For backends whose groups are mostly short-lived: opening books takes seven allocations.
    ///
    /// ```
    /// use multi_core::ledger::Ledger;
    /// use multi_core::{CancelToken, GroupOptions, ThreadEvent};
    /// use std::sync::Arc;
    ///
    /// let event = Arc::new(ThreadEvent::new());
    /// let mut ledger = Ledger::new("demo", GroupOptions::new(), event, CancelToken::new)?;
    /// ledger.wait()?;
    /// assert!(ledger.renew());
    /// let token = ledger.cancel_token();
    /// assert!(!ledger.renew(), "somebody may cancel it later");
    /// # drop(token);
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    #[must_use = "books that are not renewed are still the old ones"]
    pub fn renew(&mut self) -> bool {
        // Others that have the books alone are tasks that have just told their end, and let go of them in a moment.
        match Arc::get_mut(&mut self.open) {
            Some(open) if Arc::strong_count(&open.shared) == 1 => open.shared.renew(),
            _ => false,
        }
    }

    /// Waits until every task has ended and returns their failures since the last wait. The books can then be used again.
    ///
    /// # Errors
    ///
    /// [`GroupError`] if any task failed.
    pub fn wait(&self) -> Result<(), GroupError> {
        match self.books().sleep_until_idle(None, Closing::Round) {
            Some(outcome) => outcome,
            None => unreachable!("a wait without a time limit ended early"),
        }
    }

    /// As [`wait`](Self::wait), but for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitTimeoutError::Failed`] if all ended and any failed, [`WaitTimeoutError::StillRunning`] if the time was up.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        let until = Instant::now().checked_add(timeout);
        if let Some(outcome) = self.books().sleep_until_idle(until, Closing::Round) {
            return outcome.map_err(WaitTimeoutError::Failed);
        }
        let books = self.books();
        let state = books.state();
        Err(WaitTimeoutError::StillRunning(StillRunning {
            tasks: state.describe_running(books, NAMED_MAX),
            count: state.unsettled(books).try_into().unwrap_or(usize::MAX),
            waited: timeout,
        }))
    }

    /// Cancels the group, waits, and reports on standard error what nobody asked for: what dropping a group does.
    pub fn abandon(&self) {
        self.cancel_token().cancel();
        if let Some(Err(error)) = self.books().sleep_until_idle(None, Closing::Group) {
            report(format_args!("a group was dropped without wait: {error}"));
        }
    }

    /// Lets go of the tasks: they run on, and each failure from now on is reported on standard error when it happens, as are
    /// those that nobody waited for.
    pub fn detach(&self) {
        let mut state = self.books().state();
        state.is_detached = true;
        let unseen = self.books().take_failures(&mut state);
        drop(state);
        if let Err(error) = unseen {
            report(format_args!("in a detached group: {error}"));
        }
    }

    /// The token of this round: cancelled by [`GroupOptions::fail_fast`], the deadline, or whoever holds it. After a `wait`
    /// that found it cancelled there is a new one.
    #[must_use]
    pub fn cancel_token(&self) -> CancelToken {
        self.books().state().token.clone()
    }

    /// How many tasks were started, run and have ended since the group was made.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let books = self.books();
        let state = books.state();
        let (finished, queued) = (state.count.ended(books.tally), state.queue.len() as u64);
        Progress {
            started: state.started,
            running: state.started - finished - queued,
            queued,
            finished,
            failed: state.failed,
        }
    }

    /// The name of the backend, as errors show it.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.books().backend
    }

    /// The name of the group.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.books().options.name.as_deref()
    }

    /// The options the books were opened with.
    #[must_use]
    pub fn options(&self) -> &GroupOptions {
        &self.books().options
    }

    /// What this group's tasks and their owner wait on.
    #[must_use]
    pub fn event(&self) -> Arc<dyn Event> {
        Arc::clone(&self.books().event)
    }

    /// Whether this round has been told to stop: cancelled, or past the deadline.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.books().is_over(&self.books().state())
    }

    pub(crate) fn lend_room(&self, id: TaskId) {
        self.books().lend_room(id);
    }
}

impl Shared {
    /// Has a `go` that waits for room hear of `token`, and `token` of the one that the group was built with.
    fn watch(&self, token: &CancelToken) {
        token.notify_on_cancel(&self.event);
        if let Some(outer) = &self.options.cancel_token {
            outer.adopt(token);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.put_away();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.tally.give_back(&mut state.count);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("backend", &self.books().backend)
            .field("name", &self.books().options.name)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

/// Tells standard error. Neither an error whose text panics nor a closed descriptor may take the caller along.
fn report(what: fmt::Arguments<'_>) {
    let text = panic::catch(|| what.to_string());
    let text = text.unwrap_or_else(|_| "a failure whose text cannot be had".to_owned());
    // There is nobody left to tell if this fails.
    let _untold = writeln!(io::stderr(), "multi: {text}");
}

#[cfg(test)]
mod tests;
