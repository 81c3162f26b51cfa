//! One runtime: what its workers share and what others may touch of them.

#![expect(unsafe_code, reason = "makes tasks that point back here")]

use std::collections::VecDeque;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use multi_core::clock::ticks;

use super::bound::Bound;
use super::cells::Depot;
use super::counts::Counts;
use super::current;
use super::deal::Placement;
use super::monitor::{self, Monitor, OnStuck};
use super::naps::Naps;
use super::offers::OfferList;
use super::task::{Header, Info, Job, Lane, TaskRef};
use super::worker::{self, Worker};
use super::worth::{Errand, ErrandWord, Worth};
use crate::proto::gate::{Bar, Gate};
use crate::proto::idle::Idle;
use crate::proto::inbox::Inbox;
use crate::proto::ring::{Owner, Ring};
use crate::proto::shown::Shown;
use crate::proto::watch::{Call, Watch};
use crate::stack::{Class, Pool, overflow};
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*, OsMutex, Padded, fence,
    light_fence, lock, prepare_fences,
};
use crate::sys::{self, Thread};

/// What a runtime is to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    /// Most spare workers at a time.
    pub(crate) spares: usize,
    /// The stack class of tasks that ask for none.
    pub(crate) class: Class,
    /// Where tasks of groups begin that do not say so.
    pub(crate) placement: Placement,
    /// Whether forked children have the stacks of tasks.
    pub(crate) stacks_in_forks: bool,
    pub(crate) on_stuck: OnStuck,
}

/// The shared side of a runtime; each worker and each handle holds it.
pub(crate) struct Shared {
    /// The process it belongs to: a forked child has the memory, but none of the workers.
    owner: u32,
    /// This process's number as far as known; zero in a forked child until somebody looks.
    process: &'static AtomicU32,
    /// The workers, and behind them seats for spare ones.
    pub(super) remotes: Box<[Padded<Remote>]>,
    /// How many of them are workers.
    workers: usize,
    /// How many of them have, or had, a thread: grows only.
    seated: AtomicUsize,
    pub(super) idle: Idle,
    /// How to find the monitor; nobody listens on a bound runtime.
    pub(super) watch: Watch,
    injector: Queue,
    /// Whether wakes for children have paid.
    pub(super) worth: Worth,
    pub(super) stacks: Pool,
    pub(super) depot: Depot,
    /// Shuts the workers' gates.
    pub(super) bar: Bar,
    /// The stack class of tasks that ask for none.
    class: Class,
    /// Where tasks of groups begin that do not say so.
    placement: Placement,
    /// Tasks started from elsewhere than a worker.
    outside: Padded<AtomicU64>,
    /// For a runtime of one worker on a thread that its tasks are bound to.
    bound: Option<Bound>,
    /// Set once the last handle is gone: workers leave when no task is left.
    closing: AtomicBool,
}

/// What others may touch of one worker.
pub(super) struct Remote {
    /// Its stealable unstarted tasks.
    pub(super) ring: Ring<Header>,
    /// Its started tasks that others have unparked.
    pub(super) inbox: Inbox<Header>,
    /// Unstarted tasks that are to begin here; taken by others only when the worker is stuck.
    pub(super) dealt: Queue,
    /// What it was last woken for.
    pub(super) errand: ErrandWord,
    /// Stacks that tasks have begun on here. Written by the worker.
    pub(super) stacks: AtomicUsize,
    /// What it passes to take a task off the roster.
    pub(super) gate: Gate,
    /// What its tasks offer to idle workers.
    pub(super) offers: OfferList,
    /// Its newest child, unstarted: run next by the worker itself, taken by others only when the worker is stuck.
    pub(super) newest: AtomicPtr<Header>,
    /// Rounds of the scheduler. Standing still, it says that the worker is stuck in one task.
    pub(super) rounds: AtomicU32,
    /// The task that runs, for the monitor.
    pub(super) shown: Shown<Header>,
    /// Whether it takes what anybody may take. A worker always does, a spare one when the monitor says so.
    active: AtomicBool,
    /// Its thread, once it runs.
    pub(super) thread: OnceLock<Thread>,
    /// The other end of the ring, until a spare worker's thread begins.
    owner: OsMutex<Option<Owner>>,
    /// Tasks made by tasks on this worker.
    pub(super) spawned: AtomicU64,
    /// Tasks that ended on this worker.
    pub(super) finished: AtomicU64,
    /// Those of them that have told who waits, too, and left their stack: until then a destructor of theirs may still park.
    pub(super) gone: AtomicU64,
    /// What else is counted.
    pub(super) counts: Counts,
    /// How often its tasks have parked behind others.
    pub(super) hold_ups: AtomicU32,
    /// How many are parked so, as [`Shared::held_up`] counts them.
    pub(super) held_up: AtomicU32,
    /// Deadlines of tasks without a stack that were polled here.
    pub(super) naps: Arc<Naps>,
}

/// Unstarted tasks behind a lock: in the injector those from outside and what does not fit in a ring, and for each worker those
/// that were dealt to it.
pub(super) struct Queue {
    queue: OsMutex<VecDeque<TaskRef>>,
    len: AtomicUsize,
}

impl Queue {
    fn new() -> Self {
        Self {
            queue: OsMutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        // Relaxed: a hint; a sleeper that relies on it has a fence before (see `idle`).
        self.len.load(Relaxed)
    }

    pub(super) fn push(&self, tasks: impl IntoIterator<Item = TaskRef>) {
        let mut queue = lock(&self.queue);
        queue.extend(tasks);
        // Relaxed: written under the lock; see `is_empty` for readers.
        self.len.store(queue.len(), Relaxed);
    }

    /// Takes a fair share for one of `workers`: the first to run, the others handed over one by one.
    pub(super) fn take(
        &self,
        workers: usize,
        most: usize,
        mut each: impl FnMut(TaskRef),
    ) -> Option<TaskRef> {
        if self.is_empty() {
            return None;
        }
        let mut queue = lock(&self.queue);
        let first = queue.pop_front()?;
        let share = (queue.len() / workers).min(most);
        queue.drain(..share).for_each(&mut each);
        // Relaxed: as in `push`.
        self.len.store(queue.len(), Relaxed);
        Some(first)
    }
}

/// This process's number, in a page that reads zero in a forked child.
fn process_word() -> io::Result<&'static AtomicU32> {
    static WORD: OnceLock<&'static AtomicU32> = OnceLock::new();
    if let Some(word) = WORD.get() {
        return Ok(word);
    }
    let word = sys::wiped_on_fork()?;
    Ok(WORD.get_or_init(|| word))
}

/// This process's number; one load after the first call.
pub(crate) fn process_id() -> u32 {
    let Ok(word) = process_word() else {
        return sys::process_id();
    };
    // Relaxed: set by this process, or zeroed by the kernel before the child ran.
    let known = word.load(Relaxed);
    if known != 0 {
        return known;
    }
    let id = sys::process_id();
    // Relaxed: every thread would store the same number.
    word.store(id, Relaxed);
    id
}

/// Every runtime there may still be, for reports.
static RUNTIMES: OsMutex<Vec<Weak<Shared>>> = OsMutex::new(Vec::new());

/// The runtimes of this process; none if the list is in use, as it may be for ever in a forked child.
pub(crate) fn every_runtime() -> Vec<Arc<Shared>> {
    let Ok(runtimes) = RUNTIMES.try_lock() else {
        return Vec::new();
    };
    let alive = runtimes.iter().filter_map(Weak::upgrade);
    alive.filter(|shared| !shared.is_foreign()).collect()
}

/// Adds to the list; does without if it stays in use.
fn enlist(shared: &Arc<Shared>) {
    for _ in 0..1_000 {
        if let Ok(mut runtimes) = RUNTIMES.try_lock() {
            runtimes.retain(|other| other.strong_count() > 0);
            runtimes.push(Arc::downgrade(shared));
            return;
        }
        std::thread::yield_now();
    }
}

/// How long a task that has ended is given to leave its stack: it has a few instructions to go, or a destructor that waits.
const LEAVING_MAX: Duration = Duration::from_millis(100);

impl Shared {
    /// Makes a runtime whose workers have no threads yet: their other ends are returned with it.
    ///
    /// # Errors
    ///
    /// What the system said to the mapping of the fork word or to the signal handler.
    pub(super) fn make(plan: &Plan, bound: Option<Bound>) -> io::Result<(Arc<Self>, Vec<Owner>)> {
        let workers = plan.workers;
        let process = process_word()?;
        overflow::install(worker::on_fault)?;
        prepare_fences()?;
        let seats = workers + plan.spares;
        let remotes: Box<[_]> = (0..seats).map(|seat| Remote::new(seat < workers)).collect();
        let owners = remotes[..workers]
            .iter()
            .map(|remote| remote.0.take_owner());
        let owners = owners.collect();
        let shared = Arc::new(Self {
            owner: process_id(),
            process,
            remotes,
            workers,
            seated: AtomicUsize::new(workers),
            idle: Idle::new(seats),
            watch: Watch::new(),
            injector: Queue::new(),
            worth: Worth::new(),
            stacks: Pool::new(plan.stacks_in_forks),
            depot: Depot::new(),
            bar: Bar::new(),
            class: plan.class,
            placement: plan.placement,
            outside: Padded(AtomicU64::new(0)),
            bound,
            closing: AtomicBool::new(false),
        });
        enlist(&shared);
        Ok((shared, owners))
    }

    /// Makes a runtime and starts its workers and its monitor.
    ///
    /// # Errors
    ///
    /// What the system said to the mapping of the fork word, to the signal handler or to a thread.
    pub(crate) fn start(plan: &Plan) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let (shared, owners) = Self::make(plan, None)?;
        let workers = plan.workers;
        let mut threads = Vec::with_capacity(workers);
        for (index, owner) in owners.into_iter().enumerate() {
            let of_worker = Arc::clone(&shared);
            let started = std::thread::Builder::new()
                .name(format!("goro-{index}"))
                .spawn(move || Worker::run(of_worker, index, owner));
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    shared.close();
                    let text = format!("worker {index} of {workers} could not be started: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
        let monitor = Monitor::new(Arc::clone(&shared), plan.on_stuck.clone());
        let started = std::thread::Builder::new()
            .name("goro-monitor".to_owned())
            .spawn(move || monitor.run());
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                shared.close();
                let text = format!("the monitor of the workers could not be started: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        }
        Ok((shared, threads))
    }

    /// Whether this process is a forked child of the one that made the runtime.
    pub(super) fn is_foreign(&self) -> bool {
        // Relaxed: as in `process_id`, which knows better when it is zero.
        self.process.load(Relaxed) != self.owner && process_id() != self.owner
    }

    /// Whether this is the process that the workers belong to.
    ///
    /// # Errors
    ///
    /// In a forked child.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if self.is_foreign() {
            if let Some(bound) = &self.bound {
                return Err(bound.foreign(self.owner));
            }
            return Err(io::Error::other(format!(
                "this green runtime belongs to process {}, and a forked child has none of its workers; \
                 start threads or processes here, or build a Runtime in the child",
                self.owner
            )));
        }
        Ok(())
    }

    /// Whether a task can be started here.
    ///
    /// # Errors
    ///
    /// In a forked child; after the runtime was shut down.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.check_process()?;
        // Relaxed: the caller has counted its task before and fenced, or does not mind.
        if self.closing.load(Relaxed) {
            if let Some(bound) = &self.bound {
                return Err(bound.gone());
            }
            return Err(io::Error::other(
                "this green runtime has been shut down; keep its Runtime alive for as long as tasks are started",
            ));
        }
        Ok(())
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.workers
    }

    /// The workers, and the spare ones that have been needed so far.
    pub(super) fn seated(&self) -> &[Padded<Remote>] {
        // Relaxed: who was told of a task of a spare worker, by whatever way, has been told that it is seated.
        &self.remotes[..self.seated.load(Relaxed)]
    }

    /// Counts in the next spare worker. The monitor only.
    pub(super) fn seat_next(&self, worker: usize) {
        debug_assert_eq!(worker, self.seated().len());
        // Relaxed: before the worker is woken to take anything; see `seated`.
        self.seated.store(worker + 1, Relaxed);
    }

    /// The seats of spare workers, taken or not.
    pub(super) fn spares(&self) -> impl Iterator<Item = (usize, &Remote)> {
        let seats = self.remotes.iter().map(|remote| &remote.0).enumerate();
        seats.skip(self.workers)
    }

    /// How many spare workers take unstarted tasks.
    pub(super) fn active_spares(&self) -> usize {
        self.spares().filter(|(_, spare)| spare.is_active()).count()
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    pub(crate) fn placement(&self) -> Placement {
        self.placement
    }

    pub(super) fn injector(&self) -> &Queue {
        &self.injector
    }

    /// Starts a task. On an error `job` has been refused and has ended.
    pub(crate) fn spawn<J: Job>(self: &Arc<Self>, class: Class, info: Info, job: J) {
        self.spawn_in(Lane::Normal, class, info, job);
    }

    /// As [`spawn`](Self::spawn), in a lane; only a bound runtime has more than one.
    pub(crate) fn spawn_in<J: Job>(self: &Arc<Self>, lane: Lane, class: Class, info: Info, job: J) {
        self.spawn_as(lane, Placement::Any, class, info, job);
    }

    /// As [`spawn_in`](Self::spawn_in), where `placement` says, which a bound runtime leaves no choice.
    pub(crate) fn spawn_as<J: Job>(
        self: &Arc<Self>,
        lane: Lane,
        placement: Placement,
        class: Class,
        info: Info,
        job: J,
    ) {
        self.start_in(
            lane,
            placement,
            job,
            |shared, job| Header::create(shared, class, info, job),
            |error, job, count| {
                let end = job.refuse(error);
                count();
                J::end(end);
            },
        );
    }

    /// Starts the task that `make` makes of `parts`; or has them refused by `refuse`, which is to call its last argument once the
    /// task no longer counts.
    pub(super) fn start_in<P>(
        self: &Arc<Self>,
        lane: Lane,
        placement: Placement,
        parts: P,
        make: impl FnOnce(NonNull<Self>, P) -> TaskRef,
        refuse: impl FnOnce(io::Error, P, &dyn Fn()),
    ) {
        debug_assert!(lane == Lane::Normal || self.bound.is_some());
        debug_assert!(placement == Placement::Any || self.bound.is_none());
        let address = NonNull::new(Arc::as_ptr(self).cast_mut()).expect("an Arc has an address");
        if let Some((worker, _)) = current::on_task()
            && worker.belongs_to(self)
        {
            let task = make(address, parts);
            // The task that runs here keeps the runtime open.
            match lane {
                Lane::Normal => worker.spawn_as(placement, task),
                Lane::Background => worker.spawn_behind(task),
            }
            return;
        }
        // Relaxed: counted before the look at `closing`; the fence orders the two.
        self.outside.0.fetch_add(1, Relaxed);
        // Pairs with the fence in `may_leave`: either we see that the runtime is closing, or the worker sees this task.
        fence(SeqCst);
        if let Err(error) = self.check() {
            refuse(error, parts, &|| {
                // Relaxed: counted down by the thread that counted up.
                self.outside.0.fetch_sub(1, Relaxed);
                if !self.is_foreign() {
                    // Closing workers that have seen the task counted meanwhile look again. In it is the fence that orders the two.
                    self.rouse();
                }
            });
            return;
        }
        let task = make(address, parts);
        task.set_lane(lane);
        self.put_as(placement, task);
    }

    /// Queues an unstarted task, from elsewhere than its workers.
    pub(super) fn put(&self, task: TaskRef) {
        if self.bound.is_some() {
            // There is one worker for it.
            // SAFETY: unstarted, and in no queue.
            unsafe { current::post(self, 0, task.0) };
            let remote = &self.remotes[0].0;
            // After fence C, in `post`.
            if remote.inbox.is_abandoned() {
                self.refuse_posted(remote);
            }
        } else {
            self.injector.push([task]);
            self.announce();
        }
    }

    /// Wakes a worker that was taken off the list of sleepers.
    pub(super) fn wake(&self, worker: usize) {
        match self.bound.as_ref().and_then(Bound::bell) {
            Some(bell) => bell.ring(),
            None => sys::futex_wake(self.idle.word(worker)),
        }
    }

    /// The thread that the tasks are bound to, if they are.
    pub(crate) fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    /// Whether there is an unstarted task for any worker to take.
    pub(super) fn has_unstarted(&self) -> bool {
        !self.injector.is_empty() || self.seated().iter().any(|remote| !remote.0.ring.is_empty())
    }

    /// Whether an unstarted task waits anywhere, if only for its parent to stop; or an offer, beside somebody who sleeps.
    pub(super) fn has_waiting(&self) -> bool {
        // Relaxed: a hint; the monitor, which relies on it, has a fence before.
        let has_child =
            |remote: &Remote| !remote.newest.load(Relaxed).is_null() || !remote.dealt.is_empty();
        self.has_unstarted()
            || self.seated().iter().any(|remote| has_child(&remote.0))
            || self.idle.asleep() > 0 && self.has_offers()
    }

    /// Wakes somebody for what was just published, if nobody is looking; at least the monitor is awake afterwards.
    pub(super) fn announce(&self) {
        self.announce_for(Errand::Any);
    }

    /// As [`announce`](Self::announce), saying what for.
    pub(super) fn announce_for(&self, errand: Errand) {
        // Fence A. Pairs with fence E in `Watch::doze`: either we see that the monitor dozes, or it sees what we published.
        light_fence();
        match self.idle.announce() {
            // It looks after we took it off the list of sleepers, and so sees what we published.
            Some(worker) => {
                self.send(worker, errand);
                self.wake(worker);
            }
            None => self.call_monitor(),
        }
    }

    /// After a light fence: sees to it that the monitor is awake.
    #[inline]
    pub(super) fn call_monitor(&self) {
        if self.watch.call() == Call::Wake {
            sys::futex_wake(self.watch.word());
        }
    }

    /// After a light fence: sees to it that the monitor is awake when a deadline of a task without a stack, set just now, is overdue.
    pub(super) fn call_monitor_for(&self, at: Instant) {
        if self.watch.call_before(ticks(monitor::relief(at))) == Call::Wake {
            sys::futex_wake(self.watch.word());
        }
    }

    /// The nearest deadline of a task without a stack.
    pub(super) fn nearest_nap(&self) -> Option<Instant> {
        self.seated()
            .iter()
            .filter_map(|r| r.0.naps.nearest())
            .min()
    }

    /// Tasks that have been started and have not ended.
    pub(crate) fn task_count(&self) -> usize {
        self.count_without(|r| &r.finished)
    }

    /// Tasks that have been started and still need their worker: more than [`task_count`](Self::task_count) by those that are telling
    /// who waits for them.
    pub(crate) fn present_count(&self) -> usize {
        self.count_without(|r| &r.gone)
    }

    /// Whether no task is left, waiting a moment for those that have ended and are telling so. A destructor of theirs may wait for the
    /// caller: then this is false.
    pub(crate) fn is_deserted(&self) -> bool {
        if self.task_count() > 0 {
            return false;
        }
        let until = Instant::now() + LEAVING_MAX;
        while self.present_count() > 0 {
            if Instant::now() >= until {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Tasks that have been started so far.
    pub(super) fn started_count(&self) -> u64 {
        // Relaxed, both: see `count_without`.
        let outside = self.outside.0.load(Relaxed);
        let inside = |r: &Padded<Remote>| r.0.spawned.load(Relaxed);
        self.remotes.iter().map(inside).sum::<u64>() + outside
    }

    fn count_without(&self, ended: fn(&Remote) -> &AtomicU64) -> usize {
        // Relaxed, all: counts that a caller can rely on are ordered by whatever told it that the tasks began or ended. The
        // finished are read first, so that the difference is never negative.
        let count = |pick: fn(&Remote) -> &AtomicU64| -> u64 {
            // Relaxed: as above.
            self.remotes.iter().map(|r| pick(&r.0).load(Relaxed)).sum()
        };
        let finished = count(ended);
        // Pairs with the Release in `bump`: the starts of the tasks that were counted as ended are counted below.
        fence(Acquire);
        self.started_count()
            .saturating_sub(finished)
            .try_into()
            .unwrap_or(usize::MAX)
    }

    /// Lets the workers leave once no task is left.
    pub(crate) fn close(&self) {
        // Release: pairs with the Acquire in `may_leave`.
        self.closing.store(true, Release);
        self.rouse();
    }

    /// Wakes every sleeping worker, and the monitor.
    pub(super) fn rouse(&self) {
        // Orders what the caller did before this for the monitor. Pairs with the fence in `Watch::doze`.
        fence(SeqCst);
        if self.watch.hurry() == Call::Wake {
            sys::futex_wake(self.watch.word());
        }
        for worker in 0..self.remotes.len() {
            if self.idle.posted(worker) {
                self.wake(worker);
            }
        }
    }

    /// Whether an idle worker may end.
    pub(super) fn may_leave(&self) -> bool {
        // Acquire: pairs with the Release in `close`.
        if !self.closing.load(Acquire) {
            return false;
        }
        // Pairs with the fence in `spawn`.
        fence(SeqCst);
        self.present_count() == 0
    }
}

impl Remote {
    fn new(active: bool) -> Padded<Self> {
        let (ring, owner) = Ring::new();
        Padded(Self {
            ring,
            inbox: Inbox::new(),
            dealt: Queue::new(),
            errand: ErrandWord::new(),
            stacks: AtomicUsize::new(0),
            gate: Gate::new(),
            offers: OfferList::new(),
            newest: AtomicPtr::new(ptr::null_mut()),
            rounds: AtomicU32::new(0),
            shown: Shown::new(),
            active: AtomicBool::new(active),
            thread: OnceLock::new(),
            owner: OsMutex::new(Some(owner)),
            spawned: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            counts: Counts::new(),
            hold_ups: AtomicU32::new(0),
            held_up: AtomicU32::new(0),
            naps: Naps::new(),
        })
    }

    /// The other end of the ring, for the thread of its worker.
    pub(super) fn take_owner(&self) -> Owner {
        lock(&self.owner).take().expect("one thread to a worker")
    }

    /// Whether the worker takes what anybody may take.
    pub(super) fn is_active(&self) -> bool {
        // Relaxed: who falls asleep inactive looks again under the lock of the sleepers; else a hint.
        self.active.load(Relaxed)
    }

    /// Makes a spare worker active, or not. The monitor only.
    pub(super) fn set_active(&self, active: bool) {
        // Relaxed: see `is_active`.
        self.active.store(active, Relaxed);
    }
}

/// The runtime of the running task, if a task is running.
pub(crate) fn current_runtime() -> Option<Arc<Shared>> {
    current::on_task().map(|(worker, _)| worker.shared())
}

// SAFETY: everything in it is made for sharing; task pointers in it are owned as `TaskRef` and `Linked` say.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}
