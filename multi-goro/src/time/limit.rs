//! A time for something made of several waits.
//!
//! Nothing can take a stackful task out of what it does: its frames hold locks, borrows and half-done work, and only running
//! them to their end, or unwinding them at a place that expects it, is sound. So [`timeout`] does not interrupt. It runs the closure where
//! it is called, and gives it the end of its time in the forms in which waits take one.
//!
//! Rejected, because somebody will want it: the closure as a child task that is left behind when the time is up. It would have to
//! own all it uses and be `Send`, and it would go on unseen, holding what it holds. A child that may borrow has to be waited for, and
//! then nothing is won over running it here. Who wants just that has it in two lines: `group.spawn(..)` and
//! [`Handle::join_timeout`](multi_core::Handle::join_timeout), or [`GroupOptions::task_timeout`](multi_core::GroupOptions::task_timeout),
//! which cancels and reports.

use std::cell::OnceCell;
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use multi_core::CancelToken;
use multi_core::clock::{self, Alarm};

use crate::group::cancel_token;

/// Runs `f`, which is told how much time is left, and says whether it ended in time.
///
/// Nothing interrupts `f`: it passes its limit on to whatever waits. Waits that take a duration get
/// [`Limit::left`]; those that take a token, and tasks started inside, get [`Limit::token`]; a long computation asks
/// [`Limit::check`] now and then. An `f` that does none of these takes as long as it takes.
///
/// Runs on the calling task or thread, and so may borrow. Limits may be nested: the inner one is the shorter of the two if it is
/// made with [`Limit::timeout`].
///
/// ```
/// use std::time::Duration;
/// use multi_goro::{chan, select, timeout};
///
/// let (tx, rx) = chan(2);
/// tx.send(20)?;
/// tx.send(22)?;
/// // Two values, in five seconds together.
/// let both = timeout(Duration::from_secs(5), |limit| {
///     Ok(rx.recv_timeout(limit.left())? + rx.recv_timeout(limit.left())?)
/// })?;
/// assert_eq!(both, Ok::<_, multi_goro::chan::RecvTimeoutError>(42));
///
/// // Nobody sends: the time runs out.
/// let late = timeout(Duration::from_millis(2), |limit| {
///     select! {
///         recv(rx) -> got => got.ok(),
///         after(limit.left()) => None,
///     }
/// });
/// assert_eq!(late.unwrap_err().into_inner(), None);
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// ```
/// use std::time::Duration;
///
/// let outer = multi_goro::timeout(Duration::from_secs(5), |limit| {
///     limit.timeout(Duration::from_millis(2), |inner| multi_goro::sleep(2 * inner.left()))
/// })?;
/// assert!(outer.is_err(), "the inner time was up, and the outer was not");
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// # Errors
///
/// [`TimedOut`] with what `f` returned, if the time was up by then: nothing is lost.
pub fn timeout<T>(duration: Duration, f: impl FnOnce(&Limit) -> T) -> Result<T, TimedOut<T>> {
    Limit::until(Instant::now().checked_add(duration)).run(f)
}

/// The end of the time of a [`timeout`].
pub struct Limit {
    /// `None`: beyond what the clock can count.
    until: Option<Instant>,
    token: OnceCell<Fired>,
}

/// A token, and what cancels it.
struct Fired {
    token: CancelToken,
    /// Taken back when the limit is gone.
    _alarm: Option<Alarm>,
}

impl Limit {
    fn until(until: Option<Instant>) -> Self {
        Self {
            until,
            token: OnceCell::new(),
        }
    }

    fn run<T>(&self, f: impl FnOnce(&Self) -> T) -> Result<T, TimedOut<T>> {
        let value = f(self);
        if self.is_over() {
            Err(TimedOut(value))
        } else {
            Ok(value)
        }
    }

    /// The time that is left; zero when it is up. [`Duration::MAX`] for a limit beyond what the clock can count.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// multi_goro::timeout(Duration::from_secs(5), |limit| {
    ///     assert!(limit.left() <= Duration::from_secs(5));
    ///     assert!(!limit.is_over());
    /// })?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Whether the time is up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Ends a computation with `?` when the time is up.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let late = multi_goro::timeout(Duration::from_millis(2), |limit| {
    ///     let mut sum = 0_u64;
    ///     loop {
    ///         limit.check()?;
    ///         sum = sum.wrapping_add(1);
    ///     }
    ///     #[expect(unreachable_code, reason = "names the type")]
    ///     Ok::<u64, multi_goro::TimedOut>(sum)
    /// });
    /// assert!(late.is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`] when the time is up.
    pub fn check(&self) -> Result<(), TimedOut> {
        if self.is_over() {
            Err(TimedOut(()))
        } else {
            Ok(())
        }
    }

    /// A token that is cancelled when the time is up, for tasks started inside and for waits that take one. It stays open if the
    /// limit is gone before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use multi_goro::{scope, timeout};
    ///
    /// let late = timeout(Duration::from_millis(2), |limit| {
    ///     let stop = limit.token();
    ///     scope(|s| s.go(|| Ok(stop.wait())))
    /// });
    /// assert!(late.unwrap_err().into_inner().is_ok());
    /// ```
    ///
    /// # Panics
    ///
    /// If the thread that cancels cannot be started.
    #[must_use]
    #[track_caller]
    pub fn token(&self) -> CancelToken {
        let fired = self.token.get_or_init(|| {
            let token = cancel_token();
            let ring = token.clone();
            let alarm = self.until.map(|until| {
                clock::at(until, move || ring.cancel())
                    .unwrap_or_else(|error| panic!("no thread for a limit's clock: {error}"))
            });
            Fired {
                token,
                _alarm: alarm,
            }
        });
        fired.token.clone()
    }

    /// A [`timeout`] inside this one: for `duration`, and no longer than this one lasts.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] with what `f` returned, if the shorter time was up by then.
    pub fn timeout<T>(
        &self,
        duration: Duration,
        f: impl FnOnce(&Self) -> T,
    ) -> Result<T, TimedOut<T>> {
        let own = Instant::now().checked_add(duration);
        Self::until(self.until.into_iter().chain(own).min()).run(f)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").field("left", &self.left()).finish()
    }
}

/// The time was up; here is what came too late.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimedOut<T = ()>(T);

impl<T> TimedOut<T> {
    /// What was returned, too late.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for TimedOut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimedOut")
    }
}

impl<T> fmt::Display for TimedOut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl<T> Error for TimedOut<T> {}
