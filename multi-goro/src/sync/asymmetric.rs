//! Fences for handshakes of which one side is hot and the other is rare.
//!
//! In "I set mine, then look at yours" each side needs a full fence between its two halves. Where one side runs millions of times
//! and the other now and then, the rare one can pay for both: [`heavy_fence`] has the kernel run a full fence on every processor
//! that runs a thread of this process (`membarrier`), so that [`light_fence`] need only keep the compiler from moving the hot
//! side's accesses.
//!
//! Read each `light_fence` as a `fence(SeqCst)` that pairs with the `heavy_fence`s, and with nothing else: **two light fences do not
//! order each other**. Proofs are written so, and under the model checker both are just that fence. A processor that is not
//! interrupted for the membarrier runs no thread of ours then, and has passed a full fence when it changed threads.

#[cfg(loom)]
use super::{Ordering::SeqCst, fence};

#[cfg(not(loom))]
use super::{AtomicU32, Ordering::*, compiler_fence, fence};
#[cfg(not(loom))]
use crate::sys;
#[cfg(not(loom))]
use std::io;

/// Nobody has asked the kernel yet. Until then nobody is in a handshake.
#[cfg(not(loom))]
const UNKNOWN: u32 = 0;
/// The kernel runs our fences.
#[cfg(not(loom))]
const YES: u32 = 1;
/// It does not.
#[cfg(not(loom))]
const NO: u32 = 2;

/// Whether the kernel runs our fences. Decided before the first worker starts, and never again: two threads that do not agree have no
/// fence between them at all.
#[cfg(not(loom))]
static BY_KERNEL: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Asks the kernel once whether it runs fences for us. Before any thread that calls [`heavy_fence`] or [`light_fence`] is started.
///
/// # Errors
///
/// If the answer was yes and this thread, and so any that it starts, is refused.
#[cfg(not(loom))]
pub(crate) fn prepare_fences() -> io::Result<()> {
    let answer = sys::membarrier_register().and_then(|()| sys::membarrier());
    let ours = if answer.is_ok() { YES } else { NO };
    // Relaxed, all: who starts a thread orders it for that thread.
    let decided = match BY_KERNEL.compare_exchange(UNKNOWN, ours, Relaxed, Relaxed) {
        Ok(_) => ours,
        Err(earlier) => earlier,
    };
    match answer {
        Err(error) if decided == YES => Err(io::Error::new(
            error.kind(),
            format!(
                "membarrier(2) worked for the first green runtime of this process and is refused to this thread: {error}; \
                 refuse it (a seccomp filter?) to all threads before the first one is made, or to none"
            ),
        )),
        _ => Ok(()),
    }
}

/// The hot side of a handshake.
#[inline]
pub(crate) fn light_fence() {
    #[cfg(not(loom))]
    // Relaxed: see `prepare_fences`.
    if BY_KERNEL.load(Relaxed) == YES {
        // The rest is done by the `membarrier` of the heavy side.
        compiler_fence(SeqCst);
        return;
    }
    // Pairs with the fence of the heavy side.
    fence(SeqCst);
}

/// The rare side of a handshake. A system call, which interrupts the other processors of the process.
#[cold]
pub(crate) fn heavy_fence() {
    #[cfg(not(loom))]
    // Relaxed: see `prepare_fences`.
    if BY_KERNEL.load(Relaxed) == YES {
        // Light sides rely on this: without it there is no way on. A forked child may have to register anew.
        if sys::membarrier().is_err()
            && (sys::membarrier_register().is_err() || sys::membarrier().is_err())
        {
            sys::write_error(
                b"multi-goro: membarrier(2) worked when the runtime started and is refused now; \
                  refuse it (a seccomp filter?) before the first green group is made\n",
            );
            sys::abort();
        }
        return;
    }
    // Pairs with the fence of the light side.
    fence(SeqCst);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU32;
    use std::sync::{Arc, Barrier};

    /// Each side sets its word and looks at the other's: at least one sees the other, however often it is tried.
    #[test]
    fn of_a_light_and_a_heavy_side_one_sees_the_other() {
        const ROUNDS: usize = 3000;
        prepare_fences().unwrap();
        let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let seen = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let meet = Arc::new(Barrier::new(2));
        let side = |me: usize, between: fn()| {
            let (words, seen, meet) = (Arc::clone(&words), Arc::clone(&seen), Arc::clone(&meet));
            std::thread::spawn(move || {
                for _ in 0..ROUNDS {
                    meet.wait();
                    // Relaxed, all three: the pair of fences is what is tested.
                    words[me].store(1, Relaxed);
                    between();
                    // Relaxed: as above.
                    seen[me].store(words[1 - me].load(Relaxed), Relaxed);
                    meet.wait();
                    if me == 0 {
                        // Relaxed, all: the barriers order them.
                        let both = [&seen[0], &seen[1]].map(|seen| seen.load(Relaxed));
                        assert_ne!(both, [0, 0], "neither saw the other");
                        words.iter().for_each(|word| word.store(0, Relaxed));
                    }
                }
            })
        };
        let threads = [side(0, light_fence), side(1, heavy_fence)];
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}
