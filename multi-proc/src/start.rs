//! From a closure to a watched child.

#![expect(
    unsafe_code,
    reason = "the fork itself; what its children must not touch is promised at the group's constructor"
)]

use crate::child::{self, Birth, Handled};
use crate::identity;
use crate::reap::{Forked, Reaper};
use crate::report::{self, Ending};
use crate::slot::Slot;
use crate::sys::{self, Fork};
use multi_core::ledger::Ticket;
use multi_core::{Promise, Result, TaskErrorKind, clock, panic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::io::{self, StderrLock, StdoutLock, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A fork that was refused for want of something that others will give back is tried again this often, …
const TRIES: u32 = 6;
/// … after this long, and twice as long each time: 126 ms in all.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Whether a shortage is waited out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    WaitALittle,
    None,
}

/// Whose task a child runs: the seat of its outcome.
pub(crate) trait Settles: Send {
    fn ticket(&self) -> &Ticket;
    /// Reads what came of the task, lets the slot go and settles. `was_pressed`: we signalled the child to end.
    fn settle(
        self: Box<Self>,
        slot: Slot,
        ending: Ending,
        value_bytes_max: usize,
        was_pressed: bool,
    );
}

/// A task without a value.
pub(crate) struct Plain {
    pub(crate) ticket: Ticket,
}

/// A task with a value that somebody may wait for.
pub(crate) struct Valued<T> {
    pub(crate) ticket: Ticket,
    pub(crate) promise: Promise<T>,
}

impl Settles for Plain {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn settle(
        self: Box<Self>,
        slot: Slot,
        ending: Ending,
        value_bytes_max: usize,
        was_pressed: bool,
    ) {
        self.ticket
            .settle(outcome(slot, ending, value_bytes_max, was_pressed));
    }
}

impl<T: DeserializeOwned + Send + 'static> Settles for Valued<T> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn settle(
        self: Box<Self>,
        slot: Slot,
        ending: Ending,
        value_bytes_max: usize,
        was_pressed: bool,
    ) {
        self.ticket.settle_with(
            self.promise,
            outcome(slot, ending, value_bytes_max, was_pressed),
        );
    }
}

fn outcome<T: DeserializeOwned>(
    slot: Slot,
    ending: Ending,
    value_bytes_max: usize,
    was_pressed: bool,
) -> Result<T, TaskErrorKind> {
    // A value's own `Deserialize` may panic; whoever waits for the group must not.
    let outcome =
        panic::catch(|| report::read(&slot, ending, value_bytes_max)).and_then(|outcome| outcome);
    drop(slot);
    match outcome {
        // It did as it was told, by dying or by leaving: its ticket knows whether for a cancel or for its time limit.
        Err(
            TaskErrorKind::Signaled {
                signal: sys::SIGTERM | sys::SIGKILL,
                ..
            }
            | TaskErrorKind::Exited(_),
        ) if was_pressed => Err(TaskErrorKind::Cancelled),
        outcome => outcome,
    }
}

/// Forks a child that runs `task`, whatever it takes.
///
/// # Errors
///
/// Why there is no child, and the task.
pub(crate) fn start<T, F>(
    reaper: &Reaper,
    patience: Patience,
    mut task: F,
) -> Result<Forked, (io::Error, F)>
where
    T: Serialize,
    F: FnOnce() -> Result<T>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match try_start(reaper, task) {
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
    try_start(reaper, task)
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(sys::EAGAIN | sys::EMFILE | sys::ENFILE | sys::ENOMEM)
    )
}

fn try_start<T, F>(reaper: &Reaper, task: F) -> Result<Forked, (io::Error, F)>
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
    let word = reaper.word();
    identity::step_hash_keys();

    let signals = Handled::now();
    let by_main_thread = is_main_thread();
    let parent_pid = reaper.owner.pid();
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
            IS_MAIN_THREAD.set(Some(true));
            let birth = Birth {
                settings: &reaper.settings,
                parent_pid,
                by_main_thread,
                mask: &mask,
                signals,
            };
            child::live(&birth, &mut slot, task)
        }
        Ok(Fork::Parent { pid }) => {
            mask.iter().for_each(sys::set_signal_mask);
            drop(locks);
            let pidfd = watch(reaper, pid);
            // The child has its own copy of what the closure captured; ours must not keep channels open, or files.
            drop(task);
            Ok(Forked {
                pid,
                pidfd,
                slot,
                word,
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
fn watch(reaper: &Reaper, pid: u32) -> Option<OwnedFd> {
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

fn is_main_thread() -> bool {
    IS_MAIN_THREAD.get().unwrap_or_else(|| {
        let is_main = sys::is_main_thread();
        IS_MAIN_THREAD.set(Some(is_main));
        is_main
    })
}
