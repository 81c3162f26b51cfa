//! Starting a task: with what was asked for it, as a child of its group.

use crate::limits::Limits;
use crate::outcome::{self, Measured, Settles};
use crate::reap::Reaper;
use crate::start::{self, Patience};
use crate::stdio::{Input, Output};
use crate::terms::Terms;
use multi_core::ledger::{Ledger, Ticket};
use multi_core::{
    CancelToken, Handle, Promise, Result, TaskErrorKind, TaskOptions, TryGoError, TryGoReason,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// A task about to be started, or several alike: what its process is held to, beside a name, a time limit, a token. Made by
/// [`Group::task`](crate::Group::task); nothing happens before [`go`](Self::go) or [`spawn`](Self::spawn).
///
/// ```
/// use multi_proc::Limits;
/// use std::time::Duration;
///
/// // SAFETY: this program has one thread.
/// let mut group = unsafe { multi_proc::Group::new() };
/// let small = group.task().limits(Limits::new().memory_bytes_max(16 << 20)).timeout(Duration::from_secs(10));
/// for n in 0..3_u8 {
///     small.clone().name(format!("part {n}")).go(move || {
///         let room = vec![n; 1 << 20];
///         assert_eq!(room[7], n);
///         Ok(())
///     });
/// }
/// group.wait()?;
/// # Ok::<(), multi_core::BoxError>(())
/// ```
///
/// It does not keep the group: once that is dropped, a task started here is refused as cancelled.
#[derive(Clone)]
#[must_use = "nothing is started before go or spawn"]
pub struct TaskBuilder {
    pub(crate) ledger: Ledger,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) options: TaskOptions,
    pub(crate) terms: Option<Arc<Terms>>,
}

impl TaskBuilder {
    pub(crate) fn new(ledger: &Ledger, reaper: &Arc<Reaper>) -> Self {
        Self {
            ledger: ledger.clone(),
            reaper: Arc::clone(reaper),
            options: TaskOptions::new(),
            terms: None,
        }
    }

    /// As [`TaskOptions::name`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options = self.options.name(name);
        self
    }

    /// As [`TaskOptions::timeout`].
    pub fn timeout(mut self, after: Duration) -> Self {
        self.options = self.options.timeout(after);
        self
    }

    /// As [`TaskOptions::cancel_token`].
    pub fn cancel_token(mut self, token: CancelToken) -> Self {
        self.options = self.options.cancel_token(token);
        self
    }

    /// Takes over a whole set of options at once.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self
    }

    /// Holds the task to `limits` and, where these leave something open, to its group's.
    pub fn limits(mut self, limits: Limits) -> Self {
        let limits = match &self.reaper.settings.terms {
            Some(defaults) => limits.over(&defaults.limits),
            None => limits,
        };
        self.terms().limits = limits;
        self
    }

    /// Where the task reads its standard input from.
    pub fn stdin(mut self, input: Input) -> Self {
        self.terms().stdio.stdin = input;
        self
    }

    /// Where what the task prints to standard output goes to.
    pub fn stdout(mut self, output: Output) -> Self {
        self.terms().stdio.stdout = output;
        self
    }

    /// Where what the task prints to standard error goes to.
    pub fn stderr(mut self, output: Output) -> Self {
        self.terms().stdio.stderr = output;
        self
    }

    fn terms(&mut self) -> &mut Terms {
        let defaults = &self.reaper.settings.terms;
        let terms = self
            .terms
            .get_or_insert_with(|| defaults.clone().unwrap_or_default());
        Arc::make_mut(terms)
    }

    /// Starts `task`: see [`multi_core::Group::go`]. What no process can be held to is a failure of that task.
    #[track_caller]
    pub fn go<F>(&self, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        go(
            &self.ledger,
            &self.reaper,
            self.terms.clone(),
            self.options.clone(),
            task,
        );
    }

    /// Starts `task` now or gives it back: see [`multi_core::Group::try_go`].
    ///
    /// # Errors
    ///
    /// The task and the reason: at the limit, cancelled, or refused, by the system or because of a limit no process can be held to.
    #[track_caller]
    pub fn try_go<F>(&self, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        try_go(
            &self.ledger,
            &self.reaper,
            self.terms.as_ref(),
            self.options.clone(),
            task,
        )
    }

    /// Starts `task` and returns the handle of its value: see [`multi_core::Spawn::spawn`].
    #[track_caller]
    pub fn spawn<T, F>(&self, task: F) -> Handle<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        spawn(
            &self.ledger,
            &self.reaper,
            self.terms.clone(),
            self.options.clone(),
            task,
        )
    }

    /// As [`spawn`](Self::spawn), and brings home what the task used, too. A task that fails has it in its error:
    /// [`TaskError::usage`](multi_core::TaskError::usage).
    ///
    /// ```
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { multi_proc::Group::new() };
    /// let task = group.task().spawn_measured(|| Ok(vec![1_u8; 32 << 20].iter().map(|one| u64::from(*one)).sum::<u64>()));
    /// let measured = task.join()?;
    /// assert_eq!(measured.value, 32 << 20);
    /// assert!(measured.usage.peak_bytes > 32 << 20 && !measured.usage.cpu_time().is_zero());
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    #[track_caller]
    pub fn spawn_measured<T, F>(&self, task: F) -> Handle<Measured<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        spawn_for(
            &self.ledger,
            &self.reaper,
            self.terms.clone(),
            self.options.clone(),
            task,
            outcome::weighed,
        )
    }
}

impl fmt::Debug for TaskBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBuilder")
            .field("options", &self.options)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

/// Refuses to work for a group in a process that is not its own.
#[track_caller]
pub(crate) fn check_owner(reaper: &Reaper) {
    assert!(
        reaper.owner.is_here(),
        "{}",
        reaper.owner.complaint("this group")
    );
}

/// As [`multi_core::Group::go_with`], on `terms` or those of the group.
#[track_caller]
pub(crate) fn go<F>(
    ledger: &Ledger,
    reaper: &Arc<Reaper>,
    terms: Option<Arc<Terms>>,
    options: TaskOptions,
    task: F,
) where
    F: FnOnce() -> Result + Send + 'static,
{
    check_owner(reaper);
    let reaper = Arc::clone(reaper);
    let options = options.started_at(Location::caller());
    ledger.launch(options, move |mut ticket| {
        match start::start(&reaper, Patience::WaitALittle, terms.as_ref(), task) {
            Ok(forked) => {
                ticket.set_pid(forked.pid);
                reaper.adopt(forked, outcome::plain(ticket));
            }
            Err((error, _)) => ticket.settle(Err(TaskErrorKind::Start(error))),
        }
    });
}

/// As [`multi_core::Group::try_go_with`], on `terms` or those of the group.
#[track_caller]
pub(crate) fn try_go<F>(
    ledger: &Ledger,
    reaper: &Arc<Reaper>,
    terms: Option<&Arc<Terms>>,
    options: TaskOptions,
    task: F,
) -> Result<(), TryGoError<F>>
where
    F: FnOnce() -> Result + Send + 'static,
{
    if !reaper.owner.is_here() {
        let error = io::Error::other(reaper.owner.complaint("this group"));
        return Err(TryGoError::new(task, TryGoReason::Start(error)));
    }
    let options = options.started_at(Location::caller());
    let mut admitted = ledger.try_admit(options.clone());
    // Whoever has ended makes room.
    if matches!(admitted, Err(TryGoReason::AtLimit)) && reaper.sweep() {
        admitted = ledger.try_admit(options);
    }
    let mut ticket = match admitted {
        Ok(ticket) => ticket,
        Err(reason) => return Err(TryGoError::new(task, reason)),
    };
    match start::start(reaper, Patience::None, terms, task) {
        Ok(forked) => {
            ticket.set_pid(forked.pid);
            reaper.adopt(forked, outcome::plain(ticket));
            Ok(())
        }
        Err((error, task)) => {
            ticket.withdraw();
            Err(TryGoError::new(task, TryGoReason::Start(error)))
        }
    }
}

/// As [`multi_core::Spawn::spawn_with`], on `terms` or those of the group.
#[track_caller]
pub(crate) fn spawn<T, F>(
    ledger: &Ledger,
    reaper: &Arc<Reaper>,
    terms: Option<Arc<Terms>>,
    options: TaskOptions,
    task: F,
) -> Handle<T>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    spawn_for(ledger, reaper, terms, options, task, outcome::valued)
}

/// Starts `task` and has its outcome, a `T`, come home as a `V` through the seat that `seat` makes.
#[track_caller]
fn spawn_for<T, V, F>(
    ledger: &Ledger,
    reaper: &Arc<Reaper>,
    terms: Option<Arc<Terms>>,
    options: TaskOptions,
    task: F,
    seat: fn(Ticket, Promise<V>) -> Box<dyn Settles>,
) -> Handle<V>
where
    T: Serialize,
    V: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    check_owner(reaper);
    let event = ledger.event();
    let reaper = Arc::clone(reaper);
    let options = options.started_at(Location::caller());
    ledger.launch_with(
        options,
        event,
        move |mut ticket, promise| match start::start(
            &reaper,
            Patience::WaitALittle,
            terms.as_ref(),
            task,
        ) {
            Ok(forked) => {
                ticket.set_pid(forked.pid);
                reaper.adopt(forked, seat(ticket, promise));
            }
            Err((error, _)) => ticket.settle_with(promise, Err(TaskErrorKind::Start(error))),
        },
    )
}
