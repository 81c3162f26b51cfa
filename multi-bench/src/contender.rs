//! Who takes part in the seed's benchmark: one row each.

use std::sync::OnceLock;

use multi_core::Group;
use multi_goro::Runtime;

use crate::Result;
use crate::forked;
use crate::workload::Work;

/// A way to run a group of workers.
#[derive(Debug, Clone, Copy)]
pub struct Contender {
    /// Its name in the table.
    pub name: &'static str,
    /// Whether it is of this workspace.
    pub ours: bool,
    /// One execution, from making the group to the end of its last worker.
    pub run: fn(Work) -> Result,
}

/// Everybody. A backend's row may come from `cargo xtask new-backend`.
pub const GROUPS: &[Contender] = &[
    Contender::ours("goro.Group (green tasks)", |work| {
        work.in_group(green().group())
    }),
    Contender::ours("goro.Group::locked", |work| {
        work.in_group(multi_goro::Group::locked())
    }),
    Contender::ours("pthread.Group", |work| {
        work.in_group(multi_pthread::Group::new())
    }),
    Contender::ours("proc.Group", forked::sum),
    // A new backend's row goes above this line.
    Contender::other("std::thread::scope", Work::in_std_scope),
];

/// Workers for the green tasks, as the global runtime has, but for its reports: that these tasks keep their workers is what is measured.
fn green() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = Runtime::builder().report_stuck(false).build();
        runtime.unwrap_or_else(|error| panic!("{error}"))
    })
}

impl Contender {
    const fn ours(name: &'static str, run: fn(Work) -> Result) -> Self {
        Self {
            name,
            ours: true,
            run,
        }
    }

    const fn other(name: &'static str, run: fn(Work) -> Result) -> Self {
        Self {
            name,
            ours: false,
            run,
        }
    }
}

impl Work {
    /// Does the work in a group: what every backend's row calls.
    ///
    /// # Errors
    ///
    /// That of the group's `wait`.
    pub fn in_group(self, mut group: impl Group) -> Result {
        for worker in 0..self.workers {
            group.go(move || {
                let _sum = self.sum(worker);
                Ok(())
            });
        }
        group.wait()?;
        Ok(())
    }

    /// Does the work as the standard library has it.
    ///
    /// # Errors
    ///
    /// Where a worker panicked.
    pub fn in_std_scope(self) -> Result {
        std::thread::scope(|scope| {
            for worker in 0..self.workers {
                scope.spawn(move || self.sum(worker));
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_used_twice() {
        for (index, contender) in GROUPS.iter().enumerate() {
            assert!(
                GROUPS[..index]
                    .iter()
                    .all(|other| other.name != contender.name),
                "{}",
                contender.name
            );
        }
    }
}
