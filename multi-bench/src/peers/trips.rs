//! Round trips, each timed.

use std::time::Instant;

use crate::Result;
use crate::job::Figures;

/// Sends so many numbers, one after the other, each of which has to come back: half of the trips, 99 of 100, and the mean, in nanoseconds.
pub(crate) fn time(trips: u64, mut trip: impl FnMut(u64) -> Result<u64>) -> Result<Figures> {
    let mut took = Vec::with_capacity(usize::try_from(trips)?);
    let started = Instant::now();
    let mut before = started;
    for number in 0..trips {
        let back = trip(number)?;
        if back != number {
            return Err(format!("{back} came back, {number} went out").into());
        }
        let now = Instant::now();
        took.push((now - before).as_nanos() as u64);
        before = now;
    }
    let mean = (before - started).as_secs_f64() * 1e9 / trips as f64;
    took.sort_unstable();
    let part = |percent: usize| took.get(took.len() * percent / 100).copied();
    let (p50, p99) = part(50).zip(part(99)).ok_or("no trips")?;
    Ok(vec![
        ("p50", p50 as f64),
        ("p99", p99 as f64),
        ("mean", mean),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn trips_are_counted_in_order_of_their_length() {
        let figures = time(100, |number| {
            let least = Duration::from_micros(if number < 10 { 500 } else { 1 });
            let started = Instant::now();
            while started.elapsed() < least {}
            Ok(number)
        })
        .expect("nothing is lost");
        let [(_, p50), (_, p99), (_, mean)] = figures[..] else {
            panic!("three figures: {figures:?}");
        };
        assert!(p50 < p99 && p99 >= 500e3 && mean >= 50e3, "{figures:?}");
    }

    #[test]
    fn another_number_is_noticed() {
        let error = time(3, |number| Ok(number / 2)).expect_err("1 comes back as 0");
        assert_eq!(error.to_string(), "0 came back, 1 went out");
    }
}
