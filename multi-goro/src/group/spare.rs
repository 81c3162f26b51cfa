//! Groups that a scope has left as good as new, for the next scope on the same worker.
//!
//! To make a group takes eight allocations and two looks at what all groups of the process share: half of what a small scope costs.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Group, Place};
use crate::sched;

/// Groups that a thread keeps: scopes within scopes take one each, and give them back as they end.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Group>> = const { RefCell::new(Vec::new()) };
}

/// A group as [`Group::new`] makes them, if one is left. For tasks; a thread makes its own.
pub(super) fn take() -> Option<Group> {
    // Not there any more while the thread is torn down.
    let group = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok()??;
    // A thread may have been another runtime's worker before, and this process the parent of the one that kept it.
    is_of_here(&group).then_some(group)
}

/// Keeps a group that has been waited for, if nothing is left of its use; else drops it.
pub(super) fn keep(mut group: Group) {
    if !is_of_here(&group) {
        return;
    }
    let renewed = match Arc::get_mut(&mut group.inner) {
        Some(inner) => inner.ledger.renew(),
        None => false,
    };
    if renewed {
        let surplus = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(group);
                None
            } else {
                Some(group)
            }
        });
        // Dropped with nothing borrowed.
        drop(surplus);
    }
}

/// Whether [`Group::new`] would make one like it here.
fn is_of_here(group: &Group) -> bool {
    let Place::Green { shared, .. } = &group.inner.place else {
        return false;
    };
    group.inner.owner == sched::process_id() && shared.bound().is_none() && sched::is_in(shared)
}
