//! The workers: hired, mourned, replaced; and the jobs that end with them.

use super::board::Post;
use super::books::{Books, Doom, Entry, Hand};
use super::hub::Hub;
use super::word::{Phase, Wake};
use super::{code, duty, worker};
use crate::outcome::{End, Settles};
use crate::reap::Forked;
use crate::start::{self, Patience};
use crate::sys;
use multi_core::ledger::Ticket;
use multi_core::{TaskErrorKind, TaskOptions, clock};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Workers in a row that end before their first job, nobody else being ready, until the jobs that wait are given up. With the pauses between
/// them a quarter of a second: what a shortage of processes or a broken initialiser does not outlast is worth telling.
const FALSE_STARTS: u32 = 8;
/// The same with those counted that a stranger's SIGKILL ended, which says nothing of the next one, unless it goes on for half a minute: the
/// system may be out of memory.
const KILLED_STARTS: u32 = 40;
/// After the first of them; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// No initialiser that fails takes so long that two failures so far apart count as in a row.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker in the books of the reaper.
struct Worker {
    ticket: Ticket,
    hub: Weak<Hub>,
    index: usize,
}

impl Settles for Worker {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }

    fn settle(self: Box<Self>, end: End) {
        let Self {
            mut ticket,
            hub,
            index,
        } = *self;
        let was_pressed = end.was_pressed;
        let outcome = end.outcome::<()>(&mut ticket);
        if let Some(hub) = hub.upgrade() {
            hub.bury(index, outcome, was_pressed);
        }
        // What became of a worker is told by its job, not by its ticket.
        ticket.settle(Ok(()));
    }
}

impl Hub {
    /// Fills the vacancies of the crew. On the thread of the caller, whose copies of locks the child can release.
    pub(super) fn hire(self: &Arc<Self>) {
        while let Some(index) = self.next_vacancy() {
            self.board.row(index).clear();
            let options = TaskOptions::new().name(format!("worker {index}"));
            let ticket = match self.crew.try_admit(options) {
                Ok(ticket) => ticket,
                // The pool is being dropped.
                Err(_) => return self.lock().crew[index] = Hand::Vacant,
            };
            match self.start_worker(index) {
                Ok(forked) => {
                    let mut ticket = ticket;
                    ticket.set_pid(forked.pid);
                    // Before the worker is in the reaper's books, where another thread may find it dead at once.
                    self.lock().crew[index] = Hand::At { pid: forked.pid };
                    let worker = Worker {
                        ticket,
                        hub: Arc::downgrade(self),
                        index,
                    };
                    self.reaper.adopt(forked, Box::new(worker));
                }
                Err(kind) => {
                    ticket.withdraw();
                    let mut books = self.lock();
                    books.crew[index] = Hand::Vacant;
                    books.false_start(kind);
                    drop(books);
                    self.give_up_if_hopeless();
                }
            }
        }
    }

    /// Has a process made that works as number `index`.
    fn start_worker(self: &Arc<Self>, index: usize) -> Result<Forked, TaskErrorKind> {
        if let Some(source) = &self.settings.source {
            return duty::start(self, source, index);
        }
        let hub = Arc::clone(self);
        let work = move || {
            let prepare = hub.settings.in_worker.as_ref();
            worker::work(
                &hub.tools(),
                index,
                prepare.map(|prepare| move || prepare.run()),
            )
        };
        start::start(&self.reaper, Patience::WaitALittle, None, work)
            .map_err(|(error, _)| TaskErrorKind::Start(error))
    }

    fn next_vacancy(&self) -> Option<usize> {
        let mut books = self.lock();
        if !books.has_vacancy() || books.hire_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let index = books.crew.iter().position(|hand| *hand == Hand::Vacant)?;
        books.crew[index] = Hand::Hiring;
        Some(index)
    }

    /// A worker was collected: sees to its job, and to those whose end it could not tell.
    pub(super) fn bury(&self, index: usize, outcome: Result<(), TaskErrorKind>, was_pressed: bool) {
        let row = self.board.row(index);
        let post = row.post();
        let mut books = self.lock();
        books.crew[index] = Hand::Vacant;
        let left = self.left_by(index);
        let has_begun = !left.is_empty() || row.jobs() > 0;
        // Whoever could not wait for a job says so; whom a signal ended while it waited, a stranger did.
        let could_not_wait = !was_pressed
            && matches!(
                outcome,
                Err(TaskErrorKind::Returned(_)
                    | TaskErrorKind::Panicked { .. }
                    | TaskErrorKind::Exited(_))
            );
        let is_false = !has_begun && (post == Post::Starting || could_not_wait);
        let by_itself = outcome.is_ok() && !is_false && !was_pressed;
        let kind = outcome.err().unwrap_or(TaskErrorKind::Exited(0));
        books.counts.deaths += u64::from(!by_itself);
        books.counts.recycled += u64::from(by_itself && !books.is_ending);
        // Before any of its jobs is another's: what it gave to those that are not done goes with it.
        self.desk.bury(index, |job| {
            job < self.board.jobs && self.board.word(job).phase() == Phase::Done
        });
        for (job, worker) in left {
            // One that is ended for another job's sake begins no more, whether it comes to leaving or not: see `dismiss`.
            let was_between = was_pressed || post == Post::Leaving;
            self.lose_worker(&mut books, job, worker, &kind, was_between);
        }
        if is_false {
            books.false_start(kind);
        } else {
            books.good_start();
        }
        // It may have ended a job and died before it said so.
        for job in 0..self.board.jobs {
            if self.board.word(job).phase() == Phase::Done {
                self.board.announce(job, || ());
            }
        }
        drop(books);
        self.send_again();
        // A message of another lane that it died with comes back there, where nobody sleeps.
        if self.board.has_lanes() {
            self.lanes.nudge();
        }
        self.give_up_if_hopeless();
        self.notify();
    }

    /// The jobs that a dead worker had claimed and not ended, and who the word says it was. Its own is one at most; and those of workers
    /// that cannot be, which it may have scribbled.
    fn left_by(&self, index: usize) -> Vec<(usize, usize)> {
        let whose = |job| match self.board.word(job).phase() {
            Phase::Running { worker } if worker == index || worker >= self.board.workers => {
                Some((job, worker))
            }
            _ => None,
        };
        (0..self.board.jobs).filter_map(whose).collect()
    }

    /// The worker of a job died in it, or when it `was_between` jobs and had claimed this one: gives the job to another one, or ends it.
    fn lose_worker(
        &self,
        books: &mut Books,
        job: usize,
        worker: usize,
        kind: &TaskErrorKind,
        was_between: bool,
    ) {
        let is_ending = books.is_ending;
        let seat = &mut books.seats[job];
        // This one was not begun, and had no part in it.
        let is_innocent = was_between && seat.doom.is_none();
        if !is_innocent {
            seat.deaths += 1;
        }
        let word = self.board.word(job);
        let is_last = !is_innocent && seat.deaths >= seat.order.attempts;
        if seat.doom.is_none() && !is_last && !is_ending {
            self.board.forget_run(job);
            word.requeue(worker);
            books.counts.retried += u64::from(!is_innocent);
            books.unsent.push(job);
            return;
        }
        seat.verdict = Some(match seat.doom {
            Some(doom) => doom.verdict(),
            None if is_last => copy_of(kind),
            None => TaskErrorKind::Cancelled,
        });
        let wake = word.bury(worker);
        self.tell(job, wake);
    }

    /// Ends a job that somebody waits for if its word says what it cannot have come to, so that no worker will ever end it; returns whether it
    /// did. Its worker, should that be at it still, is not known.
    pub(super) fn end_if_spoilt(&self, books: &mut Books, job: usize) -> bool {
        let seat = &mut books.seats[job];
        if matches!(seat.entry, Entry::Nobody) {
            return false;
        }
        // In this order: whoever begins it has claimed it before.
        let is_begun = self.board.is_begun(job);
        let word = self.board.word(job);
        let is_spoilt = match word.phase() {
            Phase::Free => true,
            Phase::Queued => is_begun,
            Phase::Running { worker } => worker >= self.board.workers,
            Phase::Done => false,
        };
        if is_spoilt {
            let overwritten = || TaskErrorKind::Returned(code::OVERWRITTEN.into());
            seat.verdict = Some(seat.doom.map_or_else(overwritten, Doom::verdict));
            let wake = word.overrule();
            self.tell(job, wake);
        }
        is_spoilt
    }

    /// A job has ended by the parent's hand.
    fn tell(&self, job: usize, wake: Wake) {
        if wake == Wake::Sleeper {
            self.board.word(job).wake();
        }
        self.board.announce(job, || self.ring());
    }

    /// Ends the jobs that wait, where no worker will ever come to them.
    fn give_up_if_hopeless(&self) {
        let mut books = self.lock();
        let is_any_ready = (0..books.crew.len()).any(|index| {
            matches!(books.crew[index], Hand::At { .. })
                && self.board.row(index).post() != Post::Starting
        });
        if is_any_ready || !books.is_hopeless() {
            return;
        }
        let in_a_row = books.false_starts;
        books.forget_false_starts();
        let reason = books.last_false_start.take();
        let reason = reason.map_or_else(String::new, |kind| describe(&kind));
        for job in 0..self.board.jobs {
            if matches!(books.seats[job].entry, Entry::Nobody) {
                continue;
            }
            if let Some(wake) = self.board.word(job).withdraw() {
                let why = format!(
                    "{in_a_row} workers in a row ended before their first job, the last one: {reason}"
                );
                books.seats[job].verdict = Some(TaskErrorKind::Start(io::Error::other(why)));
                self.tell(job, wake);
            }
        }
        drop(books);
        self.notify();
    }

    /// The round was cancelled, or the pool ends: takes back the jobs that nobody has begun, and has the workers of the others ended.
    pub(super) fn cancel_jobs(&self) {
        let mut books = self.lock();
        let mut any = false;
        for job in 0..self.board.jobs {
            let seat = &books.seats[job];
            if seat.doom.is_some() || matches!(seat.entry, Entry::Nobody) {
                continue;
            }
            if self.end_if_spoilt(&mut books, job) {
                any = true;
                continue;
            }
            let word = self.board.word(job);
            let withdrawn = word.withdraw();
            let worker = match word.phase() {
                Phase::Running { worker } => Some(worker),
                _ => None,
            };
            if withdrawn.is_none() && worker.is_none() {
                continue;
            }
            if let Some(wake) = withdrawn {
                books.seats[job].verdict = Some(TaskErrorKind::Cancelled);
                self.tell(job, wake);
            } else if !worker.is_some_and(|worker| self.dismiss(&books, job, worker)) {
                // Its worker is on its way into the reaper's books, or out of them: the next look finds it, or its job elsewhere.
                continue;
            }
            books.seats[job].doom = Some(Doom::Cancelled);
            any = true;
        }
        drop(books);
        if any {
            self.notify();
        }
    }

    /// Has a worker ended for the sake of the job it runs: SIGTERM and, after the grace, SIGKILL. False where it is not there just now, or
    /// has ended the job meanwhile.
    ///
    /// Should it end the job before the signal comes, it begins no other: that one would be begun twice. So what a worker that was ended
    /// so leaves claimed, beside the job that was the reason, was never begun.
    fn dismiss(&self, books: &Books, job: usize, worker: usize) -> bool {
        let Some(Hand::At { pid }) = books.crew.get(worker) else {
            return false;
        };
        let row = self.board.row(worker);
        row.dismissal().order();
        // The same job as before, if it is that worker's: its place is not given to another without the lock.
        let is_in_it = self.board.word(job).phase() == Phase::Running { worker };
        let is_told = is_in_it && self.reaper.expire(*pid);
        if !is_told {
            // It may have seen the order and leave: that costs a worker, no job.
            row.dismissal().lift();
        }
        is_told
    }

    /// When the next job's time may be up.
    pub(super) fn next_limit(&self, books: &Books, now: Instant) -> Option<Instant> {
        self.limits(books, now).map(|(_, at, _)| at).min()
    }

    /// The jobs with time limits: number, when the time is up at the earliest, and who runs it. A job that waits has all its time before
    /// it: it begins now at the earliest.
    fn limits<'a>(
        &'a self,
        books: &'a Books,
        now: Instant,
    ) -> impl Iterator<Item = (usize, Instant, Option<usize>)> + 'a {
        let jobs = if books.timed == 0 { 0 } else { self.board.jobs };
        (0..jobs).filter_map(move |job| {
            let seat = &books.seats[job];
            let timeout = seat.order.timeout?;
            if seat.doom.is_some() || matches!(seat.entry, Entry::Nobody) {
                return None;
            }
            match self.board.word(job).phase() {
                Phase::Queued => Some((job, now.checked_add(timeout)?, None)),
                Phase::Running { worker } if worker < self.board.workers => {
                    let began = self.time_of(self.board.row(worker).began_ns())?;
                    Some((job, began.checked_add(timeout)?, Some(worker)))
                }
                _ => None,
            }
        })
    }

    /// Has the workers ended whose jobs take too long.
    pub(super) fn end_late_jobs(&self) {
        let mut books = self.lock();
        if books.timed == 0 {
            return;
        }
        for job in 0..self.board.jobs {
            if books.seats[job].order.timeout.is_some() {
                self.end_if_spoilt(&mut books, job);
            }
        }
        let now = Instant::now();
        let late: Vec<_> = self
            .limits(&books, now)
            .filter_map(|(job, at, worker)| Some((job, worker.filter(|_| at <= now)?)))
            .collect();
        for (job, worker) in late {
            if self.dismiss(&books, job, worker) {
                books.seats[job].doom = Some(Doom::TimedOut);
            }
        }
    }

    /// Sees to it that a time limit is kept while nobody waits.
    pub(super) fn keep_time_from(self: &Arc<Self>, now: Instant, timeout: Duration) {
        let Some(at) = now.checked_add(timeout) else {
            return;
        };
        let mut books = self.lock();
        if books
            .alarm
            .as_ref()
            .is_some_and(|(sooner, _)| *sooner <= at)
        {
            return;
        }
        let hub = Arc::downgrade(self);
        let alarm = clock::at(at, move || {
            if let Some(hub) = hub.upgrade() {
                hub.alarmed();
            }
        });
        // Without a clock thread the limit is kept by whoever waits.
        let before = books.alarm.take();
        books.alarm = alarm.ok().map(|alarm| (at, alarm));
        drop(books);
        drop(before);
    }

    /// On the clock's thread: signals, but neither forks nor settles.
    fn alarmed(self: &Arc<Self>) {
        self.end_late_jobs();
        let now = Instant::now();
        let mut books = self.lock();
        let before = books.alarm.take();
        let next = self.next_limit(&books, now);
        drop(books);
        drop(before);
        if let Some(next) = next {
            // Not at once again, should a worker take its time to die.
            let pause = next.saturating_duration_since(now).max(FIRST_PAUSE);
            self.keep_time_from(now, pause);
        }
    }
}

impl Books {
    fn false_start(&mut self, kind: TaskErrorKind) {
        // Long ago the next one must have been a success, though it has not ended yet.
        let is_old = |at: Instant| at.elapsed() > PATIENCE;
        if self.hire_at.is_some_and(is_old) {
            self.forget_false_starts();
        }
        let pause = FIRST_PAUSE * (1 << self.false_starts.min(10));
        self.false_starts += 1;
        let is_strangers = matches!(
            kind,
            TaskErrorKind::Signaled {
                signal: sys::SIGKILL,
                ..
            }
        );
        self.own_false_starts += u32::from(!is_strangers);
        self.hire_at = Instant::now().checked_add(pause);
        self.last_false_start = Some(kind);
    }

    fn is_hopeless(&self) -> bool {
        self.own_false_starts >= FALSE_STARTS || self.false_starts >= KILLED_STARTS
    }

    fn forget_false_starts(&mut self) {
        (self.false_starts, self.own_false_starts) = (0, 0);
    }

    fn good_start(&mut self) {
        self.forget_false_starts();
        self.hire_at = None;
    }
}

/// The same reason once more, for one that several jobs may be told.
fn copy_of(kind: &TaskErrorKind) -> TaskErrorKind {
    match kind {
        TaskErrorKind::Exited(code) => TaskErrorKind::Exited(*code),
        TaskErrorKind::Signaled {
            signal,
            core_dumped,
        } => TaskErrorKind::Signaled {
            signal: *signal,
            core_dumped: *core_dumped,
        },
        TaskErrorKind::LimitExceeded(limit) => TaskErrorKind::LimitExceeded(limit.clone()),
        TaskErrorKind::Lost => TaskErrorKind::Lost,
        other => TaskErrorKind::Returned(describe(other).into()),
    }
}

/// What became of a worker, in words.
pub(super) fn describe(kind: &TaskErrorKind) -> String {
    match kind {
        // As `worker::work` says it.
        TaskErrorKind::Returned(error) => error.to_string(),
        TaskErrorKind::Panicked { message, .. } => format!("its initialiser panicked: {message}"),
        TaskErrorKind::Start(error) => format!("it could not be started: {error}"),
        TaskErrorKind::Exited(code) => format!("it left with exit code {code}"),
        TaskErrorKind::Signaled { signal, .. } => format!("it was killed by signal {signal}"),
        other => format!("{other:?}"),
    }
}
