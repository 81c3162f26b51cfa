//! A worker: an OS thread that runs tasks, and the moments at which it changes from one to the next.

#![expect(unsafe_code, reason = "switches stacks, and knows tasks by address")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::{Remote, Shared};
use super::task::{Header, Info, TaskRef};
use super::timers::Timers;
use crate::arch;
use crate::proto::idle::{Idle, Woken};
use crate::proto::ring::Owner;
use crate::stack::overflow::{self, Victim};
use crate::stack::{Cache, Stack};
use crate::sync::{AtomicU64, Ordering::*};
use crate::sys::{self, Fault};

/// Rounds between two looks at the shared queue before everything else. Go's figure: a prime, so that it does not fall into
/// step with a pattern of the program.
const FAIR_ROUNDS: u32 = 61;
/// Rounds between two looks at this worker's unstarted tasks before its ready ones.
const START_ROUNDS: u32 = 7;
/// Rounds between two looks at the clock while something is ready.
const TIMER_ROUNDS: u32 = 8;
/// Tasks in a row that may jump the ready list: the newest child, or the receiver just served.
const JUMPS_MAX: u32 = 3;
/// Channel operations that did not wait before the task lets others run all the same.
const SPEND_MAX: u32 = 128;
/// How often an idle worker looks whether another is stuck in one task with a child waiting.
const WATCH: Duration = Duration::from_millis(10);

thread_local! {
    /// The worker this thread is; null on any other thread. Tasks never change threads, so neither does this under one.
    static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// The thread's own side of a worker: everything here is touched by its thread alone, tasks on it included.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    owner: Owner,
    /// Started tasks that can go on, in the order they became so.
    ready: RefCell<VecDeque<NonNull<Header>>>,
    /// The started task to go on next: the receiver of an unbuffered channel that was just served.
    front: Cell<Option<NonNull<Header>>>,
    /// Tasks in a row that jumped the ready list.
    jumps: Cell<u32>,
    timers: RefCell<Timers>,
    /// The nearest deadline, kept beside the heap for the look at each round.
    has_timers: Cell<bool>,
    stacks: RefCell<Cache>,
    current: Cell<Option<NonNull<Header>>>,
    /// A task for which there was no stack, and why; told on the thread's own stack.
    refused: RefCell<Option<(NonNull<Header>, io::Error)>>,
    /// Where the thread's own stack was left.
    root: Cell<*mut u8>,
    round: Cell<u32>,
    random: Cell<u64>,
    /// Operations since the last yield of [`spend`].
    spent: Cell<u32>,
    /// The rounds of the others when this worker last watched them.
    watched: RefCell<Vec<u32>>,
}

/// The worker and the task that call, if a task does, in the process that the worker belongs to.
pub(crate) fn on_task() -> Option<(&'static Worker, NonNull<Header>)> {
    let worker = this_worker()?;
    let task = worker.current.get()?;
    (!worker.shared.is_foreign()).then_some((worker, task))
}

/// Shows what is known about the running task.
pub(crate) fn with_current_info<R>(look: impl FnOnce(&Info) -> R) -> Option<R> {
    let (_, task) = on_task()?;
    // SAFETY: the running task is alive.
    Some(look(&unsafe { task.as_ref() }.info))
}

/// Lets others run. On a plain thread this is the system's yield.
pub(crate) fn yield_now() {
    match on_task() {
        None => std::thread::yield_now(),
        // The thread's panic count is this task's: nobody else may run here.
        Some(_) if std::thread::panicking() => {}
        // Picked before the caller is ready again: with nothing else started, an unstarted task comes before it.
        Some((worker, task)) => {
            if let Some(next) = worker.pick() {
                worker.ready.borrow_mut().push_back(task);
                // SAFETY: the running task is alive, and so it is until it is resumed.
                let save = unsafe { task.as_ref() }.sp.as_ptr();
                worker.switch(save, next);
            }
        }
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
fn this_worker() -> Option<&'static Worker> {
    // SAFETY: set by `Worker::run` for the time that the worker lives, on this thread. Every caller is below `run` on this
    // thread, or in a task, which cannot outlive the worker: so the long lifetime is not outlived.
    unsafe { CURRENT.get().as_ref() }
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
        } else if turn == Turn::Next {
            worker.ready_next(task);
        } else {
            worker.ready.borrow_mut().push_back(task);
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
unsafe fn post(shared: &Shared, home: usize, task: NonNull<Header>) {
    // SAFETY: alive and in no queue, by the caller's promise.
    unsafe { shared.remotes[home].0.inbox.post(task) };
    if shared.idle.posted(home) {
        sys::futex_wake(shared.idle.word(home));
    }
}

/// Adds one to a counter that only this thread writes.
fn bump(counter: &AtomicU64) {
    // Relaxed, both: one writer; see `Shared::task_count` for readers.
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

impl Worker {
    /// The life of a worker's thread.
    pub(super) fn run(shared: Arc<Shared>, index: usize, owner: Owner) {
        // Without an alternate stack an overflow still ends the process, only without a report.
        let _ignored = sys::ensure_signal_stack();
        let worker = Self {
            index,
            owner,
            ready: RefCell::default(),
            front: Cell::new(None),
            jumps: Cell::new(0),
            timers: RefCell::default(),
            has_timers: Cell::new(false),
            stacks: RefCell::new(Cache::new()),
            current: Cell::new(None),
            refused: RefCell::new(None),
            root: Cell::new(ptr::null_mut()),
            round: Cell::new(0),
            spent: Cell::new(0),
            random: Cell::new(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1)),
            watched: RefCell::new(vec![0; shared.worker_count()]),
            shared,
        };
        CURRENT.set(&raw const worker);
        let mut searching = false;
        loop {
            let mut task = worker.pick();
            if task.is_none() && (searching || worker.shared.idle.start_search()) {
                searching = true;
                task = worker.steal();
            }
            if searching {
                searching = false;
                worker.shared.idle.end_search();
                if task.is_some() {
                    // Where one task was there may be more.
                    worker.shared.announce();
                }
            }
            if let Some(task) = task {
                worker.switch(worker.root.as_ptr(), task);
                worker.tell_refused();
                continue;
            }
            match worker.sleep() {
                Slept::LookAgain => {}
                Slept::Search => searching = true,
                Slept::Leave => break,
            }
        }
        CURRENT.set(ptr::null());
        worker.stacks.borrow_mut().clear(&worker.shared.stacks);
        // The others sleep until somebody tells them that the last task has ended.
        worker.shared.rouse();
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    fn remote(&self) -> &Remote {
        &self.shared.remotes[self.index].0
    }

    /// Queues a child of the running task: it runs here next, unless it is displaced by a newer one, and then anywhere.
    pub(super) fn spawn(&self, task: TaskRef) {
        bump(&self.remote().spawned);
        // AcqRel: Release publishes the child to the Acquire swap of a thief in `take_from_stuck`; Acquire takes over
        // what we ourselves, or nobody, put there.
        let displaced = self.remote().newest.swap(task.0.as_ptr(), AcqRel);
        if let Some(older) = NonNull::new(displaced) {
            self.publish(older);
        } else if let Some(watcher) = self.shared.idle.call_watcher() {
            // The child waits for us to stop; should we not, the watcher takes it.
            sys::futex_wake(self.shared.idle.word(watcher));
        }
    }

    /// Puts an unstarted task where others can steal it.
    fn publish(&self, task: NonNull<Header>) {
        let ring = &self.remote().ring;
        if let Err(task) = ring.push(&self.owner, task) {
            // Full: half goes to everybody, in order, and the new one behind it.
            let half = (0..crate::proto::ring::SLOT_COUNT / 2).map_while(|_| ring.pop(&self.owner));
            let moved: Vec<_> = half.chain([task]).map(TaskRef).collect();
            self.shared.injector().push(moved);
        }
        self.shared.announce();
    }

    /// Makes a started task of this worker ready, ahead of the list within the limit of [`JUMPS_MAX`].
    fn ready_next(&self, task: NonNull<Header>) {
        if let Some(before) = self.front.replace(Some(task)) {
            self.ready.borrow_mut().push_back(before);
        }
    }

    pub(super) fn add_timer(&self, task: NonNull<Header>, deadline: Instant) {
        self.timers.borrow_mut().add(task, deadline);
        self.has_timers.set(true);
    }

    pub(super) fn remove_timer(&self, task: NonNull<Header>) {
        let mut timers = self.timers.borrow_mut();
        timers.remove(task);
        self.has_timers.set(timers.nearest().is_some());
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

    /// Leaves the stack whose pointer goes to `save` for the thread's own.
    fn to_root(&self, save: *mut *mut u8) {
        self.current.set(None);
        // SAFETY: `save` is a live task's or a dead one's placeholder; `root` was left by `run` on this thread, whose
        // stack is suspended whenever a task runs.
        unsafe { arch::switch(save, self.root.get()) };
    }

    /// Leaves the stack whose pointer goes to `save` for a task's.
    fn switch(&self, save: *mut *mut u8, task: NonNull<Header>) {
        // SAFETY: taken from a queue, so alive and ours.
        let header = unsafe { task.as_ref() };
        if header.sp.get().is_null() && !self.prepare(task) {
            if save != self.root.as_ptr() {
                self.to_root(save);
            }
            return;
        }
        self.current.set(Some(task));
        // SAFETY: `save` is a live task's, the root's, or a dead task's placeholder; the task's pointer is of a fresh stack or
        // was left on this thread: a started task stays on its worker.
        unsafe { arch::switch(save, header.sp.get()) };
    }

    /// Gives an unstarted task a stack; false if there is none, and then the task is in `refused`.
    fn prepare(&self, task: NonNull<Header>) -> bool {
        // SAFETY: taken from a queue, so alive and ours.
        let header = unsafe { task.as_ref() };
        let stack = match self
            .stacks
            .borrow_mut()
            .take(&self.shared.stacks, header.class)
        {
            Ok(stack) => stack,
            Err(error) => {
                *self.refused.borrow_mut() = Some((task, error));
                return false;
            }
        };
        // SAFETY: a whole stack, page-aligned at its top, that nobody uses.
        let sp = unsafe {
            arch::prepare(
                stack.top(),
                task_root,
                ptr::from_ref(self).cast_mut().cast(),
            )
        };
        self.begin(header, sp, stack);
        true
    }

    /// Turns an unstarted task into a started one of this worker.
    fn begin(&self, header: &Header, sp: *mut u8, stack: Stack) {
        header.sp.set(sp);
        header.stack.set(Some(stack));
        // Relaxed: read by who unparks the task, after a wait that it announced under some lock.
        header.worker.store(self.index as u32, Relaxed);
    }

    /// On the thread's own stack: ends the task that could not be given a stack.
    fn tell_refused(&self) {
        let refused = self.refused.borrow_mut().take();
        if let Some((task, error)) = refused {
            // SAFETY: an unstarted task that this worker took from a queue.
            unsafe { Header::refuse(task, error, &|| bump(&self.remote().finished)) };
            // SAFETY: refused just now.
            unsafe { Header::free(task) };
        }
    }

    /// The next task to run, from this worker's own queues and the shared one.
    fn pick(&self) -> Option<NonNull<Header>> {
        let remote = self.remote();
        let round = self.round.get().wrapping_add(1);
        self.round.set(round);
        // Relaxed: a sign of life; see `Worker::watch`.
        remote.rounds.store(round, Relaxed);
        if self.has_timers.get() && round.is_multiple_of(TIMER_ROUNDS) {
            self.fire_timers();
        }
        if !remote.inbox.is_empty() {
            let mut ready = self.ready.borrow_mut();
            remote.inbox.take_all(|task| ready.push_back(task));
        }
        if round.is_multiple_of(FAIR_ROUNDS)
            && let Some(task) = self.take_injected()
        {
            return Some(task);
        }
        if round.is_multiple_of(START_ROUNDS)
            && let Some(task) = remote.ring.pop(&self.owner).or_else(|| self.take_newest())
        {
            return Some(task);
        }
        if self.jumps.get() < JUMPS_MAX
            && let Some(task) = self.front.take()
        {
            self.jumps.set(self.jumps.get() + 1);
            return Some(task);
        }
        if let Some(task) = self.ready.borrow_mut().pop_front() {
            self.jumps.set(0);
            return Some(task);
        }
        if let Some(task) = self.front.take() {
            return Some(task);
        }
        if let Some(task) = self
            .take_newest()
            .or_else(|| remote.ring.pop(&self.owner))
            .or_else(|| self.take_injected())
        {
            return Some(task);
        }
        if self.has_timers.get() {
            self.fire_timers();
            return self.ready.borrow_mut().pop_front();
        }
        None
    }

    fn take_newest(&self) -> Option<NonNull<Header>> {
        let newest = &self.remote().newest;
        // Relaxed: a look before the swap; only this worker puts something there.
        if newest.load(Relaxed).is_null() {
            return None;
        }
        if self.jumps.get() >= JUMPS_MAX {
            self.jumps.set(0);
            if let Some(task) = self.remote().ring.pop(&self.owner) {
                return Some(task);
            }
        }
        self.jumps.set(self.jumps.get() + 1);
        // Acquire: takes over the child wholly; a thief may have come first.
        NonNull::new(newest.swap(ptr::null_mut(), Acquire))
    }

    /// The first of the shared queue, with a fair share of the rest for this worker's ring.
    fn take_injected(&self) -> Option<NonNull<Header>> {
        let ring = &self.remote().ring;
        // A share goes to the own ring only when that is empty, so that there is room for all of it.
        let most = if ring.is_empty() {
            crate::proto::ring::SLOT_COUNT as usize / 2
        } else {
            0
        };
        let mut moved = false;
        let first = self
            .shared
            .injector()
            .take(self.shared.worker_count(), most, |task| {
                moved = true;
                ring.push(&self.owner, task.0)
                    .expect("an empty ring has room");
            });
        if moved {
            // Somebody may have found the shared queue empty while these were on their way.
            self.shared.announce();
        }
        first.map(|task| task.0)
    }

    fn fire_timers(&self) {
        let now = Instant::now();
        let mut timers = self.timers.borrow_mut();
        while let Some(task) = timers.pop_due(now) {
            // SAFETY: among the timers, so parked and alive.
            if unsafe { task.as_ref() }.park.word.give_up() {
                self.ready.borrow_mut().push_back(task);
            }
            // Otherwise an unparker came first, and the task is on its way here.
        }
        self.has_timers.set(timers.nearest().is_some());
    }

    /// Looks for unstarted tasks of others. The searcher only.
    fn steal(&self) -> Option<NonNull<Header>> {
        if let Some(task) = self.take_injected() {
            return Some(task);
        }
        let count = self.shared.worker_count();
        let start = self.next_random() as usize % count;
        (0..count)
            .map(|nth| (start + nth) % count)
            .filter(|victim| *victim != self.index)
            .find_map(|victim| {
                let victim = &self.shared.remotes[victim].0;
                victim.ring.steal_half(&self.remote().ring, &self.owner)
            })
    }

    fn next_random(&self) -> u64 {
        // xorshift64: only has to be different from the others'.
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// Takes the newest child of a worker that has been in one task since the last watch.
    fn watch(&self) {
        let mut watched = self.watched.borrow_mut();
        for (victim, seen) in self.shared.remotes.iter().zip(&mut *watched) {
            // Relaxed: a sign of life, looked at every few milliseconds.
            let rounds = victim.0.rounds.load(Relaxed);
            if rounds != std::mem::replace(seen, rounds)
                || ptr::eq(&raw const victim.0, self.remote())
            {
                continue;
            }
            // Acquire: pairs with the Release swap in `spawn`: the child is seen whole.
            if let Some(task) = NonNull::new(victim.0.newest.swap(ptr::null_mut(), Acquire)) {
                self.publish(task);
            }
        }
    }

    /// Whether anything is there for this worker to take.
    fn nothing_to_do(&self) -> bool {
        self.remote().inbox.is_empty()
            && self.shared.injector().is_empty()
            && self
                .shared
                .remotes
                .iter()
                .all(|remote| remote.0.ring.is_empty())
    }

    /// Sleeps until there may be something to do.
    fn sleep(&self) -> Slept {
        let idle = &self.shared.idle;
        idle.fall_asleep(self.index);
        let leave = self.shared.may_leave();
        let mut watching = false;
        if !leave && self.nothing_to_do() {
            let timer = self.timers.borrow().nearest();
            let timer = timer.map(|at| at.saturating_duration_since(Instant::now()));
            watching = idle.start_watch(self.index);
            let watch = watching.then_some(WATCH);
            let timeout = timer.into_iter().chain(watch).min();
            if timeout.is_none_or(|timeout| !timeout.is_zero()) {
                sys::futex_wait(idle.word(self.index), Idle::ASLEEP, timeout);
            }
        }
        let woken = idle.get_up(self.index);
        if watching {
            self.watch();
        }
        match woken {
            // Counted as searching by who woke us.
            Woken::ToSearch => Slept::Search,
            Woken::Alone | Woken::ForInbox if leave => Slept::Leave,
            Woken::Alone | Woken::ForInbox => Slept::LookAgain,
        }
    }

    /// Keeps the stack of a task that has ended for the next one. The caller may still stand on it, if it leaves at once.
    fn release(&self, stack: Stack) {
        self.stacks.borrow_mut().put(&self.shared.stacks, stack);
    }
}

/// What a worker does after a sleep.
enum Slept {
    LookAgain,
    Search,
    Leave,
}

/// The root of every stack: runs the task it was made for, then unstarted ones as long as they are next, so that neither a
/// switch nor a stack is needed for them.
extern "C" fn task_root(worker: *mut ()) -> ! {
    // SAFETY: `prepare` passes the worker, which outlives its tasks.
    let worker = unsafe { &*worker.cast_const().cast::<Worker>() };
    loop {
        let task = worker.current.get().expect("a task is running");
        // SAFETY: the running task is ours, and runs once.
        unsafe { Header::run(task, &|| bump(&worker.remote().finished)) };
        // SAFETY: the running task is alive.
        let stack = unsafe { task.as_ref() }
            .stack
            .take()
            .expect("a running task has a stack");
        worker.current.set(None);
        // SAFETY: it has run.
        unsafe { Header::free(task) };

        let Some(next) = worker.pick() else {
            worker.release(stack);
            worker.to_root(&mut ptr::null_mut());
            unreachable!("a task that has ended was resumed");
        };
        // SAFETY: taken from a queue, so alive and ours.
        let header = unsafe { next.as_ref() };
        if header.sp.get().is_null() && header.class == stack.class() {
            // Started now, and so no longer null.
            worker.begin(header, stack.top(), stack);
            worker.current.set(Some(next));
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
    // SAFETY: the cell is this thread's, and the code that the fault interrupted was not in it: it overran the stack.
    let stack = unsafe { &*header.stack.as_ptr() };
    if let Some(stack) = stack
        && stack.guard_covers(fault.address())
    {
        overflow::report(&Victim {
            name: header.info.name.as_deref(),
            started_at: header.info.started_at,
            stack_bytes: stack.class().bytes(),
        });
    }
}
