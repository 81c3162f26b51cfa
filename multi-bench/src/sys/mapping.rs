//! Memory that processes share.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Zeroed words in an anonymous shared mapping. A forked process has the same words in its copy of the owner.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the words are atomics in memory that stays mapped until the owner is dropped, in this process.
unsafe impl Send for SharedWords {}
// SAFETY: as above; the methods give out shared references to atomics alone.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// `mmap` of an anonymous shared mapping, mmap(2).
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                count * size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, count })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `new` mapped this many, zeroed and on a page's boundary; `Drop` alone unmaps them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    /// One of them as what a futex can be.
    pub(crate) fn futex(&self, index: usize) -> &AtomicU32 {
        let word: *const AtomicU64 = &raw const self.words()[index];
        // SAFETY: the word's first half is as aligned, lives as long, and is nowhere used as a half and as a whole.
        unsafe { &*word.cast::<AtomicU32>() }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let bytes = self.count * size_of::<AtomicU64>();
        // SAFETY: `new` mapped these bytes, and nobody borrows from an owner that is dropped.
        let code = unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) };
        debug_assert_eq!(code, 0, "munmap of a mapping of ours");
    }
}
