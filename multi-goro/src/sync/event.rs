//! What a group waits on: tasks park, plain threads sleep.

#![expect(unsafe_code, reason = "owes its waiters their unpark")]

use std::time::Instant;

use multi_core::Event;

use super::{AtomicU64, Ordering::*, OsMutex, lock};
use crate::proto::wait_queue::WaitQueue;
use crate::sched::{Waiter, Wake, park};

/// An event count whose waiters are tasks of any runtime and plain threads.
#[derive(Debug)]
pub(crate) struct TaskEvent {
    /// Changed under the lock of `waiting` only.
    key: AtomicU64,
    waiting: OsMutex<WaitQueue<Waiter>>,
}

impl TaskEvent {
    pub(crate) fn new() -> Self {
        Self {
            key: AtomicU64::new(0),
            waiting: OsMutex::new(WaitQueue::new()),
        }
    }
}

impl Event for TaskEvent {
    fn key(&self) -> u64 {
        // Acquire: pairs with the Release in `notify`, so that a condition looked at next is at least as new as the key.
        self.key.load(Acquire)
    }

    fn wait(&self, key: u64, until: Option<Instant>) {
        let mut waiting = lock(&self.waiting);
        // Relaxed: changed under the lock only.
        if self.key.load(Relaxed) != key {
            return;
        }
        let ticket = waiting.push(Waiter::current());
        drop(waiting);
        if park(until) == Wake::TimedOut {
            let left = lock(&self.waiting).remove(ticket).is_some();
            if !left {
                // Somebody has taken us out, and is about to unpark us.
                let Wake::Unparked = park(None) else {
                    unreachable!("a wait without a deadline timed out")
                };
            }
        }
    }

    fn notify(&self) {
        let mut waiting = lock(&self.waiting);
        // Relaxed: changed under the lock only.
        let next = self.key.load(Relaxed) + 1;
        // Release: pairs with the Acquire in `key`.
        self.key.store(next, Release);
        if waiting.is_empty() {
            return;
        }
        let mut all = std::mem::replace(&mut *waiting, WaitQueue::new());
        drop(waiting);
        while let Some(waiter) = all.pop() {
            // SAFETY: taken out of the queue by us alone; `wait` waits for it.
            unsafe { waiter.unpark() };
        }
    }
}
