//! What came of a task, from what its child wrote and how it ended.

use crate::report::{self, Ending};
use crate::slot::{Slot, Stage};
use crate::sys;
use crate::terms::Terms;
use multi_core::Usage;
use multi_core::ledger::Ticket;
use multi_core::{Promise, Result, TaskErrorKind, panic};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// How a child ended, for whoever settles its task.
pub(crate) struct End {
    pub(crate) slot: Slot,
    pub(crate) ending: Ending,
    /// What it used; none where somebody else collected it.
    pub(crate) usage: Option<Usage>,
    pub(crate) value_bytes_max: usize,
    /// We signalled it to end.
    pub(crate) was_pressed: bool,
    pub(crate) terms: Option<Arc<Terms>>,
}

/// Whose task a child runs: the seat of its outcome.
pub(crate) trait Settles: Send {
    fn ticket(&self) -> &Ticket;
    fn ticket_mut(&mut self) -> &mut Ticket;
    /// Reads what came of the task, lets the slot go and settles.
    fn settle(self: Box<Self>, end: End);
}

/// A value and what the task used that made it: see [`TaskBuilder::spawn_measured`](crate::TaskBuilder::spawn_measured).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured<T> {
    /// What the task returned.
    pub value: T,
    /// What its process used; nothing is known, and [`Usage::tasks`] is 0, where something else in the program collected it.
    pub usage: Usage,
}

/// The seat of an outcome that `settle` makes something of.
struct Seat<F> {
    ticket: Ticket,
    settle: F,
}

impl<F: FnOnce(Ticket, End) + Send> Settles for Seat<F> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }

    fn settle(self: Box<Self>, end: End) {
        let Self { ticket, settle } = *self;
        settle(ticket, end);
    }
}

/// For a task without a value.
pub(crate) fn plain(ticket: Ticket) -> Box<dyn Settles> {
    let settle = |mut ticket: Ticket, end: End| {
        let outcome = end.outcome(&mut ticket);
        ticket.settle(outcome);
    };
    Box::new(Seat { ticket, settle })
}

/// For a task with a value that somebody may wait for.
pub(crate) fn valued<T>(ticket: Ticket, promise: Promise<T>) -> Box<dyn Settles>
where
    T: DeserializeOwned + Send + 'static,
{
    let settle = |mut ticket: Ticket, end: End| {
        let outcome = end.outcome(&mut ticket);
        ticket.settle_with(promise, outcome);
    };
    Box::new(Seat { ticket, settle })
}

/// For a task with a value that comes home with what it cost.
pub(crate) fn weighed<T>(ticket: Ticket, promise: Promise<Measured<T>>) -> Box<dyn Settles>
where
    T: DeserializeOwned + Send + 'static,
{
    let settle = |mut ticket: Ticket, end: End| {
        let usage = end.usage.unwrap_or_default();
        let outcome = end.outcome(&mut ticket);
        ticket.settle_with(promise, outcome.map(|value| Measured { value, usage }));
    };
    Box::new(Seat { ticket, settle })
}

impl End {
    /// What came of the task. The slot is free when this returns.
    pub(crate) fn outcome<T: DeserializeOwned>(
        self,
        ticket: &mut Ticket,
    ) -> Result<T, TaskErrorKind> {
        // A value's own `Deserialize` may panic; whoever waits for the group must not.
        let outcome = panic::catch(|| report::read(&self.slot, &self.ending, self.value_bytes_max))
            .and_then(|outcome| outcome);
        outcome.map_err(|kind| {
            if let Some(usage) = self.usage {
                ticket.set_usage(usage);
            }
            if self.is_obedience(&kind) {
                // Its ticket knows whether for a cancel or for its time limit.
                return TaskErrorKind::Cancelled;
            }
            if self.is_early() {
                ticket.set_ended_early();
            }
            self.explained(kind)
        })
    }

    /// Whether the child did as it was told, by dying or by leaving.
    fn is_obedience(&self, kind: &TaskErrorKind) -> bool {
        let is_ours = |signal| {
            let first = self
                .terms
                .as_ref()
                .map_or(sys::SIGTERM, |terms| terms.limits.first_signal());
            signal == first || signal == sys::SIGKILL
        };
        self.was_pressed
            && match kind {
                TaskErrorKind::Signaled { signal, .. } => is_ours(*signal),
                TaskErrorKind::Exited(_) => true,
                _ => false,
            }
    }

    /// Whether the child ended before it came to the task's closure, which its exit code or signal alone would not tell.
    fn is_early(&self) -> bool {
        let is_dead = matches!(self.ending, Ending::Collected(_));
        is_dead && matches!(self.slot.stage(), Some(Stage::Forked | Stage::SetUp))
    }

    fn explained(&self, kind: TaskErrorKind) -> TaskErrorKind {
        let word = self.slot.word();
        match (kind, &self.terms) {
            // The standard library aborts after it has said so; another handler may leave it at the fault.
            (
                TaskErrorKind::Signaled {
                    signal: sys::SIGABRT | sys::SIGSEGV,
                    ..
                },
                _,
            ) if word == sys::STACK_OVERFLOW => TaskErrorKind::LimitExceeded(
                "the stack of one of its threads overflowed; the main one's is set by ulimit -s"
                    .into(),
            ),
            (kind, None) => kind,
            (kind, Some(terms)) => {
                terms
                    .limits
                    .explain(kind, word == sys::OUT_OF_MEMORY, self.usage)
            }
        }
    }
}
