//! Sleeping until the other side did something, without a system call while nobody sleeps.
//!
//! An [`Event`] is one word: an epoch and an armed bit. Who posts looks at the armed bit and, while
//! it is clear, does nothing else. The race, and why no wake is lost, is in `README.md`.

#[cfg(not(loom))]
use crate::face;
use crate::kill::{self, KillPoint};
#[cfg(loom)]
use crate::sync::Count;
use crate::sync::{AcqRel, AtomicU32, Bed, Relaxed, SeqCst, fence, store_before_look};
use std::time::Duration;

const ARMED: u32 = 1;
const EPOCH: u32 = 2;

/// Every sleeper there is.
pub(crate) const ALL: u32 = i32::MAX as u32;

/// A word to sleep on.
///
/// | epoch | ARMED | meaning                                                            |
/// | ----- | ----- | ------------------------------------------------------------------ |
/// |   e   |   0   | nobody sleeps, or sleeps only with an older epoch (wakes at once)  |
/// |   e   |   1   | somebody may sleep on this very value; only a poster clears ARMED  |
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Event {
    word: AtomicU32,
    bed: Bed,
    /// | value | meaning                                                    | left by                            |
    /// | ----- | ---------------------------------------------------------- | ---------------------------------- |
    /// |   0   | no poll loop waits, or its descriptor is readable          | a poller, before it arms the word  |
    /// |   1   | a poll loop may wait: write to the eventfd                  | the poster who then writes, only   |
    polled: AtomicU32,
    /// Stands for the eventfd.
    #[cfg(loom)]
    pub(crate) count: Count,
}

/// The value a sleeper may sleep on: whoever posts after it was drawn changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an armed event makes posters enter the kernel: sleep on the ticket or drop it knowingly"]
pub(crate) struct Ticket(pub(crate) u32);

impl Event {
    /// Announces a sleeper. The caller looks at its condition again *after* this, then sleeps.
    ///
    /// Each sleeper brings an epoch of its own: that is what lets a poster see that nobody came
    /// between its wake and its clearing of the bit.
    pub(crate) fn arm(&self) -> Ticket {
        let ticket = self.transition(|word| Some(word.wrapping_add(EPOCH) | ARMED));
        // SeqCst: pairs with the order that `post` asks of its caller. Either this comes first, and
        // the poster sees ARMED; or the poster's claim does, and the caller's next look sees it.
        fence(SeqCst);
        kill::reached(KillPoint::Armed);
        Ticket(ticket.unwrap_or(0))
    }

    /// Announces a poll loop that will wait for the eventfd: as `arm`, for who does not sleep on the word.
    pub(crate) fn arm_poll(&self) -> Ticket {
        // Relaxed: published by the arming, whose exchange every poster acquires that finds it.
        self.polled.store(1, Relaxed);
        self.arm()
    }

    /// True if an arming for poll loops stands as it was made: whoever posts or stirs from here on writes to the eventfd.
    ///
    /// The caller has drained the eventfd before this.
    pub(crate) fn is_polled(&self, ticket: Ticket) -> bool {
        // Relaxed: whoever took it down and wrote before the drain is seen, since the kernel put the drain after the write; whoever
        // takes it down later writes after the drain.
        self.polled.load(Relaxed) == 1 && self.holds(ticket)
    }

    /// Writes to the eventfd if a poll loop waits for it; true if so.
    fn tell_pollers(&self) -> bool {
        #[cfg(loom)]
        if !self.count.is_pollable() {
            return false;
        }
        // Relaxed: the caller has acquired the arming, if there was one. First the word, then the descriptor: the
        // other way round could take off the mark of a poller that came in between. Whoever is killed between
        // the two is watched by the poller.
        let told = self.polled.load(Relaxed) == 1
            // AcqRel: one of several posters writes. Relaxed on failure: another one does.
            && self.polled.compare_exchange(1, 0, AcqRel, Relaxed).is_ok();
        if told {
            #[cfg(not(loom))]
            face::signal(self);
            #[cfg(loom)]
            self.count.signal();
        }
        told
    }

    /// Has poll loops look round: somebody entered whose death they could not hear of.
    pub(crate) fn stir_pollers(&self) {
        // SeqCst: what the caller did comes before the look. Pairs with the fence in `arm`.
        fence(SeqCst);
        self.tell_pollers();
    }

    /// Tells up to `count` sleepers that something they may wait for has been done.
    ///
    /// The caller has claimed a slot by a `SeqCst` exchange and then done that something, or has done it and
    /// then made a `SeqCst` fence. Why the claim is enough is in `README.md`. With neither, the sleepers take care
    /// (`Wait::fenceless`).
    #[inline]
    pub(crate) fn post(&self, count: u32) {
        // For sleepers who settle a doubt by a barrier on every processor (`patience::settles`).
        store_before_look();
        // SeqCst: comes after the caller's claim in the one order of such operations. Pairs with
        // `transition` and the fence under `arm`.
        if self.word.load(SeqCst) & ARMED != 0 {
            self.wake(count);
        }
    }

    /// Wakes everybody: for what happens once (close, death, disconnection).
    #[cold]
    pub(crate) fn post_all(&self) {
        // SeqCst: the caller's write comes before our look. Pairs with the fence in `arm`.
        fence(SeqCst);
        if self
            .transition(|word| Some(word.wrapping_add(EPOCH)))
            .is_some_and(|word| word & ARMED != 0)
        {
            self.bed.wake(&self.word, ALL);
        }
        self.tell_pollers();
    }

    /// True while somebody may sleep here.
    pub(crate) fn is_armed(&self) -> bool {
        // Relaxed: a hint; whoever acts on it re-checks.
        self.word.load(Relaxed) & ARMED != 0
    }

    /// True if nobody has posted or armed since the ticket was drawn.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        // Relaxed: if it is out of date, the kernel's compare in `sleep` is not.
        self.word.load(Relaxed) == ticket.0
    }

    /// Sleeps unless the word has moved on since the ticket was drawn; may wake for no reason.
    pub(crate) fn sleep(&self, ticket: Ticket, limit: Option<Duration>) {
        self.bed.sleep(&self.word, ticket.0, limit);
    }

    /// Where a sleeper on several events lies down.
    #[cfg(all(loom, test))]
    pub(crate) fn berth(&self, ticket: Ticket) -> crate::sync::Berth<'_> {
        (&self.bed, &self.word, ticket.0)
    }

    /// The word itself, for a wait on several words.
    #[cfg(not(loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    #[cold]
    fn wake(&self, count: u32) {
        // A new epoch turns back the sleepers that are still on their way to bed.
        let Some(bumped) =
            self.transition(|word| (word & ARMED != 0).then_some(word.wrapping_add(EPOCH)))
        else {
            return;
        };
        kill::reached(KillPoint::Bumped);
        let woken = self.bed.wake(&self.word, count);
        let told = self.tell_pollers();
        if woken < count && !told {
            // Fewer slept than we may wake, so nobody sleeps now. If nobody came since either, the
            // word is as we left it, and the bit can go. If it moved, somebody else sees to it.
            self.transition(|word| (word == bumped).then_some(word.wrapping_add(EPOCH) & !ARMED));
        }
    }

    /// The only code that changes the word. Returns the new value, or `None` if `step` declined.
    fn transition(&self, step: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        // Relaxed: a first guess, the exchange below decides.
        let mut word = self.word.load(Relaxed);
        loop {
            let next = step(word)?;
            // SeqCst: arming has its place in the one order of such operations. Pairs with the load
            // in `post`. Relaxed on failure: only another guess.
            match self.word.compare_exchange_weak(word, next, SeqCst, Relaxed) {
                Ok(_) => return Some(next),
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn posting_without_sleepers_leaves_the_word_alone() {
        let event = Event::default();
        event.post(1);
        // Relaxed: a test on one thread.
        assert_eq!(event.word.load(Relaxed), 0);
    }

    #[test]
    fn a_post_that_finds_nobody_disarms() {
        let event = Event::default();
        let ticket = event.arm();
        assert!(event.is_armed());
        event.post(1);
        assert!(!event.is_armed());
        // Relaxed: as above.
        assert_ne!(event.word.load(Relaxed), ticket.0);
    }

    #[test]
    fn a_ticket_drawn_before_a_post_does_not_sleep() {
        let event = Event::default();
        let ticket = event.arm();
        event.post_all();
        event.sleep(ticket, None);
    }

    #[test]
    fn one_post_wakes_one_and_the_bit_stays_for_the_other() {
        let event = std::sync::Arc::new(Event::default());
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let event = event.clone();
                std::thread::spawn(move || {
                    let ticket = event.arm();
                    event.sleep(ticket, None);
                })
            })
            .collect();
        while sleepers.iter().any(|sleeper| !sleeper.is_finished()) {
            event.post(1);
            std::thread::yield_now();
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    }
}
