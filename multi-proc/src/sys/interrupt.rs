//! Signals that ask a program to end, counted instead.

use super::check;
use std::ffi::c_int;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// How often a signal came.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// The eventfd to be written to when one comes; none: -1.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// After as many, the program is beyond asking.
const COUNTED_MAX: u32 = 2;

extern "C" fn on_interrupt(signal: c_int) {
    // SAFETY: the calling thread's own.
    let errno_at = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno = unsafe { *errno_at };
    // Relaxed, twice: the counter carries no other data, and the descriptor was written before the handler was installed.
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let wake = WAKE.load(Ordering::Relaxed);
    if count > COUNTED_MAX {
        super::set_disposition(signal, super::Disposition::Default);
        // SAFETY: raise may be called from a signal handler. Held back until this returns, it then ends the process.
        unsafe { libc::raise(signal) };
    }
    super::eventfd_set(wake);
    // SAFETY: the calling thread's own: what was interrupted finds it as it was.
    unsafe { *errno_at = errno };
}

/// How often one of the counted signals came since [`count_from_here`].
pub(crate) fn interrupt_count() -> u32 {
    // Relaxed: it carries no other data.
    COUNT.load(Ordering::Relaxed)
}

/// Starts the count at 0, to be told through `wake`, an eventfd that stays open as long as any signal is counted.
pub(crate) fn count_from_here(wake: BorrowedFd<'_>) {
    // Relaxed, twice: before the first handler is installed.
    COUNT.store(0, Ordering::Relaxed);
    WAKE.store(wake.as_raw_fd(), Ordering::Relaxed);
}

/// A signal's handling before it was counted.
pub(crate) struct Before {
    signal: i32,
    action: libc::sigaction,
}

/// `sigaction`, sigaction(2): has `signal` counted, and its third time end the program; interrupted system calls are taken up again. None where the
/// program ignores it, and then goes on to. Never `EINTR`.
pub(crate) fn count_signal(signal: i32) -> io::Result<Option<Before>> {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut before = unsafe { zeroed::<libc::sigaction>() };
    // SAFETY: asks only; `before` has room for the answer.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut before) })?;
    if before.sa_sigaction == libc::SIG_IGN {
        return Ok(None);
    }
    // SAFETY: as above.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    action.sa_sigaction = own_handler();
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler calls nothing that a handler may not call.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    Ok(Some(Before {
        signal,
        action: before,
    }))
}

fn own_handler() -> libc::sighandler_t {
    on_interrupt as extern "C" fn(c_int) as libc::sighandler_t
}

impl Before {
    pub(crate) fn signal(&self) -> i32 {
        self.signal
    }

    /// `sigaction`, sigaction(2): handles the signal as before, unless somebody else has taken it over since. Never `EINTR`.
    pub(crate) fn restore(&self) {
        // SAFETY: an all-zero sigaction is a valid one.
        let mut now = unsafe { zeroed::<libc::sigaction>() };
        // SAFETY: asks only; `now` has room for the answer.
        unsafe { libc::sigaction(self.signal, ptr::null(), &raw mut now) };
        if now.sa_sigaction == own_handler() {
            // SAFETY: what was installed before, by somebody who could.
            unsafe { libc::sigaction(self.signal, &raw const self.action, ptr::null_mut()) };
        }
    }
}
