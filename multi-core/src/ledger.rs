//! The bookkeeping every backend shares: who runs, who waits for room, who failed.
//!
//! A backend's group holds a [`Ledger`]. Each `go` asks it to [`launch`](Ledger::launch) a task; the ledger decides whether the
//! task starts now, waits, is queued or is refused, and hands the backend a [`Ticket`] when it is to start. Whoever sees the
//! task end settles the ticket. Limits, deadlines, `fail_fast`, errors and their order, progress and waiting are done here,
//! once; what is left to a backend is to start a task and to say what waiting means ([`Event`]).
//!
//! ```
//! use multi_core::ledger::Ledger;
//! use multi_core::{CancelToken, GroupOptions, Lineage, TaskOptions, ThreadEvent};
//! use std::sync::Arc;
//!
//! let ledger = Ledger::new("demo", GroupOptions::new(), Arc::new(ThreadEvent::new()), CancelToken::new)?;
//! ledger.launch(TaskOptions::new(), &Lineage::NONE, |ticket| {
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
use crate::error::{Counts, GroupError, StillRunning, TaskError, TryGoReason, WaitTimeoutError};
use crate::event::Event;
use crate::group::Progress;
use crate::handle::{Handle, Promise, promise};
use crate::lock::lock;
use crate::options::{BuildError, GroupOptions, TaskOptions, check_name};
use crate::panic;
use crate::task::{Lineage, TaskId};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

mod ticket;

pub use ticket::Ticket;

/// Tasks that [`StillRunning`] names; beyond them it counts.
const NAMED_MAX: usize = 8;

/// A group's books. Clones are the same books.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    backend: &'static str,
    /// Tells limited groups apart in a [`Lineage`]; never used twice in a process.
    serial: u64,
    options: GroupOptions,
    event: Arc<dyn Event>,
    new_token: Box<dyn Fn() -> CancelToken + Send + Sync>,
    /// Rings at the deadline. Here so that it lives as long as the books.
    deadline_alarm: Mutex<Option<Alarm>>,
    state: Mutex<State>,
}

struct State {
    token: CancelToken,
    next_id: u64,
    /// Tasks that have a ticket and have not been settled. `running.len() + queue.len()` is what `wait` waits for.
    running: BTreeMap<TaskId, Running>,
    queue: VecDeque<Queued>,
    /// Callers of `go` that sleep until there is room.
    room_waiters: usize,
    progress: Totals,
    /// Since the last `wait`.
    round: Counts,
    /// Since the last `wait`, in the order in which they happened, at most [`GroupError::WHOLE_MAX`].
    failures: Vec<TaskError>,
    is_detached: bool,
}

#[derive(Default)]
struct Totals {
    started: u64,
    finished: u64,
    failed: u64,
}

struct Running {
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    since: Instant,
}

/// A task that a task of its own group started when there was no room.
struct Queued {
    ticket: Ticket,
    start: Box<dyn FnOnce(Ticket) + Send>,
}

/// What is to be done with a task that just came.
enum Verdict {
    Start,
    Queue,
    Refuse,
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
            state: Mutex::new(State::new(new_token())),
            new_token: Box::new(new_token),
            options,
        });
        shared.watch(&lock(&shared.state).token);
        if let Some(deadline) = shared.options.deadline {
            let late = Arc::downgrade(&shared);
            let alarm = clock::at(deadline, move || {
                if let Some(shared) = late.upgrade() {
                    Self { shared }.cancel_token().cancel();
                }
            });
            let alarm = alarm.map_err(|error| {
                BuildError::new(format!("no thread for the deadline's clock: {error}"))
            })?;
            *lock(&shared.deadline_alarm) = Some(alarm);
        }
        Ok(Self { shared })
    }

    /// Starts a task, by calling `start` with its ticket: at once where there is room, when room has come where there is none
    /// (blocking the caller), later and from elsewhere where `lineage` shows that the caller is itself a task of this group.
    /// A cancelled group drops `start` and settles the task as cancelled. Whichever happens, `start` is gone before the task is
    /// settled, so that a group that waits may lend its tasks what it owns.
    #[track_caller]
    pub fn launch(
        &self,
        options: TaskOptions,
        lineage: &Lineage,
        start: impl FnOnce(Ticket) + Send + 'static,
    ) {
        let (ticket, verdict) = self.admit(options.started_at(Location::caller()), lineage);
        self.dispatch(ticket, verdict, start);
    }

    /// As [`launch`](Self::launch), for a task whose value somebody may wait for, on `event`.
    #[track_caller]
    pub fn launch_with<T: Send + 'static>(
        &self,
        options: TaskOptions,
        lineage: &Lineage,
        event: Arc<dyn Event>,
        start: impl FnOnce(Ticket, Promise<T>) + Send + 'static,
    ) -> Handle<T> {
        let (mut ticket, verdict) = self.admit(options.started_at(Location::caller()), lineage);
        let (handle, promise, failure_to) = promise(ticket.id(), self.clone(), event);
        ticket.failure_to = Some(failure_to);
        self.dispatch(ticket, verdict, |ticket| start(ticket, promise));
        handle
    }

    /// A ticket for a task that is to start now or not at all. Where the backend then cannot start it,
    /// [`Ticket::withdraw`] makes it as if this had not been called.
    ///
    /// # Errors
    ///
    /// [`TryGoReason::AtLimit`] or [`TryGoReason::Cancelled`].
    #[track_caller]
    pub fn try_admit(
        &self,
        options: TaskOptions,
        lineage: &Lineage,
    ) -> Result<Ticket, TryGoReason> {
        let options = options.started_at(Location::caller());
        if let Err(error) = check_name(options.name.as_deref()) {
            return Err(TryGoReason::Start(io::Error::new(
                io::ErrorKind::InvalidInput,
                error,
            )));
        }
        let mut state = self.state();
        if self.is_over(&state) {
            return Err(TryGoReason::Cancelled);
        }
        if !self.has_room(&state) {
            return Err(TryGoReason::AtLimit);
        }
        let ticket = self.enter(&mut state, options, lineage);
        drop(state);
        Ok(ticket.begin())
    }

    /// Waits until every task has ended and returns their failures since the last wait. The books can then be used again.
    ///
    /// # Errors
    ///
    /// [`GroupError`] if any task failed.
    pub fn wait(&self) -> Result<(), GroupError> {
        self.sleep_until_idle(None);
        self.close_round()
    }

    /// As [`wait`](Self::wait), but for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitTimeoutError::Failed`] if all ended and any failed, [`WaitTimeoutError::StillRunning`] if the time was up.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        if self.sleep_until_idle(Instant::now().checked_add(timeout)) {
            return self.close_round().map_err(WaitTimeoutError::Failed);
        }
        let state = self.state();
        let tasks = state
            .running
            .iter()
            .take(NAMED_MAX)
            .map(|(id, task)| task.describe(*id))
            .collect();
        let count = state.unsettled();
        Err(WaitTimeoutError::StillRunning(StillRunning {
            tasks,
            count,
            waited: timeout,
        }))
    }

    /// Cancels the group, waits, and reports on standard error what nobody asked for: what dropping a group does.
    pub fn abandon(&self) {
        self.cancel_token().cancel();
        self.sleep_until_idle(None);
        if let Err(error) = self.take_failures() {
            report(format_args!("a group was dropped without wait: {error}"));
        }
    }

    /// Lets go of the tasks: they run on, and each failure from now on is reported on standard error when it happens, as are
    /// those that nobody waited for.
    pub fn detach(&self) {
        self.state().is_detached = true;
        if let Err(error) = self.take_failures() {
            report(format_args!("in a detached group: {error}"));
        }
    }

    /// The token of this round: cancelled by [`GroupOptions::fail_fast`], the deadline, or whoever holds it. After a `wait`
    /// that found it cancelled there is a new one.
    #[must_use]
    pub fn cancel_token(&self) -> CancelToken {
        self.state().token.clone()
    }

    /// How many tasks were started, run and have ended since the group was made.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.state();
        Progress {
            started: state.progress.started,
            running: state.running.len() as u64,
            queued: state.queue.len() as u64,
            finished: state.progress.finished,
            failed: state.progress.failed,
        }
    }

    /// The name of the backend, as errors show it.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.shared.backend
    }

    /// The name of the group.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.options.name.as_deref()
    }

    /// The options the books were opened with.
    #[must_use]
    pub fn options(&self) -> &GroupOptions {
        &self.shared.options
    }

    /// What this group's tasks and their owner wait on.
    #[must_use]
    pub fn event(&self) -> Arc<dyn Event> {
        Arc::clone(&self.shared.event)
    }

    /// Whether this round has been told to stop: cancelled, or past the deadline.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_over(&self.state())
    }

    /// Starts the queued task `id` although there is no room: the caller is about to wait for it and uses no room meanwhile.
    pub(crate) fn lend_room(&self, id: TaskId) {
        let mut state = self.state();
        let at = state
            .queue
            .iter()
            .position(|queued| queued.ticket.id() == id);
        let Some(queued) = at.and_then(|at| state.queue.remove(at)) else {
            return;
        };
        let go = self.release(&mut state, queued);
        drop(state);
        go();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Registers a task and says what to do with it, waiting for room first where that is allowed.
    fn admit(&self, options: TaskOptions, lineage: &Lineage) -> (Ticket, Verdict) {
        let is_inside = self.shared.options.limit.is_some() && lineage.contains(self.shared.serial);
        loop {
            let key = self.shared.event.key();
            let mut state = self.state();
            let verdict = if self.is_over(&state) || check_name(options.name.as_deref()).is_err() {
                Verdict::Refuse
            } else if self.has_room(&state) {
                Verdict::Start
            } else if is_inside {
                Verdict::Queue
            } else {
                state.room_waiters += 1;
                drop(state);
                self.shared.event.wait(key, self.shared.options.deadline);
                self.state().room_waiters -= 1;
                continue;
            };
            return (self.enter(&mut state, options, lineage), verdict);
        }
    }

    fn dispatch(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        start: impl FnOnce(Ticket) + Send + 'static,
    ) {
        match verdict {
            Verdict::Start => start(ticket.begin()),
            Verdict::Refuse => {
                drop(start);
                ticket.refuse();
            }
            Verdict::Queue => {
                let mut state = self.state();
                state.running.remove(&ticket.id());
                let queued = Queued {
                    ticket,
                    start: Box::new(start),
                };
                // Room may have come since `admit` looked.
                if self.has_room(&state) {
                    let go = self.release(&mut state, queued);
                    drop(state);
                    go();
                } else {
                    state.queue.push_back(queued);
                }
            }
        }
    }

    fn enter(&self, state: &mut State, options: TaskOptions, lineage: &Lineage) -> Ticket {
        let id = TaskId(state.next_id);
        state.next_id += 1;
        state.progress.started += 1;
        let site = options.site.unwrap_or_else(|| Location::caller());
        let since = Instant::now();
        state.running.insert(
            id,
            Running {
                name: options.name.clone(),
                site,
                since,
            },
        );
        let lineage = match self.shared.options.limit {
            Some(_) => lineage.with(self.shared.serial),
            None => lineage.clone(),
        };
        let timeout = options.timeout.or(self.shared.options.task_timeout);
        Ticket::new(self.clone(), id, options, site, since, timeout, lineage)
    }

    /// Moves a task out of the queue; call the result once the lock is free.
    fn release(&self, state: &mut State, queued: Queued) -> impl FnOnce() + use<> {
        let Queued { mut ticket, start } = queued;
        ticket.since = Instant::now();
        let entry = Running {
            name: ticket.name.clone(),
            site: ticket.site,
            since: ticket.since,
        };
        state.running.insert(ticket.id(), entry);
        let is_over = self.is_over(state);
        move || {
            if is_over {
                // Before the ticket is settled: what a scoped task borrows may be gone afterwards.
                drop(start);
                ticket.refuse();
            } else {
                start(ticket.begin());
            }
        }
    }

    fn has_room(&self, state: &State) -> bool {
        self.shared
            .options
            .limit
            .is_none_or(|limit| state.running.len() < limit)
    }

    fn is_over(&self, state: &State) -> bool {
        state.token.is_cancelled() || self.is_late()
    }

    /// Whether the group's deadline has passed.
    fn is_late(&self) -> bool {
        self.shared
            .options
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Writes a failure down, before its task stops counting as running: whoever sees the group idle sees the failure.
    fn record(&self, error: &TaskError) {
        let mut state = self.state();
        state.progress.failed += 1;
        state.round.failed += 1;
        state.round.cancelled += u64::from(error.is_cancelled());
        let is_detached = state.is_detached;
        if !is_detached && state.failures.len() < GroupError::WHOLE_MAX {
            state.failures.push(error.clone());
        }
        let token = (self.shared.options.fail_fast && !state.token.is_cancelled())
            .then(|| state.token.clone());
        drop(state);
        if is_detached {
            report(format_args!("in a detached group: {error}"));
        }
        if let Some(token) = token {
            token.cancel();
        }
    }

    /// Takes a task off the books and starts the one that waited longest for its room.
    fn leave(&self, id: TaskId) {
        let mut state = self.state();
        state.running.remove(&id);
        state.progress.finished += 1;
        state.round.tasks += 1;
        let next = if self.has_room(&state) {
            state.queue.pop_front()
        } else {
            None
        };
        let next = next.map(|queued| self.release(&mut state, queued));
        let somebody_waits = state.unsettled() == 0 || state.room_waiters > 0;
        drop(state);
        if let Some(go) = next {
            go();
        }
        if somebody_waits {
            self.shared.event.notify();
        }
    }

    /// Takes a task off the books as if it had never come.
    fn forget(&self, id: TaskId) {
        let mut state = self.state();
        state.running.remove(&id);
        state.progress.started -= 1;
        drop(state);
        self.shared.event.notify();
    }

    /// Waits until no task is left; returns whether that is so.
    fn sleep_until_idle(&self, until: Option<Instant>) -> bool {
        loop {
            let key = self.shared.event.key();
            if self.state().unsettled() == 0 {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
            self.shared.event.wait(key, until);
        }
    }

    fn close_round(&self) -> Result<(), GroupError> {
        let outcome = self.take_failures();
        let mut state = self.state();
        if state.token.is_cancelled() {
            state.token = (self.shared.new_token)();
            let token = state.token.clone();
            drop(state);
            self.shared.watch(&token);
        }
        outcome
    }

    fn take_failures(&self) -> Result<(), GroupError> {
        let mut state = self.state();
        let failures = std::mem::take(&mut state.failures);
        let counts = std::mem::take(&mut state.round);
        drop(state);
        GroupError::new(self.shared.options.name.clone(), failures, counts).map_or(Ok(()), Err)
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

impl State {
    fn new(token: CancelToken) -> Self {
        Self {
            token,
            next_id: 0,
            running: BTreeMap::new(),
            queue: VecDeque::new(),
            room_waiters: 0,
            progress: Totals::default(),
            round: Counts::default(),
            failures: Vec::new(),
            is_detached: false,
        }
    }

    fn unsettled(&self) -> usize {
        self.running.len() + self.queue.len()
    }
}

impl Running {
    fn describe(&self, id: TaskId) -> String {
        let name = self
            .name
            .as_ref()
            .map(|name| format!(" {name:?}"))
            .unwrap_or_default();
        format!(
            "task {id}{name} (started at {}, {:.3?} ago)",
            self.site,
            self.since.elapsed()
        )
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("backend", &self.shared.backend)
            .field("name", &self.shared.options.name)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a failure nobody waits for has nowhere else to go"
)]
fn report(what: fmt::Arguments<'_>) {
    eprintln!("multi: {what}");
}

#[cfg(test)]
mod tests;
