//! One wait of a select, from its first look to its last sleep.

use super::{Case, Kind, Look, Select};
use crate::layout::Owner;
use crate::patience::{AFTER_YOU, Luck, MOMENT, MOMENT_DOUBLINGS, Patience, YIELDS, settles};
use crate::readiness::Readiness;
use crate::sync::spin;
use crate::sys::{self, PollFd};
use crate::vigil::{self, Bell, LOOK_ROUND_POLLING};
use crate::wait::Event;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

/// The state of a wait between two attempts of the caller; passes on what it was woken for and did not take when it
/// is dropped, however that comes about.
pub(super) struct Turn<'s, 'a> {
    cases: &'s [Option<Kind<'a>>],
    luck: &'s Luck,
    random: &'s mut u64,
    faces: &'s mut Vec<Option<Readiness<'a>>>,
    patience: Patience,
    spins_left: u32,
    yields_left: u32,
    /// Sleeps in `poll` and not on futexes.
    polls: bool,
    /// Armed since the last sleep: each event once.
    bells: Vec<Bell<'a>>,
    /// Every event is among the bells.
    armed: bool,
    /// When the moment is over that a ticket must have been good for, where posters make no fence.
    unsettled: Option<Instant>,
    sleeps: u32,
    looked_round: bool,
    /// A barrier stood between the arming and the last look.
    settled: bool,
    /// A sleeper that armed later is to lie down first.
    yields_bed: bool,
}

impl<'s, 'a> Turn<'s, 'a> {
    pub(super) fn new(select: &'s mut Select<'a>, patience: Patience) -> Turn<'s, 'a> {
        let polls = select.has_descriptors() || (select.all_pollable() && !sys::has_futex_waitv());
        let busy = !matches!(patience, Patience::None) && !polls;
        let first = channels(&select.cases).next();
        Turn {
            spins_left: match first {
                Some(case) if busy && select.luck.draw() => case.core().spins(),
                _ => 0,
            },
            yields_left: if busy { YIELDS } else { 0 },
            bells: Vec::new(),
            armed: false,
            unsettled: None,
            sleeps: 0,
            looked_round: false,
            settled: false,
            yields_bed: false,
            cases: &select.cases,
            luck: &select.luck,
            random: &mut select.random,
            faces: &mut select.faces,
            patience,
            polls,
        }
    }

    /// Waits until a case is ready and returns its number; `None` is the end of the caller's patience.
    ///
    /// The order is that of every sleeper: arm all, look at all again, look round, sleep.
    pub(super) fn ready(&mut self) -> Option<usize> {
        let mut soon = Vec::new();
        loop {
            soon.clear();
            if let Some(number) = self.look(&mut soon) {
                return Some(number);
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
            if mem::take(&mut self.yields_bed) {
                thread::sleep(shorter(Some(AFTER_YOU), self.patience.left()).unwrap_or(AFTER_YOU));
                continue;
            }
            if waits && !self.polls && !self.is_armed() {
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
            if self.polls {
                self.poll(left);
            } else if let Some(until) = self.unsettled {
                self.sleep_a_moment(until, left);
            } else {
                // On these tickets; the next ones are another matter.
                let settled = mem::take(&mut self.settled);
                let turned_back = |bell: &Bell<'_>| !bell.event.holds(bell.ticket);
                if settled && !soon.is_empty() && self.bells.iter().any(turned_back) {
                    // As in `Wait::sleep`.
                    self.yields_bed = true;
                    self.disarm();
                    continue;
                }
                let hurried = !soon.is_empty() && !settled;
                if hurried && settles(self.sleeps, left) {
                    // Once more with the same tickets: whatever is still undone then will be posted.
                    self.settled = true;
                    continue;
                }
                let moment = hurried.then(|| MOMENT * (1 << self.sleeps.min(MOMENT_DOUBLINGS)));
                vigil::sleep(&self.bells, shorter(moment, left));
                self.disarm();
            }
            self.sleeps = self.sleeps.saturating_add(1);
        }
    }

    /// Looks at every case from a random one on, and returns the first that is ready.
    fn look(&mut self, soon: &mut Vec<(Case<'a>, Option<Owner>)>) -> Option<usize> {
        let mut fds = self.descriptors();
        if !fds.is_empty() {
            sys::poll(&mut fds, Some(Duration::ZERO)).ok();
        }
        let count = self.cases.len();
        let start = self.draw(count);
        let before = self.cases[..start].iter().flatten();
        let mut next_fd = before
            .filter(|kind| matches!(kind, Kind::Descriptor(_)))
            .count();
        for number in (start..count).chain(0..start) {
            if number == 0 {
                next_fd = 0;
            }
            match &self.cases[number] {
                None => {}
                Some(Kind::Descriptor(_)) => {
                    if fds[next_fd].is_ready() {
                        return Some(number);
                    }
                    next_fd += 1;
                }
                Some(Kind::Channel(case)) => match case.look() {
                    Look::Ready => return Some(number),
                    Look::Nothing => {}
                    Look::Soon(owner) => soon.push((*case, owner)),
                },
            }
        }
        None
    }

    fn descriptors(&self) -> Vec<PollFd<'a>> {
        let kinds = self.cases.iter().flatten();
        kinds
            .filter_map(|kind| match kind {
                Kind::Descriptor(fd) => Some(*fd),
                Kind::Channel(_) => None,
            })
            .collect()
    }

    /// True if there is a ticket of the event of each case, as the last look at the case found it.
    fn is_armed(&self) -> bool {
        let has_bell = |event: &Event| self.bells.iter().any(|bell| ptr::eq(bell.event, event));
        self.armed && channels(self.cases).all(|case| has_bell(case.event()))
    }

    /// Draws a ticket of every event that has none, each once: a second arming would turn back the first.
    fn arm(&mut self) {
        if mem::replace(&mut self.armed, true) {
            // A case waits for another event than before.
            self.bells.clear();
        }
        // A barrier that stood before an arming settles nothing about it.
        self.settled = false;
        for case in channels(self.cases) {
            if self.sleeps > 0 {
                case.pass_on_unused();
            }
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
            if case.standing().is_some() {
                self.unsettled = Some(Instant::now() + MOMENT);
            }
        }
    }

    fn disarm(&mut self) {
        self.bells.clear();
        self.armed = false;
        self.unsettled = None;
    }

    /// Sleeps until the moment is over, and lets go of the tickets that are no good any more; the look after it finds what was done
    /// by posters that missed the others.
    fn sleep_a_moment(&mut self, until: Instant, left: Option<Duration>) {
        let moment = until.saturating_duration_since(Instant::now());
        vigil::sleep(&self.bells, shorter(Some(moment), left));
        self.bells.retain(|bell| bell.event.holds(bell.ticket));
        self.armed = false;
        // A signal or a death may have ended it early.
        self.unsettled = self.unsettled.filter(|&until| Instant::now() < until);
    }

    /// Buries the dead and asks who is gone; true if that may have changed what a look finds.
    fn look_round(&mut self, soon: &[(Case<'a>, Option<Owner>)]) -> bool {
        let mut changed = false;
        for (case, owner) in soon {
            if owner.is_some_and(|owner| case.core().is_dead(owner)) {
                changed |= case.core().bury_dead();
            }
        }
        for case in channels(self.cases) {
            changed |= case.core().bury_dead();
            // Ready from here on. Once told is enough: what stands in the way then is somebody's moment.
            changed |= case.is_gone() && !self.looked_round;
        }
        self.looked_round = changed;
        if changed {
            self.disarm();
            self.settled = false;
        }
        changed
    }

    /// Sleeps on all descriptors, the channels' among them.
    fn poll(&mut self, left: Option<Duration>) {
        let limit = match self.arm_faces() {
            Ok(true) => left,
            Ok(false) => return,
            // No descriptors left: the rest is looked at now and then.
            Err(_) => shorter(Some(LOOK_ROUND_POLLING), left),
        };
        let mut fds = self.descriptors();
        fds.extend(
            self.faces
                .iter()
                .flatten()
                .map(|face| PollFd::readable(face.as_fd())),
        );
        if sys::poll(&mut fds, limit).is_err() {
            thread::sleep(limit.map_or(LOOK_ROUND_POLLING, |limit| limit.min(LOOK_ROUND_POLLING)));
        }
    }

    /// Arms every channel's descriptor; false if one of them is ready instead.
    fn arm_faces(&mut self) -> io::Result<bool> {
        self.faces.resize_with(self.cases.len(), || None);
        for (face, kind) in self.faces.iter_mut().zip(self.cases) {
            let Some(Kind::Channel(case)) = kind else {
                continue;
            };
            let face = match face {
                Some(made) if made.is_ours() => made,
                other => other.insert(Readiness::new(*case)?),
            };
            if !face.arm()? {
                return Ok(false);
            }
        }
        Ok(true)
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
            channels(self.cases).for_each(Case::pass_on);
        }
    }
}

fn channels<'a>(cases: &[Option<Kind<'a>>]) -> impl Iterator<Item = Case<'a>> {
    cases.iter().flatten().filter_map(|kind| match kind {
        Kind::Channel(case) => Some(*case),
        Kind::Descriptor(_) => None,
    })
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
