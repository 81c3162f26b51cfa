//! What every contender carries: the work inside the tasks, and how it is measured.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Result;
use crate::job::Figures;

/// Works for `units` steps of about a nanosecond, each of which needs the one before.
pub(crate) fn spin(units: u64) -> u64 {
    let mut state = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..units {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
    }
    black_box(state)
}

/// What task number `task` of `tasks` has to do of the whole work of `units`: the k-th largest has a k-th of the largest, and large and small
/// ones come in no order.
pub(crate) fn skewed(task: u64, tasks: u64, units: u64) -> u64 {
    let rank = (task * 379) % tasks + 1;
    let harmonic = (tasks as f64).ln() + 0.577;
    (units as f64 / harmonic / rank as f64) as u64
}

/// Fibonacci's numbers, as slowly as possible.
pub(crate) fn fib(n: u64) -> u64 {
    if n < 2 {
        black_box(n)
    } else {
        fib(n - 1) + fib(n - 2)
    }
}

/// Calls that `fib` makes for `n`.
pub(crate) fn fib_calls(n: u64) -> u64 {
    if n < 2 {
        1
    } else {
        1 + fib_calls(n - 1) + fib_calls(n - 2)
    }
}

/// A time to sleep, from half a millisecond to twenty, for the `round`-th time of task number `task`.
pub(crate) fn nap(task: u64, round: u64) -> Duration {
    let mut state = (task * 1_000 + round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    state ^= state >> 32;
    Duration::from_micros(500 + state % 19_500)
}

/// Percentiles of how late sleepers were.
pub(crate) fn lateness(mut late: Vec<Duration>) -> Figures {
    late.sort_unstable();
    let at = |part: f64| {
        let index = (part * late.len().saturating_sub(1) as f64) as usize;
        late.get(index).map_or(0.0, |late| late.as_secs_f64() * 1e9)
    };
    vec![("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0))]
}

/// Resident memory of this process.
pub(crate) fn rss_bytes() -> Result<u64> {
    /// The only page size of the machines this is built for.
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .ok_or("/proc/self/statm has no second number")?
        .parse()?;
    Ok(pages * PAGE)
}

/// Threads of this process.
pub(crate) fn threads() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))
        .ok_or("/proc/self/status has no line for threads")?;
    Ok(line.trim().parse()?)
}

/// Values that go through a pipeline one after the other.
pub(crate) const PASSES: u64 = 3;

/// Ticks of this period are waited for beside hogs.
pub(crate) const PERIOD: Duration = Duration::from_millis(5);

/// Computes for `time` and lets nobody else run.
pub(crate) fn hog(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        spin(1_000);
    }
}

/// Nanoseconds per one of `count`.
pub(crate) fn each(took: Duration, count: u64) -> f64 {
    took.as_secs_f64() * 1e9 / count as f64
}

/// How much memory came to be in use since `before`, per one of `count`.
pub(crate) fn bytes_each(before: u64, count: u64) -> Result<f64> {
    Ok(rss_bytes()?.saturating_sub(before) as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skewed_load_is_all_of_it_and_its_largest_part_comes_somewhere() {
        let parts: Vec<u64> = (0..1_000)
            .map(|task| skewed(task, 1_000, 1_000_000))
            .collect();
        let sum: u64 = parts.iter().sum();
        // Each part is rounded down.
        assert!((998_000..=1_001_000).contains(&sum), "{sum}");
        // The largest is 1 of 1 + 1/2 + 1/3 + ..
        assert!(parts.iter().any(|part| (133_000..134_000).contains(part)));
    }

    #[test]
    fn fib_makes_the_calls_that_are_counted() {
        assert_eq!((fib(10), fib_calls(10)), (55, 177));
    }

    #[test]
    fn naps_differ_and_are_short() {
        let naps: Vec<_> = (0..100).map(|task| nap(task, 3)).collect();
        assert!(naps.iter().all(|nap| nap.as_millis() < 20));
        assert!(naps.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn lateness_has_its_percentiles() {
        let late = (1..=100).rev().map(Duration::from_nanos).collect();
        assert_eq!(
            lateness(late),
            [("p50", 50.0), ("p99", 99.0), ("max", 100.0)]
        );
    }

    #[test]
    fn memory_and_threads_are_there() {
        assert!(rss_bytes().expect("Linux") > 0);
        assert!(threads().expect("Linux") > 0);
    }
}
