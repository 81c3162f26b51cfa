//! Ctrl-C: the first time tasks are asked to stop, the second time they are killed, the third time the program ends.

use crate::identity::{Owner, process_serial};
use crate::reap::Reaper;
use crate::sys::{self, PollFd};
use crate::{cancel, stuck};
use multi_core::CancelToken;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

/// The process that counts its signals at present; 0 for none.
static COUNTING: AtomicU64 = AtomicU64::new(0);

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
/// before. There is one for a process at a time. It has a thread, which sleeps.
#[must_use = "signals are handled as before once this is dropped"]
pub struct Interrupt {
    watch: Arc<Watch>,
    before: Vec<sys::Before>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that waits for signals knows.
pub(crate) struct Watch {
    owner: Owner,
    wake: OwnedFd,
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
        // Relaxed, twice: the number is all there is.
        let other = COUNTING.load(Ordering::Relaxed);
        let is_free = other != own
            && COUNTING
                .compare_exchange(other, own, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_free {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "an Interrupt is installed in this process; use that one, or drop it first",
            ));
        }
        Self::start().inspect_err(|_| {
            // Relaxed: as above.
            COUNTING.store(0, Ordering::Relaxed);
        })
    }

    fn start() -> io::Result<Self> {
        let watch = Arc::new(Watch {
            owner: Owner::here(),
            wake: sys::eventfd()?,
            token: cancel::shared_token()?,
            reapers: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        sys::count_from_here(watch.wake.as_fd());
        let theirs = Arc::clone(&watch);
        // The program's own handlers do not run on our thread.
        let mask = sys::block_signals();
        let thread = thread::Builder::new()
            .name("multi-interrupt".into())
            .spawn(move || theirs.run());
        sys::set_signal_mask(&mask);
        let mut interrupt = Self {
            watch,
            before: Vec::new(),
            thread: Some(thread?),
        };
        for signal in [sys::SIGINT, sys::SIGTERM] {
            interrupt.before.extend(sys::count_signal(signal)?);
        }
        Ok(interrupt)
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
            let mut wake = [PollFd::readable(self.wake.as_fd())];
            // An error is nothing to wait for: the count is looked at, and the next poll will do.
            drop(sys::poll(&mut wake, None));
            sys::eventfd_clear(self.wake.as_fd());
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
        stuck::print(&[format!(
            "interrupted: {} asked to stop; interrupt again to kill them",
            Tasks(running)
        )]);
        self.token.cancel();
    }

    fn kill(&self) {
        let killed: usize = self.groups().iter().map(|reaper| reaper.kill_all()).sum();
        stuck::print(&[format!("interrupted again: {} killed", Tasks(killed))]);
    }
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
        for before in &self.before {
            before.restore();
        }
        // Release: pairs with the Acquire in `run`.
        self.watch.is_over.store(true, Ordering::Release);
        sys::eventfd_set(self.watch.wake.as_raw_fd());
        if let Some(thread) = self.thread.take() {
            // It does not panic; were it to, the hook has said so.
            drop(thread.join());
        }
        // Relaxed: the number is all there is.
        COUNTING.store(0, Ordering::Relaxed);
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
