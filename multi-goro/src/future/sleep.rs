//! Letting time pass, as a future.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use multi_core::clock::{self, Alarm};

use crate::sched::Nap;

/// The future of [`sleep`] and [`sleep_until`].
#[must_use = "time does not pass before it is polled"]
pub struct Sleep {
    /// `None`: beyond what the clock can count.
    until: Option<Instant>,
    /// Whom to wake, and what does it.
    set: Option<(Waker, Timer)>,
}

/// Dropped, it wakes nobody.
#[derive(Debug)]
enum Timer {
    /// Of the worker that polled.
    Nap(Nap),
    /// Of the process, for wakers whose code is not ours.
    Alarm { _alarm: Alarm },
}

impl Timer {
    fn set(until: Instant, waker: &Waker) -> Self {
        if let Some(nap) = Nap::set(until, waker) {
            return Self::Nap(nap);
        }
        let rung = waker.clone();
        let alarm = clock::at(until, move || rung.wake())
            .unwrap_or_else(|error| panic!("the clock's thread cannot be started: {error}"));
        Self::Alarm { _alarm: alarm }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Nap(nap) => nap.is_over(),
            Self::Alarm { .. } => false,
        }
    }
}

/// Resolves after `duration` at least: a time limit for other futures.
///
/// In a task of a group it is a timer of the worker. Under a waker of another kind (in [`block_on`](super::block_on), or one that an adapter
/// makes for each of many futures) it is one of a clock that the process has a thread for, as nobody knows what such a waker does.
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
/// When polled, if it needs the clock's thread and that is not running and cannot be started.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        until: Instant::now().checked_add(duration),
        set: None,
    }
}

/// Resolves at `until`, or when it is first polled if that is past: see [`sleep`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use multi_goro::future::{block_on, sleep_until};
///
/// let until = Instant::now() + Duration::from_millis(2);
/// block_on(sleep_until(until));
/// assert!(Instant::now() >= until);
/// ```
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
        let is_set = |(known, timer): &(Waker, Timer)| known.will_wake(waker) && !timer.is_over();
        if !self.set.as_ref().is_some_and(is_set) {
            self.set = Some((waker.clone(), Timer::set(until, waker)));
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
