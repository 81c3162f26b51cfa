//! What waiting means: a backend's way of putting the caller to sleep until told.

use crate::lock::lock;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// An event count: sleepers take a key, look at their condition, and sleep only while the key is still the current one.
///
/// The backend supplies it: a green task parks and gives its worker away, a thread sleeps, the owner of forked processes
/// watches them while it waits. Use it in this order, so that no notification falls between the look and the sleep:
///
/// ```
/// use multi_core::{Event, ThreadEvent};
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// fn wait_for(flag: &AtomicBool, event: &dyn Event) {
///     loop {
///         let key = event.key();
///         if flag.load(Ordering::Acquire) {
///             return;
///         }
///         event.wait(key, None);
///     }
/// }
///
/// let (flag, event) = (AtomicBool::new(false), ThreadEvent::new());
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         flag.store(true, Ordering::Release);
///         event.notify();
///     });
///     wait_for(&flag, &event);
/// });
/// ```
pub trait Event: Send + Sync + fmt::Debug + 'static {
    /// The current key. Take it before looking at the condition.
    fn key(&self) -> u64;

    /// Blocks the calling task or thread until [`notify`](Self::notify) is called after `key` was taken, or `until` has
    /// passed. May return early for no reason: look at the condition again.
    fn wait(&self, key: u64, until: Option<Instant>);

    /// Makes every key taken so far old and wakes all who wait on one.
    fn notify(&self);

    /// The time in [`ticks`](crate::clock::ticks), for reports: it may lag by a few milliseconds where that is cheaper to have, and is
    /// never ahead. Read once for each task that starts.
    fn ticks(&self) -> u64 {
        crate::clock::ticks(Instant::now())
    }

    /// A new event of the same kind: for what is derived from something that waits on this one. The default is that of threads.
    fn fresh(&self) -> Arc<dyn Event> {
        Arc::new(ThreadEvent::new())
    }
}

/// The [`Event`] of plain threads: a mutex and a condition variable.
///
/// A green task that waits on it blocks its worker; a green backend brings an event of its own.
#[derive(Debug, Default)]
pub struct ThreadEvent {
    state: Mutex<State>,
    notified: Condvar,
}

#[derive(Debug, Default)]
struct State {
    key: u64,
    /// Threads in `wait`; spares the system call of a wake that nobody needs.
    sleepers: usize,
}

impl ThreadEvent {
    /// An event nobody has notified yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Event for ThreadEvent {
    fn key(&self) -> u64 {
        lock(&self.state).key
    }

    fn wait(&self, key: u64, until: Option<Instant>) {
        let mut state = lock(&self.state);
        state.sleepers += 1;
        while state.key == key {
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => {
                    state = self
                        .notified
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    state = self
                        .notified
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
        state.sleepers -= 1;
    }

    fn notify(&self) {
        let mut state = lock(&self.state);
        state.key += 1;
        if state.sleepers > 0 {
            self.notified.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn old_key_does_not_sleep() {
        let event = ThreadEvent::new();
        let key = event.key();
        event.notify();
        event.wait(key, None);
    }

    #[test]
    fn wait_is_not_early() {
        let event = ThreadEvent::new();
        let start = Instant::now();
        event.wait(event.key(), Some(start + Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn notify_wakes_every_sleeper() {
        let event = ThreadEvent::new();
        let key = event.key();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| event.wait(key, None));
            }
            event.notify();
        });
    }
}
