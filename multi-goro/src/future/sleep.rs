//! Letting time pass, as a future.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use multi_core::clock::{self, Alarm};

/// The future of [`sleep`] and [`sleep_until`].
#[must_use = "time does not pass before it is polled"]
pub struct Sleep {
    /// `None`: beyond what the clock can count.
    until: Option<Instant>,
    /// Whom the clock wakes. Dropped, it wakes nobody.
    set: Option<(Waker, Alarm)>,
}

/// Resolves after `duration` at least: a time limit for other futures.
///
/// The clock is a thread of the process, which all of them share; a task that keeps a steady rate, or sleeps often, does better
/// with a stack and [`crate::sleep`].
///
/// ```
/// use std::time::Duration;
/// use futures_util::{FutureExt, select};
/// use multi_goro::{Group, chan, future::sleep};
///
/// let (_tx, rx) = chan::<u8>(0);
/// let group = Group::new();
/// let got = group.spawn_async(async move {
///     Ok(select! {
///         value = rx.recv_async().fuse() => value.ok(),
///         _late = sleep(Duration::from_millis(2)).fuse() => None,
///     })
/// });
/// assert_eq!(got.join()?, None);
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// # Panics
///
/// When polled, if the clock's thread is not running and cannot be started.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        until: Instant::now().checked_add(duration),
        set: None,
    }
}

/// Resolves at `until`, or when it is first polled if that is past: see [`sleep`].
///
/// # Panics
///
/// As [`sleep`].
pub fn sleep_until(until: Instant) -> Sleep {
    Sleep {
        until: Some(until),
        set: None,
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        if until <= Instant::now() {
            self.set = None;
            return Poll::Ready(());
        }
        let waker = context.waker();
        if !matches!(&self.set, Some((known, _)) if known.will_wake(waker)) {
            let rung = waker.clone();
            let alarm = clock::at(until, move || rung.wake())
                .unwrap_or_else(|error| panic!("the clock's thread cannot be started: {error}"));
            self.set = Some((waker.clone(), alarm));
        }
        Poll::Pending
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
