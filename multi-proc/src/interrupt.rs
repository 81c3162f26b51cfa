//! Ctrl-C: the first time tasks are asked to stop, the second time they are killed, the third time the program ends.

use crate::cancel;
use crate::identity::{Owner, process_serial};
use crate::reap::Reaper;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::sys::{self, PollFd};
use multi_core::CancelToken;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

/// The process that counts its signals at present; 0 for none.
static COUNTING: AtomicU64 = AtomicU64::new(0);
/// The process that made the eventfd which tells of signals; 0 for none. That of another process is its parent's still.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// SIGINT and SIGTERM as requests to stop, while this value lives: the first cancels [`token`](Self::token) and with it every group built
/// with [`Builder::interrupt`](crate::Builder::interrupt), whose `wait` then reports what became of the tasks. The second kills those
/// groups' tasks at once, without grace. The third ends the program as if this were not here, and its children with it.
///
/// ```
/// use multi_proc::Interrupt;
/// # fn raise_sigint() { std::process::Command::new("kill").args(["-INT", &std::process::id().to_string()]).status().unwrap(); }
///
/// # fn main() -> multi_proc::Result {
/// let interrupt = Interrupt::install()?;
/// // SAFETY: the only other thread is the one that waits for signals; it holds no lock that a task takes.
/// let mut group = unsafe { multi_proc::Group::builder().interrupt(&interrupt).fork() }?;
/// let token = interrupt.token();
/// group.go(move || {
///     token.wait(); // Or works, and looks at it now and then.
///     Ok(())
/// });
/// # if interrupt.is_heeded() {
/// raise_sigint(); // Somebody presses Ctrl-C.
/// group.wait()?; // Stopped in good order: nothing to report.
/// assert_eq!(interrupt.count(), 1);
/// # }
/// # Ok(())
/// # }
/// ```
///
/// A terminal sends SIGINT to parent and children alike. The children of a program that handles it leave it to their parent: they
/// ignore it, and so do the programs they start. Install this before the first task is started; children that are older end at
/// the signal.
///
/// A signal that the program was started with ignored, as by `nohup` or a shell's `&`, stays ignored. Dropping this handles both signals as
/// before; a handler that was installed over this one's meanwhile stays, and where it calls this one's, that does nothing any more. There is one for
/// a process at a time. It has a thread, which sleeps, and the process keeps one descriptor for good after the first.
#[must_use = "signals are handled as before once this is dropped"]
pub struct Interrupt {
    watch: Arc<Watch>,
    before: Vec<sys::Before>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that waits for signals knows.
pub(crate) struct Watch {
    owner: Owner,
    /// Open for good.
    wake: BorrowedFd<'static>,
    token: CancelToken,
    reapers: Mutex<Vec<Weak<Reaper>>>,
    is_over: AtomicBool,
}

impl Interrupt {
    /// Takes SIGINT and SIGTERM over.
    ///
    /// # Errors
    ///
    /// There is one already, or the system has no descriptor, memory or thread left for it.
    pub fn install() -> io::Result<Self> {
        let own = process_serial();
        // Relaxed, twice: a guess, and a failure that tells of nothing but itself.
        let other = COUNTING.load(Ordering::Relaxed);
        // Acquire: the one before has done all its stores. Pairs with the Release in `give_up`.
        let is_free = other != own
            && COUNTING
                .compare_exchange(other, own, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !is_free {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "an Interrupt is installed in this process; use that one, or drop it first",
            ));
        }
        let mut interrupt = Self::start(own).inspect_err(|_| give_up())?;
        for signal in [sys::SIGINT, sys::SIGTERM] {
            interrupt.before.extend(sys::count_signal(signal)?);
        }
        Ok(interrupt)
    }

    /// All but the handlers, for process number `own`.
    fn start(own: u64) -> io::Result<Self> {
        // Relaxed, twice: one thread of a process comes here at a time, after the one before by `COUNTING`.
        if TOLD.load(Ordering::Relaxed) != own {
            sys::tell_through(sys::eventfd()?);
            TOLD.store(own, Ordering::Relaxed);
        }
        let watch = Arc::new(Watch {
            owner: Owner::here(),
            wake: sys::told_through(),
            token: cancel::shared_token()?,
            reapers: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        sys::count_from_here();
        let theirs = Arc::clone(&watch);
        // The program's own handlers do not run on our thread.
        let mask = sys::block_signals();
        let thread = thread::Builder::new()
            .name("multi-interrupt".into())
            .spawn(move || theirs.run());
        sys::set_signal_mask(&mask);
        Ok(Self {
            watch,
            before: Vec::new(),
            thread: Some(thread?),
        })
    }

    /// The request to stop, for tasks to look at and for groups of other backends to be built with. It works in children, too.
    #[must_use]
    pub fn token(&self) -> CancelToken {
        self.watch.token.clone()
    }

    /// How many signals came.
    #[must_use]
    pub fn count(&self) -> u32 {
        sys::interrupt_count()
    }

    /// Whether Ctrl-C reaches this program at all: not where it was started with SIGINT ignored.
    #[must_use]
    pub fn is_heeded(&self) -> bool {
        self.before
            .iter()
            .any(|before| before.signal() == sys::SIGINT)
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Watch {
    /// Has the second signal kill this group's children. In a child there is no signal to wait for, and no lock to be taken.
    pub(crate) fn register(&self, reaper: &Arc<Reaper>) {
        if self.owner.is_here() {
            let mut reapers = self.reapers();
            reapers.retain(|reaper| reaper.strong_count() > 0);
            reapers.push(Arc::downgrade(reaper));
        }
    }

    fn reapers(&self) -> MutexGuard<'_, Vec<Weak<Reaper>>> {
        self.reapers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: does what signal handlers must not.
    fn run(&self) {
        let mut seen = 0;
        loop {
            let mut wake = [PollFd::readable(self.wake)];
            // An error is nothing to wait for: the count is looked at, and the next poll will do.
            drop(sys::poll(&mut wake, None));
            sys::eventfd_clear(self.wake);
            // Acquire: pairs with the Release in `drop`.
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            let count = sys::interrupt_count();
            if seen < 1 && count >= 1 {
                self.stop();
            }
            if seen < 2 && count >= 2 {
                self.kill();
            }
            seen = count;
        }
    }

    fn groups(&self) -> Vec<Arc<Reaper>> {
        self.reapers().iter().filter_map(Weak::upgrade).collect()
    }

    fn stop(&self) {
        let running: usize = self.groups().iter().map(|reaper| reaper.running()).sum();
        // Before the cancel: what it sets off may print, too.
        say(&format!(
            "interrupted: {} asked to stop; interrupt again to kill them",
            Tasks(running)
        ));
        self.token.cancel();
    }

    fn kill(&self) {
        let killed: usize = self.groups().iter().map(|reaper| reaper.kill_all()).sum();
        say(&format!("interrupted again: {} killed", Tasks(killed)));
    }
}

/// Tells standard error without its lock: whoever holds that may be dropping the [`Interrupt`], and waiting for this thread.
fn say(what: &str) {
    sys::write_stderr(format!("multi: {what}\n").as_bytes());
}

/// Nobody counts from here on, and the next may.
fn give_up() {
    sys::count_no_more();
    // Release: all that was done here comes before what the next does. Pairs with the Acquire in `install`.
    COUNTING.store(0, Ordering::Release);
}

/// So many tasks, in words.
struct Tasks(usize);

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 task is"),
            count => write!(f, "{count} tasks are"),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // A child's copy: the thread is its parent's, and the handlers were changed at the fork.
        if !self.watch.owner.is_here() {
            return;
        }
        // First, so that no signal falls between the two.
        for before in &self.before {
            before.restore();
        }
        // Whoever installed a handler over ours may go on calling ours.
        sys::count_no_more();
        // Release: pairs with the Acquire in `run`.
        self.watch.is_over.store(true, Ordering::Release);
        sys::eventfd_set(self.watch.wake.as_raw_fd());
        if let Some(thread) = self.thread.take() {
            // It does not panic; were it to, the hook has said so.
            drop(thread.join());
        }
        give_up();
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
