//! Pipes, and putting descriptors where a program looks for them.

use super::{check, own};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// Of fcntl(2); libc has it for other C libraries only.
const F_SETSIG: i32 = 10;
/// The first descriptor that no program takes for a standard stream.
const FIRST_FREE: RawFd = 3;

/// `pipe2(O_CLOEXEC)`, pipe(2): a reader that does not block and a writer that does, neither of them with the number of a standard
/// stream, should one of those be closed. Never `EINTR`.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let [reader, writer] = fds.map(own);
    let (reader, writer) = (above_streams(reader)?, above_streams(writer)?);
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((reader, writer))
}

fn above_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_FREE {
        return Ok(fd);
    }
    duplicate_above_streams(fd.as_fd())
}

/// `fcntl(F_DUPFD_CLOEXEC)`, fcntl(2). Never `EINTR`.
fn duplicate_above_streams(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_FREE) }).map(own)
}

/// `dup2`, dup(2): makes `fd`, which may be in use, one more name for `source`, to be kept across an exec. Retries `EINTR`.
pub(crate) fn put_in_place(source: BorrowedFd<'_>, fd: RawFd) -> io::Result<()> {
    let put = || {
        // SAFETY: takes numbers only; the descriptors concerned are standard streams, which nobody owns.
        check(unsafe { libc::dup2(source.as_raw_fd(), fd) })
    };
    super::retry(put).map(drop)
}

/// `open` of `/proc/self/fd/<number>`, proc(5): a reading end of this process's own of the pipe that `writer` is the writing end of.
pub(crate) fn reading_end(writer: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let file = File::open(format!("/proc/self/fd/{}", writer.as_raw_fd()))?;
    above_streams(file.into())
}

/// What tells a file from all others that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// `fstat`, stat(2). Never `EINTR`.
pub(crate) fn file_id(fd: BorrowedFd<'_>) -> io::Result<FileId> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` has room for the answer.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: all-zero bytes are a stat, and the kernel filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(FileId {
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

/// Whether `fd` was closed since its file was `id`, or is another's number by now. No where a sandbox forbids fstat(2).
pub(crate) fn is_closed_or_other(fd: BorrowedFd<'_>, id: FileId) -> bool {
    match file_id(fd) {
        Ok(found) => found != id,
        Err(error) => error.raw_os_error() == Some(libc::EBADF),
    }
}

/// `fcntl(F_SETSIG)` and `fcntl(F_SETFL, O_ASYNC)`, fcntl(2): has the kernel kill whoever [`be_signalled_by`] is called by when the other end
/// of a pipe's or a socket's `fd` is closed, or anything comes from there. Holds as long as this end is open. Never `EINTR`.
pub(crate) fn kill_by(fd: BorrowedFd<'_>) -> io::Result<()> {
    for (command, argument) in [(F_SETSIG, libc::SIGKILL), (libc::F_SETFL, libc::O_ASYNC)] {
        // SAFETY: takes numbers only.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) })?;
    }
    Ok(())
}

/// `fcntl(F_SETOWN)`, fcntl(2): this process is to get the signals of [`kill_by`]. Never `EINTR`.
pub(crate) fn be_signalled_by(fd: BorrowedFd<'_>) -> io::Result<()> {
    let own_pid = super::pid() as libc::pid_t;
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETOWN, own_pid) }).map(drop)
}

/// `close`, close(2), of a child's copy of what its parent owns. Not retried: the number is free whatever it returns.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: the copy of the owner's object in this process is never looked at again.
    unsafe { libc::close(fd) };
}
