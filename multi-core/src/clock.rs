//! One thread that calls a closure at a given time: deadlines and timeouts of tasks that cannot be interrupted.
//!
//! The thread starts with the first alarm and ends when it has had none for a moment. Closures must be short and must not
//! block: they share that thread. As any thread it inherits the CPU set, the scheduling policy and the signal mask of the one that
//! starts it: a program that confines its threads had better set its first deadline before.

use crate::lock::lock;
use crate::panic;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long the thread waits for another alarm before it ends: long enough that a loop of short groups starts it once.
const LINGER: Duration = Duration::from_millis(50);

static CLOCK: Mutex<State> = Mutex::new(State {
    alarms: BTreeMap::new(),
    next_serial: 0,
    has_thread: false,
});
static CHANGED: Condvar = Condvar::new();

struct State {
    alarms: BTreeMap<(Instant, u64), Box<dyn FnOnce() + Send>>,
    next_serial: u64,
    has_thread: bool,
}

/// Nanoseconds from a moment early in this process to `at`; zero before it, and the most there can be 584 years after it. What the ledger
/// notes a task's start in.
#[must_use]
pub fn ticks(at: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // Not what may be a deadline: whatever comes before that would be zero.
    let origin = *ORIGIN.get_or_init(Instant::now);
    let since = at.saturating_duration_since(origin);
    // Rather than a 128-bit product.
    since
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(since.subsec_nanos()))
}

/// A closure that will be called; dropping this takes it back, unless it is being called already.
#[must_use = "dropping the alarm takes it back"]
pub struct Alarm {
    key: (Instant, u64),
}

/// Calls `ring` at `when`, on the clock's thread.
///
/// # Errors
///
/// The error of starting the clock's thread, where it was not running: nothing is set then.
pub fn at(when: Instant, ring: impl FnOnce() + Send + 'static) -> io::Result<Alarm> {
    let mut state = lock(&CLOCK);
    if !state.has_thread {
        std::thread::Builder::new()
            .name("multi-clock".into())
            .spawn(run)?;
        state.has_thread = true;
    }
    let key = (when, state.next_serial);
    state.next_serial += 1;
    let sooner = state
        .alarms
        .first_key_value()
        .is_none_or(|(first, _)| key < *first);
    state.alarms.insert(key, Box::new(ring));
    drop(state);
    if sooner {
        CHANGED.notify_one();
    }
    Ok(Alarm { key })
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut state = lock(&CLOCK);
        let taken_back = state.alarms.remove(&self.key);
        let was_last = taken_back.is_some() && state.alarms.is_empty();
        drop(state);
        if was_last {
            // The thread sleeps until this alarm's time; it has nothing more to wait for.
            CHANGED.notify_one();
        }
        // Outside the lock: what the closure owns may set or drop alarms.
        drop(taken_back);
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm")
            .field("when", &self.key.0)
            .finish_non_exhaustive()
    }
}

/// Keeps the clock still while a process forks: see [`hold_for_fork`].
#[must_use = "dropping it lets the clock go on"]
pub struct Held {
    state: MutexGuard<'static, State>,
}

/// Stops the clock from changing until the result is dropped, so that a fork finds it whole.
///
/// The parent drops the result; the child, which has no clock thread, calls [`Held::in_child`].
pub fn hold_for_fork() -> Held {
    Held {
        state: lock(&CLOCK),
    }
}

impl Held {
    /// Forgets the alarms and the thread of the parent; the next alarm of this process starts a thread of its own.
    pub fn in_child(mut self) {
        self.state.has_thread = false;
        // Where there are none, the code that drops them is not worth its page faults in a child.
        if !self.state.alarms.is_empty() {
            let theirs = std::mem::take(&mut self.state.alarms);
            drop(self);
            drop(theirs);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

fn run() {
    let mut state = lock(&CLOCK);
    loop {
        let now = Instant::now();
        match state.alarms.first_key_value().map(|(&key, _)| key) {
            Some(key) if key.0 <= now => {
                let ring = state.alarms.remove(&key);
                drop(state);
                // A closure that panics has said so through the panic hook; the other alarms still ring.
                drop(panic::catch(|| ring.map(|ring| ring())));
                state = lock(&CLOCK);
            }
            Some((when, _)) => {
                state = CHANGED
                    .wait_timeout(state, when - now)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            None => {
                let (after, waited) = CHANGED
                    .wait_timeout(state, LINGER)
                    .unwrap_or_else(PoisonError::into_inner);
                state = after;
                if waited.timed_out() && state.alarms.is_empty() {
                    state.has_thread = false;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn ticks_of_any_instant_are_in_order() {
        let now = Instant::now();
        let ages = [0, 1, 1 << 33, 1 << 34, 1 << 35, 1 << 62]
            .map(|secs| now.checked_add(Duration::from_secs(secs)))
            .into_iter()
            .flatten();
        let ticks: Vec<_> = ages.rev().map(ticks).collect();
        assert!(ticks.is_sorted_by(|late, early| late >= early), "{ticks:?}");
        assert!(super::ticks(Instant::now()) < ticks[0]);
    }

    #[test]
    fn alarms_ring_in_order_and_not_early() {
        let (tx, rx) = mpsc::channel();
        let start = Instant::now();
        let alarms: Vec<_> = [30, 10, 20]
            .map(|ms| {
                let tx = tx.clone();
                at(start + Duration::from_millis(ms), move || {
                    tx.send((ms, Instant::now())).unwrap();
                })
                .unwrap()
            })
            .into();
        for expected in [10, 20, 30] {
            let (ms, rung) = rx.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(ms, expected);
            assert!(rung >= start + Duration::from_millis(ms));
        }
        drop(alarms);
    }

    #[test]
    fn dropped_alarm_stays_silent() {
        let (tx, rx) = mpsc::channel::<()>();
        drop(
            at(Instant::now() + Duration::from_millis(10), move || {
                tx.send(()).unwrap();
            })
            .unwrap(),
        );
        assert_eq!(
            rx.recv_timeout(Duration::from_secs(10)),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn clock_ends_soon_after_its_last_alarm_was_taken_back() {
        let far = at(Instant::now() + Duration::from_secs(3600), || {}).unwrap();
        drop(far);
        let until = Instant::now() + Duration::from_secs(10);
        // Other tests of this process may set alarms meanwhile.
        while lock(&CLOCK).has_thread {
            assert!(
                Instant::now() < until,
                "the clock waits for an alarm that was taken back"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn alarm_that_panics_does_not_stop_the_clock() {
        let (tx, rx) = mpsc::channel();
        let now = Instant::now();
        let bad = at(now, || panic!("on purpose: an alarm that panics")).unwrap();
        let good = at(now + Duration::from_millis(5), move || tx.send(()).unwrap()).unwrap();
        rx.recv_timeout(Duration::from_secs(10)).unwrap();
        drop((bad, good));
    }
}
