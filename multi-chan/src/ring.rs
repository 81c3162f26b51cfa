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
use crate::layout::{
    CountedSlot, Geometry, Header, Owner, Place, Slot, Stamp, State, lap_after, lap_before, row_of,
};
use crate::message::copy;
use crate::plain::Plain;
use crate::sync::{
    AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release, SeqCst, fence, order_before_post,
};
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

/// Why one attempt at one position led nowhere.
pub(crate) enum Miss<R> {
    /// The position is used up: the next one, then.
    Passed,
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

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `new`'s caller promised a mapping that begins with a header; its fields are
        // atomics, for which zero bytes are valid.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Claims the next free slot for the row `owner`, to be published or withdrawn.
    #[inline(always)]
    pub(crate) fn claim_room(&self, owner: Owner, hint: &Hint) -> Result<Claim, Refused> {
        let tail = &self.header().tail.0;
        let mut position = hint.get();
        loop {
            match self.seize_room(owner, position) {
                Ok(claim) => {
                    hint.set(self.geometry().after(position, 1));
                    return Ok(claim);
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
        if self.geometry().is_milestone(claim.position) {
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

    /// Puts in as many of `values` as there is room for, in a row, moving the tail once.
    pub(crate) fn push_batch(
        &self,
        owner: Owner,
        values: &[T],
        hint: &Hint,
    ) -> Result<usize, Refused> {
        let tail = &self.header().tail.0;
        let mut position = hint.get();
        let mut count = 0;
        while count < values.len().min(self.geometry().ring_len) {
            match self.seize_room(owner, position) {
                Ok(claim) => {
                    self.write(claim, &values[count]);
                    self.show(claim);
                    count += 1;
                    position = self.geometry().after(position, 1);
                }
                Err(miss) if count == 0 => {
                    position = self.after_miss(tail, hint, position, miss, Refused::Corrupt)?;
                }
                Err(_) => break,
            }
        }
        if count > 0 {
            hint.set(position);
            self.raise(tail, position);
        }
        Ok(count)
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
            match self.seize_value(owner, position) {
                Ok(claim) => {
                    hint.set(self.geometry().after(position, 1));
                    return Ok(claim);
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
        if self.geometry().is_milestone(claim.position) {
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

    /// Fills the front of `values` with what is there, moving the head once.
    pub(crate) fn pop_batch(
        &self,
        owner: Owner,
        values: &mut [T],
        hint: &Hint,
    ) -> Result<usize, Nothing> {
        let head = &self.header().head.0;
        let mut position = hint.get();
        let mut count = 0;
        while count < values.len().min(self.geometry().ring_len) {
            match self.seize_value(owner, position) {
                Ok(claim) => {
                    values[count] = self.read(claim);
                    self.clear(claim);
                    count += 1;
                    position = self.geometry().after(position, 1);
                }
                Err(miss) if count == 0 => {
                    position = self.after_miss(head, hint, position, miss, Nothing::Corrupt)?;
                }
                Err(_) => break,
            }
        }
        if count > 0 {
            hint.set(position);
            self.raise(head, position);
        }
        Ok(count)
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

    /// True while the value sent as `sent` lies there and no receiver has claimed it.
    pub(crate) fn is_untaken(&self, sent: Claim) -> bool {
        // Acquire: pairs with the receiver's exchange in `seize_value`, so that what the receiver did
        // before it took the value is seen by who waited for it.
        let bits = self.slot(sent.place.index).stamp.load(Acquire);
        bits == Stamp::new(sent.place.lap, 0, State::Full).bits()
    }

    /// Takes back the value that was sent as `sent` in a ring of one slot; false if a receiver has it already.
    pub(crate) fn retract(&self, sent: Claim) -> bool {
        debug_assert_eq!(self.geometry.ring_len, 1);
        let position = sent.position;
        let head = &self.header().head.0;
        // Receivers claim at the head only; this claims at a position. Whoever received the value
        // before this one may not have moved the head yet (or be dead): nobody shall find it two
        // laps behind.
        self.raise(head, position);
        let Ok(claim) = self.seize_value(sent.owner, position) else {
            return false;
        };
        self.clear(claim);
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

    /// Undoes every claim with the row `row`, whose process is dead; returns how many there were.
    ///
    /// May run in several processes at once and die at any step: each claim is undone by one
    /// exchange, and a claim undone twice is undone once. `still_his` says whether the row still
    /// names the dead process: another survivor may have finished and the row have a new owner.
    ///
    /// `before_free` sees the index and the stamp of each slot that a dead receiver had, before it is freed:
    /// what the value stands for is freed first. It may be called by several survivors for one slot, and late.
    #[cold]
    pub(crate) fn sweep(
        &self,
        row: u16,
        still_his: impl Fn() -> bool,
        before_free: impl Fn(usize, u64),
    ) -> usize {
        let mut undone = 0;
        for (index, slot, bits) in self.used_slots() {
            let Some(stamp) = Stamp::read(bits) else {
                continue;
            };
            if row_of(stamp.owner) != row {
                continue;
            }
            let after = match stamp.state {
                State::Busy => Stamp::new(stamp.lap, 0, State::Skip),
                State::Taking if self.redelivers() => Stamp::new(stamp.lap, 0, State::Returned),
                State::Taking => Stamp::new(lap_after(stamp.lap), 0, State::Free),
                State::Free | State::Full | State::Skip | State::Sealed | State::Returned => {
                    continue;
                }
            };
            // The stamp was read first. A new owner of the row writes its claims after its name, so if
            // the name is still the dead one's, so was the stamp; and it says which of the row's owners it is, so the
            // exchange below cannot meet a newer claim, not even of the same message in the same lap.
            if !still_his() {
                break;
            }
            if stamp.state == State::Taking && !self.redelivers() {
                before_free(index, bits);
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
                if stamp.state == State::Taking && !self.redelivers() {
                    // Relaxed: a statistic.
                    self.header().gate.0.dropped.fetch_add(1, Relaxed);
                }
            }
        }
        if self.redelivers() {
            // Even if nothing was undone: the dead process may have given a message back and not yet said so,
            // or another survivor may have died just there.
            self.announce_returned();
        }
        undone
    }

    /// The slots that have ever been claimed, with their stamps; oldest first, as far as the tail is known.
    pub(crate) fn used_slots(&self) -> impl Iterator<Item = (usize, &Slot, u64)> {
        // Acquire: pairs with the Release in `raise`. In a later lap the head may be a lap behind, the tail is not.
        let tail = self.header().tail.0.load(Acquire);
        let lap_mask = (1 << self.geometry.lap_shift) - 1;
        let first_lap = tail <= lap_mask;
        let ring_len = self.geometry.ring_len;
        let start = if first_lap {
            0
        } else {
            (tail & lap_mask) as usize
        };
        (0..ring_len)
            .map(move |step| {
                let index = (start + step) % ring_len;
                let slot = self.slot(index);
                // Acquire: pairs with the exchanges and stores of whoever had the slot last.
                (index, slot, slot.stamp.load(Acquire))
            })
            // In the first lap slots are claimed in order, so nobody has been at this one or beyond:
            // the rest of a large ring stays untouched memory.
            .take_while(move |&(_, _, bits)| !(first_lap && bits == 0))
    }

    /// The stamp of slot `index` as it is now.
    pub(crate) fn stamp_bits(&self, index: usize) -> u64 {
        // Acquire: pairs with the store that published or freed the slot.
        self.slot(index).stamp.load(Acquire)
    }

    /// The first words of the value in slot `index`, if the slot holds the stamp `bits` all the while.
    ///
    /// For survivors, who have no claim on the slot: what they read may be written over as they read it.
    pub(crate) fn glance<const N: usize>(&self, index: usize, bits: u64) -> Option<[u64; N]> {
        // Relaxed: the fence below stands between these reads and the second look at the stamp.
        let words = std::array::from_fn(|nth| self.word(index, nth).load(Relaxed));
        // Acquire: pairs with the fence in `write_words`: if any word was written after a later claim,
        // the look that follows sees that claim.
        fence(Acquire);
        // Relaxed: ordered by the fence.
        (self.slot(index).stamp.load(Relaxed) == bits).then_some(words)
    }

    /// Writes the first words of the value of a slot claimed by `claim_room`, so that survivors may `glance`; before
    /// anything else of the value is written.
    #[inline]
    pub(crate) fn write_words<const N: usize>(&self, claim: Claim, words: [u64; N]) {
        // Release: our claim comes before whatever we write. Pairs with the fence in `glance`.
        fence(Release);
        for (nth, word) in words.into_iter().enumerate() {
            // Relaxed: published with the slot.
            self.word(claim.place.index, nth).store(word, Relaxed);
        }
    }

    /// The first words of the value of a slot claimed by `claim_value`, each read once.
    #[inline]
    pub(crate) fn read_words<const N: usize>(&self, claim: Claim) -> [u64; N] {
        // Relaxed: the claim has seen the publish.
        std::array::from_fn(|nth| self.word(claim.place.index, nth).load(Relaxed))
    }

    #[cfg(not(loom))]
    #[inline]
    fn word(&self, index: usize, nth: usize) -> &AtomicU64 {
        let offset = self.geometry.value_offset + nth * size_of::<u64>();
        assert!(offset + size_of::<u64>() <= self.geometry.stride);
        debug_assert!(index < self.geometry.ring_len);
        let offset = self.geometry.slots_offset + index * self.geometry.stride + offset;
        // SAFETY: inside the slot, by the assertions.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: values begin at a word's alignment at least; any bytes are a valid atomic.
        unsafe { word.cast::<AtomicU64>().as_ref() }
    }

    #[cfg(loom)]
    fn word(&self, index: usize, nth: usize) -> &AtomicU64 {
        &self.slot(index).words[nth]
    }

    /// Claims the slot at `position` for sending.
    #[inline(always)]
    fn seize_room(&self, owner: Owner, position: u64) -> Result<Claim, Miss<Refused>> {
        let (place, slot) = self.at(position).ok_or(Miss::Over(Refused::Corrupt))?;
        // Acquire: pairs with the Release that freed the slot in `clear`: its reader is done.
        let bits = slot.stamp.load(Acquire);
        if bits != Stamp::new(place.lap, 0, State::Free).bits() {
            return Err(self.why_not_filled(position, place, slot, bits));
        }
        let busy = Stamp::new(place.lap, owner, State::Busy).bits();
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
        Ok(Claim {
            position,
            owner,
            place,
        })
    }

    /// Writes the value of a slot that was claimed by `claim_room`.
    #[inline]
    pub(crate) fn write(&self, claim: Claim, value: &T) {
        #[cfg(loom)]
        self.slot(claim.place.index).watch.with_mut(|_| ());
        // SAFETY: the exchange in `seize_room` gave this slot to the claim's holder alone until its stamp
        // is stored; the pointer lies inside the mapping, since `at` checked the index, and is
        // aligned by the geometry.
        unsafe { copy::write_value(self.value(claim), value) };
    }

    /// Publishes a claimed slot.
    #[inline]
    fn show(&self, claim: Claim) {
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

    /// Claims the value at `position`.
    #[inline(always)]
    fn seize_value(&self, owner: Owner, position: u64) -> Result<Claim, Miss<Nothing>> {
        let (place, slot) = self.at(position).ok_or(Miss::Over(Nothing::Corrupt))?;
        // Acquire: pairs with the Release store in `show`: the value is whole.
        let bits = slot.stamp.load(Acquire);
        if bits != Stamp::new(place.lap, 0, State::Full).bits() {
            return Err(self.why_not_emptied(position, place, slot, bits));
        }
        let taking = Stamp::new(place.lap, owner, State::Taking).bits();
        // SeqCst: as Release, a rendezvous sender sees what we did before (`is_untaken`), and a survivor
        // our name before our claim (`sweep`); both load with Acquire. And as in `seize_room`, the claim
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
        Ok(Claim {
            position,
            owner,
            place,
        })
    }

    /// Copies out the value of a slot that was claimed by `claim_value`.
    #[inline]
    pub(crate) fn read(&self, claim: Claim) -> T {
        #[cfg(loom)]
        self.slot(claim.place.index).watch.with_mut(|_| ());
        // SAFETY: the exchange in `seize_value` gave this slot to the claim's holder alone until its stamp
        // is stored, and the Acquire load there saw the sender's publish.
        unsafe { copy::read_value(self.value(claim)) }
    }

    /// Frees a slot whose value was claimed.
    #[inline]
    fn clear(&self, claim: Claim) {
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
                State::Busy | State::Full | State::Taking | State::Skip | State::Returned => {
                    Miss::Passed
                }
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
            State::Taking | State::Returned => Miss::Passed,
            State::Skip => {
                if !self.step_over(lap_after(place.lap), slot, bits) {
                    return Miss::Beaten;
                }
                // Room that no receive will tell the senders of.
                self.header().freed.0.post_all();
                Miss::Passed
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

    /// Writes over a stamp, as no participant would.
    #[cfg(test)]
    pub(crate) fn scribble(&self, index: usize, bits: u64) {
        // Relaxed: a test on one thread.
        self.slot(index).stamp.store(bits, Relaxed);
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    #[inline]
    pub(crate) fn at(&self, position: u64) -> Option<(Place, &Slot)> {
        let place = self.geometry.split(position)?;
        Some((place, self.slot(place.index)))
    }

    #[inline]
    pub(crate) fn slot(&self, index: usize) -> &Slot {
        debug_assert!(index < self.geometry.ring_len);
        let offset = self.geometry.slots_offset + index * self.geometry.stride;
        // SAFETY: `index` is below `ring_len`, so the offset lies inside the mapping.
        let slot = unsafe { self.base.add(offset) };
        // SAFETY: the geometry aligns slots; a slot's head is an atomic, valid for any bytes.
        unsafe { slot.cast::<Slot>().as_ref() }
    }

    /// The attempts of a claimed slot.
    pub(crate) fn attempts_word(&self, claim: Claim) -> &AtomicU32 {
        assert!(self.geometry.redelivers);
        let slot = NonNull::from(self.slot(claim.place.index)).cast::<CountedSlot>();
        let slot = self.base.map_addr(|_| slot.addr()).cast::<CountedSlot>();
        // SAFETY: where messages come back, the geometry begins every slot with a `CountedSlot`, whose fields
        // are atomics.
        &unsafe { slot.as_ref() }.attempts
    }

    /// The value of a claimed slot; the claim's holder alone may touch it.
    #[inline]
    pub(crate) fn value(&self, claim: Claim) -> NonNull<T> {
        let offset = self.geometry.slots_offset
            + claim.place.index * self.geometry.stride
            + self.geometry.value_offset;
        // SAFETY: a claim's index is below `ring_len`, so value and offset lie inside the mapping.
        unsafe { self.base.add(offset) }.cast()
    }
}
