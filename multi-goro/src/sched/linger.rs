//! Staying awake a moment before sleep, where that has paid lately.
//!
//! Two tasks of different workers that answer each other would put both workers to sleep and wake them once per message, which costs
//! either side more than a futex call. So a worker that was woken for its inbox, and then has nothing to do, looks for some
//! microseconds whether the next one is coming. While it looks it is not listed as asleep: who posts to it makes no system call.
//!
//! It must not cost where it does not pay: a look in vain is followed by sleeps without one, twice as many each time, so a task
//! that is woken now and then costs next to nothing, and an idle worker, which nobody wakes, nothing. Nor does anybody look
//! while more workers are awake, of all runtimes, than there are processors: whom it waits for may be waiting for its processor.
//!
//! A plain thread that waits does the same.

use std::cell::Cell;
use std::hint;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU32, Ordering::*, Padded};

/// How long a worker looks. The first answer has to come in that time from a worker that is being woken, which takes up to 20 us here; the next
/// ones take less than one.
const LOOK: Duration = Duration::from_micros(30);
/// Looks between two looks at the clock, some 50 ns each.
const LOOKS: u32 = 16;
/// After looks in vain at most this power of two sleeps go without.
const IN_VAIN_MAX: u32 = 10;

/// Workers of this process that are not asleep, of all runtimes. A hint: a forked child has its parent's, too many, and does not look.
static AWAKE: Padded<AtomicU32> = Padded(AtomicU32::new(0));

/// A worker is awake from here on.
pub(super) fn wake_up() {
    // Relaxed, as everywhere: a hint.
    AWAKE.0.fetch_add(1, Relaxed);
}

/// A worker goes to sleep, or ends.
pub(super) fn nod_off() {
    // Relaxed: as above.
    AWAKE.0.fetch_sub(1, Relaxed);
}

/// Whether to look, by how it went lately. One worker's, or plain thread's.
#[derive(Debug)]
pub(super) struct Linger {
    /// The worker was last woken, or found, by something in its inbox.
    is_expecting: Cell<bool>,
    /// Looks in vain in a row.
    in_vain: Cell<u32>,
    /// Sleeps to come without a look.
    pass: Cell<u32>,
}

impl Linger {
    pub(super) const fn new() -> Self {
        Self {
            is_expecting: Cell::new(false),
            in_vain: Cell::new(0),
            pass: Cell::new(0),
        }
    }

    /// The worker has been woken, by a post to its inbox or not.
    pub(super) fn woken(&self, by_post: bool) {
        self.is_expecting.set(by_post);
    }

    /// Looks whether something is coming, if that is worth it. Called before a sleep, by a worker that is awake or by one of `others`
    /// who is none.
    pub(super) fn look(&self, others: u32, is_there: impl Fn() -> bool) -> bool {
        // Relaxed: a hint.
        self.look_if(|| AWAKE.0.load(Relaxed) + others <= processors(), is_there)
    }

    fn look_if(&self, has_room: impl Fn() -> bool, is_there: impl Fn() -> bool) -> bool {
        if !self.is_expecting.get() {
            return false;
        }
        let pass = self.pass.get();
        if pass > 0 {
            self.pass.set(pass - 1);
            return false;
        }
        if processors() == 1 || !has_room() {
            return false;
        }
        if watch(is_there) {
            self.in_vain.set(0);
            return true;
        }
        let in_vain = (self.in_vain.get() + 1).min(IN_VAIN_MAX);
        self.in_vain.set(in_vain);
        self.pass.set(1 << in_vain);
        false
    }
}

/// Processors this process may use at once.
fn processors() -> u32 {
    /// Zero until known. No `OnceLock`: asking takes a while, and a child forked meanwhile would wait for ever for who asks.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Relaxed, both: a number on its own; every thread would store the same.
    let known = COUNT.load(Relaxed);
    if known > 0 {
        return known;
    }
    let count = thread::available_parallelism().map_or(1, NonZero::get);
    let count = count.try_into().unwrap_or(u32::MAX);
    // Relaxed: as above.
    COUNT.store(count, Relaxed);
    count
}

fn watch(is_there: impl Fn() -> bool) -> bool {
    let until = Instant::now() + LOOK;
    loop {
        for _ in 0..LOOKS {
            if is_there() {
                return true;
            }
            hint::spin_loop();
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_looks_without_a_reason() {
        let linger = Linger::new();
        let unasked = || -> bool { panic!("looked") };
        assert!(!linger.look_if(|| true, unasked));
        linger.woken(true);
        linger.woken(false);
        assert!(!linger.look_if(|| true, unasked));
        linger.woken(true);
        assert!(!linger.look_if(|| false, unasked));
        assert_eq!(linger.look_if(|| true, || true), processors() > 1);
    }

    #[test]
    fn looks_in_vain_become_rare() {
        if processors() == 1 {
            return;
        }
        let linger = Linger::new();
        let looks = Cell::new(0);
        for _ in 0..3000 {
            linger.woken(true);
            let had = Cell::new(false);
            linger.look_if(
                || true,
                || {
                    had.set(true);
                    false
                },
            );
            looks.set(looks.get() + u32::from(had.get()));
        }
        assert!((5..=15).contains(&looks.get()), "{looks:?}");
        // And are back when they find something.
        while !linger.look_if(|| true, || true) {}
        assert!((0..100).all(|_| linger.look_if(|| true, || true)));
    }
}
