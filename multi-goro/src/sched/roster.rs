//! Every started task, for reports: read off the stacks, whose last word says who stands on them.
//!
//! A task is put there by a plain store when it begins, and taken off in its worker's gate when it ends (`proto/gate.rs`), so that the
//! cells of those that are there can be read from any thread while the gates are shut.

#![expect(unsafe_code, reason = "reads the cells of tasks of other threads")]

use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::behind::{GroupNumber, Identity, Stamp};
use super::park::Waiter;
use super::shared::Shared;
use super::status::{Seen, Tick, WaitsFor};
use super::task::Header;
use crate::stack::Tour;
use crate::sync::{Ordering::*, fence};

/// Stacks looked at while the gates are shut: about a millisecond, for which tasks that end have to wait, where none of it is in a cache.
const AT_ONCE: usize = 4096;

/// What is known of a started task, as of one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) started_at: Option<&'static Location<'static>>,
    pub(crate) worker: usize,
    pub(crate) does: Does,
    /// Who it is.
    pub(crate) identity: Identity,
    /// The group that it is one of.
    pub(crate) group: Option<GroupNumber>,
    /// Its wait, if it is certain behind whom.
    pub(crate) stamp: Option<Stamp>,
    /// For how long, to some hundredths of a second; or since its worker last looked at the clock, if that is longer.
    pub(crate) lasts: Duration,
}

/// What a started task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Does {
    Run,
    /// In a queue of its worker.
    BeReady,
    Wait {
        what: WaitsFor,
        has_deadline: bool,
    },
}

/// A look at all of a runtime's tasks.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    /// Every task that has a stack.
    pub(crate) sightings: Vec<Sighting>,
    /// All tasks, those without one, too.
    pub(crate) task_count: usize,
    /// Workers, spare ones that have been needed among them.
    pub(crate) workers: usize,
    pub(crate) sleeping: usize,
    /// Whether every worker slept all the time of the survey.
    pub(crate) is_at_rest: bool,
}

impl Shared {
    /// Looks at every task, and lists those `which` does what is to be listed.
    pub(crate) fn survey(&self, which: fn(Seen) -> bool) -> Survey {
        let before = self.sleepers();
        let sightings = self.sightings(which);
        let after = self.sleepers();
        Survey {
            sightings,
            task_count: self.task_count(),
            workers: after.len(),
            sleeping: after.iter().flatten().count(),
            // Who wakes begins a round before it runs anything.
            is_at_rest: before == after && after.iter().all(Option::is_some),
        }
    }

    /// How many threads the runtime has for itself, all workers asleep; unknown if one is only lent to it.
    pub(crate) fn own_threads(&self) -> Option<usize> {
        let workers = self.seated().len();
        match self.bound() {
            None => Some(workers + 1),
            Some(bound) => bound.bell().is_none().then_some(workers),
        }
    }

    /// Whether every worker sleeps at this moment.
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleepers().iter().all(Option::is_some)
    }

    /// Of each worker, spare ones too, how many rounds it had made when it fell asleep; none if it is awake.
    fn sleepers(&self) -> Vec<Option<u32>> {
        let remotes = self.seated().iter().enumerate();
        let rounds = remotes.map(|(worker, remote)| {
            let asleep = self.idle.is_asleep(worker);
            // Relaxed: a sign of life.
            asleep.then(|| remote.0.rounds.load(Relaxed))
        });
        rounds.collect()
    }

    /// Those of the tasks that have a stack. The gates are open now and then meanwhile.
    fn sightings(&self, which: fn(Seen) -> bool) -> Vec<Sighting> {
        let mut seen = Vec::new();
        let mut tour = Tour::default();
        let mut is_more = true;
        while is_more {
            // Before, so that nobody waits for memory.
            seen.reserve(AT_ONCE);
            let gates = self.remotes.iter().map(|remote| &remote.0.gate);
            is_more = self.bar.inspect(gates, || {
                let now = Tick::now();
                self.stacks.some_tenants(&mut tour, AT_ONCE, |task| {
                    // SAFETY: tenants are the `Header`s that `Worker::begin` put there, and stay alive while the gates are shut.
                    let header = unsafe { task.cast::<Header>().as_ref() };
                    if which(header.status.look()) {
                        seen.push(look(header, now));
                    }
                })
            });
        }
        seen
    }
}

fn look(header: &Header, now: Tick) -> Sighting {
    let status = header.status.look();
    let stamp = (status.is_behind() && header.park.word.is_waiting())
        .then(|| stamp(header, status))
        .flatten();
    let does = match status.waits_for() {
        Some(what) if header.park.word.is_waiting() => Does::Wait {
            what,
            has_deadline: status.has_deadline(),
        },
        // Unparked, and has not gone on yet.
        Some(_) => Does::BeReady,
        None if status.has_yielded() => Does::BeReady,
        None => Does::Run,
    };
    Sighting {
        name: header.name().cloned(),
        started_at: header.started_at,
        worker: header.home(),
        identity: Waiter::of_task(NonNull::from(header)).identity(),
        group: header.group(),
        stamp,
        does,
        lasts: status.since(now),
    }
}

/// What a task that was seen to wait with `seen` has said of its wait, if that goes on.
fn stamp(header: &Header, seen: Seen) -> Option<Stamp> {
    // What the task wrote before it parked is seen. Pairs with the Release in `TaskWord::park`.
    fence(Acquire);
    let word = header.behind();
    // The second look is made after what lies between. Pairs with nothing: a task that goes on changes its word first.
    fence(Acquire);
    let goes_on = header.park.word.is_waiting() && header.status.look() == seen;
    goes_on.then_some(Stamp { seen, word })
}

/// Who stands on a stack, as the stack knows it.
pub(super) fn tenant(header: &Header) -> NonNull<()> {
    NonNull::from(header).cast()
}
