//! Giving back what parked tasks have left below them on their stacks.
//!
//! A task that once went deep and now waits keeps the pages that it touched. The worker itself gives them back, when it has had nothing to
//! do for [`SETTLE`]: all its tasks are suspended then, and below a suspended task's stack pointer nothing is kept. Each stack is seen to
//! once for as long as its task does not run.

#![expect(unsafe_code, reason = "started tasks are known by address")]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::status::Seen;
use super::task::Header;
use crate::arch;
use crate::stack::{Stack, Tidying};

/// How long a worker has had nothing to do before it tidies up.
const SETTLE: Duration = Duration::from_secs(1);
/// Stacks seen to between two looks for work: some tens of microseconds.
const BATCH: usize = 16;
/// Stacks in use, in bytes, that are not worth a wake.
const WORTH_IT: usize = 16 << 20;

/// The stacks on which a worker's tasks have been started and not ended.
#[derive(Debug)]
pub(super) struct InUse {
    tasks: RefCell<Vec<Entry>>,
    bytes: Cell<usize>,
    state: Cell<State>,
    /// The next to see to, from the end.
    next: Cell<usize>,
}

#[derive(Debug)]
struct Entry {
    task: NonNull<Header>,
    /// What the task did when its stack was last seen to: it says since when, and changes as the task runs.
    tidied: Option<Seen>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Something has run since the last time.
    Untidy,
    /// It is time at this moment, if nothing runs before.
    Due(Instant),
    Tidy,
}

impl InUse {
    pub(super) fn new() -> Self {
        Self {
            tasks: RefCell::default(),
            bytes: Cell::new(0),
            state: Cell::new(State::Tidy),
            next: Cell::new(0),
        }
    }

    /// A task starts on a stack that was free.
    pub(super) fn add(&self, task: NonNull<Header>, stack: &Stack) {
        let mut tasks = self.tasks.borrow_mut();
        stack.set_place(tasks.len());
        self.bytes.set(self.bytes.get() + stack.class().bytes());
        tasks.push(Entry { task, tidied: None });
    }

    /// A task starts on the stack of one that has ended.
    pub(super) fn hand_over(&self, task: NonNull<Header>, stack: &Stack) {
        self.tasks.borrow_mut()[stack.place()] = Entry { task, tidied: None };
    }

    /// A stack becomes free.
    pub(super) fn remove(&self, stack: &Stack) {
        let mut tasks = self.tasks.borrow_mut();
        let place = stack.place();
        self.bytes.set(self.bytes.get() - stack.class().bytes());
        tasks.swap_remove(place);
        if let Some(moved) = tasks.get(place) {
            // SAFETY: a started task of this worker, so alive.
            let moved = unsafe { moved.task.as_ref() };
            let stack = moved.stack().expect("a started task has a stack");
            stack.set_place(place);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// A task is about to run.
    pub(super) fn disturb(&self) {
        self.state.set(State::Untidy);
    }

    /// Called by the worker with nothing to do, on the thread's own stack.
    pub(super) fn tidy(&self) -> Tidying {
        if !arch::KEEPS_NOTHING_BELOW {
            return Tidying::Done;
        }
        match self.state.get() {
            State::Tidy => Tidying::Done,
            State::Untidy if self.bytes.get() < WORTH_IT => Tidying::Done,
            State::Untidy => {
                let at = Instant::now() + SETTLE;
                self.state.set(State::Due(at));
                self.next.set(self.tasks.borrow().len());
                Tidying::Later(at)
            }
            State::Due(at) if Instant::now() < at => Tidying::Later(at),
            State::Due(_) => self.tidy_batch(),
        }
    }

    fn tidy_batch(&self) -> Tidying {
        let mut tasks = self.tasks.borrow_mut();
        let end = self.next.get().min(tasks.len());
        let start = end.saturating_sub(BATCH);
        for entry in &mut tasks[start..end] {
            // SAFETY: a started task of this worker, so alive.
            let task = unsafe { entry.task.as_ref() };
            let seen = Some(task.status.look());
            if std::mem::replace(&mut entry.tidied, seen) == seen {
                continue;
            }
            let stack = task.stack().expect("a started task has a stack");
            // SAFETY: the task is suspended: we are on the thread's own stack.
            unsafe { stack.shed_below(task.sp.get()) };
        }
        self.next.set(start);
        if start == 0 {
            self.state.set(State::Tidy);
            return Tidying::Done;
        }
        Tidying::Goes
    }
}
