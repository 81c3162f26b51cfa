//! Who sleeps, who searches, and whom to wake: see `sched/README.md` for the protocol and its proof.

use crate::sync::{AtomicU32, Ordering::*, OsMutex, Padded, fence, light_fence, lock};

const AWAKE: u32 = 0;
/// The worker sleeps on this value, or is about to.
const ASLEEP: u32 = 1;
/// Woken because there is something to take; it counts as searching.
const WOKEN_TO_SEARCH: u32 = 2;
/// Woken because there is something in its own inbox, or by name.
const WOKEN_FOR_INBOX: u32 = 3;
/// As asleep, but not on the list: it is not woken to take what anybody may take.
const APART: u32 = 4;

const SEARCHING: u32 = 1;
const SLEEPING: u32 = 1 << 16;

fn searching(counts: u32) -> u32 {
    counts & (SLEEPING - 1)
}

fn sleeping(counts: u32) -> u32 {
    counts / SLEEPING
}

/// The sleeping and the searching workers of a runtime.
#[derive(Debug)]
pub(crate) struct Idle {
    /// `{ sleeping: 16 bits, searching: 16 bits }`. `sleeping` changes under the lock only.
    counts: Padded<AtomicU32>,
    /// The sleeping workers, the last to fall asleep (and warmest) last.
    sleepers: OsMutex<Vec<usize>>,
    /// What each worker sleeps on. Changed under the lock only.
    words: Box<[Padded<AtomicU32>]>,
}

/// Why a worker is awake again.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// By itself: a timer, or it found something at the last look.
    Alone,
    /// To look for something to take. It is counted as searching, and must end that.
    ToSearch,
    /// For its inbox, or because it was called by name.
    ForInbox,
}

impl Idle {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            counts: Padded(AtomicU32::new(0)),
            sleepers: OsMutex::new(Vec::with_capacity(workers)),
            words: (0..workers)
                .map(|_| Padded(AtomicU32::new(AWAKE)))
                .collect(),
        }
    }

    /// What a worker sleeps on.
    pub(crate) fn word(&self, worker: usize) -> &AtomicU32 {
        &self.words[worker].0
    }

    /// How many workers sleep on the list, about.
    pub(crate) fn asleep(&self) -> usize {
        // Relaxed: a hint.
        sleeping(self.counts.0.load(Relaxed)) as usize
    }

    /// Becomes the one searcher; false if there is one.
    pub(crate) fn start_search(&self) -> bool {
        // Relaxed: a hint, validated by the CAS.
        let counts = self.counts.0.load(Relaxed);
        searching(counts) == 0
            && self
                .counts
                .0
                // Relaxed, both: being the searcher publishes nothing; what matters is its end (`fall_asleep`).
                .compare_exchange(counts, counts + SEARCHING, Relaxed, Relaxed)
                .is_ok()
    }

    /// Stops searching, with something found. The caller looks whether there is more, and if so calls
    /// [`announce`](Self::announce) in place of who relied on the searcher. Who has found nothing falls asleep instead.
    pub(crate) fn end_search(&self) {
        // Relaxed: ordered by the fence.
        let before = self.counts.0.fetch_sub(SEARCHING, Relaxed);
        debug_assert!(searching(before) > 0);
        // Fence D. Pairs with fence A in `announce`: either that publisher sees that we search no more, or our next look sees
        // what it published.
        fence(SeqCst);
    }

    /// After publishing something that anybody may take, and a light fence, fence A: returns a worker to wake (by its word), if
    /// one is needed. Otherwise the caller sees to it that the monitor is awake: what is seen here may be out of date.
    #[must_use]
    pub(crate) fn announce(&self) -> Option<usize> {
        // Relaxed: ordered by the caller's fence A; see there.
        let counts = self.counts.0.load(Relaxed);
        if searching(counts) > 0 || sleeping(counts) == 0 {
            return None;
        }
        self.wake_one()
    }

    /// After publishing something that anybody may take: whether somebody sleeps and nobody searches.
    #[inline]
    pub(crate) fn wants_work(&self) -> bool {
        // As fence A before `announce`, which follows if this is true.
        light_fence();
        // Relaxed: ordered by the fence.
        let counts = self.counts.0.load(Relaxed);
        searching(counts) == 0 && sleeping(counts) > 0
    }

    /// Whether a worker is there that could take something: one sleeps on the list, or searches. For the monitor.
    pub(crate) fn is_anybody_free(&self) -> bool {
        // Relaxed: a hint, looked at every few milliseconds.
        self.counts.0.load(Relaxed) != 0
    }

    #[cold]
    fn wake_one(&self) -> Option<usize> {
        let mut sleepers = lock(&self.sleepers);
        // Relaxed: a searcher that appeared meanwhile looks everywhere before it sleeps.
        if searching(self.counts.0.load(Relaxed)) > 0 {
            return None;
        }
        let worker = sleepers.pop()?;
        // Relaxed: the lock orders it for other wakers, and `announce` tolerates a stale view.
        self.counts
            .0
            .fetch_add(SEARCHING.wrapping_sub(SLEEPING), Relaxed);
        // Relaxed: the word tells the worker to get up; the tasks are published by the queues.
        self.word(worker).store(WOKEN_TO_SEARCH, Relaxed);
        Some(worker)
    }

    /// After posting to a worker's inbox: whether it must be woken (by its word).
    #[must_use]
    pub(crate) fn posted(&self, worker: usize) -> bool {
        // Fence C. Pairs with fence B in `fall_asleep`: either we see it asleep, or it sees the post. And with fence F in
        // `Inbox::abandon`, for who looks there next.
        fence(SeqCst);
        self.is_asleep(worker) && self.wake_this(worker)
    }

    /// Whether a worker sleeps, on the list or apart. A hint, but for who has a fence before it.
    pub(crate) fn is_asleep(&self, worker: usize) -> bool {
        // Relaxed: ordered by fence C in `posted`; a hint for others.
        matches!(self.word(worker).load(Relaxed), ASLEEP | APART)
    }

    /// Wakes a worker by name: whether it must be woken (by its word). With no fence: what the worker looks at after
    /// [`fall_asleep`](Self::fall_asleep) is seen by it if it was set before this call.
    #[must_use]
    #[cold]
    pub(crate) fn wake_this(&self, worker: usize) -> bool {
        let mut sleepers = lock(&self.sleepers);
        // Relaxed, all: as in `wake_one`.
        match self.word(worker).load(Relaxed) {
            ASLEEP => self.strike_out(&mut sleepers, worker),
            APART => {}
            _ => return false,
        }
        // Relaxed: as above.
        self.word(worker).store(WOKEN_FOR_INBOX, Relaxed);
        true
    }

    /// Takes a worker off the list of sleepers.
    fn strike_out(&self, sleepers: &mut Vec<usize>, worker: usize) {
        let place = sleepers.iter().position(|w| *w == worker);
        sleepers.remove(place.expect("a worker that is asleep is listed"));
        // Relaxed: as in `wake_one`.
        self.counts.0.fetch_sub(SLEEPING, Relaxed);
    }

    /// Takes a worker off the list if it sleeps there: it sleeps on, apart.
    pub(crate) fn set_apart(&self, worker: usize) {
        let mut sleepers = lock(&self.sleepers);
        // Relaxed: changed under the lock only.
        if self.word(worker).load(Relaxed) == ASLEEP {
            self.strike_out(&mut sleepers, worker);
            // Relaxed: as above.
            self.word(worker).store(APART, Relaxed);
        }
    }

    /// Registers a worker as asleep, and no longer as `searching` if it was. It must now look everywhere once more, then sleep
    /// while its word is what this returns, and call [`get_up`](Self::get_up) in any case.
    #[must_use = "the value to sleep on"]
    pub(crate) fn fall_asleep(&self, worker: usize, searching: bool) -> u32 {
        let change = SLEEPING - if searching { SEARCHING } else { 0 };
        let mut sleepers = lock(&self.sleepers);
        sleepers.push(worker);
        // Relaxed, both: ordered against publishers by fence B.
        self.counts.0.fetch_add(change, Relaxed);
        self.word(worker).store(ASLEEP, Relaxed);
        drop(sleepers);
        // Fence B. Pairs with fence C in `posted`, and with fence A where light fences are real.
        fence(SeqCst);
        ASLEEP
    }

    /// As [`fall_asleep`](Self::fall_asleep), for a worker that is to be woken for its inbox or by name only. It looks there once more.
    #[must_use = "the value to sleep on"]
    pub(crate) fn fall_asleep_apart(&self, worker: usize) -> u32 {
        let sleepers = lock(&self.sleepers);
        // Relaxed: as in `fall_asleep`.
        self.word(worker).store(APART, Relaxed);
        drop(sleepers);
        // Fence B, as in `fall_asleep`.
        fence(SeqCst);
        APART
    }

    /// Ends a sleep, whoever ended it.
    pub(crate) fn get_up(&self, worker: usize) -> Woken {
        let word = self.word(worker);
        let mut sleepers = lock(&self.sleepers);
        // Relaxed, all: changed under the lock only.
        let woken = match word.load(Relaxed) {
            WOKEN_TO_SEARCH => Woken::ToSearch,
            WOKEN_FOR_INBOX => Woken::ForInbox,
            APART => Woken::Alone,
            state => {
                debug_assert_eq!(state, ASLEEP);
                self.strike_out(&mut sleepers, worker);
                Woken::Alone
            }
        };
        // Relaxed: as above.
        word.store(AWAKE, Relaxed);
        woken
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_searcher_at_a_time() {
        let idle = Idle::new(3);
        assert!(idle.start_search());
        assert!(!idle.start_search());
        let _word = idle.fall_asleep(1, false);
        assert_eq!(idle.announce(), None, "the searcher will find it");
        idle.end_search();
        assert_eq!(idle.announce(), Some(1));
        assert_eq!(idle.announce(), None, "the woken one counts as searching");
        assert_eq!(idle.get_up(1), Woken::ToSearch);
        let _word = idle.fall_asleep(1, true);
        assert!(idle.posted(1));
        assert!(!idle.posted(1));
        assert_eq!(idle.get_up(1), Woken::ForInbox);
        let _word = idle.fall_asleep(1, false);
        assert_eq!(idle.get_up(1), Woken::Alone);
        assert_eq!(idle.announce(), None, "nobody sleeps");
    }

    #[test]
    fn who_sleeps_apart_is_woken_by_name_only() {
        let idle = Idle::new(3);
        let _word = idle.fall_asleep_apart(0);
        assert!(idle.is_asleep(0));
        assert!(!idle.is_anybody_free());
        assert_eq!(idle.announce(), None);
        assert!(idle.posted(0));
        assert_eq!(idle.get_up(0), Woken::ForInbox);
        assert!(!idle.wake_this(0), "it is awake");
        let _word = idle.fall_asleep(0, false);
        assert!(idle.is_anybody_free());
        idle.set_apart(0);
        assert_eq!(idle.announce(), None);
        assert!(idle.wake_this(0));
        assert_eq!(idle.get_up(0), Woken::ForInbox);
        let _word = idle.fall_asleep(0, false);
        idle.set_apart(0);
        assert_eq!(idle.get_up(0), Woken::Alone);
        assert!(!idle.is_anybody_free());
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// A publisher against a worker that goes to sleep: the work is seen by the worker or the worker is woken.
    /// Bounds: two threads, one item, worker searching or not.
    #[test]
    fn no_sleep_over_published_work() {
        for searching in [false, true] {
            loom::model(move || {
                let idle = Arc::new(Idle::new(1));
                let work = Arc::new(AtomicU32::new(0));
                let publisher = {
                    let (idle, work) = (Arc::clone(&idle), Arc::clone(&work));
                    thread::spawn(move || {
                        // Relaxed, here and in the looks below: fence A here and fence B of who sleeps order them.
                        work.store(1, Relaxed);
                        light_fence();
                        idle.announce()
                    })
                };
                if searching {
                    assert!(idle.start_search());
                }
                let found_early = searching && work.load(Relaxed) == 1;
                if found_early {
                    idle.end_search();
                    return;
                }
                let _word = idle.fall_asleep(0, searching);
                let seen = work.load(Relaxed) == 1;
                let woken = publisher.join().unwrap().is_some();
                assert!(seen || woken, "asleep with work and nobody to wake it");
                let expect = if woken { Woken::ToSearch } else { Woken::Alone };
                assert_eq!(idle.get_up(0), expect);
            });
        }
    }

    /// A publisher that relies on the searcher, while that stops with something else found, and another worker sleeps: the new
    /// item is announced by one of the two. Bounds: two threads, two items.
    #[test]
    fn searcher_that_stops_announces_what_is_left() {
        loom::model(|| {
            let idle = Arc::new(Idle::new(2));
            let work = Arc::new(AtomicU32::new(1));
            let _word = idle.fall_asleep(1, false);
            assert!(idle.start_search());
            let publisher = {
                let (idle, work) = (Arc::clone(&idle), Arc::clone(&work));
                thread::spawn(move || {
                    work.fetch_add(1, Relaxed);
                    light_fence();
                    idle.announce()
                })
            };
            work.fetch_sub(1, Relaxed);
            idle.end_search();
            let announced = (work.load(Relaxed) > 0).then(|| idle.announce()).flatten();
            let woken = publisher.join().unwrap();
            assert_eq!(announced.or(woken), Some(1), "the other sleeps beside work");
        });
    }

    /// A post to the inbox against the worker falling asleep. Bounds: two threads, one post.
    #[test]
    fn no_sleep_over_a_post() {
        loom::model(|| {
            let idle = Arc::new(Idle::new(1));
            let inbox = Arc::new(AtomicU32::new(0));
            let poster = {
                let (idle, inbox) = (Arc::clone(&idle), Arc::clone(&inbox));
                thread::spawn(move || {
                    inbox.store(1, Relaxed);
                    idle.posted(0)
                })
            };
            let _word = idle.fall_asleep(0, false);
            let seen = inbox.load(Relaxed) == 1;
            let woken = poster.join().unwrap();
            assert!(seen || woken);
            let expect = if woken { Woken::ForInbox } else { Woken::Alone };
            assert_eq!(idle.get_up(0), expect);
        });
    }

    /// Two publishers, two workers, of which one searches: with both items published somebody awake sees each, or is woken.
    /// Bounds: three threads, two items, two pre-emptions.
    #[test]
    fn two_publishers_leave_nobody_asleep_over_work() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(|| {
            let idle = Arc::new(Idle::new(2));
            let work = Arc::new(AtomicU32::new(0));
            let _word = idle.fall_asleep(1, false);
            assert!(idle.start_search());
            let publishers: Vec<_> = (0..2)
                .map(|_| {
                    let (idle, work) = (Arc::clone(&idle), Arc::clone(&work));
                    thread::spawn(move || {
                        work.fetch_add(1, Relaxed);
                        light_fence();
                        idle.announce()
                    })
                })
                .collect();
            let _word = idle.fall_asleep(0, true);
            let seen = work.load(Relaxed) > 0;
            let woken = publishers
                .into_iter()
                .filter_map(|p| p.join().unwrap())
                .count();
            assert!(seen || woken > 0);
            assert!(woken <= 1, "one searcher at a time");
        });
    }
}
