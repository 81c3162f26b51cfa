//! How a worker says that a job has ended, and who hears it: a bit for each job, and a bell.

use crate::kill::{self, KillPoint};
use crate::sync::{AtomicU64, Futex, Ordering, fence};
use std::time::Duration;

/// Who is to be told that a job has ended, in shared memory.
///
/// | POLLERS | SLEEPERS | meaning                                                            |
/// | ------- | -------- | ------------------------------------------------------------------ |
/// |    0    |    0     | nobody waits, or all were told                                     |
/// |    0    |    1     | threads of the parent sleep on this word, or look once more before |
/// |    1    |  0, 1    | others are in `ppoll`, or look once more before                    |
///
/// Who waits sets its bit and looks once more; whoever ends a job takes both bits down and tells those they stand for. Any other bit
/// was scribbled, and tells nobody.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct Bell(Futex);

const SLEEPERS: u32 = 1;
const POLLERS: u32 = 2;

impl Bell {
    /// Tells who waits; `poke` those in `ppoll`.
    pub(super) fn ring(&self, poke: impl FnOnce()) {
        // SeqCst: the bit of the job, or what else is news, comes before the look at the bell. Pairs with the fence in `arm`: either we
        // see the arming, or the one who armed sees the news.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.0.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Relaxed: as above; only one of those who ring finds each bit.
        let told = self.0.swap(0, Ordering::Relaxed);
        kill::reached(KillPoint::BellTaken);
        if told & SLEEPERS != 0 {
            self.0.wake();
        }
        if told & POLLERS != 0 {
            poke();
        }
    }

    /// For a thread of the parent about to [`sleep`](Self::sleep); look again after it.
    pub(super) fn arm_sleep(&self) -> u32 {
        self.arm(SLEEPERS)
    }

    /// For a thread of the parent about to sleep in `ppoll`; look again after it.
    pub(super) fn arm_poll(&self) {
        self.arm(POLLERS);
    }

    fn arm(&self, who: u32) -> u32 {
        // Relaxed: ordered by the fence.
        let before = self.0.fetch_or(who, Ordering::Relaxed);
        // SeqCst: the arming comes before the next look. Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
        before | who
    }

    /// Sleeps until the bell rings, `timeout` at most.
    pub(super) fn sleep(&self, armed: u32, timeout: Duration) {
        self.0.sleep(armed, timeout);
    }
}

/// The jobs that have ended and that nobody took note of: a bit each, in shared memory.
#[derive(Clone, Copy)]
pub(super) struct EndedBits<'a>(pub(super) &'a [AtomicU64]);

impl EndedBits<'_> {
    pub(super) fn set(self, job: usize) {
        // Release: whoever takes the bit sees the job Done. Pairs with the swap in `take`.
        self.0[job / 64].fetch_or(1 << (job % 64), Ordering::Release);
        kill::reached(KillPoint::BitSet);
    }

    /// Whether there is any.
    pub(super) fn any(self) -> bool {
        // Relaxed: whoever acts on it takes the bits by a swap.
        self.0.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Takes note of them; calls `each` with their numbers, which may have been scribbled.
    pub(super) fn take(self, mut each: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            // Relaxed: a first look, the swap decides.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with the Release in `set`.
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                each(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}
