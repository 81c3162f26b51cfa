//! The shared memory of a group: one slot per running task, where the child writes how far it is and what came of it.
//!
//! ```text
//! chunk   ┌ spill 1: spill_bytes ┬ … ┬ spill n-1 ┬ words: 1 KiB ┬ slot 1: 1 KiB ┬ … ┬ slot n-1 ┐
//! slot    ┌ 0 stage ┬ 4 kind ┬ 8 spilled ┬ 12 note ┬ 16 len ┬ … ┬ 64 inline: 960 bytes ┐
//! ```
//!
//! The slots lie at the upper end, because mappings grow downwards: there they share a page table with the mapping made before, which a
//! child has anyway. At the lower end, a gigabyte away, a child's first touch of its slot took 9 µs instead of 3.
//!
//! Spills are address space, not memory: a page exists once a child has written to it, and is given back with the slot.
//! Chunks double in size and live as long as a slot or a word of their region does.
//!
//! The memory of a group that forks is anonymous: its children have it. Where children are not forked from this process it lies in memory
//! files instead, one to a chunk: a child is given the file and a [`Whereabouts`], and maps its own slot.
//!
//! The words of cancel tokens lie beside the slots (in the first chunk, then in pages of their own) and are never used twice: a token may
//! be held by any process, for longer than the group knows.

#![expect(
    unsafe_code,
    reason = "slots lie in a mapping that a forked child shares"
)]

use crate::identity::Owner;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::{self, memory};
use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod passed;

pub(crate) use passed::Whereabouts;

/// Slots of the first chunk. 16 KiB, so that a small group touches few pages.
const FIRST_SLOTS: usize = 16;
const SLOT_BYTES: usize = 1024;
const INLINE_AT: usize = size_of::<Header>();
const INLINE_BYTES: usize = SLOT_BYTES - INLINE_AT;
/// So that the text of an error always has room, however small the group wants its values.
const SPILL_BYTES_MIN: usize = 64 * 1024;
const PAGE_BYTES: usize = 4096;

const _: () = assert!(
    size_of::<Header>() == 64 && align_of::<Header>() == 64 && SLOT_BYTES.is_multiple_of(64)
);
const _: () = assert!((FIRST_SLOTS * SLOT_BYTES).is_multiple_of(PAGE_BYTES));

#[repr(C, align(64))]
struct Header {
    /// A [`Stage`].
    stage: AtomicU32,
    /// What the payload is: a [`Kind`].
    kind: AtomicU32,
    /// 1 once anything may have been written to the spill.
    spilled: AtomicU32,
    /// What a signal handler of the child has to say: see [`sys::set_note`].
    note: AtomicU32,
    /// Bytes of the payload; in the spill if more than a slot holds.
    len: AtomicU64,
}

/// How far a child is. Only the child moves it on; the parent reads it.
///
/// | value | stage | the child |
/// | --- | --- | --- |
/// | 0 | `Forked` | exists, perhaps |
/// | 1 | `SetUp` | has seen to it that it dies with its parent |
/// | 2 | `Running` | is inside the task's closure |
/// | 3 | `Reporting` | writes down what came of it |
/// | 4 | `Done` | has written it down: `kind`, `len` and the payload are whole |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Stage {
    Forked = 0,
    SetUp = 1,
    Running = 2,
    Reporting = 3,
    Done = 4,
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Value = 1,
    Failure = 2,
    /// On the way to a child.
    Arguments = 3,
}

/// The mappings of one group and the slots in them that nobody uses.
pub(crate) struct Region {
    owner: Owner,
    spill_bytes: usize,
    reach: Reach,
    state: Mutex<State>,
}

/// Who can come to the memory of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Processes forked from this one since it was made.
    Forked,
    /// Any process that is given the file and a [`Whereabouts`].
    Passed,
    /// This is such a process, with one slot of another's region.
    Borrowed,
}

struct State {
    /// Every mapping.
    chunks: Vec<Chunk>,
    /// How many of them hold slots.
    slot_chunks: u32,
    free: Vec<Place>,
    /// Words that were never used.
    words: Vec<NonNull<WordCell>>,
}

struct Chunk {
    at: NonNull<u8>,
    bytes: usize,
    /// What is mapped, where that can be passed on.
    file: Option<Arc<OwnedFd>>,
}

#[derive(Clone, Copy)]
struct Place {
    header: NonNull<Header>,
    spill: NonNull<u8>,
}

/// What a cancel token is made of.
#[repr(C)]
struct WordCell {
    /// 1 once the request was made.
    word: AtomicU32,
    /// Sleepers on it. One that was killed in its sleep stays counted: a wake too many, nothing worse.
    waiters: AtomicU32,
}

/// One of the words, for good.
pub(crate) struct Word {
    region: Arc<Region>,
    cell: NonNull<WordCell>,
}

// SAFETY: a word is two atomics in memory that its region keeps.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}
// SAFETY: the addresses in stock are of memory that is shared even between processes; they are used through `Word` alone.
unsafe impl Send for State {}

impl Word {
    fn cell(&self) -> &WordCell {
        // SAFETY: aligned, within a mapping that the region keeps, and never anything but two atomics.
        unsafe { self.cell.as_ref() }
    }

    /// The word itself.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.cell().word
    }

    /// How many sleep on it.
    pub(crate) fn waiters(&self) -> &AtomicU32 {
        &self.cell().waiters
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for the eye.
        f.debug_struct("Word")
            .field("word", &self.word().load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

// SAFETY: a chunk is memory shared even between processes; what is in it is reached through atomics or by one slot's owner.
unsafe impl Send for Chunk {}
// SAFETY: a place is an address in a chunk; only the one slot made from it uses it.
unsafe impl Send for Place {}

/// The use of one slot, until it is dropped.
pub(crate) struct Slot {
    region: Arc<Region>,
    place: Place,
}

// SAFETY: every method that writes more than an atomic takes `&mut self` or runs in the child while the parent keeps off.
unsafe impl Send for Slot {}
// SAFETY: as above; shared use is by atomics.
unsafe impl Sync for Slot {}

impl Region {
    /// Maps the first chunk, with room for payloads of `payload_bytes_max`.
    pub(crate) fn new(payload_bytes_max: usize, reach: Reach) -> io::Result<Arc<Self>> {
        let too_large =
            || io::Error::new(io::ErrorKind::InvalidInput, "larger than an address space");
        let spill_bytes = payload_bytes_max
            .max(SPILL_BYTES_MIN)
            .checked_next_multiple_of(PAGE_BYTES)
            .filter(|bytes| bytes.checked_mul(FIRST_SLOTS * 2).is_some())
            .ok_or_else(too_large)?;
        let mut state = State {
            chunks: Vec::new(),
            slot_chunks: 0,
            free: Vec::new(),
            words: Vec::new(),
        };
        state.grow(spill_bytes, reach)?;
        Ok(Arc::new(Self {
            owner: Owner::here(),
            spill_bytes,
            reach,
            state: Mutex::new(state),
        }))
    }

    /// A slot nobody uses, all zeroes up to its payload.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Slot> {
        let mut state = self.lock();
        if state.free.is_empty() {
            state.grow(self.spill_bytes, self.reach)?;
        }
        match state.free.pop() {
            Some(place) => Ok(Slot {
                region: Arc::clone(self),
                place,
            }),
            None => unreachable!("a new chunk without a slot"),
        }
    }

    /// A word that nobody has used, 0.
    pub(crate) fn take_word(self: &Arc<Self>) -> io::Result<Word> {
        let mut state = self.lock();
        if state.words.is_empty() {
            let chunk = Chunk::new(PAGE_BYTES, self.reach)?;
            let at = chunk.at;
            state.chunks.push(chunk);
            state.add_words(at, PAGE_BYTES);
        }
        match state.words.pop() {
            Some(cell) => Ok(Word {
                region: Arc::clone(self),
                cell,
            }),
            None => unreachable!("a new page without a word"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    fn new(bytes: usize, reach: Reach) -> io::Result<Self> {
        let (at, file) = if reach == Reach::Passed {
            let file = memory::memory_file(bytes)?;
            (
                memory::map_file(file.as_fd(), 0, bytes)?,
                Some(Arc::new(file)),
            )
        } else {
            (sys::map_shared(bytes)?, None)
        };
        Ok(Self { at, bytes, file })
    }
}

impl State {
    fn grow(&mut self, spill_bytes: usize, reach: Reach) -> io::Result<()> {
        let count = FIRST_SLOTS << self.slot_chunks.min(16);
        let slots_bytes = count * SLOT_BYTES;
        let spills_bytes = spill_bytes.checked_mul(count);
        let (slots_at, bytes) = spills_bytes
            .and_then(|slots_at| Some((slots_at, slots_at.checked_add(slots_bytes)?)))
            .ok_or_else(|| io::Error::from_raw_os_error(sys::ENOMEM))?;
        let chunk = Chunk::new(bytes, reach)?;
        let at = chunk.at;
        self.chunks.push(chunk);
        self.slot_chunks += 1;
        if self.slot_chunks == 1 {
            // SAFETY: behind all spills, where there is room for `count` slots.
            self.add_words(unsafe { at.add(slots_at) }, SLOT_BYTES);
        }
        // Backwards: the first slot is on top.
        for index in (1..count).rev() {
            // SAFETY: slot `index` lies behind all spills and within the mapping.
            let header = unsafe { at.add(slots_at + index * SLOT_BYTES) };
            // SAFETY: spill `index` lies within the mapping of `count` spills and slots.
            let spill = unsafe { at.add(index * spill_bytes) };
            self.free.push(Place {
                header: header.cast(),
                spill,
            });
        }
        Ok(())
    }
}

impl State {
    /// Takes new words into stock: `bytes` of zeroes from `at`.
    fn add_words(&mut self, at: NonNull<u8>, bytes: usize) {
        for index in (0..bytes / size_of::<WordCell>()).rev() {
            // SAFETY: within the bytes that the caller set aside.
            self.words.push(unsafe { at.cast::<WordCell>().add(index) });
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Not by `lock`: in a child that drops a group it was given, a copy of the lock may be held for ever.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for chunk in state.chunks.drain(..) {
            // SAFETY: a whole mapping, and the last slot and word of the region are gone: each held the region.
            unsafe { sys::unmap(chunk.at, chunk.bytes) };
        }
    }
}

impl Slot {
    fn header(&self) -> &Header {
        // SAFETY: the place is aligned and lives in a mapping that `region` keeps; a header is atomics, for which any bytes do.
        unsafe { self.place.header.as_ref() }
    }

    /// How far the child says it is; none where it says nonsense.
    pub(crate) fn stage(&self) -> Option<Stage> {
        // Acquire: with `Done`, the payload is whole. Pairs with the Release in `set_stage`.
        match self.header().stage.load(Ordering::Acquire) {
            0 => Some(Stage::Forked),
            1 => Some(Stage::SetUp),
            2 => Some(Stage::Running),
            3 => Some(Stage::Reporting),
            4 => Some(Stage::Done),
            _ => None,
        }
    }

    /// For the child: it has come to `stage`.
    pub(crate) fn set_stage(&self, stage: Stage) {
        // Release: with `Done`, publishes the payload. Pairs with the Acquire in `stage`.
        self.header().stage.store(stage as u32, Ordering::Release);
    }

    /// For the child: the word that its signal handlers write to.
    pub(crate) fn note(&self) -> &AtomicU32 {
        &self.header().note
    }

    /// For the parent: what a signal handler of the child, now dead, left word of.
    pub(crate) fn word(&self) -> u32 {
        // Relaxed: whoever wrote it is dead.
        self.header().note.load(Ordering::Relaxed)
    }

    /// For the child: the bytes that lie in the slot itself.
    pub(crate) fn inline_mut(&mut self) -> &mut [u8] {
        // SAFETY: the slot's own bytes behind its header.
        let at = unsafe { self.place.header.cast::<u8>().add(INLINE_AT) };
        // SAFETY: within the slot, initialised by the kernel; `&mut self` in the child, and the parent reads them only once it is
        // told that they are whole or that the child is dead.
        unsafe { slice::from_raw_parts_mut(at.as_ptr(), INLINE_BYTES) }
    }

    /// For the child: the bytes beside the slot, for what it does not hold.
    pub(crate) fn spill_mut(&mut self) -> &mut [u8] {
        // Relaxed: the parent reads it when the child is dead.
        self.header().spilled.store(1, Ordering::Relaxed);
        // SAFETY: the slot's own spill, initialised by the kernel; alone here as in `inline_mut`.
        unsafe { slice::from_raw_parts_mut(self.place.spill.as_ptr(), self.region.spill_bytes) }
    }

    /// For the child: the payload is the first `len` bytes, inline or, where it is longer than that, in the spill.
    pub(crate) fn set_payload(&self, kind: Kind, len: usize) {
        // Relaxed, twice: published by `set_stage(Done)`.
        self.header().kind.store(kind as u32, Ordering::Relaxed);
        self.header().len.store(len as u64, Ordering::Relaxed);
    }

    /// How many bytes a payload may have that lies in the slot itself.
    pub(crate) const INLINE_MAX: usize = INLINE_BYTES;

    /// For the parent: what the child wrote, once it said that it is done and is dead. None where its kind or its length
    /// cannot be.
    pub(crate) fn payload(&self) -> Option<(Kind, &[u8])> {
        // Relaxed, twice: the caller has seen `Done` by the Acquire in `stage`.
        let kind = match self.header().kind.load(Ordering::Relaxed) {
            1 => Kind::Value,
            2 => Kind::Failure,
            3 => Kind::Arguments,
            _ => return None,
        };
        let len = usize::try_from(self.header().len.load(Ordering::Relaxed)).ok()?;
        let at = if len <= INLINE_BYTES {
            // SAFETY: the slot's own bytes behind its header.
            unsafe { self.place.header.cast::<u8>().add(INLINE_AT) }
        } else if len <= self.region.spill_bytes {
            self.place.spill
        } else {
            return None;
        };
        // SAFETY: `len` was checked against where the bytes lie, the kernel initialised them, and who wrote them is dead.
        Some((kind, unsafe { slice::from_raw_parts(at.as_ptr(), len) }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A child's copy gives nothing back: the slot is its parent's, and so is the lock.
        if !self.region.owner.is_here() || self.region.reach == Reach::Borrowed {
            return;
        }
        // Relaxed: whoever wrote it is dead.
        if self.header().spilled.load(Ordering::Relaxed) != 0 {
            // SAFETY: the slot's own spill; nobody reads it any more.
            unsafe { sys::give_back(self.place.spill, self.region.spill_bytes) };
        }
        let Header {
            stage,
            kind,
            spilled,
            note,
            len,
        } = self.header();
        for word in [stage, kind, spilled, note] {
            // Relaxed: the next user is handed the slot through the region's lock, or by fork.
            word.store(0, Ordering::Relaxed);
        }
        // Relaxed: as above.
        len.store(0, Ordering::Relaxed);
        self.region.lock().free.push(self.place);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("stage", &self.stage())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
