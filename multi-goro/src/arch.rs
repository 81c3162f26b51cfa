//! The context switch: one file per processor, all with the same three entry points.
//!
//! `prepare` lays the first frame on a fresh stack, and `switch` leaves one stack for another.
//!
//! x86-64 has its own. Every other processor sits in the portable seat, over corosensei, which is also the oracle of the tests.

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

#[cfg(asan)]
pub(crate) mod sanitizer;

#[cfg(test)]
mod tests;
