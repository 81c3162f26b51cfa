//! What can be set of a group, and what must be promised for it.

#![expect(
    unsafe_code,
    reason = "forking a closure is a promise of the caller's, given once, here"
)]

use crate::group::Group;
use crate::interrupt::{Interrupt, Watch};
use crate::limits::Limits;
use crate::reap::{Reaper, Settings};
use crate::stdio::{Input, Output};
use crate::terms::Terms;
use crate::{hook, sys};
use multi_core::ledger::Ledger;
use multi_core::{BuildError, GroupOptions};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between the request to stop and SIGTERM, and between SIGTERM and SIGKILL: time to close files, short enough to wait for.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// Far longer than a set-up (about 0.1 ms) or a report takes on a busy machine, short enough for a person who watches.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(5);
/// Address space only, until a child writes to it.
const VALUE_BYTES_MAX: usize = 64 << 20;

/// What can be set of a [`Group`]; [`fork`](Self::fork) makes it.
#[must_use = "a builder does nothing until it makes a group"]
pub struct Builder {
    options: GroupOptions,
    settings: Settings,
    interrupt: Option<Arc<Watch>>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            options: GroupOptions::new(),
            settings: Settings {
                grace: GRACE,
                stuck_after: STUCK_AFTER,
                value_bytes_max: VALUE_BYTES_MAX,
                in_child: None,
                terms: None,
            },
            interrupt: None,
        }
    }

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

    /// Has Ctrl-C stop this group: its tasks are asked to stop at the first signal that `interrupt` counts, and killed at the second. This is
    /// the group's [`cancel_token`](Self::cancel_token), too.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.options = self.options.cancel_token(interrupt.token());
        self.interrupt = Some(Arc::clone(interrupt.watch()));
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

    /// Holds every task to `limits`; what [`TaskBuilder::limits`](crate::TaskBuilder::limits) sets for one stands before them.
    ///
    /// ```
    /// use multi_proc::Limits;
    ///
    /// let builder = multi_proc::Group::builder().limits(Limits::new().open_files_max(20).nice(10));
    /// // SAFETY: this program has one thread.
    /// let mut group = unsafe { builder.fork() }?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.terms().limits = limits;
        self
    }

    /// Where tasks read their standard input from, unless [`TaskBuilder::stdin`](crate::TaskBuilder::stdin) says otherwise.
    pub fn stdin(mut self, input: Input) -> Self {
        self.terms().stdio.stdin = input;
        self
    }

    /// Where what tasks print to standard output goes to, unless [`TaskBuilder::stdout`](crate::TaskBuilder::stdout) says otherwise.
    pub fn stdout(mut self, output: Output) -> Self {
        self.terms().stdio.stdout = output;
        self
    }

    /// Where what tasks print to standard error goes to, unless [`TaskBuilder::stderr`](crate::TaskBuilder::stderr) says otherwise.
    pub fn stderr(mut self, output: Output) -> Self {
        self.terms().stdio.stderr = output;
        self
    }

    fn terms(&mut self) -> &mut Terms {
        Arc::make_mut(self.settings.terms.get_or_insert_default())
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
        if let Some(terms) = &self.settings.terms {
            terms
                .check()
                .map_err(|error| BuildError::new(error.to_string()))?;
        }
        check_kernel()?;
        hook::install();
        let bytes = self.settings.value_bytes_max;
        let reaper = Reaper::new(self.settings).map_err(|error| {
            BuildError::new(format!(
                "no shared memory for the outcomes of tasks, with value_bytes_max {bytes}: {error}; lower it, or raise the \
                 limits of address space and open files (ulimit -v, ulimit -n)"
            ))
        })?;
        if let Some(interrupt) = &self.interrupt {
            interrupt.register(&reaper);
        }
        let event = Arc::clone(&reaper);
        let maker = Arc::clone(&reaper);
        let ledger = Ledger::new("proc", self.options, event, move || maker.new_token())?;
        Ok(Group::new_in(ledger, reaper))
    }
}

/// Refuses a system on which a forked child could not be watched.
pub(crate) fn check_kernel() -> Result<(), BuildError> {
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

multi_core::builder_face!(Builder);

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
