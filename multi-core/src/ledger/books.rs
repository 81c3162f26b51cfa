//! The books themselves: every change of a group's state, each under the lock for a moment and calling nobody from there.

use super::roster::{Roster, Seated, Usher};
use super::sites::Sites;
use super::tally::Count;
use super::ticket::Extra;
use super::{Shared, Ticket, report};
use crate::cancel::CancelToken;
use crate::clock;
use crate::error::{Counts, GroupError, TaskError};
use crate::lock::lock;
use crate::options::{TaskOptions, check_name};
use crate::task::{Lineage, TaskId};
use std::collections::{HashMap, VecDeque};
use std::panic::Location;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

pub(super) struct State {
    pub(super) token: CancelToken,
    next_id: u64,
    /// Tasks that have a ticket, or had one; those given back do not count.
    pub(super) started: u64,
    pub(super) failed: u64,
    pub(super) count: Count,
    pub(super) usher: Usher,
    sites: Sites,
    names: HashMap<TaskId, Arc<str>>,
    pub(super) queue: VecDeque<Queued>,
    /// Tasks that have left and whose handle has not been told yet. In a group with a limit only: see [`Shared::leave`].
    unpublished: u64,
    /// Somebody is in [`Shared::advance`].
    is_advancing: bool,
    /// Callers of `go` that sleep until there is room.
    room_waiters: usize,
    /// Ends at the last `wait`.
    round_from: u64,
    /// Failures since the last `wait`.
    round: Counts,
    /// Since the last `wait`, in the order in which they happened, at most [`GroupError::WHOLE_MAX`].
    failures: Vec<TaskError>,
    pub(super) is_detached: bool,
    /// The books themselves, while nobody has them open and tasks are left.
    kept: Option<Arc<Shared>>,
}

/// A task that a task of its own group started when there was no room.
pub(super) struct Queued {
    ticket: Ticket,
    start: Box<dyn FnOnce(Ticket) + Send>,
}

/// A task that has left the queue.
struct Released {
    ticket: Ticket,
    start: Box<dyn FnOnce(Ticket) + Send>,
    is_refused: bool,
}

/// What is to be done with a task that just came.
pub(super) enum Verdict {
    Start,
    Queue,
    Refuse,
}

/// What ends when a group is idle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// The round: a cancelled one is followed by one that is not.
    Round,
    /// The group: it stays cancelled.
    Group,
}

/// Somebody who is counted as waiting for room. Backends may let a wait panic.
struct RoomWaiter<'a>(&'a Shared);

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        self.0.state().room_waiters -= 1;
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Registers a task and says what to do with it, waiting for room first where that is allowed.
    pub(super) fn admit(&self, options: TaskOptions) -> (Ticket, Verdict) {
        let is_inside = self.is_limited() && self.is_caller_inside();
        loop {
            // Needed to wait for room only.
            let key = if self.is_limited() {
                self.event.key()
            } else {
                0
            };
            let mut state = self.state();
            let is_refused = self.is_over(&state) || check_name(options.name.as_deref()).is_err();
            let verdict = if is_refused {
                Verdict::Refuse
            } else if self.has_room(&state) {
                Verdict::Start
            } else if is_inside {
                Verdict::Queue
            } else {
                state.room_waiters += 1;
                drop(state);
                let _counted = RoomWaiter(self);
                self.event.wait(key, self.options.deadline);
                continue;
            };
            return (self.enter(&mut state, options), verdict);
        }
    }

    /// Puts a task into the queue that [`admit`](Self::admit) found no room for.
    pub(super) fn queue(&self, ticket: Ticket, start: Box<dyn FnOnce(Ticket) + Send>) {
        let mut state = self.state();
        self.tally.roster.set_queued(ticket.seat, None);
        state.queue.push_back(Queued { ticket, start });
        drop(state);
        // Room may have come since `admit` looked.
        self.advance();
    }

    pub(super) fn enter(&self, state: &mut State, options: TaskOptions) -> Ticket {
        let id = TaskId(state.next_id);
        state.next_id += 1;
        let site = options.site.unwrap_or_else(|| Location::caller());
        let index = state.sites.index(site);
        let task = Seated {
            id,
            site: index,
            ticks: self.event.ticks(),
        };
        let seats_taken = usize::try_from(state.unsettled(self)).unwrap_or(usize::MAX);
        let seat = self.tally.roster.sit(&mut state.usher, seats_taken, task);
        state.started += 1;
        let lineage = match self.options.limit {
            Some(_) => Lineage::current().with(self.serial),
            None => Lineage::current(),
        };
        if let Some(token) = &options.cancel_token {
            state.token.adopt(token);
        }
        if let Some(name) = &options.name {
            state.names.insert(id, Arc::clone(name));
        }
        let timeout = options.timeout.or(self.options.task_timeout);
        let is_plain = options.name.is_none()
            && timeout.is_none()
            && options.cancel_token.is_none()
            && lineage.is_none()
            && index != Sites::UNTOLD;
        let extra = (!is_plain).then(|| {
            Box::new(Extra {
                timeout: timeout.map(|timeout| (Instant::now(), timeout)),
                name: options.name,
                token: options.cancel_token,
                lineage,
                site: Some(site),
                ..Extra::default()
            })
        });
        Ticket::new(self, seat, extra)
    }

    fn is_limited(&self) -> bool {
        self.options.limit.is_some()
    }

    /// Whether the caller is, or runs for, a task of this group. Only a limited group knows.
    fn is_caller_inside(&self) -> bool {
        Lineage::current().contains(self.serial)
    }

    /// Starts the queued task `id` although there is no room, if the caller, who is about to wait for it, takes up room of this
    /// group that it does not need meanwhile.
    pub(super) fn lend_room(&self, id: TaskId) {
        if !self.is_limited() || !self.is_caller_inside() {
            return;
        }
        let mut state = self.state();
        let at = state
            .queue
            .iter()
            .position(|queued| queued.ticket.id() == id);
        let Some(queued) = at.and_then(|at| state.queue.remove(at)) else {
            return;
        };
        let next = self.release(&state, queued);
        drop(state);
        next.run();
    }

    /// Takes a task that was in the queue for one that runs; run the result once the lock is free.
    fn release(&self, state: &State, queued: Queued) -> Released {
        let Queued { mut ticket, start } = queued;
        self.tally
            .roster
            .set_queued(ticket.seat, Some(self.event.ticks()));
        ticket.restart_clock();
        let is_refused = self.is_over(state);
        Released {
            ticket,
            start,
            is_refused,
        }
    }

    /// Starts queued tasks while there is room, and refuses them all once the round is over.
    ///
    /// One thread at a time: a task that ends on its way through here (refused, or impossible to start) leaves the rest to the
    /// loop that is running already, so that a long queue takes no deep stack.
    fn advance(&self) {
        let mut state = self.state();
        if state.is_advancing {
            return;
        }
        state.is_advancing = true;
        loop {
            let is_due = self.has_room(&state) || self.is_over(&state);
            let next = if is_due {
                state.queue.pop_front()
            } else {
                None
            };
            let Some(queued) = next else { break };
            let next = self.release(&state, queued);
            drop(state);
            next.run();
            state = self.state();
        }
        state.is_advancing = false;
    }

    pub(super) fn has_room(&self, state: &State) -> bool {
        self.options
            .limit
            .is_none_or(|limit| state.running(self) < limit as u64)
    }

    pub(super) fn is_over(&self, state: &State) -> bool {
        state.token.is_cancelled() || self.is_late()
    }

    /// Whether the group's deadline has passed.
    fn is_late(&self) -> bool {
        self.options
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Writes a failure down, before its task leaves: whoever sees the group idle sees the failure.
    pub(super) fn record(&self, error: &TaskError) {
        let mut state = self.state();
        state.failed += 1;
        state.round.failed += 1;
        state.round.cancelled += u64::from(error.is_cancelled());
        let is_detached = state.is_detached;
        if !is_detached && state.failures.len() < GroupError::WHOLE_MAX {
            state.failures.push(error.clone());
        }
        let fails_fast = self.options.fail_fast && !state.token.is_cancelled();
        let token = fails_fast.then(|| state.token.clone());
        drop(state);
        if is_detached {
            report(format_args!("in a detached group: {error}"));
        }
        if let Some(token) = token {
            token.cancel();
        }
    }

    /// The start site of that number.
    pub(super) fn site(&self, index: u16) -> Option<&'static Location<'static>> {
        self.state().sites.get(index)
    }

    /// Forgets the name of a task that is about to leave.
    pub(super) fn forget_name(&self, id: TaskId) {
        self.state().names.remove(&id);
    }

    /// Takes a task off the books that could not be counted by [`Tally::count_end`].
    ///
    /// In a group with a limit, one with a handle is waited for until [`published`](Self::published) is called: it takes up no room any
    /// more, but its value is not where its handle looks yet. In others it leaves after its value.
    pub(super) fn leave(&self, has_handle: bool) {
        let mut state = self.state();
        if self.is_limited() {
            state.count.end_exactly();
            state.unpublished += u64::from(has_handle);
            self.after_leaving(state);
        } else {
            let started = state.started;
            let is_last = state.count.end_here(self.tally, started);
            if is_last {
                self.tell_idle(state);
            }
        }
    }

    /// The handle of a task that left has what it waits for.
    pub(super) fn published(&self) {
        let mut state = self.state();
        state.unpublished -= 1;
        self.after_leaving(state);
    }

    /// Takes a task off the books as if it had never come.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.started -= 1;
        let started = state.started;
        if state.count.withdrew(self.tally, started) {
            self.tell_idle(state);
        } else {
            self.after_leaving(state);
        }
    }

    /// Passes on the room that came, and wakes who waits for it or for the last task.
    fn after_leaving(&self, state: MutexGuard<'_, State>) {
        if !self.is_limited() {
            return;
        }
        let has_queue = !state.queue.is_empty();
        let somebody_waits = state.room_waiters > 0;
        if state.unsettled(self) == 0 {
            self.tell_idle(state);
            return;
        }
        drop(state);
        if has_queue {
            self.advance();
        }
        if somebody_waits {
            self.event.notify();
        }
    }

    /// Tells whoever waits that no task is left.
    fn tell_idle(&self, mut state: MutexGuard<'_, State>) {
        // The caller has them open too: they are closed after it.
        let _closed_later = state.kept.take();
        drop(state);
        self.event.notify();
    }

    /// Nobody has the books open any more. They stay for the tasks that are left.
    pub(super) fn put_away(self: &Arc<Self>) {
        let mut state = self.state();
        let started = state.started;
        let is_busy = if self.is_limited() {
            state.unsettled(self) > 0
        } else {
            state.count.expect_last(self.tally, started)
        };
        if is_busy {
            state.kept = Some(Arc::clone(self));
        }
    }

    /// Waits until no task is left, and closes the round in the same moment, so that a failure is told with the round whose token
    /// it cancelled or with the next one. None where the time was up first.
    pub(super) fn sleep_until_idle(
        &self,
        until: Option<Instant>,
        closing: Closing,
    ) -> Option<Result<(), GroupError>> {
        // Made outside the lock: a backend may map memory for it, and fail.
        let mut fresh = None;
        loop {
            let key = self.event.key();
            let mut state = self.state();
            let started = state.started;
            let is_busy = if self.is_limited() {
                state.unsettled(self) > 0
            } else {
                state.count.expect_last(self.tally, started)
            };
            if !is_busy {
                if closing == Closing::Group || !state.token.is_cancelled() {
                    return Some(self.take_failures(&mut state));
                }
                let Some(token) = fresh.take() else {
                    drop(state);
                    fresh = Some((self.new_token)());
                    continue;
                };
                let used_up = std::mem::replace(&mut state.token, CancelToken::clone(&token));
                let outcome = self.take_failures(&mut state);
                drop(state);
                drop(used_up);
                self.watch(&token);
                return Some(outcome);
            }
            drop(state);
            if until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            self.event.wait(key, until);
        }
    }

    /// See [`Ledger::renew`](super::Ledger::renew).
    pub(super) fn renew(&self) -> bool {
        let mut state = self.state();
        let is_plain = self.options.is_plain();
        let is_idle = state.unsettled(self) == 0 && state.queue.is_empty();
        let is_told = state.failed == 0 && !state.is_detached && state.names.is_empty();
        let renews = is_plain && is_idle && is_told && state.token.is_unused();
        if renews {
            state.count.start_over(self.tally);
            Roster::rewind(&mut state.usher);
            (state.next_id, state.started, state.round_from) = (0, 0, 0);
        }
        renews
    }

    pub(super) fn take_failures(&self, state: &mut State) -> Result<(), GroupError> {
        let ended = state.count.ended(self.tally);
        if ended == state.started {
            Roster::rewind(&mut state.usher);
        }
        let tasks = ended - std::mem::replace(&mut state.round_from, ended);
        if state.round.failed == 0 {
            return Ok(());
        }
        let failures = std::mem::take(&mut state.failures);
        let counts = Counts {
            tasks,
            ..std::mem::take(&mut state.round)
        };
        let name = self.options.name.clone();
        GroupError::new(name, failures, counts).map_or(Ok(()), Err)
    }
}

impl Released {
    fn run(self) {
        let Self {
            ticket,
            start,
            is_refused,
        } = self;
        if is_refused {
            ticket.refuse(start);
        } else {
            start(ticket.begin());
        }
    }
}

impl State {
    pub(super) fn new(token: CancelToken) -> Self {
        Self {
            token,
            next_id: 0,
            started: 0,
            failed: 0,
            count: Count::default(),
            usher: Usher::default(),
            sites: Sites::default(),
            names: HashMap::new(),
            queue: VecDeque::new(),
            unpublished: 0,
            is_advancing: false,
            room_waiters: 0,
            round_from: 0,
            round: Counts::default(),
            failures: Vec::new(),
            is_detached: false,
            kept: None,
        }
    }

    /// How many tasks `wait` waits for.
    pub(super) fn unsettled(&self, books: &Shared) -> u64 {
        self.started - self.count.ended(books.tally) + self.unpublished
    }

    /// How many tasks run.
    pub(super) fn running(&self, books: &Shared) -> u64 {
        self.started - self.count.ended(books.tally) - self.queue.len() as u64
    }

    /// A line for each of the first `most` running tasks, by number.
    pub(super) fn describe_running(&self, books: &Shared, most: usize) -> Vec<String> {
        let now = clock::ticks(Instant::now());
        let first = books.tally.roster.first(&self.usher, most);
        let describe = |task: Seated| {
            let name = self.names.get(&task.id);
            let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
            let site = self.sites.get(task.site);
            let site = site.map_or_else(|| "one of many lines".to_owned(), ToString::to_string);
            let ago = Duration::from_nanos(now.saturating_sub(task.ticks));
            format!("task {}{name} (started at {site}, {ago:.3?} ago)", task.id)
        };
        first.into_iter().map(describe).collect()
    }
}
