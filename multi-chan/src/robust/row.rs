//! One row of the roll: whose it is, and the word that its process holds for life.

use crate::sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release};
use crate::sys::{self, Robust};
use crate::wait::ALL;
use std::cell::RefCell;
use std::io;

/// A process on the roll; no two processes of a tree ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u64);

impl Process {
    pub(super) fn new(number: u32, index: usize) -> Process {
        Process(u64::from(number) << 32 | index as u64)
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Process> {
        (bits >> 32 != 0).then_some(Process(bits))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The unique half.
    pub(crate) fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn index(self) -> usize {
        self.0 as u32 as usize
    }
}

/// The number of a process, when it began, what it is doing, and whether a lock tells if it is still to begin (`cradle.rs`).
///
/// | state    | meaning                                                               | left by           |
/// | -------- | --------------------------------------------------------------------- | ----------------- |
/// | (zero)   | never used                                                            | who claims it     |
/// | STARTING | claimed for a process that has not taken its word yet                 | that process      |
/// | ALIVE    | the process has taken its word at least once                          | who finds it dead |
/// | DEAD     | found dead; the row may be claimed again                              | who claims it     |
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) number: u32,
    pub(super) began_ms: u32,
    pub(super) is_leased: bool,
    pub(super) state: u32,
}

pub(super) const STARTING: u32 = 1;
pub(super) const ALIVE: u32 = 2;
pub(super) const DEAD: u32 = 3;
const LEASED: u32 = 4;
pub(super) const MS_MASK: u32 = u32::MAX >> 3;

impl Claim {
    pub(super) fn read(bits: u64) -> Claim {
        Claim {
            number: (bits >> 32) as u32,
            began_ms: bits as u32 >> 3,
            is_leased: bits as u32 & LEASED != 0,
            state: bits as u32 & 3,
        }
    }

    pub(super) fn bits(self) -> u64 {
        let lease = if self.is_leased { LEASED } else { 0 };
        u64::from(self.number) << 32 | u64::from(self.began_ms << 3 | lease | self.state)
    }

    pub(super) fn with(self, state: u32) -> Claim {
        Claim { state, ..self }
    }
}

#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Row {
    pub(super) word: Robust,
    pub(super) claim: AtomicU64,
    pub(super) pid: AtomicU32,
    /// | value | meaning                                                              | left by                |
    /// | ----- | -------------------------------------------------------------------- | ---------------------- |
    /// |   0   | a mark on the word means that the process has ended, or is about to  | a holding thread's end |
    /// |   1   | the holding thread ended by itself, or is about to: a mark says no more than that | who holds the word next |
    pub(super) vacated: AtomicU32,
    pub(super) identity: AtomicU64,
}

const _: () = assert!(size_of::<Row>() == 64 && size_of::<Robust>() == 40);

thread_local! {
    /// The rows whose words this thread holds, one per roll at most.
    static HELD: Held = const { Held(RefCell::new(Vec::new())) };
}

pub(super) struct Held(RefCell<Vec<&'static Row>>);

impl Held {
    pub(super) fn add(row: &'static Row) {
        HELD.try_with(|held| held.0.borrow_mut().push(row)).ok();
    }
}

/// In a forked child: what its parent's thread held is none of its business.
pub(crate) fn forget_held() {
    HELD.try_with(|held| held.0.borrow_mut().clear()).ok();
}

impl Drop for Held {
    fn drop(&mut self) {
        // The first thread's end is the process's, or close to it.
        if sys::thread_id() != sys::process_id() {
            for row in self.0.take() {
                // Release: comes before the kernel's mark. Pairs with the Acquire loads of the word by who reads this.
                row.vacated.store(1, Release);
            }
        }
    }
}

impl Row {
    /// Takes the word for the calling thread if no living thread holds it.
    pub(super) fn hold(&self) -> io::Result<()> {
        self.word.hold()?;
        // Relaxed: the bit is for the kernel, which has locks of its own. From here on it tells of this
        // thread's end whoever sleeps on the word, since when ever.
        self.word.word().fetch_or(sys::WAITERS, Relaxed);
        // Relaxed: read beside a mark, of which there is none while we live.
        self.vacated.store(0, Relaxed);
        Ok(())
    }

    /// Passes on what the word tells, to all who sleep on it; true if there was something.
    ///
    /// The kernel woke one sleeper. Who finds this undone does it, and only when all are awake takes the bit away: so nobody
    /// is left out if that one is killed.
    pub(super) fn notice(&self) -> bool {
        let word = self.word.word();
        // Acquire: what the process wrote before the kernel's mark is seen.
        let now = word.load(Acquire);
        if now & sys::OWNER_DIED == 0 || now & sys::WAITERS == 0 {
            return false;
        }
        sys::futex_wake(word, ALL);
        // Relaxed: the bit alone matters. Relaxed on failure: somebody else did it, or holds the word.
        word.compare_exchange(now, now & !sys::WAITERS, Relaxed, Relaxed)
            .ok();
        true
    }

    /// True if `word`, which was read from this row, tells that the process has ended or is about to, and not just a thread
    /// of it.
    pub(super) fn is_dying(&self, word: u32) -> bool {
        // Relaxed: the word was acquired, and this was written before its mark.
        word & sys::OWNER_DIED != 0 && self.vacated.load(Relaxed) == 0
    }
}
