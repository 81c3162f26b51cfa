//! The scheduler: workers, tasks, parking. How workers sleep and wake is in `sched/README.md`.

use std::cell::RefCell;

use multi_core::Lineage;

mod current;
mod park;
mod place;
mod shared;
mod task;
mod timers;
mod waiters;
mod worker;

pub(crate) use current::{on_task, spend, with_current_info, yield_now};
pub(crate) use park::{Waiter, Wake, park};
pub(crate) use shared::{Shared, current_runtime, process_id};
pub(crate) use task::{Info, Job};
pub(crate) use waiters::{Waiters, wait_in};

/// The limited groups that the calling task runs in.
pub(crate) fn current_lineage() -> Lineage {
    with_current_info(|info| info.lineage.clone()).unwrap_or_else(thread_lineage)
}

thread_local! {
    /// The lineage of a task that has this thread to itself.
    static THREAD_LINEAGE: RefCell<Lineage> = const { RefCell::new(Lineage::NONE) };
}

/// Says which task this thread is, for as long as it lasts.
pub(crate) fn set_thread_lineage(lineage: Lineage) {
    THREAD_LINEAGE.set(lineage);
}

fn thread_lineage() -> Lineage {
    // A thread-local destructor may call `go` after the cell is gone: such code runs in no task.
    THREAD_LINEAGE
        .try_with(|lineage| lineage.borrow().clone())
        .unwrap_or_default()
}
