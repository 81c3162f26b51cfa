//! A second tie between a child and the process that forked it, for children of threads other than main.
//!
//! What the kernel watches for `PR_SET_PDEATHSIG` is the thread that forked. A child of the main thread is simply killed with it. One of
//! another thread must outlive that, so it is sent a signal whose handler looks whether the process is gone, too; and a signal that is
//! handled can be held back, or be given another handler, by a task that knows nothing of it. So each such child also holds a reading
//! end of a pipe whose only writing end is its parent's, and has the kernel kill it by `F_SETSIG` when that end is closed, which nobody
//! does while the process lives. Where there is no `/proc`, or no descriptor, the signal is all there is.
//!
//! Every child lets go of the writing end, or it would keep it open for the others. A copy that is forked past this crate does not: the pipe
//! then tells of nothing until that has ended, too.

#![expect(unsafe_code, reason = "children refer to what their parent leaked")]

use crate::identity::Owner;
use crate::sync::{AtomicPtr, Ordering};
use crate::sys::{self, FileId};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::ptr;

/// A pipe's writing end, for as long as its process lives.
struct End {
    owner: Owner,
    pipe: OwnedFd,
    /// Should the program close what it did not open, its number may be another file's.
    id: FileId,
}

/// That of this process, or of one that this was forked from. Never freed: there is one for each process that forks off such a thread.
static END: AtomicPtr<End> = AtomicPtr::new(ptr::null_mut());

fn last() -> Option<&'static End> {
    // Acquire: what is published is whole. Pairs with the AcqRel in `prepare`.
    let end = END.load(Ordering::Acquire);
    // SAFETY: null, or a box that is never freed once it was published.
    unsafe { end.as_ref() }
}

impl End {
    fn new() -> Option<Self> {
        let (_, pipe) = sys::pipe().ok()?;
        let id = sys::file_id(pipe.as_fd()).ok()?;
        Some(Self {
            owner: Owner::here(),
            pipe,
            id,
        })
    }

    fn is_open(&self) -> bool {
        sys::file_id(self.pipe.as_fd()).is_ok_and(|id| id == self.id)
    }
}

/// For a thread other than main, before it forks.
pub(crate) fn prepare() {
    let before = last();
    if before.is_some_and(|end| end.owner.is_here()) {
        return;
    }
    let Some(end) = End::new() else {
        return;
    };
    let before = before.map_or(ptr::null_mut(), |end| ptr::from_ref(end).cast_mut());
    let end = Box::into_raw(Box::new(end));
    // AcqRel: publishes it to `last`. Relaxed on failure: nothing is read of the other thread's.
    if END
        .compare_exchange(before, end, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        // SAFETY: just made, and not published.
        drop(unsafe { Box::from_raw(end) });
    }
}

/// For a child, first of all: `is_tied` where the thread that forked it may end before its process.
#[inline]
pub(crate) fn enter_child(is_tied: bool) {
    if let Some(end) = last() {
        let_go(end, is_tied);
    }
}

#[cold]
fn let_go(end: &End, is_tied: bool) {
    // Relaxed: no other thread exists.
    END.store(ptr::null_mut(), Ordering::Relaxed);
    if !end.is_open() {
        return;
    }
    if is_tied && let Ok(reader) = sys::reading_end(end.pipe.as_fd()) {
        // Before the writing end is let go: should the parent be gone, that was the last one, and kills.
        drop(sys::kill_by(reader.as_fd()));
        // For good.
        let _ends_with_the_process = std::os::fd::IntoRawFd::into_raw_fd(reader);
    }
    sys::close(end.pipe.as_raw_fd());
}
