//! One wait of a select, from its first look to its last sleep.

use super::case::{Case, Look};
use crate::patience::{Luck, MOMENT, MOMENT_DOUBLINGS, Patience, YIELDS};
use crate::sync::spin;
use crate::vigil::{self, Bell};
use std::ptr;
use std::thread;
use std::time::Duration;

/// The state of a wait between two attempts of the caller; passes on what it was woken for and did not take when it
/// is dropped, however that comes about.
pub(super) struct Turn<'s, 'a> {
    cases: &'s [Option<Case<'a>>],
    luck: &'s Luck,
    random: &'s mut u64,
    patience: Patience,
    spins_left: u32,
    yields_left: u32,
    /// Armed since the last sleep: each event once.
    bells: Vec<Bell<'a>>,
    sleeps: u32,
    looked_round: bool,
}

impl<'s, 'a> Turn<'s, 'a> {
    pub(super) fn new(
        cases: &'s [Option<Case<'a>>],
        luck: &'s Luck,
        random: &'s mut u64,
        patience: Patience,
    ) -> Turn<'s, 'a> {
        let busy = !matches!(patience, Patience::None);
        let first = cases.iter().flatten().next();
        Turn {
            spins_left: match first {
                Some(case) if busy && luck.draw() => case.core().spins(),
                _ => 0,
            },
            yields_left: if busy { YIELDS } else { 0 },
            bells: Vec::new(),
            sleeps: 0,
            looked_round: false,
            cases,
            luck,
            random,
            patience,
        }
    }

    /// Waits until a case is ready and returns its number; `None` is the end of the caller's patience.
    ///
    /// The order is that of every sleeper: arm all, look at all again, look round, sleep.
    pub(super) fn ready(&mut self) -> Option<usize> {
        loop {
            let mut soon = Vec::new();
            let count = self.cases.len();
            let start = self.draw(count);
            for number in (start..count).chain(0..start) {
                let Some(case) = self.cases[number] else {
                    continue;
                };
                match case.look() {
                    Look::Ready => return Some(number),
                    Look::Nothing => {}
                    Look::Soon(owner) => soon.push((case, owner)),
                }
            }
            if self.spins_left > 0 {
                self.spins_left -= 1;
                if self.spins_left == 0 {
                    self.luck.was_in_vain();
                }
                spin();
                continue;
            }
            if self.yields_left > 0 {
                self.yields_left -= 1;
                thread::yield_now();
                continue;
            }
            let waits = !matches!(self.patience, Patience::None);
            if waits && self.bells.is_empty() {
                self.arm();
                continue;
            }
            if self.look_round(&soon) {
                continue;
            }
            let left = self.patience.left();
            if left == Some(Duration::ZERO) {
                return None;
            }
            let moment =
                (!soon.is_empty()).then(|| MOMENT * (1 << self.sleeps.min(MOMENT_DOUBLINGS)));
            let limit = match (moment, left) {
                (Some(moment), Some(left)) => Some(moment.min(left)),
                (moment, left) => moment.or(left),
            };
            vigil::sleep(&self.bells, limit);
            self.bells.clear();
            self.sleeps = self.sleeps.saturating_add(1);
        }
    }

    /// Draws a ticket of every event, each once: a second arming would turn back the first.
    fn arm(&mut self) {
        for case in self.cases.iter().flatten() {
            let event = case.event();
            if self.bells.iter().any(|bell| ptr::eq(bell.event, event)) {
                continue;
            }
            self.bells.push(Bell {
                core: case.core(),
                event,
                ticket: event.arm(),
            });
            case.announce();
        }
    }

    /// Buries the dead and asks who is gone; true if that may have changed what a look finds.
    fn look_round(&mut self, soon: &[(Case<'a>, Option<u16>)]) -> bool {
        let mut changed = false;
        for (case, owner) in soon {
            if owner.is_some_and(|owner| case.core().is_dead(owner)) {
                changed |= case.core().bury_dead();
            }
        }
        for case in self.cases.iter().flatten() {
            changed |= case.core().bury_dead();
            // Ready from here on. Once told is enough: what stands in the way then is somebody's moment.
            changed |= case.is_gone() && !self.looked_round;
        }
        self.looked_round = changed;
        if changed {
            self.bells.clear();
        }
        changed
    }

    /// A number below `count`, not the same ones in the same order.
    fn draw(&mut self, count: usize) -> usize {
        *self.random ^= *self.random << 13;
        *self.random ^= *self.random >> 7;
        *self.random ^= *self.random << 17;
        (*self.random % count as u64) as usize
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        if self.sleeps > 0 {
            for case in self.cases.iter().flatten() {
                case.pass_on();
            }
        }
    }
}
