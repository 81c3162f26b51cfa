//! Processes and threads: who this one is, whether another one has ended, what happens at a fork.

#![expect(unsafe_code, reason = "libc calls")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// `pthread_sigmask`, `pthread_sigmask(3)`, twice: runs `act` with all signals blocked in this thread.
pub(crate) fn without_signals<R>(act: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: memory for a signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a set that is filled and memory for another; neither is kept.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let done = act();
    // SAFETY: the set that the call above wrote.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    done
}

/// `sysconf(_SC_NPROCESSORS_ONLN)`, sysconf(3): processors of the machine.
pub(crate) fn processors() -> usize {
    // SAFETY: takes a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1)
}

/// `geteuid`, geteuid(2).
#[cfg(feature = "named")]
pub(crate) fn user_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// `getpid`, getpid(2).
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// `gettid`, gettid(2).
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// `raise(SIGKILL)`, raise(3).
#[cfg(feature = "kill-points")]
pub(crate) fn kill_this_process() {
    // SAFETY: takes a number; the signal cannot be caught.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// `pidfd_open`, `pidfd_open(2)`.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(fd @ 0..) = i32::try_from(fd) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `fstat`, fstat(2), of a pidfd: the inode, which no other process ever gets (Linux 6.9 and later).
pub(crate) fn pidfd_inode(pidfd: &OwnedFd) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` is memory for the kernel to fill.
    let done = unsafe { libc::fstat(pidfd.as_raw_fd(), stat.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and filled by the kernel.
    Ok(unsafe { stat.assume_init() }.st_ino)
}

/// `poll`, poll(2), of a pidfd: true once the whole process has ended.
///
/// EINTR ends the wait early: the caller asks again.
pub(crate) fn pidfd_ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, patience_ms) };
    ready > 0
}

/// True if the error says that there is no such process.
pub(crate) fn is_no_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// `pthread_atfork`, `pthread_atfork(3)`.
pub(crate) fn at_fork(
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    child: extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: the three functions live as long as the program.
    let error = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Clears errno, so that a failed call can be told by it, later and elsewhere.
pub(crate) fn forget_error() {
    // SAFETY: takes nothing and cannot fail.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the calling thread's own word, for as long as the thread lives.
    unsafe { errno.write(0) };
}

/// True if errno says why a `fork` is refused: no process or no memory to be had.
pub(crate) fn is_fork_refused() -> bool {
    let error = io::Error::last_os_error().raw_os_error();
    matches!(error, Some(libc::EAGAIN | libc::ENOMEM))
}
