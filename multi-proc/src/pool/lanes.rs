//! The channels that tell workers of jobs, one for each priority.
//!
//! A message is the number of a job: a hint that it may be there to take. What a job is says its word. Workers sleep on the usual lane
//! alone; a job sent on another one is followed by a nudge there, a number that is no job's.

use crate::slot::Reach;
use multi_chan::{Builder, Delivery, Descriptors, Error, Receiver, Sender};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Which jobs are taken first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After all others.
    Low,
    /// What a job has that nothing is said of.
    #[default]
    Usual,
    /// Before all others. Jobs that run are not interrupted.
    High,
}

impl Priority {
    pub(super) const ALL: [Self; 3] = [Self::High, Self::Usual, Self::Low];
}

const NUDGE: u32 = u32::MAX;

pub(super) struct Lanes {
    senders: [Sender<u32>; 3],
    ends: Ends,
    /// For workers that are not forked from this process.
    passing: Option<[Descriptors; 3]>,
}

/// The workers' ends of them.
pub(super) struct Ends([Receiver<u32>; 3]);

/// The lane is full, which it is for a moment at most.
#[derive(Debug)]
pub(super) struct Full;

impl Lanes {
    /// Lanes that have room for the messages of so many jobs, old messages that workers died with, and nudges.
    pub(super) fn new(workers: usize, jobs: usize, reach: Reach) -> Result<Self, Error> {
        let is_passed = reach == Reach::Passed;
        let lane = || {
            let builder = Builder::new()
                .capacity(2 * (jobs + workers))
                .delivery(Delivery::AtLeastOnce);
            if is_passed {
                builder.in_memfd().build::<u32>()
            } else {
                builder.build::<u32>()
            }
        };
        let [low, usual, high] = [lane()?, lane()?, lane()?];
        let senders = [low.0, usual.0, high.0];
        let descriptors = |priority: Priority| senders[priority as usize].descriptors();
        let [low_fds, usual_fds, high_fds] =
            [Priority::Low, Priority::Usual, Priority::High].map(descriptors);
        Ok(Self {
            passing: if is_passed {
                Some([low_fds?, usual_fds?, high_fds?])
            } else {
                None
            },
            senders,
            ends: Ends([low.1, usual.1, high.1]),
        })
    }

    /// What a worker that is not forked from this process makes its ends of. None where there are to be no such workers.
    pub(super) fn passing(&self) -> Option<impl Iterator<Item = BorrowedFd<'_>>> {
        let lanes = self.passing.as_ref()?;
        Some(lanes.iter().flat_map(Descriptors::as_fds))
    }

    /// For a worker.
    pub(super) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Tells a worker of a job.
    pub(super) fn send(&self, priority: Priority, job: usize) -> Result<(), Full> {
        let job = u32::try_from(job).map_err(|_| Full)?;
        self.senders[priority as usize]
            .try_send(job)
            .map_err(|_| Full)?;
        if priority != Priority::Usual {
            self.nudge();
        }
        Ok(())
    }

    /// Has a worker that sleeps look at every lane. Where the usual one is full nobody sleeps.
    pub(super) fn nudge(&self) {
        let _full = self.senders[Priority::Usual as usize].try_send(NUDGE);
    }

    /// No more jobs: workers leave when they have taken what there is.
    pub(super) fn close(&self) {
        for sender in &self.senders {
            sender.close();
        }
    }
}

impl Ends {
    /// For a worker that was given what [`Lanes::passing`] says.
    pub(super) fn attach([a, b, c, d, e, f]: [OwnedFd; 6]) -> Result<Self, Error> {
        let end = |fds| Receiver::attach(Descriptors::from_fds(fds));
        Ok(Self([end([a, b])?, end([c, d])?, end([e, f])?]))
    }

    pub(super) fn receiver(&self, priority: Priority) -> &Receiver<u32> {
        &self.0[priority as usize]
    }
}
