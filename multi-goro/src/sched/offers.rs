//! Offers: pieces of work that a running task leaves where idle workers find them, and does itself if nobody comes.
//!
//! Each task that is in a fork-join has a deque of its own, borrowed from its worker from its outermost `join` to that one's end:
//! tasks take turns on a worker in any order, but within a task joins are nested, so its pops mirror its pushes. How the two sides
//! meet is in `proto/deque.rs` and `proto/offer_word.rs`.

#![expect(
    unsafe_code,
    reason = "offers lie in the frames of those who made them"
)]

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};

use super::park::{Waiter, park};
use super::shared::Shared;
use super::status::WaitsFor;
use super::task::{Header, Job, TaskRef};
use super::worker::{Worker, bump};
use crate::proto::deque::{Deque, Pop, Steal};
use crate::proto::offer_word::{Await, Finish, OfferWord};
use crate::sync::{AtomicPtr, Ordering::*, fence};

/// Offers in a row that are not announced after one that was in vain: at first, and at most. At 10 ns a join the most is one wake, some
/// 5 µs, in half a millisecond.
const QUIET: std::ops::RangeInclusive<u32> = 16..=65_536;
/// Vain attempts after which a worker goes to sleep although something is on offer.
const VAIN_MAX: u32 = 4;

/// One piece of work on offer, the part that does not depend on its closure.
#[derive(Debug)]
pub(crate) struct Offer {
    word: OfferWord,
    /// The task that offers, in whose frame this lies. It is running or parked, on its own worker.
    task: NonNull<Header>,
    run: unsafe fn(NonNull<Offer>),
}

/// The deque of one task, as thieves know it: never freed before its runtime.
#[derive(Debug)]
pub(crate) struct Offers {
    deque: Deque<Offer>,
    /// The one that was made before. Written before others can see it.
    next: *const Offers,
    /// The next one that no task has. The worker's thread only.
    next_free: Cell<Option<NonNull<Offers>>>,
}

/// All the deques that a worker has made.
#[derive(Debug)]
pub(super) struct OfferList {
    newest: AtomicPtr<Offers>,
}

/// The owner's side of a worker's deques.
#[derive(Debug)]
pub(super) struct OfferDesk {
    /// Deques that no task has.
    free: Cell<Option<NonNull<Offers>>>,
    /// Offers that are still not to be announced.
    quiet: Cell<u32>,
    /// How many are not to be announced after the next that is.
    patience: Cell<u32>,
    /// Attempts of this worker to take an offer that came to nothing, in a row.
    vain: Cell<u32>,
}

impl Offer {
    /// An offer of `task`. `run` is called with it at most once, by a thief.
    pub(crate) fn new(task: NonNull<Header>, run: unsafe fn(NonNull<Self>)) -> Self {
        Self {
            word: OfferWord::new(),
            task,
            run,
        }
    }

    /// Waits until the thief that took the offer is done with it. Acquires what it wrote.
    ///
    /// # Safety
    ///
    /// - The caller is the task that offered, and was told that the offer is [`Pop::Stolen`].
    #[cold]
    pub(crate) unsafe fn wait(&self) {
        if self.word.wait() == Await::Park {
            let _unparked = park(WaitsFor::Join, None);
        }
    }
}

impl Offers {
    /// Makes an offer; false if there is no room for it.
    ///
    /// # Safety
    ///
    /// - The caller is the task that has this deque.
    /// - If this is true, the offer stays alive and in its place until a [`take_back`](Self::take_back), which the caller owes for each
    ///   push, the newest first; and if that says [`Pop::Stolen`], until [`Offer::wait`] has returned.
    #[inline]
    pub(crate) unsafe fn push(&self, offer: NonNull<Offer>) -> bool {
        self.deque.push(offer)
    }

    /// Takes the newest offer back, if nobody has come for it.
    ///
    /// # Safety
    ///
    /// - The caller is the task that has this deque, and owes this call.
    #[inline]
    pub(crate) unsafe fn take_back(&self) -> Pop {
        self.deque.pop()
    }
}

impl OfferList {
    pub(super) fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Offers> {
        // Acquire: pairs with the Release in `add`: the deque is seen whole.
        let mut next = self.newest.load(Acquire).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: deques in the list live as long as it.
            let offers = unsafe { next.as_ref() }?;
            next = offers.next;
            Some(offers)
        })
    }

    /// Makes a deque. The worker only.
    fn add(&self) -> NonNull<Offers> {
        let offers = Box::leak(Box::new(Offers {
            deque: Deque::new(),
            // Relaxed: only the worker adds.
            next: self.newest.load(Relaxed).cast_const(),
            next_free: Cell::new(None),
        }));
        let offers = NonNull::from(offers);
        // Release: publishes the deque. Pairs with the Acquire in `iter`.
        self.newest.store(offers.as_ptr(), Release);
        offers
    }

    fn is_empty(&self) -> bool {
        self.iter().all(|offers| offers.deque.is_empty())
    }
}

impl Drop for OfferList {
    fn drop(&mut self) {
        // Relaxed: nobody else has it any more.
        let mut next = self.newest.load(Relaxed);
        while !next.is_null() {
            // SAFETY: leaked by `add`; nobody else has the list.
            let offers = unsafe { Box::from_raw(next) };
            next = offers.next.cast_mut();
        }
    }
}

impl OfferDesk {
    pub(super) fn new() -> Self {
        Self {
            free: Cell::new(None),
            quiet: Cell::new(0),
            patience: Cell::new(*QUIET.start()),
            vain: Cell::new(0),
        }
    }

    /// After a sleep: the next offers are worth a try again.
    pub(super) fn take_heart(&self) {
        self.vain.set(0);
    }

    /// Whether this worker has tried enough for the moment.
    pub(super) fn is_weary(&self) -> bool {
        self.vain.get() >= VAIN_MAX
    }
}

/// A task's hold on its deque, from its outermost join to that one's end.
pub(crate) struct Hold {
    worker: &'static Worker,
    task: NonNull<Header>,
    offers: NonNull<Offers>,
}

impl Hold {
    pub(crate) fn offers(&self) -> &'static Offers {
        // SAFETY: in the worker's list, which lives as long as the runtime, and so as the running task.
        unsafe { self.offers.as_ref() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: the running task is alive.
        unsafe { self.task.as_ref() }.set_offers(None);
        let desk = &self.worker.desk;
        self.offers().next_free.set(desk.free.get());
        desk.free.set(Some(self.offers));
    }
}

impl Worker {
    /// The deque of the running task, if it is in a join.
    #[inline]
    pub(crate) fn offers_of(&self, task: NonNull<Header>) -> Option<&'static Offers> {
        // SAFETY: the running task is alive, and its cells are this worker's.
        let offers = unsafe { task.as_ref() }.offers()?;
        // SAFETY: in this worker's list, which lives as long as the runtime, and so as the running task.
        Some(unsafe { offers.as_ref() })
    }

    /// Gives the running task a deque. It has none.
    pub(crate) fn hold_offers(&'static self, task: NonNull<Header>) -> Hold {
        let offers = match self.desk.free.take() {
            Some(offers) => {
                // SAFETY: in this worker's list.
                let free = unsafe { offers.as_ref() };
                self.desk.free.set(free.next_free.get());
                debug_assert!(free.deque.is_empty());
                offers
            }
            None => self.remote().offers.add(),
        };
        // SAFETY: the running task is alive, and its cells are this worker's.
        unsafe { task.as_ref() }.set_offers(Some(offers));
        Hold {
            worker: self,
            task,
            offers,
        }
    }

    /// After an offer: wakes somebody to take it, if that seems worth it. The `outermost` one of a task is never overlooked by who falls
    /// asleep at this moment.
    #[inline]
    pub(crate) fn offered(&self, outermost: bool) {
        if outermost {
            // Fence A. Pairs with fence B in `Idle::fall_asleep`: either we see that worker asleep, or it sees the offer. The look below
            // has a light one, which does not pair with it.
            fence(SeqCst);
        }
        if self.shared.idle.wants_work() {
            self.call_for_takers();
        }
    }

    /// Somebody sleeps. The last calls may have been in vain: what was offered was too small to be worth a wake. Then the next offers
    /// are left to the monitor, which looks every few milliseconds.
    #[cold]
    fn call_for_takers(&self) {
        let desk = &self.desk;
        if let Some(quiet) = desk.quiet.get().checked_sub(1) {
            desk.quiet.set(quiet);
            // As fence A before `announce`: passed in `wants_work`.
            self.shared.call_monitor();
            return;
        }
        desk.quiet.set(desk.patience.get());
        desk.patience
            .set((desk.patience.get() * 2).min(*QUIET.end()));
        self.shared.announce();
    }

    /// An offer of this worker was taken: they are worth announcing.
    pub(crate) fn offer_was_taken(&self) {
        self.desk.quiet.set(0);
        self.desk.patience.set(*QUIET.start());
    }

    /// Whether offers are taken at all on this worker: not on one that has no others beside it and none of whose tasks may leave its
    /// thread.
    pub(crate) fn takes_offers(&self) -> bool {
        self.shared.bound().is_none()
    }

    /// Whether this is a forked child of the process that has the worker.
    pub(crate) fn is_foreign(&self) -> bool {
        self.shared.is_foreign()
    }

    /// Takes the oldest offer of some task, of other workers first, and makes it a task of its own. The searcher only.
    pub(super) fn take_offer(&self) -> Option<NonNull<Header>> {
        let desk = &self.desk;
        let remotes = &self.shared.remotes;
        let mut attempts = 0;
        for nth in 1..=remotes.len() {
            let victim = (self.index + nth) % remotes.len();
            for offers in remotes[victim].0.offers.iter() {
                if offers.deque.is_empty() {
                    continue;
                }
                attempts = 1;
                if let Steal::Got(offer) = offers.deque.steal() {
                    desk.vain.set(0);
                    bump(&self.remote().counts.halves);
                    return Some(self.accept(offer).0);
                }
            }
        }
        desk.vain.set(desk.vain.get().saturating_add(attempts));
        None
    }

    /// Makes a task of a stolen offer.
    fn accept(&self, offer: NonNull<Offer>) -> TaskRef {
        // SAFETY: stolen by us: its task waits with it until we say that we are done.
        let task = unsafe { offer.as_ref() }.task;
        // SAFETY: that task is in the middle of its join, so alive.
        let task = unsafe { task.as_ref() };
        let shared = NonNull::from(&*self.shared);
        bump(&self.remote().spawned);
        // On as large a stack as where it was offered: it must not matter who runs it.
        Header::create(shared, task.class(), task.info(), Taken(offer))
    }
}

impl Shared {
    /// Whether some task offers something.
    pub(super) fn has_offers(&self) -> bool {
        self.remotes
            .iter()
            .any(|remote| !remote.0.offers.is_empty())
    }
}

/// A stolen offer, as a task.
struct Taken(NonNull<Offer>);

// SAFETY: an offer is a `Send` closure and a place for its `Send` result, which are the thief's until it says that it is done.
unsafe impl Send for Taken {}

impl Job for Taken {
    type End = NonNull<Offer>;

    fn run(self) -> NonNull<Offer> {
        // SAFETY: stolen, and so alive until `finish` in `end`.
        let run = unsafe { self.0.as_ref() }.run;
        // SAFETY: made for this offer, and called once: a stolen offer is one task.
        unsafe { run(self.0) };
        self.0
    }

    /// Who made the offer finds it untouched, and does it itself.
    fn refuse(self, _error: io::Error) -> NonNull<Offer> {
        self.0
    }

    fn end(offer: NonNull<Offer>) {
        // SAFETY: alive until the swap in `finish`.
        let offer = unsafe { offer.as_ref() };
        let task = offer.task;
        if offer.word.finish() == Finish::Unpark {
            // SAFETY: the task has said that it parks for this one unpark, and does not leave before it.
            unsafe { Waiter::of_task(task).unpark() };
        }
    }
}
