//! Memory for tasks: a worker takes and gives back without a lock, an allocation or an atomic operation.
//!
//! A task's cell comes from the worker that starts the task and goes to the worker that ends it, whichever that is. A worker keeps
//! two batches of each size; what is more goes to the runtime's depot, a batch at a time, and what is missing comes from there: one
//! lock in [`BATCH`] tasks, if a program starts all its tasks on one worker and ends them on another. Who is no worker takes from the
//! depot one by one. The depot keeps what it has for as long as the runtime lives.
//!
//! A closure beyond [`BYTES_MAX`] has a box.

#![expect(
    unsafe_code,
    reason = "cuts slabs into cells, linked through themselves"
)]

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::sync::{OsMutex, lock};

/// Cells that change hands at a time.
const BATCH: u32 = 64;
/// Every size is a multiple of this, and every cell aligned to it.
const STEP: usize = 8;
/// The largest cell.
const BYTES_MAX: usize = 512;
const SIZE_COUNT: usize = BYTES_MAX / STEP;
/// The first slab of a size; each next is twice as large, up to `SLAB_BYTES_MAX`.
const SLAB_BYTES: usize = 16 << 10;
const SLAB_BYTES_MAX: usize = 1 << 20;

/// A size that cells come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(u8);

impl Size {
    /// The smallest size for `layout`; none where that needs a box.
    pub(super) const fn of(layout: Layout) -> Option<Self> {
        if layout.size() > BYTES_MAX || layout.align() > STEP {
            return None;
        }
        Some(Self((layout.size().div_ceil(STEP)) as u8))
    }

    const fn bytes(self) -> usize {
        self.0 as usize * STEP
    }

    fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

/// A cell that nobody uses.
struct Free {
    next: Option<NonNull<Free>>,
}

/// Free cells of one size.
#[derive(Debug, Clone, Copy, Default)]
struct List {
    first: Option<NonNull<Free>>,
    count: u32,
}

impl List {
    fn pop(&mut self) -> Option<NonNull<u8>> {
        let cell = self.first?;
        // SAFETY: a free cell is alive, and the list's alone.
        self.first = unsafe { cell.as_ref() }.next;
        self.count -= 1;
        Some(cell.cast())
    }

    /// # Safety
    ///
    /// - `cell` is of the list's size, from a depot that outlives the list, and nobody's any more.
    unsafe fn push(&mut self, cell: NonNull<u8>) {
        let cell = cell.cast::<Free>();
        let next = self.first.replace(cell);
        // SAFETY: large and aligned enough, by `Size`; ours, by the caller's promise.
        unsafe { cell.write(Free { next }) };
        self.count += 1;
    }
}

/// The free cells of one worker.
#[derive(Debug)]
pub(super) struct Cells {
    /// Taken from and given to.
    open: [Cell<List>; SIZE_COUNT],
    /// A full batch, or none: so that a worker that goes up and down about a batch's end does not go to the depot each time.
    spare: [Cell<List>; SIZE_COUNT],
}

impl Cells {
    pub(super) fn new() -> Self {
        Self {
            open: std::array::from_fn(|_| Cell::default()),
            spare: std::array::from_fn(|_| Cell::default()),
        }
    }

    /// A cell with nothing in it.
    #[inline]
    pub(super) fn take(&self, depot: &Depot, size: Size) -> NonNull<u8> {
        let open = &self.open[size.index()];
        let mut list = open.get();
        let cell = list.pop().unwrap_or_else(|| {
            list = self.spare[size.index()].take();
            if list.count == 0 {
                list = depot.take_batch(size);
            }
            list.pop().expect("a batch has cells")
        });
        open.set(list);
        cell
    }

    /// Takes a cell back.
    ///
    /// # Safety
    ///
    /// - `cell` came from `depot`, or a worker's cells over it, as one of this size, and is not used any more.
    #[inline]
    pub(super) unsafe fn give(&self, depot: &Depot, size: Size, cell: NonNull<u8>) {
        let open = &self.open[size.index()];
        let mut list = open.get();
        if list.count == BATCH {
            let spare = self.spare[size.index()].replace(list);
            if spare.count > 0 {
                depot.give_batch(size, spare);
            }
            list = List::default();
        }
        // SAFETY: the caller's promise; the depot outlives its workers.
        unsafe { list.push(cell) };
        open.set(list);
    }

    /// Gives everything back: for a worker that ends.
    pub(super) fn clear(&self, depot: &Depot) {
        for (index, list) in self.open.iter().chain(&self.spare).enumerate() {
            let list = list.take();
            if list.count > 0 {
                depot.give_batch(Size((index % SIZE_COUNT) as u8 + 1), list);
            }
        }
    }
}

/// The cells of a runtime that no worker has.
#[derive(Debug)]
pub(super) struct Depot {
    shelves: [OsMutex<Shelf>; SIZE_COUNT],
}

#[derive(Debug, Default)]
struct Shelf {
    batches: Vec<List>,
    /// For who takes and gives one at a time.
    open: List,
    slabs: Vec<Slab>,
    /// Bytes of the last slab that are cut up.
    used: usize,
}

#[derive(Debug)]
struct Slab {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a shelf owns its slabs and the free cells in its lists.
unsafe impl Send for Shelf {}

impl Depot {
    pub(super) fn new() -> Self {
        Self {
            shelves: std::array::from_fn(|_| OsMutex::default()),
        }
    }

    /// As [`Cells::take`], for who is no worker.
    pub(super) fn take(&self, size: Size) -> NonNull<u8> {
        let mut shelf = lock(&self.shelves[size.index()]);
        if shelf.open.count == 0 {
            shelf.open = shelf.take_batch(size);
        }
        shelf.open.pop().expect("a batch has cells")
    }

    /// As [`Cells::give`], for who is no worker.
    ///
    /// # Safety
    ///
    /// - As for `Cells::give`.
    pub(super) unsafe fn give(&self, size: Size, cell: NonNull<u8>) {
        let mut shelf = lock(&self.shelves[size.index()]);
        // SAFETY: the caller's promise.
        unsafe { shelf.open.push(cell) };
        if shelf.open.count >= BATCH {
            let full = std::mem::take(&mut shelf.open);
            shelf.batches.push(full);
        }
    }

    #[cold]
    fn take_batch(&self, size: Size) -> List {
        lock(&self.shelves[size.index()]).take_batch(size)
    }

    #[cold]
    fn give_batch(&self, size: Size, batch: List) {
        lock(&self.shelves[size.index()]).batches.push(batch);
    }
}

impl Shelf {
    fn take_batch(&mut self, size: Size) -> List {
        self.batches.pop().unwrap_or_else(|| self.cut(size))
    }

    /// A batch of cells that were never used.
    fn cut(&mut self, size: Size) -> List {
        let bytes = size.bytes();
        if self
            .slabs
            .last()
            .is_none_or(|slab| slab.layout.size() - self.used < bytes)
        {
            let twice = self.slabs.last().map(|slab| 2 * slab.layout.size());
            self.slabs
                .push(Slab::new(twice.unwrap_or(SLAB_BYTES).min(SLAB_BYTES_MAX)));
            self.used = 0;
        }
        let slab = self.slabs.last().expect("one was just added");
        let mut batch = List::default();
        while batch.count < BATCH && slab.layout.size() - self.used >= bytes {
            // SAFETY: inside the slab: there is room for one more.
            let cell = unsafe { slab.base.add(self.used) };
            // SAFETY: of this size, since the next begins `bytes` further on; the slab lives as long as the depot.
            unsafe { batch.push(cell) };
            self.used += bytes;
        }
        batch
    }
}

impl Slab {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 128).expect("a power of two");
        // SAFETY: not of size zero.
        let base = unsafe { alloc::alloc(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        Self { base, layout }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: from `new`. The runtime is gone, and with it every task.
        unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Memory for a `T`: a cell, or a box where it is too large for that.
pub(super) trait InCell: Sized {
    /// The cell's size; none for a box.
    const SIZE: Option<Size> = Size::of(Layout::new::<Self>());
}

impl<T> InCell for T {}

/// A box with nothing in it.
#[cold]
pub(super) fn boxed<T>() -> NonNull<T> {
    let place = Box::into_raw(Box::<T>::new_uninit());
    NonNull::new(place.cast()).expect("a box has an address")
}

/// Frees a box that holds nothing any more.
///
/// # Safety
///
/// - `place` came from [`boxed`], and is not used any more.
#[cold]
pub(super) unsafe fn unbox<T>(place: NonNull<T>) {
    let place = place.as_ptr().cast::<MaybeUninit<T>>();
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(place) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SIZE: Size = Size(12);

    #[test]
    fn cells_do_not_overlap_and_are_used_again() {
        let (depot, cells) = (Depot::new(), Cells::new());
        let taken: Vec<_> = (0..10_000).map(|_| cells.take(&depot, SIZE)).collect();
        let mut places: Vec<_> = taken.iter().map(|cell| cell.addr().get()).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|two| two[1] - two[0] >= SIZE.bytes()));
        assert!(places.iter().all(|place| place.is_multiple_of(STEP)));
        for cell in &taken {
            // SAFETY: taken above, and given back once.
            unsafe { cells.give(&depot, SIZE, *cell) };
        }
        let again: HashSet<_> = (0..10_000).map(|_| cells.take(&depot, SIZE)).collect();
        assert_eq!(again, taken.into_iter().collect());
    }

    #[test]
    fn what_one_worker_gives_another_takes() {
        let depot = Depot::new();
        let (first, second) = (Cells::new(), Cells::new());
        let mut known = HashSet::new();
        for _ in 0..1_000 {
            let batch: Vec<_> = (0..200).map(|_| first.take(&depot, SIZE)).collect();
            known.extend(batch.iter().copied());
            for cell in batch {
                // SAFETY: taken above, and given back once.
                unsafe { second.give(&depot, SIZE, cell) };
            }
        }
        assert!(known.len() < 1_000, "{} cells for 200 tasks", known.len());
        first.clear(&depot);
        second.clear(&depot);
        // SAFETY: taken here, and given back once.
        unsafe { depot.give(SIZE, depot.take(SIZE)) };
    }

    #[test]
    fn large_and_overaligned_values_have_a_box() {
        #[repr(align(16))]
        struct Wide(#[expect(dead_code, reason = "for its size")] u8);
        assert_eq!(<[u8; 513]>::SIZE, None);
        assert_eq!(Wide::SIZE, None);
        assert_eq!(<[u64; 12]>::SIZE, Some(SIZE));
        let place = boxed::<[u8; 513]>();
        // SAFETY: made above.
        unsafe { unbox(place) };
    }
}
