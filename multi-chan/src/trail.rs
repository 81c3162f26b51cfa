//! Where the ring's tail and head are: followed from slot to slot, with marks along the way.
//!
//! Slots are claimed in order, and a stamp tells whether its slot's turn has passed. So whoever knows
//! *any* earlier position finds the tail (or the head) by walking on. Two things shorten the walk. Each
//! handle remembers where it was last ([`Hint`], private memory). And the shared words `tail` and
//! `head` are raised at milestones (`Geometry::has_milestone`): they may be behind, by more than a lap if
//! participants died there, but never ahead, and never move back.

use crate::layout::{Geometry, Place, Stamp, State, laps_ahead};
use crate::plain::Plain;
use crate::ring::{Miss, Ring};
use crate::sync::{Acquire, AtomicU64, PrivateU64, Relaxed, Release};

/// A position of one handle: at or behind the tail (or head).
#[derive(Debug)]
pub(crate) struct Hint(PrivateU64);

impl Hint {
    /// The beginning: behind everything.
    pub(crate) fn start() -> Hint {
        Hint(PrivateU64::default())
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Acquire: pairs with the Release in `set` by another thread with the same handle: it sees
        // the stamps at least as new as the position says.
        self.0.load(Acquire)
    }

    #[inline]
    pub(crate) fn set(&self, position: u64) {
        // Release: pairs with the Acquire in `get`.
        self.0.store(position, Release);
    }
}

impl Clone for Hint {
    fn clone(&self) -> Self {
        let hint = Hint::start();
        hint.set(self.get());
        hint
    }
}

impl<T: Plain> Ring<T> {
    /// The position to try after an attempt at `position` failed, in a walk that began at `hint`.
    #[inline]
    pub(crate) fn after_miss<R>(
        &self,
        word: &AtomicU64,
        hint: &Hint,
        position: u64,
        miss: Miss<R>,
        corrupt: R,
    ) -> Result<u64, R> {
        let behind = matches!(miss, Miss::Behind);
        let next = match miss {
            Miss::Passed(count) => {
                let next = self.geometry().after(position, count);
                // Whoever claimed the milestone may be slow to raise the word, or dead.
                if self.geometry().has_milestone(position, count) {
                    self.raise(word, next);
                }
                next
            }
            Miss::Beaten => return Ok(position),
            Miss::Ahead(next) => next,
            Miss::Behind => position,
            Miss::Over(why) => return Err(why),
        };
        // Acquire: pairs with the Release in `raise`, so that stamps are seen at least as new as the
        // position says.
        let shared = word.load(Acquire);
        let (next, is_shared) = if Geometry::is_ahead(shared, next) {
            // The walk begins anew from here: a handle may have been idle for any number of laps.
            hint.set(shared);
            (shared, true)
        } else {
            (next, false)
        };
        // A slot behind the newest position there is: no participant writes that. Nor stamps that each are ahead of
        // the one before and lead round in a circle: a walk as long as half of all laps is one. (Another thread with
        // this handle may have raised the hint beyond `next`: then the way is negative.)
        let way = next.wrapping_sub(hint.get()) as i64;
        if behind && !is_shared || way > self.geometry().walk_max() {
            Err(corrupt)
        } else {
            Ok(next)
        }
    }

    /// Raises `word` to `target`, unless it is there already.
    #[inline]
    pub(crate) fn raise(&self, word: &AtomicU64, target: u64) {
        // Relaxed: only compared.
        let mut now = word.load(Relaxed);
        while Geometry::is_ahead(target, now) {
            // Release: hands on the stamps that were seen or written up to here; pairs with the
            // Acquire in `after_miss`. Relaxed on failure: only compared.
            match word.compare_exchange_weak(now, target, Release, Relaxed) {
                Ok(_) => return,
                Err(newer) => now = newer,
            }
        }
    }

    /// What a stamp of another lap, at least two ahead or behind, says about `position`.
    pub(crate) fn another_lap<R>(&self, position: u64, place: Place, stamp: Stamp) -> Miss<R> {
        let laps = laps_ahead(stamp.lap, place.lap);
        if laps <= 0 {
            return Miss::Behind;
        }
        // The slot's turn in the lap before its stamp's has passed, for senders and receivers.
        let passed = position.wrapping_add((laps as u64 - 1) << self.geometry().lap_shift);
        Miss::Ahead(self.geometry().after(passed, 1))
    }

    /// The position of the next claim by a sender, as far as can be seen.
    pub(crate) fn true_tail(&self) -> u64 {
        self.walk(&self.header().tail.0, |state| {
            !matches!(state, State::Free | State::Sealed)
        })
    }

    /// The position of the next claim by a receiver, as far as can be seen; a dead sender's slot that
    /// nobody has stepped over yet is passed, too.
    pub(crate) fn true_head(&self) -> u64 {
        self.walk(&self.header().head.0, |state| {
            matches!(state, State::Taking | State::Skip | State::Returned)
        })
    }

    /// Walks on from `word` past every slot whose stamp is ahead, or is of the same lap and `passed`.
    fn walk(&self, word: &AtomicU64, passed: impl Fn(State) -> bool) -> u64 {
        // Acquire: as in `after_miss`.
        let mut position = word.load(Acquire);
        // More steps than that, and somebody is faster than we are (or scribbles).
        for _ in 0..=2 * self.geometry().ring_len {
            let Some((place, slot)) = self.at(position) else {
                break;
            };
            // Acquire: the walk goes on to the slots that its owner saw.
            let Some(stamp) = Stamp::read(slot.stamp.load(Acquire)) else {
                break;
            };
            position = match laps_ahead(stamp.lap, place.lap) {
                0 if passed(stamp.state) => match self.run_len(place.index, stamp) {
                    Some(len) => self.geometry().after(position, len),
                    None => break,
                },
                1.. => match self.another_lap::<()>(position, place, stamp) {
                    Miss::Ahead(next) => next,
                    _ => break,
                },
                _ => break,
            };
        }
        position
    }
}
