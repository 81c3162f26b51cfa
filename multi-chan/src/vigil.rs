//! Sleeping on events and on the lives of everybody who could make one miss a wake.
//!
//! A sleeper needs three kinds of words: the events it waits for, the range of the roll, and the life words in that
//! range. Where they are too many for one call, threads of this process watch the lives, a block of
//! rows each, and the sleeper sleeps on the one word that they change. The proof is in `README.md`.

use crate::robust::{BLOCK, Marks, Process, Roll, Watch};
use crate::sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release};
use crate::sys::{self, WaitWord, WaitWords};
use crate::table::Core;
use crate::wait::{ALL, Event, Ticket};
use std::mem;
use std::thread;
use std::time::Duration;

/// A belt: how long a sleeper at most goes without looking round, should a sign have been missed.
pub(crate) const LOOK_ROUND: Duration = Duration::from_secs(10);
/// The same while some participant's word is not held, and where `futex_waitv` is missing.
pub(crate) const LOOK_ROUND_POLLING: Duration = Duration::from_millis(20);

/// Stack of a watching thread: it keeps two tables of 120 words.
const STACK_BYTES: usize = 128 * 1024;

/// One event that a sleeper has armed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bell<'a> {
    pub(crate) core: &'a Core,
    pub(crate) event: &'a Event,
    pub(crate) ticket: Ticket,
}

/// Sleeps until one of the events is posted or a participant of one of the channels dies, no longer than `limit`;
/// may return for no reason.
///
/// All bells are of channels of this process; there is at least one.
#[cold]
pub(crate) fn sleep(bells: &[Bell<'_>], limit: Option<Duration>) {
    let Some(first) = bells.first() else { return };
    let mut words = WaitWords::new();
    let mut fits = true;
    for bell in bells {
        fits &= words.push(bell.event.word(), bell.ticket.0);
    }
    let mut look_round = LOOK_ROUND;
    for (index, bell) in bells.iter().enumerate() {
        let earlier = &bells[..index];
        if !earlier
            .iter()
            .any(|other| other.core.is_on(bell.core.home()))
        {
            match lives(bell.core, &mut words) {
                Lives::Slept => {}
                Lives::Unheard => look_round = LOOK_ROUND_POLLING,
                Lives::Told => return,
            }
        }
    }
    // After the words were read: who dies from here on changes one of them.
    for bell in bells {
        for process in bell.core.others() {
            look_round = look_round.min(match bell.core.roll().watch(process) {
                Watch::Word => continue,
                Watch::Poll => LOOK_ROUND_POLLING,
                Watch::Birth(left) => left,
                Watch::Dead => return,
            });
        }
    }
    if !fits {
        // More channels than one call has room for: the rest is looked at now and then.
        look_round = LOOK_ROUND_POLLING;
    }
    let limit = limit.map_or(look_round, |limit| limit.min(look_round));
    match sys::futex_waitv(words.as_slice(), Some(limit)) {
        // Perhaps a life's word, and the kernel told nobody but us: pass it on even if a value is there now
        // and the caller goes away with it.
        Ok(Some(woken)) if woken >= bells.len() => {
            for bell in bells {
                bell.core.bury_dead();
                bell.core.roll().pass_on();
            }
        }
        Ok(_) => {}
        // Linux before 5.16, or a sandbox without the call. Of several events one is as good as another.
        Err(_) => {
            let several = if bells.len() > 1 {
                MOMENT_OF_MANY
            } else {
                LOOK_ROUND_POLLING
            };
            first.event.sleep(first.ticket, Some(limit.min(several)));
        }
    }
}

/// How a sleeper will hear of deaths on one roll.
enum Lives {
    /// By the words it sleeps on.
    Slept,
    /// Not of all, so it looks again soon.
    Unheard,
    /// There was one just now: it has to look round.
    Told,
}

/// Adds the words by which a sleeper on `core` hears of deaths.
fn lives(core: &Core, words: &mut WaitWords) -> Lives {
    let roll = core.roll();
    // Whose own death is not marked must not be given the kernel's word of another's: nobody would pass it on.
    let Some(me) = Process::from_bits(core.me()).filter(|_| roll.may_hold()) else {
        return Lives::Unheard;
    };
    roll.keep_held(me);
    // Before the look at the lives: whoever enters beyond the range wakes us.
    let (range, range_word) = roll.range();
    if !words.add(range_word) {
        return Lives::Unheard;
    }
    if words.room() >= range {
        match roll.lives(0..range, me, words) {
            Marks { told: true, .. } => Lives::Told,
            Marks { dying: true, .. } => Lives::Unheard,
            _ => Lives::Slept,
        }
    } else if let Some(deaths) = roll.watchers().of(roll, me, range)
        && words.add(deaths)
    {
        Lives::Slept
    } else {
        Lives::Unheard
    }
}

/// How long a sleeper on several events sleeps on one of them where it cannot sleep on all.
const MOMENT_OF_MANY: Duration = Duration::from_millis(1);

/// The threads of this process that watch lives for its sleepers, once there are more than a sleeper can watch.
///
/// In private memory: a forked child inherits the words, not the threads, and finds that `started` names another process.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// | process (32 bits)  | STARTING | blocks (31 bits) | meaning                                                |
    /// | ------------------ | -------- | ---------------- | ------------------------------------------------------ |
    /// | another's, or none |   any    |       any        | no thread of this process watches                      |
    /// | this one           |    0     |        n         | the first n blocks are watched, a thread each          |
    /// | this one           |    1     |        n         | so they are, and one thread is starting the next one   |
    ///
    /// Only who set STARTING clears it, with one block more or the same number.
    started: AtomicU64,
    /// Changes whenever a life in a watched block may have ended.
    deaths: AtomicU32,
}

/// Bit of `Watchers::started`: nobody else starts a thread.
const STARTING: u64 = 1 << 31;

impl Watchers {
    /// The word that changes with every death in the first `range` rows; `None` if not all of them are watched yet.
    fn of(&self, roll: &'static Roll, me: Process, range: usize) -> Option<WaitWord> {
        // Acquire: pairs with the Release in `watch`: whoever sees a new count sees the death.
        let deaths = WaitWord::new(&self.deaths, self.deaths.load(Acquire));
        self.grow(me, range.div_ceil(BLOCK), |block| start(roll, me, block))
            .then_some(deaths)
    }

    /// Has the first `blocks` blocks watched; false if one could not be started, or another thread is about to start it.
    ///
    /// One at a time, in order: so a block that is refused is the last, and the count says which ones are watched.
    fn grow(&self, me: Process, blocks: usize, start: impl Fn(usize) -> bool) -> bool {
        let mine = u64::from(me.number()) << 32;
        loop {
            // Relaxed: only counts. A thread that is just starting announces itself by a change of `deaths`.
            let now = self.started.load(Relaxed);
            let here = if now >> 32 == mine >> 32 {
                now - mine
            } else {
                0
            };
            let watched = here & !STARTING;
            if watched as usize >= blocks {
                return true;
            }
            // Relaxed: the next block is ours to start, and nothing is read through that. On failure it is another
            // thread's.
            if here & STARTING != 0
                || self
                    .started
                    .compare_exchange(now, mine | STARTING | watched, Relaxed, Relaxed)
                    .is_err()
            {
                // Until the next sleep this sleeper asks instead.
                return false;
            }
            let begun = start(watched as usize);
            // Relaxed: as above. A block that was refused is tried again at the next sleep.
            self.started
                .store(mine | (watched + u64::from(begun)), Relaxed);
            if !begun {
                return false;
            }
        }
    }
}

fn start(roll: &'static Roll, me: Process, block: usize) -> bool {
    let builder = thread::Builder::new()
        .name("multi-chan".to_owned())
        .stack_size(STACK_BYTES);
    // Signals are the program's own: none of its handlers shall run in our thread.
    sys::without_signals(|| builder.spawn(move || watch(roll, me, block)).is_ok())
}

/// Watches the rows of one block for as long as the process lives.
#[expect(
    clippy::infinite_loop,
    reason = "the thread of a closure that returns nothing"
)]
fn watch(roll: &'static Roll, me: Process, block: usize) {
    let rows = block * BLOCK..(block + 1) * BLOCK;
    let mut before: Option<WaitWords> = None;
    let mut was_dying = false;
    loop {
        let mut words = WaitWords::new();
        let Marks { told, dying } = roll.lives(rows.clone(), me, &mut words);
        if mem::replace(&mut was_dying, dying) && !dying {
            // Its threads watched other blocks, too.
            roll.pass_on();
        }
        let changed = before.is_none_or(|before| before.as_slice() != words.as_slice());
        if told || changed {
            let deaths = &roll.watchers().deaths;
            // Release: comes after the words were read, so whoever looks round after this change finds
            // every death that the words below do not tell of. Pairs with the Acquire in `of`.
            deaths.fetch_add(1, Release);
            sys::futex_wake(deaths, ALL);
        }
        let limit = dying.then_some(LOOK_ROUND_POLLING);
        before = match sys::futex_waitv(words.as_slice(), limit) {
            Ok(None) => Some(words),
            // Woken: whatever the words say now, something happened.
            Ok(Some(_)) => None,
            // Only where the call went missing: no sleeper counts on us, since none could wait for us.
            Err(_) => {
                thread::sleep(LOOK_ROUND);
                Some(words)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn a_block_whose_thread_is_refused_is_started_by_the_next_sleeper() {
        let watchers = Watchers::default();
        let me = Process::from_bits(7 << 32).unwrap();
        let started = RefCell::new(Vec::new());
        let start = |block| {
            started.borrow_mut().push(block);
            true
        };
        let other_came = Cell::new(false);
        // While one thread starts block 0, another one wants two blocks; then the first is refused.
        let all = watchers.grow(me, 1, |block| {
            assert_eq!(block, 0);
            other_came.set(true);
            watchers.grow(me, 2, start);
            false
        });
        assert!(other_came.get() && !all);
        assert!(watchers.grow(me, 3, start));
        assert!(watchers.grow(me, 3, start), "nothing more to start");
        started.borrow_mut().sort_unstable();
        assert_eq!(*started.borrow(), [0, 1, 2], "each block has one thread");
        // A forked child has none of them.
        let child = Process::from_bits(8 << 32).unwrap();
        assert!(watchers.grow(child, 1, start));
        assert_eq!(started.borrow().last(), Some(&0));
    }
}
