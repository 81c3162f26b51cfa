//! Shared memory that can be passed to processes which were not forked from this one. Linux on x86-64.

use super::{check, last, own};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

/// `memfd_create`, `ftruncate`, `fcntl(F_ADD_SEALS)`, `memfd_create(2)`: `bytes` of zeroes whose number nobody can change any more, so that
/// no process can pull them from under another. Never `EINTR`.
pub(crate) fn memory_file(bytes: usize) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: reads a text with its NUL.
    let file = own(check(unsafe {
        libc::memfd_create(c"multi-proc".as_ptr(), flags)
    })?);
    let len =
        libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), len) })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

/// `mmap(MAP_SHARED | MAP_NORESERVE)` of `bytes` of `file` from `offset`, a multiple of the page size, mmap(2). Never `EINTR`.
pub(crate) fn map_file(
    file: BorrowedFd<'_>,
    offset: usize,
    bytes: usize,
) -> io::Result<NonNull<u8>> {
    let offset =
        libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset,
        )
    };
    if at == libc::MAP_FAILED {
        return last();
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))
}

/// `fstat`, stat(2): how long a file is. Never `EINTR`.
pub(crate) fn len_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` has room for the answer.
    check(unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: all-zero bytes are a stat, and the kernel filled it in.
    Ok(unsafe { stat.assume_init() }.st_size as u64)
}
