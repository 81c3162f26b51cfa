//! POSIX message queues, `mq_overview(7)`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

/// A queue without a name. On Linux it is a descriptor, which forked processes share.
#[derive(Debug)]
pub(crate) struct PosixQueue(OwnedFd);

impl PosixQueue {
    /// `mq_open` of a new queue with room for so many messages of so many bytes, and `mq_unlink`.
    pub(crate) fn new(count: usize, bytes: usize) -> io::Result<Self> {
        let name = CString::new(format!("/multi-bench-{}", std::process::id()))?;
        let mut limits = empty();
        limits.mq_maxmsg = number(count)?;
        limits.mq_msgsize = number(bytes)?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
        // SAFETY: the name ends with a zero, and a mode and limits follow, as O_CREAT asks for.
        let queue =
            unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, ptr::from_mut(&mut limits)) };
        if queue == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and is nobody else's.
        let queue = Self(unsafe { OwnedFd::from_raw_fd(queue) });
        unlink(&name)?;
        Ok(queue)
    }

    /// `mq_send`, `mq_send(3)`. Tries again after EINTR.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: the descriptor is a queue's, and so many bytes can be read.
            let code = unsafe {
                libc::mq_send(
                    self.0.as_raw_fd(),
                    message.as_ptr().cast(),
                    message.len(),
                    0,
                )
            };
            if code == 0 {
                return Ok(());
            }
            again_after_interruption()?;
        }
    }

    /// `mq_receive`, `mq_receive(3)`: how many bytes came. Tries again after EINTR.
    pub(crate) fn receive(&self, message: &mut [u8]) -> io::Result<usize> {
        loop {
            // SAFETY: the descriptor is a queue's, so many bytes can be written, and no priority is asked for.
            let count = unsafe {
                libc::mq_receive(
                    self.0.as_raw_fd(),
                    message.as_mut_ptr().cast(),
                    message.len(),
                    ptr::null_mut(),
                )
            };
            match usize::try_from(count) {
                Ok(count) => return Ok(count),
                Err(_) => again_after_interruption()?,
            }
        }
    }
}

fn empty() -> libc::mq_attr {
    // SAFETY: zeros are valid in a struct of integers.
    unsafe { std::mem::zeroed() }
}

fn unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with a zero.
    match unsafe { libc::mq_unlink(name.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number(count: usize) -> io::Result<libc::c_long> {
    libc::c_long::try_from(count).map_err(io::Error::other)
}

fn again_after_interruption() -> io::Result<()> {
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}
