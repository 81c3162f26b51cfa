//! Where the one who offered something meets the thief that took it: one waits for the other, or finds it done.

use crate::sync::{AtomicU32, Ordering::*};

const OFFERED: u32 = 0;
const AWAITED: u32 = 1;
const DONE: u32 = 2;

/// How far the taking of an offer is. Used only once the deque said that the offer was stolen.
///
/// | value   | meaning                                                         | left by                            |
/// | ------- | --------------------------------------------------------------- | ---------------------------------- |
/// | OFFERED | the thief is at it, and nobody waits                             | its owner, the thief                |
/// | AWAITED | the owner parks, or is about to: the thief owes it one unpark    | the thief                           |
/// | DONE    | the thief has left its result and touches the offer no more      | nobody                              |
#[derive(Debug)]
pub(crate) struct OfferWord(AtomicU32);

/// What the owner of a stolen offer does.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Await {
    /// The result is there.
    Done,
    /// Park: one unpark is owed.
    Park,
}

/// What a thief does after it has left its result.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Nobody waits yet. The offer may be gone.
    Nothing,
    /// Unpark the owner, whose offer is there until then.
    Unpark,
}

impl OfferWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(OFFERED))
    }

    /// The owner needs the result now, and has said where it parks.
    pub(crate) fn wait(&self) -> Await {
        // AcqRel: Release publishes where the owner parks to `finish`; Acquire pairs with the Release there: the result is seen.
        match self.0.swap(AWAITED, AcqRel) {
            OFFERED => Await::Park,
            state => {
                debug_assert_eq!(state, DONE, "waited for twice");
                Await::Done
            }
        }
    }

    /// The thief has left its result.
    pub(crate) fn finish(&self) -> Finish {
        // AcqRel: Release publishes the result to `wait`, or to the unparked owner; Acquire pairs with the Release there: where the owner
        // parks is seen.
        match self.0.swap(DONE, AcqRel) {
            OFFERED => Finish::Nothing,
            state => {
                debug_assert_eq!(state, AWAITED, "finished twice");
                Finish::Unpark
            }
        }
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    #[expect(
        unsafe_code,
        reason = "the cells stand for the owner's waiter and the thief's result"
    )]
    fn put(cell: &UnsafeCell<u32>, value: u32) {
        // SAFETY: loom reports a race here as a failure.
        cell.with_mut(|place| unsafe { *place = value });
    }

    #[expect(unsafe_code, reason = "as in `put`")]
    fn get(cell: &UnsafeCell<u32>) -> u32 {
        // SAFETY: as in `put`.
        cell.with(|place| unsafe { *place })
    }

    /// The owner finds the result, or exactly one unpark is owed and its parking place is seen. Bounds: two threads.
    #[test]
    fn owner_finds_the_result_or_is_owed_one_unpark() {
        loom::model(|| {
            let shared = Arc::new((OfferWord::new(), UnsafeCell::new(0), UnsafeCell::new(0)));
            let thief = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    put(&shared.2, 42);
                    let finish = shared.0.finish();
                    if finish == Finish::Unpark {
                        assert_eq!(get(&shared.1), 7);
                    }
                    finish
                })
            };
            put(&shared.1, 7);
            match shared.0.wait() {
                Await::Done => {
                    assert_eq!(get(&shared.2), 42);
                    assert_eq!(thief.join().unwrap(), Finish::Nothing);
                }
                Await::Park => assert_eq!(thief.join().unwrap(), Finish::Unpark),
            }
        });
    }
}
