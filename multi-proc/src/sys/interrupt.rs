//! Signals that ask a program to end, counted instead.

use super::check;
use crate::sync::{AtomicI32, AtomicU32, Ordering};
use std::ffi::c_int;
use std::io;
use std::mem::zeroed;
use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};
use std::ptr;

/// How often a signal came, or [`OFF`]. The handler takes both in with one step, so that a signal counts for whoever counts at that moment, or for
/// nobody: our handler can be called when no signal is counted any more, by another that was installed over it and calls what was there before.
static COUNT: AtomicU32 = AtomicU32::new(OFF);
/// Nobody counts.
const OFF: u32 = u32::MAX;
/// The eventfd to be written to when one comes; none: -1. It stays open for good: a handler may be about to write to it at any time, on any thread,
/// and a number that was given back could be a stranger's file by then.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// After as many, the program is beyond asking.
const COUNTED_MAX: u32 = 2;

extern "C" fn on_interrupt(signal: c_int) {
    // SAFETY: the calling thread's own.
    let errno_at = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno = unsafe { *errno_at };
    let one_more = |count: u32| (count != OFF).then(|| (count + 1).min(OFF - 1));
    // Relaxed, twice: the counter carries no other data.
    if let Ok(before) = COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
        if before >= COUNTED_MAX {
            super::set_disposition(signal, super::Disposition::Default);
            // SAFETY: raise may be called from a signal handler. Held back until this returns, it then ends the process.
            unsafe { libc::raise(signal) };
        }
        // Relaxed: written before the handler was installed, and any eventfd that was ever written there is open.
        super::eventfd_set(WAKE.load(Ordering::Relaxed));
    } else if action_of(signal).sa_sigaction == own_handler()
        && COUNT.load(Ordering::Relaxed) == OFF
    {
        // Put back, when nobody counted any more, by somebody who had replaced it: a signal that asks to end is not to go unheard for good.
        // Relaxed, above: whoever installs it starts to count before, and then it is not put back.
        super::set_disposition(signal, super::Disposition::Default);
        // SAFETY: as above.
        unsafe { libc::raise(signal) };
    }
    // SAFETY: the calling thread's own: what was interrupted finds it as it was.
    unsafe { *errno_at = errno };
}

/// How often one of the counted signals came since [`count_from_here`].
pub(crate) fn interrupt_count() -> u32 {
    // Relaxed: it carries no other data.
    match COUNT.load(Ordering::Relaxed) {
        OFF => 0,
        count => count,
    }
}

/// Has counted signals told through `wake`, an eventfd, from here on.
pub(crate) fn tell_through(wake: OwnedFd) {
    // Relaxed: before any handler of this process's is installed.
    WAKE.store(wake.into_raw_fd(), Ordering::Relaxed);
}

/// What counted signals are told through. [`tell_through`] was called.
pub(crate) fn told_through() -> BorrowedFd<'static> {
    // Relaxed: whoever installs has it from the one that did before, by the word that says who may.
    let wake = WAKE.load(Ordering::Relaxed);
    assert!(wake >= 0, "no eventfd for signals");
    // SAFETY: `tell_through` took it over for good: nobody closes it.
    unsafe { BorrowedFd::borrow_raw(wake) }
}

/// Starts the count at 0. [`tell_through`] was called.
pub(crate) fn count_from_here() {
    // Relaxed: before the first handler is installed.
    COUNT.store(0, Ordering::Relaxed);
}

/// Has the handler do nothing from here on, whoever still calls it.
pub(crate) fn count_no_more() {
    // Relaxed: it carries no other data.
    COUNT.store(OFF, Ordering::Relaxed);
}

/// A signal's handling before it was counted.
pub(crate) struct Before {
    signal: i32,
    action: libc::sigaction,
}

/// `sigaction`, sigaction(2): has `signal` counted, and its third time end the program; interrupted system calls are taken up again. None where the
/// program ignores it, and then goes on to. Never `EINTR`.
pub(crate) fn count_signal(signal: i32) -> io::Result<Option<Before>> {
    let before = action_of(signal);
    if before.sa_sigaction == libc::SIG_IGN {
        return Ok(None);
    }
    // SAFETY: an all-zero sigaction is a valid one.
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

/// `sigaction`, sigaction(2): what is done about `signal`, one that exists. Never `EINTR`; may be called from a signal handler.
fn action_of(signal: i32) -> libc::sigaction {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    // SAFETY: asks only; `action` has room for the answer.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action
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
        if action_of(self.signal).sa_sigaction == own_handler() {
            // SAFETY: what was installed before, by somebody who could.
            unsafe { libc::sigaction(self.signal, &raw const self.action, ptr::null_mut()) };
        }
    }
}
