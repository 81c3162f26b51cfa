//! loom models of the words that a pool's processes share: every interleaving of two or three threads. A futex has no time limit here, so
//! a wake that is lost is a thread that sleeps for ever, which loom reports.
//!
//! `cargo xtask models`

#![expect(unsafe_code, reason = "cells that loom watches")]

use super::bell::{Bell, EndedBits};
use super::dismissal::Dismissal;
use super::word::{Claim, JobWord, Phase, Wake};
use crate::sync::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use loom::thread;
use std::time::Duration;

/// Runs every interleaving of the threads in `body` that has at most so many preemptions.
fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// As long as a sleep may take in a real pool; here it is for ever.
const NAP: Duration = Duration::from_millis(2);

/// A job: its word, and what its arguments and its value are written to. loom finds a value that two write, or that is read too early.
#[derive(Default)]
struct Job {
    word: JobWord,
    args: UnsafeCell<u32>,
    value: UnsafeCell<u32>,
}

// SAFETY: the word says whose the cells are; loom checks it.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

const ARGS: u32 = 20;
const VALUE: u32 = 21;

impl Job {
    fn queued() -> Self {
        let job = Self::default();
        // SAFETY: nobody else has the job yet.
        job.args.with_mut(|args| unsafe { *args = ARGS });
        job.word.queue();
        job
    }

    /// What a worker does that claimed the job; dies after so many of its steps, if it is to.
    fn run(&self, worker: usize, steps: u32) -> Option<Wake> {
        if steps == 1 {
            return None;
        }
        // SAFETY: the claimer's, says the word.
        let args = self.args.with(|args| unsafe { *args });
        // SAFETY: as above.
        self.value.with_mut(|value| unsafe { *value = args + 1 });
        if steps == 2 {
            return None;
        }
        Some(self.word.finish(worker))
    }

    fn claim_and_run(&self, worker: usize) -> Claim {
        let claim = self.word.claim(worker);
        if claim == Claim::Yours && self.run(worker, u32::MAX) == Some(Wake::Sleeper) {
            self.word.wake();
        }
        claim
    }

    fn is_done(&self) -> bool {
        self.word.phase() == Phase::Done
    }

    fn wait(&self) {
        while !self.is_done() {
            self.word.sleep(NAP);
        }
    }

    /// The value of a job that is done.
    fn value(&self) -> u32 {
        // SAFETY: nobody writes it any more, says the word.
        self.value.with(|value| unsafe { *value })
    }
}

#[test]
fn sleeper_on_a_job_hears_of_its_end_and_finds_the_value() {
    check(4, || {
        let job = Arc::new(Job::default());
        let worker = thread::spawn({
            let job = Arc::clone(&job);
            move || {
                while job.claim_and_run(1) == Claim::Gone {
                    thread::yield_now();
                }
            }
        });
        // SAFETY: nobody else has the job yet.
        job.args.with_mut(|args| unsafe { *args = ARGS });
        job.word.queue();
        job.wait();
        assert_eq!(job.value(), VALUE);
        worker.join().unwrap();
    });
}

#[test]
fn two_sleepers_on_a_job_both_hear_of_its_end() {
    check(3, || {
        let job = Arc::new(Job::queued());
        let waiters = [(); 2].map(|()| {
            let job = Arc::clone(&job);
            thread::spawn(move || job.wait())
        });
        assert_eq!(job.claim_and_run(1), Claim::Yours);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn job_is_one_claimers_or_is_taken_back() {
    check(4, || {
        let job = Arc::new(Job::queued());
        let workers = [1, 2].map(|worker| {
            let job = Arc::clone(&job);
            thread::spawn(move || job.claim_and_run(worker))
        });
        let is_taken_back = job.word.withdraw().is_some();
        job.wait();
        if !is_taken_back {
            assert_eq!(job.value(), VALUE);
        }
        let claims = workers.map(|worker| worker.join().unwrap());
        let claimed = claims.iter().filter(|claim| **claim == Claim::Yours);
        assert_eq!(claimed.count(), usize::from(!is_taken_back));
    });
}

/// The first worker dies after each of its steps; it is collected, and only then the parent touches its job. An old message makes the
/// second one look early.
#[test]
fn job_of_a_dead_worker_ends_once() {
    for steps in 0..4 {
        check(4, move || {
            let job = Arc::new(Job::queued());
            let victim = thread::spawn({
                let job = Arc::clone(&job);
                move || {
                    if steps > 0 && job.word.claim(1) == Claim::Yours {
                        // The sleeper is not woken either: it gets up by itself, or by the death.
                        return job.run(1, steps).is_some();
                    }
                    false
                }
            });
            let second = thread::spawn({
                let job = Arc::clone(&job);
                move || job.claim_and_run(2) == Claim::Yours
            });
            let has_ended_it = victim.join().unwrap();
            let left = job.word.phase();
            if left == (Phase::Running { worker: 1 }) {
                job.word.requeue(1);
            }
            let mut ends = u32::from(has_ended_it) + u32::from(second.join().unwrap());
            ends += u32::from(job.claim_and_run(3) == Claim::Yours);
            assert_eq!(ends, 1);
            assert!(job.is_done());
            assert_eq!(job.value(), VALUE);
        });
    }
}

/// A job is left by the worker it names, or after that one was collected: who takes a worker for another changes nothing.
#[test]
fn burial_of_another_worker_changes_nothing() {
    check(3, || {
        let job = Arc::new(Job::queued());
        let worker = thread::spawn({
            let job = Arc::clone(&job);
            move || job.claim_and_run(1)
        });
        // After the worker: loom looks behind whoever begins with a look for those alone who were there before.
        let mourner = thread::spawn({
            let job = Arc::clone(&job);
            move || {
                job.word.requeue(2);
                job.word.bury(2)
            }
        });
        job.wait();
        assert_eq!(job.value(), VALUE);
        assert_eq!(worker.join().unwrap(), Claim::Yours);
        assert_eq!(mourner.join().unwrap(), Wake::Nobody);
    });
}

/// The bell, the bits of two jobs, and what the parent's threads have beside them: the key of the reaper, and its eventfd.
struct Board {
    jobs: [Job; 2],
    ended: [AtomicU64; 1],
    bell: Bell,
    reaper: Mutex<Reaper>,
    /// An eventfd: readable until it is emptied.
    is_readable: Mutex<bool>,
    readable: Condvar,
    /// Jobs that were settled.
    settled: Mutex<u32>,
}

/// As much of `reap::Reaper` as decides who is woken.
#[derive(Default)]
struct Reaper {
    key: u64,
    pollers: usize,
    is_signalled: bool,
}

impl Board {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            jobs: [Job::queued(), Job::queued()],
            ended: [AtomicU64::new(0)],
            bell: Bell::default(),
            reaper: Mutex::default(),
            is_readable: Mutex::new(false),
            readable: Condvar::new(),
            settled: Mutex::new(0),
        })
    }

    fn ended(&self) -> EndedBits<'_> {
        EndedBits(&self.ended)
    }

    /// A worker's part, as in `worker::run`.
    fn work(&self, job: usize) {
        assert_eq!(self.jobs[job].claim_and_run(1), Claim::Yours);
        self.ended().set(job);
        self.bell.ring(|| self.make_readable());
    }

    fn make_readable(&self) {
        *self.is_readable.lock().unwrap() = true;
        self.readable.notify_all();
    }

    fn reaper(&self) -> MutexGuard<'_, Reaper> {
        self.reaper.lock().unwrap()
    }

    fn key(&self) -> u64 {
        self.reaper().key
    }

    /// `Hub::sweep`.
    fn sweep(&self) {
        let mut any = false;
        self.ended().take(|job| {
            any = true;
            assert!(self.jobs[job].is_done());
            assert_eq!(self.jobs[job].value(), VALUE);
            *self.settled.lock().unwrap() += 1;
        });
        if any {
            self.notify();
        }
    }

    /// `Hub::notify`.
    fn notify(&self) {
        let mut reaper = self.reaper();
        reaper.key += 1;
        if reaper.pollers > 0 && !reaper.is_signalled {
            reaper.is_signalled = true;
            self.make_readable();
        }
        drop(reaper);
        self.bell.ring(|| self.make_readable());
    }

    fn has_settled(&self, jobs: u32) -> bool {
        *self.settled.lock().unwrap() == jobs
    }

    /// A thread of the parent that sleeps on the bell, as `Hub::wait_for_any` does first.
    fn wait_by_futex(&self, jobs: u32) {
        loop {
            let key = self.key();
            self.sweep();
            if self.has_settled(jobs) {
                return;
            }
            let armed = self.bell.arm_sleep();
            if !self.ended().any() && self.key() == key {
                self.bell.sleep(armed, NAP);
            }
        }
    }

    /// One that sleeps in `ppoll`, as `Hub::watch` and `Reaper::round` do.
    fn wait_by_poll(&self, jobs: u32) {
        loop {
            let key = self.key();
            self.sweep();
            if self.has_settled(jobs) {
                return;
            }
            self.bell.arm_poll();
            if !self.ended().any() && self.key() == key {
                self.round(Some(key));
            }
        }
    }

    /// With a key: sleeps. Without: a look in passing, as the clock's thread takes to end a worker that is late, which sees to no job.
    fn round(&self, key: Option<u64>) {
        let mut reaper = self.reaper();
        if key.is_some_and(|key| key != reaper.key) {
            return;
        }
        reaper.pollers += 1;
        drop(reaper);

        let mut is_readable = self.is_readable.lock().unwrap();
        while key.is_some() && !*is_readable {
            is_readable = self.readable.wait(is_readable).unwrap();
        }
        let was_woken = *is_readable;
        drop(is_readable);

        let mut reaper = self.reaper();
        reaper.pollers -= 1;
        let is_passing = key.is_none();
        if was_woken && (is_passing || reaper.pollers > 0) {
            reaper.is_signalled = true;
        } else if was_woken || (!is_passing && reaper.pollers == 0 && reaper.is_signalled) {
            *self.is_readable.lock().unwrap() = false;
            reaper.is_signalled = false;
        }
    }
}

#[test]
fn sleeper_on_the_bell_hears_of_every_job() {
    check(3, || {
        let board = Board::new();
        let workers = [0, 1].map(|job| {
            let board = Arc::clone(&board);
            thread::spawn(move || board.work(job))
        });
        board.wait_by_futex(2);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn poller_hears_of_every_job() {
    check(3, || {
        let board = Board::new();
        let workers = [0, 1].map(|job| {
            let board = Arc::clone(&board);
            thread::spawn(move || board.work(job))
        });
        board.wait_by_poll(2);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// Whoever settles the job tells the other, whichever of both lies where.
fn both_hear(first: fn(&Board, u32), second: fn(&Board, u32)) {
    check(2, move || {
        let board = Board::new();
        let waiters = [first, second].map(|wait| {
            let board = Arc::clone(&board);
            thread::spawn(move || wait(&board, 1))
        });
        board.work(0);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn two_sleepers_on_the_bell_both_hear() {
    both_hear(Board::wait_by_futex, Board::wait_by_futex);
}

#[test]
fn sleeper_and_poller_both_hear() {
    both_hear(Board::wait_by_futex, Board::wait_by_poll);
}

#[test]
fn two_pollers_of_one_eventfd_both_hear() {
    both_hear(Board::wait_by_poll, Board::wait_by_poll);
}

#[test]
fn look_in_passing_takes_no_wake_from_a_poller() {
    check(3, || {
        let board = Board::new();
        let worker = thread::spawn({
            let board = Arc::clone(&board);
            move || board.work(0)
        });
        let clock = thread::spawn({
            let board = Arc::clone(&board);
            move || board.round(None)
        });
        board.wait_by_poll(1);
        worker.join().unwrap();
        clock.join().unwrap();
    });
}

/// The parent has a worker ended for the sake of its first job, which ends just then: either the worker is not signalled, or it does not
/// begin its second job.
#[test]
fn worker_that_is_signalled_begins_no_other_job() {
    check(5, || {
        let jobs = Arc::new((Job::queued(), Job::queued(), Dismissal::default()));
        assert_eq!(jobs.0.word.claim(1), Claim::Yours);
        let worker = thread::spawn({
            let jobs = Arc::clone(&jobs);
            move || {
                let (first, second, dismissal) = &*jobs;
                assert_eq!(first.run(1, u32::MAX), Some(Wake::Nobody));
                assert_eq!(second.word.claim(1), Claim::Yours);
                !dismissal.is_ordered()
            }
        });
        let (first, _, dismissal) = &*jobs;
        dismissal.order();
        let is_signalled = first.word.phase() == Phase::Running { worker: 1 };
        if !is_signalled {
            dismissal.lift();
        }
        let has_begun_another = worker.join().unwrap();
        assert!(!(is_signalled && has_begun_another));
    });
}

/// The numbers of jobs are read as they lie there.
#[test]
fn bits_are_taken_once() {
    check(4, || {
        let bits = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let taker = || {
            let bits = Arc::clone(&bits);
            thread::spawn(move || {
                let mut taken = Vec::new();
                EndedBits(&*bits).take(|job| taken.push(job));
                taken
            })
        };
        let takers = [taker(), taker()];
        EndedBits(&*bits).set(3);
        EndedBits(&*bits).set(70);
        let mut taken: Vec<_> = takers.map(|taker| taker.join().unwrap()).concat();
        EndedBits(&*bits).take(|job| taken.push(job));
        taken.sort_unstable();
        assert_eq!(taken, [3, 70]);
        // Relaxed: the others have ended.
        assert!(bits.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    });
}
