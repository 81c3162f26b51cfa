//! The context switch: one file per processor, all with the same three entry points.
//!
//! `prepare` lays the first frame on a fresh stack, `switch` leaves one stack for another, and `STACK_ALIGN` is what the
//! processor's calling convention asks of a stack's top.
//!
//! Only x86-64 is built and tested. The seat for another processor is a file beside `x86_64.rs` with those entry points;
//! corosensei, which the tests use as the oracle of this one, knows the register sets of the usual targets.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{prepare, switch};

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "multi-goro has no context switch for this processor yet: add a file beside src/arch/x86_64.rs"
);

#[cfg(test)]
mod tests;
