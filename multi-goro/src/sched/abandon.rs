//! What becomes of tasks when the loop of a lent worker is gone, and cannot run them to their end.
//!
//! Started ones stay where they are for ever: nothing can take them off their stacks. Those that have not started are refused, so that
//! who waits for them is told: by the worker, what it finds; by its poster, what comes too late. See *Bound workers* in
//! `sched/README.md` for the proof that one of the two finds it.

#![expect(unsafe_code, reason = "ends tasks that were taken from queues")]

use std::iter;
use std::ptr::{self, NonNull};

use super::shared::{Remote, Shared};
use super::task::{Header, TaskRef};
use super::worker::Worker;
use crate::proto::ring::SLOT_COUNT;
use crate::sync::Ordering::*;

impl Worker {
    /// Refuses every task of a bound worker that has not started. It runs no task any more; the runtime has been closed.
    pub(super) fn abandon(&self) {
        let remote = self.remote();
        remote.inbox.abandon();
        // Acquire: as in `take_newest`.
        let newest = NonNull::new(remote.newest.swap(ptr::null_mut(), Acquire));
        let in_ring = (0..SLOT_COUNT).map_while(|_| remote.ring.pop(&self.owner));
        let injector = self.shared.injector();
        let injected = iter::from_fn(|| injector.take(1, 0, |_| ())).map(|task| task.0);
        let mut unstarted: Vec<_> = newest.into_iter().chain(in_ring).chain(injected).collect();
        for list in [&self.ready, &self.background] {
            list.borrow_mut().retain(|task| {
                // SAFETY: in a queue of this worker, so alive and ours.
                let is_started = unsafe { task.as_ref() }.is_started();
                if !is_started {
                    unstarted.push(*task);
                }
                is_started
            });
        }
        // Nothing is borrowed now: destructors of anybody's follow.
        for task in unstarted {
            // SAFETY: taken from a queue of this worker just now.
            unsafe { self.shared.refuse_unstarted(TaskRef(task)) };
        }
        self.shared.refuse_posted(remote);
        // Those that sleep without a stack have not started either. Woken, they are posted, and refused.
        remote.naps.close();
    }
}

impl Shared {
    /// Refuses what has not started of all that was posted to a worker that was abandoned.
    #[cold]
    pub(super) fn refuse_posted(&self, remote: &Remote) {
        remote.inbox.take_all(|task| {
            // SAFETY: taken from the inbox by us alone, so alive; what its worker wrote was before it was abandoned, which we know of.
            if unsafe { task.as_ref() }.is_started() {
                return;
            }
            // SAFETY: as above.
            unsafe { self.refuse_unstarted(TaskRef(task)) };
        });
    }

    /// # Safety
    ///
    /// - The caller has taken the task, which has not started, from a queue of an abandoned worker.
    unsafe fn refuse_unstarted(&self, task: TaskRef) {
        let bound = self.bound().expect("only bound workers are abandoned");
        let remote = &self.remotes[0].0;
        let count = || {
            // Release: as in `bump`, but that several may do this; the worker, which alone has counted until then, does so no more.
            remote.finished.fetch_add(1, Release);
        };
        // SAFETY: unstarted, and the caller's.
        unsafe { Header::refuse(task.0, bound.gone(), &count) };
        // SAFETY: refused just now.
        unsafe { Header::free(task.0) };
        // Release: as above.
        remote.gone.fetch_add(1, Release);
    }
}
