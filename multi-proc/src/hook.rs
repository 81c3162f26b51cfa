//! Panics in a child: printed without a lock, recorded for the report.

use crate::sync::{AtomicBool, Ordering};
use crate::sys;
use multi_core::panic;
use std::panic::PanicHookInfo;

/// Set in a forked child, for good.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Puts a hook before the program's own that takes over in children. The program's hook may take locks (the standard one takes
/// standard error's, and a backtrace's) that are held for ever in a child.
pub(crate) fn install() {
    // Not a `Once`: a fork in the middle of one leaves it running for ever in the child.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    // The hook cannot be changed from a panicking thread; the next group will.
    // Relaxed: the hook itself is published by the lock it lies under.
    if std::thread::panicking() || INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    sys::note_stack_overflows();
    // First, so that ours comes before it and its record is made in the parent as ever.
    panic::install_hook();
    let parents = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Relaxed: set by this process's first thread before any other code of it ran.
        if IS_CHILD.load(Ordering::Relaxed) {
            in_child(info);
        } else {
            parents(info);
        }
    }));
}

/// For a forked child, first of all.
#[inline]
pub(crate) fn enter_child() {
    // Relaxed: no other thread exists.
    IS_CHILD.store(true, Ordering::Relaxed);
    panic::disable_backtraces();
}

fn in_child(info: &PanicHookInfo<'_>) {
    let at = info
        .location()
        .map(|at| format!(" at {at}"))
        .unwrap_or_default();
    let message = info
        .payload_as_str()
        .unwrap_or("a panic whose payload is not text");
    sys::write_stderr(format!("process {} panicked{at}:\n{message}\n", sys::pid()).as_bytes());
    panic::record(info);
}
