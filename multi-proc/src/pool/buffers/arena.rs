//! The memory of a pool's shared buffers, mapped once by the parent and by every worker.
//!
//! ```text
//! mapping ┌ heads: 128 per region ┬ tables: a line or more per block ┬ (page) region of the parent ┬ region of worker 0 ┬ … ┐
//! region  ┌ blocks of 64 KiB ┬ blocks of 256 KiB ┬ … ┬ one block as large as a buffer may be ┐
//! ```
//!
//! In a region one process makes buffers: the parent in the first, each worker in its own, and who replaces a worker where that one
//! did. Blocks have fixed places, so that there is nothing to repair after a death but words of one block each. All of it is
//! address space: a page is memory once something was written there. Of each size there are as many blocks as could be in use at once, so that
//! what is bounded are bytes, in any mix of sizes; in address space that is four times as much for each size.

#![expect(
    unsafe_code,
    reason = "blocks lie in a mapping that the workers share with the parent"
)]

use super::block::{BlockWord, Holders};
use crate::slot::Reach;
use crate::sync::{AtomicU32, Ordering};
use crate::sys::{self, memory, pages};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;

pub(super) const PAGE: usize = 4096;
/// The smallest block. Of a smaller buffer the rest stays address space.
const BLOCK_MIN: usize = 64 * 1024;
/// From one class of blocks to the next.
const GROWTH: usize = 4;
/// A tebibyte in the largest.
const CLASSES_MAX: usize = 14;
/// More small buffers than these at once, in one process, are no good use of pages.
const BLOCKS_MAX: usize = 1 << 14;
const HEAD_BYTES: usize = 128;

const _: () = assert!(size_of::<Head>() == HEAD_BYTES);
const _: () = assert!(BLOCK_MIN * GROWTH.pow(CLASSES_MAX as u32 - 1) >= 1 << 40);

/// What is known of a region, for its process and for the one that takes its place.
#[repr(C, align(128))]
struct Head {
    /// Blocks of each class that were ever used: the first ones.
    high: [AtomicU32; CLASSES_MAX],
    /// Pages of free blocks that are memory still.
    warm_pages: AtomicU32,
}

/// A line of the table, without who holds the block, which follows.
#[repr(C)]
struct Line {
    word: BlockWord,
    /// Pages of it that are memory, as far as whoever claimed it knows.
    touched: AtomicU32,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    pub(super) block_bytes: usize,
    pub(super) count: usize,
    /// Its first block, counted from the region's.
    first: usize,
    /// Where that lies in the region.
    at: usize,
}

/// How large an arena is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::pool) struct Shape {
    workers: usize,
    bytes_max: usize,
}

/// The mapping.
pub(in crate::pool) struct Arena {
    at: NonNull<u8>,
    /// What is mapped, where that can be passed on.
    file: Option<OwnedFd>,
    bytes: usize,
    bytes_max: usize,
    workers: usize,
    classes: Vec<Class>,
    /// Blocks and bytes of a region.
    blocks: usize,
    region_bytes: usize,
    /// Words of who holds a block.
    holder_words: usize,
    tables_at: usize,
    regions_at: usize,
}

// SAFETY: what lies in the mapping is reached through atomics, or by whoever a block's word says it belongs to.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

fn classes(bytes_max: usize) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    let (mut first, mut at) = (0, 0);
    // A buffer in a block of some size is too large for the size before.
    let mut least_bytes = PAGE;
    let mut block_bytes = BLOCK_MIN;
    while bytes_max > 0 && classes.len() < CLASSES_MAX {
        let is_last = block_bytes >= bytes_max;
        if is_last {
            block_bytes = bytes_max.next_multiple_of(PAGE);
        }
        let count = (bytes_max / least_bytes).clamp(1, BLOCKS_MAX);
        classes.push(Class {
            block_bytes,
            count,
            first,
            at,
        });
        (first, at) = (first + count, at + count * block_bytes);
        if is_last {
            break;
        }
        (least_bytes, block_bytes) = (block_bytes, block_bytes * GROWTH);
    }
    classes
}

impl Arena {
    /// Maps zeroes: no buffer. Each process may have `bytes_max` bytes of them. For workers that `reach` says.
    ///
    /// # Errors
    ///
    /// There is no room in the address space.
    pub(in crate::pool) fn new(workers: usize, bytes_max: usize, reach: Reach) -> io::Result<Self> {
        Self::map(Shape { workers, bytes_max }, |bytes| match reach {
            Reach::Passed => {
                let file = memory::memory_file(bytes)?;
                Ok((memory::map_file(file.as_fd(), 0, bytes)?, Some(file)))
            }
            Reach::Forked | Reach::Borrowed => Ok((sys::map_shared(bytes)?, None)),
        })
    }

    /// For a worker that was given its pool's arena: maps it.
    ///
    /// # Errors
    ///
    /// The file is not as long as such an arena, or there is no room for it here.
    pub(in crate::pool) fn borrow(file: BorrowedFd<'_>, shape: Shape) -> io::Result<Self> {
        Self::map(shape, |bytes| {
            if memory::len_of(file)? != bytes as u64 {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            Ok((memory::map_file(file, 0, bytes)?, None))
        })
    }

    /// What such a worker needs. None where there are to be none.
    pub(in crate::pool) fn passing(&self) -> Option<(BorrowedFd<'_>, Shape)> {
        let shape = Shape {
            workers: self.workers,
            bytes_max: self.bytes_max,
        };
        Some((self.file.as_ref()?.as_fd(), shape))
    }

    /// An arena of that shape in what `map` makes of so many bytes.
    fn map(
        shape: Shape,
        map: impl FnOnce(usize) -> io::Result<(NonNull<u8>, Option<OwnedFd>)>,
    ) -> io::Result<Self> {
        let Shape { workers, bytes_max } = shape;
        let too_large =
            || io::Error::new(io::ErrorKind::InvalidInput, "larger than an address space");
        if bytes_max > 1 << 40 {
            return Err(too_large());
        }
        let classes = classes(bytes_max);
        let blocks = classes.iter().map(|class| class.count).sum::<usize>();
        let region_bytes = classes
            .iter()
            .map(|class| class.count * class.block_bytes)
            .sum::<usize>();
        let holder_words = workers.div_ceil(64);
        let regions = 1 + workers;
        let line_bytes = size_of::<Line>() + holder_words * size_of::<Holders>();
        let tables_at = HEAD_BYTES * regions;
        let lines = regions.checked_mul(blocks).ok_or_else(too_large)?;
        let is_numbered = u32::try_from(lines).is_ok();
        let regions_at = (tables_at + lines * line_bytes).next_multiple_of(PAGE);
        let bytes = region_bytes
            .checked_mul(regions)
            .and_then(|all| all.checked_add(regions_at))
            .filter(|bytes| is_numbered && isize::try_from(*bytes).is_ok())
            .ok_or_else(too_large)?;
        let (at, file) = map(bytes)?;
        Ok(Self {
            at,
            file,
            bytes,
            bytes_max,
            workers,
            classes,
            blocks,
            region_bytes,
            holder_words,
            tables_at,
            regions_at,
        })
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// For a worker, once it is one: from now on this process can write to its own region alone, and a stray pointer to another's ends it.
    ///
    /// # Errors
    ///
    /// The kernel has no memory left to note it.
    pub(super) fn enter(&self, region: usize) -> io::Result<()> {
        if self.region_bytes == 0 {
            return Ok(());
        }
        let all = self.offset(self.regions_at);
        // SAFETY: the regions, to which nothing of this process has exclusive references: it has just begun, and uses no handle of its
        // parent's.
        unsafe { pages::protect(all, self.bytes - self.regions_at, false) }?;
        let own = self.offset(self.regions_at + region * self.region_bytes);
        // SAFETY: a whole region, which may be written again as before.
        unsafe { pages::protect(own, self.region_bytes, true) }
    }

    fn offset(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.bytes, "beyond the arena");
        // SAFETY: within the mapping or one past its end.
        unsafe { self.at.add(offset) }
    }

    fn head(&self, region: usize) -> &Head {
        assert!(region <= self.workers, "there is no region {region}");
        // SAFETY: so many heads lie there, each aligned to its size; any bytes are atomics.
        unsafe { self.offset(region * HEAD_BYTES).cast().as_ref() }
    }

    fn line_at(&self, block: u32) -> NonNull<u8> {
        let block = block as usize;
        assert!(self.has(block), "there is no block {block}");
        let each = size_of::<Line>() + self.holder_words * size_of::<Holders>();
        self.offset(self.tables_at + block * each)
    }

    fn line(&self, block: u32) -> &Line {
        // SAFETY: a line begins so, aligned to 8; any bytes are atomics.
        unsafe { self.line_at(block).cast().as_ref() }
    }

    fn holders(&self, block: u32) -> &[Holders] {
        // SAFETY: within the line.
        let at = unsafe { self.line_at(block).add(size_of::<Line>()) };
        // SAFETY: so many words end the line, aligned to 8; any bytes are atomics.
        unsafe { slice::from_raw_parts(at.cast().as_ptr(), self.holder_words) }
    }

    fn has(&self, block: usize) -> bool {
        block < (1 + self.workers) * self.blocks
    }

    /// Whether there is such a block, and it has room for so many bytes: for numbers that came from elsewhere.
    pub(super) fn is_place(&self, block: u32, bytes: u64) -> bool {
        self.has(block as usize) && bytes <= self.class_of(block).block_bytes as u64
    }

    /// The region that a block lies in.
    pub(super) fn region_of(&self, block: u32) -> usize {
        block as usize / self.blocks
    }

    /// The number of a block.
    pub(super) fn block(&self, region: usize, class: &Class, index: usize) -> u32 {
        debug_assert!(index < class.count, "a class has no more blocks");
        // `new` saw to it that the numbers fit.
        (region * self.blocks + class.first + index) as u32
    }

    fn class_of(&self, block: u32) -> &Class {
        &self.classes[self.class_index_of(block)]
    }

    /// Which of the classes a block is of.
    pub(super) fn class_index_of(&self, block: u32) -> usize {
        let index = block as usize % self.blocks;
        self.classes
            .partition_point(|class| class.first <= index)
            .saturating_sub(1)
    }

    /// Where a block begins: at a page.
    pub(super) fn address(&self, block: u32) -> NonNull<u8> {
        let class = self.class_of(block);
        let in_region = class.at + (block as usize % self.blocks - class.first) * class.block_bytes;
        self.offset(self.regions_at + self.region_of(block) * self.region_bytes + in_region)
    }

    pub(super) fn word(&self, block: u32) -> &BlockWord {
        &self.line(block).word
    }

    /// Pages of the block that are memory.
    pub(super) fn touched(&self, block: u32) -> u32 {
        // Relaxed: written by whoever has the block, and acquired with it.
        self.line(block).touched.load(Ordering::Relaxed)
    }

    /// For whoever has the block.
    pub(super) fn set_touched(&self, block: u32, pages: u32) {
        // Relaxed: as above.
        self.line(block).touched.store(pages, Ordering::Relaxed);
    }

    /// Says that a worker has handles of a block.
    pub(super) fn hold(&self, block: u32, worker: usize) {
        self.holders(block)[worker / 64].hold(worker % 64);
    }

    /// Says that it has none any more, or is dead.
    pub(super) fn let_go(&self, block: u32, worker: usize) {
        self.holders(block)[worker / 64].let_go(worker % 64);
    }

    /// Whether any worker has handles of a block.
    pub(super) fn is_held(&self, block: u32) -> bool {
        self.holders(block).iter().any(Holders::any)
    }

    /// How many blocks of a class were ever used in a region: no more than there are, whatever was written there.
    pub(super) fn high(&self, region: usize, class: usize) -> usize {
        // Relaxed: of the process's own, or of one that is dead; else a guess.
        let high = self.head(region).high[class].load(Ordering::Relaxed);
        (high as usize).min(self.classes[class].count)
    }

    /// For the process of the region.
    pub(super) fn set_high(&self, region: usize, class: usize, high: usize) {
        // Relaxed: as above.
        self.head(region).high[class].store(high as u32, Ordering::Relaxed);
    }

    /// All blocks of a region that were ever used.
    pub(super) fn used_blocks(&self, region: usize) -> impl Iterator<Item = u32> {
        self.classes
            .iter()
            .enumerate()
            .flat_map(move |(index, class)| {
                (0..self.high(region, index)).map(move |block| self.block(region, class, block))
            })
    }

    /// Free memory of a region that is kept for the next buffers: a guess once a process was killed.
    pub(super) fn warm_pages(&self, region: usize) -> &AtomicU32 {
        &self.head(region).warm_pages
    }

    /// Gives the memory of a block back.
    ///
    /// # Safety
    ///
    /// The caller has the block, and nothing refers to it, in any process.
    pub(super) unsafe fn give_back(&self, block: u32) {
        // SAFETY: a whole block, and the caller says that nobody looks at it.
        unsafe { sys::give_back(self.address(block), self.class_of(block).block_bytes) };
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: a whole mapping, and every handle of a block keeps this.
        unsafe { sys::unmap(self.at, self.bytes) };
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::buffers::block::Phase;

    #[test]
    fn blocks_do_not_overlap() {
        let arena = Arena::new(2, 3 << 20, Reach::Forked).unwrap();
        let mut spans: Vec<_> = (0..3)
            .flat_map(|region| {
                let classes = arena.classes().iter();
                classes.flat_map(move |class| {
                    (0..class.count).map(move |index| (region, *class, index))
                })
            })
            .map(|(region, class, index)| {
                let block = arena.block(region, &class, index);
                assert_eq!(arena.region_of(block), region);
                assert_eq!(arena.class_of(block).block_bytes, class.block_bytes);
                let at = arena.address(block).as_ptr().addr();
                (at, at + class.block_bytes)
            })
            .collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|two| two[0].1 <= two[1].0));
        let end = arena.at.as_ptr().addr() + arena.bytes;
        assert!(spans.last().unwrap().1 <= end);
    }

    #[test]
    fn largest_buffer_has_a_block_and_more_has_none() {
        for bytes in [1, PAGE, 100_000, 1 << 20, 5_000_000] {
            let arena = Arena::new(1, bytes, Reach::Forked).unwrap();
            let last = arena.classes().last().unwrap();
            assert_eq!(last.block_bytes, bytes.next_multiple_of(PAGE));
            let block = arena.block(1, last, last.count - 1);
            assert!(arena.is_place(block, bytes as u64));
            assert!(!arena.is_place(block, (bytes + PAGE) as u64));
            assert!(!arena.is_place(block + 1, 1), "the last one of all");
        }
        assert!(Arena::new(1, usize::MAX, Reach::Forked).is_err());
        assert!(
            Arena::new(1, 0, Reach::Forked)
                .unwrap()
                .classes()
                .is_empty()
        );
    }

    #[test]
    fn holders_are_told_apart() {
        let arena = Arena::new(70, 1 << 16, Reach::Forked).unwrap();
        let class = arena.classes()[0];
        let (one, other) = (arena.block(0, &class, 0), arena.block(1, &class, 0));
        arena.hold(one, 69);
        arena.hold(one, 0);
        assert!(arena.is_held(one) && !arena.is_held(other));
        arena.let_go(one, 0);
        assert!(arena.is_held(one));
        arena.let_go(one, 69);
        assert!(!arena.is_held(one));
        assert_eq!(arena.word(one).phase(), Phase::Free);
    }
}
