//! Telling a process from the one it was forked from, and giving it random numbers of its own.

#![expect(
    unsafe_code,
    reason = "one word in a page that the kernel empties at every fork"
)]

use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::sys;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::size_of;
use std::ptr::{self, NonNull};

/// How many hash maps of one child have keys that no sibling's has: a step is about a nanosecond, taken at each fork.
const MAPS_PER_CHILD: usize = 256;

/// Where the word is; null until the first use. Kept for the life of the process.
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// A number that this process shares with no other, also not with one that was forked from it by other means than a group.
///
/// It costs one load. A generator that must not go on as a copy in a child keeps it beside its state and reseeds when it
/// changed:
///
/// ```
/// struct Generator {
///     process: u64,
///     state: u64,
/// }
///
/// impl Generator {
///     fn next(&mut self) -> u64 {
///         if self.process != multi_proc::process_serial() {
///             self.process = multi_proc::process_serial();
///             self.state = multi_proc::child_seed();
///         }
///         self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
///         self.state
///     }
/// }
/// # let mut generator = Generator { process: 0, state: 0 };
/// # assert_ne!(generator.next(), generator.next());
/// ```
#[must_use]
pub fn process_serial() -> u64 {
    let Some(word) = word() else {
        // No page to be had: the process number is the next best thing.
        return u64::from(sys::pid()) | 1 << 63;
    };
    // Relaxed: the word carries no other data.
    match word.load(Ordering::Relaxed) {
        0 => settle_on(word, child_seed() | 1),
        serial => serial,
    }
}

/// Makes `mine` this process's number unless another thread was first.
#[cold]
fn settle_on(word: &AtomicU64, mine: u64) -> u64 {
    // Relaxed: the word carries no other data.
    match word.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => mine,
        Err(theirs) => theirs,
    }
}

fn word() -> Option<&'static AtomicU64> {
    // Acquire: the page is set up before its address is published. Pairs with the exchange in `make_word`.
    let at = WORD.load(Ordering::Acquire);
    let at = if at.is_null() { make_word()? } else { at };
    // SAFETY: `make_word` published a mapping that is never unmapped, aligned and large enough for the word; zeroes are a word.
    Some(unsafe { &*at })
}

/// Maps the page. No lock and no `Once`: a fork in the middle would leave one that a child waits for in vain.
#[cold]
fn make_word() -> Option<*mut AtomicU64> {
    const BYTES: usize = size_of::<AtomicU64>();
    let page = sys::map_private(BYTES).ok()?;
    // SAFETY: the mapping is new; its contents are zeroes anyway.
    if unsafe { sys::wipe_on_fork(page, BYTES) }.is_err() {
        // SAFETY: a whole mapping that nobody else knows of.
        unsafe { sys::unmap(page, BYTES) };
        return None;
    }
    let mine = page.cast::<AtomicU64>().as_ptr();
    // AcqRel, Acquire: publishes the page to, or takes it from, the load in `word`.
    match WORD.compare_exchange(ptr::null_mut(), mine, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(mine),
        Err(theirs) => {
            // SAFETY: a whole mapping that nobody else knows of: another thread's was published.
            unsafe { sys::unmap(NonNull::new(mine)?.cast(), BYTES) };
            Some(theirs)
        }
    }
}

/// A seed from the kernel, different at every call in every process: for generators of your own that a fork would copy.
///
/// A forked child starts with a copy of its parent's memory, random generators included. Hash maps differ between the children of a
/// group without further ado; a generator of your own is reseeded at the top of the task, or by
/// [`Builder::in_child`](crate::Builder::in_child).
///
/// ```
/// assert_ne!(multi_proc::child_seed(), multi_proc::child_seed());
/// ```
#[must_use]
pub fn child_seed() -> u64 {
    sys::random().unwrap_or_else(|_| {
        // A kernel without getrandom: the process number and the standard library's own source.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(sys::pid());
        hasher.finish()
    })
}

/// Moves this thread's hash map keys on, so that the child forked next draws others than the child forked last.
pub(crate) fn step_hash_keys() {
    for _ in 0..MAPS_PER_CHILD {
        // The standard library counts one of its two key words up at every call, per thread.
        std::hint::black_box(RandomState::new());
    }
}

/// The process that something belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    serial: u64,
    pid: u32,
}

impl Owner {
    pub(crate) fn here() -> Self {
        Self {
            serial: process_serial(),
            pid: sys::pid(),
        }
    }

    /// Whether the caller runs in that process.
    pub(crate) fn is_here(self) -> bool {
        process_serial() == self.serial
    }

    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// Why something of that process cannot be used in this one.
    pub(crate) fn complaint(self, what: &str) -> String {
        format!(
            "{what} belongs to process {}, but this is process {}, forked from it; make a group of its own here",
            self.pid,
            sys::pid(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_stays_the_same_within_a_process() {
        assert_eq!(process_serial(), process_serial());
        assert_ne!(process_serial(), 0);
        assert!(Owner::here().is_here());
    }

    #[test]
    fn threads_that_come_first_together_agree() {
        let serials: Vec<_> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(process_serial)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(serials.iter().all(|serial| *serial == serials[0]));
    }
}
