//! What a pool is made of, and how the parent waits.
//!
//! Nothing here has a thread of its own. Whoever waits for a job looks after the workers as well: collects those who died, gives their
//! jobs to others, hires new ones.

use super::board::Board;
use super::books::{Awaits, Books, Ended, Entry, Seat, Terms};
use super::buffers::{self, Desk, Hold, Part};
use super::code::{self, Preparation};
use super::lanes::Lanes;
use super::luck::Luck;
use super::word::Phase;
use super::worker::{Share, Tools};
use crate::capture;
use crate::function::Key;
use crate::functions::Source;
use crate::reap::Reaper;
use crate::report;
use crate::sync::{AtomicU64, Ordering};
use crate::sys;
use multi_core::ledger::Ledger;
use multi_core::{CancelToken, Event, Result, TaskErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A first sleep, on the job's word alone: as long as most jobs take that are worth measuring. Then the sleeper watches the workers as
/// well, at three system calls more.
const NAP: Duration = Duration::from_millis(2);
/// How often a message that found its lane full is sent again.
const RESEND: Duration = Duration::from_millis(1);
/// Jobs after which a caller that never has to sleep looks at the workers in passing: 3 µs each time.
const LOOK_EVERY: u64 = 256;
/// So long after the last look, a caller that is about to sleep looks, too: else short waits, one after another, would never find out that
/// fewer and fewer workers do the jobs.
const LOOK_AFTER_NS: u64 = 2_000_000;

/// What a pool's builder set for its workers.
pub(super) struct Settings {
    pub(super) args_bytes_max: usize,
    pub(super) share: Share,
    pub(super) in_worker: Option<Prepare>,
    /// Where workers come from, if they are not forked from this process.
    pub(super) source: Option<Source>,
}

/// What a worker does before its first job.
pub(super) enum Prepare {
    Closure(Box<dyn Fn() -> Result + Send + Sync>),
    /// With its arguments, as serde writes them.
    Function(Preparation, Vec<u8>),
}

impl Prepare {
    /// For a worker that is forked from this process.
    pub(super) fn run(&self) -> Result {
        match self {
            Self::Closure(prepare) => prepare(),
            Self::Function(prepare, args) => prepare.run(args),
        }
    }
}

/// A pool's parts. Workers have a copy of it, or of what [`Tools`] names; shared between them and the parent are the board and the lanes.
pub(super) struct Hub {
    pub(super) board: Board,
    pub(super) lanes: Lanes,
    /// The parent's side of shared buffers.
    pub(super) desk: Arc<Desk>,
    /// Seals orders.
    pub(super) key: Key,
    pub(super) settings: Settings,
    /// The workers as tasks: watched, signalled and collected as a group's.
    pub(super) reaper: Arc<Reaper>,
    pub(super) crew: Ledger,
    /// The time that workers' clocks count from, …
    origin: Instant,
    /// … a moment before it, by the clock that is the same in every process.
    origin_ns: u64,
    books: Mutex<Books>,
    luck: Luck,
    /// When somebody looked at the workers, by `elapsed_ns`.
    looked_ns: AtomicU64,
    /// Of this round of the pool.
    token: Mutex<Option<CancelToken>>,
}

/// Why no job can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    Closed,
    Cancelled,
}

impl Hub {
    pub(super) fn new(
        board: Board,
        lanes: Lanes,
        desk: Arc<Desk>,
        key: Key,
        settings: Settings,
        reaper: Arc<Reaper>,
        crew: Ledger,
    ) -> Self {
        let books = Mutex::new(Books::new(board.workers, board.jobs));
        Self {
            board,
            lanes,
            desk,
            key,
            settings,
            reaper,
            crew,
            // First, so that no job's time is over too early.
            origin_ns: sys::clock_ns(),
            origin: Instant::now(),
            books,
            luck: Luck::new(),
            looked_ns: AtomicU64::new(0),
            token: Mutex::new(None),
        }
    }

    /// Refuses to work in a process that is not the pool's.
    #[track_caller]
    pub(super) fn check_owner(&self) {
        let owner = self.reaper.owner;
        assert!(owner.is_here(), "{}", owner.complaint("this pool"));
    }

    /// Refuses to wait on behalf of a function that is passed a task's lines: before a job is begun that nobody would then wait for.
    #[track_caller]
    pub(super) fn check_may_wait(&self) {
        assert!(
            !capture::is_passing_on(),
            "a function that is passed a task's lines must not wait for a pool: it holds up whoever waits"
        );
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What a worker that is forked from this process works with.
    pub(super) fn tools(&self) -> Tools<'_> {
        Tools {
            board: &self.board,
            lanes: self.lanes.ends(),
            arena: self.desk.arena(),
            key: &self.key,
            share: self.settings.share,
            origin_ns: self.origin_ns,
            bell: self.reaper.wake(),
        }
    }

    pub(super) fn time_of(&self, ns: u64) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(ns))
    }

    /// Wakes the parent's threads that are in `ppoll`.
    pub(super) fn ring(&self) {
        self.reaper.ring();
    }

    /// The token of a new round.
    pub(super) fn new_token(&self) -> CancelToken {
        let token = CancelToken::new();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        token
    }

    pub(super) fn is_cancelled(&self) -> bool {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().is_some_and(CancelToken::is_cancelled)
    }

    /// Takes a job number out of stock.
    pub(super) fn take(self: &Arc<Self>) -> Result<Blank, NoRoom> {
        self.take_or(|_| ())
    }

    /// As [`take`](Self::take); where there is none, does `else_do` before another thread can put one back.
    fn take_or(self: &Arc<Self>, else_do: impl FnOnce(&mut Books)) -> Result<Blank, NoRoom> {
        let mut books = self.lock();
        if books.is_closed {
            return Err(NoRoom::Closed);
        }
        let Some(job) = books.stock.pop() else {
            else_do(&mut books);
            return Err(NoRoom::Full);
        };
        let is_look_due = books.counts.started.is_multiple_of(LOOK_EVERY);
        drop(books);
        let blank = Blank {
            hub: Arc::clone(self),
            job,
            enclosed: Vec::new(),
            is_used: false,
        };
        if is_look_due {
            self.look_at_workers();
        }
        Ok(blank)
    }

    /// Collects workers that have ended, and hires others.
    pub(super) fn look_at_workers(self: &Arc<Self>) {
        // Relaxed: a time to go by, no more.
        self.looked_ns.store(self.elapsed_ns(), Ordering::Relaxed);
        self.reaper.sweep();
        self.tend();
    }

    /// For whoever is about to sleep.
    fn look_now_and_then(self: &Arc<Self>) {
        // Relaxed: as above.
        let looked_ns = self.looked_ns.load(Ordering::Relaxed);
        if self.elapsed_ns().saturating_sub(looked_ns) > LOOK_AFTER_NS {
            self.look_at_workers();
        }
    }

    /// As [`take`](Self::take), waiting for one: for ever, or until the time is up or the round is cancelled.
    pub(super) fn take_waiting(self: &Arc<Self>, until: Option<Instant>) -> Result<Blank, NoRoom> {
        loop {
            let key = self.reaper.key();
            // Counted under the same lock: whoever puts a number back after it tells us, and makes the key old.
            match self.take_or(|books| books.room_waiters += 1) {
                Err(NoRoom::Full) => {}
                done => return done,
            }
            let end = if self.is_cancelled() {
                Some(NoRoom::Cancelled)
            } else if until.is_some_and(|until| Instant::now() >= until) {
                Some(NoRoom::Full)
            } else {
                self.wait_for_any(key, until);
                None
            };
            self.lock().room_waiters -= 1;
            if let Some(why) = end {
                return Err(why);
            }
        }
    }

    /// Encodes a job's arguments where its worker finds them; returns the shared buffers among them, which are to be kept until it is over.
    pub(super) fn write_args<A: Serialize>(
        &self,
        job: usize,
        args: &A,
    ) -> Result<Vec<Arc<Hold>>, TaskErrorKind> {
        let bytes_max = self.settings.args_bytes_max;
        let mut paper = self.board.args_paper(job);
        let _open = buffers::open(&self.desk, Vec::new());
        buffers::begin_enclosing();
        let put = || report::put(&mut paper, crate::slot::Kind::Value, args, bytes_max);
        buffers::explained(put).map_err(|(error, why)| {
            let size = postcard::experimental::serialized_size(args);
            match (error, size) {
                (postcard::Error::SerializeBufferFull, Ok(bytes)) => {
                    TaskErrorKind::LimitExceeded(format!(
                        "its arguments take {bytes} bytes, where args_bytes_max is {bytes_max}"
                    ))
                }
                _ => invalid(format!("its arguments cannot be encoded: {why}")),
            }
        })?;
        let enclosed = buffers::end_enclosing();
        if !enclosed.is_empty() {
            let list = buffers::list(&self.key, Part::Args, job, &enclosed);
            if !paper.enclose(&list, enclosed.len()) {
                return Err(invalid(code::no_room(enclosed.len())));
            }
        }
        Ok(enclosed)
    }

    /// Lets workers have a job whose arguments and order are written.
    pub(super) fn start(self: &Arc<Self>, mut blank: Blank, terms: Terms, entry: Entry) {
        blank.is_used = true;
        let job = blank.job;
        let mut books = self.lock();
        books.counts.started += 1;
        books.timed += usize::from(terms.timeout.is_some());
        let serial = books.seats[job].serial;
        books.seats[job] = Seat {
            serial,
            entry,
            order: terms,
            enclosed: std::mem::take(&mut blank.enclosed),
            ..Seat::default()
        };
        // Under the lock: a word that is FREE while somebody waits for its job was scribbled.
        self.board.word(job).queue();
        drop(books);
        self.send(job, terms);
        if let Some(timeout) = terms.timeout {
            self.keep_time_from(Instant::now(), timeout);
        }
    }

    /// Tells a worker of a job that waits for one.
    pub(super) fn send(&self, job: usize, terms: Terms) {
        if terms.priority != super::lanes::Priority::Usual {
            self.board.open_lanes();
        }
        if self.lanes.send(terms.priority, job).is_err() {
            let mut books = self.lock();
            // Once: a lane that was scribbled stays full.
            if !books.unsent.contains(&job) {
                books.unsent.push(job);
            }
        }
    }

    /// Sends again what found its lane full.
    pub(super) fn send_again(&self) {
        let mut books = self.lock();
        if books.unsent.is_empty() {
            return;
        }
        let unsent = std::mem::take(&mut books.unsent);
        let terms: Vec<_> = unsent.iter().map(|job| books.seats[*job].order).collect();
        drop(books);
        for (job, terms) in unsent.into_iter().zip(terms) {
            self.send(job, terms);
        }
    }

    /// The number that tells this job from others with the same place.
    pub(super) fn serial(&self, job: usize) -> u64 {
        self.lock().seats[job].serial
    }

    fn is_done(&self, job: usize) -> bool {
        self.board.word(job).phase() == Phase::Done
    }

    /// Waits until a job is done, or `until`; returns whether it is. Gives up where the job `is_taken` by another thread, since its place
    /// may then be another job's.
    pub(super) fn wait_done(
        self: &Arc<Self>,
        job: usize,
        until: Option<Instant>,
        is_taken: impl Fn() -> bool,
    ) -> bool {
        let is_done = || self.is_done(job);
        if self.luck.look(is_done) {
            return true;
        }
        self.look_now_and_then();
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let nap = until.map_or(NAP, |until| left(until).min(NAP));
        self.board.word(job).sleep(nap);
        loop {
            if is_done() {
                return true;
            }
            if until.is_some_and(|until| left(until).is_zero()) {
                return false;
            }
            let key = self.reaper.key();
            self.tend();
            if is_taken() {
                return false;
            }
            self.watch(key, until, &is_done);
        }
    }

    /// Waits until some job is done, the key is old, or `until`. May return early for no reason.
    pub(super) fn wait_for_any(self: &Arc<Self>, key: u64, until: Option<Instant>) {
        let is_over = || self.board.has_done() || self.reaper.key() != key;
        if !self.luck.look(|| self.board.has_done()) {
            self.look_now_and_then();
            let armed = self.board.bell().arm_sleep();
            if !is_over() {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                let nap = left.map_or(NAP, |left| left.min(NAP));
                self.board.bell().sleep(armed, nap);
            }
        }
        self.tend();
        if self.reaper.key() == key {
            self.watch(key, until, &is_over);
        }
    }

    /// Sleeps on the workers and on the bell; then does what is to be done.
    fn watch(self: &Arc<Self>, key: u64, until: Option<Instant>, is_over: &dyn Fn() -> bool) {
        self.board.bell().arm_poll();
        if is_over() {
            return;
        }
        let wake_at = [until, self.next_time()].into_iter().flatten().min();
        self.reaper.round(Some(key), wake_at);
        self.tend();
    }

    /// When something is to be done beside what wakes a watcher anyway.
    fn next_time(&self) -> Option<Instant> {
        let now = Instant::now();
        let books = self.lock();
        let resend = (!books.unsent.is_empty()).then(|| now + RESEND);
        let hire = if books.has_vacancy() {
            books.hire_at
        } else {
            None
        };
        let limit = self.next_limit(&books, now);
        [resend, hire, limit].into_iter().flatten().min()
    }

    /// Does whatever is to be done: workers to hire, jobs to cancel, to end, to send again, to take note of.
    pub(super) fn tend(self: &Arc<Self>) {
        self.hire();
        if self.is_cancelled() {
            self.cancel_jobs();
        }
        self.end_late_jobs();
        self.send_again();
        self.sweep();
    }

    /// Settles the jobs that are done and that nobody waits for in `call`; tells everybody if there were any.
    pub(super) fn sweep(&self) {
        let mut any = false;
        self.board.take_done(|job| {
            any = true;
            self.collect(job);
        });
        if any {
            self.notify();
        }
    }

    /// Settles a job if it is done and nobody else does.
    pub(super) fn collect(&self, job: usize) {
        let mut books = self.lock();
        // Under the lock: a place is given to its next job there, and is FREE before. Else another thread could settle this job and start
        // the next one between the look and the lock, and that one would be taken for done.
        // Not done: its bit was set late, by a worker that was slow to say so, or another thread was quicker, and the place is another job's by
        // now. Or its word was written over, so that its worker could not say that it is.
        if !self.is_done(job) && !self.end_if_spoilt(&mut books, job) {
            return;
        }
        let seat = &mut books.seats[job];
        match std::mem::take(&mut seat.entry) {
            Entry::Handle(awaits) => {
                let ended = seat.take_ended(self.run_of(job));
                drop(books);
                awaits.settle(self, job, ended);
                self.put_back(job);
            }
            other => seat.entry = other,
        }
    }

    /// For the thread in `call`, whose job is done.
    pub(super) fn collect_own(&self, job: usize) -> Ended {
        let run = self.run_of(job);
        let mut books = self.lock();
        let seat = &mut books.seats[job];
        seat.entry = Entry::Nobody;
        seat.take_ended(run)
    }

    fn run_of(&self, job: usize) -> Option<(u32, Instant)> {
        let (pid, began_ns) = self.board.run(job)?;
        Some((pid, self.time_of(began_ns)?))
    }

    /// Reads what came of a job that is done.
    pub(super) fn outcome<T: DeserializeOwned>(
        &self,
        job: usize,
        ended: &mut Ended,
    ) -> Result<T, TaskErrorKind> {
        if let Some(verdict) = ended.verdict.take() {
            return Err(verdict);
        }
        let mut copied = Vec::new();
        // A value's own `Deserialize` may panic; whoever looks after the pool must not.
        multi_core::panic::catch(|| {
            let mut adopted = Vec::new();
            let payload = self.board.copy_value(job, &mut copied);
            let payload = payload.and_then(|(kind, value, list)| {
                let enclosures = buffers::read_list(&self.key, Part::Value, job, list)?;
                adopted = self.desk.adopt(job, &enclosures, &ended.enclosed)?;
                Some((kind, value))
            });
            let _open = buffers::open(&self.desk, adopted);
            report::read_payload(payload, self.settings.share.value_bytes_max)
        })
        .and_then(|outcome| outcome)
    }

    /// Puts a job's number back in stock.
    pub(super) fn put_back(&self, job: usize) {
        self.board.wipe(job);
        self.desk.sweep();
        let mut books = self.lock();
        let seat = &mut books.seats[job];
        seat.serial += 1;
        seat.entry = Entry::Nobody;
        let was_timed = seat.order.timeout.take().is_some();
        books.timed -= usize::from(was_timed);
        books.counts.finished += 1;
        books.stock.push(job);
        if books.room_waiters > 0 {
            drop(books);
            self.notify();
        }
    }
}

/// A job number in the parent's hands; back in stock when dropped, unless the job was started.
pub(super) struct Blank {
    hub: Arc<Hub>,
    pub(super) job: usize,
    /// Shared buffers among the arguments.
    pub(super) enclosed: Vec<Arc<Hold>>,
    is_used: bool,
}

fn invalid(why: String) -> TaskErrorKind {
    TaskErrorKind::Start(io::Error::new(io::ErrorKind::InvalidInput, why))
}

impl Drop for Blank {
    fn drop(&mut self) {
        if !self.is_used {
            self.hub.board.wipe(self.job);
            self.hub.lock().stock.push(self.job);
            self.hub.notify();
        }
    }
}

impl Hub {
    /// Makes whoever waits look again.
    pub(super) fn notify(&self) {
        self.reaper.notify();
        self.board.bell().ring(|| self.ring());
    }

    /// Whether a job is still to be settled.
    fn awaits(&self, job: usize, serial: u64) -> bool {
        let books = self.lock();
        let seat = &books.seats[job];
        seat.serial == serial && matches!(seat.entry, Entry::Handle(_))
    }
}

/// What a pool's ledgers and handles wait on.
#[derive(Debug)]
pub(super) struct PoolEvent {
    pub(super) hub: Arc<Hub>,
    /// One job, whose value a handle waits for; else any.
    pub(super) job: Option<(usize, u64)>,
}

impl Event for PoolEvent {
    fn key(&self) -> u64 {
        self.hub.reaper.key()
    }

    fn wait(&self, key: u64, until: Option<Instant>) {
        self.hub.check_owner();
        match self.job {
            Some((job, serial)) if self.hub.awaits(job, serial) => {
                let is_taken = || !self.hub.awaits(job, serial);
                if self.hub.wait_done(job, until, is_taken) {
                    self.hub.collect(job);
                }
            }
            _ => self.hub.wait_for_any(key, until),
        }
    }

    fn notify(&self) {
        // A copy of the lock in a child may be held for ever, and nobody there waits for the parent's jobs.
        if !self.hub.reaper.owner.is_here() {
            return;
        }
        if self.job.is_none() && self.hub.is_cancelled() {
            self.hub.cancel_jobs();
        }
        self.hub.notify();
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Awaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaits").finish_non_exhaustive()
    }
}
