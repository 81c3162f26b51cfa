//! The books themselves: every change of a group's state, each under the lock for a moment and calling nobody from there.

use super::roster::{Roster, Running};
use super::{Ledger, Ticket, report};
use crate::cancel::CancelToken;
use crate::error::{Counts, GroupError, TaskError};
use crate::lock::lock;
use crate::options::{TaskOptions, check_name};
use crate::task::{Lineage, TaskId};
use std::collections::VecDeque;
use std::panic::Location;
use std::sync::MutexGuard;
use std::time::Instant;

pub(super) struct State {
    pub(super) token: CancelToken,
    next_id: u64,
    /// Tasks that have a ticket and have not left.
    pub(super) running: Roster,
    pub(super) queue: VecDeque<Queued>,
    /// Tasks that have left and whose handle has not been told yet.
    unpublished: usize,
    /// Somebody is in [`Ledger::advance`].
    is_advancing: bool,
    /// Callers of `go` that sleep until there is room.
    room_waiters: usize,
    pub(super) progress: Totals,
    /// Since the last `wait`.
    round: Counts,
    /// Since the last `wait`, in the order in which they happened, at most [`GroupError::WHOLE_MAX`].
    failures: Vec<TaskError>,
    pub(super) is_detached: bool,
}

#[derive(Default)]
pub(super) struct Totals {
    pub(super) started: u64,
    pub(super) finished: u64,
    pub(super) failed: u64,
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

impl Ledger {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Registers a task and says what to do with it, waiting for room first where that is allowed.
    pub(super) fn admit(&self, options: TaskOptions) -> (Ticket, Verdict) {
        let is_limited = self.shared.options.limit.is_some();
        let is_inside = is_limited && self.is_caller_inside();
        loop {
            // Needed to wait for room only.
            let key = if is_limited {
                self.shared.event.key()
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
                self.shared.event.wait(key, self.shared.options.deadline);
                self.state().room_waiters -= 1;
                continue;
            };
            return (self.enter(&mut state, options), verdict);
        }
    }

    pub(super) fn dispatch(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        start: impl FnOnce(Ticket) + Send + 'static,
    ) {
        match verdict {
            Verdict::Start => start(ticket.begin()),
            Verdict::Refuse => ticket.refuse(start),
            Verdict::Queue => {
                let start = Box::new(start);
                let mut state = self.state();
                state.running.get_up(ticket.seat);
                state.queue.push_back(Queued { ticket, start });
                drop(state);
                // Room may have come since `admit` looked.
                self.advance();
            }
        }
    }

    pub(super) fn enter(&self, state: &mut State, mut options: TaskOptions) -> Ticket {
        let id = TaskId(state.next_id);
        state.next_id += 1;
        state.progress.started += 1;
        let site = options.site.unwrap_or_else(|| Location::caller());
        let since = Instant::now();
        let name = options.name.clone();
        let seat = state.running.sit(Running {
            id,
            name,
            site,
            since,
        });
        let lineage = match self.shared.options.limit {
            Some(_) => Lineage::current().with(self.shared.serial),
            None => Lineage::current(),
        };
        if let Some(token) = &options.cancel_token {
            state.token.adopt(token);
        }
        options.timeout = options.timeout.or(self.shared.options.task_timeout);
        Ticket::new(self.clone(), id, seat, options, site, since, lineage)
    }

    /// Whether the caller is, or runs for, a task of this group. Only a limited group knows.
    fn is_caller_inside(&self) -> bool {
        Lineage::current().contains(self.shared.serial)
    }

    /// Starts the queued task `id` although there is no room, if the caller, who is about to wait for it, takes up room of this
    /// group that it does not need meanwhile.
    pub(crate) fn lend_room(&self, id: TaskId) {
        if self.shared.options.limit.is_none() || !self.is_caller_inside() {
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
        let next = self.release(&mut state, queued);
        drop(state);
        next.run();
    }

    /// Moves a task out of the queue; run the result once the lock is free.
    fn release(&self, state: &mut State, queued: Queued) -> Released {
        let Queued { mut ticket, start } = queued;
        ticket.since = Instant::now();
        ticket.seat = state.running.sit(Running {
            id: ticket.id(),
            name: ticket.name.clone(),
            site: ticket.site,
            since: ticket.since,
        });
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
            let next = self.release(&mut state, queued);
            drop(state);
            next.run();
            state = self.state();
        }
        state.is_advancing = false;
    }

    pub(super) fn has_room(&self, state: &State) -> bool {
        self.shared
            .options
            .limit
            .is_none_or(|limit| state.running.len() < limit)
    }

    pub(super) fn is_over(&self, state: &State) -> bool {
        state.token.is_cancelled() || self.is_late()
    }

    /// Whether the group's deadline has passed.
    fn is_late(&self) -> bool {
        self.shared
            .options
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Writes a failure down, before its task leaves: whoever sees the group idle sees the failure.
    pub(super) fn record(&self, error: &TaskError) {
        let mut state = self.state();
        state.progress.failed += 1;
        state.round.failed += 1;
        state.round.cancelled += u64::from(error.is_cancelled());
        let is_detached = state.is_detached;
        if !is_detached && state.failures.len() < GroupError::WHOLE_MAX {
            state.failures.push(error.clone());
        }
        let fails_fast = self.shared.options.fail_fast && !state.token.is_cancelled();
        let token = fails_fast.then(|| state.token.clone());
        drop(state);
        if is_detached {
            report(format_args!("in a detached group: {error}"));
        }
        if let Some(token) = token {
            token.cancel();
        }
    }

    /// Takes a task off the books. One with a handle is waited for until [`published`](Self::published) is called: it takes up no
    /// room any more, but its value is not where its handle looks yet.
    pub(super) fn leave(&self, seat: usize, has_handle: bool) {
        let mut state = self.state();
        state.running.get_up(seat);
        state.progress.finished += 1;
        state.round.tasks += 1;
        state.unpublished += usize::from(has_handle);
        self.after_leaving(state);
    }

    /// The handle of a task that left has what it waits for.
    pub(super) fn published(&self) {
        let mut state = self.state();
        state.unpublished -= 1;
        self.after_leaving(state);
    }

    /// Takes a task off the books as if it had never come.
    pub(super) fn forget(&self, seat: usize) {
        let mut state = self.state();
        state.running.get_up(seat);
        state.progress.started -= 1;
        self.after_leaving(state);
    }

    /// Passes on the room that came, and wakes who waits for it or for the last task.
    fn after_leaving(&self, state: MutexGuard<'_, State>) {
        let has_queue = !state.queue.is_empty();
        let somebody_waits = state.unsettled() == 0 || state.room_waiters > 0;
        drop(state);
        if has_queue {
            self.advance();
        }
        if somebody_waits {
            self.shared.event.notify();
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
            let key = self.shared.event.key();
            let mut state = self.state();
            if state.unsettled() == 0 {
                if closing == Closing::Group || !state.token.is_cancelled() {
                    return Some(self.take_failures(&mut state));
                }
                let Some(token) = fresh.take() else {
                    drop(state);
                    fresh = Some((self.shared.new_token)());
                    continue;
                };
                let used_up = std::mem::replace(&mut state.token, CancelToken::clone(&token));
                let outcome = self.take_failures(&mut state);
                drop(state);
                drop(used_up);
                self.shared.watch(&token);
                return Some(outcome);
            }
            drop(state);
            if until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            self.shared.event.wait(key, until);
        }
    }

    pub(super) fn take_failures(&self, state: &mut State) -> Result<(), GroupError> {
        let failures = std::mem::take(&mut state.failures);
        let counts = std::mem::take(&mut state.round);
        let name = self.shared.options.name.clone();
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
            running: Roster::default(),
            queue: VecDeque::new(),
            unpublished: 0,
            is_advancing: false,
            room_waiters: 0,
            progress: Totals::default(),
            round: Counts::default(),
            failures: Vec::new(),
            is_detached: false,
        }
    }

    /// How many tasks `wait` waits for.
    pub(super) fn unsettled(&self) -> usize {
        self.running.len() + self.queue.len() + self.unpublished
    }
}
