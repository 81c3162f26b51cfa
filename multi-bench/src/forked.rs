//! What runs in forked processes, with the promise that forking asks for beside each.
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_core::{DynGroup, GroupOptions};

use crate::Result;
use crate::workload::Work;

/// Does the work in a group of processes.
pub(crate) fn sum(work: Work) -> Result {
    // SAFETY: the tasks add up numbers: they take no lock that another thread could hold, and share no memory with this process.
    work.in_group(unsafe { multi_proc::Group::new() })
}

/// A group that runs empty tasks and no others.
#[derive(Debug)]
pub(crate) struct EmptyTasks(multi_proc::Group);

impl EmptyTasks {
    pub(crate) fn new() -> Self {
        // SAFETY: the group's only tasks are those of `one`, which do nothing.
        Self(unsafe { multi_proc::Group::new() })
    }

    /// Starts one empty task and waits for it.
    pub(crate) fn one(&mut self) -> Result {
        self.0.go(|| Ok(()));
        self.0.wait()?;
        Ok(())
    }
}

/// A group for tasks that count, or look at the clock.
pub(crate) fn calculators(options: GroupOptions) -> Result<multi_proc::Group> {
    let builder = multi_proc::Group::builder().options(options);
    // SAFETY: this process measures one contender and has one thread, and the tasks take no lock and share no memory.
    Ok(unsafe { builder.fork() }?)
}

/// A pool for the same.
pub(crate) fn pool(workers: usize) -> Result<multi_proc::Pool> {
    let builder = multi_proc::Pool::builder().workers(workers);
    // SAFETY: as for `calculators`.
    Ok(unsafe { builder.fork() }?)
}

/// A group for workers that stand at the ends of a channel.
pub(crate) fn crew() -> Box<dyn DynGroup> {
    // SAFETY: this process measures one contender and has one thread, so nobody holds a lock that a worker takes. What workers share is
    // made for it: descriptors, the crew's board, and channels that are used on both sides of a fork or opened after it.
    Box::new(unsafe { multi_proc::Group::new() })
}
