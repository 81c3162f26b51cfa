//! A value on its way home from a task.

use crate::error::TaskError;
use crate::event::Event;
use crate::ledger::Ledger;
use crate::lock::lock;
use crate::task::TaskId;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The value of one task, once it has ended. Dropping the handle lets the value go; the task runs on, and its failure still
/// reaches the group's `wait`.
#[must_use = "the task's value is lost with its handle"]
pub struct Handle<T> {
    slot: Arc<Slot<T>>,
    id: TaskId,
    /// Of a group with a limit, where the task may wait for room.
    ledger: Option<Ledger>,
}

/// The other end of a [`Handle`]: whoever runs the task keeps it with [`Ticket::settle_with`](crate::ledger::Ticket::settle_with).
///
/// A failure needs no promise: the task's ticket tells the handle of it, also when the ticket or the promise is dropped.
pub struct Promise<T> {
    slot: Arc<Slot<T>>,
}

struct Slot<T> {
    outcome: Mutex<Option<Result<T, TaskError>>>,
    event: Arc<dyn Event>,
}

/// A handle's slot as the ticket sees it: whatever the value would have been, a failure fits in.
pub(crate) trait TakesFailure: Send + Sync {
    fn fail(&self, error: &TaskError);
}

impl<T: Send> TakesFailure for Slot<T> {
    fn fail(&self, error: &TaskError) {
        *lock(&self.outcome) = Some(Err(error.clone()));
        self.event.notify();
    }
}

/// A handle, its promise, and the promise's seat for a failure.
pub(crate) fn promise<T: Send + 'static>(
    id: TaskId,
    ledger: Option<Ledger>,
    event: Arc<dyn Event>,
) -> (Handle<T>, Promise<T>, Arc<dyn TakesFailure>) {
    let slot = Arc::new(Slot {
        outcome: Mutex::new(None),
        event,
    });
    (
        Handle {
            slot: Arc::clone(&slot),
            id,
            ledger,
        },
        Promise {
            slot: Arc::clone(&slot),
        },
        slot,
    )
}

impl<T> Handle<T> {
    /// The task's number in its group.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Whether the task has ended, so that [`join`](Self::join) would return at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        lock(&self.slot.outcome).is_some()
    }

    /// Waits for the task and returns its value. Blocks the calling task or thread. A task that still waits for room in its
    /// group is started now: whoever joins it from inside the group lends it the room.
    ///
    /// # Errors
    ///
    /// The task's failure; the group's `wait` reports the same.
    pub fn join(self) -> Result<T, TaskError> {
        match self.take(None) {
            Some(outcome) => outcome,
            None => unreachable!("a wait without a time limit ended without an outcome"),
        }
    }

    /// As [`join`](Self::join), but for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The task's failure, or the handle itself where the time was up first.
    pub fn join_timeout(self, timeout: Duration) -> Result<T, JoinTimeoutError<T>> {
        let until = Instant::now().checked_add(timeout);
        match self.take(until) {
            Some(outcome) => outcome.map_err(JoinTimeoutError::Failed),
            None => Err(JoinTimeoutError::StillRunning(self)),
        }
    }

    fn take(&self, until: Option<Instant>) -> Option<Result<T, TaskError>> {
        if let Some(ledger) = &self.ledger
            && until.is_none_or(|until| Instant::now() < until)
        {
            ledger.lend_room(self.id);
        }
        loop {
            let key = self.slot.event.key();
            if let Some(outcome) = lock(&self.slot.outcome).take() {
                return Some(outcome);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            self.slot.event.wait(key, until);
        }
    }
}

impl<T> Promise<T> {
    pub(crate) fn keep(self, value: T) {
        *lock(&self.slot.outcome) = Some(Ok(value));
        self.slot.event.notify();
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.id)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}

/// Why [`Handle::join_timeout`] has no value.
pub enum JoinTimeoutError<T> {
    /// The task failed.
    Failed(TaskError),
    /// The time was up first; the handle is still good.
    StillRunning(Handle<T>),
}

impl<T> fmt::Display for JoinTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::StillRunning(handle) => write!(f, "task {} is still running", handle.id),
        }
    }
}

impl<T> fmt::Debug for JoinTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::StillRunning(handle) => f.debug_tuple("StillRunning").field(handle).finish(),
        }
    }
}

impl<T> std::error::Error for JoinTimeoutError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::StillRunning(_) => None,
        }
    }
}
