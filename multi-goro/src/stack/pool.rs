//! Where stacks come from: slabs of many stacks in one mapping, a shared pool, and each worker's own warm few.
//!
//! ```text
//!  slab   ┌───────┬──────────────────┬───────┬──────────────────┬─ ·· ─┐
//!         │ guard │ stack 0      top▶│ guard │ stack 1      top▶│      │   one mapping while the kernel has
//!         └───────┴──────────────────┴───────┴──────────────────┴─ ·· ─┘   MADV_GUARD_INSTALL (Linux 6.13)
//! ```
//!
//! Without it each guard is a mapping of its own, and the kernel's ceiling of 65 530 mappings, of which some are left to the rest of the
//! program, ends at about 32 000 stacks.

#![expect(unsafe_code, reason = "carves mappings into stacks")]

use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::{CLASS_COUNT, Class, Stack, Tidying, tenant_word};
use crate::sync::{AtomicBool, AtomicUsize, Ordering::*, OsMutex, lock};
use crate::sys;

/// Stacks in a class's first slab; each next slab has twice as many.
const FIRST_SLAB: usize = 32;
/// Most bytes of address space in one slab: 1 M stacks of the default class take about thirty of these.
const SLAB_BYTES_MAX: usize = 2 << 30;
/// Free stacks of a class that keep their pages for the next burst; idle workers have the others give them back.
const WARM_MAX: usize = 4096;
/// Stacks that give their pages back at a time: some tens of microseconds in which a worker does not look for work.
const TRIM_BATCH: usize = 16;
/// How long stacks beyond [`WARM_MAX`] keep their pages. Those of a million tasks that end become free in half a second; to have them give their
/// pages back meanwhile, on a worker that has no tasks left, keeps the processors of the others from their work: they are to forget the pages, too.
const REST: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1_000 });
const _: () = assert!(TRIM_BATCH <= sys::RANGES_MAX);

/// Mappings that guards of their own leave to the rest of the program: at the very ceiling an allocation of some size would end the process.
const MAPPINGS_LEFT: usize = 1024;

/// The kernel's ceiling of mappings in one process: `vm.max_map_count`, proc(5).
fn mappings_max() -> usize {
    /// The kernel's default.
    const USUAL: usize = 65_530;
    static MAX: AtomicUsize = AtomicUsize::new(0);
    // Relaxed, both: every thread would find the same number.
    let known = MAX.load(Relaxed);
    if known != 0 {
        return known;
    }
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let max = text.ok().and_then(|text| text.trim().parse().ok());
    let max = max.unwrap_or(USUAL);
    // Relaxed: as above.
    MAX.store(max, Relaxed);
    max
}

/// The stacks of one runtime.
#[derive(Debug)]
pub(crate) struct Pool {
    classes: [OsMutex<Shelf>; CLASS_COUNT],
    /// Whether the kernel has refused to make several guards in one call.
    single_guards: AtomicBool,
    /// Whether the kernel has refused guards inside a mapping, so that protection is used.
    split_guards: AtomicBool,
    /// Guards that are mappings of their own.
    split_count: AtomicUsize,
    /// Whether forked children have the stacks, too.
    in_forks: bool,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Free, with the pages of their last task; the last used at the back.
    warm: VecDeque<Stack>,
    /// Free, without pages.
    cold: Vec<Stack>,
    /// When some of the warm ones are to become cold, if there were too many when somebody looked.
    trim_at: Option<Instant>,
    slabs: Vec<Slab>,
}

#[derive(Debug)]
struct Slab {
    base: NonNull<u8>,
    bytes: usize,
    /// Stacks cut off so far; they are never joined again.
    carved: usize,
    count: usize,
}

// SAFETY: a stack is owned memory; who has the `Stack` has it alone.
unsafe impl Send for Stack {}
// SAFETY: a slab is an address range that `Pool` alone hands out, under a lock.
unsafe impl Send for Slab {}

/// How far somebody has come who looks at all stacks, a part at a time.
#[derive(Debug, Default)]
pub(crate) struct Tour {
    class: usize,
    slab: usize,
    nth: usize,
}

impl Stack {
    /// The lowest address, for who keeps the class elsewhere.
    pub(crate) fn into_base(self) -> NonNull<u8> {
        self.base
    }

    /// # Safety
    ///
    /// - `base` came from [`into_base`](Self::into_base) of a stack of this class, and makes one again no other time, except to look.
    pub(crate) unsafe fn from_base(base: NonNull<u8>, class: Class) -> Self {
        Self { base, class }
    }
}

impl Pool {
    /// With `in_forks` off, forked children have no task stacks: nothing may run on one there.
    pub(crate) fn new(in_forks: bool) -> Self {
        Self {
            classes: std::array::from_fn(|_| OsMutex::default()),
            single_guards: AtomicBool::new(false),
            split_guards: AtomicBool::new(false),
            split_count: AtomicUsize::new(0),
            in_forks,
        }
    }

    /// Adds up to `count` stacks to `to`; at least one, or an error. Called on the stack of a task that parks, from a function that each of
    /// them calls: so that its frame is not part of that one's.
    #[inline(never)]
    fn take(&self, class: Class, count: usize, to: &mut Vec<Stack>) -> io::Result<()> {
        let mut shelf = lock(&self.classes[class.index()]);
        let warm = shelf.warm.len().saturating_sub(count);
        to.extend(shelf.warm.drain(warm..));
        if to.is_empty() {
            let cold = shelf.cold.len().saturating_sub(count);
            to.extend(shelf.cold.drain(cold..));
        }
        if !to.is_empty() {
            return Ok(());
        }
        let had = to.len();
        while to.len() - had < count {
            match self.carve(&mut shelf, class, count - (to.len() - had), to) {
                Ok(()) => {}
                Err(error) if to.len() == had => {
                    let have: usize = shelf.slabs.iter().map(|slab| slab.carved).sum();
                    return Err(out_of_stacks(&error, have, class));
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Adds up to `count` fresh stacks to `to`; at least one, or an error.
    fn carve(
        &self,
        shelf: &mut Shelf,
        class: Class,
        count: usize,
        to: &mut Vec<Stack>,
    ) -> io::Result<()> {
        let guard = sys::page_bytes();
        let stride = guard + class.bytes();
        if shelf
            .slabs
            .last()
            .is_none_or(|slab| slab.carved == slab.count)
        {
            let slab = Slab::new(stride, shelf.slabs.last())?;
            if !self.in_forks {
                // SAFETY: just mapped; who turned it off does not touch it in a child.
                unsafe { sys::keep_from_forks(slab.base, slab.bytes)? };
            }
            shelf.slabs.push(slab);
        }
        let slab = shelf.slabs.last_mut().expect("one was just added");
        let mut places = [slab.base; sys::RANGES_MAX];
        let count = count.min(slab.count - slab.carved).min(places.len());
        for (nth, place) in places[..count].iter_mut().enumerate() {
            // SAFETY: `carved + nth < count` of the slab, so the place is inside it.
            *place = unsafe { slab.base.add((slab.carved + nth) * stride) };
        }
        let guarded = self.guard(&places[..count], guard)?;
        slab.carved += guarded;
        to.extend(places[..guarded].iter().map(|place| Stack {
            // SAFETY: inside the slab, whose stride is guard and stack.
            base: unsafe { place.add(guard) },
            class,
        }));
        Ok(())
    }

    /// Guards the first of `places`, `bytes` each; returns how many of them, at least one, or an error.
    fn guard(&self, places: &[NonNull<u8>], bytes: usize) -> io::Result<usize> {
        // Relaxed: a remembered answer of the kernel, the same for everybody.
        if !self.single_guards.load(Relaxed) {
            // SAFETY: fresh memory of the slab.
            match unsafe { sys::guard_install_each(places, bytes) } {
                Ok(count) if count > 0 => return Ok(count),
                // Older, or not to be asked so; or without memory, of which the next call tells.
                // Relaxed: as above.
                _ => self.single_guards.store(true, Relaxed),
            }
        }
        let place = places[0];
        // Relaxed: as above.
        if !self.split_guards.load(Relaxed) {
            // SAFETY: fresh memory of the slab.
            match unsafe { sys::guard_install(place, bytes) } {
                Ok(()) => return Ok(1),
                // Relaxed: as above.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.split_guards.store(true, Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        // Relaxed: a count that nothing else hangs on.
        let count = self.split_count.fetch_add(1, Relaxed);
        let guarded = if 2 * count + MAPPINGS_LEFT > mappings_max() {
            Err(io::Error::from(io::ErrorKind::OutOfMemory))
        } else {
            // SAFETY: fresh memory of the slab.
            unsafe { sys::protect(place, bytes) }
        };
        if guarded.is_err() {
            // Relaxed: as above.
            self.split_count.fetch_sub(1, Relaxed);
        }
        guarded.map(|()| 1)
    }

    /// How many stacks there are: all, those of them that lie here with pages, and without.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for shelf in &self.classes {
            let shelf = lock(shelf);
            counts[0] += shelf.slabs.iter().map(|slab| slab.carved).sum::<usize>();
            counts[1] += shelf.warm.len();
            counts[2] += shelf.cold.len();
        }
        counts
    }

    /// Shows who stands on the next `most` stacks of a tour, as [`Stack::set_tenant`] said; whether there are more.
    pub(crate) fn some_tenants(
        &self,
        tour: &mut Tour,
        most: usize,
        mut each: impl FnMut(NonNull<()>),
    ) -> bool {
        let mut left = most;
        while let Some(shelf) = self.classes.get(tour.class) {
            let class = Class::nth(tour.class);
            let stride = sys::page_bytes() + class.bytes();
            let shelf = lock(shelf);
            while let Some(slab) = shelf.slabs.get(tour.slab) {
                while tour.nth < slab.carved {
                    if left == 0 {
                        return true;
                    }
                    left -= 1;
                    let offset = tour.nth * stride + sys::page_bytes();
                    tour.nth += 1;
                    // SAFETY: `nth < carved`, so the stack is inside the slab.
                    let base = unsafe { slab.base.add(offset) };
                    // SAFETY: inside a slab, which is mapped as long as the pool. Whoever has the stack uses the word as an atomic, too.
                    let word = unsafe { tenant_word(base, class).as_ref() };
                    // Acquire: pairs with the Release in `set_tenant`.
                    if let Some(tenant) = NonNull::new(word.load(Acquire)) {
                        each(tenant);
                    }
                }
                (tour.slab, tour.nth) = (tour.slab + 1, 0);
            }
            (tour.class, tour.slab) = (tour.class + 1, 0);
        }
        false
    }

    /// Takes stacks back. Nothing may be kept on them.
    fn put(&self, class: Class, stacks: impl Iterator<Item = Stack>) {
        lock(&self.classes[class.index()]).warm.extend(stacks);
    }

    /// Has some of the stacks that are more than a burst needs give their pages back, once there have been more for [`REST`]. For who has
    /// nothing better to do.
    pub(crate) fn trim(&self) -> Tidying {
        let mut outcome = Tidying::Done;
        for shelf in &self.classes {
            let mut surplus = Vec::new();
            {
                let mut shelf = lock(shelf);
                if shelf.warm.len() <= WARM_MAX {
                    shelf.trim_at = None;
                    continue;
                }
                let now = Instant::now();
                let at = *shelf.trim_at.get_or_insert(now + REST);
                if now >= at {
                    surplus.extend(shelf.warm.drain(..TRIM_BATCH));
                } else if outcome == Tidying::Done {
                    outcome = Tidying::Later(at);
                }
            }
            if !surplus.is_empty() {
                give_back(&surplus);
                lock(shelf).cold.append(&mut surplus);
                outcome = Tidying::Goes;
            }
        }
        outcome
    }
}

/// Has free stacks of one class give their pages back. Pages that cannot be given back are only a larger footprint.
fn give_back(stacks: &[Stack]) {
    let bases: Vec<_> = stacks.iter().map(|stack| stack.base).collect();
    let bytes = stacks[0].class.bytes();
    // SAFETY: each range is a whole stack that nobody uses.
    let done = unsafe { sys::give_back_each(&bases, bytes) }.unwrap_or(0);
    for base in &bases[done..] {
        // SAFETY: as above.
        let _ignored = unsafe { sys::give_back(*base, bytes) };
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for shelf in &self.classes {
            let shelf = lock(shelf);
            let carved: usize = shelf.slabs.iter().map(|slab| slab.carved).sum();
            let free = shelf.warm.len() + shelf.cold.len();
            debug_assert_eq!(carved, free, "a stack outlives its runtime");
            if carved != free {
                continue;
            }
            for slab in &shelf.slabs {
                // A mapping that cannot be unmapped is only leaked.
                // SAFETY: every stack of the slabs is back on the shelf, so nothing refers to them.
                let _ignored = unsafe { sys::unmap(slab.base, slab.bytes) };
            }
        }
    }
}

impl Slab {
    /// A slab of twice as many stacks as the last, or of as many as can be had.
    fn new(stride: usize, last: Option<&Self>) -> io::Result<Self> {
        let most = (SLAB_BYTES_MAX / stride).max(1);
        let mut count = last.map_or(FIRST_SLAB, |last| last.count * 2).min(most);
        loop {
            let bytes = count * stride;
            match sys::map(bytes) {
                Ok(base) => {
                    // Where huge pages are not compiled in there are none to keep away.
                    // SAFETY: just mapped.
                    let _ignored = unsafe { sys::no_huge_pages(base, bytes) };
                    return Ok(Self {
                        base,
                        bytes,
                        carved: 0,
                        count,
                    });
                }
                Err(_) if count > 1 => count /= 2,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cold]
fn out_of_stacks(error: &io::Error, have: usize, class: Class) -> io::Error {
    let text = format!(
        "no stack of {} bytes for the task ({have} exist): {error}; start fewer tasks at a time (a limit on the group), \
         use smaller stacks, or raise the limit on memory or mappings (ulimit -v, vm.max_map_count)",
        class.bytes()
    );
    io::Error::new(error.kind(), text)
}

/// Bytes below the stack pointer that the calling convention lets a function use (128), and some more.
const RED_ZONE: usize = 256;

impl Stack {
    /// Gives the pages below `sp` back: those that a task once used and has left.
    ///
    /// # Safety
    ///
    /// - The task on this stack is suspended, and `sp` is the lowest address that it keeps anything at.
    pub(crate) unsafe fn shed_below(&self, sp: *mut u8) {
        let base = self.base.addr().get();
        let kept = (sp.addr() - RED_ZONE) & !(sys::page_bytes() - 1);
        debug_assert!(base < sp.addr() && sp <= self.top());
        if let Some(bytes) = kept.checked_sub(base).filter(|bytes| *bytes > 0) {
            // Pages that cannot be given back are only a larger footprint.
            // SAFETY: inside the stack, and nothing is kept there, by the caller's promise.
            let _ignored = unsafe { sys::give_back(self.base, bytes) };
        }
    }
}

/// A worker's own stacks, the last used (and warmest in the caches) on top.
#[derive(Debug)]
pub(crate) struct Cache {
    classes: [Vec<Stack>; CLASS_COUNT],
}

impl Cache {
    /// Stacks fetched at a time.
    const BATCH: usize = 16;
    /// Stacks kept; above, half goes back to the pool.
    const MAX: usize = 128;

    pub(crate) fn new() -> Self {
        Self {
            classes: std::array::from_fn(|_| Vec::new()),
        }
    }

    /// The warmest stack of a class.
    ///
    /// # Errors
    ///
    /// What the kernel said when neither the worker nor the pool had one and none could be made.
    pub(crate) fn take(&mut self, pool: &Pool, class: Class) -> io::Result<Stack> {
        let own = &mut self.classes[class.index()];
        if own.is_empty() {
            pool.take(class, Self::BATCH, own)?;
        }
        Ok(own.pop().expect("just filled"))
    }

    /// Keeps a stack for the next task. The caller may still stand on it, provided that it leaves before the next call.
    pub(crate) fn put(&mut self, pool: &Pool, stack: Stack) {
        let class = stack.class();
        let own = &mut self.classes[class.index()];
        if own.len() >= Self::MAX {
            // The coldest go. The one being put back is not among them: its owner still stands on it.
            pool.put(class, own.drain(..Self::MAX / 2));
        }
        own.push(stack);
    }

    /// Gives everything back to the pool.
    pub(crate) fn clear(&mut self, pool: &Pool) {
        for own in &mut self.classes {
            if let Some(stack) = own.first() {
                pool.put(stack.class(), own.drain(..));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ptr, thread};

    use super::*;

    #[test]
    fn stacks_are_writable_from_end_to_end_and_reused_hot() {
        let pool = Pool::new(true);
        let mut cache = Cache::new();
        let class = Class::for_bytes(16 * 1024).unwrap();
        let stack = cache.take(&pool, class).unwrap();
        for offset in [0, class.bytes() - 1] {
            // SAFETY: inside the stack, which nobody else has.
            let place = unsafe { stack.base.add(offset) };
            // SAFETY: as above.
            unsafe { place.write(7) };
        }
        let top = stack.top();
        cache.put(&pool, stack);
        let again = cache.take(&pool, class).unwrap();
        assert_eq!(again.top(), top);
        assert!(again.guard_covers(again.base.addr().get() - 1));
        assert!(!again.guard_covers(again.base.addr().get()));
        cache.put(&pool, again);
        cache.clear(&pool);
    }

    #[test]
    fn slabs_grow_and_keep_the_number_of_mappings_small() {
        let pool = Pool::new(true);
        let mut cache = Cache::new();
        let class = Class::for_bytes(64 * 1024).unwrap();
        let stacks: Vec<_> = (0..5000)
            .map(|_| cache.take(&pool, class).unwrap())
            .collect();
        assert!(lock(&pool.classes[class.index()]).slabs.len() < 10);
        let mut bases: Vec<_> = stacks.iter().map(|stack| stack.base).collect();
        bases.sort_unstable();
        for pair in bases.windows(2) {
            let gap = pair[1].addr().get() - pair[0].addr().get();
            assert!(gap >= class.bytes() + sys::page_bytes());
        }
        for stack in stacks {
            cache.put(&pool, stack);
        }
        cache.clear(&pool);
    }

    #[test]
    fn tour_in_parts_sees_every_tenant_once() {
        let pool = Pool::new(true);
        let mut cache = Cache::new();
        let classes = [16 * 1024, 64 * 1024].map(|bytes| Class::for_bytes(bytes).unwrap());
        let stacks: Vec<_> = (0..100)
            .map(|nth| cache.take(&pool, classes[nth % 2]).unwrap())
            .collect();
        for (nth, stack) in stacks.iter().enumerate() {
            stack.set_tenant(NonNull::new(ptr::without_provenance_mut(nth + 1)));
        }
        let (mut tour, mut seen) = (Tour::default(), Vec::new());
        while pool.some_tenants(&mut tour, 7, |tenant| seen.push(tenant.addr().get())) {}
        seen.sort_unstable();
        assert!(seen.into_iter().eq(1..=100));
        for stack in stacks {
            stack.set_tenant(None);
            cache.put(&pool, stack);
        }
        cache.clear(&pool);
    }

    #[test]
    fn kernels_that_guard_one_place_at_a_time_are_asked_so() {
        let pool = Pool::new(true);
        // Relaxed: one thread.
        pool.single_guards.store(true, Relaxed);
        let mut cache = Cache::new();
        let class = Class::for_bytes(16 * 1024).unwrap();
        let stacks: Vec<_> = (0..40).map(|_| cache.take(&pool, class).unwrap()).collect();
        for stack in stacks {
            // SAFETY: inside the stack, which nobody else has.
            unsafe { stack.base.write(7) };
            cache.put(&pool, stack);
        }
        cache.clear(&pool);
    }

    #[test]
    fn older_kernels_get_protected_guards() {
        let pool = Pool::new(true);
        // Relaxed, both: one thread.
        pool.single_guards.store(true, Relaxed);
        pool.split_guards.store(true, Relaxed);
        let mut cache = Cache::new();
        let class = Class::for_bytes(16 * 1024).unwrap();
        let stack = cache.take(&pool, class).unwrap();
        let guard = stack.base.addr().get() - sys::page_bytes();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps
            .lines()
            .find(|line| line.starts_with(&format!("{guard:x}-")))
            .expect("the guard is a mapping of its own");
        assert!(line.contains(" ---p "), "{line}");
        // SAFETY: inside the stack, which nobody else has.
        unsafe { stack.base.write(7) };
        cache.put(&pool, stack);
        cache.clear(&pool);
    }

    #[test]
    fn surplus_gives_its_pages_back_and_is_used_again() {
        let pool = Pool::new(true);
        let mut cache = Cache::new();
        let class = Class::for_bytes(16 * 1024).unwrap();
        let all: Vec<_> = (0..WARM_MAX + 100)
            .map(|_| cache.take(&pool, class).unwrap())
            .collect();
        for stack in &all {
            // SAFETY: inside the stack, which nobody else has.
            unsafe { stack.base.write(7) };
        }
        pool.put(class, all.into_iter());
        cache.clear(&pool);
        assert!(matches!(pool.trim(), Tidying::Later(_)));
        loop {
            match pool.trim() {
                Tidying::Goes => {}
                Tidying::Later(at) => thread::sleep(at - Instant::now()),
                Tidying::Done => break,
            }
        }
        let cold = lock(&pool.classes[class.index()]).cold.len();
        assert!(cold >= 100, "{cold}");
        // Warm ones first, then the cold, and no new ones.
        let all: Vec<_> = (0..WARM_MAX + 100)
            .map(|_| cache.take(&pool, class).unwrap())
            .collect();
        // SAFETY: inside the stacks, which nobody else has.
        let is_clean = |stack: &Stack| unsafe { stack.base.read() } == 0;
        assert!(all.iter().filter(|stack| is_clean(stack)).count() >= 100);
        pool.put(class, all.into_iter());
        cache.clear(&pool);
    }
}
