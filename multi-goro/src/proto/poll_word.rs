//! The word of a task that is polled: who may poll it, whether it has to be polled again, and how many know its address.
//!
//! A polled task is in one of five states, the low bits; above them is a count of references. The runtime holds one until the
//! task is done, each waker holds one.
//!
//! Whoever moves IDLE to SCHEDULED puts the task into a queue, once; who takes it from there begins the poll, ends it, and puts it
//! back if it was woken meanwhile.
//!
//! **No wake is lost.** Every wake of a task that is not done is a read-modify-write, even where the state stays: so each falls
//! either before the `begin` of some poll, which then acquires what the waker did before (a chain of read-modify-writes from the
//! wake to `begin` keeps the wake's release), or between `begin` and `end`, and then `end` finds NOTIFIED; or after `end`, and then
//! it finds IDLE and schedules.
//!
//! **Nobody polls at the same time.** A poll begins from SCHEDULED only, by who took the task from a queue; it got there by the one
//! who left IDLE or NOTIFIED for SCHEDULED, and both are left once, by a compare-and-swap.
//!
//! **It is freed once, and not too early.** The count reaches zero once, and is not raised from there: a reference is made by who holds
//! one. The runtime's is given up with the step to DONE, after which nobody schedules; so a task in a queue is alive.

use crate::sync::{AtomicU32, Ordering::*, fence};

const IDLE: u32 = 0;
const SCHEDULED: u32 = 1;
const RUNNING: u32 = 2;
const NOTIFIED: u32 = 3;
const DONE: u32 = 4;
/// The bits of the state.
const STATE: u32 = 7;
/// One reference.
const ONE: u32 = 8;
/// So many references are those of a program that leaks wakers. Far from an overflow, as many threads as there can be may
/// still add theirs.
const REFERENCES_MAX: u32 = u32::MAX / ONE / 2;

/// The state of one polled task and its references.
///
/// | state     | meaning                                                 | left by                                       |
/// | --------- | ------------------------------------------------------- | --------------------------------------------- |
/// | IDLE      | waits; in no queue                                      | a waker, to SCHEDULED; it queues the task      |
/// | SCHEDULED | in exactly one queue, or on its way there               | who took it from there, to RUNNING            |
/// | RUNNING   | somebody polls it                                       | that one, to IDLE or DONE; a waker, to NOTIFIED |
/// | NOTIFIED  | somebody polls it, and it was woken since that began    | that one, to SCHEDULED or DONE; it queues it  |
/// | DONE      | its future is gone, and so is the runtime's reference   | nobody                                        |
///
/// The values 5 to 7 do not occur. A count of zero occurs with DONE only, and is final.
#[derive(Debug)]
pub(crate) struct PollWord(AtomicU32);

/// What a waker does next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Put the task into a queue. It is alive until it has run.
    Schedule,
    /// Somebody else sees to it, or it is done.
    Nothing,
    /// The reference that was given up was the last one: free the task.
    Free,
}

/// What who polled does next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Leave the task alone: it may be polled elsewhere by now.
    Wait,
    /// Put it into a queue again.
    Again,
}

/// What becomes of a task one of whose references was given up.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// It was the last one: free the task.
    Free,
    /// Others hold it.
    Nothing,
}

impl PollWord {
    /// A task on its way to a queue for the first time, held by the runtime.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(SCHEDULED | ONE))
    }

    /// Replaces the word by what `next` makes of it, and returns what it was.
    fn transition(&self, next: impl Fn(u32) -> u32) -> u32 {
        // Relaxed: only a guess; the exchange says whether it was right.
        let mut word = self.0.load(Relaxed);
        loop {
            // AcqRel: Release publishes what a waker, or a poll, did, to the Acquire in `begin`, here in `end` and in
            // `wake`; Acquire pairs with the same. Relaxed on failure: only a guess again.
            match self
                .0
                .compare_exchange_weak(word, next(word), AcqRel, Relaxed)
            {
                Ok(_) => return word,
                Err(now) => word = now,
            }
        }
    }

    /// The task was taken from its queue, and is polled from here on.
    pub(crate) fn begin(&self) {
        // Acquire: pairs with the Release of every wake before it (`transition`): this poll sees what they were about. Of the
        // state, none but the caller may leave SCHEDULED, so adding is enough.
        let word = self.0.fetch_add(RUNNING - SCHEDULED, Acquire);
        debug_assert_eq!(word & STATE, SCHEDULED, "polled out of turn");
    }

    /// The poll is over, and the task waits. To be called when the caller no longer touches anything of the task.
    pub(crate) fn end(&self) -> Polled {
        let word = self.transition(|word| {
            debug_assert!(matches!(word & STATE, RUNNING | NOTIFIED));
            // RUNNING to IDLE, NOTIFIED to SCHEDULED.
            word - (RUNNING - IDLE)
        });
        if word & STATE == RUNNING {
            Polled::Wait
        } else {
            Polled::Again
        }
    }

    /// The poll is over, and so is the task: its future is gone. Gives up the runtime's reference.
    pub(crate) fn finish(&self) -> Released {
        let word = self.transition(|word| {
            debug_assert!(matches!(word & STATE, RUNNING | NOTIFIED));
            (word & !STATE | DONE) - ONE
        });
        // The exchange was an Acquire too: who frees sees what the others did.
        last(word)
    }

    /// Wakes the task; the caller keeps its reference.
    pub(crate) fn wake(&self) -> Woken {
        let word = self.transition(woken);
        if word & STATE == IDLE {
            Woken::Schedule
        } else {
            Woken::Nothing
        }
    }

    /// Wakes the task and gives up the caller's reference.
    pub(crate) fn wake_and_release(&self) -> Woken {
        let word = self.transition(|word| woken(word) - ONE);
        match (word & STATE, last(word)) {
            // The runtime holds another.
            (IDLE, _) => Woken::Schedule,
            (_, Released::Free) => Woken::Free,
            (_, Released::Nothing) => Woken::Nothing,
        }
    }

    /// Adds a reference. By who holds one, or polls.
    pub(crate) fn share(&self) {
        // Relaxed: the caller's own reference keeps the task alive; the new one is passed on by whatever passes it on.
        let word = self.0.fetch_add(ONE, Relaxed);
        if word / ONE > REFERENCES_MAX {
            // As `Arc` does: it would wrap around before long, and be freed under its holders.
            std::process::abort();
        }
    }

    /// Gives up a reference.
    pub(crate) fn release(&self) -> Released {
        // Release: what the caller did with the task happens before it is freed. Pairs with the fence below.
        let released = last(self.0.fetch_sub(ONE, Release));
        if released == Released::Free {
            // Pairs with the Release of everyone who has given up a reference.
            fence(Acquire);
        }
        released
    }
}

/// Whether the reference that was given up, when the word was `before`, was the last.
fn last(before: u32) -> Released {
    debug_assert!(before / ONE > 0, "a reference was given up twice");
    if before / ONE == 1 {
        Released::Free
    } else {
        Released::Nothing
    }
}

fn woken(word: u32) -> u32 {
    match word & STATE {
        IDLE => word + (SCHEDULED - IDLE),
        RUNNING => word + (NOTIFIED - RUNNING),
        _ => word,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wakes_meet_polls() {
        let word = PollWord::new();
        word.share();
        assert_eq!(word.wake(), Woken::Nothing, "it is in a queue");
        word.begin();
        assert_eq!(word.end(), Polled::Wait);
        assert_eq!(word.wake(), Woken::Schedule);
        word.begin();
        assert_eq!(word.wake(), Woken::Nothing);
        assert_eq!(word.wake(), Woken::Nothing);
        assert_eq!(word.end(), Polled::Again);
        word.begin();
        assert_eq!(word.finish(), Released::Nothing);
        assert_eq!(word.wake(), Woken::Nothing, "it is done");
        word.share();
        assert_eq!(word.release(), Released::Nothing);
        assert_eq!(word.wake_and_release(), Woken::Free);
    }

    #[test]
    fn task_without_wakers_is_freed_when_done() {
        let word = PollWord::new();
        word.begin();
        word.share();
        assert_eq!(word.wake_and_release(), Woken::Nothing);
        assert_eq!(word.finish(), Released::Free);
    }
}

#[cfg(all(test, loom, not(shuttle)))]
#[expect(unsafe_code, reason = "the models touch what the word guards")]
mod models {
    use super::*;
    use crate::sync::{OsMutex, lock};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// A task whose future counts its polls and is ready once it sees every event; and the queue.
    struct Task {
        word: PollWord,
        /// What a poll touches: loom finds two polls at once.
        polls: UnsafeCell<u32>,
        events: [AtomicU32; 2],
        queued: OsMutex<u32>,
        freed: UnsafeCell<u32>,
    }

    // SAFETY: guarded by the word; loom checks it.
    unsafe impl Send for Task {}
    // SAFETY: as above.
    unsafe impl Sync for Task {}

    impl Task {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                word: PollWord::new(),
                polls: UnsafeCell::new(0),
                events: [AtomicU32::new(0), AtomicU32::new(0)],
                queued: OsMutex::new(1),
                freed: UnsafeCell::new(0),
            })
        }

        fn queue(&self) {
            let mut queued = lock(&self.queued);
            *queued += 1;
            assert_eq!(*queued, 1, "in the queue twice");
        }

        fn free(&self) {
            // SAFETY: checked by loom: nobody touches the task now.
            self.polls.with_mut(|_| ());
            // SAFETY: as above.
            self.freed.with_mut(|freed| unsafe {
                *freed += 1;
                assert_eq!(*freed, 1);
            });
        }

        /// Who holds a reference may look at the task.
        fn touch(&self) {
            // SAFETY: checked by loom.
            self.freed.with(|freed| assert_eq!(unsafe { *freed }, 0));
        }

        /// Sets an event, and wakes with the caller's reference, which it gives up: in one step or in two.
        fn happen(&self, nth: usize) {
            self.touch();
            // Relaxed: the wake publishes it; that is what is modelled.
            self.events[nth].store(1, Relaxed);
            let woken = if nth == 0 {
                self.word.wake()
            } else {
                self.word.wake_and_release()
            };
            match woken {
                Woken::Schedule => self.queue(),
                Woken::Nothing => {}
                Woken::Free => self.free(),
            }
            if nth == 0 && self.word.release() == Released::Free {
                self.free();
            }
        }

        /// Polls if the task is queued. True when that was the last time.
        fn run(&self) -> bool {
            {
                let mut queued = lock(&self.queued);
                if *queued == 0 {
                    return false;
                }
                *queued -= 1;
            }
            self.word.begin();
            // SAFETY: checked by loom.
            self.polls.with_mut(|polls| unsafe { *polls += 1 });
            // Relaxed: as in `happen`.
            let is_ready = self.events.iter().all(|event| event.load(Relaxed) == 1);
            if is_ready {
                if self.word.finish() == Released::Free {
                    self.free();
                }
                return true;
            }
            if self.word.end() == Polled::Again {
                self.queue();
            }
            false
        }
    }

    /// Two wakers and a worker that polls as long as there is something in the queue; when all is quiet the task must be done, and
    /// freed. Bounds: three threads, 3 pre-emptions.
    #[test]
    fn no_wake_is_lost_and_the_task_is_freed_once() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let task = Task::new();
            let wakers: Vec<_> = [0, 1]
                .into_iter()
                .map(|nth| {
                    task.word.share();
                    let task = Arc::clone(&task);
                    thread::spawn(move || task.happen(nth))
                })
                .collect();
            let mut is_done = false;
            for _ in 0..2 {
                is_done = is_done || task.run();
            }
            for waker in wakers {
                waker.join().unwrap();
            }
            // Everything has happened: what is in the queue is all there is to do.
            while !is_done && *lock(&task.queued) > 0 {
                is_done = task.run();
            }
            assert!(is_done, "a wake was lost");
            // SAFETY: checked by loom.
            task.freed.with(|freed| assert_eq!(unsafe { *freed }, 1));
        });
    }

    /// Two workers that both poll, and a waker: loom finds two polls at once, and a poll that does not see the one before.
    /// Bounds: three threads, 3 pre-emptions.
    #[test]
    fn polls_follow_one_another_whoever_polls() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let task = Task::new();
            task.events[1].store(1, Relaxed);
            task.word.share();
            let waker = {
                let task = Arc::clone(&task);
                thread::spawn(move || task.happen(0))
            };
            let other = {
                let task = Arc::clone(&task);
                thread::spawn(move || task.run())
            };
            let mut is_done = task.run();
            waker.join().unwrap();
            is_done |= other.join().unwrap();
            while !is_done && *lock(&task.queued) > 0 {
                is_done = task.run();
            }
            assert!(is_done, "a wake was lost");
        });
    }

    /// A waker is cloned and dropped on one thread while the task ends on another. Bounds: two threads.
    #[test]
    fn last_reference_frees_wherever_it_is() {
        loom::model(|| {
            let task = Task::new();
            task.events.iter().for_each(|event| event.store(1, Relaxed));
            task.word.share();
            let holder = {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    task.word.share();
                    task.touch();
                    if task.word.release() == Released::Free {
                        task.free();
                    }
                    task.touch();
                    if task.word.release() == Released::Free {
                        task.free();
                    }
                })
            };
            assert!(task.run());
            holder.join().unwrap();
            // SAFETY: checked by loom.
            task.freed.with(|freed| assert_eq!(unsafe { *freed }, 1));
        });
    }
}
