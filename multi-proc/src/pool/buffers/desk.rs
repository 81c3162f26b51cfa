//! What one process knows of a pool's buffers: those it makes, in its own region, and those of anybody that it has handles of.

#![expect(
    unsafe_code,
    reason = "memory of blocks that nobody refers to any more is given back"
)]

use super::arena::{Arena, PAGE};
use super::block::Phase;
use super::transit::Enclosure;
use crate::identity::Owner;
use crate::kill::{self, KillPoint};
use crate::sync::{AtomicUsize, Ordering};
use crate::sys::pages;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Free memory of a process's buffers that is kept for the next ones: touching a new page costs ten times as much as writing an old one.
const WARM_PAGES: u32 = ((64 << 20) / PAGE) as u32;
/// From so many missing pages on one call gets them, instead of a fault each, or one for sixteen that are only read.
const POPULATE_PAGES: u32 = 16;

/// One process's side of the arena.
pub(in crate::pool) struct Desk {
    arena: Arc<Arena>,
    owner: Owner,
    whose: Whose,
    books: Mutex<Books>,
    /// How many blocks linger, for who asks without the lock.
    lingering: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Parent,
    Worker(usize),
}

#[derive(Default)]
struct Books {
    /// Blocks with handles in this process.
    held: HashMap<u32, Held>,
    /// For the parent: blocks without handles here that workers still have some of.
    lingering: Vec<u32>,
    /// Free blocks of each class of the own region, as far as known: the last one is the next one used, since its pages are warm.
    free: Vec<Vec<u32>>,
    /// Pages of the other ones that were ever used.
    sizes: HashMap<u32, u32>,
    used_pages: usize,
    /// Pages of each block that this process has looked at: they are in its page table.
    seen: HashMap<u32, u32>,
}

#[derive(Default)]
struct Held {
    handles: usize,
    /// This worker's alone: not part of any value yet.
    is_draft: bool,
}

/// What keeps a block for this process.
pub(in crate::pool) struct Hold {
    desk: Arc<Desk>,
    block: u32,
    at: NonNull<u8>,
    pub(super) bytes: usize,
}

// SAFETY: the address of memory that is shared even between processes; who may write there is for the handles to say.
unsafe impl Send for Hold {}
// SAFETY: as above.
unsafe impl Sync for Hold {}

/// Why there is no block.
#[derive(Debug)]
pub(super) enum NoBlock {
    /// One so large can never be.
    TooLarge {
        bytes_max: usize,
    },
    Full {
        used: usize,
        bytes_max: usize,
    },
    Memory(io::Error),
}

impl Desk {
    /// The parent's.
    pub(in crate::pool) fn of_parent(arena: Arc<Arena>) -> Arc<Self> {
        Self::at(arena, Whose::Parent)
    }

    /// A worker's, which has just begun.
    ///
    /// # Errors
    ///
    /// The kernel has no memory left to note what it may write to.
    pub(in crate::pool) fn of_worker(arena: Arc<Arena>, worker: usize) -> io::Result<Arc<Self>> {
        let whose = Whose::Worker(worker);
        arena.enter(whose.region())?;
        Ok(Self::at(arena, whose))
    }

    fn at(arena: Arc<Arena>, whose: Whose) -> Arc<Self> {
        let mut books = Books {
            free: vec![Vec::new(); arena.classes().len()],
            ..Books::default()
        };
        // What one that had the region before has left to the parent.
        for block in arena.used_blocks(whose.region()) {
            if arena.word(block).phase() != Phase::Free {
                books.take(block, arena.touched(block));
            }
        }
        Arc::new(Self {
            arena,
            owner: Owner::here(),
            whose,
            books: Mutex::new(books),
            lingering: AtomicUsize::new(0),
        })
    }

    pub(in crate::pool) fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Not before [`is_here`](Self::is_here): a forked child's copy of the lock may be held for ever.
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_here(&self) -> bool {
        self.owner.is_here()
    }

    #[track_caller]
    pub(super) fn check(&self) {
        assert!(
            self.is_here(),
            "{}",
            self.owner.complaint("this shared buffer")
        );
    }

    /// Takes a block for a new buffer: this process's alone, with whatever was in it before.
    pub(super) fn make(self: &Arc<Self>, bytes: usize) -> Result<Hold, NoBlock> {
        let arena = &self.arena;
        let bytes_max = arena.bytes_max();
        let first = arena
            .classes()
            .iter()
            .position(|class| bytes <= class.block_bytes && bytes <= bytes_max)
            .ok_or(NoBlock::TooLarge { bytes_max })?;
        self.sweep();
        let pages = bytes.div_ceil(PAGE).max(1) as u32;
        let mut books = self.lock();
        let most = bytes_max.div_ceil(PAGE);
        if books.used_pages + pages as usize > most {
            (0..arena.classes().len()).for_each(|class| self.look_for_free(&mut books, class));
        }
        let full = |books: &Books| NoBlock::Full {
            used: books.used_pages * PAGE,
            bytes_max,
        };
        if books.used_pages + pages as usize > most {
            return Err(full(&books));
        }
        let block = (first..arena.classes().len())
            .find_map(|class| self.claim(&mut books, class))
            .ok_or_else(|| full(&books))?;
        kill::reached(KillPoint::BufferClaimed);
        if let Err(error) = self.warm(&mut books, block, pages, true) {
            self.free(&mut books, block);
            return Err(NoBlock::Memory(error));
        }
        books.take(block, pages);
        books.held.insert(
            block,
            Held {
                handles: 1,
                is_draft: self.whose != Whose::Parent,
            },
        );
        Ok(self.hold(block, bytes))
    }

    fn hold(self: &Arc<Self>, block: u32, bytes: usize) -> Hold {
        Hold {
            desk: Arc::clone(self),
            block,
            at: self.arena.address(block),
            bytes,
        }
    }

    /// A block of that class of the own region, if there is a free one.
    fn claim(&self, books: &mut Books, class: usize) -> Option<u32> {
        let (arena, region) = (&self.arena, self.whose.region());
        let phase = match self.whose {
            Whose::Parent => Phase::Kept,
            Whose::Worker(_) => Phase::Draft,
        };
        if books.free[class].is_empty() {
            self.look_for_free(books, class);
        }
        while let Some(block) = books.free[class].pop() {
            if arena.word(block).claim(phase) {
                let warm = arena.touched(block);
                // Relaxed: a guess is good enough.
                let warm_pages = arena.warm_pages(region);
                let _always =
                    warm_pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
                        Some(all.saturating_sub(warm))
                    });
                return Some(block);
            }
        }
        let shape = &arena.classes()[class];
        let mut high = arena.high(region, class);
        while high < shape.count {
            let block = arena.block(region, shape, high);
            high += 1;
            // Before the claim: what is claimed is found by who mourns us.
            arena.set_high(region, class, high);
            if arena.word(block).claim(phase) {
                return Some(block);
            }
        }
        None
    }

    /// Finds what the parent has freed in the own region.
    fn look_for_free(&self, books: &mut Books, class: usize) {
        let (arena, region) = (&self.arena, self.whose.region());
        let shape = &arena.classes()[class];
        books.free[class].clear();
        // The first ones last, so that they are used first: the others' memory is the sooner given back.
        for index in (0..arena.high(region, class)).rev() {
            let block = arena.block(region, shape, index);
            if arena.word(block).phase() == Phase::Free {
                books.forget(block);
                books.free[class].push(block);
            }
        }
    }

    /// Has the pages of a block in this process's page table.
    fn warm(&self, books: &mut Books, block: u32, pages: u32, to_write: bool) -> io::Result<()> {
        let touched = self.arena.touched(block).min(pages);
        let there = books.seen.get(&block).map_or(0, |seen| *seen.min(&touched));
        let missing = pages - there;
        if missing >= POPULATE_PAGES {
            let at = self.arena.address(block);
            // SAFETY: the block has so many pages.
            let rest = unsafe { at.add(there as usize * PAGE) };
            // SAFETY: whole pages of the block.
            let populated = unsafe { pages::populate(rest, missing as usize * PAGE, to_write) };
            // An older kernel does not know it: then each page is faulted in.
            if let Err(error) = populated
                && error.kind() != io::ErrorKind::InvalidInput
            {
                return Err(error);
            }
        }
        if to_write && pages > touched {
            self.arena.set_touched(block, pages);
        }
        let seen = books.seen.entry(block).or_default();
        *seen = pages.max(*seen);
        Ok(())
    }

    /// For who has the block, and is the last to look at it, anywhere.
    fn free(&self, books: &mut Books, block: u32) {
        let (arena, region) = (&self.arena, self.arena.region_of(block));
        let touched = arena.touched(block);
        // Relaxed: a guess is good enough.
        let warm = arena.warm_pages(region).load(Ordering::Relaxed);
        if warm.saturating_add(touched) > WARM_PAGES {
            // SAFETY: the last one to look, as the caller says.
            unsafe { arena.give_back(block) };
            arena.set_touched(block, 0);
        } else {
            // Relaxed: as above.
            arena
                .warm_pages(region)
                .fetch_add(touched, Ordering::Relaxed);
        }
        arena.word(block).free();
        if region == self.whose.region() {
            books.forget(block);
            books.free[arena.class_index_of(block)].push(block);
        }
    }

    /// The last handle of a block in this process is gone, or one of several.
    fn let_go(&self, block: u32) {
        let mut books = self.lock();
        let Some(held) = books.held.get_mut(&block) else {
            debug_assert!(false, "a handle of a block that has none");
            return;
        };
        held.handles -= 1;
        if held.handles > 0 {
            return;
        }
        let is_draft = held.is_draft;
        books.held.remove(&block);
        match self.whose {
            Whose::Worker(_) if is_draft => self.free(&mut books, block),
            Whose::Worker(worker) => {
                self.arena.let_go(block, worker);
                kill::reached(KillPoint::BufferLetGo);
            }
            Whose::Parent => self.free_or_linger(&mut books, block),
        }
    }

    fn free_or_linger(&self, books: &mut Books, block: u32) {
        if self.arena.is_held(block) {
            books.lingering.push(block);
        } else {
            self.free(books, block);
        }
        // Relaxed: for a look in passing.
        self.lingering
            .store(books.lingering.len(), Ordering::Relaxed);
    }

    /// For the parent: frees what workers have let go of meanwhile.
    pub(in crate::pool) fn sweep(&self) {
        // Relaxed: for a look in passing.
        if self.lingering.load(Ordering::Relaxed) > 0 {
            self.sweep_lingering(&mut self.lock());
        }
    }

    fn sweep_lingering(&self, books: &mut Books) {
        for block in std::mem::take(&mut books.lingering) {
            self.free_or_linger(books, block);
        }
    }

    /// For the parent: a worker was collected. Frees what it made and did not give to a job that is done.
    pub(in crate::pool) fn bury(&self, worker: usize, is_done: impl Fn(usize) -> bool) {
        let region = Whose::Worker(worker).region();
        let mut books = self.lock();
        let mut warm = 0;
        for block in self.arena.used_blocks(region) {
            let word = self.arena.word(block);
            self.arena.let_go(block, worker);
            match word.phase() {
                Phase::Draft => self.free(&mut books, block),
                Phase::Given { job } if !is_done(job) => self.free(&mut books, block),
                Phase::Free | Phase::Given { .. } | Phase::Kept => {}
            }
            if word.phase() == Phase::Free {
                warm += self.arena.touched(block);
            }
        }
        // Relaxed: as far as it was wrong, because the worker died counting, it is right now.
        self.arena.warm_pages(region).store(warm, Ordering::Relaxed);
        for block in books.held.keys().chain(&books.lingering) {
            self.arena.let_go(*block, worker);
        }
        self.sweep_lingering(&mut books);
    }

    /// For a worker: handles of the blocks that are part of its job's arguments. None where one cannot be.
    pub(in crate::pool) fn attach(
        self: &Arc<Self>,
        enclosures: &[Enclosure],
    ) -> Option<Vec<Arc<Hold>>> {
        let Whose::Worker(worker) = self.whose else {
            return None;
        };
        let mut books = self.lock();
        let attach = |enclosure: &Enclosure| {
            let (block, bytes) = self.place_of(enclosure)?;
            if self.arena.word(block).phase() != Phase::Kept {
                return None;
            }
            books.held.entry(block).or_default().handles += 1;
            self.arena.hold(block, worker);
            kill::reached(KillPoint::BufferAttached);
            self.look(&mut books, block, bytes);
            Some(Arc::new(self.hold(block, bytes)))
        };
        let attached: Vec<_> = enclosures.iter().map(attach).collect();
        // Not under the lock: a handle that is dropped takes it.
        drop(books);
        attached.into_iter().collect()
    }

    /// For the parent: handles of the blocks that are part of the value of `job`, which is done: of those that its worker made, and of those
    /// that were part of its arguments. None where one cannot be.
    pub(in crate::pool) fn adopt(
        self: &Arc<Self>,
        job: usize,
        enclosures: &[Enclosure],
        args: &[Arc<Hold>],
    ) -> Option<Vec<Arc<Hold>>> {
        let mut books = self.lock();
        let adopt = |enclosure: &Enclosure| {
            let (block, bytes) = self.place_of(enclosure)?;
            if !self.arena.word(block).adopt(job) {
                return args.iter().find(|hold| hold.block == block).cloned();
            }
            books.held.entry(block).or_default().handles += 1;
            self.look(&mut books, block, bytes);
            Some(Arc::new(self.hold(block, bytes)))
        };
        // All of them, also after one that cannot be: what is adopted is freed with its handle, else nobody would.
        let adopted: Vec<_> = enclosures.iter().map(adopt).collect();
        // As in `attach`.
        drop(books);
        adopted.into_iter().collect()
    }

    fn place_of(&self, enclosure: &Enclosure) -> Option<(u32, usize)> {
        let Enclosure { block, bytes } = *enclosure;
        let is_place = self.arena.is_place(block, bytes);
        is_place.then_some((block, bytes as usize))
    }

    /// Somebody here is about to read a block.
    fn look(&self, books: &mut Books, block: u32, bytes: usize) {
        let pages = bytes.div_ceil(PAGE) as u32;
        // Without it each page is faulted in.
        drop(self.warm(books, block, pages, false));
    }

    /// For a worker that is about to finish `job`: what is its own draft becomes part of the value.
    pub(in crate::pool) fn give(&self, job: usize, holds: &[Arc<Hold>]) {
        let Whose::Worker(worker) = self.whose else {
            return;
        };
        let mut books = self.lock();
        for hold in holds {
            let Some(held) = books.held.get_mut(&hold.block) else {
                continue;
            };
            if std::mem::replace(&mut held.is_draft, false) {
                self.arena.hold(hold.block, worker);
                self.arena.word(hold.block).give(job);
                kill::reached(KillPoint::BufferGiven);
            }
        }
    }

    /// Whether a block is this worker's alone.
    pub(super) fn is_draft(&self, hold: &Hold) -> bool {
        let books = self.lock();
        books
            .held
            .get(&hold.block)
            .is_some_and(|held| held.is_draft)
    }

    pub(super) fn is_parents(&self) -> bool {
        self.whose == Whose::Parent
    }
}

impl Whose {
    /// Where its buffers lie.
    fn region(self) -> usize {
        match self {
            Self::Parent => 0,
            Self::Worker(worker) => 1 + worker,
        }
    }
}

impl Books {
    /// A block of the own region is in use.
    fn take(&mut self, block: u32, pages: u32) {
        self.used_pages += pages as usize;
        if let Some(before) = self.sizes.insert(block, pages) {
            self.used_pages -= before as usize;
        }
    }

    /// It is not, any more.
    fn forget(&mut self, block: u32) {
        if let Some(pages) = self.sizes.remove(&block) {
            self.used_pages -= pages as usize;
        }
    }
}

impl Hold {
    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    pub(super) fn at(&self) -> NonNull<u8> {
        self.at
    }

    pub(super) fn enclosure(&self) -> Enclosure {
        Enclosure {
            block: self.block,
            bytes: self.bytes as u64,
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.block == other.block
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // In a forked child the handle is a copy: it keeps nothing.
        if self.desk.is_here() {
            self.desk.let_go(self.block);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("block", &self.block)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("whose", &self.whose)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
