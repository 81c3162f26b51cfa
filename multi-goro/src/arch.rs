//! The context switch: one file per processor, all with the same three entry points.
//!
//! `prepare` lays the first frame on a fresh stack, and `switch` leaves one stack for another.
//!
//! x86-64 has its own. Every other processor sits in the portable seat, over corosensei, which is also the oracle of the tests.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a hint to the processor")
)]

#[cfg(all(target_arch = "x86_64", not(feature = "portable-switch")))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(feature = "portable-switch")))]
pub(crate) use x86_64::{prepare, switch};

#[cfg(any(not(target_arch = "x86_64"), feature = "portable-switch"))]
mod portable;
#[cfg(any(not(target_arch = "x86_64"), feature = "portable-switch"))]
pub(crate) use portable::{prepare, switch};

/// Whether a suspended task keeps nothing below its saved stack pointer. corosensei's frames lie there.
pub(crate) const KEEPS_NOTHING_BELOW: bool = cfg!(all(
    target_arch = "x86_64",
    not(feature = "portable-switch")
));

/// Has the processor fetch a cache line that is soon needed. Any address will do: a bad one is ignored.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing as far as the program can tell.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(asan)]
pub(crate) mod sanitizer;

#[cfg(test)]
mod tests;
