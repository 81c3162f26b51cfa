//! Memory that a parent has when it forks.

use std::io;
use std::ptr::{self, NonNull};

const PAGE_BYTES: usize = 4096;

/// Private memory in small pages, each of which was written to: what a fork has to copy the page tables of.
#[derive(Debug)]
pub(crate) struct Ballast {
    start: NonNull<u8>,
    bytes: usize,
}

impl Ballast {
    /// `mmap` of an anonymous private mapping, mmap(2), written to page by page. None of nothing.
    pub(crate) fn new(bytes: usize) -> io::Result<Option<Self>> {
        if bytes == 0 {
            return Ok(None);
        }
        // SAFETY: a new mapping of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let ballast = Self { start, bytes };
        // Where the kernel knows no huge pages this fails, and they are small anyway.
        // SAFETY: advice on the mapping made above.
        let _small_anyway =
            unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_NOHUGEPAGE) };
        for at in (0..bytes).step_by(PAGE_BYTES) {
            // SAFETY: within the mapping.
            let page = unsafe { start.add(at) };
            // SAFETY: a byte of the mapping, which nobody else knows of.
            unsafe { page.write_volatile(1) };
        }
        Ok(Some(ballast))
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: `new` mapped these bytes, and nobody else knows of them.
        let code = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(code, 0, "munmap of a mapping of ours");
    }
}
