//! A worker: an OS thread that runs tasks, and the moments at which it changes from one to the next.

#![expect(unsafe_code, reason = "switches stacks, and knows tasks by address")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bound::Allowance;
use super::cells::Cells;
use super::counts::Tally;
use super::current::{CURRENT, Share, take_number, this_worker};
use super::linger::{self, Linger};
use super::offers::OfferDesk;
use super::polled;
use super::roster;
use super::shared::{Remote, Shared};
use super::status::Tick;
use super::task::{Header, Lane, Ran};
use super::tidy::InUse;
use super::timers::{Timer, Timers};
use super::worth::Trips;
use crate::arch;
use crate::proto::idle::Woken;
use crate::proto::ring::Owner;
use crate::stack::overflow::{self, Victim};
use crate::stack::{Cache, Stack, Tidying};
use crate::sync::{AtomicU64, Ordering::*};
use crate::sys::{self, Fault};

/// The thread's own side of a worker: everything here is touched by its thread alone, tasks on it included.
pub(crate) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) owner: Owner,
    /// Started tasks that can go on, in the order they became so.
    pub(super) ready: RefCell<VecDeque<NonNull<Header>>>,
    /// Tasks of the background lane that can go on or start. Only a bound worker has such.
    pub(super) background: RefCell<VecDeque<NonNull<Header>>>,
    /// The started task to go on next: the receiver of an unbuffered channel that was just served.
    pub(super) front: Cell<Option<NonNull<Header>>>,
    /// Tasks in a row that jumped the ready list.
    pub(super) jumps: Cell<u32>,
    pub(super) timers: RefCell<Timers<NonNull<Header>>>,
    /// Whether there are any, for the look at each round.
    pub(super) has_timers: Cell<bool>,
    pub(super) stacks: RefCell<Cache>,
    /// Those of them that tasks have been started on.
    pub(super) in_use: InUse,
    pub(super) cells: Cells,
    pub(super) current: Cell<Option<NonNull<Header>>>,
    /// A task for which there was no stack, and why; told on the thread's own stack.
    pub(super) refused: RefCell<Option<(NonNull<Header>, io::Error)>>,
    /// Where the thread's own stack was left.
    pub(super) root: Cell<*mut u8>,
    /// Where that stack lies, and its size in bytes, for the sanitizer.
    #[cfg(asan)]
    root_stack: (*const u8, usize),
    pub(super) round: Cell<u32>,
    pub(super) tally: Tally,
    /// The time, as of some rounds ago.
    pub(super) tick: Cell<Tick>,
    pub(super) random: Cell<u64>,
    /// Calls of [`checkpoint`](super::checkpoint) that do not look at the clock; none is left from one round to the next.
    pub(super) checks: Cell<u32>,
    pub(super) share: Cell<Share>,
    /// Operations since the last yield of [`spend`].
    pub(super) spent: Cell<u32>,
    /// How many `no_switch` the running task is in.
    pub(super) stays: Cell<u32>,
    /// What a foreign loop allows for one call; none for a worker with a thread of its own.
    pub(super) allowance: Option<Allowance>,
    /// The owner's side of the deques of its tasks.
    pub(super) desk: OfferDesk,
    /// Whether to stay awake for a moment before a sleep.
    pub(super) linger: Linger,
    /// What came of its last wake.
    pub(super) trips: Trips,
}

/// How late the kernel may wake a worker for a timer: about what a wake costs. With this the median lateness of 1 000 sleepers went from 82 to 40 µs
/// on a busy machine, and that of one sleeper from 144 to 97.
const TIMER_SLACK: Duration = Duration::from_micros(5);

/// Adds one to a counter that only this thread writes.
pub(super) fn bump(counter: &AtomicU64) {
    // Relaxed: one writer.
    let next = counter.load(Relaxed) + 1;
    // Release: who sees the end of a task counted sees its start counted, too. Pairs with the fence in `Shared::count_without`.
    counter.store(next, Release);
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        index: usize,
        owner: Owner,
        allowance: Option<Allowance>,
    ) -> Self {
        // Without an alternate stack an overflow still ends the process, only without a report.
        let _ignored = sys::ensure_signal_stack();
        Self {
            index,
            owner,
            ready: RefCell::default(),
            background: RefCell::default(),
            front: Cell::new(None),
            jumps: Cell::new(0),
            timers: RefCell::new(Timers::new()),
            has_timers: Cell::new(false),
            stacks: RefCell::new(Cache::new()),
            in_use: InUse::new(),
            cells: Cells::new(),
            current: Cell::new(None),
            refused: RefCell::new(None),
            root: Cell::new(ptr::null_mut()),
            #[cfg(asan)]
            root_stack: sys::thread_stack(),
            round: Cell::new(0),
            checks: Cell::new(0),
            share: Cell::new(Share::new()),
            tally: Tally::new(),
            tick: Cell::new(Tick::now()),
            spent: Cell::new(0),
            random: Cell::new(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1)),
            stays: Cell::new(0),
            desk: OfferDesk::new(),
            allowance,
            linger: Linger::new(),
            trips: Trips::new(),
            shared,
        }
    }

    /// The life of a worker's thread.
    pub(super) fn run(shared: Arc<Shared>, index: usize, owner: Owner) {
        if shared.bound().is_none() {
            // The thread is ours. Refused, timers are as late as everybody's.
            let _ignored = sys::set_timer_slack(TIMER_SLACK);
        }
        let worker = Self::new(shared, index, owner, None);
        // Not null in the forked child of a task alone, which may lend its thread and then go on in that task's stack.
        let outer = CURRENT.replace(&raw const worker);
        take_number();
        linger::wake_up();
        if let Ok(thread) = sys::this_thread() {
            // Set once: a worker has one thread.
            let _ = worker.remote().thread.set(thread);
        }
        let mut searching = false;
        loop {
            let mut task = worker.pick();
            // Before the search, whose end costs a fence.
            if task.is_none() && !searching && worker.linger() {
                task = worker.pick();
            }
            if searching && !worker.remote().is_active() {
                // Others are to take what we were woken for.
                searching = false;
                worker.end_search();
            }
            // A bound worker has nobody to take from.
            if task.is_none()
                && worker.shared.bound().is_none()
                && worker.remote().is_active()
                && (searching || worker.shared.idle.start_search())
            {
                searching = true;
                task = worker.steal();
                if let Some(task) = task {
                    // SAFETY: taken from a queue, so alive and ours.
                    worker.found(unsafe { task.as_ref() });
                }
            }
            if let Some(task) = task {
                if searching {
                    searching = false;
                    worker.end_search();
                }
                worker.enter(task);
                continue;
            }
            match worker.sleep(searching) {
                Slept::NotYet => {}
                Slept::LookAgain => searching = false,
                Slept::Search => searching = true,
                Slept::Leave => break,
            }
        }
        linger::nod_off();
        CURRENT.set(outer);
        worker.stacks.borrow_mut().clear(&worker.shared.stacks);
        worker.cells.clear(&worker.shared.depot);
        worker.remote().naps.close();
        // The others sleep until somebody tells them that the last task has ended.
        worker.shared.rouse();
    }

    /// Stops searching with something found, or with something to leave.
    fn end_search(&self) {
        self.shared.idle.end_search();
        if self.shared.has_unstarted() || self.shared.has_offers() {
            // Who published it may have relied on us.
            self.shared.announce();
        }
    }

    /// From the thread's own stack: runs a task, and those that follow, until there is nothing to run.
    pub(super) fn enter(&self, task: NonNull<Header>) {
        self.in_use.disturb();
        self.switch(self.root.as_ptr(), task);
        self.tell_refused();
    }

    /// Queues a started task of this worker that can go on, or a bound one that can start.
    pub(super) fn push_ready(&self, task: NonNull<Header>) {
        // SAFETY: not running and in no queue, so alive and ours.
        match unsafe { task.as_ref() }.lane() {
            Lane::Normal => &self.ready,
            Lane::Background => &self.background,
        }
        .borrow_mut()
        .push_back(task);
    }

    /// Whether [`pick`](Self::pick) gives nothing although there may be something: the foreign loop is to have its turn.
    pub(super) fn is_recess(&self) -> bool {
        self.allowance.as_ref().is_some_and(Allowance::is_used_up)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.shared.remotes[self.index].0
    }

    /// Leaves the running task, which is parked, as [`leave`](Self::leave) does, until `deadline` at most. In a frame of its own, since it is a
    /// large one: what parked tasks keep on their stacks is what has to be fetched to wake them.
    #[inline(never)]
    pub(super) fn leave_until(&self, task: NonNull<Header>, deadline: Instant) {
        let timer = Timer::of(task);
        let timer = NonNull::from(&timer);
        // SAFETY: in this frame, which stays until the task is resumed, and is left after `remove` only.
        unsafe { self.timers.borrow_mut().add(timer, deadline) };
        self.has_timers.set(true);
        self.leave(task);
        let mut timers = self.timers.borrow_mut();
        // SAFETY: set above: a task stays on its worker.
        unsafe { timers.remove(timer) };
        if timers.is_empty() {
            self.has_timers.set(self.remote().naps.nearest().is_some());
        }
    }

    /// A task without a stack has set a timer here.
    pub(super) fn mind_naps(&self) {
        self.has_timers.set(true);
    }

    /// The nearest deadline of a timer of either kind.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let naps = self.remote().naps.nearest();
        self.timers.borrow().nearest().into_iter().chain(naps).min()
    }

    /// Leaves the running task, which is parked or in a queue, for whatever is next. Returns when it is resumed.
    pub(super) fn leave(&self, task: NonNull<Header>) {
        let next = self.pick();
        if next == Some(task) {
            return;
        }
        // SAFETY: the running task is alive, and so it is until it is resumed.
        let save = unsafe { task.as_ref() }.sp.as_ptr();
        match next {
            Some(next) => self.switch(save, next),
            None => self.to_root(save),
        }
    }

    /// Notes which task runs from now on.
    fn set_current(&self, task: NonNull<Header>) {
        self.current.set(Some(task));
        self.remote().shown.show(Some(task));
    }

    /// Leaves the stack whose pointer goes to `save` for the thread's own.
    pub(super) fn to_root(&self, save: *mut *mut u8) {
        #[cfg(asan)]
        arch::sanitizer::leave(self.root_stack.0, self.root_stack.1);
        self.current.set(None);
        self.remote().shown.show(None);
        // SAFETY: `save` is a live task's or a dead one's placeholder; `root` was left by `run` on this thread, whose
        // stack is suspended whenever a task runs.
        unsafe { arch::switch(save, self.root.get()) };
        #[cfg(asan)]
        arch::sanitizer::arrive();
    }

    /// Leaves the stack whose pointer goes to `save` for a task's.
    pub(super) fn switch(&self, save: *mut *mut u8, task: NonNull<Header>) {
        // SAFETY: taken from a queue, so alive and ours.
        let header = unsafe { task.as_ref() };
        if header.sp.get().is_null() && !self.prepare(task) {
            if save != self.root.as_ptr() {
                self.to_root(save);
            }
            return;
        }
        #[cfg(asan)]
        tell_leaving(header);
        self.set_current(task);
        // SAFETY: `save` is a live task's, the root's, or a dead task's placeholder; the task's pointer is of a fresh stack or
        // was left on this thread: a started task stays on its worker.
        unsafe { arch::switch(save, header.sp.get()) };
        #[cfg(asan)]
        arch::sanitizer::arrive();
    }

    /// Gives an unstarted task a stack; false if there is none, and then the task is in `refused`.
    fn prepare(&self, task: NonNull<Header>) -> bool {
        // SAFETY: taken from a queue, so alive and ours.
        let header = unsafe { task.as_ref() };
        let stack = match self
            .stacks
            .borrow_mut()
            .take(&self.shared.stacks, header.class())
        {
            Ok(stack) => stack,
            Err(error) => {
                *self.refused.borrow_mut() = Some((task, error));
                return false;
            }
        };
        #[cfg(asan)]
        {
            let bytes = stack.bytes();
            arch::sanitizer::wipe(stack.top().wrapping_sub(bytes), bytes);
        }
        // SAFETY: a whole stack, aligned at its top, that nobody uses.
        let sp = unsafe {
            arch::prepare(
                stack.top(),
                stack.bytes(),
                task_root,
                ptr::from_ref(self).cast_mut().cast(),
            )
        };
        self.in_use.add(task, &stack);
        self.tell_stacks();
        self.begin(header, sp, stack);
        true
    }

    /// Turns an unstarted task into a started one of this worker.
    fn begin(&self, header: &Header, sp: *mut u8, stack: Stack) {
        header.sp.set(sp);
        header.status.runs(self.tick.get());
        header.set_home(self.index);
        // From here on a report may look at the task.
        stack.set_tenant(Some(roster::tenant(header)));
        header.set_stack(stack);
    }

    /// On the thread's own stack: ends the task that could not be given a stack.
    fn tell_refused(&self) {
        let refused = self.refused.borrow_mut().take();
        if let Some((task, error)) = refused {
            // SAFETY: an unstarted task that this worker took from a queue.
            unsafe { Header::refuse(task, error, &|| bump(&self.remote().finished)) };
            // SAFETY: refused just now.
            unsafe { Header::free(task) };
            bump(&self.remote().gone);
        }
    }

    pub(super) fn fire_timers(&self) {
        let now = Instant::now();
        let naps = &self.remote().naps;
        naps.fire(now);
        let mut timers = self.timers.borrow_mut();
        while let Some(timer) = timers.pop_due(now) {
            // SAFETY: among the timers until just now, so where it was: its task has not run meanwhile.
            let task = *unsafe { timer.as_ref() }.what();
            // SAFETY: among the timers, so parked and alive.
            if unsafe { task.as_ref() }.park.word.give_up() {
                self.push_ready(task);
            }
            // Otherwise an unparker came first, and the task is on its way here.
        }
        self.has_timers
            .set(!timers.is_empty() || naps.nearest().is_some());
    }

    /// Whether there is anything that no other worker takes.
    fn has_own(&self) -> bool {
        !self.remote().inbox.is_empty() || !self.remote().dealt.is_empty()
    }

    /// Whether anything is there for this worker to take.
    pub(super) fn nothing_to_do(&self) -> bool {
        !self.has_own()
            && !self.shared.has_unstarted()
            && (self.desk.is_weary() || !self.shared.has_offers())
    }

    /// Whether something came while the worker stayed awake for it.
    fn linger(&self) -> bool {
        let is_there = || !self.nothing_to_do();
        self.linger.look(0, is_there)
    }

    /// Sleeps until there may be something to do; `searching` ends with that.
    fn sleep(&self, searching: bool) -> Slept {
        self.comes_home();
        // Better than nothing, and put off for anything.
        let Some(tidy_at) = self.tidy() else {
            return Slept::NotYet;
        };
        let idle = &self.shared.idle;
        let remote = self.remote();
        let apart = !searching && !remote.is_active();
        let asleep = if apart {
            idle.fall_asleep_apart(self.index)
        } else {
            idle.fall_asleep(self.index, searching)
        };
        let leave = self.shared.may_leave();
        let nothing_to_do = if apart {
            // Made active meanwhile it would be on no list, with nobody to wake it.
            !remote.is_active() && !self.has_own()
        } else {
            self.nothing_to_do()
        };
        if !leave && nothing_to_do {
            let wake_at = self.next_deadline().into_iter().chain(tidy_at).min();
            let timeout = wake_at.map(|at| at.saturating_duration_since(Instant::now()));
            if timeout.is_none_or(|timeout| !timeout.is_zero()) {
                if self.desk.is_weary() {
                    // It may sleep beside an offer: the monitor has somebody try again. Ordered by fence B.
                    self.shared.call_monitor();
                }
                self.hand_on();
                bump(&remote.counts.sleeps);
                linger::nod_off();
                sys::futex_wait(idle.word(self.index), asleep, timeout);
                linger::wake_up();
                self.desk.take_heart();
            }
        }
        let woken = idle.get_up(self.index);
        self.tick.set(Tick::now());
        self.linger.woken(woken == Woken::ForInbox);
        match woken {
            // Counted as searching by who woke us.
            Woken::ToSearch => {
                self.sets_out();
                Slept::Search
            }
            Woken::Alone | Woken::ForInbox if leave => Slept::Leave,
            Woken::Alone | Woken::ForInbox => Slept::LookAgain,
        }
    }

    /// Tidies up a little; none if there is more of that, otherwise when to do so again.
    fn tidy(&self) -> Option<Option<Instant>> {
        let mut again = None;
        for tidying in [self.shared.stacks.trim(), self.in_use.tidy()] {
            match tidying {
                Tidying::Goes => return None,
                Tidying::Later(at) => again = again.into_iter().chain([at]).min(),
                Tidying::Done => {}
            }
        }
        Some(again)
    }

    fn tell_stacks(&self) {
        // Relaxed: a hint for who deals tasks out.
        self.remote().stacks.store(self.in_use.count(), Relaxed);
    }

    /// Keeps the stack of a task that has ended for the next one. The caller may still stand on it, if it leaves at once.
    fn release(&self, stack: Stack) {
        self.in_use.remove(&stack);
        self.tell_stacks();
        self.stacks.borrow_mut().put(&self.shared.stacks, stack);
    }
}

/// Ends a forked child whose task, the one that forked, has returned: the worker's other tasks are the parent's to run.
#[cold]
fn end_forked_child() -> ! {
    sys::write_error(
        b"multi-goro: a task forked, and in the child it returned to a runtime that the child does not have; \
          end the child in the task (_exit, exec), or fork through multi-proc\n",
    );
    sys::abort()
}

/// Tells the sanitizer which stack the thread goes to with a task.
#[cfg(asan)]
fn tell_leaving(task: &Header) {
    let stack = task.stack().expect("a started task has a stack");
    let bytes = stack.bytes();
    arch::sanitizer::leave(stack.top().wrapping_sub(bytes), bytes);
}

/// What a worker does after a sleep.
enum Slept {
    /// There was something to tidy up first: the worker is what it was.
    NotYet,
    LookAgain,
    Search,
    Leave,
}

/// The root of every stack: runs the task it was made for, then unstarted ones as long as they are next, so that neither a
/// switch nor a stack is needed for them.
extern "C" fn task_root(worker: *mut ()) -> ! {
    // SAFETY: `prepare` passes the worker, which outlives its tasks.
    let worker = unsafe { &*worker.cast_const().cast::<Worker>() };
    #[cfg(asan)]
    arch::sanitizer::arrive();
    loop {
        let task = worker.current.get().expect("a task is running");
        // SAFETY: the running task is ours, and runs once.
        let ran = unsafe { Header::run(task, &|| bump(&worker.remote().finished)) };
        if worker.shared.is_foreign() {
            end_forked_child();
        }
        // SAFETY: the running task is alive.
        let stack = unsafe { task.as_ref() }
            .take_stack()
            .expect("a running task has a stack");
        worker.current.set(None);
        worker.remote().shown.hide();
        let remote = worker.remote();
        remote
            .gate
            .pass(&worker.shared.bar, || stack.set_tenant(None));
        match ran {
            Ran::Ended => {
                // SAFETY: it has run.
                unsafe { Header::free(task) };
                bump(&worker.remote().gone);
            }
            // SAFETY: it has waited just now, and its stack is ours again.
            Ran::Waits => unsafe { polled::rest(worker, task) },
        }

        let Some(next) = worker.pick() else {
            worker.release(stack);
            worker.to_root(&mut ptr::null_mut());
            unreachable!("a task that has ended was resumed");
        };
        // SAFETY: taken from a queue, so alive and ours.
        let header = unsafe { next.as_ref() };
        if header.sp.get().is_null() && header.class() == stack.class() {
            worker.in_use.hand_over(next, &stack);
            // Started now, and so no longer null.
            worker.begin(header, stack.top(), stack);
            worker.set_current(next);
        } else {
            // We stand on this stack until the switch. A fresh stack that `next` may need is of another class.
            worker.release(stack);
            worker.switch(&mut ptr::null_mut(), next);
            unreachable!("a task that has ended was resumed");
        }
    }
}

/// Reports a fault in the guard of the running task's stack. In a signal handler, on the thread that faulted.
pub(super) fn on_fault(fault: &Fault) {
    let Some(worker) = this_worker() else {
        return;
    };
    let Some(task) = worker.current.get() else {
        return;
    };
    // SAFETY: the running task is alive.
    let header = unsafe { task.as_ref() };
    if let Some(stack) = header.stack()
        && stack.guard_covers(fault.address())
    {
        overflow::report(&Victim {
            name: header.name().map(|name| &**name),
            started_at: header.started_at,
            stack_bytes: stack.class().bytes(),
        });
    }
}
