//! The protocols together, as a runtime uses them, with four to eight workers in random orders.
//!
//! The checker ([`shuttle`]) runs one thread at a time and sees no weak memory: that is loom's part. What it adds is numbers. A wake that is
//! lost shows as all threads being asleep, which it reports with a schedule to do it again by.

#![expect(unsafe_code, reason = "puts values into places and items into queues")]

use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use shuttle::thread::{self, Thread};

use super::channel::{Core, Received, Seat, Sent};
use super::claim::Claim;
use super::home_lock::{HomeGuard, HomeLock, Visitor};
use super::idle::{Idle, Woken};
use super::inbox::{Inbox, Linked};
use super::ring::{Owner, Ring};
use super::task_word::{Park, TaskWord, Unpark};
use super::wait_queue::WaitQueue;
use crate::sync::{AtomicPtr, AtomicU32, Ordering::*, OsMutex, light_fence, lock};

/// Schedules per number of workers, and the most places at which the checker changes threads against their will.
const SCHEDULES: usize = 1_000;
const CHANGES: usize = 4;

/// Runs `program` with four to eight workers, in orders of two kinds.
fn with_workers(program: fn(usize)) {
    for workers in 4..=8 {
        shuttle::check_random(move || program(workers), SCHEDULES);
        shuttle::check_pct(move || program(workers), SCHEDULES, CHANGES);
    }
}

// --- Workers: rings, inboxes, sleeping and waking. ---

struct Item {
    link: AtomicPtr<Item>,
    /// The worker in whose inbox it goes next, if any.
    home: Option<usize>,
}

// SAFETY: the field, used by inboxes only.
unsafe impl Linked for Item {
    unsafe fn link(item: NonNull<Self>) -> NonNull<AtomicPtr<Self>> {
        // SAFETY: alive, by the caller's promise.
        NonNull::from(&unsafe { item.as_ref() }.link)
    }
}

struct Runtime {
    idle: Idle,
    rings: Vec<Ring<Item>>,
    inboxes: Vec<Inbox<Item>>,
    threads: OsMutex<Vec<Option<Thread>>>,
    /// Items that have not been used up.
    left: AtomicU32,
}

// SAFETY: items are reached by who has taken them out of a queue.
unsafe impl Sync for Runtime {}
// SAFETY: as above.
unsafe impl Send for Runtime {}

impl Runtime {
    fn wake(&self, worker: usize) {
        // A worker that has not said who it is yet has not slept, and looks at its word before it does.
        if let Some(thread) = &lock(&self.threads)[worker] {
            thread.unpark();
        }
    }

    fn announce(&self) {
        light_fence();
        if let Some(worker) = self.idle.announce() {
            self.wake(worker);
        }
    }

    fn has_unstarted(&self) -> bool {
        self.rings.iter().any(|ring| !ring.is_empty())
    }

    fn is_over(&self) -> bool {
        // Relaxed: the checker knows one order only.
        self.left.load(Relaxed) == 0
    }

    /// Uses an item: the first time it goes on to its home's inbox, the second time it is gone.
    fn use_up(&self, mut item: NonNull<Item>) {
        // SAFETY: taken out of a queue, by us alone.
        match unsafe { item.as_mut() }.home.take() {
            Some(home) => {
                // SAFETY: alive, and in no queue.
                unsafe { self.inboxes[home].post(item) };
                if self.idle.posted(home) {
                    self.wake(home);
                }
            }
            None => {
                // SAFETY: made by `Box::leak`, and in no queue.
                drop(unsafe { Box::from_raw(item.as_ptr()) });
                // Relaxed: as in `is_over`.
                if self.left.fetch_sub(1, Relaxed) == 1 {
                    (0..self.rings.len()).for_each(|worker| {
                        let _was_asleep = self.idle.wake_this(worker);
                        self.wake(worker);
                    });
                }
            }
        }
    }

    fn steal(&self, me: usize, owner: &Owner) -> Option<NonNull<Item>> {
        (0..self.rings.len())
            .filter(|victim| *victim != me)
            .find_map(|victim| self.rings[victim].steal_half(&self.rings[me], owner))
    }

    /// A worker's life, in the steps of `Worker::run` and `Worker::sleep`.
    fn work(&self, me: usize, owner: &Owner) {
        lock(&self.threads)[me] = Some(thread::current());
        for nth in 0..3 {
            let home = Some((me + nth) % self.rings.len());
            let item = Box::leak(Box::new(Item {
                link: AtomicPtr::new(ptr::null_mut()),
                home,
            }));
            let item = NonNull::from(item);
            self.rings[me].push(owner, item).expect("there is room");
            self.announce();
        }
        let mut searching = false;
        while !self.is_over() {
            let mut found = Vec::new();
            self.inboxes[me].take_all(|item| found.push(item));
            found.extend(self.rings[me].pop(owner));
            if found.is_empty() && (searching || self.idle.start_search()) {
                searching = true;
                found.extend(self.steal(me, owner));
            }
            if !found.is_empty() {
                if searching {
                    searching = false;
                    self.idle.end_search();
                    if self.has_unstarted() {
                        self.announce();
                    }
                }
                found.into_iter().for_each(|item| self.use_up(item));
                continue;
            }
            let asleep = self.idle.fall_asleep(me, searching);
            if self.inboxes[me].is_empty() && !self.has_unstarted() && !self.is_over() {
                // Relaxed: as in `is_over`.
                while self.idle.word(me).load(Relaxed) == asleep {
                    thread::park();
                }
            }
            let woken = self.idle.get_up(me);
            searching = woken == Woken::ToSearch;
            if woken == Woken::Alone {
                // There is something, and another searches: the checker's unfair orders must let it.
                thread::yield_now();
            }
        }
    }
}

fn workers_use_up_everything(workers: usize) {
    let (rings, owners): (Vec<_>, Vec<_>) = (0..workers).map(|_| Ring::new()).unzip();
    let runtime = Arc::new(Runtime {
        idle: Idle::new(workers),
        rings,
        inboxes: (0..workers).map(|_| Inbox::new()).collect(),
        threads: OsMutex::new((0..workers).map(|_| None).collect()),
        left: AtomicU32::new(3 * workers as u32),
    });
    let threads: Vec<_> = owners
        .into_iter()
        .enumerate()
        .map(|(me, owner)| {
            let runtime = Arc::clone(&runtime);
            thread::spawn(move || runtime.work(me, &owner))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(runtime.is_over());
}

/// Every item is started by somebody and finished by its home, and nobody sleeps for ever beside one. Bounds: 4 to 8 workers, three items
/// each, random schedules.
#[test]
fn nobody_sleeps_over_work() {
    with_workers(workers_use_up_everything);
}

// --- Channels: cores behind home locks, waiters that wait in two of them at once. ---

/// One wait: its claim, its parking word, a place for each channel.
struct Wait {
    claim: Claim,
    word: TaskWord,
    places: [UnsafeCell<Option<u32>>; 2],
    thread: Thread,
}

#[derive(Clone)]
struct Place(Arc<Wait>, u32);

// SAFETY: a place is touched as `Seat` says: one at a time.
unsafe impl Send for Place {}

// SAFETY: touches its place only, and the claim decides.
unsafe impl Seat<u32> for Place {
    fn is_won(&self) -> bool {
        self.0.claim.win(self.1)
    }
    unsafe fn deliver(&self, value: u32) {
        // SAFETY: won by the caller.
        unsafe { *self.place() = Some(value) };
    }
    unsafe fn collect(&self) -> u32 {
        // SAFETY: won by the caller.
        unsafe { &mut *self.place() }
            .take()
            .expect("a sender has a value")
    }
}

impl Place {
    fn new(value: Option<u32>) -> Self {
        let wait = Wait {
            claim: Claim::new(),
            word: TaskWord::new(),
            places: [value, None].map(UnsafeCell::new),
            thread: thread::current(),
        };
        Self(Arc::new(wait), 0)
    }

    fn place(&self) -> *mut Option<u32> {
        self.0.places[self.1 as usize].get()
    }

    fn unpark(self) {
        match self.0.word.unpark() {
            Unpark::Nothing => {}
            Unpark::Wake | Unpark::Enqueue => self.0.thread.unpark(),
        }
    }

    fn park(&self) {
        if self.0.word.block() == Park::Go {
            while !self.0.word.consume() {
                thread::park();
            }
        }
    }
}

struct Channel(HomeLock<Core<u32, Place>>);

impl Channel {
    fn enter(&self, me: usize) -> HomeGuard<'_, Core<u32, Place>> {
        self.0.enter(Visitor::worker(me as u32 + 1))
    }

    fn send(&self, me: usize, value: u32) {
        let mut core = self.enter(me);
        match core.send(value) {
            Sent::Buffered => {}
            Sent::Handed(receiver) => {
                drop(core);
                receiver.unpark();
            }
            Sent::Full(value) => {
                let place = Place::new(Some(value));
                let _ticket = core.gate.wait_to_send(place.clone());
                drop(core);
                place.park();
            }
            Sent::Closed(_) => unreachable!("closed by nobody"),
        }
    }
}

/// Receives from either, in the order of locks that a select takes.
fn select(channels: &[Channel; 2], me: usize) -> u32 {
    let mut cores = [channels[0].enter(me), channels[1].enter(me)];
    for core in &mut cores {
        match core.receive() {
            Received::Value(value, sender) => {
                drop(cores);
                if let Some(sender) = sender {
                    sender.unpark();
                }
                return value;
            }
            Received::Empty => {}
            Received::Closed => unreachable!("closed by nobody"),
        }
    }
    let place = Place::new(None);
    let tickets = [0, 1].map(|case| {
        let seat = Place(Arc::clone(&place.0), case);
        cores[case as usize].gate.wait_to_receive(seat)
    });
    drop(cores);
    place.park();
    for (channel, ticket) in channels.iter().zip(tickets) {
        channel.enter(me).gate.leave_receivers(ticket);
    }
    let won = Place(place.0.clone(), place.0.claim.winner());
    // SAFETY: our own, and unparked.
    let value = unsafe { &mut *won.place() }.take();
    value.expect("the winner has delivered")
}

fn selects_receive_everything(workers: usize) {
    let channels = Arc::new([0, 2].map(|capacity| Channel(HomeLock::new(Core::new(capacity)))));
    let senders = workers / 2;
    // As many values as the receivers take in all.
    let receivers = workers - senders;
    let values = 2 * receivers as u32;
    let threads: Vec<_> = (0..workers)
        .map(|me| {
            let channels = Arc::clone(&channels);
            thread::spawn(move || {
                if me < senders {
                    for n in 0..values {
                        let to = (n as usize + me) % 2;
                        channels[to].send(me, me as u32 * 100 + n);
                    }
                    Vec::new()
                } else {
                    let count = 2 * senders;
                    (0..count).map(|_| select(&channels, me)).collect()
                }
            })
        })
        .collect();
    let mut all: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| {
            let got: Vec<u32> = thread.join().unwrap();
            for sender in 0..senders as u32 {
                for parity in 0..2 {
                    // Of one sender through one channel: in the order they were sent.
                    let of_one = |value: &&u32| *value / 100 == sender && *value % 2 == parity;
                    assert!(got.iter().filter(of_one).is_sorted(), "{got:?}");
                }
            }
            got
        })
        .collect();
    all.sort_unstable();
    let sent = (0..senders as u32).flat_map(|me| (0..values).map(move |n| me * 100 + n));
    assert!(all.into_iter().eq(sent), "lost or doubled");
}

/// Senders, and receivers that each wait in two channels at once, of capacity 0 and 2: every value arrives once, in its order. Bounds: 4 to 8
/// workers, random schedules.
#[test]
fn selects_lose_and_double_nothing() {
    with_workers(selects_receive_everything);
}

fn home_is_never_met(workers: usize) {
    let lock = Arc::new(HomeLock::new(0_u32));
    let threads: Vec<_> = (0..workers)
        .map(|me| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                for _ in 0..4 {
                    let mut value = lock.enter(Visitor::worker(me as u32 + 1));
                    let seen = *value;
                    thread::yield_now();
                    *value = seen + 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*lock.enter(Visitor::STRANGER), 4 * workers as u32);
}

/// Workers that each become the home of a lock for a time, or are visitors. Bounds: 4 to 8 workers, four uses each, random schedules.
#[test]
fn nobody_meets_the_home_inside() {
    with_workers(home_is_never_met);
}

fn waiters_leave_and_are_taken(workers: usize) {
    let queue = Arc::new(OsMutex::new(WaitQueue::new()));
    let threads: Vec<_> = (0..workers)
        .map(|me| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mine = lock(&queue).push(me);
                let taken = (me % 2 == 0).then(|| lock(&queue).pop()).flatten();
                let left = lock(&queue).remove(mine);
                assert!(left.is_none_or(|left| left == me));
                taken.into_iter().chain(left).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut out: Vec<usize> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    out.sort_unstable();
    assert!(out.into_iter().eq(0..workers));
    assert!(lock(&queue).is_empty());
}

/// Waiters that leave while others are taken: each comes out once, by one way. Bounds: 4 to 8 workers, random schedules.
#[test]
fn waiters_come_out_once() {
    with_workers(waiters_leave_and_are_taken);
}
