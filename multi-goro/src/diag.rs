//! Who runs, who waits and for what: reports for a person who looks at a program that does not do what it should.
//!
//! [`dump`] lists the tasks of a runtime, by name, start site and what they wait for. It can be taken from any thread at any time, also
//! when all workers are busy or everything hangs; tasks go on meanwhile, but for those that end, which wait for a part of the list, a millisecond or so.
//!
//! A **deadlock** of the whole process is told on standard error without being asked, once, some seconds after it has come about: when
//! every thread sleeps, and each is a worker with nothing to run and no timer, or waits without a limit in a group, for a channel or for a
//! lock of this crate. A thread that does anything else, asleep or not, may be about to end the wait: then nothing is told, and
//! [`Dump::is_stalled`] is for who knows better.
//!
//! Tasks that **hold each other up** for ever are told within seconds, once, whatever else goes on: they wait for a [`Mutex`](crate::sync::Mutex), a
//! [`RwLock`](crate::sync::RwLock) or a group without a limit, each behind one of the others. The report says who waits behind whom; [`Dump::deadlocked`] finds the same ones.
//! Nothing is told that a thread, a timer or a message could still end.
//!
//! [`metrics`] says in numbers what a runtime has done so far; that costs next to nothing.
//!
//! ```
//! use multi_goro::{Group, TaskOptions, chan, diag};
//!
//! let (tx, rx) = chan::<()>(0);
//! let mut group = Group::new();
//! group.go_with(TaskOptions::new().name("reader"), move || {
//!     assert!(rx.recv().is_err());
//!     Ok(())
//! });
//! multi_goro::sleep(std::time::Duration::from_millis(20));
//! let text = diag::dump().to_string();
//! assert!(text.contains("task \"reader\" started at "), "{text}");
//! assert!(text.contains("waits to receive"), "{text}");
//! drop(tx);
//! group.wait()?;
//! # Ok::<(), multi_goro::GroupError>(())
//! ```

pub(crate) mod deadlock;
pub(crate) mod held_up;
mod metrics;

pub use metrics::{Metrics, metrics};

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::sched::WaitsFor;

use crate::runtime::{Runtime, existing_runtime};
use crate::sched::{self, Behind, Does, Shared, Sighting, Survey};

/// The tasks of one runtime as they were a moment ago: see [`dump`].
///
/// It displays as a table, with tasks of the same name, start site and state in one line.
///
/// ```
/// use multi_goro::{Group, TaskOptions, chan, diag};
///
/// let (tx, rx) = chan::<()>(0);
/// let mut group = Group::new();
/// group.go_with(TaskOptions::new().name("waits"), move || Ok(rx.recv()?));
/// loop {
///     let dump = diag::dump();
///     let parked = |task: &diag::TaskReport| matches!(task.state(), diag::TaskState::Waiting(_));
///     if let Some(task) = dump.tasks().find(|task| task.name() == Some("waits") && parked(task)) {
///         assert!(task.started_at().is_some());
///         break;
///     }
///     std::thread::yield_now();
/// }
/// tx.send(())?;
/// group.wait()?;
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dump {
    survey: Survey,
    tasks: Vec<TaskReport>,
    begun: Instant,
    ended: Instant,
}

/// What is known of one task.
#[derive(Debug, Clone)]
pub struct TaskReport(Sighting);

/// What a started task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// A worker is inside it.
    Running,
    /// It can go on, and its worker is busy with others.
    Ready,
    /// It is parked.
    Waiting(WaitsFor),
}

/// Looks at the tasks of the running task's runtime, or of the global one.
///
/// ```
/// let dump = multi_goro::diag::dump();
/// println!("{dump}");
/// ```
///
/// # Fork
///
/// In a forked child it is empty.
#[must_use]
pub fn dump() -> Dump {
    existing_runtime().map_or_else(Dump::nothing, |shared| Dump::of(&shared))
}

/// Looks at the tasks of every runtime of the process, those of [`OsThread`](crate::OsThread)s among them.
///
/// ```
/// for dump in multi_goro::diag::dump_all() {
///     println!("{dump}");
/// }
/// ```
#[must_use]
pub fn dump_all() -> Vec<Dump> {
    let runtimes = sched::every_runtime();
    runtimes.iter().map(Dump::of).collect()
}

impl Runtime {
    /// Looks at the tasks: see [`diag`](crate::diag).
    ///
    /// ```
    /// let runtime = multi_goro::Runtime::builder().workers(1).build()?;
    /// assert_eq!(runtime.dump().tasks().count(), 0);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// # Fork
    ///
    /// In a forked child it is empty.
    #[must_use]
    pub fn dump(&self) -> Dump {
        match self.shared().check_process() {
            Ok(()) => Dump::of(self.shared()),
            Err(_) => Dump::nothing(),
        }
    }
}

impl Dump {
    fn of(shared: &Arc<Shared>) -> Self {
        Self::of_those(shared, |_| true)
    }

    /// Of the tasks that wait behind others only.
    fn of_held_up(shared: &Arc<Shared>) -> Self {
        Self::of_those(shared, sched::Seen::is_behind)
    }

    fn of_those(shared: &Arc<Shared>, which: fn(sched::Seen) -> bool) -> Self {
        let begun = Instant::now();
        let mut survey = shared.survey(which);
        let tasks = std::mem::take(&mut survey.sightings);
        Self {
            begun,
            ended: Instant::now(),
            survey,
            tasks: tasks.into_iter().map(TaskReport).collect(),
        }
    }

    fn nothing() -> Self {
        Self {
            survey: Survey {
                sightings: Vec::new(),
                task_count: 0,
                workers: 0,
                sleeping: 0,
                is_at_rest: false,
            },
            tasks: Vec::new(),
            begun: Instant::now(),
            ended: Instant::now(),
        }
    }

    /// The tasks that have started and have a stack, in no order.
    ///
    /// ```
    /// let waiting = |task: &&multi_goro::diag::TaskReport| task.lasts().as_secs() >= 1;
    /// for task in multi_goro::diag::dump().tasks().filter(waiting) {
    ///     println!("{task}");
    /// }
    /// ```
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &TaskReport> {
        self.tasks.iter()
    }

    /// Tasks that are not listed: they have not started, or wait without a stack (while it is polled, such a task stands on one). Counted a moment after the others were listed.
    ///
    /// ```
    /// let group = multi_goro::Group::new();
    /// group.go_async(std::future::pending());
    /// // Once it waits, without a stack, it has no row of its own.
    /// while multi_goro::diag::dump().unlisted_count() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// group.detach();
    /// ```
    #[must_use]
    pub fn unlisted_count(&self) -> usize {
        self.survey.task_count.saturating_sub(self.tasks.len())
    }

    /// Whether nothing inside the runtime can make any of its tasks go on: every worker sleeps, every task is parked, none of them has a
    /// time limit, and none waits for a blocking call or another OS thread.
    ///
    /// Then only a plain thread, or a task of another runtime, can wake one. Where there is none that will, this is a deadlock, and the tasks
    /// listed are the ones in it.
    ///
    /// ```
    /// use multi_goro::Runtime;
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// assert!(!runtime.dump().is_stalled(), "there is nobody in it");
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        !self.tasks.is_empty() && self.is_hopeless()
    }

    /// Tasks that hold each other up for ever, whatever else the process does: they wait for a [`Mutex`](crate::sync::Mutex), a
    /// [`RwLock`](crate::sync::RwLock) or a group without a limit, each behind one of the others, and did so in `earlier`, which was made half a second before this at least. A
    /// monitor looks for them, too, and tells of them once on standard error.
    ///
    /// Of waits of other kinds (for a channel, a condition, a `RwLock` that several read) nobody knows who could end them: who hangs on one of
    /// those is not listed.
    ///
    /// ```
    /// let earlier = multi_goro::diag::dump();
    /// let later = multi_goro::diag::dump();
    /// assert_eq!(later.deadlocked(&earlier).count(), 0);
    /// ```
    pub fn deadlocked(&self, earlier: &Self) -> impl ExactSizeIterator<Item = &TaskReport> {
        held_up::find(earlier, self).into_iter()
    }

    /// As [`is_stalled`](Self::is_stalled), but for a runtime without tasks too.
    fn is_hopeless(&self) -> bool {
        let hopeless = |task: &TaskReport| match task.0.does {
            Does::Wait { what, has_deadline } => {
                !has_deadline && !matches!(what, WaitsFor::Blocking | WaitsFor::OsThread)
            }
            Does::Run | Does::BeReady => false,
        };
        self.survey.is_at_rest && self.unlisted_count() == 0 && self.tasks.iter().all(hopeless)
    }
}

impl TaskReport {
    /// The name that it was given.
    ///
    /// ```
    /// use multi_goro::{Group, TaskOptions, chan, diag};
    ///
    /// let (tx, rx) = chan::<u8>(0);
    /// let mut group = Group::new();
    /// group.go_with(TaskOptions::new().name("reader"), move || Ok(drop(rx.recv())));
    /// while diag::dump().tasks().len() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// let dump = diag::dump();
    /// let task = dump.tasks().find(|task| task.name() == Some("reader")).ok_or("not started")?;
    /// assert_eq!(task.name(), Some("reader"));
    /// drop(tx);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The call that started it.
    ///
    /// ```
    /// use multi_goro::{Group, TaskOptions, chan, diag};
    ///
    /// let (tx, rx) = chan::<u8>(0);
    /// let mut group = Group::new();
    /// group.go_with(TaskOptions::new().name("reader"), move || Ok(drop(rx.recv())));
    /// while diag::dump().tasks().len() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// let dump = diag::dump();
    /// let task = dump.tasks().find(|task| task.name() == Some("reader")).ok_or("not started")?;
    /// assert!(task.started_at().is_some_and(|at| at.line() > 0));
    /// drop(tx);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn started_at(&self) -> Option<&'static Location<'static>> {
        self.0.started_at
    }

    /// The worker that it runs on, counted from 0.
    ///
    /// ```
    /// use multi_goro::{Group, TaskOptions, chan, diag};
    ///
    /// let (tx, rx) = chan::<u8>(0);
    /// let mut group = Group::new();
    /// group.go_with(TaskOptions::new().name("reader"), move || Ok(drop(rx.recv())));
    /// while diag::dump().tasks().len() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// let dump = diag::dump();
    /// let task = dump.tasks().find(|task| task.name() == Some("reader")).ok_or("not started")?;
    /// assert!(task.worker() < 1_000);
    /// drop(tx);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn worker(&self) -> usize {
        self.0.worker
    }

    /// Behind whom it waits, where that is known for certain.
    fn behind(&self) -> Option<Behind> {
        self.0.stamp?.behind()
    }

    /// What it is called in reports.
    fn title(&self) -> String {
        let name = self.name().map(|name| format!(" \"{name}\""));
        let place = self.started_at().map(|at| format!(" started at {at}"));
        format!(
            "task{}{}",
            name.unwrap_or_default(),
            place.unwrap_or_default()
        )
    }

    /// What it does.
    ///
    /// ```
    /// use multi_goro::{Group, TaskOptions, chan, diag};
    ///
    /// let (tx, rx) = chan::<u8>(0);
    /// let mut group = Group::new();
    /// group.go_with(TaskOptions::new().name("reader"), move || Ok(drop(rx.recv())));
    /// let waiting = diag::TaskState::Waiting(diag::WaitsFor::Receive);
    /// while !diag::dump().tasks().any(|task| task.state() == waiting) {
    ///     std::thread::yield_now();
    /// }
    /// drop(tx);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self.0.does {
            Does::Run => TaskState::Running,
            Does::BeReady => TaskState::Ready,
            Does::Wait { what, .. } => TaskState::Waiting(what),
        }
    }

    /// For how long it has done so. A worker looks at its clock every 16 turns: it is too long by what those took, and by 10 ms.
    ///
    /// ```
    /// use multi_goro::{Group, TaskOptions, chan, diag};
    ///
    /// let (tx, rx) = chan::<u8>(0);
    /// let mut group = Group::new();
    /// group.go_with(TaskOptions::new().name("reader"), move || Ok(drop(rx.recv())));
    /// while diag::dump().tasks().len() == 0 {
    ///     std::thread::yield_now();
    /// }
    /// let dump = diag::dump();
    /// let task = dump.tasks().find(|task| task.name() == Some("reader")).ok_or("not started")?;
    /// assert!(task.lasts().as_secs() < 3_600);
    /// drop(tx);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.0.lasts
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("runs"),
            Self::Ready => f.write_str("is ready"),
            Self::Waiting(what) => write!(f, "waits {what}"),
        }
    }
}

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.title();
        let seconds = self.lasts().as_secs_f64();
        let (state, worker) = (self.state(), self.worker());
        write!(f, "{title} {state}, for {seconds:.2} s, on worker {worker}")
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { survey, tasks, .. } = self;
        let (workers, asleep) = (survey.workers, survey.sleeping);
        write!(
            f,
            "{workers} workers, {asleep} asleep, {} started tasks",
            tasks.len()
        )?;
        if self.unlisted_count() > 0 {
            write!(
                f,
                ", {} that have not started or wait without a stack",
                self.unlisted_count()
            )?;
        }
        // Those that last longest first, and of a kind the one that does.
        let mut kinds: BTreeMap<_, (usize, &TaskReport)> = BTreeMap::new();
        for task in tasks {
            let place = task.started_at();
            let place = place.map(|at| (at.file(), at.line(), at.column()));
            let kind = kinds.entry((task.0.does, task.name(), place));
            let (count, longest) = kind.or_insert((0, task));
            *count += 1;
            if task.lasts() > longest.lasts() {
                *longest = task;
            }
        }
        for (count, longest) in kinds.values() {
            match count {
                1 => write!(f, "\n  {longest}")?,
                _ => write!(f, "\n  {longest}, and {} more like it", count - 1)?,
            }
        }
        if self.is_stalled() {
            write!(
                f,
                "\n  nothing runs, and no time limit or call is out that will wake one of these: unless a thread outside does, they wait for ever"
            )?;
        }
        Ok(())
    }
}
