//! Who a task is: its number, and the limited groups it runs in.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A task's number in its group: 0 for the first, one more for each after it, also across waits. A task that `try_go` gave back
/// may have used up a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    /// The number itself.
    #[must_use]
    pub fn index(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The limited groups that a task runs in, its own first, then that of the task that made that group, and so on.
///
/// The ledger looks at the caller's at each `go`, so that a task never waits for room in a group whose room it takes up itself,
/// whichever backends lie between them. A backend says which lineage its tasks have: with [`enter`](Self::enter) where a task has a
/// thread to itself, with [`ask_first`](Self::ask_first) where tasks share threads. A group without a limit leaves no trace in it,
/// so that it usually costs nothing.
#[derive(Clone, Default)]
pub struct Lineage(Option<Arc<Ancestor>>);

struct Ancestor {
    group: u64,
    parent: Lineage,
}

thread_local! {
    /// The lineage of the task that has this thread to itself.
    static OF_THREAD: RefCell<Lineage> = const { RefCell::new(Lineage::NONE) };
}

/// Whom to ask before the thread.
static GREEN: OnceLock<fn() -> Option<Lineage>> = OnceLock::new();

impl Lineage {
    /// The lineage of code that runs in no limited group.
    pub const NONE: Self = Self(None);

    /// The lineage of the calling code.
    #[must_use]
    pub fn current() -> Self {
        if let Some(of_task) = GREEN.get().and_then(|ask| ask()) {
            return of_task;
        }
        // A thread-local destructor may call `go` after the cell is gone: such code runs in no task.
        OF_THREAD
            .try_with(|lineage| lineage.borrow().clone())
            .unwrap_or_default()
    }

    /// Makes this the lineage of the calling thread: for a backend, when a task begins that has the thread to itself.
    pub fn enter(self) {
        // A thread that is being torn down begins no task.
        let _entered = OF_THREAD.try_with(|lineage| *lineage.borrow_mut() = self);
    }

    /// Has `ask` asked first from now on: for a backend whose tasks share threads. It returns the lineage of the task that runs on
    /// the calling thread, and none where no task of that backend does. One backend of a program can have this seat: the first.
    pub fn ask_first(ask: fn() -> Option<Self>) {
        GREEN.get_or_init(|| ask);
    }

    /// This lineage and `group`. A group appears once, however long the chain of tasks that start each other in it.
    pub(crate) fn with(&self, group: u64) -> Self {
        if self.contains(group) {
            return self.clone();
        }
        Self(Some(Arc::new(Ancestor {
            group,
            parent: self.clone(),
        })))
    }

    /// Whether there is any limited group in it.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn is_none(&self) -> bool {
        !self.is_some()
    }

    pub(crate) fn contains(&self, group: u64) -> bool {
        let mut at = self;
        while let Some(ancestor) = &at.0 {
            if ancestor.group == group {
                return true;
            }
            at = &ancestor.parent;
        }
        false
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = std::iter::successors(self.0.as_ref(), |ancestor| ancestor.parent.0.as_ref());
        f.debug_list()
            .entries(groups.map(|ancestor| ancestor.group))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_knows_every_group_above() {
        let inner = Lineage::NONE.with(1).with(2);
        assert!(inner.contains(1) && inner.contains(2) && !inner.contains(3));
        assert!(!Lineage::NONE.contains(1));
    }
}
