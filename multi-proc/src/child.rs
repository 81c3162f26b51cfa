//! A child's life, from the fork to `_exit`.

#![expect(
    unsafe_code,
    reason = "a word of the slot is handed to signal handlers"
)]

use crate::capture::Pipes;
use crate::hook;
use crate::reap::Settings;
use crate::report;
use crate::slot::{Slot, Stage};
use crate::sync::{AtomicBool, AtomicU32, Ordering};
use crate::sys::{self, Disposition, SignalMask};
use crate::terms::Terms;
use multi_core::{Result, panic};
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};

/// What a child has to know of the moment it was forked in.
pub(crate) struct Birth<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) terms: Option<&'a Terms>,
    pub(crate) parent_pid: u32,
    /// The forking thread is the parent's main thread, which lives as long as its process.
    pub(crate) by_main_thread: bool,
    /// The signals that the forking thread held back, if all of them are held back now.
    pub(crate) mask: &'a Option<SignalMask>,
    pub(crate) signals: Handled,
}

/// The signals that ask a program to end and that the parent handles with functions of its own.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Handled {
    term: bool,
    int: bool,
    hup: bool,
}

impl Handled {
    pub(crate) fn now() -> Self {
        let [term, int, hup] = [sys::SIGTERM, sys::SIGINT, sys::SIGHUP].map(sys::has_handler);
        Self { term, int, hup }
    }

    /// Whether there is any.
    #[inline]
    pub(crate) fn any(self) -> bool {
        self.term || self.int || self.hup
    }

    /// A child does not run its parent's handlers: they often write to a pipe, which is the parent's still. SIGTERM, which its group
    /// sends it, ends it again; what a terminal sends to parent and children alike is left to the parent, which handles it.
    #[inline]
    fn leave_to_parent(self) {
        if self.term {
            sys::set_disposition(sys::SIGTERM, Disposition::Default);
        }
        if self.int {
            sys::set_disposition(sys::SIGINT, Disposition::Ignore);
        }
        if self.hup {
            sys::set_disposition(sys::SIGHUP, Disposition::Ignore);
        }
    }
}

/// Runs `task` and leaves the process. Never returns: the stack above belongs to the parent.
pub(crate) fn live<T, F>(birth: &Birth<'_>, pipes: Pipes, slot: &mut Slot, task: F) -> !
where
    T: Serialize,
    F: FnOnce() -> Result<T>,
{
    hook::enter_child();
    let value_bytes_max = birth.settings.value_bytes_max;
    let work = |slot: &mut Slot| finish(slot, value_bytes_max, task());
    run(birth, pipes, slot, work);
    sys::exit_now(0)
}

/// Makes the process what it is to be, then has `work` run the task and [`finish`].
#[inline]
pub(crate) fn run(birth: &Birth<'_>, pipes: Pipes, slot: &mut Slot, work: impl FnOnce(&mut Slot)) {
    // SAFETY: the slot is the caller's until this returns, and the word is forgotten before.
    unsafe { sys::set_note(slot.note()) };
    die_with_parent(birth);
    birth.signals.leave_to_parent();
    slot.set_stage(Stage::SetUp);
    if let Some(mask) = birth.mask {
        sys::set_signal_mask(&mask.open_for_parent_death());
    }

    if let Some(terms) = birth.terms
        && let Err(refused) = terms.enter(pipes)
    {
        report::write_refused(slot, refused);
        sys::exit_now(1);
    }

    // The report too: encoding a value, or asking an error for its text, runs code of the task's, which may panic.
    let ended = panic::catch(|| {
        if let Some(in_child) = &birth.settings.in_child {
            in_child();
            tie_again();
        }
        slot.set_stage(Stage::Running);
        work(slot);
    });
    if let Err(panicked) = ended {
        flush();
        slot.set_stage(Stage::Reporting);
        report::write_panic(slot, panicked);
    }
    sys::forget_note();
}

/// Reports what the task returned.
#[inline]
pub(crate) fn finish<T: Serialize>(slot: &mut Slot, value_bytes_max: usize, returned: Result<T>) {
    flush();
    slot.set_stage(Stage::Reporting);
    report::write(slot, value_bytes_max, returned);
}

/// Before the report: what the task printed is out when it counts as done. A reader that is gone is not the task's failure.
#[inline]
fn flush() {
    drop(io::stdout().flush());
}

/// Of this child, for [`tie_again`]: its parent, and whether that one's main thread forked it.
static PARENT: (AtomicU32, AtomicBool) = (AtomicU32::new(0), AtomicBool::new(false));

// Inline, as is what it calls: each far page of code costs a child a page fault, and a child is made of little else.
/// Has the kernel end this process with its parent, and looks whether that came too late.
#[inline]
fn die_with_parent(birth: &Birth<'_>) {
    // Relaxed, both: read on this thread.
    PARENT.0.store(birth.parent_pid, Ordering::Relaxed);
    PARENT.1.store(birth.by_main_thread, Ordering::Relaxed);
    tie_again();
}

/// For a child, after code that may have changed its user or group: then the kernel forgets whom it was to end it with,
/// `PR_SET_PDEATHSIG(2const)`.
#[inline]
pub(crate) fn tie_again() {
    // Relaxed, both: written on this thread.
    if PARENT.1.load(Ordering::Relaxed) {
        sys::die_with_main_thread();
    } else {
        sys::die_with_parent_process();
    }
    let made_by = PARENT.0.load(Ordering::Relaxed);
    // 0: the parent is outside this process's namespace and cannot be told from another.
    if !matches!(sys::parent_pid(), parent if parent == made_by || parent == 0) {
        sys::exit_now(1);
    }
}
