//! Messages that come back: behind the head, where receivers do not pass a second time.
//!
//! `Gate::returned` says that there may be some. It is raised *after* a slot has become RETURNED, and taken down
//! only by who has then looked at every slot and found none; the proof is in `README.md`.

use crate::kill::{self, KillPoint};
use crate::layout::{Owner, Slot, Stamp, State};
use crate::plain::Plain;
use crate::ring::{Claim, Ring};
use crate::sync::{AcqRel, Acquire, AtomicU32, Relaxed, Release, SeqCst, order_before_post};

/// Bit of `Gate::returned`: some slot may be RETURNED.
const MAYBE: u32 = 1;
/// The rest counts how often the bit was raised.
const RAISED: u32 = 2;

/// `Gate::handed`, if the message of the lap `lap` is the last that was handed out.
fn handed(lap: u64) -> u64 {
    lap << 1 | 1
}

impl<T: Plain> Ring<T> {
    fn returned(&self) -> &AtomicU32 {
        &self.header().gate.0.returned
    }

    /// True if messages of this channel come back.
    #[inline]
    pub(crate) fn redelivers(&self) -> bool {
        self.geometry().redelivers
    }

    /// True if the message of the lap `lap` comes again should its receiver die now.
    ///
    /// Other than `redelivers`, it does so in a rendezvous, too, until it is handed out: nobody has seen it, and its sender waits.
    pub(crate) fn comes_again(&self, lap: u64) -> bool {
        self.redelivers() || self.geometry().is_rendezvous && !self.was_handed_out(lap)
    }

    /// In a rendezvous: true if the message of the lap `lap` was handed out where it lies.
    pub(crate) fn was_handed_out(&self, lap: u64) -> bool {
        // Acquire: pairs with the Release in `mark_handed_out`.
        self.header().gate.0.handed.load(Acquire) == handed(lap)
    }

    /// In a rendezvous: notes that a claimed message is handed out where it lies, so its sender need not wait any longer.
    pub(crate) fn mark_handed_out(&self, claim: Claim) {
        // Release: what the receiver did before is seen by the sender. Pairs with the Acquire in `was_handed_out`.
        self.header()
            .gate
            .0
            .handed
            .store(handed(claim.lap()), Release);
    }

    /// True if receivers may have to look behind the head at all.
    pub(crate) fn looks_behind(&self) -> bool {
        self.redelivers() || self.geometry().is_rendezvous
    }

    /// True if a look behind the head may find something.
    #[inline]
    pub(crate) fn may_have_returned(&self) -> bool {
        // Relaxed: `claim_returned` looks again; a sleeper's look comes after the fence in `Event::arm`.
        self.looks_behind() && self.returned().load(Relaxed) & MAYBE != 0
    }

    /// Claims the oldest message that has come back.
    #[cold]
    pub(crate) fn claim_returned(&self, owner: Owner) -> Option<Claim> {
        loop {
            // Acquire: pairs with the Release in `announce_returned`: the slot it announced is seen.
            let seen = self.returned().load(Acquire);
            if seen & MAYBE == 0 {
                return None;
            }
            for (index, slot, bits) in self.used_slots() {
                if let Some(claim) = self.seize_returned(owner, index, slot, bits) {
                    return Some(claim);
                }
            }
            // AcqRel: whoever finds the bit down sees the claims that emptied the slots. It stays up if
            // somebody has raised it since. Acquire on failure: as above.
            let down = seen & !MAYBE;
            if self
                .returned()
                .compare_exchange(seen, down, AcqRel, Acquire)
                .is_ok()
            {
                return None;
            }
        }
    }

    fn seize_returned(&self, owner: Owner, index: usize, slot: &Slot, bits: u64) -> Option<Claim> {
        let stamp = Stamp::read(bits).filter(|stamp| stamp.state == State::Returned)?;
        let taking = Stamp::new(stamp.lap, owner, State::Taking).bits();
        // SeqCst: as in `seize_value`. The value was acquired with the stamp.
        // Relaxed on failure: another receiver has it.
        slot.stamp
            .compare_exchange(bits, taking, SeqCst, Relaxed)
            .ok()?;
        order_before_post();
        kill::reached(KillPoint::Taken);
        Some(Claim::at(
            stamp.lap << self.geometry().lap_shift | index as u64,
            owner,
            index,
            stamp.lap,
        ))
    }

    /// In a rendezvous: claims the value that was sent as `sent` after it has come back from a dead receiver.
    #[cold]
    pub(crate) fn reclaim(&self, sent: Claim) -> Option<Claim> {
        let slot = self.slot(sent.index());
        let returned = Stamp::new(sent.lap(), 0, State::Returned).bits();
        self.seize_returned(sent.owner, sent.index(), slot, returned)
    }

    /// How often the message of a slot claimed by `claim_value` was handed out before.
    pub(crate) fn attempts(&self, claim: Claim) -> u32 {
        if !self.redelivers() {
            return 0;
        }
        // Relaxed: written by whoever had the slot before us, whose stamp we acquired.
        self.attempts_word(claim).load(Relaxed)
    }

    /// Counts that the message of a slot claimed by `claim_value` is handed out; returns how often that makes.
    pub(crate) fn count_attempt(&self, claim: Claim) -> u32 {
        let attempts = self.attempts(claim).saturating_add(1);
        if self.redelivers() {
            // Relaxed: published with the stamp by whoever gives the message back.
            self.attempts_word(claim).store(attempts, Relaxed);
        }
        attempts
    }

    /// Gives back a message that was claimed; others may claim it at once. The caller makes a `SeqCst` fence and
    /// posts `sent`.
    pub(crate) fn give_back(&self, claim: Claim) {
        debug_assert!(self.redelivers());
        let returned = Stamp::new(claim.lap(), 0, State::Returned).bits();
        // Release: our reading is done, and the attempts are counted. Pairs with the Acquire loads in
        // `used_slots`.
        self.slot(claim.index()).stamp.store(returned, Release);
        kill::reached(KillPoint::GivenBack);
        self.announce_returned();
    }

    /// Says that a slot may be RETURNED.
    pub(crate) fn announce_returned(&self) {
        // Relaxed: a first guess, the exchange below decides.
        let mut now = self.returned().load(Relaxed);
        loop {
            let next = now.wrapping_add(RAISED) | MAYBE;
            // Release: comes after the stamp. Pairs with the Acquire in `claim_returned`.
            // Relaxed on failure: only another guess.
            match self
                .returned()
                .compare_exchange_weak(now, next, Release, Relaxed)
            {
                Ok(_) => return,
                Err(newer) => now = newer,
            }
        }
    }

    /// Messages that are in somebody's hands or have come back: as long as there are any, a closed
    /// channel has not ended. Always 0 where nothing comes back.
    #[cold]
    pub(crate) fn in_hand(&self) -> usize {
        if !self.redelivers() {
            return 0;
        }
        self.count(|state| matches!(state, State::Taking | State::Returned))
    }

    /// Messages that have come back and are nobody's.
    pub(crate) fn returned_count(&self) -> usize {
        if self.may_have_returned() {
            self.count(|state| state == State::Returned)
        } else {
            0
        }
    }

    fn count(&self, counts: impl Fn(State) -> bool) -> usize {
        self.used_slots()
            .filter(|&(_, _, bits)| Stamp::read(bits).is_some_and(|stamp| counts(stamp.state)))
            .count()
    }
}
