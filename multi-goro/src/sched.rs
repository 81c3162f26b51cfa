//! The scheduler: workers, tasks, parking. How workers sleep and wake is in `sched/README.md`.

mod abandon;
mod behind;
mod bound;
mod cells;
mod counts;
mod current;
mod deal;
pub(crate) mod errand;
mod linger;
mod locals;
mod monitor;
mod naps;
mod offers;
mod park;
mod place;
mod polled;
mod roster;
mod shared;
mod status;
mod task;
mod tidy;
mod timers;
mod waiters;
mod wheel;
mod worker;
mod worth;

pub(crate) use behind::{Behind, GroupNumber, Identity, Stamp};
pub(crate) use bound::{Lent, Unseated};
pub(crate) use current::{
    can_switch, checkpoint, enter, is_in, is_on, on_task, spend, stay, task_lineage, visitor,
    yield_now,
};
pub use deal::Placement;
pub(crate) use locals::with_locals;
pub use monitor::StuckTask;
pub(crate) use monitor::{OnStuck, on_held_up};
pub(crate) use naps::Nap;
pub(crate) use offers::Offer;
pub(crate) use park::{Blocked, OwnedWaiter, WAKES_AHEAD, Waiter, Wake, on_long_wait, park};
pub(crate) use polled::Verdict;
pub(crate) use roster::{Does, Sighting, Survey};
pub(crate) use shared::every_runtime;
pub(crate) use shared::{Plan, Shared, current_runtime, process_id};
pub(crate) use status::Seen;
pub use status::WaitsFor;
pub(crate) use task::{Header, Info, Job, Lane};
pub(crate) use waiters::{Waiters, wait_behind, wait_in};
