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
    lanes: [(Sender<u32>, Receiver<u32>); 3],
}

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
        Ok(Self {
            lanes: [lane()?, lane()?, lane()?],
        })
    }

    pub(super) fn receiver(&self, priority: Priority) -> &Receiver<u32> {
        &self.lanes[priority as usize].1
    }

    /// Tells a worker of a job.
    pub(super) fn send(&self, priority: Priority, job: usize) -> Result<(), Full> {
        let job = u32::try_from(job).map_err(|_| Full)?;
        self.lanes[priority as usize]
            .0
            .try_send(job)
            .map_err(|_| Full)?;
        if priority != Priority::Usual {
            self.nudge();
        }
        Ok(())
    }

    /// Has a worker that sleeps look at every lane. Where the usual one is full nobody sleeps.
    pub(super) fn nudge(&self) {
        let _full = self.lanes[Priority::Usual as usize].0.try_send(NUDGE);
    }

    /// No more jobs: workers leave when they have taken what there is.
    pub(super) fn close(&self) {
        for (sender, _) in &self.lanes {
            sender.close();
        }
    }
}
