//! Waiting for time to pass.

mod limit;
mod ticker;

use std::time::{Duration, Instant};

pub use limit::{Limit, TimedOut, timeout};
pub use ticker::Ticker;

use crate::sched::{WaitsFor, Wake, park};

/// Parks the calling task for at least `duration`; its worker runs others meanwhile. A plain thread sleeps.
///
/// A duration beyond what the clock can count lasts for ever.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// multi_goro::sleep(Duration::from_millis(2));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) {
    match Instant::now().checked_add(duration) {
        Some(until) => sleep_until(until),
        None => sleep_for_ever(),
    }
}

/// Parks the calling task until `until`; a plain thread sleeps. Returns at once if that is past.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let until = Instant::now() + Duration::from_millis(2);
/// multi_goro::sleep_until(until);
/// assert!(Instant::now() >= until);
/// ```
pub fn sleep_until(until: Instant) {
    // Nobody knows of this wait, so only the clock can end it.
    let wake = park(WaitsFor::Time, Some(until));
    debug_assert_eq!(wake, Wake::TimedOut);
}

fn sleep_for_ever() {
    let wake = park(WaitsFor::Time, None);
    unreachable!("a wait that nobody knows of ended: {wake:?}");
}
