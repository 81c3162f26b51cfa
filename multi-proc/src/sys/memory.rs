//! Shared memory that can be passed to processes which were not forked from this one. Linux on x86-64.

use super::{check, last, limits, own};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

/// `memfd_create`, `ftruncate`, `fcntl(F_ADD_SEALS)`, `memfd_create(2)`: `bytes` of zeroes whose number nobody can change any more, so that
/// no process can pull them from under another. Never `EINTR`. `EFBIG` where this process may have no file so long: `ftruncate` would end it by SIGXFSZ.
pub(crate) fn memory_file(bytes: usize) -> io::Result<OwnedFd> {
    if bytes as u64 > limits::file_bytes_max()? {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
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

/// `madvise(MADV_DONTDUMP)`, madvise(2): no core dump has these pages. Otherwise one has all of them, those that nobody ever touched, too, and they are
/// made memory for it. Never `EINTR`; where it is refused there are dumps that large.
pub(super) fn leave_out_of_dumps(at: NonNull<u8>, bytes: usize) {
    // SAFETY: changes neither the pages nor what may be done to them.
    drop(check(unsafe {
        libc::madvise(at.as_ptr().cast(), bytes, libc::MADV_DONTDUMP)
    }));
}

/// `mmap(MAP_SHARED | MAP_NORESERVE)` of `bytes` of `file` from `offset`, a multiple of the page size, mmap(2); no core dump has them. Never `EINTR`.
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
    let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))?;
    leave_out_of_dumps(at, bytes);
    Ok(at)
}

/// `fstat`, stat(2): how long a file is. Never `EINTR`.
pub(crate) fn len_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` has room for the answer.
    check(unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: all-zero bytes are a stat, and the kernel filled it in.
    Ok(unsafe { stat.assume_init() }.st_size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd as _;

    /// What the kernel says of the mapping that begins there.
    fn flags_of(at: NonNull<u8>) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let beginning = format!("{:x}-", at.as_ptr().addr());
        let lines = maps
            .lines()
            .skip_while(|line| !line.starts_with(&beginning));
        let mut flags = lines.filter_map(|line| line.strip_prefix("VmFlags: "));
        flags.next().unwrap().to_owned()
    }

    #[test]
    fn shared_memory_is_in_no_core_dump() {
        const BYTES: usize = 1 << 20;
        let file = memory_file(BYTES).unwrap();
        for at in [
            super::super::map_shared(BYTES).unwrap(),
            map_file(file.as_fd(), 0, BYTES).unwrap(),
        ] {
            let flags = flags_of(at);
            assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
            // SAFETY: a whole mapping that nobody else knows of.
            unsafe { super::super::unmap(at, BYTES) };
        }
    }
}
