//! Stacks of green tasks: their sizes, where they come from, and what happens when one overflows.

#![expect(
    unsafe_code,
    reason = "each stack has a word that says who stands on it"
)]

pub(crate) mod overflow;
mod pool;

use std::io;
use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::time::Instant;

pub(crate) use pool::{Cache, Pool, Tour};

use crate::sync::{AtomicPtr, Ordering::*};
use crate::sys;

/// Bytes a task may use if nothing else is asked for. Pages are taken as they are touched: a task that needs 3 KiB costs one page.
pub(crate) const DEFAULT_BYTES: usize = 64 * 1024;
/// The smallest class. Formatting a float or printing a backtrace takes about 10 KiB in a debug build.
pub(crate) const MIN_BYTES: usize = 16 * 1024;
/// The largest class: what a main thread has.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What a worker with nothing to do does about stacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tidying {
    /// A batch has been seen to, and there is more.
    Goes,
    /// To be asked again at this time.
    Later(Instant),
    Done,
}

/// Number of classes: 16 KiB, 32 KiB, .. 8 MiB.
const CLASS_COUNT: usize = (MAX_BYTES / MIN_BYTES).ilog2() as usize + 1;

/// Kept at the end of each stack for the word that says who stands on it; as much as keeps the top aligned.
const TENANT_BYTES: usize = 16;

/// Where the stack of a class from `base` says who stands on it. Zero, as fresh pages are, for nobody.
fn tenant_word(base: NonNull<u8>, class: Class) -> NonNull<AtomicPtr<()>> {
    base.map_addr(|base| {
        base.checked_add(class.bytes() - TENANT_BYTES)
            .expect("a stack ends before the address space does")
    })
    .cast()
}

/// A size that stacks come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(NonZero<u8>);

impl Class {
    /// The smallest class with room for `bytes`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a size that is no multiple of the page or out of range, saying what is allowed.
    pub(crate) fn for_bytes(bytes: usize) -> io::Result<Self> {
        let page = sys::page_bytes();
        let why = if !bytes.is_multiple_of(page) {
            format!("not a multiple of the page size, {page} bytes")
        } else if bytes < MIN_BYTES {
            format!("too small: the least is {MIN_BYTES} bytes")
        } else if bytes > MAX_BYTES {
            format!("too large: the most is {MAX_BYTES} bytes")
        } else {
            let nth = (bytes.div_ceil(MIN_BYTES)).next_power_of_two().ilog2();
            return Ok(Self::nth(nth as usize));
        };
        let text = format!("a task stack of {bytes} bytes is {why}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// Usable bytes of its stacks.
    pub(crate) fn bytes(self) -> usize {
        MIN_BYTES << self.index()
    }

    /// Counted from one inside, so that none of them takes no room.
    fn nth(index: usize) -> Self {
        let number = u8::try_from(index + 1).ok().and_then(NonZero::new);
        Self(number.expect("ten classes"))
    }

    fn index(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

/// Usable memory with a guard page below it; comes from a [`Pool`] and goes back there.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Lowest usable address; the guard ends here.
    base: NonNull<u8>,
    class: Class,
}

impl Stack {
    /// The end of the usable memory, where a stack begins.
    pub(crate) fn top(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(self.bytes())
    }

    /// Bytes of usable memory below the top. The last few of the class are the tenant's word.
    pub(crate) fn bytes(&self) -> usize {
        self.class.bytes() - TENANT_BYTES
    }

    /// Says who stands on the stack, for [`Pool::some_tenants`]; or nobody, before it goes back.
    pub(crate) fn set_tenant(&self, tenant: Option<NonNull<()>>) {
        let tenant = tenant.map_or(ptr::null_mut(), NonNull::as_ptr);
        // Release: publishes the tenant to the Acquire in `some_tenants`.
        // SAFETY: the word above the top, which is nobody else's and stays mapped while there is a `Stack`.
        unsafe { tenant_word(self.base, self.class).as_ref() }.store(tenant, Release);
    }

    /// The word behind the tenant's: its place among the stacks that its worker has in use. That worker's alone, and meaningless while
    /// the stack is free.
    fn place_word(&self) -> NonNull<usize> {
        let after = tenant_word(self.base, self.class).map_addr(|word| {
            word.checked_add(size_of::<usize>())
                .expect("a stack ends before the address space does")
        });
        after.cast()
    }

    pub(crate) fn place(&self) -> usize {
        // SAFETY: above the top, which is nobody else's and stays mapped while there is a `Stack`; zeroed, or written below.
        unsafe { self.place_word().read() }
    }

    pub(crate) fn set_place(&self, place: usize) {
        // SAFETY: as in `place`; its one user is the worker that has the stack in use.
        unsafe { self.place_word().write(place) };
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Whether an access at `address` ran over the end of this stack.
    pub(crate) fn guard_covers(&self, address: usize) -> bool {
        let base = self.base.addr().get();
        (base - sys::page_bytes()..base).contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_a_class_and_bad_ones_say_why() {
        assert_eq!(Class::for_bytes(16 * 1024).unwrap().bytes(), 16 * 1024);
        assert_eq!(Class::for_bytes(20 * 1024).unwrap().bytes(), 32 * 1024);
        assert_eq!(Class::for_bytes(DEFAULT_BYTES).unwrap().bytes(), 64 * 1024);
        assert_eq!(Class::for_bytes(MAX_BYTES).unwrap().bytes(), MAX_BYTES);
        assert_eq!(
            Class::for_bytes(MAX_BYTES).unwrap().index(),
            CLASS_COUNT - 1
        );
        for (bytes, text) in [
            (
                0,
                "a task stack of 0 bytes is too small: the least is 16384 bytes",
            ),
            (
                4096,
                "a task stack of 4096 bytes is too small: the least is 16384 bytes",
            ),
            (
                65_537,
                "a task stack of 65537 bytes is not a multiple of the page size, 4096 bytes",
            ),
            (
                1 << 30,
                "a task stack of 1073741824 bytes is too large: the most is 8388608 bytes",
            ),
        ] {
            let error = Class::for_bytes(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), text);
        }
    }
}
