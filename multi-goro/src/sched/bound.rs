//! A runtime of one worker, whose tasks are bound to its thread: one made for it, one that was there before, or one whose
//! owner has a loop of its own and lends the worker its thread now and then.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::current::{self, CURRENT};
use super::deal::Placement;
use super::monitor::OnStuck;
use super::shared::{Plan, Shared};
use super::worker::Worker;
use crate::proto::idle::Woken;
use crate::proto::ring::Owner;
use crate::stack::Class;
use crate::sync::{AtomicBool, AtomicU64, Ordering::*};
use crate::sys;

/// What makes a runtime that of one OS thread.
#[derive(Debug)]
pub(crate) struct Bound {
    name: Arc<str>,
    /// The number of the worker's thread; 0 while it has none.
    thread: AtomicU64,
    /// Where the worker waits in somebody else's loop.
    bell: Option<Bell>,
}

/// A descriptor that is readable from when it is rung, or from a time on.
///
/// A timer: ringing it is to let it expire now. So there is one descriptor for both.
#[derive(Debug)]
pub(crate) struct Bell {
    timer: OwnedFd,
    /// Whether it was rung since this was last asked. Set after the timer: who is to ring may be late, and ring when the worker has got up, found
    /// what there was and lain down again. So the worker, which takes this before it sets the timer, leaves no ring behind.
    was_rung: AtomicBool,
}

/// What one call of a foreign loop may use up.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    turns: Cell<u32>,
    until: Cell<Option<Instant>>,
}

/// A bound runtime's worker before it has a thread.
pub(crate) struct Unseated {
    shared: Arc<Shared>,
    owner: Owner,
}

/// A worker that runs when its thread's owner calls it. Stays on the thread that made it, by `Worker`'s cells.
pub(crate) struct Lent {
    worker: Box<Worker>,
    /// When the bell rings by itself, if it was not rung.
    armed: Cell<Option<Instant>>,
}

impl Bound {
    /// Whether the caller is on the worker's thread.
    pub(super) fn is_here(&self) -> bool {
        // Relaxed: it matches for the thread that wrote it only.
        self.thread.load(Relaxed) == current::thread_number()
    }

    /// The worker has the calling thread from here on.
    fn settle(&self) {
        // Relaxed: as in `is_here`.
        self.thread.store(current::thread_number(), Relaxed);
    }

    /// The worker leaves the thread.
    fn unsettle(&self) {
        // Relaxed: as in `is_here`.
        self.thread.store(0, Relaxed);
    }

    /// The thread's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a task is told that comes too late.
    pub(super) fn gone(&self) -> io::Error {
        let text = format!(
            "OS thread \"{}\" takes no more tasks: its last handle is gone, or its loop has ended; keep an OsThread for as \
             long as tasks are started",
            self.name
        );
        io::Error::new(io::ErrorKind::BrokenPipe, text)
    }

    /// What a task is told in a forked child of the process `owner`.
    pub(super) fn foreign(&self, owner: u32) -> io::Error {
        io::Error::other(format!(
            "OS thread \"{}\" is one of process {owner}, which this forked child does not have; make an OsThread in the child",
            self.name
        ))
    }

    pub(crate) fn bell(&self) -> Option<&Bell> {
        self.bell.as_ref()
    }
}

impl Shared {
    /// Whether it has tasks, and the caller keeps the thread that is to run them, outside any task: the owner of a foreign loop.
    pub(crate) fn is_kept_by_caller(&self) -> bool {
        self.task_count() > 0 && current::is_on(self) && current::on_task().is_none()
    }
}

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self {
            timer: sys::timer_descriptor()?,
            was_rung: AtomicBool::new(false),
        })
    }

    pub(super) fn ring(&self) {
        // The shortest time there is. It cannot fail: the descriptor is a timer's, and ours.
        let set = sys::set_timer(self.timer.as_fd(), Some(Duration::from_nanos(1)));
        debug_assert!(set.is_ok(), "{set:?}");
        // Release: after the timer. Pairs with the Acquire in `take_ring`.
        self.was_rung.store(true, Release);
    }

    /// Whether it was rung since the last call. Before `arm`, so that a ring is silenced or leaves its mark for the next call.
    fn take_ring(&self) -> bool {
        // Relaxed: a look before the exchange; a ring that comes later is for the next call.
        // Acquire: what we do to the timer comes after what the ringer did. Pairs with the Release in `ring`.
        self.was_rung.load(Relaxed) && self.was_rung.swap(false, Acquire)
    }

    /// Silent until `at`, or until it is rung.
    fn arm(&self, at: Option<Instant>) {
        let left = at.map(|at| {
            at.saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1))
        });
        let set = sys::set_timer(self.timer.as_fd(), left);
        debug_assert!(set.is_ok(), "{set:?}");
    }
}

impl Allowance {
    pub(super) fn is_used_up(&self) -> bool {
        self.turns.get() == 0
            || self
                .until
                .get()
                .is_some_and(|until| Instant::now() >= until)
    }

    pub(super) fn take_turn(&self) {
        self.turns.set(self.turns.get() - 1);
    }
}

impl Unseated {
    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// As [`Shared::make`]; with `has_bell`, no descriptor.
    pub(crate) fn new(name: &str, class: Class, has_bell: bool) -> io::Result<Self> {
        let bound = Bound {
            name: name.into(),
            thread: AtomicU64::new(0),
            bell: has_bell.then(Bell::new).transpose()?,
        };
        let plan = Plan {
            workers: 1,
            spares: 0,
            class,
            placement: Placement::Any,
            stacks_in_forks: true,
            on_stuck: OnStuck::Ignore,
        };
        let (shared, mut owners) = Shared::make(&plan, Some(bound))?;
        let owner = owners.pop().expect("one worker was asked for");
        Ok(Self { shared, owner })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Gives the worker a thread of its own.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(crate) fn spawn(self) -> io::Result<JoinHandle<()>> {
        let name = self.shared.bound().expect("made bound").name.to_string();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || self.serve())
    }

    /// Runs tasks on this thread until the runtime is closed and no task is left. Not to be called in a task.
    pub(crate) fn serve(self) {
        debug_assert!(current::on_task().is_none());
        let shared = Arc::clone(&self.shared);
        let bound = shared.bound().expect("made bound");
        bound.settle();
        Worker::run(self.shared, 0, self.owner);
        bound.unsettle();
    }

    /// Runs tasks on this thread when it is called.
    pub(crate) fn lend(self) -> Lent {
        let worker = Worker::new(self.shared, 0, self.owner, Some(Allowance::default()));
        let lent = Lent {
            worker: Box::new(worker),
            armed: Cell::new(None),
        };
        lent.bound().settle();
        lent.lie_down(false);
        lent
    }
}

impl Lent {
    fn bound(&self) -> &Bound {
        self.worker.shared.bound().expect("made bound")
    }

    fn bell(&self) -> &Bell {
        self.bound().bell().expect("made with a bell")
    }

    /// Readable when there is something to run.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell().timer.as_fd()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.worker.next_deadline()
    }

    /// Runs what is ready, for `turns` turns and until `until` at most; a task that runs is not interrupted. Returns whether
    /// something is left to run at once. Not to be called in a task.
    pub(crate) fn run(&self, turns: u32, until: Option<Instant>) -> bool {
        let worker = &*self.worker;
        let allowance = worker.allowance.as_ref().expect("made with one");
        debug_assert!(current::on_task().is_none());
        let was_rung = self.get_up();
        allowance.turns.set(turns);
        allowance.until.set(until);
        let outer = CURRENT.replace(ptr::from_ref(worker));
        while let Some(task) = worker.pick() {
            worker.enter(task);
        }
        CURRENT.set(outer);
        self.lie_down(was_rung)
    }

    /// Takes the worker off the list of sleepers. Returns whether the bell was rung.
    fn get_up(&self) -> bool {
        match self.worker.shared.idle.get_up(0) {
            Woken::Alone => false,
            Woken::ForInbox => true,
            Woken::ToSearch => {
                self.worker.shared.idle.end_search();
                true
            }
        }
    }

    /// As a worker of its own goes to sleep, but that what it sleeps on is the bell: see `sched/README.md`. Returns whether
    /// there is something to do at once, and the bell is rung.
    fn lie_down(&self, was_rung: bool) -> bool {
        let worker = &*self.worker;
        let next = self.next_deadline();
        // Silenced before anybody else may ring it, but for who is late. An old time that has not come yet may stay as it is.
        let is_set = !(self.bell().take_ring() || was_rung) && self.armed.get() == next;
        if !is_set || next.is_some_and(|at| at <= Instant::now()) {
            self.bell().arm(next);
            self.armed.set(next);
        }
        // It is the bell that is slept on.
        let _word = worker.shared.idle.fall_asleep(0, false);
        let has_more = worker.has_ready() || !worker.nothing_to_do();
        if has_more {
            self.bell().ring();
        }
        has_more
    }

    /// Runs tasks until none is left; the runtime has been closed.
    pub(crate) fn finish(&self) {
        while {
            self.run(u32::MAX, None);
            !self.worker.shared.may_leave()
        } {
            sys::wait_readable(self.descriptor());
        }
        self.bound().unsettle();
        let worker = &*self.worker;
        worker.stacks.borrow_mut().clear(&worker.shared.stacks);
        worker.cells.clear(&worker.shared.depot);
        worker.remote().naps.close();
    }

    /// Leaves the worker and its started tasks where they are, for ever. The others are refused; the runtime has been closed.
    pub(crate) fn abandon(self) {
        self.bound().unsettle();
        Box::leak(self.worker).abandon();
    }

    /// Leaves the worker and its tasks where they are: a forked child's memory of them.
    pub(crate) fn forget(self) {
        Box::leak(self.worker);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read as _};

    use super::*;
    use crate::stack::DEFAULT_BYTES;

    fn lent() -> Lent {
        let class = Class::for_bytes(DEFAULT_BYTES).unwrap();
        Unseated::new("lent", class, true).unwrap().lend()
    }

    /// Whether the bell has rung; it is silent afterwards.
    fn has_rung(lent: &Lent) -> bool {
        let mut timer = File::from(lent.descriptor().try_clone_to_owned().unwrap());
        match timer.read_exact(&mut [0; 8]) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    #[test]
    fn late_ring_is_silenced_by_the_next_call() {
        let lent = lent();
        let shared = Arc::clone(&lent.worker.shared);
        assert!(!has_rung(&lent));
        // Somebody posts, and is held up before the ring. The worker has got up and lain down meanwhile.
        assert!(shared.idle.posted(0));
        assert!(!lent.run(u32::MAX, None));
        shared.wake(0);
        assert!(!lent.run(u32::MAX, None));
        assert!(!has_rung(&lent), "with nothing to do");
        // A ring that is in time is not.
        assert!(shared.idle.posted(0));
        shared.wake(0);
        assert!(has_rung(&lent));
        lent.run(u32::MAX, None);
        assert!(!has_rung(&lent));
        shared.close();
        lent.finish();
    }
}
