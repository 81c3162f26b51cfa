//! The work: sums of random numbers, as in the seed's benchmark. No allocation, no input or output, no lock.

use std::hint::black_box;

/// One execution of the seed's benchmark: so many workers, each adding up so many random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Tasks started together.
    pub workers: usize,
    /// Random numbers that each of them adds up.
    pub numbers: u64,
}

impl Work {
    /// What one worker does. The sum is returned so that it can be checked; it is computed even if nobody looks.
    ///
    /// ```
    /// use multi_bench::workload::Work;
    ///
    /// let work = Work { workers: 4, numbers: 1_000 };
    /// assert_eq!(work.sum(0), work.sum(0));
    /// assert_ne!(work.sum(0), work.sum(1));
    /// ```
    #[must_use]
    pub fn sum(self, worker: usize) -> u64 {
        let mut random = Random::of_worker(worker);
        let mut sum = 0_u64;
        for _ in 0..self.numbers {
            sum = sum.wrapping_add(random.next());
        }
        black_box(sum)
    }
}

/// xorshift64* of Marsaglia and Vigna: three shifts, each waiting for the one before. What a worker costs is then the latency of one
/// core's simplest instructions, not a unit that two hardware threads of a core would fight over.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A generator of its own per worker; the state is never zero, which would be a fixed point.
    fn of_worker(worker: usize) -> Self {
        let seed = (worker as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(black_box(seed | 1))
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_draw_different_numbers() {
        let work = Work {
            workers: 4,
            numbers: 100,
        };
        let mut sums: Vec<u64> = (0..work.workers).map(|worker| work.sum(worker)).collect();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), 4);
    }

    #[test]
    fn no_numbers_sum_to_zero() {
        assert_eq!(
            Work {
                workers: 1,
                numbers: 0
            }
            .sum(0),
            0
        );
    }

    #[test]
    fn the_generator_is_xorshift64_star() {
        // State 1: 1 ^ 1 << 25 = 0x2000001, >> 27 adds nothing; then the product with the multiplier, modulo 2^64.
        let mut random = Random(1);
        assert_eq!(
            random.next(),
            0x200_0001_u64.wrapping_mul(0x2545_F491_4F6C_DD1D)
        );
        assert_eq!(random.0, 0x200_0001);
    }
}
