//! One operation's wait: how long it may take, and what it does before it sleeps.
//!
//! Waiting has three stages: a short busy wait, among many processes a nap on the event alone, then a sleep on the
//! event and on the life of every other participant. Most waits end in the first two, and only the third
//! costs more for more participants.

use crate::error::Why;
use crate::sync::{PrivateU32, PrivateU64, Relaxed, spin};
use crate::sys;
use crate::table::Core;
use crate::wait::{Event, Ticket};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

/// Turns that give the processor away instead: a busy other side gets several slots done in each, where a
/// sleep would be followed by a wake for the first.
pub(crate) const YIELDS: u32 = 4;

/// Busy waits in a row, with yields between them, when they are tried again after they were in vain. Two sides that have
/// both begun to sleep answer each other only after a wake, some 30 µs: a single busy wait would
/// never find out that each has a processor. On one processor the first yield ends it.
const ROUNDS: u32 = 16;

/// The nap before a sleeper sleeps on lives, too, where there are more than `FEW` of them to sleep on.
const NAP: Duration = Duration::from_millis(2);
/// So many words beside the event cost a sleep no more than the noise of two processes that wake each other.
const FEW: usize = 16;

/// The first sleep while waiting for something that takes a few instructions and may end without a
/// post; each one after it is twice as long, up to `MOMENT << MOMENT_DOUBLINGS`.
pub(crate) const MOMENT: Duration = Duration::from_micros(100);
pub(crate) const MOMENT_DOUBLINGS: u32 = 7;
/// So many moments in vain, 6 ms in all, and it is worth a barrier to do without them.
pub(crate) const SETTLE_AFTER: u32 = 6;
/// How long a sleeper whose ticket another sleeper turned back during the barrier lets that one lie down before it arms
/// again. Without it two of them turn each other back for ever on a machine so busy that each arms before the other sleeps.
pub(crate) const AFTER_YOU: Duration = Duration::from_millis(3);
/// The barrier may take some milliseconds: not for who has less than this left.
const SETTLE_LEFT_MIN: Duration = Duration::from_millis(200);

/// How long an operation may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    pub(crate) fn for_limit(limit: Duration) -> Patience {
        // A time too far away to be told is endless.
        Instant::now()
            .checked_add(limit)
            .map_or(Patience::Endless, Patience::Until)
    }

    /// What is left, `None` being endless.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Patience::None => Some(Duration::ZERO),
            Patience::Until(end) => Some(end.saturating_duration_since(Instant::now())),
            Patience::Endless => None,
        }
    }
}

/// What to do after a look that found nothing.
pub(crate) enum Step {
    /// Look again at once.
    Again,
    /// The same: a ticket was drawn just now.
    Armed,
    /// A ticket is drawn and the look was after it: see who is alive, then sleep.
    LookRound,
}

/// Whether busy waits of a handle have been worth it: how many waits go without one.
///
/// Where the other side runs on a processor of its own, it answers within a busy wait, and both sides stay
/// busy; where it does not, busy turns only delay it. One wait in 16 finds out, and one in twice as many each time that it
/// was in vain again, up to one in 256.
///
/// ```text
///   31        16 15      8 7         0
///  ┌────────────┬─────────┬───────────┐
///  │ 1: trying  │ penalty │ waits left │
///  └────────────┴─────────┴───────────┘
/// ```
#[derive(Debug, Default)]
pub(crate) struct Luck(PrivateU32);

const WAITS: u32 = 0xff;
const PENALTY_SHIFT: u32 = 8;
const TRYING: u32 = 1 << 16;
/// Waits without busy turns after the first one that was in vain, and at most.
const PENALTY_MIN: u32 = 15;
const PENALTY_MAX: u32 = WAITS;

impl Luck {
    /// True if the next wait shall begin busily.
    pub(crate) fn draw(&self) -> bool {
        // Relaxed: a guess, private to this process.
        let state = self.0.load(Relaxed);
        let next = if state & WAITS > 0 {
            state - 1
        } else if state & TRYING != 0 {
            // The last busy wait was not in vain, or we would have been told.
            TRYING
        } else {
            state | TRYING
        };
        // Relaxed: as above.
        self.0.store(next, Relaxed);
        next & TRYING != 0
    }

    /// True if the busy wait before the last pause was in vain.
    fn was_bad(&self) -> bool {
        // Relaxed: as in `draw`.
        self.0.load(Relaxed) >> PENALTY_SHIFT & WAITS > 0
    }

    pub(crate) fn was_in_vain(&self) {
        // Relaxed: as in `draw`.
        let penalty = self.0.load(Relaxed) >> PENALTY_SHIFT & WAITS;
        let penalty = (2 * penalty + 1).clamp(PENALTY_MIN, PENALTY_MAX);
        // Relaxed: as above.
        self.0.store(penalty << PENALTY_SHIFT | penalty, Relaxed);
    }
}

/// Whether the other side is so close behind, or ahead, that the two hinder each other: how long a wait of a handle pauses before it
/// looks again.
///
/// A side that waits for the next slot and looks at it all the time takes away the very cache line that the other side is
/// writing, gets one value for it, and waits again: each value then costs several transfers of the line. If it looks the other
/// way for a microsecond or two, the other side gets dozens of slots done, as fast as if it were alone, and so does this one after it. In
/// a dialogue the answer would only come later. The two look alike from here, so one wait in `PROBE` pauses, and the next one sees
/// what came of it: several values are a stream, in which every wait pauses from then on, until one brings fewer.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Where the last wait was.
    position: PrivateU64,
    /// Waits until one probes, or `PAUSED`: the last one paused.
    waits_left: PrivateU32,
}

/// One wait in so many: 99 of 100 round trips do not notice.
const PROBE: u32 = 500;
const PAUSED: u32 = u32::MAX;
/// Turns of a pause at most, two or three microseconds. 60 gained half as much.
const PAUSE_MAX: usize = 150;
/// One turn for so many slots of the ring: it shall not fill up, or be empty, meanwhile. A turn is about what a message takes.
const SLOTS_PER_TURN: usize = 8;
/// So many slots from one wait to the next are a stream.
const STREAM: u64 = 8;

impl Pace {
    /// Turns that a wait at `position` in a ring of `ring_len` slots pauses for.
    pub(crate) fn pause(&self, position: u64, ring_len: usize) -> u32 {
        // Relaxed: guesses, private to this process.
        let passed = position.wrapping_sub(self.position.load(Relaxed));
        // Relaxed: as above.
        self.position.store(position, Relaxed);
        // Relaxed: as above.
        let (next, pause) = match self.waits_left.load(Relaxed) {
            PAUSED if passed < STREAM => (PROBE, 0),
            PAUSED | 0 => (PAUSED, (ring_len / SLOTS_PER_TURN).min(PAUSE_MAX) as u32),
            waits_left => (waits_left - 1, 0),
        };
        // Relaxed: as above.
        self.waits_left.store(next, Relaxed);
        pause
    }
}

/// One operation's wait, from its first busy turn to its last sleep.
pub(crate) struct Wait<'a> {
    luck: &'a Luck,
    patience: Patience,
    spins: u32,
    spins_left: u32,
    /// Turns before the first look.
    pause: u32,
    /// Busy waits still to come, each after a yield.
    rounds_left: u32,
    /// The first one was in vain.
    in_vain: bool,
    yields_left: u32,
    ticket: Option<Ticket>,
    sleeps: u32,
    hurried: bool,
    /// A barrier stood between the arming of this ticket and the last look.
    settled: bool,
    /// A sleeper that armed later is to lie down first.
    yields_bed: bool,
    /// Posters make no fence between what they do and their look at the event.
    fenceless: bool,
    /// The ticket is new, and posters may have missed it.
    unsettled: bool,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(core: &Core, luck: &'a Luck, patience: Patience) -> Wait<'a> {
        let spins = if matches!(patience, Patience::None) || !luck.draw() {
            0
        } else {
            core.spins()
        };
        Wait {
            luck,
            patience,
            spins,
            spins_left: spins,
            pause: 0,
            rounds_left: if luck.was_bad() { ROUNDS } else { 0 },
            in_vain: false,
            yields_left: if matches!(patience, Patience::None) {
                0
            } else {
                YIELDS
            },
            ticket: None,
            sleeps: 0,
            hurried: false,
            settled: false,
            yields_bed: false,
            fenceless: false,
            unsettled: false,
        }
    }

    /// For posters that make no fence: the first sleep on each ticket is a moment's, and the look after it finds
    /// whatever was done by a poster that missed the ticket.
    pub(crate) fn fenceless(self) -> Wait<'a> {
        Wait {
            fenceless: true,
            ..self
        }
    }

    /// The same wait with so many turns before its first look, if it begins busily.
    pub(crate) fn pausing(self, pause: u32) -> Wait<'a> {
        Wait { pause, ..self }
    }

    /// The next thing to do. The order matters: the ticket first, then one more look, then sleep.
    pub(crate) fn step(&mut self, event: &Event) -> Step {
        if self.spins_left > 0 {
            for _ in 0..mem::take(&mut self.pause) {
                spin();
            }
            self.spins_left -= 1;
            if self.spins_left == 0 && !self.in_vain {
                self.in_vain = true;
                self.luck.was_in_vain();
            }
            spin();
            return Step::Again;
        }
        if self.spins > 0 && self.rounds_left > 0 {
            self.rounds_left -= 1;
            self.spins_left = self.spins;
            thread::yield_now();
            return Step::Again;
        }
        if self.yields_left > 0 {
            self.yields_left -= 1;
            thread::yield_now();
            return Step::Again;
        }
        if mem::take(&mut self.yields_bed) {
            let left = self.patience.left();
            thread::sleep(left.map_or(AFTER_YOU, |left| left.min(AFTER_YOU)));
            return Step::Again;
        }
        if self.ticket.is_none() && !matches!(self.patience, Patience::None) {
            self.ticket = Some(event.arm());
            self.unsettled = self.fenceless;
            return Step::Armed;
        }
        Step::LookRound
    }

    /// Makes the next sleep a moment's: what is waited for may happen without a post, if its poster has looked at
    /// the event already.
    pub(crate) fn hurry(&mut self) {
        self.hurried = true;
    }

    pub(crate) fn forget_ticket(&mut self) {
        self.ticket = None;
        self.settled = false;
    }

    pub(crate) fn has_slept(&self) -> bool {
        self.sleeps > 0
    }

    /// True once a sleep has brought nothing: from here on, somebody may be dead.
    pub(crate) fn is_long(&self) -> bool {
        self.sleeps > 0 || matches!(self.patience, Patience::None)
    }

    /// Sleeps on the ticket; an error is the end of the caller's patience.
    pub(crate) fn sleep(&mut self, core: &Core, event: &Event, none: Why) -> Result<(), Why> {
        let Some(ticket) = self.ticket.take() else {
            return Err(none);
        };
        let left = self.patience.left();
        if left == Some(Duration::ZERO) {
            return Err(Why::Timeout);
        }
        if mem::take(&mut self.unsettled) {
            let began = Instant::now();
            event.sleep(ticket, Some(left.map_or(MOMENT, |left| left.min(MOMENT))));
            // Not posted: the same ticket again, so that the next sleep may be a long one; unless a signal ended the moment early.
            self.ticket = event.holds(ticket).then_some(ticket);
            self.unsettled = self.ticket.is_some() && began.elapsed() < MOMENT;
            return Ok(());
        }
        // On this ticket; the next one is another matter.
        let settled = mem::take(&mut self.settled);
        let beside_claim = mem::take(&mut self.hurried);
        if settled && beside_claim && !event.holds(ticket) {
            // Posted, and the next look finds what; or armed by another sleeper.
            self.yields_bed = true;
            return Ok(());
        }
        let hurried = beside_claim && !settled;
        if hurried && settles(self.sleeps, left) {
            // Once more with the same ticket: whatever is still undone then will be posted.
            self.ticket = Some(ticket);
            self.settled = true;
            return Ok(());
        }
        let moment = hurried.then(|| MOMENT * (1 << self.sleeps.min(MOMENT_DOUBLINGS)));
        let shorter = |limit: Duration| left.map_or(limit, |left| left.min(limit));
        if self.sleeps == 0 && core.roll().range().0 > FEW {
            event.sleep(ticket, Some(shorter(moment.unwrap_or(NAP))));
        } else {
            core.sleep_watching(event, ticket, moment.map(shorter).or(left));
        }
        self.sleeps = self.sleeps.saturating_add(1);
        Ok(())
    }
}

/// Sees to it, if it is worth it, that every poster who missed an arming that came before has done by now what it posts; false
/// if not.
pub(crate) fn settles(sleeps: u32, left: Option<Duration>) -> bool {
    sleeps >= SETTLE_AFTER
        && left.is_none_or(|left| left > SETTLE_LEFT_MIN)
        && sys::barrier_everywhere().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits_without(luck: &Luck) -> usize {
        (0..).take_while(|_| !luck.draw()).count()
    }

    #[test]
    fn waits_pause_in_a_stream_and_hardly_ever_in_a_dialogue() {
        let pace = Pace::default();
        let mut position = 0;
        let mut pauses = |step: u64, waits: u32| {
            (0..waits)
                .filter(|_| {
                    position += step;
                    pace.pause(position, 1024) > 0
                })
                .count()
        };
        // A dialogue: one value a wait.
        assert!(pauses(1, 10 * PROBE) <= 11);
        // A stream: one probe, and then every wait.
        assert!(pauses(30, 2 * PROBE) >= 1);
        assert_eq!(pauses(30, 100), 100);
        assert!(pauses(1, PROBE) <= 1);
        assert_eq!(Pace::default().pause(0, 1), 0, "no room for a stream");
    }

    #[test]
    fn busy_waits_in_vain_become_rare_and_one_that_is_not_makes_them_the_rule() {
        let luck = Luck::default();
        assert!(luck.draw() && luck.draw());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            luck.was_in_vain();
            pauses.push(waits_without(&luck));
        }
        assert_eq!(pauses, [15, 31, 63, 127, 255, 255]);
        assert!(luck.draw(), "the last one was not in vain");
        luck.was_in_vain();
        assert_eq!(waits_without(&luck), 15);
    }
}
