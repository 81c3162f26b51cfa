//! On which worker a task begins, and the queue of those that are for one worker.

use super::shared::{Remote, Shared};
use super::task::TaskRef;
use super::worker::{Worker, bump};
use crate::sync::{Ordering::*, light_fence};

/// On which worker the tasks of a group begin, and so stay: a task that has begun is never moved.
///
/// ```
/// use multi_goro::{Group, Placement, Runtime, chan};
///
/// let runtime = Runtime::builder().workers(2).build()?;
/// runtime.run(|| {
///     // Stages of a pipeline hand a value to each other: on one worker that takes no other thread.
///     let mut stages = Group::builder().placement(Placement::Local).build()?;
///     let (first, mut last) = chan::<u32>(0);
///     for _ in 0..10 {
///         let (to, next) = chan(0);
///         let from = std::mem::replace(&mut last, next);
///         stages.go(move || Ok(from.iter().try_for_each(|value| to.send(value + 1))?));
///     }
///     first.send(0)?;
///     assert_eq!(last.recv()?, 10);
///     drop(first);
///     stages.wait()?;
///     Ok::<(), multi_goro::BoxError>(())
/// })?;
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// It is for tasks that other tasks of the same runtime start; those on an [`OsThread`](crate::OsThread) or with a thread of their own have
/// one place to be. Futures ([`Group::go_async`](crate::Group::go_async)) may change workers at each poll, whatever is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// On the worker of the task that starts it, or on another one that has nothing else to do before. For tasks that compute, and for short ones:
    /// no worker rests while a task waits to begin.
    #[default]
    Any,
    /// On the worker of the task that starts it, whatever the others do. For tasks that talk to each other or to that task more than they
    /// compute: on one worker a message costs a switch, between two a wake as well. The price is that they share one processor. From a
    /// plain thread it is as `Any`.
    Local,
    /// On the worker that has the fewest tasks: those that have begun there and have not ended, and those that are to. For tasks that live long,
    /// mostly wait, and compute now and then: a worker that took many of them while it had nothing else to do would keep them. The price
    /// is that a worker may rest while tasks wait for their turn on another.
    ///
    /// The others of the group are counted as all tasks of the runtime are: workers that are full for other reasons get fewer.
    Spread,
}

impl Worker {
    /// Queues a child of the running task where `placement` says.
    pub(super) fn spawn_as(&self, placement: Placement, task: TaskRef) {
        match placement {
            Placement::Any => self.spawn(task),
            Placement::Local => {
                bump(&self.remote().spawned);
                self.keep(task);
            }
            Placement::Spread => {
                bump(&self.remote().spawned);
                match self.shared.emptiest(self.index) {
                    own if own == self.index => self.keep(task),
                    other => self.shared.deal(other, task),
                }
            }
        }
    }

    /// Queues an unstarted task for this worker.
    fn keep(&self, task: TaskRef) {
        self.remote().dealt.push([task]);
        self.shared.lend_to_monitor();
    }
}

impl Shared {
    /// The worker with the fewest tasks, of those with as few the first from `from` on.
    fn emptiest(&self, from: usize) -> usize {
        let count = self.worker_count();
        (0..count)
            .map(|nth| (from + nth) % count)
            .min_by_key(|worker| self.remotes[*worker].0.load())
            .expect("a runtime has workers")
    }

    /// As [`Worker::spawn_as`], from elsewhere than its workers.
    pub(super) fn put_as(&self, placement: Placement, task: TaskRef) {
        if placement == Placement::Spread {
            // Of empty workers each has its turn.
            // Relaxed: a number to begin with.
            let from = self.started_count() as usize % self.worker_count();
            self.deal(self.emptiest(from), task);
        } else {
            self.put(task);
        }
    }

    /// Queues an unstarted task for another worker.
    fn deal(&self, worker: usize, task: TaskRef) {
        self.remotes[worker].0.dealt.push([task]);
        // In it is fence C, as for an inbox: either the worker sees the task before it sleeps, or we see it asleep.
        if self.idle.posted(worker) {
            self.wake(worker);
        }
        self.lend_to_monitor();
    }

    /// Should the worker be stuck that a task was just queued for, the monitor takes it.
    fn lend_to_monitor(&self) {
        // Fence A. Pairs with fence E in `Watch::doze`: either we see that the monitor dozes, or it sees the task.
        light_fence();
        self.call_monitor();
    }
}

impl Remote {
    /// Tasks that have begun on this worker or are to, about.
    fn load(&self) -> usize {
        // Relaxed: a hint.
        self.stacks.load(Relaxed) + self.dealt.len()
    }
}
