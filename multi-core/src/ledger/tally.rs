//! How many tasks have ended, counted without a lock and without a cache line that every thread writes.
//!
//! Each thread counts on one of a few lines, and takes from the *credit* there: how many ends it may count by itself. Where there is no
//! credit, the end is counted under the books' lock ([`Shared::settle`]), and that is where credit is given. So whoever holds the
//! lock decides who comes by:
//!
//! - While nobody waits, credit is as good as endless, and ends cost one exchange each on a line that is mostly the thread's own.
//! - Who starts to wait takes all credit back. From then on the credit given out is always less than the tasks left, so that **the last
//!   end finds none**, comes to the lock, and wakes who waits. A line gets half of what is left each time: a thousand tasks come
//!   to the lock some ten times a thread.
//!
//! **Proof** that the last end is seen. Credit is taken back by an exchange with zero and used by an exchange with one less, on the same
//! word: each end is counted on one side of the taking back, never on both, never on neither. Under the lock, with `left` the tasks
//! that are not known to have ended and `given` the credit handed out since the last collection, `given < left` is kept by whoever
//! changes either. An end that uses credit lowers both sides by one. So when one task is left, no credit is.

use super::Shared;
use super::roster::Roster;
use crate::lock::lock;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

/// Lines that ends are counted on: threads beyond so many share them.
pub(super) const LINE_COUNT: usize = 8;
/// Credit while nobody waits.
const ENDLESS: u64 = 1 << 62;

/// What a task's ticket knows of the books: where it is counted and where it sits.
///
/// These are never freed, only used again by a later group, so that a ticket needs no count of references, which each start and each end
/// would write. As many exist as there ever were groups at a time.
pub(super) struct Tally {
    lines: [Line; LINE_COUNT],
    pub(super) roster: Roster,
    /// The group that uses it: alive while it has tasks.
    owner: Mutex<Weak<Shared>>,
}

/// On two cache lines of its own, since processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line {
    credit: AtomicU64,
}

/// The side of the count that lies under the books' lock.
#[derive(Default)]
pub(super) struct Count {
    /// Ends counted here.
    ended: u64,
    /// Credit given to each line since its ends were last added to `ended`.
    given: [u64; LINE_COUNT],
    /// Somebody is to be told of the last end.
    is_awaited: bool,
}

static FREE: Mutex<Vec<&'static Tally>> = Mutex::new(Vec::new());

thread_local! {
    static LINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The line this thread counts on.
fn line_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // A thread that is being torn down counts on the first line.
    LINE.try_with(|line| {
        if line.get() == usize::MAX {
            // Relaxed: only spreads the threads.
            line.set(NEXT.fetch_add(1, Ordering::Relaxed) % LINE_COUNT);
        }
        line.get()
    })
    .unwrap_or(0)
}

/// The tallies that no group uses. None where the lock seems to be held for ever, as may be in a forked child: one tally more, or one
/// lost, is better than a hang.
fn free_tallies() -> Option<MutexGuard<'static, Vec<&'static Tally>>> {
    const TRIES: usize = 1_000;
    for _ in 0..TRIES {
        match FREE.try_lock() {
            Ok(free) => return Some(free),
            Err(TryLockError::Poisoned(free)) => return Some(free.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    None
}

impl Tally {
    /// One that no group uses.
    pub(super) fn take() -> &'static Self {
        let used = free_tallies().and_then(|mut free| free.pop());
        used.unwrap_or_else(|| {
            Box::leak(Box::new(Self {
                lines: Default::default(),
                roster: Roster::new(),
                owner: Mutex::new(Weak::new()),
            }))
        })
    }

    /// Leaves it to the next group. Every task has ended.
    pub(super) fn give_back(&'static self, count: &mut Count) {
        count.collect(self);
        *lock(&self.owner) = Weak::new();
        if let Some(mut free) = free_tallies() {
            free.push(self);
        }
    }

    pub(super) fn belongs_to(&self, owner: &Arc<Shared>) {
        *lock(&self.owner) = Arc::downgrade(owner);
    }

    /// The group's books. For who has a ticket of it that is not settled.
    pub(super) fn owner(&self) -> Arc<Shared> {
        let owner = lock(&self.owner).upgrade();
        owner.expect("the books of a group that has tasks are open")
    }

    /// Counts the end of a task, unless that takes the books' lock. After a count the caller's task may be the last, and the group
    /// gone: touch nothing of it.
    #[must_use]
    pub(super) fn count_end(&self) -> bool {
        let credit = &self.lines[line_index()].credit;
        // Relaxed: validated by the exchange.
        let mut now = credit.load(Ordering::Relaxed);
        while now > 0 {
            // Release: what the task did is done before it counts as ended. Pairs with the Acquire in `collect` and `ended`.
            // Relaxed on failure: we only try again.
            match credit.compare_exchange_weak(now, now - 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
        false
    }
}

impl Count {
    /// How many have ended, whether or not that is known here yet.
    pub(super) fn ended(&self, tally: &Tally) -> u64 {
        let on_lines = tally.lines.iter().zip(self.given).map(|(line, given)| {
            // Acquire: pairs with the Release in `count_end`.
            given - line.credit.load(Ordering::Acquire)
        });
        self.ended + on_lines.sum::<u64>()
    }

    /// Takes all credit back: from here on every end comes to the lock.
    fn collect(&mut self, tally: &Tally) {
        (0..LINE_COUNT).for_each(|line| self.collect_line(tally, line));
    }

    fn collect_line(&mut self, tally: &Tally, line: usize) {
        let given = std::mem::take(&mut self.given[line]);
        if given > 0 {
            // Acquire: pairs with the Release in `count_end`.
            let unused = tally.lines[line].credit.swap(0, Ordering::Acquire);
            self.ended += given - unused;
        }
    }

    /// Has the last end told, of `started` tasks; returns whether there is one to come.
    #[must_use]
    pub(super) fn expect_last(&mut self, tally: &Tally, started: u64) -> bool {
        if self.ended(tally) == started {
            return false;
        }
        self.collect(tally);
        self.is_awaited = self.ended < started;
        self.is_awaited
    }

    /// Counts an end here, of `started` tasks, and gives the calling thread's line credit for more. Returns whether it was the last and
    /// somebody is to be told.
    #[must_use]
    pub(super) fn end_here(&mut self, tally: &Tally, started: u64) -> bool {
        self.ended += 1;
        let own = line_index();
        if !self.is_awaited {
            if self.given[own] == 0 {
                self.give(tally, own, ENDLESS);
            }
            return false;
        }
        self.collect_line(tally, own);
        let mut given: u64 = self.given.iter().sum();
        if started - self.ended <= given + 1 {
            self.collect(tally);
            given = 0;
        }
        let left = started - self.ended;
        if left == 0 {
            self.is_awaited = false;
            return true;
        }
        self.give(tally, own, (left - 1 - given) / 2);
        false
    }

    /// Forgets all ends. No task is left.
    pub(super) fn start_over(&mut self, tally: &Tally) {
        self.collect(tally);
        debug_assert!(!self.is_awaited);
        self.ended = 0;
    }

    /// Counts an end here and gives no credit, so that every end comes to the lock: for a group with a limit.
    pub(super) fn end_exactly(&mut self) {
        self.ended += 1;
    }

    /// As if one that was started had not been: returns whether the last end has thereby come and is to be told.
    #[must_use]
    pub(super) fn withdrew(&mut self, tally: &Tally, started: u64) -> bool {
        if !self.is_awaited {
            return false;
        }
        // Less is left than was when credit was given.
        self.collect(tally);
        self.is_awaited = self.ended < started;
        !self.is_awaited
    }

    fn give(&mut self, tally: &Tally, line: usize, credit: u64) {
        if credit > 0 {
            self.given[line] += credit;
            // Relaxed: credit publishes nothing; the word's ends are acquired when they are collected.
            tally.lines[line]
                .credit
                .fetch_add(credit, Ordering::Relaxed);
        }
    }
}
