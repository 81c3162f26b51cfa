//! Who a task is: its number, and the limited groups it runs in.

use std::fmt;
use std::sync::Arc;

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
/// A backend keeps one per running task and shows it at the next `go` of that task, so that a task never waits for room in a
/// group whose room it takes up itself. A group without a limit leaves no trace in it, so that it usually costs nothing.
#[derive(Clone, Default)]
pub struct Lineage(Option<Arc<Ancestor>>);

struct Ancestor {
    group: u64,
    parent: Lineage,
}

impl Lineage {
    /// The lineage of code that runs in no limited group.
    pub const NONE: Self = Self(None);

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
