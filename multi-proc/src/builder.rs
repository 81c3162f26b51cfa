//! What can be set of a group, and what must be promised for it.

#![expect(
    unsafe_code,
    reason = "forking a closure is a promise of the caller's, given once, here"
)]

use crate::children::Children;
use crate::functions::{self, FnGroup, Setting};
use crate::group::Group;
use crate::interrupt::{Interrupt, Watch};
use crate::limits::Limits;
use crate::reap::{Reaper, Settings};
use crate::slot::Reach;
use crate::stdio::{Input, Output};
use crate::sync::{AtomicBool, Ordering};
use crate::terms::Terms;
use crate::threads::OtherThreads;
use crate::{hook, sys};
use multi_core::ledger::Ledger;
use multi_core::{BuildError, GroupOptions};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
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
    program: Setting,
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
                other_threads: OtherThreads::Allow,
                terms: None,
            },
            interrupt: None,
            program: Setting::default(),
        }
    }

    /// How long a task has between the request to stop and SIGTERM, and again between SIGTERM and SIGKILL: 1 s unless set. A time
    /// limit that is up, and a dropped group, start at SIGTERM.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How long a child may take to come to its closure, or to report what came of it, before whoever waits for the group reports
    /// it as stuck on standard error: 5 s unless set. As often, running children are looked at for locks that a fork left held. An executed
    /// child that has not come to [`init`](crate::init) after six times as long is ended.
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

    /// What to do where this program has other threads when a task is to be forked: allowed unless set. Those that multi keeps itself, for time
    /// limits and Ctrl-C, do not count.
    ///
    /// ```
    /// use multi_proc::OtherThreads;
    ///
    /// // SAFETY: no task is forked while there is a thread that could hold a lock.
    /// let mut group = unsafe { multi_proc::Group::builder().other_threads(OtherThreads::Deny).fork() }?;
    /// let (release, released) = std::sync::mpsc::channel::<()>();
    /// let thread = std::thread::Builder::new().name("busy".into()).spawn(move || released.recv())?;
    /// group.go(|| Ok(()));
    /// let text = group.wait().unwrap_err().to_string();
    /// assert!(text.contains("this program has ") && text.contains("\"busy\""), "{text}");
    /// drop(release);
    /// # drop(thread.join());
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    pub fn other_threads(mut self, what: OtherThreads) -> Self {
        self.settings.other_threads = what;
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
        self.program.check_plain("fork", "group")?;
        Ok(Group::new_in(self.make("proc", Reach::Forked)?))
    }

    /// Makes a group whose tasks are functions, in processes that a zygote forks: a copy of this program as it was when
    /// [`init`](crate::init) was called, or is now if it was not.
    ///
    /// Such a process has nothing of what the program did since: no lock that a thread holds, no secret, no descriptor, no gigabyte to be
    /// copied. Environment, working directory, signal handlers and descriptors are those of that early moment. It is the
    /// zygote's child, so that nobody here can collect it by mistake; it ends with the zygote, and the zygote with this process.
    ///
    /// Where [`init`](crate::init) made none and this makes it, late, it keeps a copy of every descriptor that is open here by then, as long as the
    /// program runs: the reader of a pipe does not find its end, nor a peer that of its connection, when this process closes its own. The same goes for
    /// the last sender of a shared channel. Call `init` first in `main`.
    ///
    /// ```
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let busy = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_millis(5)));
    ///     let mut group = multi_proc::Group::builder().zygote()?;
    ///     assert_eq!(group.call(|n: u8| Ok(n + 1), 1)?, 2);
    ///     group.wait()?;
    ///     busy.join().unwrap();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`] where there is no zygote and none can be made, because the program has several threads by now; where an option makes no
    /// sense (what [`in_child`](Self::in_child) captures does not exist there); and as for [`fork`](Self::fork).
    pub fn zygote(self) -> Result<FnGroup, BuildError> {
        self.program.check_plain("zygote", "group")?;
        self.check_functions()?;
        functions::make_zygote(|name| self.make(name, Reach::Passed))
    }

    /// Makes a group whose tasks are functions, in processes that execute this program again: [`init`](crate::init), the first call of its `main`,
    /// then calls the function instead of returning.
    ///
    /// Such a process inherits the standard streams, the working directory and the limits of this one, of its environment
    /// a short list of variables ([`env_clear`](Self::env_clear)), and no other descriptor. It executes the very file that this process does, also where
    /// another lies under its name by now. It costs what it takes to start the program, some milliseconds.
    ///
    /// ```
    /// fn main() -> multi_proc::Result {
    ///     multi_proc::init();
    ///     let mut group = multi_proc::Group::builder().env("MODE", "slow").spawn()?;
    ///     assert_eq!(group.call(|name: String| Ok(std::env::var(name)?), "MODE".to_owned())?, "slow");
    ///     Ok(group.wait()?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`] where `init` was not called; where the program may do more than whoever executes it, by set-user-ID, set-group-ID or file
    /// capabilities, since then anybody could have it call a function; where an option makes no sense (what [`in_child`](Self::in_child)
    /// captures does not exist there); or as for [`fork`](Self::fork).
    pub fn spawn(self) -> Result<FnGroup, BuildError> {
        self.check_functions()?;
        let program = self.program.clone();
        functions::make_executing(&program, |name| self.make(name, Reach::Passed))
    }

    /// Has processes that are executed start with `name` set to `value`.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.set(name, Some(value.into()));
        self
    }

    /// Passes `name` on to processes that are executed, if it is set here when the group is made.
    pub fn env_pass(mut self, name: impl Into<OsString>) -> Self {
        self.program.set(name, None);
        self
    }

    /// Passes nothing of the environment on to processes that are executed but what [`env`](Self::env) and [`env_pass`](Self::env_pass) name.
    /// Otherwise they have, where they are set here, `HOME`, `LANG`, `LC_ALL`, `LD_LIBRARY_PATH`, `PATH`, `RUST_BACKTRACE`, `TMPDIR`, `TZ` and `USER`.
    pub fn env_clear(mut self) -> Self {
        self.program.is_env_clear = true;
        self
    }

    /// Executes this file instead of the program's own: a copy of it at another place, say. It must be the same build, and says so
    /// where it is not. A copy that gives privileges to whoever executes it (set-user-ID, set-group-ID, file capabilities) says on standard error
    /// that it takes no orders.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program.program = Some(path.into());
        self
    }

    fn check_functions(&self) -> Result<(), BuildError> {
        if self.settings.in_child.is_none() {
            return Ok(());
        }
        Err(BuildError::new(
            "in_child takes a closure of this process, which processes that are not forked from it do not have; do its work in the function, \
             or make the group by fork()",
        ))
    }

    /// All of a group but what makes its processes.
    fn make(self, name: &'static str, reach: Reach) -> Result<Children, BuildError> {
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
        let reaper = Reaper::reaching(self.settings, reach).map_err(|error| {
            BuildError::new(format!(
                "no shared memory for the outcomes of tasks, with value_bytes_max {bytes}: {error}; lower it, or raise the \
                 limits of address space, file size and open files (ulimit -v, -f, -n)"
            ))
        })?;
        if let Some(interrupt) = &self.interrupt {
            interrupt.register(&reaper);
        }
        let event = Arc::clone(&reaper);
        let maker = Arc::clone(&reaper);
        let ledger = Ledger::new(name, self.options, event, move || maker.new_token())?;
        Ok(Children::new(ledger, reaper))
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
