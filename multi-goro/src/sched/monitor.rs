//! The monitor: a thread that sees to it that no unstarted task waits behind a task that keeps its worker, by means of spare
//! workers. It sleeps while nothing waits to start; see `sched/README.md`.

#![expect(unsafe_code, reason = "reads of the running task what it is called")]

use std::fmt;
use std::iter;
use std::panic::Location;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use multi_core::clock::ticks;

use super::shared::{Remote, Shared};
use super::task::TaskRef;
use super::worker::Worker;
use super::worth::Errand;
use crate::proto::watch::{FOR_EVER, Watch};
use crate::sync::Ordering::*;
use crate::sys;

/// How often the monitor looks while something waits to start.
const TICK: Duration = Duration::from_millis(5);
/// As often while children are left to it that were not announced: see `worth.rs`.
const HUSHED_TICK: Duration = Duration::from_millis(1);
/// A worker that has been in one task for as long is stuck. Go's share of a goroutine.
const STUCK: Duration = Duration::from_millis(10);
/// How long nothing has waited when the monitor dozes off.
const QUIET: Duration = Duration::from_millis(10);
/// What a suspected task must have computed for to be found stuck: else its thread may only not have been run by the system, and a
/// spare worker would have to share the same few processors.
const COMPUTED: Duration = Duration::from_millis(1);
/// Reports that are printed one after the other; after that one each [`REPORT_EVERY`].
const REPORTS_AT_ONCE: u32 = 4;
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What is known of a task that keeps its worker while others wait to start: what
/// [`RuntimeBuilder::on_stuck`](crate::RuntimeBuilder::on_stuck) is told.
///
/// Displays as the sentence that is printed if nothing else is asked for.
#[derive(Debug, Clone)]
pub struct StuckTask {
    name: Option<Arc<str>>,
    started_at: Option<&'static Location<'static>>,
    worker: usize,
    at_least: Duration,
}

impl StuckTask {
    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The place in the program that started it.
    #[must_use]
    pub fn started_at(&self) -> Option<&'static Location<'static>> {
        self.started_at
    }

    /// The worker that it keeps. Spare workers are counted from the number of workers on.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How long it has run without letting others run, as far as seen.
    #[must_use]
    pub fn at_least(&self) -> Duration {
        self.at_least
    }
}

impl fmt::Display for StuckTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task")?;
        if let Some(name) = &self.name {
            write!(f, " \"{name}\"")?;
        }
        if let Some(place) = self.started_at {
            write!(f, " started at {place}")?;
        }
        write!(
            f,
            " has kept worker {} for {} ms while others wait to start; call checkpoint() now and then in a long computation, \
             make blocking calls through blocking(), or use Group::locked()",
            self.worker,
            self.at_least.as_millis()
        )
    }
}

/// What becomes of the news of a stuck task.
#[derive(Clone, Default)]
pub(crate) enum OnStuck {
    /// A line on standard error, not too often.
    #[default]
    Print,
    Ignore,
    Tell(Arc<dyn Fn(&StuckTask) + Send + Sync>),
}

impl fmt::Debug for OnStuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Print => "Print",
            Self::Ignore => "Ignore",
            Self::Tell(_) => "Tell",
        })
    }
}

/// The monitor's own side; one thread's.
pub(super) struct Monitor {
    shared: Arc<Shared>,
    seen: Vec<Seen>,
    threads: Vec<JoinHandle<()>>,
    on_stuck: OnStuck,
    printed: u32,
    last_printed: Instant,
    /// Reports that were not printed since.
    unprinted: u32,
    held_up: HeldUp,
}

/// What the monitor knows of tasks that park behind others.
struct HeldUp {
    /// When to look whether they are so for ever; none while it is known that they are not.
    due: Option<Instant>,
    /// How many there had been when that was set, over all time: who came later is for the next look.
    until: u32,
    /// How many there had been before those.
    seen: u32,
    patience: Duration,
}

/// How long tasks have been held up before somebody looks whether that is for ever; after that it is twice as long each time, as long as
/// others are.
const HELD_UP_LOOK: Duration = Duration::from_millis(600);
const HELD_UP_LOOK_MAX: Duration = Duration::from_secs(20);
/// How much longer than a look the time between two is: looks may take a hundredth of a processor.
const HELD_UP_SHARE: u32 = 100;

/// What looks whether tasks of any runtime hold each other up.
static ON_HELD_UP: OnceLock<fn() -> bool> = OnceLock::new();

/// Has `look` called by monitors when tasks have been parked behind others for a while. It returns whether it suspects some, and is to be
/// called again soon.
pub(crate) fn on_held_up(look: fn() -> bool) {
    ON_HELD_UP.get_or_init(|| look);
}

/// What the monitor remembers of a worker.
#[derive(Clone, Copy)]
struct Seen {
    rounds: u32,
    /// When the rounds were first seen to be these.
    since: Instant,
    /// What the thread had used of a processor when they were seen again.
    used: Option<Duration>,
    stuck: bool,
    told: bool,
}

impl Seen {
    fn new(rounds: u32, since: Instant) -> Self {
        Self {
            rounds,
            since,
            used: None,
            stuck: false,
            told: false,
        }
    }
}

impl Monitor {
    pub(super) fn new(shared: Arc<Shared>, on_stuck: OnStuck) -> Self {
        let now = Instant::now();
        Self {
            seen: vec![Seen::new(0, now); shared.remotes.len()],
            shared,
            threads: Vec::new(),
            on_stuck,
            printed: 0,
            last_printed: now,
            unprinted: 0,
            held_up: HeldUp {
                due: None,
                until: 0,
                seen: 0,
                patience: HELD_UP_LOOK,
            },
        }
    }

    /// The life of the monitor's thread: as long as its runtime has workers.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let watch = &shared.watch;
        let mut quiet = Duration::ZERO;
        loop {
            watch.look();
            if shared.may_leave() {
                break;
            }
            self.see_to_held_up();
            let waits = self.tick();
            if waits || quiet < QUIET {
                let tick = if shared.worth.was_hushed() {
                    HUSHED_TICK
                } else {
                    TICK
                };
                sys::futex_wait(watch.word(), Watch::WATCHING, Some(tick));
                quiet = if waits { Duration::ZERO } else { quiet + tick };
                continue;
            }
            // With the spare workers apart, who next leaves a task to them finds nobody free, and calls us.
            self.keep_spares(0);
            watch.doze();
            quiet = Duration::ZERO;
            if !shared.has_waiting() && !shared.may_leave() {
                self.see_to_held_up();
                let nap = shared.nearest_nap().map(relief);
                let until = nap.into_iter().chain(self.held_up.due).min();
                let is_expecting = self.held_up.due.is_some();
                watch.doze_until(until.map_or(FOR_EVER, ticks), is_expecting);
                let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
                sys::futex_wait(watch.word(), Watch::DOZING, timeout);
                // Relaxed: nobody has called; one look will do.
                if watch.word().load(Relaxed) == Watch::DOZING {
                    quiet = QUIET;
                }
            }
        }
        for thread in self.threads.drain(..) {
            // A worker ends by returning: there is no panic to pass on.
            let _ignored = thread.join();
        }
    }

    /// One look at everything; returns whether something waits to start.
    fn tick(&mut self) -> bool {
        let suspects = self.find_suspects();
        self.relieve();
        if !self.shared.has_waiting() {
            return false;
        }
        let stuck: Vec<_> = suspects.into_iter().filter(|w| self.is_stuck(*w)).collect();
        self.help(&stuck);
        for worker in stuck {
            self.tell(worker);
        }
        true
    }

    /// Has somebody look at tasks that are parked behind others, if it is time.
    fn see_to_held_up(&mut self) {
        let now = Instant::now();
        let counts = self.shared.seated().iter();
        // Acquire: pairs with the Release in `Worker::hold_up`. Otherwise a hint; before a doze the monitor has a fence before.
        let count = counts.fold(0_u32, |sum, remote| {
            sum.wrapping_add(remote.0.hold_ups.load(Acquire))
        });
        let held_up = &mut self.held_up;
        match held_up.due {
            Some(due) if due > now => return,
            Some(_) => {
                let suspects = ON_HELD_UP.get().is_some_and(|look| look());
                let least = now.elapsed() * HELD_UP_SHARE;
                held_up.due = None;
                if suspects {
                    // Soon, and of the same ones.
                    held_up.due = Some(Instant::now() + HELD_UP_LOOK.max(least));
                    return;
                }
                held_up.seen = held_up.until;
                held_up.patience = (held_up.patience * 2).min(HELD_UP_LOOK_MAX).max(least);
            }
            None => {}
        }
        if count == held_up.seen {
            // Nobody has parked so since: nobody can have been caught.
            held_up.patience = HELD_UP_LOOK;
        } else {
            held_up.until = count;
            held_up.due = Some(Instant::now() + held_up.patience);
        }
    }

    /// Wakes the tasks without a stack whose deadlines a worker should have seen to.
    fn relieve(&self) {
        let now = Instant::now();
        for remote in self.shared.seated() {
            let naps = &remote.0.naps;
            if naps.nearest().is_some_and(|at| relief(at) <= now) {
                naps.fire(now);
            }
        }
    }

    /// Has spare workers start what waits behind `stuck` workers.
    fn help(&mut self, stuck: &[usize]) {
        let shared = Arc::clone(&self.shared);
        for worker in stuck {
            // Acquire: pairs with the Release swap in `Worker::spawn`: the child is seen whole.
            let child = shared.remotes[*worker]
                .0
                .newest
                .swap(ptr::null_mut(), Acquire);
            shared
                .injector()
                .push(ptr::NonNull::new(child).map(TaskRef));
            let dealt = &shared.remotes[*worker].0.dealt;
            let dealt: Vec<_> = iter::from_fn(|| dealt.take(1, 0, |_| ())).collect();
            shared.injector().push(dealt);
        }
        // In the fast paths a publisher may miss a sleeper by the width of a store buffer: this makes up for it. And offers are not
        // always announced.
        if shared.has_unstarted() || shared.has_offers() {
            shared.announce_for(Errand::Waiting);
        }
        let active = shared.active_spares();
        if stuck.len() < active {
            self.keep_spares(stuck.len());
        } else if stuck.len() > active && !shared.idle.is_anybody_free() && shared.has_unstarted() {
            self.add_spares(stuck.len() - active);
        }
    }

    /// The workers that have been in one task for [`STUCK`].
    fn find_suspects(&mut self) -> Vec<usize> {
        let now = Instant::now();
        let mut suspects = Vec::new();
        for (worker, (remote, seen)) in self.shared.seated().iter().zip(&mut self.seen).enumerate()
        {
            // Relaxed: a sign of life, looked at every few milliseconds.
            let rounds = remote.0.rounds.load(Relaxed);
            if rounds != seen.rounds || self.shared.idle.is_asleep(worker) {
                *seen = Seen::new(rounds, now);
                continue;
            }
            if seen.used.is_none() {
                seen.used = used(&remote.0);
            }
            if now - seen.since >= STUCK && remote.0.shown.is_some() {
                suspects.push(worker);
            }
        }
        suspects
    }

    /// Whether a suspected worker's task is what keeps it: it has computed, or it sleeps in a system call.
    fn is_stuck(&mut self, worker: usize) -> bool {
        let remote = &self.shared.remotes[worker].0;
        let seen = &mut self.seen[worker];
        if !seen.stuck {
            seen.stuck = match (used(remote), seen.used) {
                (Some(now), Some(before)) if now.saturating_sub(before) < COMPUTED => {
                    !is_runnable(remote)
                }
                // Unknown: the time alone has to do.
                _ => true,
            };
        }
        seen.stuck
    }

    /// Has `more` spare workers take unstarted tasks, as far as there are so many.
    fn add_spares(&mut self, more: usize) {
        let shared = Arc::clone(&self.shared);
        let resting = shared.spares().filter(|(_, spare)| !spare.is_active());
        for (worker, spare) in resting.take(more) {
            if worker >= shared.seated().len() && !self.start_spare(worker, spare) {
                // No thread to be had now. The next tick tries again.
                return;
            }
            spare.set_active(true);
            // The lock in it orders this before the last look of a worker that falls asleep apart.
            if shared.idle.wake_this(worker) {
                shared.wake(worker);
            }
        }
    }

    fn start_spare(&mut self, worker: usize, spare: &Remote) -> bool {
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name(format!("goro-spare-{worker}"))
            .spawn(move || {
                let owner = shared.remotes[worker].0.take_owner();
                Worker::run(shared, worker, owner);
            });
        let Ok(thread) = started else {
            return false;
        };
        self.threads.push(thread);
        debug_assert!(!spare.is_active());
        self.shared.seat_next(worker);
        true
    }

    /// Lets `count` spare workers go on taking unstarted tasks; the others run what they have started, and rest.
    fn keep_spares(&self, count: usize) {
        let active = self.shared.spares().filter(|(_, spare)| spare.is_active());
        for (worker, spare) in active.skip(count) {
            spare.set_active(false);
            self.shared.idle.set_apart(worker);
        }
    }

    /// Tells of a stuck task, once while it is in its worker.
    fn tell(&mut self, worker: usize) {
        let seen = &mut self.seen[worker];
        if seen.told || matches!(self.on_stuck, OnStuck::Ignore) {
            return;
        }
        seen.told = true;
        let at_least = seen.since.elapsed();
        let remote = &self.shared.remotes[worker].0;
        let task = remote.shown.look(|task| {
            // SAFETY: alive while it is looked at.
            let task = unsafe { task.as_ref() };
            StuckTask {
                name: task.name().cloned(),
                started_at: task.started_at,
                worker,
                at_least,
            }
        });
        match (&self.on_stuck, task) {
            (OnStuck::Tell(tell), Some(task)) => {
                // Whatever it does, workers need their monitor.
                drop(multi_core::panic::catch(|| tell(&task)));
            }
            (OnStuck::Print, Some(task)) => self.print(&task),
            _ => {}
        }
    }

    fn print(&mut self, task: &StuckTask) {
        if self.last_printed.elapsed() >= REPORT_EVERY {
            self.printed = self.printed.min(REPORTS_AT_ONCE - 1);
        }
        if self.printed >= REPORTS_AT_ONCE {
            self.unprinted += 1;
            return;
        }
        self.printed += 1;
        self.last_printed = Instant::now();
        let more = match std::mem::take(&mut self.unprinted) {
            0 => String::new(),
            count => format!(" ({count} more since the last report)"),
        };
        sys::write_error(format!("multi-goro: {task}{more}\n").as_bytes());
    }
}

/// When the monitor sees to a deadline at `at` that the worker has not seen to.
pub(super) fn relief(at: Instant) -> Instant {
    at.checked_add(TICK).unwrap_or(at)
}

/// What a worker's thread has used of a processor.
fn used(remote: &Remote) -> Option<Duration> {
    remote.thread.get()?.used().ok()
}

/// Whether a worker's thread runs or waits for a processor.
fn is_runnable(remote: &Remote) -> bool {
    let state = || {
        let path = format!("/proc/self/task/{}/stat", remote.thread.get()?.id());
        let text = std::fs::read_to_string(path).ok()?;
        // The number, the name in parentheses, the state.
        text.rsplit_once(") ")?.1.chars().next()
    };
    state() == Some('R')
}
