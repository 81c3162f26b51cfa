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
/// Places looked at between two looks for work, most of them empty.
const PLACES: usize = 4096;
/// Stacks in use, in bytes, that are not worth a wake.
const WORTH_IT: usize = 16 << 20;

/// The stacks on which a worker's tasks have been started and not ended.
///
/// A stack keeps its place until it is free, and leaves a gap then. To close that with the last one would be to write to its stack, where its place
/// is: of many, one that is in no cache.
#[derive(Debug)]
pub(super) struct InUse {
    places: RefCell<Vec<Place>>,
    /// The gap to be filled first; the others are linked from there.
    gap: Cell<Option<u32>>,
    /// Places that are not gaps.
    count: Cell<usize>,
    bytes: Cell<usize>,
    state: Cell<State>,
    /// The next to see to, from the end.
    next: Cell<usize>,
}

#[derive(Debug)]
enum Place {
    Of {
        task: NonNull<Header>,
        /// What the task did when its stack was last seen to: it says since when, and changes as the task runs.
        tidied: Option<Seen>,
    },
    Gap {
        next: Option<u32>,
    },
}

const _: () = assert!(size_of::<Place>() == 16);

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
            places: RefCell::default(),
            gap: Cell::new(None),
            count: Cell::new(0),
            bytes: Cell::new(0),
            state: Cell::new(State::Tidy),
            next: Cell::new(0),
        }
    }

    /// A task starts on a stack that was free.
    pub(super) fn add(&self, task: NonNull<Header>, stack: &Stack) {
        let mut places = self.places.borrow_mut();
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + stack.class().bytes());
        let place = Place::of(task);
        let Some(gap) = self.gap.get() else {
            stack.set_place(places.len());
            places.push(place);
            return;
        };
        let gap = gap as usize;
        stack.set_place(gap);
        match std::mem::replace(&mut places[gap], place) {
            Place::Gap { next } => self.gap.set(next),
            Place::Of { .. } => unreachable!("a task in a gap"),
        }
    }

    /// A task starts on the stack of one that has ended.
    pub(super) fn hand_over(&self, task: NonNull<Header>, stack: &Stack) {
        self.places.borrow_mut()[stack.place()] = Place::of(task);
    }

    /// A stack becomes free.
    pub(super) fn remove(&self, stack: &Stack) {
        let mut places = self.places.borrow_mut();
        self.count.set(self.count.get() - 1);
        self.bytes.set(self.bytes.get() - stack.class().bytes());
        if self.count.get() == 0 {
            places.clear();
            self.gap.set(None);
            return;
        }
        let place = stack.place();
        let next = self.gap.get();
        places[place] = Place::Gap { next };
        // Stacks are fewer than 2³² pages.
        self.gap.set(u32::try_from(place).ok());
    }

    pub(super) fn count(&self) -> usize {
        self.count.get()
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
                self.next.set(self.places.borrow().len());
                Tidying::Later(at)
            }
            State::Due(at) if Instant::now() < at => Tidying::Later(at),
            State::Due(_) => self.tidy_batch(),
        }
    }

    fn tidy_batch(&self) -> Tidying {
        let mut places = self.places.borrow_mut();
        let end = self.next.get().min(places.len());
        let mut start = end.saturating_sub(PLACES);
        let mut left = BATCH;
        for (nth, place) in places[start..end].iter_mut().enumerate().rev() {
            let Place::Of { task, tidied } = place else {
                continue;
            };
            if left == 0 {
                start += nth + 1;
                break;
            }
            left -= 1;
            // SAFETY: a started task of this worker, so alive.
            let task = unsafe { task.as_ref() };
            let seen = Some(task.status.look());
            if std::mem::replace(tidied, seen) == seen {
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

impl Place {
    fn of(task: NonNull<Header>) -> Self {
        Self::Of { task, tidied: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Cache, Class, Pool};

    #[test]
    fn places_stay_and_gaps_are_filled() {
        let (pool, mut cache) = (Pool::new(true), Cache::new());
        let class = Class::for_bytes(16 * 1024).unwrap();
        let stacks: Vec<_> = (0..4).map(|_| cache.take(&pool, class).unwrap()).collect();
        // Nobody looks into it.
        let task = NonNull::dangling();
        let in_use = InUse::new();
        stacks.iter().for_each(|stack| in_use.add(task, stack));
        in_use.remove(&stacks[1]);
        in_use.remove(&stacks[2]);
        assert_eq!(
            (in_use.count(), stacks[0].place(), stacks[3].place()),
            (2, 0, 3)
        );
        in_use.add(task, &stacks[1]);
        in_use.add(task, &stacks[2]);
        let mut places: Vec<_> = stacks.iter().map(Stack::place).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3]);
        stacks.iter().for_each(|stack| in_use.remove(stack));
        assert_eq!((in_use.count(), in_use.bytes.get()), (0, 0));
        in_use.add(task, &stacks[3]);
        assert_eq!(stacks[3].place(), 0);
        stacks.into_iter().for_each(|stack| cache.put(&pool, stack));
        cache.clear(&pool);
    }
}
