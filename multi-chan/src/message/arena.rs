//! The arena: chunks of the mapping, for what is too large for a slot.
//!
//! A **run** is a row of neighbouring chunks with one owner. Claiming a run writes the claimer's row and a
//! number that never comes back into the word of each of its chunks, so a chunk says from its first
//! instant whose it is and to which run it belongs. The states and the proofs are in `README.md`.
//!
//! ```text
//! offset ─▶ ArenaHeader ┬ room: event word, senders sleep on it
//!                       └ hot, high, next: hints
//!           tag[ROWS], 128 bytes each: the number of each row's last run
//!           word[chunk_count], 8 bytes each (a page boundary follows)
//!           chunk[chunk_count], 4096 bytes each
//! ```

#![expect(
    unsafe_code,
    reason = "words and chunks are found by offsets in the mapping"
)]

use crate::Error;
use crate::kill::{self, KillPoint};
use crate::layout::{Line, Owner, ROWS, Stamp, State, row_of};
use crate::sync::{AcqRel, Acquire, AtomicU64, Relaxed, Release, SeqCst, order_before_post};
use crate::wait::{ALL, Event};
use std::ptr::NonNull;

/// Bytes of a chunk. Claiming and freeing one costs about 10 ns, the bytes of one about 400 ns to write and read:
/// smaller chunks cost a message of 1 MiB more than 5 %, larger ones waste more behind small messages.
pub(crate) const CHUNK: usize = 4096;

/// A model cannot afford thousands of words that it does not use.
const TAG_ROWS: usize = if cfg!(loom) { 8 } else { ROWS };

/// More chunks than this do not fit the descriptor of a run.
const CHUNKS_MAX: usize = u32::MAX as usize;

/// Where an arena lies in its mapping. Lives in private memory, like the ring's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArenaGeometry {
    pub(crate) chunk_count: usize,
    offset: usize,
    words_offset: usize,
    chunks_offset: usize,
    /// The byte after the last chunk.
    pub(crate) end: usize,
}

impl ArenaGeometry {
    /// Lays out at least `bytes` of chunks behind the first `offset` bytes of a mapping.
    ///
    /// # Errors
    /// When they do not fit an address space.
    pub(crate) fn new(offset: usize, bytes: usize) -> Result<ArenaGeometry, Error> {
        let lay_out = || {
            let chunk_count = bytes.max(1).div_ceil(CHUNK);
            let offset = offset.checked_next_multiple_of(CHUNK)?;
            let words_offset =
                offset + size_of::<ArenaHeader>() + TAG_ROWS * size_of::<Line<AtomicU64>>();
            let words = chunk_count.checked_mul(size_of::<AtomicU64>())?;
            let chunks_offset = words_offset
                .checked_add(words)?
                .checked_next_multiple_of(CHUNK)?;
            let end = chunks_offset.checked_add(chunk_count.checked_mul(CHUNK)?)?;
            (isize::try_from(end).is_ok() && chunk_count <= CHUNKS_MAX).then_some(ArenaGeometry {
                chunk_count,
                offset,
                words_offset,
                chunks_offset,
                end,
            })
        };
        lay_out().ok_or_else(|| Error::capacity(bytes, 1))
    }
}

/// What all users of an arena share.
#[derive(Debug)]
#[repr(C)]
struct ArenaHeader {
    room: Line<Event>,
    hints: Line<Hints>,
}

#[derive(Debug)]
#[repr(C)]
struct Hints {
    /// The first chunk of the run freed last: its bytes are in somebody's cache.
    hot: AtomicU64,
    /// No chunk from here on was ever claimed.
    high: AtomicU64,
    /// The chunk behind the run claimed last: what comes next is as a rule what was sent longest ago.
    next: AtomicU64,
}

/// Neighbouring chunks that whoever holds this may use, and must give to a slot or free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a run that is dropped is lost until its owner dies"]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// What each chunk's word holds: a stamp whose lap is the run's number.
    ///
    /// | word                  | meaning                                                             |
    /// | --------------------- | ------------------------------------------------------------------- |
    /// | 0                     | free                                                                |
    /// | BUSY(number, owner)   | in the run that `owner` claimed as its row's `number`th; see README.md |
    /// | any other             | nobody writes it                                                    |
    pub(crate) word: u64,
}

/// One process's view of an arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    geometry: ArenaGeometry,
}

// SAFETY: words are atomics, and chunks are touched by whoever claimed them, through pointers.
unsafe impl Send for Arena {}

// SAFETY: as for `Send`.
unsafe impl Sync for Arena {}

impl Arena {
    /// A view of the arena in the mapping at `base`.
    ///
    /// # Safety
    /// - `base` points to `geometry.end` bytes, page aligned, readable and writable, of which those from
    ///   the arena's offset on were all zero when the first view was made and are touched through views alone.
    /// - they stay so for as long as this view or a copy of it is used.
    pub(crate) unsafe fn new(base: NonNull<u8>, geometry: ArenaGeometry) -> Arena {
        Arena { base, geometry }
    }

    /// The most bytes that one run can have.
    pub(crate) fn bytes_max(&self) -> usize {
        self.geometry.chunk_count * CHUNK
    }

    /// Writes loom's atomics into the places of the real ones.
    ///
    /// # Safety
    /// Nobody uses the arena yet.
    #[cfg(all(loom, test))]
    pub(crate) unsafe fn fill_with_atomics(&self) {
        let header = ArenaHeader {
            room: Line(Event::default()),
            hints: Line(Hints {
                hot: AtomicU64::from(0),
                high: AtomicU64::from(0),
                next: AtomicU64::from(0),
            }),
        };
        let place: *const ArenaHeader = self.header();
        // SAFETY: the memory is the caller's alone, and the place is the header's.
        unsafe { place.cast_mut().write(header) };
        for row in 0..TAG_ROWS as Owner {
            let place: *const Line<AtomicU64> = self.tag(row);
            // SAFETY: as above.
            unsafe { place.cast_mut().write(Line(AtomicU64::from(0))) };
        }
        for index in 0..self.geometry.chunk_count {
            let place: *const AtomicU64 = self.word(index);
            // SAFETY: as above.
            unsafe { place.cast_mut().write(AtomicU64::from(0)) };
        }
    }

    /// Senders that found no room sleep here.
    pub(crate) fn room(&self) -> &Event {
        &self.header().room.0
    }

    /// True if a claim for `bytes` would find neighbouring chunks just now.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let count = bytes.max(1).div_ceil(CHUNK);
        let high = self.high();
        let mut free = 0;
        for index in 0..high {
            // Acquire: from the first to the last, so that whoever sees the first chunk of a run free sees the others, which were
            // freed before it. Pairs with the exchange in `free_first`.
            free = match self.word(index).load(Acquire) {
                0 => free + 1,
                _ => 0,
            };
            if free >= count {
                return true;
            }
        }
        free + (self.geometry.chunk_count - high) >= count
    }

    /// Claims neighbouring chunks for `bytes`, or nothing if there are none just now.
    ///
    /// The run freed last is tried first, since it is in cache; then those behind the run claimed last, and round to them from the
    /// front, as far as chunks were ever used; only then fresh ones. So a queue of any length finds its next chunk at once, and the
    /// arena is touched as far as it was full at one time.
    pub(crate) fn claim(&self, owner: Owner, bytes: usize) -> Option<Run> {
        let count = bytes.max(1).div_ceil(CHUNK);
        let last = self.geometry.chunk_count.checked_sub(count)?;
        let word = self.new_word(owner);
        let hints = &self.header().hints.0;
        // Relaxed: a hint, checked below.
        let hot = hints.hot.load(Relaxed) as usize;
        let first = if hot <= last
            && self.looks_free(hot, count).is_ok()
            && self.take(hot, count, word).is_ok()
        {
            hot
        } else {
            // The last place for a run among chunks that were used before.
            let used = self.high().saturating_sub(count).min(last);
            // Relaxed: as above.
            let next = hints.next.load(Relaxed) as usize;
            let first = self
                .take_first(next, used, count, word)
                .or_else(|| self.take_first(0, used, count, word))
                .or_else(|| self.take_first(used, last, count, word))?;
            // Relaxed: a hint.
            hints.next.store((first + count) as u64, Relaxed);
            first
        };
        Some(Run {
            first: first as u32,
            count: count as u32,
            word,
        })
    }

    /// Claims the first `count` neighbouring chunks that begin between `from` and `to`.
    fn take_first(&self, from: usize, to: usize, count: usize, word: u64) -> Option<usize> {
        let mut first = from;
        while first <= to {
            match self
                .looks_free(first, count)
                .and_then(|()| self.take(first, count, word))
            {
                Ok(()) => return Some(first),
                Err(taken) => first = taken + 1,
            }
        }
        None
    }

    /// Frees a run and tells sleeping senders.
    ///
    /// The chunks go from the last to the first, so that whoever sees the first free sees all of them free.
    pub(crate) fn free(&self, run: Run) {
        let first = run.first as usize;
        for index in (first + 1..first + run.count as usize).rev() {
            let word = self.word(index);
            // Relaxed: ours until we free it; anything else was not written by a participant.
            if word.load(Relaxed) == run.word {
                // Release: our use of the bytes is over. Pairs with the exchange in `take`.
                word.store(0, Release);
                kill::reached(KillPoint::ChunkFreed);
            }
        }
        self.free_first(run);
        let hot = &self.header().hints.0.hot;
        // Relaxed: a hint.
        hot.store(u64::from(run.first), Relaxed);
        self.room().post(ALL);
    }

    /// Frees what is left of a run whose owner died; several survivors may do so at once, each to any point.
    ///
    /// The caller wakes whoever sleeps.
    pub(crate) fn free_left(&self, run: Run) -> usize {
        let first = run.first as usize;
        (first..first + run.count as usize)
            .filter(|&index| self.free_orphan(index, run.word))
            .count()
    }

    /// Frees chunk `index` if it is still in the run with this word, whose owner is dead.
    ///
    /// The word's number never comes back, so this cannot free anything that was claimed later.
    pub(crate) fn free_orphan(&self, index: usize, word: u64) -> bool {
        // AcqRel: stands in for the dead owner's Release, and hands on what we saw of it.
        // Relaxed on failure: freed by another survivor, or by the owner before it died.
        let freed = self
            .word(index)
            .compare_exchange(word, 0, AcqRel, Relaxed)
            .is_ok();
        if freed {
            kill::reached(KillPoint::ChunkUndone);
        }
        freed
    }

    /// The chunks that some run of the row `row` has, with their words.
    pub(crate) fn held_by(&self, row: u16) -> impl Iterator<Item = (usize, u64)> {
        (0..self.high()).filter_map(move |index| {
            // Acquire: pairs with the exchange in `take`, as the claims of slots in `Ring::sweep`.
            let word = self.word(index).load(Acquire);
            (word != 0 && row_of(Stamp::read(word)?.owner) == row).then_some((index, word))
        })
    }

    /// A run as a slot describes it, if there can be such a run.
    pub(crate) fn run(&self, first: u32, count: u32, word: u64) -> Option<Run> {
        let end = first as usize + count as usize;
        let is_run = count > 0
            && end <= self.geometry.chunk_count
            && Stamp::read(word).is_some_and(|stamp| stamp.state == State::Busy);
        is_run.then_some(Run { first, count, word })
    }

    /// True if every chunk of the run says that it belongs to it.
    pub(crate) fn is_held(&self, run: Run) -> bool {
        let first = run.first as usize;
        // Relaxed: the slot that described the run was read with Acquire.
        (first..first + run.count as usize).all(|index| self.word(index).load(Relaxed) == run.word)
    }

    /// The run's bytes: inside the mapping, whatever anybody wrote there.
    pub(crate) fn bytes(&self, run: Run) -> NonNull<u8> {
        let offset = self.geometry.chunks_offset + run.first as usize * CHUNK;
        debug_assert!(offset + run.count as usize * CHUNK <= self.geometry.end);
        // SAFETY: runs are made by `claim` and `run` alone, which keep them inside the arena.
        unsafe { self.base.add(offset) }
    }

    /// Bytes of the chunks in use at this moment.
    pub(crate) fn bytes_in_use(&self) -> usize {
        let used = |&index: &usize| {
            // Relaxed: for a count, which is out of date at once.
            self.word(index).load(Relaxed) != 0
        };
        (0..self.high()).filter(used).count() * CHUNK
    }

    /// `Err` with the last chunk of those `count` that somebody has.
    fn looks_free(&self, first: usize, count: usize) -> Result<(), usize> {
        (first..first + count).rev().try_for_each(|index| {
            // Relaxed: a look; the exchange in `take` decides.
            match self.word(index).load(Relaxed) {
                0 => Ok(()),
                _ => Err(index),
            }
        })
    }

    /// Claims those `count` chunks, or none and says which one somebody else has.
    fn take(&self, first: usize, count: usize, word: u64) -> Result<(), usize> {
        let high = &self.header().hints.0.high;
        // Relaxed: it only grows, and what we raise it to is our own.
        if high.load(Relaxed) < (first + count) as u64 {
            // Release: comes before the claims below for whoever finds us dead; pairs with `high`.
            high.fetch_max((first + count) as u64, Release);
        }
        for index in first..first + count {
            // AcqRel: the last user is done with the bytes (pairs with the Release in `free`), and our name
            // in the table comes before our claim (pairs with `held_by`). Relaxed on failure: taken.
            if self
                .word(index)
                .compare_exchange(0, word, AcqRel, Relaxed)
                .is_err()
            {
                if index > first {
                    self.free(Run {
                        first: first as u32,
                        count: (index - first) as u32,
                        word,
                    });
                }
                return Err(index);
            }
            kill::reached(KillPoint::ChunkClaimed);
        }
        Ok(())
    }

    fn free_first(&self, run: Run) {
        // SeqCst: as Release, our use of the bytes is over (pairs with `take`); and the exchange comes
        // before the look at the event that follows. Pairs with the fence in `Event::arm`.
        // Relaxed on failure: nobody but us may have changed it, so the memory is corrupt.
        self.word(run.first as usize)
            .compare_exchange(run.word, 0, SeqCst, Relaxed)
            .ok();
        order_before_post();
        kill::reached(KillPoint::RunFreed);
    }

    /// A word that no chunk ever held.
    fn new_word(&self, owner: Owner) -> u64 {
        // Relaxed: only its being different counts. The next owner of the row goes on from here.
        let number = self.tag(owner).0.fetch_add(1, Relaxed);
        Stamp::new(number, owner, State::Busy).bits()
    }

    fn tag(&self, owner: Owner) -> &Line<AtomicU64> {
        let offset = self.geometry.offset
            + size_of::<ArenaHeader>()
            + usize::from(row_of(owner)) % TAG_ROWS * size_of::<Line<AtomicU64>>();
        // SAFETY: inside the mapping, by the geometry.
        let tag = unsafe { self.base.add(offset) };
        // SAFETY: aligned by the geometry; zero bytes are a valid atomic.
        unsafe { tag.cast::<Line<AtomicU64>>().as_ref() }
    }

    fn high(&self) -> usize {
        // Acquire: pairs with the Release in `take`.
        let high = self.header().hints.0.high.load(Acquire);
        usize::try_from(high)
            .unwrap_or(usize::MAX)
            .min(self.geometry.chunk_count)
    }

    fn header(&self) -> &ArenaHeader {
        // SAFETY: inside the mapping, by the geometry.
        let header = unsafe { self.base.add(self.geometry.offset) };
        // SAFETY: page aligned; its fields are atomics, for which zero bytes are valid.
        unsafe { header.cast::<ArenaHeader>().as_ref() }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < self.geometry.chunk_count);
        let offset = self.geometry.words_offset + index * size_of::<AtomicU64>();
        // SAFETY: `index` is below `chunk_count`, so the word lies inside the mapping.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned by the geometry; zero bytes are a valid atomic.
        unsafe { word.cast::<AtomicU64>().as_ref() }
    }
}
