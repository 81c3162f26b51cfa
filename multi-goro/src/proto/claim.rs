//! The claim on a waiter that is announced in several queues at once: exactly one of its announcements wins.
//!
//! A select takes a seat in the queue of each of its channels and has one claim for all of them. Whoever takes such a seat out of
//! a queue calls [`win`](Claim::win) there and then, under that queue's lock. Who wins owes the one unpark; who does not drops the
//! seat and knows of nothing. The waiter itself tries [`give_up`](Claim::give_up) when its time is up: if that succeeds nobody
//! owes it anything. It does not let go of the claim before it has taken every seat back or found it gone, under each lock.

use crate::sync::{AtomicU32, Ordering::*};

const OPEN: u32 = u32::MAX;
const GIVEN_UP: u32 = u32::MAX - 1;

/// Who has won a waiter.
///
/// | value    | meaning                                     | left by                        |
/// | -------- | ------------------------------------------- | ------------------------------ |
/// | OPEN     | nobody has                                  | the first to win, or its owner |
/// | GIVEN_UP | its time was up; no unpark is owed          | nobody                         |
/// | others   | the case that won; its unpark is on its way | nobody                         |
#[derive(Debug)]
pub(crate) struct Claim(AtomicU32);

impl Claim {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(OPEN))
    }

    fn close(&self, state: u32) -> bool {
        // Relaxed, both: the word only decides who goes on. What the winner does next reaches the waiter through the unpark,
        // and a loser touches nothing more.
        self.0
            .compare_exchange(OPEN, state, Relaxed, Relaxed)
            .is_ok()
    }

    /// Wins the waiter for one of its cases, unless another has.
    #[must_use = "who wins owes an unpark, who does not leaves the seat alone"]
    pub(crate) fn win(&self, case: u32) -> bool {
        debug_assert!(case < GIVEN_UP);
        self.close(case)
    }

    /// Ends the wait without a winner; false if there is one. Its owner only.
    #[must_use = "with a winner, its unpark has to be waited for"]
    pub(crate) fn give_up(&self) -> bool {
        self.close(GIVEN_UP)
    }

    /// The case that won. Its owner only, once it was unparked.
    pub(crate) fn winner(&self) -> u32 {
        // Relaxed: the unpark that came orders this after the win.
        let winner = self.0.load(Relaxed);
        debug_assert!(winner < GIVEN_UP, "unparked by nobody");
        winner
    }
}

#[cfg(all(test, loom, not(shuttle)))]
#[expect(unsafe_code, reason = "the models put values into places")]
mod models {
    use super::super::channel::{Core, Received, Seat, Sent};
    use super::super::task_word::{Park, TaskWord, Unpark};
    use super::*;
    use crate::sync::{OsMutex, lock};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// One select: its claim, its parking word, a place for each case.
    struct Wait {
        claim: Claim,
        word: TaskWord,
        places: [UnsafeCell<Option<u32>>; 2],
        thread: thread::Thread,
    }

    #[derive(Clone)]
    struct Place(Arc<Wait>, u32);
    // SAFETY: the places are accessed as `Seat` says; loom checks it.
    unsafe impl Send for Place {}

    // SAFETY: touches its place only, and the claim decides.
    unsafe impl Seat<u32> for Place {
        fn is_won(&self) -> bool {
            self.0.claim.win(self.1)
        }
        unsafe fn deliver(&self, value: u32) {
            // SAFETY: the caller's promise, which loom checks.
            self.place()
                .with_mut(|place| unsafe { *place = Some(value) });
        }
        unsafe fn collect(&self) -> u32 {
            // SAFETY: the caller's promise, which loom checks.
            self.place()
                .with_mut(|place| unsafe { (*place).take() })
                .unwrap()
        }
    }

    impl Place {
        fn place(&self) -> &UnsafeCell<Option<u32>> {
            &self.0.places[self.1 as usize]
        }
        fn unpark(&self) {
            match self.0.word.unpark() {
                Unpark::Nothing => {}
                Unpark::Wake | Unpark::Enqueue => self.0.thread.unpark(),
            }
        }
    }

    type Shared = Arc<OsMutex<Core<u32, Place>>>;

    fn channels() -> [Shared; 2] {
        [0, 1].map(|_| Arc::new(OsMutex::new(Core::new(0))))
    }

    /// Sends if somebody receives; true if the value is in somebody's hands.
    fn try_send(channel: &Shared, value: u32) -> bool {
        let sent = lock(channel).send(value);
        match sent {
            Sent::Handed(receiver) => {
                receiver.unpark();
                true
            }
            Sent::Full(_) => false,
            Sent::Buffered | Sent::Closed(_) => unreachable!(),
        }
    }

    /// Receives from either channel; `None` when it ran out of patience, which with `is_hasty` is as soon as it may.
    fn select(channels: &[Shared; 2], is_hasty: bool) -> Option<u32> {
        let wait = Arc::new(Wait {
            claim: Claim::new(),
            word: TaskWord::new(),
            places: [0, 1].map(|_| UnsafeCell::new(None)),
            thread: thread::current(),
        });
        let mut cores = [lock(&channels[0]), lock(&channels[1])];
        for core in &mut cores {
            match core.receive() {
                Received::Value(value, sender) => {
                    drop(cores);
                    if let Some(sender) = sender {
                        sender.unpark();
                    }
                    return Some(value);
                }
                Received::Empty => {}
                Received::Closed => unreachable!(),
            }
        }
        let seat = |case| Place(Arc::clone(&wait), case);
        let tickets = [0, 1].map(|case| cores[case as usize].gate.wait_to_receive(seat(case)));
        drop(cores);
        let mut is_owed = true;
        if wait.word.block() == Park::Go {
            while !wait.word.consume() {
                if is_hasty && wait.word.give_up() {
                    // Out of time: without a winner nobody unparks us; with one we wait for it.
                    is_owed = !wait.claim.give_up();
                    if is_owed && wait.word.block() == Park::Go {
                        while !wait.word.consume() {
                            thread::park();
                        }
                    }
                    break;
                }
                thread::park();
            }
        }
        for (channel, ticket) in channels.iter().zip(tickets) {
            lock(channel).gate.leave_receivers(ticket);
        }
        let mut got: Vec<u32> = wait
            .places
            .iter()
            // SAFETY: checked by loom.
            .filter_map(|place| place.with_mut(|place| unsafe { (*place).take() }))
            .collect();
        assert_eq!(got.len(), usize::from(is_owed), "one winner, or none");
        if is_owed {
            assert_eq!(got[0], wait.claim.winner());
        }
        got.pop()
    }

    fn one_wins(is_hasty: bool) {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(move || {
            let channels = channels();
            let senders: Vec<_> = [0, 1]
                .into_iter()
                .map(|case| {
                    let channel = Arc::clone(&channels[case]);
                    thread::spawn(move || try_send(&channel, case as u32))
                })
                .collect();
            // Somebody has to come if we are to wait without a limit: the last resort is the main thread's own sender.
            let last = (!is_hasty).then(|| {
                let channel = Arc::clone(&channels[1]);
                thread::spawn(move || {
                    let mut core = lock(&channel);
                    match core.send(1) {
                        Sent::Handed(receiver) => {
                            drop(core);
                            receiver.unpark();
                        }
                        Sent::Full(_) => {
                            // Closing wakes who waits; here a value stays in a seat that is nobody's, so that a late
                            // select finds it.
                            let wait = Arc::new(Wait {
                                claim: Claim::new(),
                                word: TaskWord::new(),
                                places: [UnsafeCell::new(Some(1)), UnsafeCell::new(Some(1))],
                                thread: thread::current(),
                            });
                            core.gate.wait_to_send(Place(wait, 1));
                        }
                        Sent::Buffered | Sent::Closed(_) => unreachable!(),
                    }
                })
            });
            let got = select(&channels, is_hasty);
            let handed = senders
                .into_iter()
                .map(|sender| usize::from(sender.join().unwrap()))
                .sum::<usize>();
            if let Some(last) = last {
                last.join().unwrap();
                assert!(got.is_some() && handed <= 1);
            } else {
                assert_eq!(
                    handed,
                    usize::from(got.is_some()),
                    "none lost, none doubled"
                );
            }
        });
    }

    /// Two channels, a sender on each, and a select whose time is up at any moment: a value is received exactly if one was
    /// handed over. Bounds: three threads, one select, 2 pre-emptions.
    #[test]
    fn one_of_two_senders_or_the_time_limit_wins() {
        one_wins(true);
    }

    /// As above without a limit, and with a sender that waits: the select always ends with one value.
    /// Bounds: four threads, one select, 2 pre-emptions.
    #[test]
    fn a_select_without_a_limit_is_not_forgotten() {
        one_wins(false);
    }

    /// Two selects that each offer to the other on one channel and would take from it on another, announced under both locks:
    /// they meet on one channel only. Bounds: two threads, 2 pre-emptions.
    #[test]
    fn two_selects_meet_once() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(|| {
            let channels = channels();
            let other = channels.clone();
            // Sends on `s`, receives on `r`; returns which it did, and what it received.
            let meet = |channels: [Shared; 2], s: usize, value: u32| -> Option<u32> {
                let r = 1 - s;
                let wait = Arc::new(Wait {
                    claim: Claim::new(),
                    word: TaskWord::new(),
                    places: [0, 1].map(|case| UnsafeCell::new((case == s).then_some(value))),
                    thread: thread::current(),
                });
                let mut cores = [lock(&channels[0]), lock(&channels[1])];
                match cores[r].receive() {
                    Received::Value(got, sender) => {
                        drop(cores);
                        sender.unwrap().unpark();
                        return Some(got);
                    }
                    Received::Empty => {}
                    Received::Closed => unreachable!(),
                }
                match cores[s].send(value) {
                    Sent::Handed(receiver) => {
                        drop(cores);
                        receiver.unpark();
                        return None;
                    }
                    Sent::Full(_) => {}
                    Sent::Buffered | Sent::Closed(_) => unreachable!(),
                }
                let seat = |case: usize| Place(Arc::clone(&wait), case as u32);
                let sending = cores[s].gate.wait_to_send(seat(s));
                let receiving = cores[r].gate.wait_to_receive(seat(r));
                drop(cores);
                if wait.word.block() == Park::Go {
                    while !wait.word.consume() {
                        thread::park();
                    }
                }
                lock(&channels[s]).gate.leave_senders(sending);
                lock(&channels[r]).gate.leave_receivers(receiving);
                (wait.claim.winner() == r as u32).then(|| {
                    // SAFETY: checked by loom.
                    wait.places[r]
                        .with_mut(|place| unsafe { (*place).take() })
                        .unwrap()
                })
            };
            let one = thread::spawn(move || meet(other, 0, 10));
            let here = meet(channels, 1, 20);
            let there = one.join().unwrap();
            assert!(
                matches!((here, there), (Some(10), None) | (None, Some(20))),
                "{here:?} {there:?}"
            );
        });
    }
}
