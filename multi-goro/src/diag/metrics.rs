//! What a runtime has done so far, in numbers.

use std::fmt;
use std::sync::Arc;

use crate::runtime::{Runtime, existing_runtime};
use crate::sched::Shared;

/// What a runtime has done so far, and has: see [`metrics`].
///
/// Counts are of all workers since the runtime started, each read at its own moment. A worker hands on its turns and waits every 16
/// turns and before it sleeps.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Workers, spare ones that have been needed among them.
    pub workers: usize,
    /// Those of them that sleep.
    pub workers_asleep: usize,
    /// Tasks that have been started and have not ended.
    pub tasks: usize,
    /// Tasks started so far, second halves of a `join` that another worker ran among them.
    pub tasks_started: u64,
    /// Tasks that have ended.
    pub tasks_ended: u64,
    /// Turns of the workers: how often one has looked for the next task.
    pub turns: u64,
    /// Waits in which a task was parked.
    pub parks: u64,
    /// How often a worker has taken unstarted tasks from another, half of what that had.
    pub steals: u64,
    /// Second halves of a `join` that were run by another worker than the caller's, or by it while the caller waited.
    pub halves_taken: u64,
    /// Tasks that were woken by another worker or a thread.
    pub wakes_from_elsewhere: u64,
    /// How often a worker has gone to sleep.
    pub sleeps: u64,
    /// Stacks that exist.
    pub stacks: usize,
    /// Those of them that lie ready with the memory they have touched. (Of those in neither row a worker keeps up to 128 of each size for
    /// its next tasks; the others are in use.)
    pub stacks_warm: usize,
    /// Those of them that lie ready and have given their memory back.
    pub stacks_cold: usize,
}

/// The numbers of the running task's runtime, or of the global one.
///
/// ```
/// let mut group = multi_goro::Group::new();
/// group.go(|| Ok(()));
/// group.wait()?;
/// let metrics = multi_goro::diag::metrics();
/// assert!(metrics.tasks_ended >= 1);
/// println!("{metrics}");
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
///
/// # Fork
///
/// In a forked child all are zero.
#[must_use]
pub fn metrics() -> Metrics {
    existing_runtime().map_or_else(Metrics::default, |shared| Metrics::of(&shared))
}

impl Runtime {
    /// Its numbers: see [`diag::metrics`](crate::diag::metrics()).
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(2).build()?;
    /// assert_eq!(runtime.run(|| 1 + 1), 2);
    /// assert_eq!(runtime.metrics().tasks_started, 1);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        match self.shared().check_process() {
            Ok(()) => Metrics::of(self.shared()),
            Err(_) => Metrics::default(),
        }
    }
}

impl Metrics {
    fn of(shared: &Arc<Shared>) -> Self {
        let totals = shared.totals();
        let (workers, workers_asleep) = shared.worker_counts();
        let [stacks, stacks_warm, stacks_cold] = shared.stack_counts();
        Self {
            workers,
            workers_asleep,
            tasks: usize::try_from(totals.started.saturating_sub(totals.ended))
                .unwrap_or(usize::MAX),
            tasks_started: totals.started,
            tasks_ended: totals.ended,
            turns: totals.turns,
            parks: totals.parks,
            steals: totals.steals,
            halves_taken: totals.halves,
            wakes_from_elsewhere: totals.wakes,
            sleeps: totals.sleeps,
            stacks,
            stacks_warm,
            stacks_cold,
        }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} workers, {} asleep; {} tasks, {} started, {} ended",
            self.workers, self.workers_asleep, self.tasks, self.tasks_started, self.tasks_ended
        )?;
        writeln!(
            f,
            "{} turns, {} parks, {} wakes from elsewhere, {} steals, {} halves of joins taken, {} sleeps",
            self.turns,
            self.parks,
            self.wakes_from_elsewhere,
            self.steals,
            self.halves_taken,
            self.sleeps
        )?;
        write!(
            f,
            "{} stacks, {} of them ready with their memory and {} without",
            self.stacks, self.stacks_warm, self.stacks_cold
        )
    }
}
