//! Something to do at a steady rate.

use std::time::{Duration, Instant};

use super::sleep_until;

/// Ticks at a steady rate: each tick is a whole number of periods after the start, however long the work between takes.
///
/// Who comes late gets one tick for all that passed, not a burst. A ticker is a value of one task or thread; it needs no
/// other thread, and nothing has to be stopped.
///
/// ```
/// use std::time::{Duration, Instant};
/// use multi_goro::Ticker;
///
/// let start = Instant::now();
/// let mut ticker = Ticker::new(Duration::from_millis(2));
/// for _ in 0..3 {
///     ticker.tick();
/// }
/// assert!(start.elapsed() >= Duration::from_millis(6));
/// ```
///
/// Beside channels:
///
/// ```
/// use std::time::Duration;
/// use multi_goro::{Ticker, chan, select};
///
/// let (tx, rx) = chan(1);
/// let mut ticker = Ticker::new(Duration::from_millis(2));
/// let mut ticks = 0;
/// let got = loop {
///     select! {
///         recv(rx) -> got => break got?,
///         after(ticker.left()) => {
///             ticks += ticker.tick();
///             tx.try_send("after the first tick").ok();
///         }
///     }
/// };
/// assert_eq!(got, "after the first tick");
/// assert!(ticks >= 1);
/// # Ok::<(), multi_goro::chan::RecvError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ticker {
    next: Instant,
    period: Duration,
}

impl Ticker {
    /// A ticker whose first tick comes a period from now.
    ///
    /// # Panics
    ///
    /// If the period is zero, or longer than the clock can count.
    #[must_use]
    #[track_caller]
    pub fn new(period: Duration) -> Self {
        assert!(!period.is_zero(), "the period of a Ticker is zero");
        Self {
            next: after(Instant::now(), period),
            period,
        }
    }

    /// The time from one tick to the next.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How long it is until the next tick; zero if that is due.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Waits for the next tick, and returns how many periods have ended since the last: 1 for who is not late.
    ///
    /// Parks the calling task, or blocks the calling thread.
    pub fn tick(&mut self) -> u64 {
        sleep_until(self.next);
        let late = self.next.elapsed().as_nanos();
        let missed = u64::try_from(late / self.period.as_nanos()).unwrap_or(u64::MAX);
        // As many periods as have ended, whatever their number: the remainder says how far into this one we are.
        let into = late % self.period.as_nanos();
        let now = self.next + Duration::from_nanos_u128(late);
        self.next = after(now, self.period - Duration::from_nanos_u128(into));
        missed.saturating_add(1)
    }

    /// Starts anew: the next tick comes a period from now.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use multi_goro::Ticker;
    ///
    /// let mut ticker = Ticker::new(Duration::from_millis(4));
    /// multi_goro::sleep(Duration::from_millis(2));
    /// let start = Instant::now();
    /// ticker.reset();
    /// ticker.tick();
    /// assert!(start.elapsed() >= Duration::from_millis(4));
    /// ```
    pub fn reset(&mut self) {
        self.next = after(Instant::now(), self.period);
    }
}

#[track_caller]
fn after(from: Instant, duration: Duration) -> Instant {
    from.checked_add(duration)
        .expect("a Ticker's next tick is beyond what the clock can count")
}
