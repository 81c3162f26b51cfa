//! The word by which whoever leaves a task for others to start finds the monitor awake: see `sched/README.md`.

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering::*, Padded, heavy_fence};

const WATCHING: u32 = 0;
const DOZING: u32 = 1;
const CALLED: u32 = 2;

/// Whether the monitor of a runtime looks now and then, or sleeps until it is called.
///
/// | value    | meaning                                             | left by                         |
/// | -------- | --------------------------------------------------- | ------------------------------- |
/// | WATCHING | it looks at every tick (or there is no monitor)      | itself, [`hurry`](Self::hurry)  |
/// | DOZING   | it sleeps until `until_ns`, or is about to           | itself, a caller                |
/// | CALLED   | it is to look at once                                | itself                          |
#[derive(Debug)]
pub(crate) struct Watch {
    word: Padded<AtomicU32>,
    /// Until when it dozes, in nanoseconds on the caller's clock; [`FOR_EVER`] from before it says that it dozes until it has looked for a
    /// deadline.
    until_ns: AtomicU64,
    /// Whether it will look by then at tasks that are parked behind others, as some were when it dozed off; not so from before it says that it
    /// dozes until it has looked for them.
    is_expecting: AtomicBool,
}

/// No deadline.
pub(crate) const FOR_EVER: u64 = u64::MAX;

/// What a caller does next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The monitor is awake.
    Nothing,
    /// Wake it by its word.
    Wake,
}

impl Watch {
    /// What the word is between two ticks.
    pub(crate) const WATCHING: u32 = WATCHING;
    /// What the word is while the monitor dozes.
    pub(crate) const DOZING: u32 = DOZING;

    pub(crate) fn new() -> Self {
        Self {
            word: Padded(AtomicU32::new(WATCHING)),
            until_ns: AtomicU64::new(FOR_EVER),
            is_expecting: AtomicBool::new(false),
        }
    }

    /// The word itself, for the kernel to compare.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word.0
    }

    /// After putting an unstarted task somewhere, and a light fence: sees to it that the monitor is awake.
    #[inline]
    pub(crate) fn call(&self) -> Call {
        // Relaxed: ordered by the caller's fence A, which pairs with fence E in `doze`.
        if self.word().load(Relaxed) == DOZING {
            self.rouse()
        } else {
            Call::Nothing
        }
    }

    /// After setting a deadline where the monitor looks for it, and a light fence: sees to it that the monitor is awake by then.
    pub(crate) fn call_before(&self, at_ns: u64) -> Call {
        // Relaxed: ordered by the caller's fence A, as in `call`. What is written after fence E takes the deadline into account, or an earlier
        // one; what is written before is `FOR_EVER`.
        if at_ns < self.until_ns.load(Relaxed) {
            self.call()
        } else {
            Call::Nothing
        }
    }

    /// After counting a task that is about to park behind others, and a light fence: sees to it that the monitor looks at such tasks some time.
    pub(crate) fn call_to_expect(&self) -> Call {
        // Relaxed: ordered by the caller's fence A, as in `call_before`: if it was written after fence E, the look is to come; if before, it is
        // false.
        if self.is_expecting.load(Relaxed) {
            Call::Nothing
        } else {
            self.call()
        }
    }

    /// The monitor, which has said that it dozes and looked for deadlines, says until when; and whether it will look by then at tasks that
    /// are parked behind others.
    pub(crate) fn doze_until(&self, at_ns: u64, is_expecting: bool) {
        // Relaxed, both: see `call_before` and `call_to_expect`.
        self.until_ns.store(at_ns, Relaxed);
        self.is_expecting.store(is_expecting, Relaxed);
    }

    #[cold]
    fn rouse(&self) -> Call {
        // Relaxed, both: what the monitor is to see is published by the queues; the first caller wakes.
        match self
            .word()
            .compare_exchange(DOZING, CALLED, Relaxed, Relaxed)
        {
            Ok(_) => Call::Wake,
            Err(_) => Call::Nothing,
        }
    }

    /// Has the monitor look at once, whatever it does.
    pub(crate) fn hurry(&self) -> Call {
        // Release: pairs with the Acquire swap in `look`: what we want to be seen is.
        match self.word().swap(CALLED, Release) {
            CALLED => Call::Nothing,
            _ => Call::Wake,
        }
    }

    /// The monitor begins a look. From here on a [`hurry`](Self::hurry) is for the next.
    pub(crate) fn look(&self) {
        // Acquire: pairs with the Release swap in `hurry`.
        self.word().swap(WATCHING, Acquire);
    }

    /// The monitor says that it dozes off. It must now look whether anything waits, and sleeps while the word is
    /// [`DOZING`](Self::DOZING) only if nothing does.
    pub(crate) fn doze(&self) {
        // Relaxed, all: ordered by the fence.
        self.until_ns.store(FOR_EVER, Relaxed);
        self.is_expecting.store(false, Relaxed);
        self.word().store(DOZING, Relaxed);
        // Fence E. Pairs with fence A of whoever leaves a task: either that caller sees that we doze, or we see the task.
        heavy_fence();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn dozing_monitor_is_woken_once() {
        let watch = Watch::new();
        assert_eq!(watch.call(), Call::Nothing, "it is awake");
        watch.doze();
        assert_eq!(watch.call(), Call::Wake);
        assert_eq!(watch.call(), Call::Nothing, "it has been called");
        watch.look();
        assert_eq!(watch.hurry(), Call::Wake);
        assert_eq!(watch.hurry(), Call::Nothing);
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use crate::sync::light_fence;
    use loom::sync::Arc;
    use loom::thread;

    /// Two who leave a task each against the monitor dozing off: it sees what is left, or is woken, by one of them.
    /// Bounds: three threads, two tasks, one doze.
    #[test]
    fn no_doze_over_an_unstarted_task() {
        loom::model(|| {
            let watch = Arc::new(Watch::new());
            let tasks = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let publishers: Vec<_> = (0..2)
                .map(|nth| {
                    let (watch, tasks) = (Arc::clone(&watch), Arc::clone(&tasks));
                    thread::spawn(move || {
                        tasks[nth].store(1, Relaxed);
                        light_fence();
                        watch.call()
                    })
                })
                .collect();
            watch.doze();
            let seen = tasks.iter().filter(|task| task.load(Relaxed) == 1).count();
            let woken = publishers
                .into_iter()
                .map(|publisher| publisher.join().unwrap())
                .filter(|call| *call == Call::Wake)
                .count();
            assert!(woken <= 1);
            assert!(seen == 2 || woken == 1, "it dozes beside a task");
        });
    }

    /// Who sets a deadline against the monitor dozing off, which it has done before: it sleeps no longer than until then, or is woken. Bounds:
    /// two threads, one deadline, two dozes.
    #[test]
    fn no_doze_over_a_deadline() {
        loom::model(|| {
            let watch = Arc::new(Watch::new());
            // An earlier doze, until a time that is past.
            watch.doze();
            watch.doze_until(1, false);
            watch.look();
            let deadline = Arc::new(AtomicU64::new(FOR_EVER));
            let setter = {
                let (watch, deadline) = (Arc::clone(&watch), Arc::clone(&deadline));
                thread::spawn(move || {
                    deadline.store(9, Relaxed);
                    light_fence();
                    watch.call_before(9)
                })
            };
            watch.doze();
            let until = deadline.load(Relaxed);
            watch.doze_until(until, false);
            let woken = setter.join().unwrap() == Call::Wake;
            assert!(until == 9 || woken, "it sleeps until {until}");
        });
    }

    /// Who is about to park behind others against the monitor dozing off, which it has done before, expecting others: it will look, or is
    /// woken, whatever deadline it dozes until. Bounds: two threads, one task, two dozes.
    #[test]
    fn no_doze_over_who_is_held_up() {
        loom::model(|| {
            let watch = Arc::new(Watch::new());
            watch.doze();
            watch.doze_until(1, true);
            watch.look();
            let held_up = Arc::new(AtomicU32::new(0));
            let task = {
                let (watch, held_up) = (Arc::clone(&watch), Arc::clone(&held_up));
                thread::spawn(move || {
                    held_up.store(1, Relaxed);
                    light_fence();
                    watch.call_to_expect()
                })
            };
            watch.doze();
            let is_seen = held_up.load(Relaxed) == 1;
            watch.doze_until(9, is_seen);
            let woken = task.join().unwrap() == Call::Wake;
            assert!(is_seen || woken, "nobody looks");
        });
    }

    /// A call to hurry is never lost, and what it is about is seen. Bounds: two threads, one call, one look and one doze.
    #[test]
    fn hurry_is_never_lost() {
        loom::model(|| {
            let watch = Arc::new(Watch::new());
            let closing = Arc::new(AtomicU32::new(0));
            let closer = {
                let (watch, closing) = (Arc::clone(&watch), Arc::clone(&closing));
                thread::spawn(move || {
                    closing.store(1, Relaxed);
                    crate::sync::fence(SeqCst);
                    let _wake = watch.hurry();
                })
            };
            watch.look();
            let seen = closing.load(Relaxed) == 1;
            watch.doze();
            let seen = seen || closing.load(Relaxed) == 1;
            closer.join().unwrap();
            // Relaxed: joined.
            let called = watch.word().load(Relaxed) == CALLED;
            assert!(seen || called);
        });
    }
}
