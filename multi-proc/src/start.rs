//! From a closure to a watched child.

#![expect(
    unsafe_code,
    reason = "the fork itself; what its children must not touch is promised at the group's constructor"
)]

use crate::capture::{self, Pipes};
use crate::child::{self, Birth, Handled};
use crate::identity;
use crate::lifeline;
use crate::live::Origin;
use crate::reap::{Forked, Reaper};
use crate::stuck;
use crate::sync::Ordering;
use crate::sys::{self, Fork};
use crate::terms::Terms;
use crate::threads::{self, OtherThreads};
use multi_core::{Result, clock};
use serde::Serialize;
use std::cell::Cell;
use std::io::{self, StderrLock, StdoutLock, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A fork that was refused for want of something that others will give back is tried again this often, …
const TRIES: u32 = 6;
/// … after this long, and twice as long each time: 62 ms in all.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Whether a shortage is waited out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    WaitALittle,
    None,
}

/// Forks a child that runs `task` on `terms`, or on those of the group where it has none; whatever it takes.
///
/// # Errors
///
/// Why there is no child, and the task.
pub(crate) fn start<T, F>(
    reaper: &Reaper,
    patience: Patience,
    terms: Option<&Arc<Terms>>,
    task: F,
) -> Result<Forked, (io::Error, F)>
where
    T: Serialize,
    F: FnOnce() -> Result<T>,
{
    let terms = terms.or(reaper.settings.terms.as_ref());
    if let Some(Err(error)) = terms.map(|terms| terms.check()) {
        return Err((error, task));
    }
    if let Err(error) = look_for_threads(reaper) {
        return Err((error, task));
    }
    patiently(reaper, patience, task, |task| {
        try_start(reaper, terms, task)
    })
}

/// Calls `attempt` until a process is made, or there is a reason other than a shortage why not, or nobody waits any longer for that to pass.
/// An attempt that fails gives `task` back for the next one.
///
/// # Errors
///
/// Why there is no process, and the task.
pub(crate) fn patiently<T, F>(
    reaper: &Reaper,
    patience: Patience,
    mut task: F,
    mut attempt: impl FnMut(F) -> Result<T, (io::Error, F)>,
) -> Result<T, (io::Error, F)> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match attempt(task) {
            Err((error, refused)) if is_shortage(&error) => {
                task = refused;
                // Whoever has ended gives back a process and a descriptor.
                if !reaper.sweep() {
                    if patience == Patience::None {
                        return Err((error, task));
                    }
                    reaper.wait_for_any(Instant::now() + pause);
                    pause *= 2;
                }
            }
            done => return done,
        }
    }
    attempt(task)
}

/// Does about other threads what the group was asked to.
fn look_for_threads(reaper: &Reaper) -> io::Result<()> {
    let asked = reaper.settings.other_threads;
    // Relaxed: said twice is no harm.
    let has_warned = reaper.has_warned.load(Ordering::Relaxed);
    if asked == OtherThreads::Allow || asked == OtherThreads::Warn && has_warned {
        return Ok(());
    }
    let Some(others) = threads::others()? else {
        return Ok(());
    };
    const WHY: &str = "a lock that one of them holds would be held for ever in the child";
    if asked == OtherThreads::Deny {
        return Err(io::Error::other(format!(
            "this program has {others}, and {WHY}; start tasks before threads, or allow it with other_threads"
        )));
    }
    // Relaxed: as above.
    reaper.has_warned.store(true, Ordering::Relaxed);
    stuck::print(&[format!(
        "a task is forked while this program has {others}: {WHY}"
    )]);
    Ok(())
}

/// Whether what is missing comes back once others are done. The last: this user has as many descriptors as one process may have open on their way
/// through sockets, as those of children that have not come to `init` yet are.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(sys::EAGAIN | sys::EMFILE | sys::ENFILE | sys::ENOMEM | sys::ETOOMANYREFS)
    )
}

fn try_start<T, F>(
    reaper: &Reaper,
    terms: Option<&Arc<Terms>>,
    task: F,
) -> Result<Forked, (io::Error, F)>
where
    T: Serialize,
    F: FnOnce() -> Result<T>,
{
    // All that can run out is fetched before the fork: afterwards the task may have begun, and cannot be given back.
    if let Err(error) = reaper.reserve_descriptor() {
        return Err((error, task));
    }
    let mut slot = match reaper.region.take() {
        Ok(slot) => slot,
        Err(error) => return Err((error, task)),
    };
    let pipes = match terms.map_or(Ok(Pipes::default()), |terms| terms.stdio.open()) {
        Ok(pipes) => pipes,
        Err(error) => return Err((error, task)),
    };
    let word = reaper.word();
    identity::step_hash_keys();

    let signals = Handled::now();
    let by_main_thread = is_main_thread();
    let parent_pid = reaper.owner.pid();
    let lifeline = lifeline::prepare(!by_main_thread);
    let locks = Locks::take();
    // No handler of the program's runs in a half-made child. Three system calls and two page faults, so only where there are any.
    let mask = (!by_main_thread || signals.any()).then(sys::block_signals);
    // SAFETY: the promise of `Group::new` and `Builder::fork`: no task takes a lock that another thread may hold. The locks of the
    // standard output streams and of our clock are held by this thread or by none; our others are not used in a child.
    let forked = unsafe { sys::fork() };
    match forked {
        Ok(Fork::Child) => {
            if let Some(held) = locks.0 {
                held.release_in_child();
            }
            enter_main_thread();
            lifeline.enter_child();
            capture::enter_child();
            let birth = Birth {
                settings: &reaper.settings,
                terms: terms.map(|terms| &**terms),
                parent_pid,
                by_main_thread,
                mask: &mask,
                signals,
            };
            child::live(&birth, pipes, &mut slot, task)
        }
        Ok(Fork::Parent { pid }) => {
            mask.iter().for_each(sys::set_signal_mask);
            drop(locks);
            drop(lifeline);
            let pidfd = watch(reaper, pid);
            // The child has its own copy of what the closure captured; ours must not keep channels open, or files.
            drop(task);
            Ok(Forked {
                pid,
                pidfd,
                slot,
                word,
                pipes,
                terms: terms.cloned(),
                origin: Origin::Forked,
            })
        }
        Err(error) => {
            mask.iter().for_each(sys::set_signal_mask);
            drop(locks);
            Err((error, task))
        }
    }
}

/// The locks that a child needs and that other threads take: held around the fork, so that none is found taken for ever.
struct Locks(Option<Held>);

/// Released in this order.
struct Held {
    clock: clock::Held,
    stderr: StderrLock<'static>,
    stdout: StdoutLock<'static>,
}

impl Locks {
    /// Takes them, and flushes standard output, so that nothing is printed twice.
    fn take() -> Self {
        if sys::has_one_thread() {
            // Nobody else can hold them. Not to write to them after the fork saves two page faults on each side.
            drop(io::stdout().flush());
            return Self(None);
        }
        // On this thread, whose copy the child's is: these locks are taken again at will by the thread that holds them. In this order,
        // which is that of a `println!` whose argument prints to standard error.
        let mut stdout = io::stdout().lock();
        drop(stdout.flush());
        let stderr = io::stderr().lock();
        Self(Some(Held {
            clock: clock::hold_for_fork(),
            stderr,
            stdout,
        }))
    }
}

impl Held {
    fn release_in_child(self) {
        self.clock.in_child();
        drop(self.stderr);
        drop(self.stdout);
    }
}

/// Opens the child's pidfd. None where the child was collected by somebody else already.
pub(crate) fn watch(reaper: &Reaper, pid: u32) -> Option<OwnedFd> {
    loop {
        match sys::pidfd_open(pid) {
            Ok(pidfd) => return Some(pidfd),
            Err(error) if error.raw_os_error() == Some(sys::ESRCH) => return None,
            Err(_) => {
                // No descriptor left: that is what the reserve is for. Another thread of the program may snatch it; then until
                // one of all these descriptors is closed the child runs unwatched.
                if !reaper.release_descriptor() {
                    std::thread::sleep(FIRST_PAUSE);
                }
            }
        }
    }
}

thread_local! {
    /// Whether this is the thread its process began with, once asked for.
    static IS_MAIN_THREAD: Cell<Option<bool>> = const { Cell::new(None) };
}

/// For the only thread of a process that was just made.
pub(crate) fn enter_main_thread() {
    IS_MAIN_THREAD.set(Some(true));
}

pub(crate) fn is_main_thread() -> bool {
    IS_MAIN_THREAD.get().unwrap_or_else(|| {
        let is_main = sys::is_main_thread();
        IS_MAIN_THREAD.set(Some(is_main));
        is_main
    })
}
