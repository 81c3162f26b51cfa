//! A child's life, from the fork to `_exit`.

use crate::hook;
use crate::reap::Settings;
use crate::report;
use crate::slot::{Slot, Stage};
use crate::sys::{self, Disposition, SignalMask};
use multi_core::{Result, TaskErrorKind, panic};
use serde::Serialize;
use std::io::{self, Write as _};

/// What a child has to know of the moment it was forked in.
pub(crate) struct Birth<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) parent_pid: u32,
    /// The forking thread is the parent's main thread, which lives as long as its process.
    pub(crate) by_main_thread: bool,
    /// The signals that the forking thread held back.
    pub(crate) mask: SignalMask,
    pub(crate) signals: Handled,
}

/// The signals that ask a program to end and that the parent handles with functions of its own.
#[derive(Clone, Copy)]
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

    /// A child does not run its parent's handlers: they often write to a pipe, which is the parent's still. SIGTERM, which its group
    /// sends it, ends it again; what a terminal sends to parent and children alike is left to the parent, which handles it.
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
pub(crate) fn live<T, F>(birth: &Birth<'_>, slot: &mut Slot, task: F) -> !
where
    T: Serialize,
    F: FnOnce() -> Result<T>,
{
    hook::enter_child();
    die_with_parent(birth);
    birth.signals.leave_to_parent();
    slot.set_stage(Stage::SetUp);
    sys::set_signal_mask(&birth.mask.open_for_parent_death());

    let outcome = panic::catch(|| {
        if let Some(in_child) = &birth.settings.in_child {
            in_child();
        }
        slot.set_stage(Stage::Running);
        task()
    });
    let outcome = outcome.and_then(|returned| returned.map_err(TaskErrorKind::Returned));
    // Before the report: what the task printed is out when it counts as done. A reader that is gone is not the task's failure.
    drop(panic::catch(|| io::stdout().flush()));

    slot.set_stage(Stage::Reporting);
    let value_bytes_max = birth.settings.value_bytes_max;
    // Encoding a value, or asking an error for its text, runs code of the task's, which may panic.
    if let Err(panicked) = panic::catch(|| report::write(slot, value_bytes_max, outcome)) {
        report::write::<T>(slot, value_bytes_max, Err(panicked));
    }
    sys::exit_now(0)
}

/// Has the kernel end this process with its parent, and looks whether that came too late.
fn die_with_parent(birth: &Birth<'_>) {
    if birth.by_main_thread {
        sys::die_with_main_thread();
    } else {
        sys::die_with_parent_process(birth.parent_pid);
    }
    if sys::parent_pid() != birth.parent_pid {
        sys::exit_now(1);
    }
}
