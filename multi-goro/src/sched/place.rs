//! Where tasks wait to run, and which is next.

#![expect(unsafe_code, reason = "looks into the cells of ready tasks")]

use std::ptr::{self, NonNull};

use super::status::Tick;
use super::task::{Header, Lane, TaskRef};
use super::worker::{Worker, bump};
use crate::arch;
use crate::proto::ring::SLOT_COUNT;
use crate::sync::{Ordering::*, light_fence};

/// Rounds between two looks at the shared queue before everything else. Go's figure: a prime, so that it does not fall into
/// step with a pattern of the program.
const FAIR_ROUNDS: u32 = 61;
/// Rounds between two looks at this worker's unstarted tasks before its ready ones.
const START_ROUNDS: u32 = 7;
/// Rounds between two looks at the clock while something is ready.
const TIMER_ROUNDS: u32 = 8;
/// Rounds between two looks at the coarse clock, for reports: 3 ns each.
const TICK_ROUNDS: u32 = 16;
/// Tasks in a row that may jump the ready list: the newest child, or the receiver just served.
const JUMPS_MAX: u32 = 3;
/// How far ahead cells are fetched, and stacks, whose address the cells hold. With eight lines of each stack, processor time per yield
/// among 20 000 tasks went from 320 to 146 ns, among 1 000 from 21 to 19, between two it stayed at 13; with four it was 192, 19 and 12.
const CELLS_AHEAD: usize = 8;
const STACKS_AHEAD: usize = 3;
/// What a parked task needs of its stack to go on.
const STACK_LINES: usize = 8;
/// What it needs to go on and to end, where more than [`MANY`] are ready, so that nothing of it is in a cache: more than a task keeps that waits for a
/// channel. With 300 000 tasks that are woken and end, processor time for each went from 460 to 115 ns; with 14 lines it was 320.
const STACK_LINES_MAX: usize = 20;
const MANY: usize = 2_048;

impl Worker {
    /// Queues a child of the running task: it runs here next, unless it is displaced by a newer one, and then anywhere.
    pub(super) fn spawn(&self, task: TaskRef) {
        bump(&self.remote().spawned);
        self.put_newest(task);
    }

    fn put_newest(&self, task: TaskRef) {
        // AcqRel: Release publishes the child to the Acquire swap of the monitor in `Monitor::tick`; Acquire takes over
        // what we ourselves, or nobody, put there.
        let displaced = self.remote().newest.swap(task.0.as_ptr(), AcqRel);
        if let Some(older) = NonNull::new(displaced) {
            self.publish(older);
        } else {
            // The child waits for us to stop; should we not, the monitor takes it.
            // Fence A. Pairs with fence E in `Watch::doze`: either we see that the monitor dozes, or it sees the child.
            light_fence();
            self.shared.call_monitor();
        }
    }

    /// Queues a child of the running task behind the normal lane. On a bound worker only: nobody else can take it there.
    pub(super) fn spawn_behind(&self, task: TaskRef) {
        bump(&self.remote().spawned);
        task.set_lane(Lane::Background);
        self.push_ready(task.0);
    }

    /// Queues a polled task of this runtime that was woken here: as a child.
    pub(super) fn put_first(&self, task: NonNull<Header>) {
        match TaskRef(task).lane() {
            Lane::Normal => self.put_newest(TaskRef(task)),
            Lane::Background => self.push_ready(task),
        }
    }

    /// Queues a polled task of this runtime that was woken while it was polled here: behind the others.
    pub(super) fn put_behind(&self, task: NonNull<Header>) {
        if self.shared.bound().is_some() {
            // There is nobody else to take it.
            self.push_ready(task);
        } else {
            self.publish(task);
        }
    }

    /// Puts an unstarted task where others can steal it.
    fn publish(&self, task: NonNull<Header>) {
        // SAFETY: in no queue yet, so alive and ours.
        let site = unsafe { task.as_ref() }.started_at;
        let ring = &self.remote().ring;
        if let Err(task) = ring.push(&self.owner, task) {
            // Full: half goes to everybody, in order, and the new one behind it.
            let half = (0..SLOT_COUNT / 2).map_while(|_| ring.pop(&self.owner));
            let moved = half.chain([task]).map(TaskRef);
            self.shared.injector().push(moved);
        }
        self.shared.announce_child(site);
    }

    /// Makes a started task of this worker ready, ahead of the list within the limit of [`JUMPS_MAX`].
    pub(super) fn ready_next(&self, task: NonNull<Header>) {
        if TaskRef(task).lane() == Lane::Background {
            self.push_ready(task);
        } else if let Some(before) = self.front.replace(Some(task)) {
            self.ready.borrow_mut().push_back(before);
        }
    }

    /// The next task to run, from this worker's own queues and the shared one.
    pub(super) fn pick(&self) -> Option<NonNull<Header>> {
        if let Some(allowance) = &self.allowance {
            if allowance.is_used_up() {
                return None;
            }
            allowance.take_turn();
        }
        let remote = self.remote();
        let round = self.round.get().wrapping_add(1);
        self.round.set(round);
        // Relaxed: a sign of life; see `Monitor::find_suspects`.
        remote.rounds.store(round, Relaxed);
        self.checks.set(0);
        if round.is_multiple_of(TICK_ROUNDS) {
            self.tick.set(Tick::now());
            self.hand_on();
        }
        if self.has_timers.get() && round.is_multiple_of(TIMER_ROUNDS) {
            self.fire_timers();
        }
        if !remote.inbox.is_empty() {
            remote.inbox.take_all(|task| {
                remote.counts.was_woken();
                self.push_ready(task);
            });
        }
        if round.is_multiple_of(FAIR_ROUNDS)
            && let Some(task) = self.take_fairly(round)
        {
            return Some(task);
        }
        if round.is_multiple_of(START_ROUNDS)
            && let Some(task) = self.take_to_start(round)
        {
            return Some(task);
        }
        if self.jumps.get() < JUMPS_MAX
            && let Some(task) = self.front.take()
        {
            self.jumps.set(self.jumps.get() + 1);
            return Some(task);
        }
        if let Some(task) = self.pop_ready() {
            self.jumps.set(0);
            return Some(task);
        }
        if let Some(task) = self.front.take() {
            return Some(task);
        }
        if let Some(task) = self
            .take_newest()
            .or_else(|| self.take_dealt())
            .or_else(|| remote.ring.pop(&self.owner))
            .or_else(|| self.take_injected())
        {
            return Some(task);
        }
        if self.has_timers.get() {
            self.fire_timers();
            if let Some(task) = self.ready.borrow_mut().pop_front() {
                return Some(task);
            }
            // Without a stack, woken by a timer.
            if let Some(task) = self.take_newest() {
                return Some(task);
            }
        }
        self.take_background()
    }

    /// The first of the ready list. When many were woken at once their cells and stacks are cold: those of the ones soon to come are
    /// fetched meanwhile.
    fn pop_ready(&self) -> Option<NonNull<Header>> {
        let mut ready = self.ready.borrow_mut();
        let task = ready.pop_front()?;
        if let Some(soon) = ready.get(CELLS_AHEAD) {
            arch::prefetch(soon.as_ptr().cast());
            arch::prefetch(soon.as_ptr().cast::<u8>().wrapping_add(64));
        }
        if let Some(next) = ready.get(STACKS_AHEAD) {
            // SAFETY: ready, and so alive.
            let next = unsafe { next.as_ref() };
            if ready.len() > MANY {
                let kept = next.stack().map_or(0, |stack| {
                    stack.top().addr().saturating_sub(next.sp.get().addr())
                });
                fetch_stack(next, STACK_LINES_MAX.min(kept.div_ceil(64)));
            } else {
                fetch_stack(next, STACK_LINES);
            }
        }
        Some(task)
    }

    /// Of a task that was just woken: if it is to run before [`pop_ready`](Self::pop_ready) could do so, has its stack fetched while its waker goes
    /// on. A value through one of 100 000 stages of a pipeline went from 270 to 135 ns of processor time, and a round trip between two tasks stayed
    /// at 72.
    pub(super) fn fetch_if_soon(&self, task: NonNull<Header>) {
        if self.ready.borrow().len() <= STACKS_AHEAD {
            // SAFETY: ready, and so alive.
            fetch_stack(unsafe { task.as_ref() }, STACK_LINES);
        }
    }

    /// Whether a started task of this worker can go on, or something of its own can start.
    pub(super) fn has_ready(&self) -> bool {
        // Relaxed: only this worker puts something there.
        let has_newest = !self.remote().newest.load(Relaxed).is_null();
        let has_front = self.front.get().is_some();
        has_newest
            || has_front
            || !self.ready.borrow().is_empty()
            || !self.background.borrow().is_empty()
    }

    /// The first of a queue that others may keep from its turn. Of two such they take turns: [`FAIR_ROUNDS`] is odd.
    fn take_fairly(&self, round: u32) -> Option<NonNull<Header>> {
        if round.is_multiple_of(2) {
            self.take_injected().or_else(|| self.take_background())
        } else {
            self.take_background().or_else(|| self.take_injected())
        }
    }

    /// The first unstarted task of this worker's own. Of its two queues each is first in its turn: [`START_ROUNDS`] is odd.
    fn take_to_start(&self, round: u32) -> Option<NonNull<Header>> {
        let ring = || self.remote().ring.pop(&self.owner);
        if round.is_multiple_of(2) {
            self.take_dealt().or_else(ring)
        } else {
            ring().or_else(|| self.take_dealt())
        }
        .or_else(|| self.take_newest())
    }

    /// The first of those that are to begin here.
    fn take_dealt(&self) -> Option<NonNull<Header>> {
        let first = self.remote().dealt.take(1, 0, |_| ());
        first.map(|task| task.0)
    }

    fn take_background(&self) -> Option<NonNull<Header>> {
        self.background.borrow_mut().pop_front()
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
        if !self.remote().is_active() {
            return None;
        }
        let ring = &self.remote().ring;
        // A share goes to the own ring only when that is empty, so that there is room for all of it.
        let most = if ring.is_empty() {
            SLOT_COUNT as usize / 2
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

    /// Looks for unstarted tasks of others, and for what tasks offer. The searcher only.
    pub(super) fn steal(&self) -> Option<NonNull<Header>> {
        if let Some(task) = self.take_injected() {
            return Some(task);
        }
        let seated = self.shared.seated();
        let count = seated.len();
        let start = self.next_random() as usize % count;
        (0..count)
            .map(|nth| (start + nth) % count)
            .filter(|victim| *victim != self.index)
            .find_map(|victim| {
                let victim = &seated[victim].0;
                victim.ring.steal_half(&self.remote().ring, &self.owner)
            })
            .inspect(|_| bump(&self.remote().counts.steals))
            .or_else(|| self.take_offer())
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
}

/// Has the processor fetch the lines of a suspended task's stack that it goes on with.
fn fetch_stack(task: &Header, lines: usize) {
    let sp = task.sp.get();
    for line in 0..lines {
        arch::prefetch(sp.wrapping_add(64 * line));
    }
}
