//! A queue of parked tasks and threads, safe to use: the two halves of the promise behind an unpark are kept here.

#![expect(unsafe_code, reason = "owes its waiters their unpark")]

use std::time::Instant;

use super::behind::{Behind, Identity};
use super::park::{WAKES_AHEAD, Waiter, Wake, park, park_behind, say_behind};
use super::status::WaitsFor;
use crate::proto::wait_queue::WaitQueue;
use crate::sync::{OsGuard, OsMutex, lock};

/// Who waits for something, in order of arrival. Part of a state that lies under a lock; entered by [`wait_in`] alone.
#[derive(Debug)]
pub(crate) struct Waiters(WaitQueue<Waiter>);

/// Somebody who was taken out of the queue and waits to be told.
#[must_use = "who is owed an unpark waits for ever without it"]
pub(crate) struct Owed(Waiter);

impl Waiters {
    pub(crate) const fn new() -> Self {
        Self(WaitQueue::new())
    }

    /// Who has waited longest.
    pub(crate) fn first(&self) -> Option<Identity> {
        self.0.front().map(|waiter| waiter.identity())
    }

    /// Who has waited longest, and has said behind whom, is behind somebody else from now on, or nobody knows behind whom.
    pub(crate) fn point_first(&mut self, behind: Option<Behind>) {
        if let Some(first) = self.0.front() {
            // SAFETY: entered by `wait_behind`, under the lock under which this is.
            unsafe { first.point(behind) };
        }
    }

    /// Who came last and still waits.
    pub(crate) fn last(&self) -> Option<Identity> {
        self.0.back().map(|waiter| waiter.identity())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes who has waited longest. Unpark it once the lock is free.
    pub(crate) fn take(&mut self) -> Option<Owed> {
        self.0.pop().map(Owed)
    }

    /// Takes everybody.
    pub(crate) fn take_all(&mut self) -> Self {
        Self(self.0.take_all())
    }

    /// Unparks everybody. For what [`take_all`](Self::take_all) gave.
    pub(crate) fn unpark_all(mut self) {
        while let Some(owed) = self.take() {
            if let Some(soon) = self.0.soon(WAKES_AHEAD) {
                soon.prefetch();
            }
            owed.unpark();
        }
    }
}

impl Owed {
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity()
    }

    pub(crate) fn unpark(self) {
        // SAFETY: it was announced by `wait_in`, taken out of its queue once, and `self` is used up: the one unpark that it is owed.
        // `wait_in` does not return before it.
        unsafe { self.0.unpark() };
    }
}

/// Waits in a queue under `mutex`, whose lock `state` is released for the time, until taken out and unparked, or until `until`.
///
/// `queue` names the queue, the same at each call. `release` is called when the caller is in the queue and the lock is free: for
/// what the one who is to unpark us needs. It must not wait.
pub(crate) fn wait_in<S>(
    mutex: &OsMutex<S>,
    state: OsGuard<'_, S>,
    queue: fn(&mut S) -> &mut Waiters,
    release: impl FnOnce(),
    what: WaitsFor,
    until: Option<Instant>,
) -> Wake {
    wait_behind(mutex, state, queue, release, what, None, until)
}

/// As [`wait_in`], and tells reports who has to go on before the caller can: without a limit, while the lock is held still.
pub(crate) fn wait_behind<S>(
    mutex: &OsMutex<S>,
    mut state: OsGuard<'_, S>,
    queue: fn(&mut S) -> &mut Waiters,
    release: impl FnOnce(),
    what: WaitsFor,
    behind: Option<Behind>,
    until: Option<Instant>,
) -> Wake {
    let ticket = queue(&mut state).0.push(Waiter::current());
    let behind = behind.filter(|_| until.is_none());
    let hold_up = behind.map(|behind| say_behind(what, behind));
    drop(state);
    release();
    let wake = match hold_up {
        Some(hold_up) => park_behind(hold_up),
        None => park(what, until),
    };
    if wake == Wake::TimedOut {
        if queue(&mut lock(mutex)).0.remove(ticket).is_some() {
            return Wake::TimedOut;
        }
        // Somebody has taken us out, and is about to unpark us.
        let wake = park(what, None);
        debug_assert_eq!(wake, Wake::Unparked);
    }
    Wake::Unparked
}
