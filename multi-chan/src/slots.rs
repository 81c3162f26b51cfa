//! Where the slots lie, and the only ways to touch what is in them.
//!
//! Every index that comes here has been checked against the geometry (`Ring::at`), whatever the mapping says.

#![expect(
    unsafe_code,
    reason = "slots are plain memory, found by offsets and written by whoever claimed them"
)]

use crate::layout::{CountedSlot, Header, Place, Slot};
use crate::message::copy;
use crate::plain::Plain;
use crate::ring::{Claim, Ring};
use crate::sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release, fence};
use std::ptr::NonNull;

impl<T: Plain> Ring<T> {
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `new`'s caller promised a mapping that begins with a header; its fields are
        // atomics, for which zero bytes are valid.
        unsafe { self.base().cast::<Header>().as_ref() }
    }

    #[inline]
    pub(crate) fn at(&self, position: u64) -> Option<(Place, &Slot)> {
        let place = self.geometry().split(position)?;
        Some((place, self.slot(place.index)))
    }

    #[inline]
    pub(crate) fn slot(&self, index: usize) -> &Slot {
        debug_assert!(index < self.geometry().ring_len);
        let offset = self.geometry().slots_offset + index * self.geometry().stride;
        // SAFETY: `index` is below `ring_len`, so the offset lies inside the mapping.
        let slot = unsafe { self.base().add(offset) };
        // SAFETY: the geometry aligns slots; a slot's head is an atomic, valid for any bytes.
        unsafe { slot.cast::<Slot>().as_ref() }
    }

    /// The attempts of a claimed slot.
    pub(crate) fn attempts_word(&self, claim: Claim) -> &AtomicU32 {
        assert!(self.geometry().redelivers);
        let slot = NonNull::from(self.slot(claim.index())).cast::<CountedSlot>();
        let slot = self.base().map_addr(|_| slot.addr()).cast::<CountedSlot>();
        // SAFETY: where messages come back, the geometry begins every slot with a `CountedSlot`, whose fields
        // are atomics.
        &unsafe { slot.as_ref() }.attempts
    }

    /// The value of a claimed slot; the claim's holder alone may touch it.
    #[inline]
    pub(crate) fn value(&self, claim: Claim) -> NonNull<T> {
        let offset = self.geometry().slots_offset
            + claim.index() * self.geometry().stride
            + self.geometry().value_offset;
        // SAFETY: a claim's index is below `ring_len`, so value and offset lie inside the mapping.
        unsafe { self.base().add(offset) }.cast()
    }

    /// Writes the value of a slot that was claimed by `claim_room`.
    #[inline]
    pub(crate) fn write(&self, claim: Claim, value: &T) {
        #[cfg(loom)]
        self.slot(claim.index()).watch.with_mut(|_| ());
        // SAFETY: the exchange in `seize_room` gave this slot to the claim's holder alone until its stamp
        // is stored; the pointer lies inside the mapping, since `at` checked the index, and is
        // aligned by the geometry.
        unsafe { copy::write_value(self.value(claim), value) };
    }

    /// Copies out the value of a slot that was claimed by `claim_value`.
    #[inline]
    pub(crate) fn read(&self, claim: Claim) -> T {
        #[cfg(loom)]
        self.slot(claim.index()).watch.with_mut(|_| ());
        // SAFETY: the exchange in `seize_value` gave this slot to the claim's holder alone until its stamp
        // is stored, and the Acquire load there saw the sender's publish.
        unsafe { copy::read_value(self.value(claim)) }
    }

    /// The same to where the value is wanted.
    #[inline]
    pub(crate) fn read_to(&self, claim: Claim, value: &mut T) {
        #[cfg(loom)]
        self.slot(claim.index()).watch.with_mut(|_| ());
        // SAFETY: as in `read`.
        unsafe { copy::read_value_to(self.value(claim), value) };
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
            self.word(claim.index(), nth).store(word, Relaxed);
        }
    }

    /// Writes the first word of the value of a slot claimed by `claim_value`, for survivors.
    #[inline]
    pub(crate) fn write_word(&self, claim: Claim, word: u64) {
        // Release: our reading is done. Pairs with the fence in `glance`, through our death.
        self.word(claim.index(), 0).store(word, Release);
    }

    /// The first words of the value of a slot claimed by `claim_value`, each read once.
    #[inline]
    pub(crate) fn read_words<const N: usize>(&self, claim: Claim) -> [u64; N] {
        // Relaxed: the claim has seen the publish.
        std::array::from_fn(|nth| self.word(claim.index(), nth).load(Relaxed))
    }

    #[cfg(not(loom))]
    #[inline]
    fn word(&self, index: usize, nth: usize) -> &AtomicU64 {
        let offset = self.geometry().value_offset + nth * size_of::<u64>();
        assert!(offset + size_of::<u64>() <= self.geometry().stride);
        debug_assert!(index < self.geometry().ring_len);
        let offset = self.geometry().slots_offset + index * self.geometry().stride + offset;
        // SAFETY: inside the slot, by the assertions.
        let word = unsafe { self.base().add(offset) };
        // SAFETY: values begin at a word's alignment at least; any bytes are a valid atomic.
        unsafe { word.cast::<AtomicU64>().as_ref() }
    }

    #[cfg(loom)]
    fn word(&self, index: usize, nth: usize) -> &AtomicU64 {
        &self.slot(index).words[nth]
    }

    /// Writes over a stamp, as no participant would.
    #[cfg(test)]
    pub(crate) fn scribble(&self, index: usize, bits: u64) {
        // Relaxed: a test on one thread.
        self.slot(index).stamp.store(bits, Relaxed);
    }
}
