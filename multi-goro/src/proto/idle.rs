//! Who sleeps, who searches, and whom to wake: see `sched/README.md` for the protocol and its proof.

use crate::sync::{AtomicU32, Ordering::*, OsMutex, Padded, heavy_fence, light_fence, lock};

const AWAKE: u32 = 0;
/// The worker sleeps on this value, or is about to.
const ASLEEP: u32 = 1;
/// Woken because there is something to take; it counts as searching.
const WOKEN_TO_SEARCH: u32 = 2;
/// Woken because there is something in its own inbox.
const WOKEN_FOR_INBOX: u32 = 3;

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
    /// The sleeping worker that gets up now and then to look after those awake, by index + 1; 0 for none. Changed under the
    /// lock only.
    watcher: AtomicU32,
}

/// Why a worker is awake again.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// By itself: a timer, or it found something at the last look.
    Alone,
    /// To look for something to take. It is counted as searching, and must end that.
    ToSearch,
    /// For its inbox, or to watch.
    ForInbox,
}

impl Idle {
    /// The value a sleeping worker's word has.
    pub(crate) const ASLEEP: u32 = ASLEEP;

    pub(crate) fn new(workers: usize) -> Self {
        Self {
            counts: Padded(AtomicU32::new(0)),
            sleepers: OsMutex::new(Vec::with_capacity(workers)),
            words: (0..workers)
                .map(|_| Padded(AtomicU32::new(AWAKE)))
                .collect(),
            watcher: AtomicU32::new(0),
        }
    }

    /// What a worker sleeps on.
    pub(crate) fn word(&self, worker: usize) -> &AtomicU32 {
        &self.words[worker].0
    }

    /// How many workers are not asleep, about.
    pub(crate) fn awake(&self) -> usize {
        // Relaxed: a hint.
        let asleep = sleeping(self.counts.0.load(Relaxed)) as usize;
        self.words.len().saturating_sub(asleep)
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
        heavy_fence();
    }

    /// After publishing something that anybody may take: returns a worker to wake (by its word), if one is needed.
    #[must_use]
    pub(crate) fn announce(&self) -> Option<usize> {
        // Fence A. Pairs with fence B in `fall_asleep`: either we see that worker asleep, or it sees what we published; and with
        // fence D in `end_search`.
        light_fence();
        // Relaxed: ordered by the fence.
        let counts = self.counts.0.load(Relaxed);
        if searching(counts) > 0 || sleeping(counts) == 0 {
            return None;
        }
        self.wake_one()
    }

    /// After an offer that anybody may take: whether somebody sleeps and nobody searches.
    #[inline]
    pub(crate) fn wants_offers(&self) -> bool {
        // As fence A in `announce`, which follows if this is true.
        light_fence();
        // Relaxed: ordered by the fence.
        let counts = self.counts.0.load(Relaxed);
        searching(counts) == 0 && sleeping(counts) > 0
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
        // Fence C. Pairs with fence B in `fall_asleep`: either we see it asleep, or it sees the post.
        light_fence();
        // Relaxed: ordered by the fence.
        if self.word(worker).load(Relaxed) != ASLEEP {
            return false;
        }
        self.wake_this(worker)
    }

    #[cold]
    fn wake_this(&self, worker: usize) -> bool {
        let mut sleepers = lock(&self.sleepers);
        let Some(place) = sleepers.iter().position(|w| *w == worker) else {
            return false;
        };
        sleepers.remove(place);
        // Relaxed, both: as in `wake_one`.
        self.counts.0.fetch_sub(SLEEPING, Relaxed);
        self.word(worker).store(WOKEN_FOR_INBOX, Relaxed);
        true
    }

    /// Registers a worker as asleep, and no longer as `searching` if it was. It must now look everywhere once more, then sleep while its word is
    /// [`ASLEEP`](Self::ASLEEP), and call [`get_up`](Self::get_up) in any case.
    pub(crate) fn fall_asleep(&self, worker: usize, searching: bool) {
        let change = SLEEPING - if searching { SEARCHING } else { 0 };
        let mut sleepers = lock(&self.sleepers);
        sleepers.push(worker);
        // Relaxed, both: ordered against publishers by fence B.
        self.counts.0.fetch_add(change, Relaxed);
        self.word(worker).store(ASLEEP, Relaxed);
        drop(sleepers);
        // Fence B. Pairs with fence A in `announce` and fence C in `posted`.
        heavy_fence();
    }

    /// Ends a sleep, whoever ended it.
    pub(crate) fn get_up(&self, worker: usize) -> Woken {
        let word = self.word(worker);
        let mut sleepers = lock(&self.sleepers);
        // Relaxed, all: changed under the lock only.
        let woken = match word.load(Relaxed) {
            WOKEN_TO_SEARCH => Woken::ToSearch,
            WOKEN_FOR_INBOX => Woken::ForInbox,
            state => {
                debug_assert_eq!(state, ASLEEP);
                let place = sleepers.iter().position(|w| *w == worker);
                sleepers.remove(place.expect("a sleeping worker is listed"));
                // Relaxed: as above.
                self.counts.0.fetch_sub(SLEEPING, Relaxed);
                Woken::Alone
            }
        };
        // Relaxed: as above.
        word.store(AWAKE, Relaxed);
        // Also after a sleep that ended by itself: what this worker does next may take long, and somebody must watch meanwhile.
        if self.watcher.load(Relaxed) == worker as u32 + 1 {
            // Relaxed: as above.
            self.watcher.store(0, Relaxed);
        }
        woken
    }

    /// Asks a worker that has fallen asleep whether it is to watch the others: one does while some are awake.
    pub(crate) fn start_watch(&self, worker: usize) -> bool {
        let sleepers = lock(&self.sleepers);
        let me = worker as u32 + 1;
        // Relaxed: changed under the lock only.
        let watcher = self.watcher.load(Relaxed);
        let watch = sleepers.len() < self.words.len() && (watcher == 0 || watcher == me);
        if watch || watcher == me {
            // Relaxed: as above.
            self.watcher.store(if watch { me } else { 0 }, Relaxed);
        }
        watch
    }

    /// Finds somebody to watch, if nobody does and somebody sleeps: returns a worker to wake (by its word).
    #[must_use]
    pub(crate) fn call_watcher(&self) -> Option<usize> {
        // Relaxed, both: hints; a watcher missed now is called at the next occasion.
        if self.watcher.load(Relaxed) != 0 || sleeping(self.counts.0.load(Relaxed)) == 0 {
            return None;
        }
        self.wake_watcher()
    }

    #[cold]
    fn wake_watcher(&self) -> Option<usize> {
        let worker = *lock(&self.sleepers).first()?;
        // Its next sleep is one with a time limit, since we are awake.
        self.wake_this(worker).then_some(worker)
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
        idle.fall_asleep(1, false);
        assert_eq!(idle.announce(), None, "the searcher will find it");
        idle.end_search();
        assert_eq!(idle.announce(), Some(1));
        assert_eq!(idle.announce(), None, "the woken one counts as searching");
        assert_eq!(idle.get_up(1), Woken::ToSearch);
        idle.fall_asleep(1, true);
        assert!(idle.posted(1));
        assert!(!idle.posted(1));
        assert_eq!(idle.get_up(1), Woken::ForInbox);
        idle.fall_asleep(1, false);
        assert_eq!(idle.get_up(1), Woken::Alone);
        assert_eq!(idle.announce(), None, "nobody sleeps");
    }

    #[test]
    fn one_sleeper_watches_while_others_are_awake() {
        let idle = Idle::new(3);
        assert_eq!(idle.call_watcher(), None, "nobody sleeps");
        idle.fall_asleep(0, false);
        assert!(idle.start_watch(0));
        idle.fall_asleep(1, false);
        assert!(!idle.start_watch(1), "one is enough");
        assert_eq!(idle.call_watcher(), None);
        idle.fall_asleep(2, false);
        assert!(!idle.start_watch(0), "nobody is awake");
        assert!(idle.posted(2));
        assert_eq!(idle.get_up(2), Woken::ForInbox);
        assert_eq!(idle.call_watcher(), Some(0));
        assert_eq!(idle.get_up(0), Woken::ForInbox);
        idle.fall_asleep(0, false);
        assert!(idle.start_watch(0));
    }
}

#[cfg(all(test, loom))]
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
                        work.store(1, Relaxed);
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
                idle.fall_asleep(0, searching);
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
            idle.fall_asleep(1, false);
            assert!(idle.start_search());
            let publisher = {
                let (idle, work) = (Arc::clone(&idle), Arc::clone(&work));
                thread::spawn(move || {
                    work.fetch_add(1, Relaxed);
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
            idle.fall_asleep(0, false);
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
            idle.fall_asleep(1, false);
            assert!(idle.start_search());
            let publishers: Vec<_> = (0..2)
                .map(|_| {
                    let (idle, work) = (Arc::clone(&idle), Arc::clone(&work));
                    thread::spawn(move || {
                        work.fetch_add(1, Relaxed);
                        idle.announce()
                    })
                })
                .collect();
            idle.fall_asleep(0, true);
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
