//! Who has to go on before a parked task can, where that is known for certain: what deadlocks are found by.
//!
//! A task that waits for a mutex is *behind* one other: the waiter before it in the queue, or, if it is the first, the holder. That
//! stays true for as long as it waits, since a mutex goes from one to the next in the order of asking, nobody in the queue gives up, and a
//! guard does not leave its task. When the one before has got the mutex, the task is behind it still: it has to let go.
//!
//! Who waits for a `RwLock` is behind one other, too, but where several read, since nobody lists those:
//!
//! - who waits to read, behind who writes, or else behind the first who waits to write; either lets in all who wait to read when it is done;
//! - who waits to write, behind the one before it in the queue; if it is the first, behind who writes or is alone in reading. While a
//!   writer waits no reader joins those who hold the lock. But who has written lets in readers before the next writer: then it says of that one
//!   that it is behind the reader let in, if there is one only, or behind nobody known.
//!
//! A task that waits for a group without a limit is behind each of that group's tasks that have not ended.
//!
//! So tasks that wait each behind one of the others wait for ever: nothing that a thread, a timer or another task does lets any of them go on.
//! Of other waits (for a channel, a condition, a permit) it is not known who could end them, and who is behind such a one is never
//! said to be in a deadlock. Nor could it be known for a channel: its ends go wherever the program takes them.
//!
//! What it costs: a number in each lock and group, two stores in the cell of a task that parks so, and a count on its worker. The word that links a task
//! into an inbox is free while it is parked, and says behind whom it is.

use std::num::NonZero;
use std::ptr::NonNull;

use super::shared::Shared;
use super::status::{Seen, WaitsFor};
use super::task::Header;
use super::worker::Worker;
use crate::proto::watch::Call;
use crate::sync::{AtomicU32, Ordering::*, light_fence};
use crate::sys;

/// A task or thread, as a number; that of a task is the address of its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity(NonZero<usize>);

/// A group, as a number that no other one has until 2^31 more have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupNumber(NonZero<u32>);

/// Whom a parked task is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Behind {
    /// One task or thread.
    One(Identity),
    /// Every task of a group that has not ended.
    All(GroupNumber),
}

impl Identity {
    pub(crate) fn new(address: NonZero<usize>) -> Self {
        Self(address)
    }
}

impl GroupNumber {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        // Relaxed: a number on its own.
        let last = LAST.fetch_add(1, Relaxed);
        Self(NonZero::new(last & (u32::MAX >> 1)).unwrap_or(NonZero::<u32>::MAX))
    }

    /// As a word; zero for none.
    pub(super) fn to_word(group: Option<Self>) -> u32 {
        group.map_or(0, |number| number.0.get())
    }

    pub(super) fn from_word(word: u32) -> Option<Self> {
        NonZero::new(word).map(Self)
    }
}

/// Marks the number of a group, which an address cannot be: cells are aligned.
const GROUP: usize = 1;

impl Behind {
    /// As a word that is not zero.
    pub(super) fn to_word(self) -> usize {
        match self {
            Self::One(Identity(address)) => address.get(),
            Self::All(GroupNumber(number)) => (number.get() as usize) << 1 | GROUP,
        }
    }

    pub(super) fn from_word(word: usize) -> Option<Self> {
        if word & GROUP == 0 {
            NonZero::new(word).map(|address| Self::One(Identity(address)))
        } else {
            GroupNumber::from_word((word >> 1) as u32).map(Self::All)
        }
    }
}

/// One wait, as it was seen: two that are equal, of which the first was of half a second's standing when the second was made half a second
/// later, are of the same wait.
///
/// The time in the word of what a task does is as of its worker's last look at the clock, which it takes every 16 rounds. A later wait with the same
/// time would be of the same few rounds, and the numbers of waits tell those apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(super) seen: Seen,
    /// Behind whom, and the number of the wait among those of its worker.
    pub(super) word: usize,
}

impl Stamp {
    /// Behind whom the task waits.
    pub(crate) fn behind(self) -> Option<Behind> {
        Behind::from_word(self.word & BEHIND)
    }
}

impl Header {
    /// Says anew behind whom the task is, which waits, and stays in its queue meanwhile: so its word links it into no inbox.
    pub(super) fn point(&self, behind: Option<Behind>) {
        let number = self.behind() & !BEHIND;
        self.set_behind(number | behind.map_or(0, Behind::to_word));
    }
}

/// Where the number of a wait is in the word: above all addresses.
const NUMBER_SHIFT: u32 = 48;
const BEHIND: usize = (1 << NUMBER_SHIFT) - 1;

/// A wait of a task behind others, until it goes on: see [`Shared::held_up`].
#[must_use = "it counts until it is given to `let_go`"]
#[derive(Debug)]
pub(super) struct HoldUp(u32);

impl HoldUp {
    /// That of a plain thread, which is in no report.
    pub(super) const NONE: Self = Self(0);
}

impl Worker {
    /// Notes that the running task is about to park behind others, for reports.
    pub(super) fn hold_up(&self, task: &Header, what: WaitsFor, behind: Behind) -> HoldUp {
        let is_itself = match behind {
            Behind::One(who) => who == Identity(NonNull::from(task).addr()),
            Behind::All(group) => task.group() == Some(group),
        };
        let hold_up = HoldUp(1 + u32::from(is_itself));
        let held_up = &self.remote().held_up;
        // Relaxed, both: one writer; for readers see the Release below.
        held_up.store(held_up.load(Relaxed) + hold_up.0, Relaxed);
        let hold_ups = &self.remote().hold_ups;
        // Relaxed: one writer.
        let number = hold_ups.load(Relaxed).wrapping_add(1);
        // Release: who has seen the number sees the task counted, or gone on. Pairs with the Acquire in `Monitor::see_to_held_up`, a hint
        // otherwise: the monitor has a fence before it relies on it.
        hold_ups.store(number, Release);
        task.status.waits_behind(what, self.tick.get());
        task.set_behind((number as usize) << NUMBER_SHIFT | behind.to_word());
        // Fence A. Pairs with fence E in `Watch::doze`: either we see that the monitor dozes and expects nobody, or it sees us.
        light_fence();
        if self.shared.watch.call_to_expect() == Call::Wake {
            sys::futex_wake(self.shared.watch.word());
        }
        hold_up
    }

    /// The task has gone on.
    pub(super) fn let_go(&self, hold_up: HoldUp) {
        let held_up = &self.remote().held_up;
        // Relaxed, both: one writer, and a hint to others: who counts the task still looks in vain.
        held_up.store(held_up.load(Relaxed) - hold_up.0, Relaxed);
    }
}

impl Shared {
    /// How many tasks are parked behind others, each that is behind itself counted twice: with fewer than two there is no set of tasks of
    /// which each is behind one of the set.
    pub(crate) fn held_up(&self) -> u32 {
        // Relaxed: see `hold_up`.
        let counts = self.seated().iter().map(|r| r.0.held_up.load(Relaxed));
        counts.sum()
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "looks into the running task's cell")]
mod tests {
    use super::super::current::on_task;
    use super::super::park::Waiter;
    use super::super::shared::current_runtime;
    use super::*;

    #[test]
    fn tasks_are_counted_while_they_wait_behind_others_and_twice_behind_themselves() {
        let runtime = crate::Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let shared = current_runtime().unwrap();
            let counted = || shared.held_up();
            assert_eq!(counted(), 0);
            crate::scope(|s| {
                // Begins when the caller waits for it.
                s.go(|| {
                    assert_eq!(counted(), 1);
                    Ok(())
                });
            })
            .unwrap();
            assert_eq!(counted(), 0);
            let (worker, task) = on_task().unwrap();
            // SAFETY: the running task.
            let task = unsafe { task.as_ref() };
            let own = Behind::One(Waiter::own_identity());
            let hold_up = worker.hold_up(task, WaitsFor::Mutex, own);
            assert_eq!(counted(), 2);
            worker.let_go(hold_up);
            task.status.runs(worker.tick.get());
            assert_eq!(counted(), 0);
        });
    }

    #[test]
    fn word_keeps_whom_a_task_is_behind() {
        let task = Behind::One(Identity(NonZero::new(0x7f00_1240).unwrap()));
        let group = Behind::All(GroupNumber(NonZero::new(u32::MAX >> 1).unwrap()));
        for behind in [task, group, Behind::All(GroupNumber::next())] {
            assert_eq!(Behind::from_word(behind.to_word()), Some(behind));
        }
        assert_eq!(Behind::from_word(0), None);
        assert_ne!(GroupNumber::next(), GroupNumber::next());
    }
}
