//! What a fork does to channels: the child is entered everywhere before it takes its first step.
//!
//! One lock per process guards its list of channels and is held across every fork, so that the child
//! finds the list whole. Handlers set by `pthread_atfork(3)` do the rest:
//!
//! - before the fork, the parent takes a row on the roll and a row in each of its channels for the
//!   child that is to come: from then on the child counts as holding what its parent holds;
//! - the child takes up those rows;
//! - a fork that is refused, or a child killed before its first step, leaves rows that count as
//!   dead after two seconds.
//!
//! A child made by a bare `clone` system call skips the handlers. It is entered at its first use,
//! since the page that says who this process is has been wiped.

#![expect(unsafe_code, reason = "one page that a fork wipes")]

use crate::Error;
use crate::layout::Geometry;
use crate::robust::{Process, Roll};
use crate::sync::{AtomicU64, Relaxed};
use crate::sys;
use crate::table::{Core, Sides};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// This process's channels and its place in the tree.
struct Family {
    here: Option<Here>,
    cores: BTreeMap<usize, Arc<Core>>,
}

/// Made with the first channel of the tree, inherited by every child.
#[derive(Clone, Copy)]
struct Here {
    roll: &'static Roll,
    /// The process as bits; zero in a child until it is entered.
    me: &'static AtomicU64,
    spins: u32,
}

/// Turns of a busy wait, where another processor can be doing what is waited for.
const SPINS: u32 = 60;

static FAMILY: Mutex<Family> = Mutex::new(Family {
    here: None,
    cores: BTreeMap::new(),
});

/// What the parent prepared for the child.
struct Birth {
    child: Process,
    rows: Vec<(Arc<Core>, u16)>,
}

thread_local! {
    /// The lock and the plan, between the handlers before and after a fork.
    static FORKING: RefCell<Option<(MutexGuard<'static, Family>, Option<Birth>)>> =
        const { RefCell::new(None) };
}

fn lock() -> MutexGuard<'static, Family> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a channel's core, with one handle of each side, and enters it in the list.
pub(crate) fn adopt(geometry: &Geometry) -> Result<Arc<Core>, Error> {
    let mut family = lock();
    let process = family.process().map_err(Error::process)?;
    let Some(here) = family.here else {
        return Err(Error::process(io::ErrorKind::NotFound.into()));
    };
    let core = Core::new(geometry, here.roll, here.me, here.spins).map_err(Error::memory)?;
    let core = Arc::new(core);
    core.enter_as(process, Sides::BOTH)
        .map_err(Error::process)?;
    family.cores.insert(key(&core), core.clone());
    Ok(core)
}

/// Runs `act` with this process's entry on the roll, under the fork lock.
pub(crate) fn with_process<R>(act: impl FnOnce(Process) -> R) -> io::Result<R> {
    let mut family = lock();
    let process = family.process()?;
    Ok(act(process))
}

/// Called for the last handle of a side: the process stops counting as `side`.
pub(crate) fn leave(core: &Core, side: Sides) {
    let gone = {
        let mut family = lock();
        let last = core.leave(side);
        last.then(|| family.cores.remove(&key(core))).flatten()
    };
    // Neither a look at the others nor unmapping is for inside the lock. The look sets the flag that
    // lets the other side's next fast path see that we were the last.
    core.is_gone(side);
    drop(gone);
}

fn key(core: &Core) -> usize {
    core.map().base().addr().get()
}

impl Family {
    /// This process on the roll; enters it if need be.
    fn process(&mut self) -> io::Result<Process> {
        let here = match self.here {
            Some(here) => here,
            None => {
                let here = Here {
                    roll: Box::leak(Box::new(Roll::new()?)),
                    me: wiped_word()?,
                    // Asked here, under the lock, and not in a `OnceLock`: a fork in the middle of
                    // that would leave it locked in the child.
                    spins: match thread::available_parallelism() {
                        Ok(processors) if processors.get() > 1 => SPINS,
                        _ => 0,
                    },
                };
                sys::at_fork(before_fork, in_parent, in_child)?;
                *self.here.insert(here)
            }
        };
        // Relaxed: written under the lock, or wiped by a fork.
        if let Some(process) = Process::from_bits(here.me.load(Relaxed)) {
            return Ok(process);
        }
        let process = here.roll.claim()?;
        here.begin(process)?;
        Ok(process)
    }
}

impl Here {
    fn begin(self, process: Process) -> io::Result<()> {
        if !self.roll.begin(process)? {
            return Err(io::Error::other("the row went to another process"));
        }
        // Relaxed: other threads of this process that read a stale zero go and lock.
        self.me.store(process.bits(), Relaxed);
        Ok(())
    }
}

/// A word of this process alone, on a page that its children find zeroed.
fn wiped_word() -> io::Result<&'static AtomicU64> {
    const PAGE: usize = 4096;
    let page = sys::map_private(PAGE)?;
    sys::wipe_on_fork(page, PAGE)?;
    // SAFETY: the page is never unmapped, and zero bytes are a valid atomic.
    Ok(unsafe { page.cast::<AtomicU64>().as_ref() })
}

extern "C" fn before_fork() {
    let family = lock();
    let birth = family
        .here
        .filter(|_| !family.cores.is_empty())
        .and_then(|here| {
            let child = here.roll.claim().ok()?;
            let row = |core: &Arc<Core>| Some((core.clone(), core.claim_row_for_child(child)?));
            let rows = family.cores.values().filter_map(row).collect();
            Some(Birth { child, rows })
        });
    // A thread on its last legs has no storage left: then its child enters itself at first use.
    FORKING
        .try_with(|forking| *forking.borrow_mut() = Some((family, birth)))
        .ok();
}

extern "C" fn in_parent() {
    drop(FORKING.try_with(RefCell::take));
}

extern "C" fn in_child() {
    let Ok(Some((family, birth))) = FORKING.try_with(RefCell::take) else {
        return;
    };
    let Some(here) = family.here else { return };
    here.roll.forked();
    if let Some(birth) = birth
        && here.begin(birth.child).is_ok()
    {
        for (core, row) in birth.rows {
            core.take_up(birth.child, row);
        }
    }
}
