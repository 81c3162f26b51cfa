//! The group whose tasks are functions in processes that were not forked from this one.

use super::init;
use super::order::{IntoSlot, Order};
use super::spawn::{Program, Setting};
use super::zygote::Zygote;
use crate::child::Handled;
use crate::function::{ArgsError, FunctionId, encode_args};
use crate::live::Origin;
use crate::outcome::Valued;
use crate::reap::{Forked, Reaper};
use crate::start::{self, Patience};
use crate::terms::Terms;
use multi_core::ledger::Ledger;
use multi_core::{
    BuildError, CancelToken, GroupError, Handle, Progress, Result, SpawnFn, TaskErrorKind,
    TaskOptions, Tasks, Usage, WaitTimeoutError, panic,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Tasks as functions, each in a process of its own that was not forked from this one: see [`multi_core::SpawnFn`] for what every such group does.
///
/// [`Builder::zygote`](crate::Builder::zygote) makes one whose processes a small helper forks, [`Builder::spawn`](crate::Builder::spawn) one that executes
/// this program again for each task. Both are safe to call, whatever the threads of this program hold, and cost the same however
/// much memory it has. What they call is a function, or a closure that captures nothing, and its arguments:
///
/// ```
/// fn main() -> multi_proc::Result {
///     multi_proc::init();
///     let mut group = multi_proc::Group::builder().name("sums").limit(4).zygote()?;
///     let sums: Vec<_> = (1..=8)
///         .map(|n: u64| group.spawn_fn(|n| Ok((1..=n).sum::<u64>()), n))
///         .collect();
///     let sums: Result<Vec<u64>, _> = sums.into_iter().map(|sum| sum.join()).collect();
///     assert_eq!(sums?, [1, 3, 6, 10, 15, 21, 28, 36]);
///     group.spawn_fn(|()| -> multi_proc::Result { std::process::abort() }, ());
///     assert!(group.wait().unwrap_err().to_string().contains("killed by SIGABRT"));
///     Ok(())
/// }
/// ```
///
/// A closure that captures does not compile, since what it captures would stay here: hand it over as an argument.
///
/// ```compile_fail,E0308
/// fn demo(group: &multi_proc::FnGroup, by: u64) -> multi_proc::Handle<u64> {
///     group.spawn_fn(move |n: u64| Ok(n * by), 21)
/// }
/// ```
///
/// ```
/// fn demo(group: &multi_proc::FnGroup, by: u64) -> multi_proc::Handle<u64> {
///     group.spawn_fn(|(n, by): (u64, u64)| Ok(n * by), (21, by))
/// }
/// ```
///
/// Arguments are encoded at the call and dropped here; they may take as many bytes as a value
/// ([`Builder::value_bytes_max`](crate::Builder::value_bytes_max)). Otherwise it is as with [`Group`](crate::Group): failures are named, time limits kept by
/// killing, and dropping the group ends its tasks.
///
/// # Fork
///
/// In a forked child the group is its parent's: starting and waiting panic and say so, dropping it does nothing.
#[must_use = "dropping a group cancels its tasks"]
pub struct FnGroup {
    ledger: Ledger,
    reaper: Arc<Reaper>,
    source: Arc<Source>,
}

/// Where the processes come from.
enum Source {
    Zygote(&'static Zygote),
    Program(Program),
}

/// For the builder: a group on the program's zygote.
pub(crate) fn make_zygote(make: impl FnOnce(&'static str) -> Parts) -> Result<FnGroup, BuildError> {
    let zygote = Zygote::of_program().map_err(BuildError::new)?;
    FnGroup::of(make("zygote"), Source::Zygote(zygote))
}

/// For the builder: a group that executes.
pub(crate) fn make_executing(
    setting: &Setting,
    make: impl FnOnce(&'static str) -> Parts,
) -> Result<FnGroup, BuildError> {
    if !init::was_called() {
        return Err(BuildError::new(
            "multi_proc::init() was not called, so that the processes of this group, which execute this program again, would do what main \
             does instead of their tasks; call it first in main",
        ));
    }
    let program = Program::new(setting).map_err(BuildError::new)?;
    FnGroup::of(make("spawn"), Source::Program(program))
}

/// What the builder makes for a backend of that name.
type Parts = Result<(Ledger, Arc<Reaper>), BuildError>;

impl FnGroup {
    fn of(parts: Parts, source: Source) -> Result<Self, BuildError> {
        let (ledger, reaper) = parts?;
        Ok(Self {
            ledger,
            reaper,
            source: Arc::new(source),
        })
    }

    /// Calls `function` in a process of its own and waits for it: [`spawn_fn`](Self::spawn_fn) and [`Handle::join`].
    ///
    /// ```
    /// # fn main() -> multi_proc::Result {
    /// multi_proc::init();
    /// let mut group = multi_proc::Group::builder().spawn()?;
    /// let len = group.call(|text: String| Ok(text.len()), "abc".to_owned())?;
    /// assert_eq!(len, 3);
    /// # Ok(group.wait()?)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The task's failure; the group's `wait` reports the same.
    #[track_caller]
    pub fn call<A, T>(
        &self,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Result<T, multi_core::TaskError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_fn(function, args).join()
    }

    /// What the tasks that have ended used: see [`Group::usage`](crate::Group::usage).
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.reaper.usage()
    }

    #[track_caller]
    fn check_owner(&self) {
        assert!(
            self.reaper.owner.is_here(),
            "{}",
            self.reaper.owner.complaint("this group")
        );
    }
}

/// A call on its way to a process.
struct Call {
    function: FunctionId,
    args: Vec<u8>,
}

impl Call {
    /// Calls the arguments' `Serialize`, and drops them.
    fn new<A, T>(function: fn(A) -> Result<T>, args: A) -> Result<Self, TaskErrorKind>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize,
    {
        let cannot_start = |error| TaskErrorKind::Start(io::Error::other(error));
        let encoded = panic::catch(move || encode_args(&args))?;
        Ok(Self {
            function: FunctionId::of::<IntoSlot<'_>, A, T>(function)
                .map_err(|error| cannot_start(error.to_string()))?,
            args: encoded.map_err(|error: ArgsError| cannot_start(error.to_string()))?,
        })
    }

    /// Has a process made that answers the call, whatever it takes.
    fn start(&self, reaper: &Reaper, source: &Source) -> Result<Forked, TaskErrorKind> {
        start::patiently(reaper, Patience::WaitALittle, || {
            self.try_start(reaper, source)
        })
        .map_err(TaskErrorKind::Start)?
        .ok_or_else(|| {
            TaskErrorKind::LimitExceeded(format!(
                "its arguments take {} bytes on the way to it, where value_bytes_max is {}",
                self.args.len(),
                reaper.settings.value_bytes_max
            ))
        })
    }

    /// None where the arguments take more room than there is.
    fn try_start(&self, reaper: &Reaper, source: &Source) -> io::Result<Option<Forked>> {
        // All that can run out is fetched first: afterwards the task may have begun, and cannot be given back.
        reaper.reserve_descriptor()?;
        let mut slot = reaper.region.take()?;
        if self.args.len() > reaper.settings.value_bytes_max || !slot.put(&self.args) {
            return Ok(None);
        }
        let Some((memory, place)) = slot.whereabouts() else {
            unreachable!("a group of functions whose memory cannot be passed")
        };
        let terms = reaper.settings.terms.as_deref();
        let plain = Terms::default();
        let Terms { limits, stdio } = terms.unwrap_or(&plain);
        let pipes = stdio.open()?;
        let (streams, stream_fds) = stdio.passing(&pipes);
        let order = Order {
            function: self.function,
            place,
            value_bytes_max: reaper.settings.value_bytes_max,
            signals: Handled::now(),
            by_main_thread: start::is_main_thread(),
            limits: limits.clone(),
            streams,
        };
        let message = order.encode().map_err(io::Error::other)?;
        let word = reaper.word();
        let fds: Vec<_> = [memory.as_fd()].into_iter().chain(stream_fds).collect();
        let (pid, pidfd, origin) = source.start(reaper, message, &fds)?;
        Ok(Some(Forked {
            pid,
            pidfd,
            slot,
            word,
            pipes,
            terms: reaper.settings.terms.clone(),
            origin,
        }))
    }
}

impl Source {
    fn start(
        &self,
        reaper: &Reaper,
        message: Vec<u8>,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(u32, Option<OwnedFd>, Origin)> {
        match self {
            Self::Zygote(zygote) => {
                let born = zygote.start(message, fds, || reaper.release_descriptor())?;
                Ok((born.pid, Some(born.pidfd), Origin::Zygote(zygote)))
            }
            Self::Program(program) => {
                let executed = program.execute(&message, fds)?;
                let pidfd = start::watch(reaper, executed.pid);
                Ok((
                    executed.pid,
                    pidfd,
                    Origin::executed(executed.line, reaper.settings.stuck_after),
                ))
            }
        }
    }
}

impl Tasks for FnGroup {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.check_owner();
        self.ledger.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.check_owner();
        self.ledger.wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.ledger.cancel_token()
    }

    fn progress(&self) -> Progress {
        if self.reaper.owner.is_here() {
            self.reaper.sweep();
        }
        self.ledger.progress()
    }
}

impl<A, T> SpawnFn<A, T> for FnGroup
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    #[track_caller]
    fn spawn_fn_with(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T> {
        self.check_owner();
        let options = options.started_at(Location::caller());
        let call = Call::new(function, args);
        let (reaper, source) = (Arc::clone(&self.reaper), Arc::clone(&self.source));
        let event = self.ledger.event();
        self.ledger
            .launch_with(options, event, move |mut ticket, promise| {
                match call.and_then(|call| call.start(&reaper, &source)) {
                    Ok(forked) => {
                        ticket.set_pid(forked.pid);
                        reaper.adopt(forked, Box::new(Valued { ticket, promise }));
                    }
                    Err(kind) => ticket.settle_with(promise, Err(kind)),
                }
            })
    }
}

multi_core::tasks_face!(FnGroup);
multi_core::spawn_fn_face!(
    FnGroup,
    args: [Serialize + DeserializeOwned + Send + 'static],
    value: [Serialize + DeserializeOwned + Send + 'static]
);

impl Drop for FnGroup {
    fn drop(&mut self) {
        // In a child there is nothing to end and nobody to collect, and the parent's locks are not to be touched.
        if self.reaper.owner.is_here() {
            self.reaper.abandon();
            self.ledger.abandon();
        }
    }
}

impl fmt::Debug for FnGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnGroup")
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
