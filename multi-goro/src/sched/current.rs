//! Where the caller is: the worker and the task it runs in, if it does, and what a task does to the others.

#![expect(
    unsafe_code,
    reason = "the worker of this thread, and parked tasks, are known by address"
)]

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use multi_core::Lineage;

use super::bound::Bound;
use super::cells::Size;
use super::shared::Shared;
use super::task::Header;
use super::worker::Worker;
use crate::proto::home_lock::{HomeGuard, HomeLock, Visitor};
use crate::sync::{AtomicU32, AtomicU64, Ordering::*};

/// Channel operations that did not wait before the task lets others run all the same.
const SPEND_MAX: u32 = 128;

thread_local! {
    /// The worker this thread is; null on any other thread. Tasks never change threads, so neither does this under one.
    pub(super) static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
    /// Who this thread is to a [`HomeLock`]. A thread that was a worker keeps the number that nobody else will have.
    static VISITOR: Cell<Visitor> = const { Cell::new(Visitor::STRANGER) };
}

/// The worker and the task that call, if a task does, in the process that the worker belongs to.
pub(crate) fn on_task() -> Option<(&'static Worker, NonNull<Header>)> {
    let worker = this_worker()?;
    let task = worker.current.get()?;
    (!worker.shared.is_foreign()).then_some((worker, task))
}

/// Gives this thread, a worker, what a lock's home has to have: a number of its own.
pub(super) fn take_number() {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Relaxed, both: a number nobody else gets is all that is asked for; used up, it stays what it is, which is nobody's.
    let number = NEXT.try_update(Relaxed, Relaxed, |next| next.checked_add(1));
    VISITOR.set(number.map_or(Visitor::STRANGER, Visitor::worker));
}

/// Takes a lock that may have its home on this worker. The guard is to be dropped before anything that may switch.
#[inline]
pub(crate) fn enter<T>(lock: &HomeLock<T>) -> HomeGuard<'_, T> {
    lock.enter(visitor())
}

/// Who the caller is to the locks of its thread's home.
#[inline]
pub(crate) fn visitor() -> Visitor {
    VISITOR.get()
}

/// The task that calls, if one does. For the caller's own use while it runs.
pub(super) fn running() -> Option<&'static Header> {
    let (_, task) = on_task()?;
    // SAFETY: the running task is alive.
    Some(unsafe { task.as_ref() })
}

/// The task whose stack the caller is on, also in a forked child, which goes on there as a plain thread does.
pub(super) fn underfoot() -> Option<&'static Header> {
    let task = this_worker()?.current.get()?;
    // SAFETY: it runs, or a copy of it in this process, on this stack: so it is alive.
    Some(unsafe { task.as_ref() })
}

/// The limited groups that the running task runs in; none where no task does.
pub(crate) fn task_lineage() -> Option<Lineage> {
    running().map(Header::lineage)
}

/// Lets others run. On a plain thread this is the system's yield.
pub(crate) fn yield_now() {
    match on_task() {
        None => std::thread::yield_now(),
        Some((worker, _)) if !may_switch(worker) => {}
        Some((worker, task)) => {
            // SAFETY: the running task is alive, and so it is until it is resumed.
            let header = unsafe { task.as_ref() };
            let save = header.sp.as_ptr();
            // Picked before the caller is ready again: with nothing else started, an unstarted task comes before it.
            if let Some(next) = worker.pick() {
                header.status.yields(worker.tick.get());
                worker.push_ready(task);
                worker.switch(save, next);
                header.status.runs(worker.tick.get());
            } else if worker.is_recess() {
                header.status.yields(worker.tick.get());
                worker.push_ready(task);
                worker.to_root(save);
                header.status.runs(worker.tick.get());
            }
        }
    }
}

/// Whether the calling thread is the one of a bound runtime, in a task or outside, in the process that has it.
pub(crate) fn is_on(shared: &Shared) -> bool {
    shared.bound().is_some_and(Bound::is_here) && !shared.is_foreign()
}

/// Whether a task of `shared` runs here, in the process that has it.
pub(crate) fn is_in(shared: &Arc<Shared>) -> bool {
    on_task().is_some_and(|(worker, _)| worker.belongs_to(shared))
}

/// Which thread this is, as a number that no other one ever has.
pub(super) fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        /// Zero until somebody asks.
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            // Relaxed: a number nobody else gets is all that is asked for.
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}

/// Keeps the running task on the thread, and others away from it.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Stay(Option<&'static Worker>);

/// No other task runs on this thread until what is returned is dropped. Nothing where no task runs.
pub(crate) fn stay() -> Stay {
    let worker = on_task().map(|(worker, _)| worker);
    if let Some(worker) = worker {
        worker.stays.set(worker.stays.get() + 1);
    }
    Stay(worker)
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(worker) = self.0 {
            worker.stays.set(worker.stays.get() - 1);
        }
    }
}

/// Whether the caller is a task that may let others run while it waits.
pub(crate) fn can_switch() -> bool {
    on_task().is_some_and(|(worker, _)| may_switch(worker))
}

/// Whether the running task may leave its stack to another one.
pub(super) fn may_switch(worker: &Worker) -> bool {
    // While a panic unwinds, the thread's panic count belongs to the running task: nobody else may run on the thread.
    worker.stays.get() == 0 && !std::thread::panicking()
}

/// How long a task that calls [`checkpoint`] runs before others have their turn: long against a switch and the caches that it
/// cools (some microseconds), short against what people notice.
const SHARE: Duration = Duration::from_millis(1);
/// Most calls of [`checkpoint`] between two looks at the clock.
const CHECKS_MAX: u32 = 1 << 14;

/// What is known of the time that the running task has had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    round: u32,
    began: Instant,
    looked: Instant,
    /// Calls between two looks at the clock.
    step: u32,
}

impl Share {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            round: 0,
            began: now,
            looked: now,
            step: 1,
        }
    }
}

/// Lets others run if the running task has had its share of the worker. Mostly it only counts down.
#[inline]
pub(crate) fn checkpoint() {
    if let Some(worker) = this_worker() {
        match worker.checks.get() {
            0 => look_at_the_clock(worker),
            left => worker.checks.set(left - 1),
        }
    }
}

/// The calls in between are as many as fit in a sixteenth of the share, found out by doubling.
#[cold]
fn look_at_the_clock(worker: &Worker) {
    let now = Instant::now();
    let mut share = worker.share.get();
    if share.round != worker.round.get() {
        // The task has just begun, or gone on.
        share = Share {
            round: worker.round.get(),
            began: now,
            looked: now,
            step: 1,
        };
    } else if now - share.looked < SHARE / 16 {
        share.step = (share.step * 2).min(CHECKS_MAX);
    } else if now - share.looked > SHARE / 8 {
        share.step = (share.step / 2).max(1);
    }
    share.looked = now;
    worker.share.set(share);
    worker.checks.set(share.step);
    if now - share.began >= SHARE {
        yield_now();
    }
}

/// When a task goes on that its own worker has made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// After those that were ready before.
    InOrder,
    /// As soon as the running one stops, within [`JUMPS_MAX`].
    Next,
}

/// Called after each operation that might have parked the task and did not: now and then it yields, so that a task which
/// always finds its channels ready does not keep its worker for itself.
pub(crate) fn spend() {
    if let Some(worker) = this_worker() {
        let spent = worker.spent.get() + 1;
        worker.spent.set(spent);
        if spent >= SPEND_MAX {
            worker.spent.set(0);
            yield_now();
        }
    }
}

/// The worker that this thread is, whether or not a task runs.
pub(super) fn this_worker() -> Option<&'static Worker> {
    // SAFETY: set by `Worker::run` for the time that the worker lives, on this thread. Every caller is below `run` on this
    // thread, or in a task, which cannot outlive the worker: so the long lifetime is not outlived.
    unsafe { CURRENT.get().as_ref() }
}

/// Whether a parked task's worker is this thread.
pub(super) fn is_home(task: NonNull<Header>) -> bool {
    // SAFETY: parked tasks are alive.
    let header = unsafe { task.as_ref() };
    this_worker().is_some_and(|worker| {
        worker.index == header.home() && ptr::eq(&raw const *worker.shared, header.shared.as_ptr())
    })
}

/// Makes a parked task ready on its worker.
///
/// # Safety
///
/// - The caller has just taken the task out of its parked state: it is alive, and in no queue.
pub(super) unsafe fn make_ready(task: NonNull<Header>, turn: Turn) {
    // SAFETY: alive until it has run again, and it is in no queue yet.
    let header = unsafe { task.as_ref() };
    let home = header.home();
    if let Some(worker) = this_worker()
        && ptr::eq(&raw const *worker.shared, header.shared.as_ptr())
    {
        if worker.index != home {
            // SAFETY: the caller's promise; this worker keeps the runtime alive.
            unsafe { post(&worker.shared, home, task) };
            return;
        }
        worker.fetch_if_soon(task);
        match turn {
            Turn::Next => worker.ready_next(task),
            Turn::InOrder => worker.push_ready(task),
        }
        return;
    }
    // The task may run, end, and let the runtime go before we are done with it.
    // SAFETY: `shared` points into an `Arc`, which is alive while it has tasks.
    unsafe { Arc::increment_strong_count(header.shared.as_ptr()) };
    // SAFETY: the count that was just added.
    let shared = unsafe { Arc::from_raw(header.shared.as_ptr()) };
    // SAFETY: the caller's promise.
    unsafe { post(&shared, home, task) };
}

/// # Safety
///
/// - As for [`make_ready`].
pub(super) unsafe fn post(shared: &Shared, home: usize, task: NonNull<Header>) {
    // SAFETY: alive and in no queue, by the caller's promise.
    unsafe { shared.remotes[home].0.inbox.post(task) };
    if shared.idle.posted(home) {
        shared.wake(home);
    }
}

/// A cell for a task of `shared`, from this worker's own if it is one of that runtime's.
pub(super) fn take_cell(shared: NonNull<Shared>, size: Size) -> NonNull<u8> {
    // SAFETY: the caller has the runtime.
    let shared = unsafe { shared.as_ref() };
    match this_worker() {
        Some(worker) if ptr::eq(&raw const *worker.shared, shared) => {
            worker.cells.take(&shared.depot, size)
        }
        _ => shared.depot.take(size),
    }
}

/// Takes a cell back.
///
/// # Safety
///
/// - `cell` came from [`take_cell`] with the same runtime, which is alive, and the same size, and is not used any more.
pub(super) unsafe fn give_cell(shared: NonNull<Shared>, size: Size, cell: NonNull<u8>) {
    // SAFETY: alive, by the caller's promise.
    let shared = unsafe { shared.as_ref() };
    match this_worker() {
        Some(worker) if ptr::eq(&raw const *worker.shared, shared) => {
            // SAFETY: the caller's promise.
            unsafe { worker.cells.give(&shared.depot, size, cell) };
        }
        // SAFETY: the caller's promise.
        _ => unsafe { shared.depot.give(size, cell) },
    }
}
