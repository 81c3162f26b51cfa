//! What a fork does to channels: the child is entered everywhere before it takes its first step.
//!
//! One lock per process guards its list of channels and is held across every fork, so that the child
//! finds the list whole. Handlers set by `pthread_atfork(3)` do the rest:
//!
//! - before the fork, the parent takes a row on the roll and a row in each of its channels for the
//!   child that is to come: from then on the child counts as holding what its parent holds;
//! - the child takes up those rows;
//! - if the fork is refused, the parent frees them again;
//! - a child killed before its first step leaves rows that a lock tells of, which it let go of by its death.
//!
//! A child made by a bare `clone` system call skips the handlers. It is entered at its first use,
//! since the page that says who this process is has been wiped.

#![expect(unsafe_code, reason = "one page that a fork wipes")]

use crate::Error;
use crate::face::Faces;
use crate::layout::Geometry;
use crate::map::{FilePlace, Mapping};
use crate::pass::{self, Arrived, Label};
use crate::robust::{self, Lease, Process, ROLL_BYTES, Roll};
use crate::sync::{AtomicU64, Relaxed};
use crate::sys;
use crate::table::{Core, Sides};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// This process's channels and its places on rolls.
struct Family {
    /// The roll of this tree of processes; made with its first channel, inherited by every child.
    tree: Option<&'static Home>,
    /// Likewise for channels that are to be passed on. Never one that came with a channel from elsewhere: those who gave that have it.
    passable: Option<&'static Home>,
    /// Every roll this process is on, those included.
    homes: Vec<&'static Home>,
    cores: BTreeMap<usize, Arc<Core>>,
}

/// A roll, and this process's place on it.
#[derive(Debug)]
pub(crate) struct Home {
    roll: Roll,
    /// The process as bits; zero in a child until it is entered.
    me: &'static AtomicU64,
    spins: u32,
    /// What the roll lies in, if it can be passed on.
    file: Option<Arc<File>>,
}

/// Turns of a busy wait, where another processor can be doing what is waited for.
const SPINS: u32 = 60;

static FAMILY: Mutex<Family> = Mutex::new(Family {
    tree: None,
    passable: None,
    homes: Vec::new(),
    cores: BTreeMap::new(),
});

/// What the parent prepared for the child.
struct Birth {
    children: Vec<(&'static Home, Process)>,
    /// What tells that the child is still to begin; closed by the parent after the fork, and by the child when it has begun.
    leases: Vec<Lease>,
    rows: Vec<(Arc<Core>, Process, u16)>,
}

thread_local! {
    /// The lock and the plan, between the handlers before and after a fork.
    static FORKING: RefCell<Option<(MutexGuard<'static, Family>, Option<Birth>)>> =
        const { RefCell::new(None) };
}

fn lock() -> MutexGuard<'static, Family> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a channel's core, with one handle of each side, and enters it in the list; with a label, in memory that can be passed
/// on; with eventfds, if it is to be pollable.
pub(crate) fn adopt(
    geometry: &Geometry,
    label: Option<Label>,
    pollable: bool,
) -> Result<Arc<Core>, Error> {
    let mut family = lock();
    let faces = pollable.then(Faces::new).transpose();
    let faces = faces.map_err(Error::process)?;
    let (home, map) = match label {
        None => {
            let home = family.tree().map_err(Error::process)?;
            (home, Mapping::new(geometry.map_bytes))
        }
        Some(label) => {
            let (home, roll) = family.passable().map_err(Error::process)?;
            let identities = faces.as_ref().map(Faces::identities).transpose();
            let identities = identities.map_err(Error::process)?.unwrap_or_default();
            let label = label.with_faces(identities);
            (home, pass::create_memory(geometry.map_bytes, label, roll))
        }
    };
    let map = map.map_err(Error::memory)?;
    family.enter(home, map, geometry, Sides::BOTH, faces)
}

/// The core of a channel that came from elsewhere, with one more handle of each of these sides, and entered in the list.
///
/// A process has one core for a channel, whichever way it came by it: so it has one row, each event has one address, and
/// messages in hand are counted once.
pub(crate) fn join(
    geometry: &Geometry,
    arrived: Arrived,
    sides: Sides,
) -> Result<Arc<Core>, Error> {
    let mut family = lock();
    let Some(core) = family.core_in(arrived.place()?) else {
        let (map, roll, faces) = arrived.map(geometry.map_bytes)?;
        let home = family.home_in(roll).map_err(Error::process)?;
        return family.enter(home, map, geometry, sides, faces);
    };
    if core.geometry() != geometry {
        return Err(Error::mismatch("its label was written over"));
    }
    let process = core.home().process().map_err(Error::process)?;
    core.enter_as(process, sides).map_err(Error::process)?;
    core.add_handles(sides);
    drop(family);
    core.tell_sides_left(sides);
    Ok(core)
}

/// Runs `act` with this process's entry on the roll, under the fork lock.
pub(crate) fn with_process<R>(
    home: &'static Home,
    act: impl FnOnce(Process) -> R,
) -> io::Result<R> {
    let _family = lock();
    let process = home.process()?;
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
    /// Enters a channel in the list, as used by this process.
    fn enter(
        &mut self,
        home: &'static Home,
        map: Mapping,
        geometry: &Geometry,
        sides: Sides,
        faces: Option<Faces>,
    ) -> Result<Arc<Core>, Error> {
        let process = home.process().map_err(Error::process)?;
        let core = Arc::new(Core::new(geometry, map, home, sides));
        if let Some(faces) = faces {
            // Before it is entered: then the poll loops of others are told.
            core.make_pollable(faces);
        }
        core.enter_as(process, sides).map_err(Error::process)?;
        self.cores.insert(key(&core), core.clone());
        Ok(core)
    }

    /// The channel in the file at `place`, if this process has it.
    fn core_in(&self, place: FilePlace) -> Option<Arc<Core>> {
        let mut cores = self.cores.values();
        cores
            .find(|core| core.map().place() == Some(place))
            .cloned()
    }

    /// The roll of this tree of processes; makes it if need be.
    fn tree(&mut self) -> io::Result<&'static Home> {
        if let Some(home) = self.tree {
            return Ok(home);
        }
        let cradle = sys::memfd(c"multi-chan-births").map(|file| Arc::new(File::from(file)));
        let home = self.settle(Roll::new()?.with_cradle(cradle), None)?;
        Ok(*self.tree.insert(home))
    }

    /// This tree's roll for channels that are to be passed on, and the file it lies in; makes it if need be.
    fn passable(&mut self) -> io::Result<(&'static Home, &'static File)> {
        let home = match self.passable {
            Some(home) => home,
            None => {
                let home = self.home_in(pass::create_roll(ROLL_BYTES)?)?;
                *self.passable.insert(home)
            }
        };
        let file = home.file.as_deref().ok_or(io::ErrorKind::NotFound)?;
        Ok((home, file))
    }

    /// The roll in that file; maps it if this process is not on it yet.
    fn home_in(&mut self, file: File) -> io::Result<&'static Home> {
        let here = FilePlace::of(&file)?;
        let known = |home: &&&'static Home| {
            let other = home.file.as_deref().map(FilePlace::of);
            other.is_some_and(|other| other.ok() == Some(here))
        };
        if let Some(home) = self.homes.iter().find(known) {
            return Ok(home);
        }
        let file = Arc::new(file);
        let roll = Roll::in_file(file.as_fd())?.with_cradle(Ok(Arc::clone(&file)));
        self.settle(roll, Some(file))
    }

    /// Has this process and its children be on `roll` from now on.
    fn settle(&mut self, roll: Roll, file: Option<Arc<File>>) -> io::Result<&'static Home> {
        let home = Home {
            roll,
            me: wiped_word()?,
            // The machine's, not those that this thread may run on just now: the other side may run on another.
            spins: if sys::processors() > 1 { SPINS } else { 0 },
            file,
        };
        if self.homes.is_empty() {
            sys::at_fork(before_fork, in_parent, in_child)?;
        }
        let home = Box::leak(Box::new(home));
        self.homes.push(home);
        Ok(home)
    }
}

impl Home {
    pub(crate) fn roll(&'static self) -> &'static Roll {
        &self.roll
    }

    /// The word that says who this process is; zero in a child until it is entered.
    pub(crate) fn me(&self) -> &'static AtomicU64 {
        self.me
    }

    /// What the roll lies in, if it can be passed on.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_deref()
    }

    /// Turns of a busy wait.
    pub(crate) fn spins(&self) -> u32 {
        self.spins
    }

    /// This process on the roll; enters it if need be. The caller holds the fork lock.
    fn process(&'static self) -> io::Result<Process> {
        // Relaxed: written under the lock, or wiped by a fork.
        if let Some(process) = Process::from_bits(self.me.load(Relaxed)) {
            return Ok(process);
        }
        let process = self.roll.claim()?;
        self.begin(process)?;
        Ok(process)
    }

    fn begin(&'static self, process: Process) -> io::Result<()> {
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
    let birth = (!family.cores.is_empty()).then(|| {
        let mut birth = Birth {
            children: Vec::new(),
            leases: Vec::new(),
            rows: Vec::new(),
        };
        for &home in &family.homes {
            let cores = || family.cores.values().filter(|core| core.is_on(home));
            if cores().next().is_none() {
                continue;
            }
            // A roll that is full has no row for the child: it will not find one at its first use either.
            let Ok(child) = home.roll.claim() else {
                continue;
            };
            birth.children.push((home, child));
            birth.leases.extend(home.roll.lease(child));
            let row =
                |core: &Arc<Core>| Some((core.clone(), child, core.claim_row_for_child(child)?));
            birth.rows.extend(cores().filter_map(row));
        }
        birth
    });
    // A thread on its last legs has no storage left: then its child enters itself at first use.
    FORKING
        .try_with(|forking| *forking.borrow_mut() = Some((family, birth)))
        .ok();
    // The C library runs `in_parent` for a refused fork, too, with errno as the system call left it.
    sys::forget_error();
}

extern "C" fn in_parent() {
    let refused = sys::is_fork_refused();
    let Ok(Some((family, Some(birth)))) = FORKING.try_with(RefCell::take) else {
        return;
    };
    // As everywhere, looks at the others are not for inside the lock.
    drop(family);
    if refused {
        birth.call_off();
    }
}

impl Birth {
    /// There will be no child.
    ///
    /// Should errno be somebody else's, from another handler, and there is one: then it either has begun, and nothing
    /// happens here, or it finds its place on the roll gone and is entered anew at its first use.
    #[cold]
    fn call_off(self) {
        self.children
            .iter()
            .for_each(|(home, child)| home.roll.never_began(*child));
        for (core, child, row) in self.rows {
            core.drop_child(child, row);
        }
    }
}

extern "C" fn in_child() {
    let Ok(Some((family, birth))) = FORKING.try_with(RefCell::take) else {
        return;
    };
    robust::forget_held();
    for home in &family.homes {
        home.roll.forked();
    }
    let Some(mut birth) = birth else { return };
    birth
        .children
        .retain(|&(home, child)| home.begin(child).is_ok());
    // The rows on the rolls tell of us from here on.
    drop(birth.leases);
    for (core, child, row) in birth.rows {
        if birth
            .children
            .iter()
            .any(|&(home, begun)| begun == child && core.is_on(home))
        {
            core.take_up(child, row);
        }
    }
}
