//! Who on the roll lives, and how a sleeper hears of a death.

use super::row::Held;
use super::row::{ALIVE, Claim, DEAD, MS_MASK, Row, STARTING};
use super::{BIRTH_MS, Process, ROLL_LEN, Roll, now_ms};
use crate::sync::{Acquire, Relaxed, Release};
use crate::sys::{self, WaitWords};
use crate::wait::ALL;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long a process whose word is marked may take to finish dying before it counts as alive: the
/// kernel marks the word a few microseconds before it reports the end.
const DYING: Duration = Duration::from_millis(20);

/// How a sleeper hears of a process's death.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// By its word.
    Word,
    /// By asking now and then: no living thread holds the word, or it has not begun and its lock tells.
    Poll,
    /// By asking after this long: it has not begun, no lock tells, and then it never will.
    Birth(Duration),
    /// It is dead already.
    Dead,
}

/// What the words of some rows tell to who is about to sleep on them.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "who sleeps without looking round misses a death"]
pub(crate) struct Marks {
    /// There was something new, which has been passed on: the caller has to look round.
    pub(crate) told: bool,
    /// A process is marked and has threads left. They may be given wakes and die before they pass them on, so the
    /// caller looks again soon, until it has ended.
    pub(crate) dying: bool,
}

impl Roll {
    /// Adds the words of the rows `rows`, to sleep on, and says what they tell.
    ///
    /// Not the word of `me`, the calling process: its threads would be woken by its death, and die with it.
    pub(crate) fn lives(&self, rows: Range<usize>, me: Process, words: &mut WaitWords) -> Marks {
        let mut marks = Marks::default();
        for index in rows.start.min(ROLL_LEN)..rows.end.min(ROLL_LEN) {
            if index == me.index() {
                continue;
            }
            let row = &self.rows[index];
            marks.told |= row.notice();
            // Acquire: what was there before the word became what we sleep on is seen.
            let word = row.word.word().load(Acquire);
            words.push(row.word.word(), word);
            if row.is_dying(word) {
                // Acquire: pairs with the Release in `begin`.
                let claim = Claim::read(row.claim.load(Acquire));
                marks.dying |= claim.state == ALIVE && !self.bury(row, claim, word, Duration::ZERO);
            }
        }
        marks
    }

    /// Passes on what any word tells.
    pub(crate) fn pass_on(&self) {
        for row in &self.rows[..self.range().0] {
            row.notice();
        }
    }

    /// Takes the calling process's word over if the thread that held it has ended.
    pub(crate) fn keep_held(&self, process: Process) {
        let row = self.row(process);
        // Relaxed: a hint; `hold` decides.
        let word = row.word.word().load(Relaxed);
        let vacant = word & sys::TID == 0 || word & sys::OWNER_DIED != 0;
        if vacant && self.may_hold() && row.hold().is_ok() {
            Held::add(row);
        }
    }

    /// Whether the process still lives; never true for a process that has been found dead.
    ///
    /// Costs two loads for a live process whose word is held; else system calls.
    pub(crate) fn is_alive(&self, process: Process) -> bool {
        let Some(row) = self.rows.get(process.index()) else {
            return false;
        };
        // Acquire: pairs with the Release in `begin`.
        let claim = Claim::read(row.claim.load(Acquire));
        if claim.number != process.number() {
            return false;
        }
        match claim.state {
            STARTING => {
                if self.may_begin(process.index(), claim) {
                    return true;
                }
                // From here on it is too late to begin: a straggler must not take up rows in
                // channels that survivors are about to free.
                // Release: pairs with the Acquire loads in `claim`.
                // Relaxed on failure: it began just now, or somebody else was faster: look again.
                let dead = claim.with(DEAD).bits();
                row.claim
                    .compare_exchange(claim.bits(), dead, Release, Relaxed)
                    .is_err()
                    && self.is_alive(process)
            }
            ALIVE => {
                // Acquire: what the process wrote before the kernel marked its word is seen.
                let word = row.word.word().load(Acquire);
                let held = word & sys::TID != 0 && word & sys::OWNER_DIED == 0;
                let patience = if row.is_dying(word) {
                    DYING
                } else {
                    Duration::ZERO
                };
                held || !self.bury(row, claim, word, patience)
            }
            _ => false,
        }
    }

    /// True if a process that has not begun may still do so: for as long as it lives, if its lock tells, else for two seconds.
    fn may_begin(&self, index: usize, claim: Claim) -> bool {
        let leased = claim
            .is_leased
            .then(|| self.cradle.as_ref()?.is_leased(index));
        leased.flatten().unwrap_or_else(|| {
            let age_ms = now_ms().wrapping_sub(claim.began_ms) & MS_MASK;
            u64::from(age_ms) < BIRTH_MS
        })
    }

    /// How to hear of the process's death.
    pub(crate) fn watch(&self, process: Process) -> Watch {
        if !self.is_alive(process) {
            return Watch::Dead;
        }
        let row = self.row(process);
        // Acquire: pairs with the Release in `begin`.
        let claim = Claim::read(row.claim.load(Acquire));
        if claim.number == process.number() && claim.state == STARTING && claim.is_leased {
            return Watch::Poll;
        }
        if claim.number == process.number() && claim.state == STARTING {
            let age_ms = u64::from(now_ms().wrapping_sub(claim.began_ms) & MS_MASK);
            return Watch::Birth(Duration::from_millis(
                BIRTH_MS.saturating_sub(age_ms).max(1),
            ));
        }
        // Acquire: as in `is_alive`.
        let word = row.word.word().load(Acquire);
        let held = word & sys::TID != 0 && word & sys::OWNER_DIED == 0;
        // Without WAITERS the kernel tells nobody: the holder is about to set it.
        if held && word & sys::WAITERS != 0 {
            Watch::Word
        } else {
            Watch::Poll
        }
    }

    /// A descriptor that becomes readable when the process ends; `None` if it has ended, or has not begun.
    pub(crate) fn pidfd(&self, process: Process) -> io::Result<Option<OwnedFd>> {
        let Some(row) = self.rows.get(process.index()) else {
            return Ok(None);
        };
        // Acquire: pairs with the Release in `begin`.
        let claim = Claim::read(row.claim.load(Acquire));
        if claim.number != process.number() || claim.state != ALIVE {
            return Ok(None);
        }
        // Relaxed: published by the claim.
        let (pid, identity) = (row.pid.load(Relaxed), row.identity.load(Relaxed));
        let pidfd = match sys::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if sys::is_no_process(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let same = identity == 0 || sys::pidfd_inode(&pidfd)? == identity;
        // Acquire: the row is still this process's, so the pid was.
        let still = Claim::read(row.claim.load(Acquire)).number == process.number();
        Ok((same && still).then_some(pidfd))
    }

    /// Asks the kernel whether a process without a held word has ended, and if so marks its row.
    #[cold]
    fn bury(&self, row: &Row, claim: Claim, word: u32, patience: Duration) -> bool {
        // Relaxed: published before the ALIVE that the caller has acquired.
        let pid = row.pid.load(Relaxed);
        // Relaxed: as above.
        let identity = row.identity.load(Relaxed);
        let ended = match sys::pidfd_open(pid) {
            Ok(pidfd) => {
                let reused =
                    identity != 0 && sys::pidfd_inode(&pidfd).is_ok_and(|inode| inode != identity);
                reused || sys::pidfd_ended(&pidfd, patience)
            }
            // Out of descriptors: believe the kernel's mark, and nothing else.
            Err(error) => sys::is_no_process(&error) || row.is_dying(word),
        };
        if ended {
            // Release: pairs with the Acquire loads in `claim`.
            // Relaxed on failure: somebody else marked it.
            let dead = claim.with(DEAD).bits();
            let marked = row
                .claim
                .compare_exchange(claim.bits(), dead, Release, Relaxed);
            // Whoever sleeps on the word was told already, if the mark was of this end; if not, they ask.
            if marked.is_ok() && !row.is_dying(word) {
                sys::futex_wake(row.word.word(), ALL);
            }
        }
        ended
    }
}
