//! Parking: the word by which one wait of a task or thread meets the one unpark that it is owed.
//!
//! A wait is announced somewhere (in a channel's queue, say) before it parks; whoever takes the announcement away owes
//! exactly one [`unpark`](TaskWord::unpark), and nobody else may call it. The waiter does not leave before it has
//! consumed that unpark. So no wake is spurious, and no unparker touches a waiter that is gone.

use crate::sync::{AtomicU32, Ordering::*};

const EMPTY: u32 = 0;
const TOKEN: u32 = 1;
const PARKED: u32 = 2;
const BLOCKED: u32 = 3;

/// The parking state of one task or thread.
///
/// | value   | meaning                                                          | left by                             |
/// | ------- | ---------------------------------------------------------------- | ----------------------------------- |
/// | EMPTY   | running or ready; no unpark has come                              | its owner, an unparker              |
/// | TOKEN   | the unpark has come; a parked task is on its way to its worker    | its owner, by consuming it          |
/// | PARKED  | a task that has left, or is leaving, its stack                    | the unparker, its own worker's timer|
/// | BLOCKED | a thread that sleeps, or is about to sleep, on this very word     | the unparker, the thread's timeout  |
#[derive(Debug)]
pub(crate) struct TaskWord(AtomicU32);

/// What a waiter does after announcing that it parks.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Park {
    /// The unpark had come already, and is consumed: go on.
    Already,
    /// Leave the stack, or sleep while the word reads [`TaskWord::BLOCKED`].
    Go,
}

/// What an unparker does next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unpark {
    /// It has not parked yet, and will see the token.
    Nothing,
    /// Make the task ready on its worker.
    Enqueue,
    /// Wake the thread that sleeps on the word. It may be gone by then: use the address only.
    Wake,
}

impl TaskWord {
    /// The value a blocked thread sleeps on.
    pub(crate) const BLOCKED: u32 = BLOCKED;

    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(EMPTY))
    }

    /// The word itself, for the kernel to compare.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    fn park_as(&self, how: u32) -> Park {
        // Release: what the waiter did before it parked is seen by who unparks it. Pairs with the AcqRel swap in `unpark`.
        // Acquire on failure: pairs with the same swap's release, so that what the unparker did before is seen.
        match self.0.compare_exchange(EMPTY, how, Release, Acquire) {
            Ok(_) => Park::Go,
            Err(state) => {
                debug_assert_eq!(state, TOKEN);
                // Relaxed: the one unpark of this wait has come; nobody else writes until the next wait is announced.
                self.0.store(EMPTY, Relaxed);
                Park::Already
            }
        }
    }

    /// Announces that this task leaves its stack. Its owner only.
    pub(crate) fn park(&self) -> Park {
        self.park_as(PARKED)
    }

    /// Announces that this thread goes to sleep on the word. Its owner only.
    pub(crate) fn block(&self) -> Park {
        self.park_as(BLOCKED)
    }

    /// Whether the token has come. Its owner only, before it parks.
    pub(crate) fn has_token(&self) -> bool {
        // Relaxed: `consume` follows, which acquires.
        self.0.load(Relaxed) == TOKEN
    }

    /// Consumes the token if it has come. Its owner only; a task does this once it is resumed, a thread when it wakes.
    pub(crate) fn consume(&self) -> bool {
        // Acquire: pairs with the swap in `unpark`; what the unparker did before is seen.
        if self.0.load(Acquire) == TOKEN {
            // Relaxed: as in `park_as`.
            self.0.store(EMPTY, Relaxed);
            true
        } else {
            false
        }
    }

    /// Takes the announcement back: the wait timed out. False if the unpark came first; then it is consumed by `consume`.
    ///
    /// Called for a task by its own worker's timer, for a thread by itself.
    pub(crate) fn give_up(&self) -> bool {
        // Relaxed: only the owner's thread gets here, and success passes nothing on; a failure is followed by `consume`.
        let state = self.0.load(Relaxed);
        // Relaxed, both: as above.
        (state == PARKED || state == BLOCKED)
            && self
                .0
                .compare_exchange(state, EMPTY, Relaxed, Relaxed)
                .is_ok()
    }

    /// Whether a task or thread waits, for reports.
    pub(crate) fn is_waiting(&self) -> bool {
        // Relaxed: what a report says of one moment.
        matches!(self.0.load(Relaxed), PARKED | BLOCKED)
    }

    /// Whether a task has left its stack and waits; false for one that has not parked yet and for a thread.
    pub(crate) fn is_parked(&self) -> bool {
        // Relaxed: who acts on it is on the parked task's own thread, or goes on to `unpark`.
        self.0.load(Relaxed) == PARKED
    }

    /// Delivers the one unpark to a task that [`is_parked`](Self::is_parked), on the thread of its own worker: the only other one who could
    /// change the word then is that worker's timer. The caller makes the task ready.
    pub(crate) fn unpark_here(&self) {
        debug_assert!(self.is_parked());
        // Relaxed: read on this very thread.
        self.0.store(TOKEN, Relaxed);
    }

    /// Delivers the one unpark that a wait is owed.
    pub(crate) fn unpark(&self) -> Unpark {
        // AcqRel: release pairs with the Acquire in `consume` and `park_as`; acquire pairs with the Release in `park_as`.
        match self.0.swap(TOKEN, AcqRel) {
            PARKED => Unpark::Enqueue,
            BLOCKED => Unpark::Wake,
            state => {
                debug_assert_eq!(state, EMPTY, "unparked twice");
                Unpark::Nothing
            }
        }
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// One waiter, one unparker; the payload is seen. Bounds: two threads, one wait.
    #[test]
    fn unpark_is_seen_whichever_comes_first() {
        loom::model(|| {
            let shared = Arc::new((TaskWord::new(), AtomicUsize::new(0)));
            let other = Arc::clone(&shared);
            let unparker = thread::spawn(move || {
                other.1.store(42, Relaxed);
                other.0.unpark()
            });
            match shared.0.park() {
                Park::Already => {
                    assert_eq!(shared.1.load(Relaxed), 42);
                    assert_eq!(unparker.join().unwrap(), Unpark::Nothing);
                }
                Park::Go => {
                    assert_eq!(unparker.join().unwrap(), Unpark::Enqueue);
                    assert!(shared.0.consume());
                    assert_eq!(shared.1.load(Relaxed), 42);
                }
            }
        });
    }

    /// A timeout against the unpark: exactly one of them ends the wait. Bounds: two threads, one wait.
    #[test]
    fn timeout_and_unpark_never_both_win() {
        loom::model(|| {
            let word = Arc::new(TaskWord::new());
            let other = Arc::clone(&word);
            assert_eq!(word.park(), Park::Go);
            let unparker = thread::spawn(move || other.unpark());
            let gave_up = word.give_up();
            let unpark = unparker.join().unwrap();
            assert_eq!(gave_up, unpark == Unpark::Nothing);
            // Either way exactly one token is left to consume.
            assert!(word.consume());
            assert!(!word.consume());
        });
    }
}
