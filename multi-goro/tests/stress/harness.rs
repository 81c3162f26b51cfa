//! What every stress runs in: rounds of random work until the time is over, a watchdog for each round, a seed for all of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::watchdog;

/// No round needs a hundredth of this, on a machine that has time for it.
const ROUND_SECONDS: u64 = 60;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The run's seed, which is printed once.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = variable("MULTI_STRESS_SEED").unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 | 1
        });
        println!("MULTI_STRESS_SEED={seed}");
        seed
    })
}

/// Runs `round` again and again for `MULTI_STRESS_SECONDS`, or a second. A panic in one stress ends the others, too, after their round.
pub(crate) fn stress(name: &str, mut round: impl FnMut(&mut Random)) {
    static FAILED: AtomicBool = AtomicBool::new(false);
    struct Failing;
    impl Drop for Failing {
        fn drop(&mut self) {
            if std::thread::panicking() {
                FAILED.store(true, Relaxed);
            }
        }
    }
    let _failing = Failing;
    let seconds = variable("MULTI_STRESS_SECONDS").unwrap_or(1);
    // A stress does the same whatever others run beside it.
    let mut random = Random(
        seed()
            ^ name.bytes().fold(1, |sum: u64, byte| {
                sum.wrapping_mul(31).wrapping_add(u64::from(byte))
            }),
    );
    random.next();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0_u64;
    while Instant::now() < until && !FAILED.load(Relaxed) {
        let _dog = watchdog(ROUND_SECONDS);
        round(&mut random);
        rounds += 1;
    }
    println!("stress {name}: {rounds} rounds");
}

/// xorshift64: small, and the same everywhere.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // Zero would stay zero.
        self.0 |= u64::from(self.0 == 0);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn count(&mut self, n: u64) -> usize {
        self.below(n) as usize
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pause(&mut self, below_us: u64) -> Duration {
        Duration::from_micros(self.below(below_us))
    }

    /// A generator of its own for a task.
    pub(crate) fn child(&mut self) -> Self {
        Self(self.next().wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}
