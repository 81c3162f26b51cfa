//! What a group waits on: tasks park, plain threads sleep.

use std::sync::{Arc, Weak};
use std::time::Instant;

use multi_core::Event;
use multi_core::clock::ticks;

use super::{AtomicU64, Ordering::*, OsMutex, lock};
use crate::sched::{Behind, GroupNumber, Shared, Waiters, WaitsFor, wait_behind};
use crate::sys;

/// An event count whose waiters are tasks of any runtime and plain threads.
#[derive(Debug)]
pub(crate) struct TaskEvent {
    /// Changed under the lock of `waiting` only.
    key: AtomicU64,
    waiting: OsMutex<Waiters>,
    /// The bound runtime whose tasks are waited for; none if any runtime's may be.
    bound_to: Option<Weak<Shared>>,
    /// The group of which all tasks are waited for, by everybody who waits here.
    group: Option<GroupNumber>,
}

impl TaskEvent {
    pub(crate) fn new() -> Self {
        Self {
            key: AtomicU64::new(0),
            waiting: OsMutex::new(Waiters::new()),
            bound_to: None,
            group: None,
        }
    }

    /// To wait on for all tasks of a group, and nothing else.
    pub(crate) fn for_all_of(self, group: GroupNumber) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    /// To wait on for tasks of `shared`. A wait without a limit panics where it would keep a bound one from running them.
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self {
            bound_to: shared.bound().is_some().then(|| Arc::downgrade(shared)),
            ..Self::new()
        }
    }
}

/// The time as of the kernel's last tick, some milliseconds ago at most: a fifth of what the exact one costs.
fn coarse_ticks() -> u64 {
    /// What to add to the kernel's clock, wrapping; zero until known.
    static OFFSET: AtomicU64 = AtomicU64::new(0);
    // Relaxed: a number on its own; every thread would store nearly the same.
    let mut offset = OFFSET.load(Relaxed);
    if offset == 0 {
        // Read first, so that the sum is never ahead.
        let exact = ticks(Instant::now());
        offset = exact.wrapping_sub(sys::monotonic_ns());
        // Relaxed: as above.
        OFFSET.store(offset, Relaxed);
    }
    let now = sys::monotonic_coarse_ns().wrapping_add(offset);
    // The last tick may lie before the moment that ticks are counted from.
    if now > u64::MAX / 2 { 0 } else { now }
}

impl Event for TaskEvent {
    fn key(&self) -> u64 {
        // Acquire: pairs with the Release in `notify`, so that a condition looked at next is at least as new as the key.
        self.key.load(Acquire)
    }

    fn wait(&self, key: u64, until: Option<Instant>) {
        let bound_to = self.bound_to.as_ref().filter(|_| until.is_none());
        if let Some(shared) = bound_to.and_then(Weak::upgrade) {
            assert!(
                !shared.is_kept_by_caller(),
                "OS thread \"{}\" waits for tasks that its ThreadLoop is to run; call ThreadLoop::run_for until they have ended, or wait \
                 in a task or on another thread",
                shared.bound().map_or("?", |bound| bound.name())
            );
        }
        let waiting = lock(&self.waiting);
        // Relaxed: changed under the lock only.
        if self.key.load(Relaxed) == key {
            // Woken or late: the caller looks at its condition either way.
            let _wake = wait_behind(
                &self.waiting,
                waiting,
                |all| all,
                || (),
                WaitsFor::Group,
                self.group.map(Behind::All),
                until,
            );
        }
    }

    fn ticks(&self) -> u64 {
        coarse_ticks()
    }

    fn fresh(&self) -> Arc<dyn Event> {
        Arc::new(Self::new())
    }

    fn notify(&self) {
        let mut waiting = lock(&self.waiting);
        // Relaxed: changed under the lock only.
        let next = self.key.load(Relaxed) + 1;
        // Release: pairs with the Acquire in `key`.
        self.key.store(next, Release);
        let Some(first) = waiting.take() else {
            return;
        };
        // Mostly there is one, and the queue keeps its room for the next.
        let others = (!waiting.is_empty()).then(|| waiting.take_all());
        drop(waiting);
        first.unpark();
        if let Some(others) = others {
            others.unpark_all();
        }
    }
}
