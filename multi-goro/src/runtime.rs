//! Runtimes: the one that everybody shares, and ones made to measure.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use multi_core::{BuildError, Lineage};

use crate::diag;
use crate::group::Group;
use crate::sched::errand::{self, Outcome};
use crate::sched::{self, OnStuck, Placement, Plan, Shared, StuckTask, WaitsFor};
use crate::stack::{self, Class};
use crate::sync::{OsMutex, lock};

/// Most workers a runtime can have; far more than there are processors.
const WORKERS_MAX: usize = 1024;
/// Spare workers of a runtime that was not told, if it has fewer workers.
const SPARES_MIN: usize = 4;
/// The environment variable that sets the number of workers where the program does not.
const WORKERS_VARIABLE: &str = "MULTI_WORKERS";

/// Workers that run green tasks. Most programs need none of their own: [`Group::new`] uses the runtime of the running task,
/// or a global one that starts with its first group.
///
/// ```
/// use multi_goro::Runtime;
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let mut group = runtime.group();
/// group.go(|| Ok(()));
/// group.wait()?;
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// Dropping it lets the workers leave when the last task has ended; tasks cannot be started on it any more. If no task is left
/// it waits for the threads to end.
///
/// # Fork
///
/// A forked child has none of the workers: starting a task there fails with an error that says so.
pub struct Runtime {
    shared: Arc<Shared>,
    threads: OsMutex<Vec<JoinHandle<()>>>,
}

impl Runtime {
    /// A runtime with other numbers than the default.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            workers: None,
            spare_workers: None,
            stack_bytes: stack::DEFAULT_BYTES,
            placement: Placement::Any,
            stacks_in_forks: true,
            on_stuck: OnStuck::default(),
        }
    }

    /// A group whose tasks run here.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(2).build()?;
    /// let mut group = runtime.group();
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn group(&self) -> Group {
        Group::builder()
            .runtime(self)
            .build()
            .unwrap_or_else(|error| unreachable!("the default options are refused: {error}"))
    }

    /// Runs `f` as a task here, waits for it, and returns what it returned. The caller parks or sleeps meanwhile, so `f` may
    /// borrow from it.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(1).build()?;
    /// let text = String::from("borrowed");
    /// assert_eq!(runtime.run(|| text.len()), 8);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With what `f` panics with; if the task cannot be started (no memory for its stack, a forked child).
    #[track_caller]
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        run_on(&self.shared, f)
    }

    /// How many workers it has.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(3).build()?;
    /// assert_eq!(runtime.workers(), 3);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.worker_count()
    }

    /// Tasks that have been started here and have not ended.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(1).build()?;
    /// assert_eq!(runtime.num_tasks(), 0);
    /// assert_eq!(runtime.run(|| runtime.num_tasks()), 1);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn num_tasks(&self) -> usize {
        self.shared.task_count()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A forked child has no workers to tell, and locks that may be held for ever.
        if self.shared.check_process().is_err() {
            return;
        }
        self.shared.close();
        let is_ours = sched::current_runtime().is_some_and(|own| Arc::ptr_eq(&own, &self.shared));
        if is_ours || !self.shared.is_deserted() {
            return;
        }
        for thread in lock(&self.threads).drain(..) {
            // A worker ends by returning: there is no panic to pass on.
            let _ignored = thread.join();
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("workers", &self.workers())
            .field("num_tasks", &self.num_tasks())
            .finish_non_exhaustive()
    }
}

/// Runs `f` as a task and waits for it: see [`Runtime::run`].
#[track_caller]
pub(crate) fn run_on<R: Send>(shared: &Arc<Shared>, f: impl FnOnce() -> R + Send) -> R {
    match errand::send(WaitsFor::Group, f, |info, parcel| {
        shared.spawn(shared.class(), info, parcel);
    }) {
        Outcome::Returned(value) => value,
        Outcome::Panicked(payload) => resume_unwind(payload),
        Outcome::Refused(error) => panic!("{error}"),
    }
}

/// Options of a [`Runtime`], then the runtime.
///
/// ```
/// let error = multi_goro::Runtime::builder().workers(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "0 workers would never run a task; give at least 1, or leave the number out");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RuntimeBuilder {
    workers: Option<usize>,
    spare_workers: Option<usize>,
    stack_bytes: usize,
    placement: Placement,
    stacks_in_forks: bool,
    on_stuck: OnStuck,
}

impl RuntimeBuilder {
    /// Runs tasks on `workers` threads. Default: `MULTI_WORKERS`, else as many as the process may use processors (its
    /// affinity and its cgroup's quota).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Gives each task a stack of `bytes`, rounded up to a class: 16 KiB, 32 KiB, .. 8 MiB. Default: 64 KiB.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// Says on which worker tasks begin, for groups that do not say so themselves ([`Builder::placement`](crate::Builder::placement)).
    /// Default: [`Placement::Any`].
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// With `false`, leaves the stacks of tasks out of forked children (`MADV_DONTFORK`). Default: `true`.
    ///
    /// A fork copies the page tables of all stacks that were touched: with a million tasks that wait this is most of what it
    /// costs. The price: **a task of this runtime that forks has no stack in the child**, which dies of `SIGSEGV` at once, and what others keep on
    /// their stacks cannot be read there. Forks from plain threads, [`blocking`](crate::blocking) and
    /// [`Group::locked`] are as before.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(1).stacks_in_forks(false).build()?;
    /// assert_eq!(runtime.run(|| 6 * 7), 42);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn stacks_in_forks(mut self, keep: bool) -> Self {
        self.stacks_in_forks = keep;
        self
    }

    /// Starts up to `count` threads more while as many workers are stuck in a task (for more than 10 ms) and others wait to
    /// start; they rest once the stuck ones are back. A task that began on one of them stays there. Default: as many as
    /// workers, at least 4. With 0 a task may have to wait for another to end or to wait.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(2).spare_workers(0).build()?;
    /// assert_eq!(runtime.run(|| 6 * 7), 42);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn spare_workers(mut self, count: usize) -> Self {
        self.spare_workers = Some(count);
        self
    }

    /// Whether a task that keeps its worker for more than 10 ms, while others wait to start, is named on standard error: once
    /// each time that it does so, and only now and then if there are many. Default: yes.
    ///
    /// ```
    /// // For a program whose tasks are known to compute for long.
    /// let runtime = multi_goro::Runtime::builder().report_stuck(false).build()?;
    /// runtime.run(|| std::thread::sleep(std::time::Duration::from_millis(15)));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn report_stuck(mut self, report: bool) -> Self {
        self.on_stuck = if report {
            OnStuck::Print
        } else {
            OnStuck::Ignore
        };
        self
    }

    /// Calls `tell` for each task that would be reported, instead of printing. It runs on a thread of the runtime that the workers
    /// need, and must not wait.
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder()
    ///     .on_stuck(|task| eprintln!("{:?} is slow", task.name()))
    ///     .build()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn on_stuck(mut self, tell: impl Fn(&StuckTask) + Send + Sync + 'static) -> Self {
        self.on_stuck = OnStuck::Tell(Arc::new(tell));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: no workers or too many, a `MULTI_WORKERS` that is no number of workers, a stack size out of range or no
    /// multiple of the page, a thread that could not be started.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let workers = match self.workers {
            Some(workers) => check_workers(workers)?,
            None => default_workers(env::var_os(WORKERS_VARIABLE).as_deref())?,
        };
        let class = Class::for_bytes(self.stack_bytes)
            .map_err(|error| BuildError::new(error.to_string()))?;
        let spares = self.spare_workers.unwrap_or(workers.max(SPARES_MIN));
        let plan = Plan {
            workers,
            spares: spares.min(WORKERS_MAX),
            class,
            placement: self.placement,
            stacks_in_forks: self.stacks_in_forks,
            on_stuck: self.on_stuck,
        };
        let (shared, threads) = Shared::start(&plan)
            .map_err(|error| BuildError::new(format!("the green runtime cannot start: {error}")))?;
        ask_lineage_first();
        Ok(Runtime {
            shared,
            threads: OsMutex::new(threads),
        })
    }
}

/// A task's thread is its worker's, so the ledger is to ask us and not the thread. And who waits for long is to look around.
pub(crate) fn ask_lineage_first() {
    sched::on_long_wait(diag::deadlock::look_around);
    sched::on_held_up(diag::held_up::look);
    Lineage::ask_first(sched::task_lineage);
}

fn check_workers(workers: usize) -> Result<usize, BuildError> {
    match workers {
        0 => Err(BuildError::new(
            "0 workers would never run a task; give at least 1, or leave the number out",
        )),
        1..=WORKERS_MAX => Ok(workers),
        _ => Err(BuildError::new(format!(
            "{workers} workers are too many; give at most {WORKERS_MAX}: one per processor is the most that helps"
        ))),
    }
}

/// Workers of a runtime that was not told: what the variable says, else what the system gives us.
fn default_workers(variable: Option<&OsStr>) -> Result<usize, BuildError> {
    let Some(text) = variable else {
        // std asks the affinity and the cgroup's quota.
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        return Ok(processors.min(WORKERS_MAX));
    };
    let workers = text.to_str().and_then(|text| text.trim().parse().ok());
    workers
        .filter(|workers| (1..=WORKERS_MAX).contains(workers))
        .ok_or_else(|| {
            BuildError::new(format!(
                "{WORKERS_VARIABLE}={text:?} is not a number of workers; set it to 1 .. {WORKERS_MAX}, or unset it"
            ))
        })
}

/// The runtime for a group that names none: the running task's if it is not an OS thread's, else the global one.
pub(crate) fn default_runtime() -> Result<Arc<Shared>, BuildError> {
    // What a bound task starts is not bound.
    if let Some(shared) = sched::current_runtime()
        && shared.bound().is_none()
    {
        return Ok(shared);
    }
    let global = GLOBAL.get_or_init(|| Runtime::builder().build());
    match global {
        Ok(runtime) => Ok(Arc::clone(&runtime.shared)),
        Err(error) => Err(error.clone()),
    }
}

/// The runtime of the running task, else the global one if it has started.
pub(crate) fn existing_runtime() -> Option<Arc<Shared>> {
    if let Some(shared) = sched::current_runtime() {
        return Some(shared);
    }
    let global = GLOBAL.get()?.as_ref().ok()?;
    global
        .shared
        .check_process()
        .is_ok()
        .then(|| Arc::clone(&global.shared))
}

static GLOBAL: OnceLock<Result<Runtime, BuildError>> = OnceLock::new();

/// Green tasks that have been started and have not ended: in the running task's runtime, or in the global one.
///
/// ```
/// let mut group = multi_goro::Group::new();
/// group.go(|| Ok(()));
/// group.wait()?;
/// assert_eq!(multi_goro::num_tasks(), 0);
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
#[must_use]
pub fn num_tasks() -> usize {
    match sched::current_runtime() {
        Some(shared) => shared.task_count(),
        None => match GLOBAL.get() {
            Some(Ok(runtime)) => runtime.num_tasks(),
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_variable_is_obeyed_or_named_in_the_error() {
        assert_eq!(default_workers(Some(OsStr::new("3"))), Ok(3));
        assert!(default_workers(None).is_ok_and(|workers| workers >= 1));
        for bad in ["0", "-1", "two", "", "99999999999999999999"] {
            let error = default_workers(Some(OsStr::new(bad)))
                .unwrap_err()
                .to_string();
            assert_eq!(
                error,
                format!(
                    "MULTI_WORKERS={bad:?} is not a number of workers; set it to 1 .. 1024, or unset it"
                )
            );
        }
    }

    #[test]
    fn too_many_workers_are_refused() {
        let error = Runtime::builder().workers(usize::MAX).build().unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }

    #[test]
    fn bad_stack_size_is_refused() {
        let error = Runtime::builder()
            .workers(1)
            .stack_bytes(4096)
            .build()
            .unwrap_err();
        assert!(error.to_string().contains("too small"), "{error}");
    }
}
