//! The ring: positions, claims, stamps. No waiting, no notion of processes.
//!
//! A participant claims a slot by writing *its own row number* into the slot's stamp. A claim
//! therefore says whose it is from its first instant, and if that process is dead any survivor can
//! undo the claim with one exchange. The states and the proofs are in `README.md`.

#![expect(unsafe_code, reason = "a view of a mapping goes to other threads")]

use crate::kill::{self, KillPoint};
use crate::layout::{Geometry, Owner, Place, RUN_MAX, Slot, Stamp, State, lap_after, lap_before};
use crate::plain::Plain;
use crate::sync::{AcqRel, Acquire, Relaxed, Release, SeqCst, order_before_post};
use crate::trail::Hint;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Why a value did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Every slot is in use; the next one may be in the hands of a receiver.
    Full { taker: Option<Owner> },
    /// The channel is closed and drained.
    Sealed,
    /// The mapping holds what no participant writes.
    Corrupt,
}

/// Why no value came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// No sender has claimed the next slot.
    Empty,
    /// A sender has claimed the next slot and not yet published it.
    Pending { owner: Owner },
    /// The channel is closed and drained.
    Sealed,
    /// The mapping holds what no participant writes.
    Corrupt,
}

/// A slot that this process has claimed: BUSY or TAKING with its row number.
///
/// It is used up by `publish`, `withdraw` or `free`; copies exist because it is two words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) position: u64,
    pub(crate) owner: Owner,
    place: Place,
}

impl Claim {
    /// The claim of a slot that is not next in turn.
    pub(crate) fn at(position: u64, owner: Owner, index: usize, lap: u64) -> Claim {
        Claim {
            position,
            owner,
            place: Place { index, lap },
        }
    }

    pub(crate) fn index(self) -> usize {
        self.place.index
    }

    pub(crate) fn lap(self) -> u64 {
        self.place.lap
    }
}

/// What became of a value that was sent in a rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for a receiver, the first or, after the death of that one, the next.
    Offered,
    /// A receiver has claimed it, and nobody has seen it yet.
    Taken { by: Owner },
    /// A receiver has it.
    Received,
}

/// Slots in a row that this process has claimed together; see *Runs* in `README.md`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) first: Claim,
    pub(crate) len: usize,
}

impl Run {
    /// The claim of one of the slots; the first is 0.
    #[inline]
    pub(crate) fn nth(self, nth: usize) -> Claim {
        debug_assert!(nth < self.len);
        let Claim {
            position,
            owner,
            place,
        } = self.first;
        Claim::at(
            position.wrapping_add(nth as u64),
            owner,
            place.index + nth,
            place.lap,
        )
    }
}

/// Why one attempt at one position led nowhere.
pub(crate) enum Miss<R> {
    /// The position is used up, and so many in all: the one after them, then.
    Passed(usize),
    /// Somebody was faster: look again.
    Beaten,
    /// The slot is laps ahead: this position is used up, and all before the named one.
    Ahead(u64),
    /// The slot is behind: the position is nothing that a participant says, or there is a newer one.
    Behind,
    Over(R),
}

/// One process's view of the slots.
pub(crate) struct Ring<T> {
    base: NonNull<u8>,
    geometry: Geometry,
    _values: PhantomData<T>,
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ring<T> {}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

// SAFETY: all shared access goes through atomics and through slots owned by claim; `T: Plain` values
// are copied in and out, never lent.
unsafe impl<T: Plain> Send for Ring<T> {}

// SAFETY: as for `Send`.
unsafe impl<T: Plain> Sync for Ring<T> {}

impl<T: Plain> Ring<T> {
    /// A view of the channel at `base`.
    ///
    /// # Safety
    /// - `base` points to `geometry.map_bytes` bytes, page aligned, readable and writable, that
    ///   were all zero when the first view was made and are touched through views alone.
    /// - they stay so for as long as this view or a copy of it is used.
    /// - `geometry` was made for `T`.
    pub(crate) unsafe fn new(base: NonNull<u8>, geometry: Geometry) -> Ring<T> {
        Ring {
            base,
            geometry,
            _values: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Claims the next free slot for the row `owner`, to be published or withdrawn.
    #[inline(always)]
    pub(crate) fn claim_room(&self, owner: Owner, hint: &Hint) -> Result<Claim, Refused> {
        let tail = &self.header().tail.0;
        let mut position = hint.get();
        loop {
            match self.seize_room(owner, position, 1) {
                Ok(run) => {
                    hint.set(self.geometry().after(position, 1));
                    return Ok(run.first);
                }
                Err(miss) => match self.after_miss(tail, hint, position, miss, Refused::Corrupt) {
                    Ok(next) => position = next,
                    Err(why) => {
                        hint.set(position);
                        return Err(why);
                    }
                },
            }
        }
    }

    /// Lets receivers have the value in a slot that was claimed by `claim_room`.
    #[inline]
    pub(crate) fn publish(&self, claim: Claim) {
        self.show(claim);
        if self.geometry().has_milestone(claim.position, 1) {
            let next = self.geometry().after(claim.position, 1);
            self.raise(&self.header().tail.0, next);
            kill::reached(KillPoint::TailMoved);
        }
    }

    /// Gives up a slot that was claimed by `claim_room`: others step over it, as over a dead sender's.
    ///
    /// The caller posts both events afterwards: a receiver may wait for what comes behind, a sender for
    /// the slot.
    pub(crate) fn withdraw(&self, claim: Claim) {
        let skip = Stamp::new(claim.place.lap, 0, State::Skip).bits();
        // Release: stands for a publish. Pairs with the Acquire loads in `seize_value` and `seize_room`.
        self.slot(claim.place.index).stamp.store(skip, Release);
        kill::reached(KillPoint::Withdrawn);
    }

    /// Puts `value` in as the row `owner`.
    #[cfg(all(test, loom))]
    pub(crate) fn push(&self, owner: Owner, value: &T, hint: &Hint) -> Result<Claim, Refused> {
        let claim = self.claim_room(owner, hint)?;
        self.write(claim, value);
        self.publish(claim);
        Ok(claim)
    }

    /// Claims the next value for the row `owner`, to be read and then freed.
    #[inline(always)]
    pub(crate) fn claim_value(&self, owner: Owner, hint: &Hint) -> Result<Claim, Nothing> {
        if self.may_have_returned()
            && let Some(claim) = self.claim_returned(owner)
        {
            return Ok(claim);
        }
        let head = &self.header().head.0;
        let mut position = hint.get();
        loop {
            match self.seize_value(owner, position, 1) {
                Ok(run) => {
                    hint.set(self.geometry().after(position, 1));
                    return Ok(run.first);
                }
                Err(miss) => match self.after_miss(head, hint, position, miss, Nothing::Corrupt) {
                    Ok(next) => position = next,
                    Err(why) => {
                        hint.set(position);
                        return Err(why);
                    }
                },
            }
        }
    }

    /// Lets senders have a slot that was claimed by `claim_value`: its message is done with.
    #[inline]
    pub(crate) fn free(&self, claim: Claim) {
        self.clear(claim);
        if self.geometry().has_milestone(claim.position, 1) {
            let next = self.geometry().after(claim.position, 1);
            self.raise(&self.header().head.0, next);
            kill::reached(KillPoint::HeadMoved);
        }
    }

    /// Takes the next value out as the row `owner`.
    #[cfg(all(test, loom))]
    pub(crate) fn pop(&self, owner: Owner, hint: &Hint) -> Result<T, Nothing> {
        let claim = self.claim_value(owner, hint)?;
        let value = self.read(claim);
        self.free(claim);
        Ok(value)
    }

    /// Ends a closed channel at the head if nothing is left in it; true once it has ended.
    ///
    /// `hint` is where a `pop` has just found nothing.
    ///
    /// A sender that passed the closed flag in time may still claim the slot first: then this
    /// fails, and there is one more message to receive.
    pub(crate) fn seal(&self, hint: &Hint) -> bool {
        let Some((place, slot)) = self.at(hint.get()) else {
            return false;
        };
        let free = Stamp::new(place.lap, 0, State::Free).bits();
        let sealed = Stamp::new(place.lap, 0, State::Sealed).bits();
        // AcqRel: the last word of the ring; whoever reads it sees all that came before.
        // Acquire on failure: pairs with the exchange of another sealer.
        match slot.stamp.compare_exchange(free, sealed, AcqRel, Acquire) {
            Ok(_) => true,
            Err(now) => now == sealed,
        }
    }

    /// What became of the value that was sent as `sent` in a rendezvous.
    pub(crate) fn fate(&self, sent: Claim) -> Fate {
        let lap = sent.place.lap;
        // Acquire: pairs with the receiver's store in `clear`, so that what the receiver did before it was done with the value
        // is seen by who waited for it.
        let stamp = Stamp::read(self.slot(sent.place.index).stamp.load(Acquire));
        match stamp.filter(|stamp| stamp.lap == lap) {
            Some(Stamp {
                state: State::Full, ..
            }) => Fate::Offered,
            Some(stamp) if stamp.state == State::Taking && !self.was_handed_out(lap) => {
                Fate::Taken { by: stamp.owner }
            }
            Some(stamp) if stamp.state == State::Returned && !self.was_handed_out(lap) => {
                Fate::Offered
            }
            _ => Fate::Received,
        }
    }

    /// Takes back the value that was sent as `sent` in a rendezvous; false if a receiver has it, or is about to.
    pub(crate) fn retract(&self, sent: Claim) -> bool {
        debug_assert!(self.geometry.is_rendezvous);
        let position = sent.position;
        let head = &self.header().head.0;
        // Receivers claim at the head only; this claims at a position. Whoever received the value
        // before this one may not have moved the head yet (or be dead): nobody shall find it two
        // laps behind.
        self.raise(head, position);
        let taken = match self.seize_value(sent.owner, position, 1) {
            Ok(run) => run.first,
            Err(_) => match self.reclaim(sent) {
                Some(claim) => claim,
                None => return false,
            },
        };
        self.clear(taken);
        self.raise(head, self.geometry().after(position, 1));
        true
    }

    /// True if the next `pop` would find a value.
    pub(crate) fn has_value(&self) -> bool {
        self.may_have_returned()
            || self.at(self.true_head()).is_some_and(|(place, slot)| {
                // Relaxed: a hint; whoever acts on it claims the slot first.
                slot.stamp.load(Relaxed) == Stamp::new(place.lap, 0, State::Full).bits()
            })
    }

    /// True if the next `push` would find room.
    pub(crate) fn has_room(&self) -> bool {
        self.at(self.true_tail()).is_some_and(|(place, slot)| {
            // Relaxed: a hint, as in `has_value`.
            slot.stamp.load(Relaxed) == Stamp::new(place.lap, 0, State::Free).bits()
        })
    }

    /// Values in the ring, counting claims; out of date as soon as it is known.
    pub(crate) fn len(&self) -> usize {
        let head = self.true_head();
        self.geometry().distance(head, self.true_tail()) + self.returned_count()
    }

    /// Claims the slot at `position` for sending, and up to `wanted` in all that follow it.
    #[inline(always)]
    pub(crate) fn seize_room(
        &self,
        owner: Owner,
        position: u64,
        wanted: usize,
    ) -> Result<Run, Miss<Refused>> {
        let (place, slot) = self.at(position).ok_or(Miss::Over(Refused::Corrupt))?;
        // Acquire: pairs with the Release that freed the slot in `clear`: its reader is done.
        let bits = slot.stamp.load(Acquire);
        if bits != Stamp::new(place.lap, 0, State::Free).bits() {
            return Err(self.why_not_filled(position, place, slot, bits));
        }
        let run_log = self.run_log(place, bits, wanted);
        let busy = Stamp::of_run(place.lap, owner, State::Busy, run_log).bits();
        // SeqCst: as Release, our name in the table comes before our claim (pairs with the Acquire load
        // in `sweep`); and in the one order of SeqCst operations the claim comes before our look at
        // the event: pairs with the fence in `Event::arm`.
        // Relaxed on failure: somebody else has the slot.
        if slot
            .stamp
            .compare_exchange(bits, busy, SeqCst, Relaxed)
            .is_err()
        {
            return Err(Miss::Beaten);
        }
        order_before_post();
        kill::reached(KillPoint::Claimed);
        Ok(Run {
            first: Claim {
                position,
                owner,
                place,
            },
            len: 1 << run_log,
        })
    }

    /// Publishes a claimed slot.
    #[inline]
    pub(crate) fn show(&self, claim: Claim) {
        if self.redelivers() {
            // Relaxed: published with the stamp, as the value is.
            self.attempts_word(claim).store(0, Relaxed);
        }
        // Release: publishes the value. Pairs with the Acquire load in `seize_value`.
        self.slot(claim.place.index)
            .stamp
            .store(Stamp::new(claim.place.lap, 0, State::Full).bits(), Release);
        kill::reached(KillPoint::Published);
    }

    /// Claims the value at `position`, and up to `wanted` in all that follow it.
    #[inline(always)]
    pub(crate) fn seize_value(
        &self,
        owner: Owner,
        position: u64,
        wanted: usize,
    ) -> Result<Run, Miss<Nothing>> {
        let (place, slot) = self.at(position).ok_or(Miss::Over(Nothing::Corrupt))?;
        // Acquire: pairs with the Release store in `show`: the value is whole.
        let bits = slot.stamp.load(Acquire);
        if bits != Stamp::new(place.lap, 0, State::Full).bits() {
            return Err(self.why_not_emptied(position, place, slot, bits));
        }
        let run_log = self.run_log(place, bits, wanted);
        let taking = Stamp::of_run(place.lap, owner, State::Taking, run_log).bits();
        // SeqCst: as Release, a survivor sees our name before our claim: pairs with the Acquire load in `sweep`. And as in `seize_room`, the claim
        // comes before our look at the event: pairs with the fence in `Event::arm`.
        // Relaxed on failure: another receiver has it.
        if slot
            .stamp
            .compare_exchange(bits, taking, SeqCst, Relaxed)
            .is_err()
        {
            return Err(Miss::Beaten);
        }
        order_before_post();
        kill::reached(KillPoint::Taken);
        Ok(Run {
            first: Claim {
                position,
                owner,
                place,
            },
            len: 1 << run_log,
        })
    }

    /// The length of a run that may be claimed at `place`, whose stamp is `bits`, as a logarithm: no more than `wanted`,
    /// and as far as slots of the same lap hold the same.
    #[inline(always)]
    fn run_log(&self, place: Place, bits: u64, wanted: usize) -> u32 {
        if wanted < 2 {
            // Known while compiling, where one slot is claimed.
            return 0;
        }
        let most = wanted
            .min(self.geometry.ring_len - place.index)
            .min(RUN_MAX);
        let most = 1 << most.ilog2();
        // Acquire: for each slot what the look at the first one is for that.
        let is_alike = |nth: &usize| self.slot(place.index + nth).stamp.load(Acquire) == bits;
        (1 + (1..most).take_while(is_alike).count()).ilog2()
    }

    /// The slots of the run that the stamp of slot `index` speaks of; `None` if they lead out of the ring, which only a
    /// corrupt mapping can say.
    pub(crate) fn run_len(&self, index: usize, stamp: Stamp) -> Option<usize> {
        let len = stamp.run_len();
        (len <= self.geometry.ring_len - index).then_some(len)
    }

    /// Frees a slot whose value was claimed.
    #[inline]
    pub(crate) fn clear(&self, claim: Claim) {
        let free = Stamp::new(lap_after(claim.place.lap), 0, State::Free).bits();
        // Release: our reading is done. Pairs with the Acquire load in `seize_room`.
        self.slot(claim.place.index).stamp.store(free, Release);
        kill::reached(KillPoint::Freed);
    }

    /// Why the slot at `position`, which holds `bits`, is not free for it.
    #[cold]
    pub(crate) fn why_not_filled(
        &self,
        position: u64,
        place: Place,
        slot: &Slot,
        bits: u64,
    ) -> Miss<Refused> {
        let Some(stamp) = Stamp::read(bits) else {
            return Miss::Over(Refused::Corrupt);
        };
        if stamp.lap == place.lap {
            return match stamp.state {
                // Free and yet not the bits that say so: it names an owner.
                State::Free => Miss::Over(Refused::Corrupt),
                State::Sealed => Miss::Over(Refused::Sealed),
                State::Busy | State::Taking => self
                    .run_len(place.index, stamp)
                    .map_or(Miss::Over(Refused::Corrupt), Miss::Passed),
                State::Full | State::Skip | State::Returned => Miss::Passed(1),
            };
        }
        if stamp.lap == lap_before(place.lap) {
            return match stamp.state {
                State::Free | State::Sealed => Miss::Behind,
                State::Taking => Miss::Over(Refused::Full {
                    taker: Some(stamp.owner),
                }),
                State::Busy | State::Full | State::Returned => {
                    Miss::Over(Refused::Full { taker: None })
                }
                // All before it are used up, or nobody would look for room here: it is the head, and no
                // receiver has stepped over it yet.
                State::Skip => {
                    self.step_over(place.lap, slot, bits);
                    Miss::Beaten
                }
            };
        }
        self.another_lap(position, place, stamp)
    }

    /// Why the slot at `position`, which holds `bits`, has no value to take.
    #[cold]
    pub(crate) fn why_not_emptied(
        &self,
        position: u64,
        place: Place,
        slot: &Slot,
        bits: u64,
    ) -> Miss<Nothing> {
        let Some(stamp) = Stamp::read(bits) else {
            return Miss::Over(Nothing::Corrupt);
        };
        if stamp.lap == lap_before(place.lap)
            && matches!(stamp.state, State::Taking | State::Returned)
        {
            // The receiver of a lap ago still has the slot, or gave it back: nobody can have sent yet.
            return Miss::Over(Nothing::Empty);
        }
        if stamp.lap != place.lap {
            return self.another_lap(position, place, stamp);
        }
        match stamp.state {
            // Full and yet not the bits that say so: it names an owner.
            State::Full => Miss::Over(Nothing::Corrupt),
            State::Free => Miss::Over(Nothing::Empty),
            State::Busy => Miss::Over(Nothing::Pending { owner: stamp.owner }),
            State::Sealed => Miss::Over(Nothing::Sealed),
            State::Taking => self
                .run_len(place.index, stamp)
                .map_or(Miss::Over(Nothing::Corrupt), Miss::Passed),
            State::Returned => Miss::Passed(1),
            State::Skip => {
                if !self.step_over(lap_after(place.lap), slot, bits) {
                    return Miss::Beaten;
                }
                // Room that no receive will tell the senders of.
                self.header().freed.0.post_all();
                Miss::Passed(1)
            }
        }
    }

    /// Frees the slot of a withdrawn or dead sender, which `bits` says it is, for the lap `next_lap`; false if
    /// another was faster.
    fn step_over(&self, next_lap: u64, slot: &Slot, bits: u64) -> bool {
        let free = Stamp::new(next_lap, 0, State::Free).bits();
        // AcqRel: stands for freeing the slot, so it hands on what the recoverer saw.
        // Relaxed on failure: another stepped over it.
        slot.stamp
            .compare_exchange(bits, free, AcqRel, Relaxed)
            .is_ok()
    }
}
