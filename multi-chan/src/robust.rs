//! The roll: which processes are alive, as kept by the kernel.
//!
//! One mapping per tree of forked processes, made with the first channel, shared by all its channels and
//! never unmapped; and one in a file for channels that are passed on to programs of another tree (`pass.rs`). A process that uses channels has one row:
//!
//! ```text
//! byte  0  a robust mutex: its word names the thread that holds it for life
//!      40  claim: number of the process | when it began, in ms | state
//!      48  pid
//!      52  vacated: the holding thread ended before its process, and not everybody knows
//!      56  identity: the inode of its pidfd, which no other process ever gets
//! ```
//!
//! When the holding thread ends, however it ends, the kernel marks the word and wakes a sleeper on
//! it, who wakes the rest (`notice`). If that thread was not the process's last, its row is checked by
//! pidfd until another thread of the process takes the word over; a mark alone is never believed without
//! that check.
//!
//! Sleepers sleep on the words of the first `range` rows, used or not, so a process that enters a row
//! there is watched from its first moment by who sleeps already. `README.md` has the proof.

#![expect(unsafe_code, reason = "the roll is one shared mapping of rows")]

use crate::layout::ROWS;
use crate::sync::{AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release};
use crate::sys::{self, Robust, WaitWord, WaitWords};
use crate::vigil::Watchers;
use crate::wait::ALL;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::time::Duration;

/// Processes on the roll at one time: as many as Linux has by default (`pid_max`).
const ROLL_LEN: usize = 32_768;

/// Rows that one thread can sleep on beside a few other words (`sys::WAIT_WORDS_MAX` is 128).
pub(crate) const BLOCK: usize = 120;

/// How long a forked child may take to its first instruction before it counts as dead.
///
/// Only matters for a child killed, or a fork refused, in the moment between the fork and the
/// child's first step; a child stopped for longer just there is entered again at its first use.
const BIRTH_MS: u64 = 2_000;

/// How long a process whose word is marked may take to finish dying before it counts as alive: the
/// kernel marks the word a few microseconds before it reports the end.
const DYING: Duration = Duration::from_millis(20);

/// A process on the roll; no two processes of a tree ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u64);

impl Process {
    fn new(number: u32, index: usize) -> Process {
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

    fn index(self) -> usize {
        self.0 as u32 as usize
    }
}

/// The number of a process, when it began, and what it is doing.
///
/// | state    | meaning                                                               | left by           |
/// | -------- | --------------------------------------------------------------------- | ----------------- |
/// | (zero)   | never used                                                            | who claims it     |
/// | STARTING | claimed for a process that has not taken its word yet                 | that process      |
/// | ALIVE    | the process has taken its word at least once                          | who finds it dead |
/// | DEAD     | found dead; the row may be claimed again                              | who claims it     |
#[derive(Clone, Copy)]
struct Claim {
    number: u32,
    began_ms: u32,
    state: u32,
}

const STARTING: u32 = 1;
const ALIVE: u32 = 2;
const DEAD: u32 = 3;
const MS_MASK: u32 = u32::MAX >> 2;

impl Claim {
    fn read(bits: u64) -> Claim {
        Claim {
            number: (bits >> 32) as u32,
            began_ms: bits as u32 >> 2,
            state: bits as u32 & 3,
        }
    }

    fn bits(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.began_ms << 2 | self.state)
    }

    fn with(self, state: u32) -> Claim {
        Claim { state, ..self }
    }
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Row {
    word: Robust,
    claim: AtomicU64,
    pid: AtomicU32,
    /// | value | meaning                                                      | left by                  |
    /// | ----- | ------------------------------------------------------------ | ------------------------ |
    /// |   0   | nothing to tell                                              | a holding thread's end   |
    /// |   1   | the word was given back by a thread that ended, or is about to be | who told all sleepers, or holds it again |
    vacated: AtomicU32,
    identity: AtomicU64,
}

const _: () = assert!(size_of::<Row>() == 64 && size_of::<Robust>() == 40);
pub(crate) const ROLL_BYTES: usize = size_of::<Head>() + ROLL_LEN * size_of::<Row>();
// A channel's table must not outgrow the roll.
const _: () = assert!(ROWS <= ROLL_LEN);

/// How a sleeper hears of a process's death.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// By its word.
    Word,
    /// By asking now and then: no living thread holds the word.
    Poll,
    /// By asking after this long: it has not begun, and then it never will.
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

/// What everybody on the roll shares.
#[derive(Debug)]
#[repr(C, align(64))]
struct Head {
    /// The last number given out.
    numbers: AtomicU32,
    /// Rows from the first on that sleepers sleep on; only grows. Sleepers sleep on this word, too.
    range: AtomicU32,
    /// The range that all sleepers have been told of; only grows, and is never above `range`.
    told: AtomicU32,
}

/// The range that covers `rows` rows: it seldom grows, since all sleepers are woken then.
fn range_for(rows: usize) -> usize {
    const DIRECT: usize = BLOCK / 2;
    match rows {
        0..=DIRECT => rows.next_power_of_two().max(4),
        _ => (rows.div_ceil(BLOCK).next_power_of_two() * BLOCK).min(ROLL_LEN),
    }
}

/// The tree's table of processes, as mapped in this one.
#[derive(Debug)]
pub(crate) struct Roll {
    rows: &'static [Row],
    head: &'static Head,
    /// The process whose threads the C library knows by their right numbers. Private memory: in a
    /// child made by a bare `clone` it still names the parent.
    library_pid: AtomicU32,
    watchers: Watchers,
}

thread_local! {
    /// The rows whose words this thread holds, one per roll at most.
    static HELD: Held = const { Held(RefCell::new(Vec::new())) };
}

struct Held(RefCell<Vec<&'static Row>>);

impl Held {
    fn add(row: &'static Row) {
        HELD.try_with(|held| held.0.borrow_mut().push(row)).ok();
    }
}

/// In a forked child: what its parent's thread held is none of its business.
pub(crate) fn forget_held() {
    HELD.try_with(|held| held.0.borrow_mut().clear()).ok();
}

impl Drop for Held {
    fn drop(&mut self) {
        // The first thread's end is the process's, or close to it: there the kernel's mark is wanted.
        if sys::thread_id() != sys::process_id() {
            for row in self.0.take() {
                row.give_back();
            }
        }
    }
}

impl Row {
    /// Takes the word for the calling thread if no living thread holds it.
    fn hold(&self) -> io::Result<()> {
        self.word.hold()?;
        // Relaxed: the bit is for the kernel, which has locks of its own. From here on it tells of this
        // thread's end whoever sleeps on the word, since when ever.
        self.word.word().fetch_or(sys::WAITERS, Relaxed);
        // Relaxed: a wake too many at worst.
        self.vacated.store(0, Relaxed);
        Ok(())
    }

    /// Lets go of the word in a thread that ends, and has everybody ask after the process from here on.
    fn give_back(&self) {
        // Release: seen by who finds the word vacant. Pairs with the Acquire in `notice`.
        self.vacated.store(1, Release);
        // A forked child's copy of another process's row: refused, as it should be.
        if self.word.release().is_ok() {
            self.notice();
        }
    }

    /// Passes on what the word tells, to all who sleep on it; true if there was something.
    ///
    /// The kernel (or the thread that gave the word back) woke one sleeper. Who finds this undone does it,
    /// and only when all are awake takes the mark away: so nobody is left out if that one is killed.
    fn notice(&self) -> bool {
        let word = self.word.word();
        // Acquire: pairs with the Release in `give_back`; and what the process wrote before it ended is seen.
        let now = word.load(Acquire);
        if now & sys::OWNER_DIED != 0 && now & sys::WAITERS != 0 {
            sys::futex_wake(word, ALL);
            // Relaxed: the bit alone matters. Relaxed on failure: somebody else did it, or holds the word.
            word.compare_exchange(now, now & !sys::WAITERS, Relaxed, Relaxed)
                .ok();
            return true;
        }
        // Relaxed: ordered by the load above.
        if now & sys::TID == 0 && self.vacated.load(Relaxed) != 0 {
            sys::futex_wake(word, ALL);
            // Relaxed: as above.
            self.vacated.store(0, Relaxed);
            return true;
        }
        false
    }
}

impl Roll {
    /// Makes the roll of a tree that has none yet.
    pub(crate) fn new() -> io::Result<Roll> {
        let base = sys::map_shared(ROLL_BYTES)?;
        // SAFETY: just mapped, and nobody unmaps it.
        Ok(unsafe { Roll::at(base) })
    }

    /// The roll in a file in memory whose size is sealed; it has at least `ROLL_BYTES`.
    pub(crate) fn in_file(file: BorrowedFd<'_>) -> io::Result<Roll> {
        let base = sys::map_file(file, ROLL_BYTES)?;
        // SAFETY: as above; and the file keeps its size.
        Ok(unsafe { Roll::at(base) })
    }

    /// The roll in memory.
    ///
    /// # Safety
    /// - `base` points to `ROLL_BYTES` bytes of shared memory, page aligned, used as a roll only.
    /// - they are never unmapped.
    unsafe fn at(base: NonNull<u8>) -> Roll {
        let head_bytes = size_of::<Head>();
        // SAFETY: inside the mapping.
        let rows = unsafe { base.add(head_bytes) }.cast::<Row>();
        // SAFETY: the mapping is never unmapped, is zeroed, and zero bytes are valid rows: the
        // mutex is not used before `init`.
        let rows = unsafe { slice::from_raw_parts(rows.as_ptr(), ROLL_LEN) };
        // SAFETY: as above; zero bytes are valid atomics.
        let head = unsafe { NonNull::<Head>::as_ref(&base.cast()) };
        Roll {
            rows,
            head,
            library_pid: AtomicU32::from(sys::process_id()),
            watchers: Watchers::default(),
        }
    }

    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Called in a child that the C library forked.
    pub(crate) fn forked(&self) {
        // Relaxed: read by this process only, which has one thread now.
        self.library_pid.store(sys::process_id(), Relaxed);
    }

    /// Whether threads of this process may hold mutexes. In a child made by a bare `clone` they may
    /// not: the C library takes them for the parent's, and its list of robust mutexes there leads into
    /// the parent's rows. Such a process is asked after by pidfd.
    pub(crate) fn may_hold(&self) -> bool {
        // Relaxed: written by this process only, when it began.
        self.library_pid.load(Relaxed) == sys::process_id()
    }

    /// Takes a row for a process that is about to begin.
    pub(crate) fn claim(&self) -> io::Result<Process> {
        for (index, row) in self.rows.iter().enumerate() {
            // Acquire: pairs with the Release that marked the row dead.
            let old = row.claim.load(Acquire);
            if let Some(process) =
                Process::from_bits(Process::new(Claim::read(old).number, index).0)
                && self.is_alive(process)
            {
                continue;
            }
            // Acquire: as above; `is_alive` has changed the state. A row that is STARTING now has
            // just been claimed by somebody else.
            let old = row.claim.load(Acquire);
            if old != 0 && Claim::read(old).state != DEAD {
                continue;
            }
            // Relaxed: only uniqueness matters. Zero is no number: after 4 billion processes, one is
            // left out.
            let number = match self.head.numbers.fetch_add(1, Relaxed).wrapping_add(1) {
                0 => continue,
                number => number,
            };
            let claim = Claim {
                number,
                began_ms: now_ms(),
                state: STARTING,
            };
            // AcqRel: the row is ours from here on. Acquire side: the load above.
            // Relaxed on failure: somebody else has it.
            if row
                .claim
                .compare_exchange(old, claim.bits(), AcqRel, Relaxed)
                .is_err()
            {
                continue;
            }
            // Whoever sleeps on the word goes on sleeping: it tells of the new process's end as well.
            row.word.init()?;
            // Relaxed: nothing is to be told of a new process.
            row.vacated.store(0, Relaxed);
            self.widen(index);
            return Ok(Process::new(number, index));
        }
        Err(io::Error::other("more than 32768 processes use channels"))
    }

    /// Sees to it that everybody who sleeps watches the row `index`, which is about to be used.
    fn widen(&self, index: usize) {
        // Acquire: pairs with the Release below: who said so has woken the sleepers.
        if index < self.head.told.load(Acquire) as usize {
            return;
        }
        let range = range_for(index + 1) as u32;
        // AcqRel: the claim of the row comes before. Pairs with the Acquire in `range`.
        self.head.range.fetch_max(range, AcqRel);
        sys::futex_wake(&self.head.range, ALL);
        // Release: after the wake. A claimer killed before this leaves it to the next one.
        self.head.told.fetch_max(range, Release);
    }

    /// How many rows a sleeper watches, and the word that changes when they become more.
    pub(crate) fn range(&self) -> (usize, WaitWord) {
        // Acquire: pairs with the AcqRel in `widen`.
        let range = self.head.range.load(Acquire);
        let word = WaitWord::new(&self.head.range, range);
        ((range as usize).min(ROLL_LEN), word)
    }

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
            if word & sys::OWNER_DIED != 0 {
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

    /// A process that was to begin will not.
    pub(crate) fn never_began(&self, process: Process) {
        let row = self.row(process);
        // Acquire: as in `begin`.
        let claim = Claim::read(row.claim.load(Acquire));
        if claim.number == process.number() && claim.state == STARTING {
            let dead = claim.with(DEAD).bits();
            // Release: pairs with the Acquire loads in `claim`. Relaxed on failure: it began, or was found late.
            row.claim
                .compare_exchange(claim.bits(), dead, Release, Relaxed)
                .ok();
        }
    }

    /// Makes the calling process the one that the row was claimed for; false if it took too long
    /// and the row has gone to somebody else.
    pub(crate) fn begin(&self, process: Process) -> io::Result<bool> {
        let row = self.row(process);
        // Acquire: pairs with the AcqRel in `claim`, made by the parent.
        let claim = Claim::read(row.claim.load(Acquire));
        if claim.number != process.number() || claim.state != STARTING {
            return Ok(false);
        }
        let pid = sys::process_id();
        // Without an identity (no descriptor to be had) the pid alone must do.
        let identity = sys::pidfd_open(pid).and_then(|pidfd| sys::pidfd_inode(&pidfd));
        // Relaxed: published by the exchange below.
        row.pid.store(pid, Relaxed);
        // Relaxed: as above.
        row.identity.store(identity.unwrap_or(0), Relaxed);
        if self.may_hold() {
            row.hold()?;
        }
        let alive = claim.with(ALIVE);
        // Release: publishes pid, identity and the held word. Pairs with the Acquire in `is_alive`.
        // Relaxed on failure: the row is lost, nothing is read from it.
        let begun = row
            .claim
            .compare_exchange(claim.bits(), alive.bits(), Release, Relaxed)
            .is_ok();
        if begun {
            if self.may_hold() {
                Held::add(row);
            }
        } else if self.may_hold() {
            drop(row.word.release());
        }
        Ok(begun)
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
                let age_ms = now_ms().wrapping_sub(claim.began_ms) & MS_MASK;
                if u64::from(age_ms) < BIRTH_MS {
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
                let marked = word & sys::OWNER_DIED != 0;
                let patience = if marked { DYING } else { Duration::ZERO };
                (word & sys::TID != 0 && !marked) || !self.bury(row, claim, word, patience)
            }
            _ => false,
        }
    }

    /// How to hear of the process's death.
    pub(crate) fn watch(&self, process: Process) -> Watch {
        if !self.is_alive(process) {
            return Watch::Dead;
        }
        let row = self.row(process);
        // Acquire: pairs with the Release in `begin`.
        let claim = Claim::read(row.claim.load(Acquire));
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
            Err(error) => sys::is_no_process(&error) || word & sys::OWNER_DIED != 0,
        };
        if ended {
            // Release: pairs with the Acquire loads in `claim`.
            // Relaxed on failure: somebody else marked it.
            let dead = claim.with(DEAD).bits();
            let marked = row
                .claim
                .compare_exchange(claim.bits(), dead, Release, Relaxed);
            // Whoever sleeps on the word was told already, if it was marked; if it was vacant, they ask.
            if marked.is_ok() && word & sys::OWNER_DIED == 0 {
                sys::futex_wake(row.word.word(), ALL);
            }
        }
        ended
    }

    /// Where it begins, and its bytes.
    #[cfg(feature = "kill-points")]
    pub(crate) fn extent(&self) -> (NonNull<u8>, usize) {
        (NonNull::from(self.head).cast(), ROLL_BYTES)
    }

    /// Puts what is not as it was at first into words.
    #[cfg(feature = "kill-points")]
    pub(crate) fn tell(&self, text: &mut impl std::fmt::Write) -> std::fmt::Result {
        writeln!(text, "roll: {:?}", self.head)?;
        for (index, row) in self.rows.iter().enumerate() {
            // Acquire: as in `is_alive`.
            let bits = row.claim.load(Acquire);
            if bits == 0 {
                // Rows are taken lowest first.
                break;
            }
            // Acquire: as in `lives`.
            let word = row.word.word().load(Acquire);
            let Claim { number, state, .. } = Claim::read(bits);
            writeln!(
                text,
                "  {index}: number {number} state {state} word {word:#x} {:?} vacated {:?}",
                row.pid, row.vacated
            )?;
        }
        Ok(())
    }

    fn row(&self, process: Process) -> &'static Row {
        &self.rows[process.index()]
    }
}

fn now_ms() -> u32 {
    sys::monotonic().as_millis() as u32 & MS_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    impl Roll {
        fn bury_for_test(&self, process: Process) {
            let row = self.row(process);
            // Relaxed: tests join their threads.
            let claim = Claim::read(row.claim.load(Relaxed));
            // Relaxed: as above.
            row.claim.store(claim.with(DEAD).bits(), Relaxed);
        }
    }

    #[test]
    fn a_straggler_finds_its_row_gone() {
        let roll = Roll::new().unwrap();
        let late = roll.claim().unwrap();
        assert!(roll.is_alive(late));
        thread::sleep(Duration::from_millis(BIRTH_MS + 50));
        assert!(!roll.is_alive(late));
        assert!(!roll.begin(late).unwrap(), "found dead, then began");
        assert!(!roll.is_alive(late));
        assert_ne!(roll.claim().unwrap(), late);
    }

    #[test]
    fn a_process_beyond_the_roll_is_none() {
        let roll = Roll::new().unwrap();
        let beyond = Process::from_bits(u64::MAX).unwrap();
        assert!(!roll.is_alive(beyond));
        assert_eq!(roll.watch(beyond), Watch::Dead);
        assert!(roll.pidfd(beyond).unwrap().is_none());
    }

    #[test]
    fn no_two_processes_get_one_row() {
        const CLAIMS: usize = 4;
        let roll = Roll::new().unwrap();
        let barrier = Barrier::new(CLAIMS);
        for _ in 0..2_000 {
            let claimed: Vec<Process> = thread::scope(|scope| {
                let claims = [(); CLAIMS].map(|()| {
                    scope.spawn(|| {
                        barrier.wait();
                        roll.claim().unwrap()
                    })
                });
                claims
                    .into_iter()
                    .map(|claim| claim.join().unwrap())
                    .collect()
            });
            for process in claimed {
                assert!(roll.is_alive(process), "its row went to another");
                roll.bury_for_test(process);
            }
        }
    }
}
