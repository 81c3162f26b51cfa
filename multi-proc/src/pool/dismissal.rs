//! How a worker that is being ended for one job's sake is kept from beginning another.

use crate::sync::{AtomicU32, Ordering, fence};

/// In a worker's row: 1 while the parent has it ended for the sake of the job it runs, so that it is to begin no other. Only the parent
/// moves it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct Dismissal(AtomicU32);

impl Dismissal {
    /// For the parent: no other job. Then look whether the worker is still in the one that it is ended for.
    pub(super) fn order(&self) {
        // Relaxed: ordered by the fence.
        self.0.store(1, Ordering::Relaxed);
        // SeqCst: the order to leave comes before the look at the job. Pairs with the fence in `is_ordered`: either the worker, which
        // has another job by now, sees the order, or the parent sees that it is not in the first one any more.
        fence(Ordering::SeqCst);
    }

    /// For the parent: the worker may go on.
    pub(super) fn lift(&self) {
        // Relaxed: a worker that sees it late leaves between two jobs, which harms none.
        self.0.store(0, Ordering::Relaxed);
    }

    /// For the worker, after it claimed a job and before it begins it.
    pub(super) fn is_ordered(&self) -> bool {
        // SeqCst: the end of the job before and the claim come before this look. Pairs with the fence in `order`.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        self.0.load(Ordering::Relaxed) != 0
    }
}
