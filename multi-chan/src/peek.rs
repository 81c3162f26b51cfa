//! Looking without touching: whether a `push` or `pop` would succeed just now, and if not, why.

use crate::layout::{Stamp, State};
use crate::plain::Plain;
use crate::ring::{Miss, Nothing, Refused, Ring};
use crate::sync::Acquire;
use crate::trail::Hint;

impl<T: Plain> Ring<T> {
    /// Whether the next `pop` would find a value.
    pub(crate) fn peek(&self, hint: &Hint) -> Result<(), Nothing> {
        if self.may_have_returned() {
            // Perhaps in vain: then the look after this one is at the head.
            return Ok(());
        }
        let head = &self.header().head.0;
        let mut position = hint.get();
        loop {
            let (place, slot) = self.at(position).ok_or(Nothing::Corrupt)?;
            // Acquire: what the sender did before it is seen, and a step over SKIP hands it on.
            let bits = slot.stamp.load(Acquire);
            if bits == Stamp::new(place.lap, 0, State::Full).bits() {
                return Ok(());
            }
            let miss = self.why_not_emptied(position, place, slot, bits);
            match self.after_miss(head, hint, position, miss, Nothing::Corrupt) {
                Ok(next) => position = next,
                Err(why) => {
                    // Where a closed channel that turned out empty is sealed.
                    hint.set(position);
                    return Err(why);
                }
            }
        }
    }

    /// Whether the next `push` would find room.
    pub(crate) fn peek_room(&self, hint: &Hint) -> Result<(), Refused> {
        let tail = &self.header().tail.0;
        let mut position = hint.get();
        loop {
            let (place, slot) = self.at(position).ok_or(Refused::Corrupt)?;
            // Acquire: as in `peek`.
            let bits = slot.stamp.load(Acquire);
            if bits == Stamp::new(place.lap, 0, State::Free).bits() {
                return Ok(());
            }
            let miss: Miss<Refused> = self.why_not_filled(position, place, slot, bits);
            position = self.after_miss(tail, hint, position, miss, Refused::Corrupt)?;
        }
    }
}
