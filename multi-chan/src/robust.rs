//! The roll: which processes are alive, as kept by the kernel.
//!
//! One mapping per tree of forked processes, made with the first channel, shared by all its channels and
//! never unmapped; and one in a file for channels that are passed on to programs of another tree (`pass.rs`). A process that uses channels has one row:
//!
//! ```text
//! byte  0  a robust mutex: its word names the thread that holds it for life
//!      40  claim: number of the process | when it began, in ms | state
//!      48  pid
//!      52  vacated: the thread that held the word ended before its process
//!      56  identity: the inode of its pidfd, which no other process ever gets
//! ```
//!
//! When the holding thread ends, however it ends, the kernel marks the word and wakes a sleeper on
//! it, who wakes the rest (`notice`). Nothing else takes a held word away. If that thread was not the process's last, its row is checked by
//! pidfd until another thread of the process takes the word over; a mark alone is never believed without
//! that check.
//!
//! Sleepers sleep on the words of the first `range` rows, used or not, so a process that enters a row
//! there is watched from its first moment by who sleeps already. `README.md` has the proof.

#![expect(unsafe_code, reason = "the roll is one shared mapping of rows")]

mod cradle;
mod row;
mod watch;

pub(crate) use self::cradle::{Cradle, Lease};
pub(crate) use self::row::{Process, forget_held};
pub(crate) use self::watch::{Marks, Watch};

use self::row::{ALIVE, Claim, DEAD, Held, MS_MASK, Row, STARTING};
use crate::layout::ROWS;
use crate::sync::{AcqRel, Acquire, AtomicU32, Relaxed, Release};
use crate::sys::{self, WaitWord};
use crate::vigil::Watchers;
use crate::wait::ALL;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// Processes on the roll at one time: as many as Linux has by default (`pid_max`).
const ROLL_LEN: usize = 32_768;

/// Rows that one thread can sleep on beside a few other words (`sys::WAIT_WORDS_MAX` is 128).
pub(crate) const BLOCK: usize = 120;

/// How long a forked child may take to its first instruction before it counts as dead.
///
/// Only matters where no lock tells (`cradle.rs`: no descriptors, no `/proc`), for a child killed in the moment between the fork and
/// its first step; a child stopped for longer just there is entered again at its first use.
const BIRTH_MS: u64 = 2_000;

pub(crate) const ROLL_BYTES: usize = size_of::<Head>() + ROLL_LEN * size_of::<Row>();
// A channel's table must not outgrow the roll.
const _: () = assert!(ROWS <= ROLL_LEN);

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
    /// Tells which forked processes are still to begin; none where no descriptor was to be had.
    cradle: Option<Cradle>,
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
            cradle: None,
        }
    }

    /// The same with locks for those who are about to be forked, in `file`, which is the same for everybody on the roll.
    pub(crate) fn with_cradle(self, file: io::Result<Arc<File>>) -> Roll {
        let cradle = file.and_then(Cradle::new).ok();
        Roll { cradle, ..self }
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
                Process::from_bits(Process::new(Claim::read(old).number, index).bits())
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
                is_leased: false,
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

    /// Has a lock tell whether `process`, a row for which was just claimed, is still to begin: for as long as the caller or the child
    /// that it forks has this open. `None` if that cannot be; then it has two seconds.
    pub(crate) fn lease(&self, process: Process) -> Option<Lease> {
        let lease = self.cradle.as_ref()?.lease(process.index()).ok()?;
        let row = self.row(process);
        // Relaxed: nobody else writes it in the next two seconds.
        let claim = Claim::read(row.claim.load(Relaxed));
        let leased = Claim {
            is_leased: true,
            ..claim
        };
        // Release: the lock is there. Pairs with the Acquire in `is_alive`. Relaxed on failure: it took longer than that.
        row.claim
            .compare_exchange(claim.bits(), leased.bits(), Release, Relaxed)
            .ok()?;
        Some(lease)
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
        let alive = claim.with(ALIVE);
        // Release: publishes pid and identity. Pairs with the Acquire in `is_alive`.
        // Relaxed on failure: the row is lost, nothing is read from it.
        let begun = row
            .claim
            .compare_exchange(claim.bits(), alive.bits(), Release, Relaxed)
            .is_ok();
        // Not before: there is no way to let go of the word of a row that is lost.
        if begun && self.may_hold() {
            if let Err(error) = row.hold() {
                // Release: pairs with the Acquire loads in `claim`. It lives, but nobody could hear of its end.
                row.claim.store(claim.with(DEAD).bits(), Release);
                return Err(error);
            }
            Held::add(row);
        }
        Ok(begun)
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
    use crate::sync::AtomicU64;
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

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
        let cradle = sys::memfd(c"births").map(|file| Arc::new(File::from(file)));
        let roll = Roll::new().unwrap().with_cradle(cradle);
        let late = roll.claim().unwrap();
        let leased = roll.claim().unwrap();
        let lease = roll.lease(leased).unwrap();
        assert!(roll.is_alive(late));
        thread::sleep(Duration::from_millis(BIRTH_MS + 50));
        assert!(roll.is_alive(leased) && roll.watch(leased) == Watch::Poll);
        drop(lease);
        assert!(!roll.is_alive(leased), "nobody is left to begin as it");
        assert!(!roll.begin(leased).unwrap());
        assert!(!roll.is_alive(late));
        assert!(!roll.begin(late).unwrap(), "found dead, then began");
        assert!(!roll.is_alive(late));
        assert_ne!(roll.claim().unwrap(), late);
    }

    #[test]
    fn a_thread_that_ends_leaves_the_word_to_the_kernel_and_writes_nowhere() {
        let roll = Roll::new().unwrap();
        let me = roll.claim().unwrap();
        let row = roll.row(me);
        let private = [(); 4].map(|()| AtomicU64::from(7));
        thread::scope(|scope| {
            let holding = scope.spawn(|| {
                assert!(roll.begin(me).unwrap());
                row.word.lead_astray(&private[2]);
            });
            holding.join().unwrap();
        });
        // Relaxed: the thread has been joined.
        let now = private.each_ref().map(|word| word.load(Relaxed));
        assert_eq!(now, [7; 4], "written to through a pointer in the roll");
        // Acquire: as in `is_alive`.
        let word = row.word.word().load(Acquire);
        assert_eq!(word & (sys::OWNER_DIED | sys::TID), sys::OWNER_DIED);
        assert!(!row.is_dying(word), "a thread's end, not the process's");
        assert!(roll.is_alive(me));
        assert_eq!(roll.watch(me), Watch::Poll);
        // Another thread takes the word over.
        roll.keep_held(me);
        assert_eq!(roll.watch(me), Watch::Word);
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
