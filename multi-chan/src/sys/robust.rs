//! A mutex that the kernel marks when its holder ends.

#![expect(unsafe_code, reason = "libc calls")]

use crate::kill;
use crate::sync::AtomicU32;
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

/// Bit of a robust word: somebody sleeps on it, so its owner's death wakes one.
pub(crate) const WAITERS: u32 = libc::FUTEX_WAITERS;
/// Bit of a robust word: the kernel saw its owner die.
pub(crate) const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
/// Bits of a robust word: the thread that holds it.
pub(crate) const TID: u32 = libc::FUTEX_TID_MASK;

/// A robust, process-shared mutex in shared memory, held for life and never contended.
///
/// The kernel marks its word when the holding thread ends, however it ends; that mark is all it is
/// for. It goes through `pthread_mutex_*(3)`, because the C library owns each thread's robust list.
///
/// It is never unlocked. That takes the mutex off the thread's list, by two pointers that lie in the mutex itself: in memory
/// that others can write, so it would write wherever they say. To make one and to lock it follows none: what
/// glibc needs of the list then, it has in the thread's own memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Robust {
    raw: UnsafeCell<libc::pthread_mutex_t>,
}

// SAFETY: a process-shared mutex may be used from anywhere.
unsafe impl Sync for Robust {}

impl Robust {
    /// The futex word: the holder's thread id and the two flags.
    pub(crate) fn word(&self) -> &AtomicU32 {
        // SAFETY: glibc puts the lock word first and, as the kernel does, accesses it atomically; the
        // word lives as long as the mutex.
        unsafe { self.raw.get().cast::<AtomicU32>().as_ref_unchecked() }
    }

    /// Makes the mutex new, unheld. The caller owns the row it lies in.
    #[cfg_attr(feature = "kill-points", track_caller)]
    pub(crate) fn init(&self) -> io::Result<()> {
        let mut kind = MaybeUninit::uninit();
        // SAFETY: memory for an attribute object.
        check(unsafe { libc::pthread_mutexattr_init(kind.as_mut_ptr()) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setrobust(kind.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST)
        })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(kind.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: the memory is a mutex's, nobody holds it, and no thread has it on its list.
        let done = check(unsafe { libc::pthread_mutex_init(self.raw.get(), kind.as_ptr()) });
        kill::wrote();
        done
    }

    /// Takes the mutex for the calling thread if no living thread holds it.
    #[cfg_attr(feature = "kill-points", track_caller)]
    pub(crate) fn hold(&self) -> io::Result<()> {
        // SAFETY: an initialised mutex.
        let error = unsafe { libc::pthread_mutex_trylock(self.raw.get()) };
        kill::wrote();
        if error != libc::EOWNERDEAD {
            return check(error);
        }
        // SAFETY: trylock just gave it to us in the state that this call mends.
        let done = check(unsafe { libc::pthread_mutex_consistent(self.raw.get()) });
        kill::wrote();
        done
    }

    /// Has the list that the holding thread is on lead to `place`, as a peer that scribbles could.
    #[cfg(test)]
    pub(crate) fn lead_astray(&self, place: &crate::sync::AtomicU64) {
        // glibc keeps both its pointers, back and forth, at the end of the mutex.
        for word in [3, 4] {
            // SAFETY: inside the mutex, which has 40 bytes.
            let pointer = unsafe { self.raw.get().cast::<*mut u64>().add(word) };
            // SAFETY: as above; the holding thread is between two uses of its list.
            unsafe { pointer.write_volatile(place.as_ptr()) };
        }
    }
}

fn check(error: i32) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}
