//! One end of a channel: the fast path into the ring, and what to do when it leads nowhere.

use crate::Error;
use crate::builder::Builder;
use crate::delivery::Received;
use crate::error::Why;
use crate::fork;
use crate::layout::{Geometry, Owner};
use crate::loan::{self, SlotMut, SlotRef};
use crate::pass::{Arrived, Descriptors, Kind, Label};
use crate::patience::{Luck, Pace, Patience, Step, Wait};
use crate::plain::Plain;
use crate::ring::{Claim, Fate, Nothing, Refused, Ring};
use crate::robust::ROLL_BYTES;
use crate::sync::{SeqCst, fence, store_before_look};
use crate::table::{CLOSED, Core, NO_RECEIVERS, Sides};
use crate::trail::Hint;
use crate::wait::ALL;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// How long a rendezvous `try_send` lets a receiver that is asleep take to get up.
const RENDEZVOUS_GRACE: Duration = Duration::from_millis(1);

/// A handle on one side of a channel (or on both, for `Chan`).
pub(crate) struct End<T: Plain> {
    ring: Ring<T>,
    /// Where this handle was last, on its side.
    hint: Hint,
    luck: Luck,
    pace: Pace,
    capacity: usize,
    /// The side this handle is counted as.
    side: Sides,
    /// The sides that a use of this handle counts for.
    uses: Sides,
    core: Arc<Core>,
}

impl<T: Plain> End<T> {
    /// Makes a channel and its two ends, which count for the given sides when used.
    pub(crate) fn pair(
        options: &Builder,
        sender_uses: Sides,
        receiver_uses: Sides,
    ) -> Result<(End<T>, End<T>), Error> {
        let geometry = Geometry::new::<T>(options.capacity, options.delivery)?;
        let label = options.label::<T>(Kind::Channel);
        End::pair_laid_out(options, geometry, label, sender_uses, receiver_uses)
    }

    /// The same with a geometry that was made for `T` and these options, and may have an arena.
    pub(crate) fn pair_laid_out(
        options: &Builder,
        geometry: Geometry,
        label: Option<Label>,
        sender_uses: Sides,
        receiver_uses: Sides,
    ) -> Result<(End<T>, End<T>), Error> {
        let core = fork::adopt(&geometry, label, options.pollable)?;
        if options.prefault {
            core.prefault().map_err(Error::memory)?;
        }
        let end = |side, uses| End::new(core.clone(), geometry, options, side, uses);
        Ok((
            end(Sides::SENDER, sender_uses),
            end(Sides::RECEIVER, receiver_uses),
        ))
    }

    /// Makes the ends for `sides` of a channel that came from elsewhere; each counts for `uses`.
    pub(crate) fn attach<const N: usize>(
        descriptors: Descriptors,
        sides: [Sides; N],
        uses: Sides,
    ) -> Result<[End<T>; N], Error> {
        let arrived = Arrived::check::<T>(descriptors, Kind::Channel, ROLL_BYTES)?;
        let options = &arrived.options;
        let geometry = Geometry::new::<T>(options.capacity, options.delivery)?;
        End::join(arrived, geometry, sides, uses)
    }

    /// The same for a channel whose label has been checked, with a geometry that was made for `T` and its options, and may have an
    /// arena.
    pub(crate) fn join<const N: usize>(
        arrived: Arrived,
        geometry: Geometry,
        sides: [Sides; N],
        uses: Sides,
    ) -> Result<[End<T>; N], Error> {
        let options = arrived.options.clone();
        let core = fork::join(&geometry, arrived, uses)?;
        Ok(sides.map(|side| End::new(core.clone(), geometry, &options, side, uses)))
    }

    fn new(
        core: Arc<Core>,
        geometry: Geometry,
        options: &Builder,
        side: Sides,
        uses: Sides,
    ) -> End<T> {
        End {
            ring: core.map().ring::<T>(geometry),
            hint: Hint::start(),
            luck: Luck::default(),
            pace: Pace::default(),
            capacity: options.capacity,
            side,
            uses,
            core,
        }
    }

    pub(crate) fn descriptors(&self) -> Result<Descriptors, Error> {
        self.core.descriptors()
    }

    #[inline]
    pub(crate) fn send(&self, value: &T, patience: Patience) -> Result<(), Why> {
        let claim = self.claim_room(patience)?;
        self.ring.write(claim, value);
        self.publish(claim, patience)
    }

    #[inline]
    pub(crate) fn recv(&self, patience: Patience) -> Result<T, Why> {
        let claim = self.claim_value(patience)?;
        let value = self.ring.read(claim);
        self.free(claim);
        Ok(value)
    }

    pub(crate) fn reserve(&self, patience: Patience) -> Result<SlotMut<'_, T>, Why> {
        Ok(SlotMut::new(self, self.claim_room(patience)?))
    }

    pub(crate) fn recv_ref(&self, patience: Patience) -> Result<SlotRef<'_, T>, Why> {
        Ok(SlotRef::new(self, self.claim_value(patience)?))
    }

    pub(crate) fn recv_delivery(&self, patience: Patience) -> Result<Received<T>, Why> {
        let claim = self.claim_value(patience)?;
        let attempts = self.ring.attempts(claim).saturating_add(1);
        let value = self.ring.read(claim);
        self.free(claim);
        Ok(Received { value, attempts })
    }

    /// Notes that a claimed message is handed out where it lies; returns how often it was. In a rendezvous its sender goes on.
    pub(crate) fn hand_out(&self, claim: Claim) -> u32 {
        let attempts = self.ring.count_attempt(claim);
        if self.capacity == 0 {
            self.ring.mark_handed_out(claim);
            // The claim was a SeqCst exchange.
            self.core.header().freed.0.post(ALL);
        }
        attempts
    }

    /// Has a claimed message received again.
    pub(crate) fn give_back(&self, claim: Claim) {
        self.ring.give_back(claim);
        // SeqCst: the slot and its announcement come before our look. Pairs with the fence in `Event::arm`.
        fence(SeqCst);
        self.core.header().sent.0.post(1);
    }

    pub(crate) fn redelivers(&self) -> bool {
        self.ring.redelivers()
    }

    /// True if a closed channel that this handle has just found empty has ended for it.
    pub(crate) fn has_ended(&self) -> bool {
        let in_hand = self.ring.in_hand();
        if in_hand > 0 {
            // What this thread holds comes back through this thread only: it would wait for itself. But others
            // may still get it, so the channel is not sealed.
            return in_hand <= loan::held_here(&self.core);
        }
        let sealed = self.ring.seal(&self.hint);
        if sealed {
            // Whoever still sleeps must see the seal.
            self.core.wake_everybody();
        }
        sealed
    }

    /// True if others hold messages that may come back.
    pub(crate) fn others_hold_messages(&self) -> bool {
        self.redelivers() && self.ring.in_hand() > loan::held_here(&self.core)
    }

    /// Claims a slot to write to, for `publish` or `withdraw`.
    #[inline(always)]
    pub(crate) fn claim_room(&self, patience: Patience) -> Result<Claim, Why> {
        let owner = self.core.enter(self.uses)?;
        if self.core.flags() == 0
            && let Ok(claim) = self.ring.claim_room(owner, &self.hint)
        {
            return Ok(claim);
        }
        self.claim_room_slowly(owner, patience)
    }

    /// Lets receivers have a claimed slot; in a rendezvous, waits until one has the value.
    #[inline]
    pub(crate) fn publish(&self, claim: Claim, patience: Patience) -> Result<(), Why> {
        self.ring.publish(claim);
        self.core.header().sent.0.post(1);
        if self.capacity == 0 {
            self.await_received(claim, patience)
        } else {
            Ok(())
        }
    }

    /// Gives a claimed slot up, as if nothing had been reserved.
    pub(crate) fn withdraw(&self, claim: Claim) {
        self.ring.withdraw(claim);
        self.core.wake_everybody();
    }

    /// Claims a value to read, for `free`.
    #[inline(always)]
    pub(crate) fn claim_value(&self, patience: Patience) -> Result<Claim, Why> {
        let owner = self.core.enter(self.uses)?;
        match self.ring.claim_value(owner, &self.hint) {
            Ok(claim) => Ok(claim),
            Err(_) => self.claim_value_slowly(owner, patience),
        }
    }

    /// Is done with a claimed value.
    #[inline]
    pub(crate) fn free(&self, claim: Claim) {
        self.ring.free(claim);
        self.freed(1);
    }

    /// Where the value of a claimed slot lies.
    pub(crate) fn value(&self, claim: Claim) -> NonNull<T> {
        self.ring.value(claim)
    }

    pub(crate) fn wait(&self, patience: Patience) -> Wait<'_> {
        Wait::new(&self.core, &self.luck, patience)
    }

    pub(crate) fn ring(&self) -> &Ring<T> {
        &self.ring
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn send_batch(&self, values: &[T]) -> Result<(), (usize, Why)> {
        let mut sent = 0;
        while let Some(value) = values.get(sent) {
            if self.capacity > 0 {
                let row = self.core.enter(self.uses).map_err(|why| (sent, why))?;
                if self.core.flags() == 0
                    && let Ok(count) = self.ring.push_batch(row, &values[sent..], &self.hint)
                {
                    self.core.header().sent.0.post(wakes(count));
                    sent += count;
                    continue;
                }
            }
            self.send(value, Patience::Endless)
                .map_err(|why| (sent, why))?;
            sent += 1;
        }
        Ok(())
    }

    pub(crate) fn recv_batch(&self, values: &mut [T]) -> Result<usize, Why> {
        let row = self.core.enter(self.uses)?;
        if values.is_empty() {
            return Ok(0);
        }
        if !self.ring.may_have_returned()
            && let Ok(count) = self.ring.pop_batch(row, values, &self.hint)
        {
            self.freed(wakes(count));
            return Ok(count);
        }
        values[0] = self.recv(Patience::Endless)?;
        // Only the first is waited for; whatever stands in the way of more is the next call's.
        let more = self
            .ring
            .pop_batch(row, &mut values[1..], &self.hint)
            .unwrap_or(0);
        if more > 0 {
            self.freed(wakes(more));
        }
        Ok(1 + more)
    }

    /// The ring, the part without types, and where this handle was last.
    pub(crate) fn parts(&self) -> (&Ring<T>, &Core, &Hint) {
        (&self.ring, &self.core, &self.hint)
    }

    /// Enters this process as a user of the handle; returns the owner it claims slots as.
    pub(crate) fn enter(&self) -> Result<Owner, Why> {
        self.core.enter(self.uses)
    }

    pub(crate) fn close(&self) -> bool {
        self.core.close()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.core.flags() & CLOSED != 0
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len().min(self.capacity)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.core.dropped()
    }

    /// Turns that a wait of this handle pauses for before it looks.
    fn pause(&self) -> u32 {
        let ring_len = self.ring.geometry().ring_len;
        self.pace.pause(self.hint.get(), ring_len)
    }

    /// Tells senders that `count` slots are free again.
    #[inline]
    fn freed(&self, count: u32) {
        // In a rendezvous one sender waits for its value to be taken and others for the slot: they
        // sleep on the same word, so all of them must look.
        let count = if self.capacity == 0 { ALL } else { count };
        self.core.header().freed.0.post(count);
        // The last slot or message in hand: a receiver may wait for it, to seal the closed channel, or lest the message
        // come back.
        store_before_look();
        if self.core.flags() != 0 {
            self.core.header().sent.0.post(ALL);
        }
    }

    #[cold]
    fn claim_room_slowly(&self, owner: Owner, patience: Patience) -> Result<Claim, Why> {
        let event = &self.core.header().freed.0;
        let mut wait = Wait::new(&self.core, &self.luck, patience).pausing(self.pause());
        loop {
            let flags = self.core.flags();
            if flags & CLOSED != 0 {
                return Err(Why::Closed);
            }
            if flags & NO_RECEIVERS != 0 {
                return Err(Why::Disconnected);
            }
            let taker = match self.ring.claim_room(owner, &self.hint) {
                Ok(claim) => {
                    // More room may be free while another sender sleeps: its wake came to us.
                    if wait.has_slept() && event.is_armed() && self.ring.has_room() {
                        event.post(1);
                    }
                    return Ok(claim);
                }
                Err(Refused::Sealed) => return Err(Why::Closed),
                Err(Refused::Corrupt) => return Err(Why::Corrupt),
                Err(Refused::Full { taker }) => taker,
            };
            if taker.is_some() {
                // Freed in a moment, and perhaps its receiver has looked at the event already.
                wait.hurry();
            }
            match wait.step(event) {
                Step::Again | Step::Armed => {}
                Step::LookRound => {
                    let stuck = taker.is_some_and(|taker| self.core.is_dead(taker));
                    if (stuck || wait.is_long()) && self.core.bury_dead() {
                        wait.forget_ticket();
                    } else if self.core.is_gone(Sides::RECEIVER) {
                        return Err(Why::Disconnected);
                    } else {
                        wait.sleep(&self.core, event, Why::Full)?;
                    }
                }
            }
        }
    }

    #[cold]
    fn claim_value_slowly(&self, owner: Owner, patience: Patience) -> Result<Claim, Why> {
        let event = &self.core.header().sent.0;
        let mut wait = Wait::new(&self.core, &self.luck, patience).pausing(self.pause());
        // The senders were found gone: one more look, then that is the answer.
        let mut last_look = false;
        loop {
            let claimed_by = match self.ring.claim_value(owner, &self.hint) {
                Ok(claim) => {
                    // More may have been sent while another receiver sleeps: its wake came to us.
                    if wait.has_slept() && event.is_armed() && self.ring.has_value() {
                        event.post(1);
                    }
                    return Ok(claim);
                }
                Err(Nothing::Sealed) => return Err(Why::Closed),
                Err(Nothing::Corrupt) => return Err(Why::Corrupt),
                Err(Nothing::Pending { owner }) => {
                    // Published in a moment, and perhaps its sender has looked at the event already.
                    wait.hurry();
                    Some(owner)
                }
                Err(Nothing::Empty) => {
                    if last_look && !self.others_hold_messages() {
                        return Err(Why::Disconnected);
                    }
                    last_look = false;
                    if self.core.flags() & CLOSED != 0 {
                        if self.has_ended() {
                            return Err(Why::Closed);
                        }
                        // A sender was faster, or a receiver is still busy with a slot.
                        wait.hurry();
                    }
                    None
                }
            };
            match wait.step(event) {
                Step::Again => {}
                Step::Armed => {
                    if self.capacity == 0 {
                        self.core.announce_receiver();
                    }
                }
                Step::LookRound => {
                    let stuck = claimed_by.is_some_and(|owner| self.core.is_dead(owner));
                    if (stuck || wait.is_long()) && self.core.bury_dead() {
                        wait.forget_ticket();
                        continue;
                    }
                    if claimed_by.is_none() && self.core.is_gone(Sides::SENDER) {
                        if !self.others_hold_messages() {
                            last_look = true;
                            continue;
                        }
                        // Acknowledged, given back or orphaned in its time: the first need not be posted.
                        wait.hurry();
                    }
                    wait.sleep(&self.core, event, Why::Empty)?;
                }
            }
        }
    }

    /// Waits until a receiver has the value, or takes it back.
    ///
    /// What a receiver has claimed and not yet got cannot be taken back. It is there again if that one dies, and then another
    /// receiver's, or the sender's.
    fn await_received(&self, claim: Claim, patience: Patience) -> Result<(), Why> {
        let event = &self.core.header().freed.0;
        // A receiver that is waiting already may need a moment to get up.
        let mut wait = Wait::new(
            &self.core,
            &self.luck,
            match patience {
                Patience::None => Patience::for_limit(RENDEZVOUS_GRACE),
                patience => patience,
            },
        );
        let hopeless = matches!(patience, Patience::None) && !self.core.header().sent.0.is_armed();
        loop {
            let taker = match self.ring.fate(claim) {
                Fate::Received => return Ok(()),
                Fate::Offered => None,
                Fate::Taken { by } => {
                    // Received in a moment, and perhaps its receiver has looked at the event already.
                    wait.hurry();
                    Some(by)
                }
            };
            let flags = self.core.flags();
            let why = if taker.is_none() && flags & CLOSED != 0 {
                Why::Closed
            } else if taker.is_none() && flags & NO_RECEIVERS != 0 {
                Why::Disconnected
            } else {
                match wait.step(event) {
                    Step::Again | Step::Armed => continue,
                    Step::LookRound if hopeless && taker.is_none() => Why::Full,
                    Step::LookRound => {
                        let stuck = taker.is_some_and(|taker| self.core.is_dead(taker));
                        if (stuck || wait.is_long()) && self.core.bury_dead() {
                            wait.forget_ticket();
                            continue;
                        }
                        if taker.is_none() && self.core.is_gone(Sides::RECEIVER) {
                            Why::Disconnected
                        } else {
                            match wait.sleep(&self.core, event, Why::Full) {
                                Ok(()) => continue,
                                Err(_) if taker.is_some() => {
                                    if self.is_in_living_hands(claim) {
                                        return Ok(());
                                    }
                                    continue;
                                }
                                Err(_) if matches!(patience, Patience::None) => Why::Full,
                                Err(why) => why,
                            }
                        }
                    }
                }
            };
            if self.ring.retract(claim) {
                self.freed(1);
                return Err(why);
            }
            // A receiver was faster, and has it, or dies before.
        }
    }

    /// For a sender whose time is up and whose value a receiver had claimed: true if it is received, or a receiver that lives has it, so that it
    /// is not to be had back. False if its receiver died: then it is there again, whoever of the survivors saw to that.
    #[cold]
    fn is_in_living_hands(&self, claim: Claim) -> bool {
        while let Fate::Taken { by } = self.ring.fate(claim) {
            // Not found any more: another survivor has just buried it, and the next look tells.
            if !self.core.is_dead(by) || !self.core.bury_dead() {
                break;
            }
        }
        !matches!(self.ring.fate(claim), Fate::Offered)
    }
}

/// How many sleepers `count` values (or free slots) are for.
fn wakes(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(ALL).min(ALL)
}

impl<T: Plain> Clone for End<T> {
    fn clone(&self) -> Self {
        self.core.add_handle(self.side);
        // In a forked child a clone says that this side will be used. If the process cannot be
        // entered now, its first send or receive says so.
        self.core.enter(self.uses).ok();
        End {
            ring: self.ring,
            hint: self.hint.clone(),
            luck: Luck::default(),
            pace: Pace::default(),
            capacity: self.capacity,
            side: self.side,
            uses: self.uses,
            core: self.core.clone(),
        }
    }
}

impl<T: Plain> Drop for End<T> {
    fn drop(&mut self) {
        if self.core.remove_handle(self.side) {
            fork::leave(&self.core, self.side);
        }
    }
}

impl<T: Plain> fmt::Debug for End<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End")
            .field("side", &self.side)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
