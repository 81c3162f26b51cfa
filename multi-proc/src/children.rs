//! What all groups of processes have, however their processes are made: books, and a reaper of the children in them.

use crate::reap::Reaper;
use crate::task::check_owner;
use multi_core::ledger::Ledger;
use multi_core::{CancelToken, GroupError, Progress, Result, Tasks, Usage, WaitTimeoutError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The children of one group. Dropped, it ends and collects them, unless they were detached.
pub(crate) struct Children {
    pub(crate) ledger: Ledger,
    pub(crate) reaper: Arc<Reaper>,
    /// Let go of by `detach`.
    is_detached: bool,
}

impl Children {
    pub(crate) fn new(ledger: Ledger, reaper: Arc<Reaper>) -> Self {
        Self {
            ledger,
            reaper,
            is_detached: false,
        }
    }

    /// What those that have ended used.
    pub(crate) fn usage(&self) -> Usage {
        self.reaper.usage()
    }

    /// Lets them, and those that builders and spawners start from now on, run on by themselves: a thread collects them.
    pub(crate) fn detach(mut self) {
        self.is_detached = true;
        if !self.reaper.owner.is_here() {
            return;
        }
        self.ledger.detach();
        self.reaper.detach();
    }
}

impl Tasks for Children {
    fn wait(&mut self) -> Result<(), GroupError> {
        check_owner(&self.reaper);
        self.ledger.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        check_owner(&self.reaper);
        self.ledger.wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.ledger.cancel_token()
    }

    fn progress(&self) -> Progress {
        if self.reaper.owner.is_here() {
            self.reaper.sweep();
        }
        self.ledger.progress()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        // In a forked child there is nothing to end and nobody to collect, and the parent's locks are not to be touched.
        if self.is_detached || !self.reaper.owner.is_here() {
            return;
        }
        self.reaper.abandon();
        self.ledger.abandon();
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ledger.fmt(f)
    }
}
