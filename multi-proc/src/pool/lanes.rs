//! The channels that tell workers of jobs, one for each priority.
//!
//! A message is the number of a job: a hint that it may be there to take. What a job is says its word. Workers sleep on the usual lane
//! alone; a job sent on another one is followed by a nudge there, a number that is no job's.

use multi_chan::{Builder, Delivery, Error, Receiver, Sender};

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
}

/// The workers' ends of them.
pub(super) struct Ends([Receiver<u32>; 3]);

/// The lane is full, which it is for a moment at most.
#[derive(Debug)]
pub(super) struct Full;

impl Lanes {
    /// Lanes that have room for the messages of so many jobs, old messages that workers died with, and nudges.
    pub(super) fn new(workers: usize, jobs: usize) -> Result<Self, Error> {
        let lane = || {
            Builder::new()
                .capacity(2 * (jobs + workers))
                .delivery(Delivery::AtLeastOnce)
                .build::<u32>()
        };
        let [low, usual, high] = [lane()?, lane()?, lane()?];
        Ok(Self {
            senders: [low.0, usual.0, high.0],
            ends: Ends([low.1, usual.1, high.1]),
        })
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
    pub(super) fn receiver(&self, priority: Priority) -> &Receiver<u32> {
        &self.0[priority as usize]
    }
}
