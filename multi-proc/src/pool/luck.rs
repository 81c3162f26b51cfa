//! Whether it is worth looking a moment longer before sleeping.
//!
//! Where a worker runs on a processor of its own and the job is short, its value comes within a few looks, and a sleep would cost two
//! system calls and a wake. Where not, looking only delays the sleep. As in multi-chan: after looks in vain the next 15 waits go without
//! them, and twice as many each time, up to 255.

use crate::sync::{AtomicU32, Ordering};
use std::hint;
use std::thread;

/// Looks before a sleep: as long as a short job takes.
const LOOKS: u32 = 60;
/// So many times after that, with the processor given away before each, when it is tried again after it was in vain: as long as a
/// wake takes, so that two sides that have both begun to sleep find back to looking.
const ROUNDS: u32 = 16;
/// Looks that give the processor away: to a worker that waits for it.
const YIELDS: u32 = 4;
const PAUSE_MIN: u32 = 15;
const PAUSE_MAX: u32 = 255;

/// How a pool's waits have gone.
///
/// ```text
///   15       8 7          0
///  ┌──────────┬────────────┐
///  │  penalty │ waits left │
///  └──────────┴────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Luck {
    state: AtomicU32,
    has_processors: bool,
}

impl Luck {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
            has_processors: thread::available_parallelism().is_ok_and(|count| count.get() > 1),
        }
    }

    /// Looks for a while, if that is worth it; returns whether it `is_over`.
    pub(super) fn look(&self, is_over: impl Fn() -> bool) -> bool {
        if is_over() {
            return true;
        }
        if self.has_processors {
            // Relaxed, everywhere: a guess, and this process's own.
            let state = self.state.load(Ordering::Relaxed);
            let (penalty, left) = (state >> 8 & 0xff, state & 0xff);
            if left > 0 {
                // Relaxed: as above.
                self.state
                    .store(penalty << 8 | (left - 1), Ordering::Relaxed);
            } else if busy(&is_over, if penalty > 0 { ROUNDS } else { 0 }) {
                // Relaxed: as above.
                self.state.store(0, Ordering::Relaxed);
                return true;
            } else {
                let pause = (2 * penalty + 1).clamp(PAUSE_MIN, PAUSE_MAX);
                // Relaxed: as above.
                self.state.store(pause << 8 | pause, Ordering::Relaxed);
            }
        }
        (0..YIELDS).any(|_| {
            thread::yield_now();
            is_over()
        })
    }
}

fn busy(is_over: &impl Fn() -> bool, rounds: u32) -> bool {
    for round in 0..=rounds {
        if round > 0 {
            thread::yield_now();
        }
        for _ in 0..LOOKS {
            hint::spin_loop();
            if is_over() {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn looks(luck: &Luck, over_after: u32) -> u32 {
        let count = Cell::new(0);
        luck.look(|| {
            count.set(count.get() + 1);
            count.get() > over_after
        });
        count.get()
    }

    #[test]
    fn looks_in_vain_become_rare_and_one_that_is_not_makes_them_the_rule() {
        let luck = Luck {
            state: AtomicU32::new(0),
            has_processors: true,
        };
        assert!(looks(&luck, u32::MAX) > LOOKS);
        for _ in 0..PAUSE_MIN {
            assert!(looks(&luck, u32::MAX) < LOOKS);
        }
        assert_eq!(
            looks(&luck, LOOKS + 10),
            LOOKS + 11,
            "tried again, and lucky"
        );
        assert!(looks(&luck, u32::MAX) > LOOKS);
    }
}
