//! The ring: positions, claims, stamps. No waiting, no notion of processes.
//!
//! A participant claims a slot by writing *its own row number* into the slot's stamp. A claim
//! therefore says whose it is from its first instant, and if that process is dead any survivor can
//! undo the claim with one exchange. The states and the proofs are in `README.md`.

#![expect(
    unsafe_code,
    reason = "slots are plain memory, written by whoever claimed them"
)]

use crate::kill::{self, KillPoint};
use crate::layout::{Geometry, Header, Place, Slot, Stamp, State, lap_after, lap_before};
use crate::plain::Plain;
use crate::sync::{AcqRel, Acquire, AtomicU64, Relaxed, Release, SeqCst, fence, order_before_post};
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Why a value did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Every slot is in use; the next one may be in the hands of a receiver.
    Full { taker: Option<u16> },
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
    Pending { owner: u16 },
    /// The channel is closed and drained.
    Sealed,
    /// The mapping holds what no participant writes.
    Corrupt,
}

/// Why one attempt at one position led nowhere.
enum Miss<R> {
    /// The position is used up; the tail or head may be behind: help it on.
    Passed,
    /// Somebody was faster: look again.
    Beaten,
    /// The stamp does not fit the position: one of the two is out of date, or corrupt.
    Odd,
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

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `new`'s caller promised a mapping that begins with a header; its fields are
        // atomics, for which zero bytes are valid.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Puts `value` in as the row `owner`, and returns the position it got.
    #[inline]
    pub(crate) fn push(&self, owner: u16, value: &T) -> Result<u64, Refused> {
        let tail = &self.header().tail.0;
        loop {
            // Acquire: pairs with the Release in `advance`, so that the slot's stamp is seen at
            // least as new as the position says.
            let position = tail.load(Acquire);
            match self.fill(owner, position, value) {
                Ok(()) => {
                    self.advance(tail, position, 1);
                    kill::reached(KillPoint::TailMoved);
                    return Ok(position);
                }
                Err(miss) => self.after_miss(tail, position, miss, Refused::Corrupt)?,
            }
        }
    }

    /// Puts in as many of `values` as there is room for, in a row, moving the tail once.
    pub(crate) fn push_batch(&self, owner: u16, values: &[T]) -> Result<usize, Refused> {
        let tail = &self.header().tail.0;
        loop {
            // Acquire: as in `push`.
            let first = tail.load(Acquire);
            let mut count = 0;
            let miss = loop {
                let Some(value) = values.get(count) else {
                    break None;
                };
                match self.fill(owner, self.geometry.after(first, count), value) {
                    Ok(()) => count += 1,
                    Err(miss) => break Some(miss),
                }
                if count == self.geometry.ring_len {
                    break None;
                }
            };
            match miss {
                Some(miss) if count == 0 => {
                    self.after_miss(tail, first, miss, Refused::Corrupt)?;
                }
                _ => {
                    self.advance(tail, first, count);
                    return Ok(count);
                }
            }
        }
    }

    /// Takes the next value out as the row `owner`.
    #[inline]
    pub(crate) fn pop(&self, owner: u16) -> Result<T, Nothing> {
        let head = &self.header().head.0;
        loop {
            // Acquire: pairs with the Release in `advance`, as in `push`.
            let position = head.load(Acquire);
            match self.empty(owner, position) {
                Ok(value) => {
                    self.advance(head, position, 1);
                    kill::reached(KillPoint::HeadMoved);
                    return Ok(value);
                }
                Err(miss) => self.after_miss(head, position, miss, Nothing::Corrupt)?,
            }
        }
    }

    /// Fills the front of `values` with what is there, moving the head once.
    pub(crate) fn pop_batch(&self, owner: u16, values: &mut [T]) -> Result<usize, Nothing> {
        let head = &self.header().head.0;
        loop {
            // Acquire: as in `pop`.
            let first = head.load(Acquire);
            let mut count = 0;
            let miss = loop {
                let Some(value) = values.get_mut(count) else {
                    break None;
                };
                match self.empty(owner, self.geometry.after(first, count)) {
                    Ok(taken) => {
                        *value = taken;
                        count += 1;
                    }
                    Err(miss) => break Some(miss),
                }
                if count == self.geometry.ring_len {
                    break None;
                }
            };
            match miss {
                Some(miss) if count == 0 => {
                    self.after_miss(head, first, miss, Nothing::Corrupt)?;
                }
                _ => {
                    self.advance(head, first, count);
                    return Ok(count);
                }
            }
        }
    }

    /// Ends a closed channel at the head if nothing is left in it; true once it has ended.
    ///
    /// A sender that passed the closed flag in time may still claim the slot first: then this
    /// fails, and there is one more message to receive.
    pub(crate) fn seal(&self) -> bool {
        let head = &self.header().head.0;
        // Acquire: as in `pop`.
        let Some((place, slot)) = self.at(head.load(Acquire)) else {
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

    /// True while the value at `position` has been published and no receiver has claimed it.
    pub(crate) fn is_untaken(&self, position: u64) -> bool {
        self.at(position).is_some_and(|(place, slot)| {
            // Acquire: pairs with the receiver's exchange in `empty`, so that what the receiver did
            // before it took the value is seen by who waited for it.
            slot.stamp.load(Acquire) == Stamp::new(place.lap, 0, State::Full).bits()
        })
    }

    /// Takes back the value at `position` of a ring of one slot; false if a receiver has it already.
    pub(crate) fn retract(&self, owner: u16, position: u64) -> bool {
        debug_assert_eq!(self.geometry.ring_len, 1);
        let head = &self.header().head.0;
        // Receivers claim at the head only; this claims at a position. Whoever received the value
        // before this one may not have moved the head yet (or be dead), and one more lap beside a
        // head that stands still would look like corruption: so the head comes up to us first.
        self.advance(head, position.wrapping_sub(1), 1);
        if self.empty(owner, position).is_err() {
            return false;
        }
        self.advance(head, position, 1);
        true
    }

    /// True if the next `pop` would find a value.
    pub(crate) fn has_value(&self) -> bool {
        // Acquire: as in `pop`.
        self.at(self.header().head.0.load(Acquire))
            .is_some_and(|(place, slot)| {
                // Relaxed: a hint; whoever acts on it claims the slot first.
                slot.stamp.load(Relaxed) == Stamp::new(place.lap, 0, State::Full).bits()
            })
    }

    /// True if the next `push` would find room.
    pub(crate) fn has_room(&self) -> bool {
        // Acquire: as in `push`.
        self.at(self.header().tail.0.load(Acquire))
            .is_some_and(|(place, slot)| {
                // Relaxed: a hint, as in `has_value`.
                slot.stamp.load(Relaxed) == Stamp::new(place.lap, 0, State::Free).bits()
            })
    }

    /// Values in the ring, counting claims; out of date as soon as it is known.
    pub(crate) fn len(&self) -> usize {
        // Relaxed: two words cannot be read at once anyway.
        let head = self.header().head.0.load(Relaxed);
        // Relaxed: see above.
        let tail = self.header().tail.0.load(Relaxed);
        self.geometry.distance(head, tail)
    }

    /// Undoes every claim of the row `owner`, whose process is dead; returns how many there were.
    ///
    /// May run in several processes at once and die at any step: each claim is undone by one
    /// exchange, and a claim undone twice is undone once. `still_his` says whether the row still
    /// names the dead process: another survivor may have finished and the row have a new owner.
    #[cold]
    pub(crate) fn sweep(&self, owner: u16, still_his: impl Fn() -> bool) -> usize {
        let mut undone = 0;
        // Acquire: as in `push`. In a later lap the head may be a lap behind, the tail is not.
        let tail = self.header().tail.0.load(Acquire);
        let first_lap = tail < 1 << self.geometry.lap_shift;
        for index in 0..self.geometry.ring_len {
            let slot = self.slot(index);
            // Acquire: pairs with the dead owner's claiming exchange.
            let bits = slot.stamp.load(Acquire);
            // In the first lap slots are claimed in order, so nobody has been at this one or beyond:
            // the rest of a large ring stays untouched memory.
            if bits == 0 && first_lap {
                break;
            }
            let Some(stamp) = Stamp::read(bits) else {
                continue;
            };
            if stamp.owner != owner {
                continue;
            }
            let after = match stamp.state {
                State::Busy => Stamp::new(stamp.lap, 0, State::Skip),
                State::Taking => Stamp::new(lap_after(stamp.lap), 0, State::Free),
                State::Free | State::Full | State::Skip | State::Sealed => continue,
            };
            // The stamp was read first. A new owner of the row writes its claims after its name, so if
            // the name is still the dead one's, so was the stamp; and a claim undone never comes
            // back in the same lap, so the exchange below cannot meet a newer claim.
            if !still_his() {
                return undone;
            }
            // AcqRel: stands in for the dead owner's publish or free, which were Release.
            // Relaxed on failure: another survivor did it.
            if slot
                .stamp
                .compare_exchange(bits, after.bits(), AcqRel, Relaxed)
                .is_ok()
            {
                undone += 1;
                kill::reached(KillPoint::Undone);
                if stamp.state == State::Taking {
                    // Relaxed: a statistic.
                    self.header().gate.0.dropped.fetch_add(1, Relaxed);
                }
            }
        }
        undone
    }

    /// Claims the slot at `position`, writes `value` and publishes it.
    #[inline]
    fn fill(&self, owner: u16, position: u64, value: &T) -> Result<(), Miss<Refused>> {
        let (place, slot) = self.at(position).ok_or(Miss::Over(Refused::Corrupt))?;
        // Acquire: pairs with the Release that freed the slot in `empty`: its reader is done.
        let bits = slot.stamp.load(Acquire);
        let stamp = Stamp::read(bits).ok_or(Miss::Over(Refused::Corrupt))?;
        if stamp.lap != place.lap {
            return Err(if stamp.lap == lap_after(place.lap) {
                // Sent and received already; only the tail has not been moved yet.
                Miss::Passed
            } else if stamp.lap != lap_before(place.lap) {
                Miss::Odd
            } else {
                match stamp.state {
                    State::Free | State::Sealed => Miss::Odd,
                    State::Taking => Miss::Over(Refused::Full {
                        taker: Some(stamp.owner),
                    }),
                    State::Busy | State::Full | State::Skip => {
                        Miss::Over(Refused::Full { taker: None })
                    }
                }
            });
        }
        match stamp.state {
            State::Free => {}
            State::Sealed => return Err(Miss::Over(Refused::Sealed)),
            State::Busy | State::Full | State::Taking | State::Skip => return Err(Miss::Passed),
        }
        let busy = Stamp::new(place.lap, owner, State::Busy).bits();
        // Release: our name in the table comes before our claim. Pairs with the Acquire load in
        // `sweep`. Relaxed on failure: somebody else has the slot.
        if slot
            .stamp
            .compare_exchange(bits, busy, Release, Relaxed)
            .is_err()
        {
            return Err(Miss::Beaten);
        }
        kill::reached(KillPoint::Claimed);
        #[cfg(loom)]
        slot.watch.with_mut(|_| ());
        // SAFETY: the exchange above gave this slot to us alone until we store its stamp; the
        // pointer lies inside the mapping, since `at` checked the index, and is aligned by the
        // geometry.
        unsafe { self.value(place.index).write(*value) };
        // Release: publishes the value. Pairs with the Acquire load in `empty`.
        slot.stamp
            .store(Stamp::new(place.lap, 0, State::Full).bits(), Release);
        kill::reached(KillPoint::Published);
        Ok(())
    }

    /// Claims the value at `position`, copies it out and frees the slot.
    #[inline]
    fn empty(&self, owner: u16, position: u64) -> Result<T, Miss<Nothing>> {
        let (place, slot) = self.at(position).ok_or(Miss::Over(Nothing::Corrupt))?;
        // Acquire: pairs with the Release store in `fill`: the value is whole.
        let bits = slot.stamp.load(Acquire);
        let stamp = Stamp::read(bits).ok_or(Miss::Over(Nothing::Corrupt))?;
        if stamp.lap != place.lap {
            return Err(
                if stamp.lap == lap_before(place.lap) && stamp.state == State::Taking {
                    // The receiver of a lap ago still has the slot: nobody can have sent yet.
                    Miss::Over(Nothing::Empty)
                } else if stamp.lap == lap_after(place.lap) {
                    Miss::Passed
                } else {
                    Miss::Odd
                },
            );
        }
        let next = Stamp::new(lap_after(place.lap), 0, State::Free).bits();
        match stamp.state {
            State::Full => {}
            State::Free => return Err(Miss::Over(Nothing::Empty)),
            State::Busy => {
                return Err(Miss::Over(Nothing::Pending { owner: stamp.owner }));
            }
            State::Sealed => return Err(Miss::Over(Nothing::Sealed)),
            State::Taking => return Err(Miss::Passed),
            State::Skip => {
                // AcqRel: stands for freeing the slot, so it hands on what the recoverer saw.
                // Relaxed on failure: another receiver stepped over it.
                let stepped = slot.stamp.compare_exchange(bits, next, AcqRel, Relaxed);
                if stepped.is_err() {
                    return Err(Miss::Beaten);
                }
                // Room that no receive will tell the senders of.
                self.header().freed.0.post_all();
                return Err(Miss::Passed);
            }
        }
        let taking = Stamp::new(place.lap, owner, State::Taking).bits();
        // Release: a rendezvous sender sees what we did before (`is_untaken`), and a survivor our name
        // before our claim (`sweep`); both load with Acquire.
        // Relaxed on failure: another receiver has it.
        if slot
            .stamp
            .compare_exchange(bits, taking, Release, Relaxed)
            .is_err()
        {
            return Err(Miss::Beaten);
        }
        kill::reached(KillPoint::Taken);
        #[cfg(loom)]
        slot.watch.with_mut(|_| ());
        // SAFETY: the exchange above gave this slot to us alone until we store its stamp, and the
        // Acquire load saw the sender's publish; any bytes are a valid `T: Plain`.
        let value = unsafe { self.value(place.index).cast::<MaybeUninit<T>>().read() };
        // SAFETY: `T: Plain` is valid for every bit pattern, and mapped memory is initialised.
        let value = unsafe { value.assume_init() };
        // Release: our reading is done. Pairs with the Acquire load in `fill`.
        slot.stamp.store(next, Release);
        kill::reached(KillPoint::Freed);
        Ok(value)
    }

    /// What to do after an attempt at `position` of `word` failed.
    #[inline]
    fn after_miss<R>(
        &self,
        word: &AtomicU64,
        position: u64,
        miss: Miss<R>,
        corrupt: R,
    ) -> Result<(), R> {
        match miss {
            Miss::Passed => self.advance(word, position, 1),
            Miss::Beaten => {}
            // Acquire: as in `push`. A position that stands still beside a stamp of another lap is
            // something no participant writes.
            Miss::Odd if word.load(Acquire) == position => return Err(corrupt),
            Miss::Odd => {}
            Miss::Over(why) => return Err(why),
        }
        Ok(())
    }

    /// Moves `word` from `position` at least `count` further, whoever else is helping.
    ///
    /// Afterwards everything this participant wrote before is ordered against its next look at an
    /// event, as by a full fence: see `order_before_post`.
    #[inline]
    fn advance(&self, word: &AtomicU64, position: u64, count: usize) {
        let target = self.geometry.after(position, count);
        // SeqCst: as Release, hands on the stamps that were seen or written up to here; pairs with
        // the Acquire loads of head and tail. In the one order of all SeqCst operations it comes
        // before our look at the event; pairs with `settle`.
        // Relaxed on failure: the value is only compared, and a fence follows.
        match word.compare_exchange(position, target, SeqCst, Relaxed) {
            Ok(_) => order_before_post(),
            Err(now) => self.advance_after_helpers(word, position, count, now),
        }
    }

    #[cold]
    fn advance_after_helpers(&self, word: &AtomicU64, position: u64, count: usize, now: u64) {
        let target = self.geometry.after(position, count);
        let mut seen = now;
        // Helpers move one position at a time: go on from inside our own stretch only.
        while (1..count).contains(&self.geometry.distance(seen, target)) {
            // Release: as in `advance`. Relaxed on failure: only compared.
            match word.compare_exchange(seen, target, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        // SeqCst: a helper moved the word, perhaps before we published: our stamp needs a fence of
        // its own before our look at the event. Pairs with the fence in `Event::arm`.
        fence(SeqCst);
    }

    /// What a sleeper does between arming its event and its last look: from here on it sees every
    /// value (or free slot) whose poster has not seen it.
    ///
    /// A poster moves the tail (or head), then looks at the event. If that look missed our arming,
    /// then in the one order of `SeqCst` operations it comes before the arming, so the move comes
    /// before these loads: they see it, and with it the stamp that was stored before it.
    pub(crate) fn settle(&self) {
        // SeqCst: pairs with the exchange in `advance`, and acquires what came before it.
        self.header().tail.0.load(SeqCst);
        // SeqCst: the same for the receivers' side.
        self.header().head.0.load(SeqCst);
    }

    /// Writes over a stamp, as no participant would.
    #[cfg(test)]
    pub(crate) fn scribble(&self, index: usize, bits: u64) {
        // Relaxed: a test on one thread.
        self.slot(index).stamp.store(bits, Relaxed);
    }

    #[inline]
    fn at(&self, position: u64) -> Option<(Place, &Slot)> {
        let place = self.geometry.split(position)?;
        Some((place, self.slot(place.index)))
    }

    #[inline]
    fn slot(&self, index: usize) -> &Slot {
        debug_assert!(index < self.geometry.ring_len);
        let offset = self.geometry.slots_offset + index * self.geometry.stride;
        // SAFETY: `index` is below `ring_len`, so the offset lies inside the mapping.
        let slot = unsafe { self.base.add(offset) };
        // SAFETY: the geometry aligns slots; a slot's head is an atomic, valid for any bytes.
        unsafe { slot.cast::<Slot>().as_ref() }
    }

    #[inline]
    fn value(&self, index: usize) -> NonNull<T> {
        let offset =
            self.geometry.slots_offset + index * self.geometry.stride + self.geometry.value_offset;
        // SAFETY: `index` is below `ring_len`, so value and offset lie inside the mapping.
        unsafe { self.base.add(offset) }.cast()
    }
}
