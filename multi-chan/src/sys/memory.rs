//! Mappings, and files in memory.

#![expect(unsafe_code, reason = "libc calls")]

use crate::kill;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

/// `mmap(MAP_SHARED | MAP_ANONYMOUS)`, mmap(2): zeroed memory that forked children share.
pub(crate) fn map_shared(bytes: usize) -> io::Result<NonNull<u8>> {
    map(bytes, libc::MAP_SHARED | libc::MAP_NORESERVE)
}

/// `mmap(MAP_PRIVATE | MAP_ANONYMOUS)`, mmap(2): zeroed memory of this process alone.
pub(crate) fn map_private(bytes: usize) -> io::Result<NonNull<u8>> {
    map(bytes, libc::MAP_PRIVATE)
}

/// `mmap(MAP_SHARED)`, mmap(2), of a file from its beginning.
pub(crate) fn map_file(file: BorrowedFd<'_>, bytes: usize) -> io::Result<NonNull<u8>> {
    map_fd(
        bytes,
        libc::MAP_SHARED | libc::MAP_NORESERVE,
        file.as_raw_fd(),
    )
}

fn map(bytes: usize, flags: i32) -> io::Result<NonNull<u8>> {
    map_fd(bytes, flags | libc::MAP_ANONYMOUS, -1)
}

fn map_fd(bytes: usize, flags: i32, fd: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// `memfd_create`, `memfd_create(2)`: an empty file in memory that can be sealed, closed by `exec`.
pub(crate) fn memfd(name: &'static CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with a zero and outlives the call.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `ftruncate`, ftruncate(2): a new file of `bytes` zeros. `EFBIG` where this process may have no file so long: the call would end it by SIGXFSZ.
pub(crate) fn lengthen(file: &File, bytes: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` has room for the answer.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    if bytes > limit.rlim_cur {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    file.set_len(bytes)
}

/// Seals that keep a file's size.
pub(crate) const SIZE_SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// `fcntl(F_ADD_SEALS)`, fcntl(2): the file keeps its size, and these seals.
pub(crate) fn seal(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe {
        libc::fcntl(
            file.as_raw_fd(),
            libc::F_ADD_SEALS,
            SIZE_SEALS | libc::F_SEAL_SEAL,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `fcntl(F_GET_SEALS)`, fcntl(2): an error for what is not a file in memory.
pub(crate) fn seals(file: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: takes numbers only.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(seals)
}

/// `fstatfs`, fstatfs(2): true if the file is in ordinary memory, whose pages are there whenever they are touched. Huge pages are
/// another file system's, and a limited number.
pub(crate) fn is_in_ordinary_memory(file: BorrowedFd<'_>) -> io::Result<bool> {
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `stat` is memory for the kernel to fill.
    let done = unsafe { libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and filled by the kernel.
    Ok(unsafe { stat.assume_init() }.f_type == libc::TMPFS_MAGIC)
}

/// `fcntl(F_OFD_SETLK)`, fcntl(2): locks one byte of the file, which need not be there, for this opening of it; an error if another
/// opening has it. Released when the last descriptor of the opening is closed, in whatever process.
#[cfg_attr(feature = "kill-points", track_caller)]
pub(crate) fn lock_byte(file: &File, at: usize) -> io::Result<()> {
    let mut lock = byte_lock(at);
    // SAFETY: a lock that outlives the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    kill::wrote();
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `fcntl(F_OFD_GETLK)`, fcntl(2): whether another opening of the file has that byte locked.
pub(crate) fn is_byte_locked(file: &File, at: usize) -> io::Result<bool> {
    let mut lock = byte_lock(at);
    // SAFETY: a lock to read and to write to.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if done == 0 {
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn byte_lock(at: usize) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

/// `fcntl(F_SETFD)`, fcntl(2): `exec` does not close the descriptor.
pub(crate) fn keep_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `fcntl(F_DUPFD_CLOEXEC)`, fcntl(2): a copy of the descriptor that is open under a number, closed by `exec`.
///
/// # Safety
/// - whoever owns that descriptor does not rely on nobody else's having it.
pub(crate) unsafe fn copy_of_number(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; that the copy harms nobody is the caller's promise.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `fcntl(F_GETFL)`, fcntl(2): whether a read or write says `EAGAIN` instead of waiting.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: takes numbers only.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// `munmap`, munmap(2).
///
/// # Safety
/// - `base` and `bytes` are what a `map_` function gave and took.
/// - nothing uses the memory any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let done = unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    debug_assert_eq!(done, 0, "munmap of our own mapping");
}

/// `madvise(MADV_POPULATE_WRITE)`, madvise(2): every page is there and can be written without a fault. Nothing on a kernel that does not
/// know it (before 5.14).
pub(crate) fn populate(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
    loop {
        // SAFETY: makes pages present and changes none of their bytes.
        let done = unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINVAL) => return Ok(()),
            Some(libc::EINTR | libc::EAGAIN) => {}
            _ => return Err(error),
        }
    }
}

/// `madvise(MADV_WIPEONFORK)`, madvise(2): a forked child finds these pages zeroed.
pub(crate) fn wipe_on_fork(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the advice changes what a child sees, nothing in this process.
    let done = unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_WIPEONFORK) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
