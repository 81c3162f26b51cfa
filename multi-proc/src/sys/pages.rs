//! What may be done to pages, and having them before they are needed. Linux on x86-64.

use super::check;
use std::io;
use std::ptr::NonNull;

/// `mprotect`, mprotect(2): whether this process may write to pages, which it may read. Never `EINTR`.
///
/// # Safety
///
/// `at` and `bytes` are whole pages of one mapping, and nothing in this process will write to them while it may not.
pub(crate) unsafe fn protect(at: NonNull<u8>, bytes: usize, may_write: bool) -> io::Result<()> {
    let rights = if may_write {
        libc::PROT_READ | libc::PROT_WRITE
    } else {
        libc::PROT_READ
    };
    // SAFETY: the caller says what the pages are, and that nobody counts on more.
    check(unsafe { libc::mprotect(at.as_ptr().cast(), bytes, rights) }).map(drop)
}

/// `madvise(MADV_POPULATE_WRITE)` or `(MADV_POPULATE_READ)`, madvise(2): pages are there for this process, in one call instead of a fault each.
/// Their contents stay. `EINVAL` from kernels older than 5.14.
///
/// # Safety
///
/// `at` and `bytes` are whole pages of a mapping.
pub(crate) unsafe fn populate(at: NonNull<u8>, bytes: usize, to_write: bool) -> io::Result<()> {
    let advice = if to_write {
        libc::MADV_POPULATE_WRITE
    } else {
        libc::MADV_POPULATE_READ
    };
    // SAFETY: the caller says what the pages are; nothing in them changes.
    check(unsafe { libc::madvise(at.as_ptr().cast(), bytes, advice) }).map(drop)
}
