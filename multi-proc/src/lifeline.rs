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
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
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
    // Acquire: what is published is whole. Pairs with the AcqRel in `make`.
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

/// What a child is given at its fork.
pub(crate) struct Line {
    /// A reading end that is to kill it.
    reader: Option<OwnedFd>,
    /// A writing end that it inherits.
    end: Option<&'static End>,
}

/// Before a fork; `is_tied` where its thread may end before its process. As much as can be is done here, where it costs less than in a
/// child, which pays for each page that it touches.
#[inline]
pub(crate) fn prepare(is_tied: bool) -> Line {
    if is_tied {
        return tied();
    }
    Line {
        reader: None,
        end: last().filter(|end| end.is_open()),
    }
}

fn tied() -> Line {
    let before = last();
    if !before.is_some_and(|end| end.owner.is_here()) {
        make(before);
    }
    let end = last().filter(|end| end.is_open());
    let ours = end.filter(|end| end.owner.is_here());
    let reader = ours.and_then(|end| {
        let reader = sys::reading_end(end.pipe.as_fd()).ok()?;
        sys::kill_by(reader.as_fd()).ok()?;
        Some(reader)
    });
    Line { reader, end }
}

#[cold]
fn make(before: Option<&'static End>) {
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

impl Line {
    /// For the child, first of all.
    #[inline]
    pub(crate) fn enter_child(self) {
        if let Some(reader) = self.reader {
            drop(sys::be_signalled_by(reader.as_fd()));
            // For good.
            let _ends_with_the_process = reader.into_raw_fd();
        }
        if let Some(end) = self.end {
            // Last: should the parent be gone, and this be the only one left, it kills.
            sys::close(end.pipe.as_raw_fd());
        }
    }
}
