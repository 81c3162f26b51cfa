//! Sleeping on words, waking, and the barrier that settles who saw what.

#![expect(unsafe_code, reason = "libc calls")]

use super::{monotonic, timespec};
use crate::kill;
use crate::sync::AtomicU32;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

#[cfg(test)]
thread_local! {
    /// Futex calls made by this thread, for the tests that count them.
    pub(crate) static FUTEX_CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Most words one `futex_waitv` takes.
const WAIT_WORDS_MAX: usize = 128;

fn count_futex_call() {
    #[cfg(test)]
    FUTEX_CALLS.with(|calls| calls.set(calls.get() + 1));
}

/// `futex(FUTEX_WAIT)`, futex(2), on memory shared between processes.
///
/// Returns for a wake, a changed word, a signal, the limit or no reason at all: the caller looks at
/// its condition and its clock again in every case, so EINTR is not retried here.
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, limit: Option<Duration>) {
    count_futex_call();
    let limit = limit.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word outlives the call, and so does the limit, which is null or a timespec.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            limit,
        )
    };
}

/// `futex(FUTEX_WAKE)`, futex(2), on memory shared between processes; returns how many it woke.
#[cfg_attr(feature = "kill-points", track_caller)]
pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    count_futex_call();
    // SAFETY: the word outlives the call.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    kill::wrote();
    u32::try_from(woken).unwrap_or(0)
}

/// One word of `futex_waitv` and the value it is expected to hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitWord {
    seen: u64,
    address: u64,
    flags: u32,
    _reserved: u32,
}

impl WaitWord {
    const SIZE_U32: u32 = 2;

    pub(crate) fn new(word: &AtomicU32, seen: u32) -> WaitWord {
        WaitWord {
            seen: seen.into(),
            address: word.as_ptr().addr() as u64,
            flags: WaitWord::SIZE_U32,
            _reserved: 0,
        }
    }
}

/// The words of one `futex_waitv`, at most [`WAIT_WORDS_MAX`].
#[derive(Debug)]
pub(crate) struct WaitWords {
    words: [MaybeUninit<WaitWord>; WAIT_WORDS_MAX],
    used: usize,
}

impl WaitWords {
    pub(crate) fn new() -> WaitWords {
        WaitWords {
            words: [const { MaybeUninit::uninit() }; WAIT_WORDS_MAX],
            used: 0,
        }
    }

    /// Adds a word; false if there is no room.
    pub(crate) fn push(&mut self, word: &AtomicU32, seen: u32) -> bool {
        self.add(WaitWord::new(word, seen))
    }

    pub(crate) fn add(&mut self, word: WaitWord) -> bool {
        let Some(place) = self.words.get_mut(self.used) else {
            return false;
        };
        place.write(word);
        self.used += 1;
        true
    }

    /// How many more there is room for.
    pub(crate) fn room(&self) -> usize {
        WAIT_WORDS_MAX - self.used
    }

    pub(crate) fn as_slice(&self) -> &[WaitWord] {
        // SAFETY: the first `used` were written by `add`.
        unsafe { self.words[..self.used].assume_init_ref() }
    }
}

/// `futex_waitv`, `futex_waitv(2)`: sleeps while every word holds what it is expected to.
///
/// Ends like [`futex_wait`], and tells on which word it was woken, if it was; an error means that the
/// kernel does not have the call.
pub(crate) fn futex_waitv(
    words: &[WaitWord],
    limit: Option<Duration>,
) -> io::Result<Option<usize>> {
    count_futex_call();
    #[cfg(feature = "kill-points")]
    if without_waitv::get() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let until = limit
        .and_then(|limit| monotonic().checked_add(limit))
        .map(timespec);
    let until = until.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are to memory that outlives the call; each address is a mapped word.
    let done = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            words.as_ptr(),
            words.len(),
            0,
            until,
            libc::CLOCK_MONOTONIC,
        )
    };
    if let Ok(woken) = usize::try_from(done) {
        return Ok(Some(woken));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => Ok(None),
        _ => Err(error),
    }
}

/// Whether the kernel has `futex_waitv`: without words it says that, and no more.
pub(crate) fn has_futex_waitv() -> bool {
    let asked = futex_waitv(&[], None);
    !asked.is_err_and(|error| error.raw_os_error() != Some(libc::EINVAL))
}

/// For tests: makes `futex_waitv` fail as it does where the kernel does not have it.
#[cfg(feature = "kill-points")]
pub(crate) mod without_waitv {
    use crate::sync::{AtomicU32, Relaxed};
    use std::sync::LazyLock;

    static MISSING: LazyLock<AtomicU32> = LazyLock::new(AtomicU32::default);

    /// Has `futex_waitv` missing from here on, in this process and the children it forks, or not.
    pub fn pretend_without_waitv(missing: bool) {
        // Relaxed: a switch that tests set while nobody waits.
        MISSING.store(missing.into(), Relaxed);
    }

    /// Whether the system has it, and no test pretends that it has not.
    pub fn has_futex_waitv() -> bool {
        super::has_futex_waitv()
    }

    pub(crate) fn get() -> bool {
        // Relaxed: as above.
        MISSING.load(Relaxed) != 0
    }
}

/// `membarrier(MEMBARRIER_CMD_GLOBAL)`, membarrier(2): when it returns, every thread of the system has passed a point at
/// which its accesses to memory up to there were done and those after it were not begun.
///
/// Takes some milliseconds, asleep. Not everywhere: not on a kernel with `nohz_full`, nor in some sandboxes.
pub(crate) fn barrier_everywhere() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
