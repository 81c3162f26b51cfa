//! What the parent alone knows of its jobs and of its workers: under one lock, each entry for a moment.

use super::buffers::Hold;
use super::hub::Hub;
use super::lanes::Priority;
use multi_core::TaskErrorKind;
use multi_core::clock::Alarm;
use multi_core::ledger::Ticket;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The parent's books.
pub(super) struct Books {
    /// Job numbers in stock; the last one given back is the next one used, since its pages are warm.
    pub(super) stock: Vec<usize>,
    pub(super) seats: Vec<Seat>,
    pub(super) crew: Vec<Hand>,
    /// Jobs whose message found its lane full.
    pub(super) unsent: Vec<usize>,
    /// Threads that wait for a number in stock: one, or all of them. Whoever puts one there tells them.
    pub(super) room_waiters: usize,
    /// Jobs with a time limit.
    pub(super) timed: usize,
    pub(super) alarm: Option<(Instant, Alarm)>,
    /// No more jobs are taken.
    pub(super) is_closed: bool,
    /// Nobody is hired any more.
    pub(super) is_ending: bool,
    /// Workers in a row that did not come to their first job.
    pub(super) false_starts: u32,
    /// Those among them that nobody else killed.
    pub(super) own_false_starts: u32,
    /// Not before this is the next one tried.
    pub(super) hire_at: Option<Instant>,
    pub(super) last_false_start: Option<TaskErrorKind>,
    pub(super) counts: Counts,
}

/// What happened since the pool was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) started: u64,
    pub(super) finished: u64,
    pub(super) retried: u64,
    pub(super) deaths: u64,
    pub(super) recycled: u64,
}

/// One job.
#[derive(Default)]
pub(super) struct Seat {
    /// Tells the jobs apart that were given this number.
    pub(super) serial: u64,
    pub(super) entry: Entry,
    pub(super) order: Terms,
    /// Shared buffers among its arguments: for whoever does it, once or again.
    pub(super) enclosed: Vec<Arc<Hold>>,
    /// Workers that died in it.
    pub(super) deaths: u32,
    /// It is to end, for this reason, by the death of its worker.
    pub(super) doom: Option<Doom>,
    /// How it ended, where not by a value.
    pub(super) verdict: Option<TaskErrorKind>,
}

/// What was asked for a job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) priority: Priority,
    pub(super) attempts: u32,
    pub(super) timeout: Option<Duration>,
}

/// Who waits for a job.
#[derive(Default)]
pub(super) enum Entry {
    #[default]
    Nobody,
    /// The thread that asked for it waits in `call` and collects it itself.
    Caller,
    /// Whoever finds it done settles it.
    Handle(Box<dyn Awaits>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doom {
    TimedOut,
    Cancelled,
}

/// The seat of a job's outcome. Called without the lock.
pub(super) trait Awaits: Send {
    fn settle(self: Box<Self>, hub: &Hub, job: usize, ended: Ended);
}

/// How a job ended, beside the value that may lie in its place.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) verdict: Option<TaskErrorKind>,
    pub(super) attempts: u32,
    pub(super) pid: Option<u32>,
    pub(super) began: Option<Instant>,
    /// Shared buffers among its arguments, which its value may have, too: not to be let go before that is read.
    pub(super) enclosed: Vec<Arc<Hold>>,
}

/// One place in the crew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    Vacant,
    /// Somebody is about to start one.
    Hiring,
    At {
        pid: u32,
    },
}

impl Books {
    pub(super) fn new(workers: usize, jobs: usize) -> Self {
        Self {
            stock: (0..jobs).rev().collect(),
            seats: (0..jobs).map(|_| Seat::default()).collect(),
            crew: vec![Hand::Vacant; workers],
            unsent: Vec::new(),
            room_waiters: 0,
            timed: 0,
            alarm: None,
            is_closed: false,
            is_ending: false,
            false_starts: 0,
            own_false_starts: 0,
            hire_at: None,
            last_false_start: None,
            counts: Counts::default(),
        }
    }

    /// Whether no job is left, not even one that was settled a moment ago and whose number is not back in stock.
    pub(super) fn is_idle(&self) -> bool {
        self.stock.len() == self.seats.len()
    }

    pub(super) fn has_vacancy(&self) -> bool {
        !self.is_ending && self.crew.contains(&Hand::Vacant)
    }

    /// Workers that exist.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.crew.iter().filter_map(|hand| match hand {
            Hand::At { pid } => Some(*pid),
            Hand::Vacant | Hand::Hiring => None,
        })
    }
}

impl Doom {
    pub(super) fn verdict(self) -> TaskErrorKind {
        match self {
            Self::TimedOut => TaskErrorKind::TimedOut,
            Self::Cancelled => TaskErrorKind::Cancelled,
        }
    }
}

impl Ended {
    /// Tells a failure, or a time limit, what is known of the job's end.
    pub(super) fn tell(&self, ticket: &mut Ticket, is_failure: bool) {
        if !is_failure && ticket.timeout().is_none() {
            return;
        }
        if self.began.is_some() || ticket.timeout().is_some() {
            // A job that never began has used up none of its time.
            ticket.began_at(self.began.unwrap_or_else(Instant::now));
        }
        if let Some(pid) = self.pid {
            ticket.set_pid(pid);
        }
        if self.attempts > 1 {
            ticket.set_attempts(self.attempts);
        }
    }
}

impl Seat {
    /// How it ended, as far as the parent knows.
    pub(super) fn take_ended(&mut self, run: Option<(u32, Instant)>) -> Ended {
        let verdict = self.verdict.take();
        Ended {
            // Those whose workers died in it and, where that is not how it ended, the last one.
            attempts: self.deaths + u32::from(verdict.is_none()),
            verdict,
            pid: run.map(|(pid, _)| pid),
            began: run.map(|(_, began)| began),
            enclosed: std::mem::take(&mut self.enclosed),
        }
    }
}
