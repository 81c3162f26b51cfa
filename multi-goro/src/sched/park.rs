//! Parking the caller, task or plain thread, and unparking it: one way for both.

#![expect(unsafe_code, reason = "who waits is known by address while it waits")]

use std::cell::Cell;
use std::mem::{ManuallyDrop, offset_of};
use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::behind::{Behind, HoldUp, Identity};
use super::current::{self, Turn};
use super::linger::Linger;
use super::polled;
use super::shared::{Shared, process_id};
use super::status::WaitsFor;
use super::task::{Header, Lane};
use super::worker::Worker;
use crate::arch;
use crate::proto::task_word::{Park, TaskWord, Unpark};
use crate::stack::Class;
use crate::sync::{AtomicU16, AtomicU64, Ordering::*};
use crate::sys;

/// Where one task or thread parks.
pub(super) struct ParkCell {
    pub(super) word: TaskWord,
    /// Where it is the first field of a task's [`Header`], what kind of task that is. Here because there is room.
    pub(super) kind: Option<Kind>,
}

/// What the scheduler has to know of a task at every turn.
pub(super) struct Kind {
    /// The worker it started on.
    pub(super) worker: AtomicU16,
    /// Of its stack.
    pub(super) class: Class,
    /// Changes before the task is in any queue only.
    pub(super) lane: Cell<Lane>,
}

const _: () = assert!(offset_of!(Header, park) == 0);

thread_local! {
    /// Where a plain thread parks. Has no destructor, and so works as long as the thread does.
    static THREAD: ParkCell = ParkCell { word: TaskWord::new(), kind: None };
}

impl ParkCell {
    pub(super) fn of_task(class: Class) -> Self {
        Self {
            word: TaskWord::new(),
            kind: Some(Kind {
                worker: AtomicU16::new(u16::MAX),
                class,
                lane: Cell::new(Lane::Normal),
            }),
        }
    }
}

thread_local! {
    /// What a plain thread knows of its waits.
    static LINGER: Linger = const { Linger::new() };
}

/// How a wait ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Unparked,
    /// The deadline passed. An unpark may still be owed: see [`Waiter::unpark`].
    TimedOut,
}

/// Somebody who is about to park, or parked: what goes into a queue of waiters.
///
/// The address of a `ParkCell`; or a waker, of somebody who waits without parking, with a mark that such an address cannot have
/// ([`OwnedWaiter`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiter(NonNull<ParkCell>);

// SAFETY: the address of a `ParkCell`, of which others touch only the word; `unpark`'s obligation keeps it alive. Wakers are for
// any thread.
unsafe impl Send for Waiter {}

/// A waiter that is a waker, in the hands of who is to drop it.
#[derive(Debug)]
pub(crate) struct OwnedWaiter(Waiter);

/// How far ahead who unparks many fetches them.
pub(crate) const WAKES_AHEAD: usize = 8;

/// Marks a [`Waker`] in a box.
const BOXED: usize = 1;
/// Marks a polled task of ours, with a reference to it: a waker without its table.
const POLLED: usize = 2;
const MARKS: usize = BOXED | POLLED;

const _: () = assert!(align_of::<ParkCell>() > MARKS && align_of::<Waker>() > MARKS);

impl OwnedWaiter {
    /// A waiter whose unpark is to wake `waker`.
    pub(crate) fn of(waker: &Waker) -> Self {
        Self::of_task(waker).unwrap_or_else(|| {
            let boxed = NonNull::from(Box::leak(Box::new(waker.clone())));
            Self(Waiter(boxed.cast().map_addr(|address| address | BOXED)))
        })
    }

    /// As [`of`](Self::of), for the waker of a polled task; runs nobody's code.
    pub(crate) fn of_task(waker: &Waker) -> Option<Self> {
        let task = polled::task_of(waker)?;
        let _kept = ManuallyDrop::new(waker.clone());
        Some(Self(Waiter(
            task.cast().map_addr(|address| address | POLLED),
        )))
    }

    /// For a queue, from which it is taken once: by who unparks it, or by who reclaims it.
    pub(crate) fn into_waiter(self) -> Waiter {
        ManuallyDrop::new(self).0
    }

    /// Wakes it.
    pub(crate) fn wake(self) {
        self.into_waker().wake();
    }

    /// Makes it a waker again.
    fn into_waker(self) -> Waker {
        let waiter = self.into_waiter();
        let address = waiter.address();
        if waiter.mark() == BOXED {
            // SAFETY: leaked in `of`, and given up with `self`.
            *unsafe { Box::from_raw(address.cast::<Waker>().as_ptr()) }
        } else {
            // SAFETY: its reference was taken in `of_task`, and is given up with `self`.
            unsafe { polled::waker_of(address.cast()) }
        }
    }
}

impl Drop for OwnedWaiter {
    fn drop(&mut self) {
        drop(Self(self.0).into_waker());
    }
}

impl Waiter {
    /// The caller: the running task, or the thread where there is none.
    pub(crate) fn current() -> Self {
        match current::on_task() {
            Some((_, task)) => Self(task.cast()),
            None => Self(THREAD.with(|cell| NonNull::from(cell))),
        }
    }

    /// A task that has announced itself and parks, or is about to.
    pub(super) fn of_task(task: NonNull<Header>) -> Self {
        Self(task.cast())
    }

    /// The runtime of a task that waits; none for a thread, and for a future that is no task of ours. Of futures that are it is known
    /// of bound ones only, if it is still there: a future may outlive the task that polled it, and that task's runtime.
    ///
    /// # Safety
    ///
    /// - The waiter is in a queue whose lock the caller holds, and does not leave it, or owes an unpark that the caller has.
    pub(crate) unsafe fn runtime(self) -> Option<Arc<Shared>> {
        match self.mark() {
            0 => {}
            // A waker keeps the cell of its task alive, and not the runtime.
            // SAFETY: also of a polled task the cell is the first field: it is one of its header.
            POLLED => return unsafe { self.address().cast::<Header>().as_ref() }.bound_to(),
            _ => return None,
        }
        // SAFETY: alive, by the caller's promise.
        unsafe { self.0.as_ref() }.kind.as_ref()?;
        // SAFETY: the first field of a header, which is as alive.
        let header = unsafe { self.0.cast::<Header>().as_ref() };
        // SAFETY: `shared` points into an `Arc`, which is alive while it has tasks: this one parks, or is about to.
        unsafe { Arc::increment_strong_count(header.shared.as_ptr()) };
        // SAFETY: the count that was just added.
        Some(unsafe { Arc::from_raw(header.shared.as_ptr()) })
    }

    /// Who the caller is, for reports.
    #[inline]
    pub(crate) fn own_identity() -> Identity {
        // Also in a forked child, where it is the number of the task that forked.
        let task = current::this_worker().and_then(|worker| worker.current.get());
        let cell = task.map_or_else(|| THREAD.with(|cell| NonNull::from(cell)), NonNull::cast);
        Identity::new(cell.addr())
    }

    /// Who it is, for reports: the same number for the same task or thread while that lasts.
    pub(crate) fn identity(self) -> Identity {
        Identity::new(self.0.addr())
    }

    /// Says anew behind whom a waiter is that has said so itself, or that nobody knows.
    ///
    /// # Safety
    ///
    /// - The waiter is in a queue whose lock the caller holds, and has been since it announced itself and said behind whom it is.
    pub(super) unsafe fn point(self, behind: Option<Behind>) {
        if self.mark() != 0 {
            return;
        }
        // SAFETY: it waits, by the caller's promise, and so it is alive.
        if unsafe { self.0.as_ref() }.kind.is_some() {
            // SAFETY: the first field of a header, which is as alive.
            unsafe { self.0.cast::<Header>().as_ref() }.point(behind);
        }
    }

    /// Fetches what an unpark of it begins with, for who is to unpark many: see [`WAKES_AHEAD`].
    pub(crate) fn prefetch(self) {
        arch::prefetch(self.address().as_ptr().cast());
    }

    fn mark(self) -> usize {
        self.0.addr().get() & MARKS
    }

    /// The address without the mark.
    fn address(self) -> NonNull<ParkCell> {
        self.0.map_addr(|address| {
            NonZero::new(address.get() & !MARKS).expect("an address beside its mark")
        })
    }

    /// Whether its unpark wakes `waker`. To be asked by who may reclaim it.
    pub(crate) fn is_for(self, waker: &Waker) -> bool {
        if self.mark() == POLLED {
            return polled::task_of(waker).is_some_and(|task| task == self.address().cast());
        }
        debug_assert_eq!(self.mark(), BOXED);
        // SAFETY: boxed by `OwnedWaiter::of`, and there until it is unparked or reclaimed.
        unsafe { self.address().cast::<Waker>().as_ref() }.will_wake(waker)
    }

    /// Takes a waiter that is a waker back.
    ///
    /// # Safety
    ///
    /// - It came from [`OwnedWaiter::into_waiter`], and was taken from where it was announced by the caller alone, who does not unpark it.
    pub(crate) unsafe fn reclaim(self) -> OwnedWaiter {
        OwnedWaiter(self)
    }

    /// Delivers an unpark.
    ///
    /// # Safety
    ///
    /// - The waiter was announced by the task or thread itself, from where this caller alone has taken it, so that exactly one
    ///   unpark is owed for the announcement.
    /// - The waiter, if its [`park`] times out and it finds its announcement taken, parks again without a deadline: it does not
    ///   leave before this call.
    pub(crate) unsafe fn unpark(self) {
        // SAFETY: the caller's promise.
        unsafe { self.unpark_as(Turn::InOrder) };
    }

    /// Delivers an unpark; a task of this worker goes on as soon as the caller stops (within a limit), before those that were
    /// ready already: the hand-off of an unbuffered channel.
    ///
    /// # Safety
    ///
    /// - As for [`unpark`](Self::unpark).
    pub(crate) unsafe fn unpark_next(self) {
        // SAFETY: the caller's promise.
        unsafe { self.unpark_as(Turn::Next) };
    }

    /// # Safety
    ///
    /// - As for [`unpark`](Self::unpark).
    unsafe fn unpark_as(self, turn: Turn) {
        if self.mark() != 0 {
            let waker = OwnedWaiter(self).into_waker();
            // Anybody's code; should it panic, that is not the caller's, who may have others to unpark.
            drop(multi_core::panic::catch(|| waker.wake()));
            return;
        }
        // SAFETY: the waiter does not leave before it has consumed this unpark.
        let cell = unsafe { self.0.as_ref() };
        if cell.word.is_parked() && current::is_home(self.0.cast()) {
            cell.word.unpark_here();
            // SAFETY: taken out of its parked state just now; a task's cell is the first field of its header.
            unsafe { current::make_ready(self.0.cast(), turn) };
            return;
        }
        let word = std::ptr::from_ref(cell.word.word());
        match cell.word.unpark() {
            Unpark::Nothing => {}
            Unpark::Wake => sys::futex_wake(word),
            // SAFETY: only tasks are ever parked (threads block), and a task's cell is the first field of its header. The
            // task stays alive until it has run again, which takes what `make_ready` does.
            Unpark::Enqueue => unsafe { current::make_ready(self.0.cast(), turn) },
        }
    }
}

/// Parks the caller until the unpark that it is owed, at most until `deadline`.
///
/// The caller has announced a [`Waiter`] somewhere, with no lock held now. If the wait times out it takes the announcement
/// back; where that fails because somebody has taken it, it parks again without a deadline.
///
/// `what` is what reports say of it.
pub(crate) fn park(what: WaitsFor, deadline: Option<Instant>) -> Wake {
    park_as(Some(what), deadline)
}

/// As [`park`] without a deadline, after [`say_behind`].
pub(super) fn park_behind(hold_up: HoldUp) -> Wake {
    let wake = park_as(None, None);
    if let Some((worker, _)) = current::on_task() {
        worker.let_go(hold_up);
    }
    wake
}

/// Tells reports that the caller is about to park, for what, and who has to go on before it can. Where that may change while it waits, to be
/// called under the lock under which it does: see [`Waiter::point`].
pub(super) fn say_behind(what: WaitsFor, behind: Behind) -> HoldUp {
    let Some((worker, task)) = current::on_task() else {
        return HoldUp::NONE;
    };
    // SAFETY: the running task is alive.
    worker.hold_up(unsafe { task.as_ref() }, what, behind)
}

/// `what`: none if it has been said.
fn park_as(what: Option<WaitsFor>, deadline: Option<Instant>) -> Wake {
    let Some((worker, task)) = current::on_task() else {
        return park_thread(deadline);
    };
    // SAFETY: the running task is alive.
    let header = unsafe { task.as_ref() };
    if let Some(what) = what {
        let tick = worker.tick.get();
        header.status.waits(what, deadline.is_some(), tick);
    }
    let wake = if current::may_switch(worker) {
        park_task(worker, task, deadline)
    } else {
        block(&header.park.word, deadline)
    };
    header.status.runs(worker.tick.get());
    wake
}

fn park_thread(deadline: Option<Instant>) -> Wake {
    THREAD.with(|cell| {
        LINGER.with(|linger| {
            if deadline.is_none() && linger.look(1, || cell.word.has_token()) {
                let is_there = cell.word.consume();
                debug_assert!(is_there);
                return Wake::Unparked;
            }
            let wake = if deadline.is_none() {
                wait_long(&cell.word)
            } else {
                block(&cell.word, deadline)
            };
            linger.woken(wake == Wake::Unparked);
            wake
        })
    })
}

fn park_task(worker: &Worker, task: NonNull<Header>, deadline: Option<Instant>) -> Wake {
    // SAFETY: the running task is alive, and its cells are this worker's.
    let header = unsafe { task.as_ref() };
    match header.park.word.park() {
        Park::Already => return Wake::Unparked,
        Park::Go => {}
    }
    worker.tally.parks();
    match deadline {
        None => worker.leave(task),
        Some(deadline) => worker.leave_until(task, deadline),
    }
    if header.park.word.consume() {
        Wake::Unparked
    } else {
        debug_assert!(deadline.is_some(), "woken by nobody");
        Wake::TimedOut
    }
}

/// `{ how often one has gone on: 32 bits, plain threads that wait without a limit: 32 bits }`.
static BLOCKED: AtomicU64 = AtomicU64::new(0);
const GONE_ON: u64 = 1 << 32;
/// The process in which that is counted, and what a thread does that has waited for long.
static LONG_WAITS: OnceLock<(u32, fn())> = OnceLock::new();
/// How long a thread waits before it looks around; then twice as long, and so on.
const LONG_WAIT: Duration = Duration::from_secs(2);
const LONG_WAIT_MAX: Duration = Duration::from_secs(64);

/// Has `look_around` called by plain threads that have waited without a limit for long.
pub(crate) fn on_long_wait(look_around: fn()) {
    LONG_WAITS.get_or_init(|| (process_id(), look_around));
}

/// Plain threads that wait without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked(u64);

impl Blocked {
    /// Those of now; unknown in a forked child, where those of the parent are counted. Two that are equal say that nobody has gone
    /// on between.
    pub(crate) fn now() -> Option<Self> {
        let (process, _) = LONG_WAITS.get()?;
        // Acquire: looks that follow are not made before it. Pairs with nothing: the kernel says later that all of them sleep.
        (*process == process_id()).then(|| Self(BLOCKED.load(Acquire)))
    }

    pub(crate) fn count(self) -> usize {
        (self.0 % GONE_ON) as usize
    }
}

/// As [`block`], for a plain thread without a deadline.
fn wait_long(word: &TaskWord) -> Wake {
    match word.block() {
        Park::Already => return Wake::Unparked,
        Park::Go => {}
    }
    // Relaxed: see `Blocked::now`.
    BLOCKED.fetch_add(1, Relaxed);
    let mut patience = LONG_WAIT;
    let mut since = sys::monotonic_coarse_ns();
    while !word.consume() {
        sys::futex_wait(word.word(), TaskWord::BLOCKED, Some(patience));
        let elapsed = Duration::from_nanos(sys::monotonic_coarse_ns() - since);
        // The coarse clock may be behind by a tick.
        if elapsed >= patience / 2 && word.is_waiting() {
            if let Some((_, look_around)) = LONG_WAITS.get() {
                look_around();
            }
            patience = (patience * 2).min(LONG_WAIT_MAX);
            since = sys::monotonic_coarse_ns();
        }
    }
    // Relaxed: as above.
    BLOCKED.fetch_add(GONE_ON - 1, Relaxed);
    Wake::Unparked
}

fn block(word: &TaskWord, deadline: Option<Instant>) -> Wake {
    match word.block() {
        Park::Already => return Wake::Unparked,
        Park::Go => {}
    }
    loop {
        if word.consume() {
            return Wake::Unparked;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            if word.give_up() {
                return Wake::TimedOut;
            }
            continue;
        }
        sys::futex_wait(word.word(), TaskWord::BLOCKED, left);
    }
}
