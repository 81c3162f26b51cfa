//! Pipes, and putting descriptors where a program looks for them.

use super::{check, own};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

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
