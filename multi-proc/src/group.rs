//! The group whose tasks are forked processes.

#![expect(
    unsafe_code,
    reason = "forking a closure is a promise of the caller's, given once, at the constructor"
)]

use crate::child::Handled;
use crate::reap::{Reaper, Settings};
use crate::start::{self, Patience, Plain, Valued};
use crate::usage::Usage;
use crate::{hook, sys};
use multi_core::ledger::Ledger;
use multi_core::{
    BuildError, CancelToken, Event, GroupError, GroupOptions, Handle, Lineage, Progress, Result,
    Spawn, TaskErrorKind, TaskOptions, TryGoError, TryGoReason, WaitTimeoutError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between the request to stop and SIGTERM, and between SIGTERM and SIGKILL: time to close files, short enough to wait for.
const GRACE: Duration = Duration::from_secs(1);
/// Far longer than a set-up (about 0.1 ms) or a report takes on a busy machine, short enough for a person who watches.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// Address space only, until a child writes to it.
const VALUE_BYTES_MAX: usize = 64 << 20;

/// Tasks as forked processes, one each: see [`multi_core::Group`] for what every group does.
///
/// A task is a copy of this process at the moment of the `go`: it reads everything its closure captured, and what it changes
/// nobody else sees. Its error, its panic and its value come home; whatever else becomes of its process is named:
///
/// ```
/// // SAFETY: this program has one thread.
/// let mut group = unsafe { multi_proc::Group::new() };
/// group.go(|| Ok(()));
/// group.go(|| Err("no luck")?);
/// group.go(|| std::process::exit(7));
/// group.go(|| std::process::abort());
/// let sum = group.spawn(|| Ok((1..=100).sum::<u32>()));
/// assert_eq!(sum.join()?, 5050);
///
/// let error = group.wait().unwrap_err();
/// assert_eq!(error.failed_count(), 3);
/// let text = error.to_string();
/// assert!(text.contains("no luck") && text.contains("exit code 7") && text.contains("SIGABRT"));
/// # Ok::<(), multi_core::BoxError>(())
/// ```
///
/// Dropping the group cancels it, sends every task SIGTERM and, after the grace, SIGKILL, collects them and reports the failures nobody
/// saw. No child outlives the process that forked it, however that ends.
///
/// # Fork
///
/// In a child, the group is its parent's: [`go`](Self::go) and [`wait`](Self::wait) panic and say so, dropping it does nothing, and its
/// [`cancel_token`](Self::cancel_token) works. A child makes groups of its own.
#[must_use = "dropping a group cancels its tasks"]
pub struct Group {
    ledger: Ledger,
    reaper: Arc<Reaper>,
    signals: Handled,
    /// Let go of by `detach`.
    is_detached: bool,
}

/// What can be set of a [`Group`]; [`fork`](Self::fork) makes it.
#[must_use = "a builder does nothing until it makes a group"]
pub struct Builder {
    options: GroupOptions,
    settings: Settings,
}

impl Group {
    /// A group without a name or a limit: `Group::builder().fork()`.
    ///
    /// # Safety
    ///
    /// As for [`Builder::fork`].
    ///
    /// # Panics
    ///
    /// Where the system has no shared memory or no descriptors left for it; [`Builder::fork`] returns that.
    pub unsafe fn new() -> Self {
        // SAFETY: the caller's promise is the same.
        match unsafe { Self::builder().fork() } {
            Ok(group) => group,
            Err(error) => panic!("cannot make a group: {error}"),
        }
    }

    /// Sets options first.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = multi_proc::Group::builder().name("resize").limit(4).grace(Duration::from_millis(200));
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { builder.fork() }?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder {
            options: GroupOptions::new(),
            settings: Settings {
                grace: GRACE,
                stuck_after: STUCK_AFTER,
                value_bytes_max: VALUE_BYTES_MAX,
                in_child: None,
            },
        }
    }

    /// What the tasks that have ended used: processor time and peak memory.
    ///
    /// ```
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { multi_proc::Group::new() };
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// assert_eq!(group.usage().tasks, 1);
    /// assert!(group.usage().peak_bytes > 0);
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.reaper.usage()
    }

    /// Lets the tasks run on by themselves: a thread collects them, and their failures are reported on standard error.
    /// They still end with this process.
    pub fn detach(mut self) {
        self.is_detached = true;
        if !self.reaper.owner.is_here() {
            return;
        }
        self.ledger.detach();
        let reaper = Arc::clone(&self.reaper);
        let collect = move || {
            while !reaper.is_idle() {
                let key = reaper.key();
                reaper.wait(key, None);
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("multi-reaper".into())
            .spawn(collect)
        {
            crate::stuck::print(&[format!(
                "a detached group's tasks will not be collected: {error}"
            )]);
        }
    }

    #[track_caller]
    fn check_owner(&self) {
        check_owner(&self.reaper);
    }
}

/// Refuses to work for a group in a process that is not its own.
#[track_caller]
fn check_owner(reaper: &Reaper) {
    assert!(
        reaper.owner.is_here(),
        "{}",
        reaper.owner.complaint("this group")
    );
}

/// Starts the child of a task that the ledger let in.
fn launch<F>(
    ledger: &Ledger,
    reaper: &Arc<Reaper>,
    signals: Handled,
    options: TaskOptions,
    task: F,
    site: Site,
) where
    F: FnOnce() -> Result + Send + 'static,
{
    let options = options.started_at(site);
    let reaper = Arc::clone(reaper);
    // No lineage: a task of this group lives in another process, where its `go` is refused.
    ledger.launch(
        options,
        &Lineage::NONE,
        move |mut ticket| match start::start(&reaper, signals, Patience::WaitALittle, task) {
            Ok(forked) => {
                ticket.set_pid(forked.pid);
                reaper.adopt(forked, Box::new(Plain { ticket }));
            }
            Err((error, _)) => ticket.settle(Err(TaskErrorKind::Start(error))),
        },
    );
}

/// Refuses a system on which a forked child could not be watched.
fn check_kernel() -> Result<(), BuildError> {
    static IS_CHECKED: AtomicBool = AtomicBool::new(false);
    // Relaxed: checked twice is no harm.
    if !IS_CHECKED.load(Ordering::Relaxed) {
        sys::pidfd_open(sys::pid()).map_err(|error| {
            BuildError::new(format!("cannot watch processes by pidfd: {error}; Linux 5.4 or newer is needed, and a free descriptor"))
        })?;
        // Relaxed: as above.
        IS_CHECKED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

type Site = &'static std::panic::Location<'static>;

impl multi_core::Group for Group {
    type Spawner = Spawner;

    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.check_owner();
        launch(
            &self.ledger,
            &self.reaper,
            self.signals,
            options,
            task,
            std::panic::Location::caller(),
        );
    }

    #[track_caller]
    fn try_go_with<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        if !self.reaper.owner.is_here() {
            let error = io::Error::other(self.reaper.owner.complaint("this group"));
            return Err(TryGoError::new(task, TryGoReason::Start(error)));
        }
        let mut admitted = self.ledger.try_admit(options.clone(), &Lineage::NONE);
        // Whoever has ended makes room.
        if matches!(admitted, Err(TryGoReason::AtLimit)) && self.reaper.sweep() {
            admitted = self.ledger.try_admit(options, &Lineage::NONE);
        }
        let mut ticket = match admitted {
            Ok(ticket) => ticket,
            Err(reason) => return Err(TryGoError::new(task, reason)),
        };
        match start::start(&self.reaper, self.signals, Patience::None, task) {
            Ok(forked) => {
                ticket.set_pid(forked.pid);
                self.reaper.adopt(forked, Box::new(Plain { ticket }));
                Ok(())
            }
            Err((error, task)) => {
                ticket.withdraw();
                Err(TryGoError::new(task, TryGoReason::Start(error)))
            }
        }
    }

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

    fn spawner(&self) -> Spawner {
        Spawner {
            ledger: self.ledger.clone(),
            reaper: Arc::clone(&self.reaper),
            signals: self.signals,
        }
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Spawn<T> for Group {
    #[track_caller]
    fn spawn_with<F>(&self, options: TaskOptions, task: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        self.check_owner();
        let event = self.ledger.event();
        let (reaper, signals) = (Arc::clone(&self.reaper), self.signals);
        self.ledger.launch_with(
            options,
            &Lineage::NONE,
            event,
            move |mut ticket, promise| match start::start(
                &reaper,
                signals,
                Patience::WaitALittle,
                task,
            ) {
                Ok(forked) => {
                    ticket.set_pid(forked.pid);
                    reaper.adopt(forked, Box::new(Valued { ticket, promise }));
                }
                Err((error, _)) => ticket.settle_with(promise, Err(TaskErrorKind::Start(error))),
            },
        )
    }
}

multi_core::group_face!(Group, value: Serialize + DeserializeOwned + Send + 'static);
multi_core::builder_face!(Builder);

impl Drop for Group {
    fn drop(&mut self) {
        // In a child there is nothing to end and nobody to collect, and the parent's locks are not to be touched.
        if self.is_detached || !self.reaper.owner.is_here() {
            return;
        }
        self.reaper.abandon();
        self.ledger.abandon();
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

/// Starts tasks in a group from other threads: see [`multi_core::Spawner`]. In a task of the group, which is another process,
/// it panics as [`Group::go`] does.
#[derive(Clone)]
pub struct Spawner {
    ledger: Ledger,
    reaper: Arc<Reaper>,
    signals: Handled,
}

impl multi_core::Spawner for Spawner {
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        check_owner(&self.reaper);
        launch(
            &self.ledger,
            &self.reaper,
            self.signals,
            options,
            task,
            std::panic::Location::caller(),
        );
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}

impl Builder {
    /// How long a task has between the request to stop and SIGTERM, and again between SIGTERM and SIGKILL: 1 s unless set. A time
    /// limit that is up, and a dropped group, start at SIGTERM.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How long a child may take to come to its closure, or to report what came of it, before whoever waits for the group reports
    /// it as stuck on standard error: 5 s unless set. As often, running children are looked at for locks that a fork left held.
    pub fn stuck_after(mut self, after: Duration) -> Self {
        self.settings.stuck_after = after;
        self
    }

    /// How many bytes a value from [`spawn`](Group::spawn) may take on its way home: 64 MiB unless set. Reserved as address space for
    /// each running task, used as memory only where a value needs it.
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.value_bytes_max = bytes;
        self
    }

    /// Has every child call `prepare` before its task: to reseed a random generator, close what it must not have, drop privileges.
    /// A panic in it is the task's.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// static SEED: AtomicU64 = AtomicU64::new(42); // Every child would go on from 42.
    /// let builder = multi_proc::Group::builder().in_child(|| SEED.store(multi_proc::child_seed(), Relaxed));
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { builder.fork() }?;
    /// let seeds = [0; 2].map(|_| group.spawn(|| Ok(SEED.load(Relaxed))));
    /// let [a, b] = seeds.map(|seed| seed.join().unwrap());
    /// assert_ne!(a, b);
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    pub fn in_child(mut self, prepare: impl Fn() + Send + Sync + 'static) -> Self {
        self.settings.in_child = Some(Arc::new(prepare));
        self
    }

    /// Makes the group, whose tasks will be forked copies of this process.
    ///
    /// # Safety
    ///
    /// A forked child has one thread and a copy of everything else, as it was at that moment. So, as long as this group starts tasks:
    ///
    /// - No other thread of this process holds a lock that a task takes, be it a `Mutex` of the program's or one inside a library: in the
    ///   child it would never be released. Allocating, printing by `print!` and `eprint!`, panicking, and starting threads are safe
    ///   in this respect. Known not to be: reading the environment while another thread changes it, name lookup
    ///   (`ToSocketAddrs`), local time, loading libraries, a `OnceLock` or `LazyLock` that another thread is just filling.
    /// - No other thread of this process is in the middle of changing something that a task reads without a lock.
    /// - No value that a task uses owns memory that is shared with other processes (`MAP_SHARED`) unless its type is made for that: two
    ///   owners would each believe that it is theirs alone.
    /// - What a task's closure captures is dropped twice, in the child and here, and that does no harm: no directory that is removed,
    ///   no file lock that is released by either.
    /// - A task does not return to code that belongs to this process: it does not unwind out of its closure by other means than a
    ///   panic, and does not call `fork` itself and let both sides return.
    ///
    /// # Errors
    ///
    /// [`BuildError`] where an option makes no sense, or the system has no shared memory or no descriptors left.
    pub unsafe fn fork(self) -> Result<Group, BuildError> {
        // Wrong options are refused before anything is made.
        self.options.check()?;
        check_kernel()?;
        hook::install();
        let bytes = self.settings.value_bytes_max;
        let reaper = Reaper::new(self.settings).map_err(|error| {
            BuildError::new(format!(
                "no shared memory for the outcomes of tasks, with value_bytes_max {bytes}: {error}; lower it, or raise the \
                 limits of address space and open files (ulimit -v, ulimit -n)"
            ))
        })?;
        let event = Arc::clone(&reaper);
        let maker = Arc::clone(&reaper);
        let ledger = Ledger::new("proc", self.options, event, move || maker.new_token())?;
        Ok(Group {
            ledger,
            reaper,
            signals: Handled::now(),
            is_detached: false,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
