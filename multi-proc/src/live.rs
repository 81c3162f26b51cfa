//! A running child as its group sees it: what it is to be told, and when.

use crate::cancel::SharedWord;
use crate::capture::Capture;
use crate::functions::Zygote;
use crate::outcome::Settles;
use crate::slot::{Slot, Stage};
use crate::sys::Exit;
use crate::terms::Terms;
use crate::{stuck, sys};
use multi_core::Usage;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many times the time after which a child counts as stuck an executed one has to come to its function. 30 s, unless set: executing and
/// linking a program takes a few milliseconds, on a machine with better things to do a hundred times that.
const BEGINS_WITHIN: u32 = 6;

/// A child in the books of its group.
pub(crate) struct Live {
    pub(crate) serial: u64,
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) slot: Slot,
    pub(crate) word: Option<Arc<SharedWord>>,
    pub(crate) task: Box<dyn Settles>,
    pub(crate) terms: Option<Arc<Terms>>,
    pub(crate) capture: Option<Arc<Capture>>,
    pub(crate) expires_at: Option<Instant>,
    /// When its round was first seen to be cancelled.
    pub(crate) cancelled_at: Option<Instant>,
    pub(crate) sent: Sent,
    pub(crate) origin: Origin,
    pub(crate) watch: stuck::Watch,
}

/// Where a child comes from, and so who collects it.
pub(crate) enum Origin {
    /// A copy of this process.
    Forked,
    /// Another execution of the program.
    Executed {
        /// Where it says why it cannot begin.
        line: OwnedFd,
        /// When it is ended if it has not come to its function by then.
        begins_by: Option<Instant>,
        /// That time came.
        is_given_up: bool,
    },
    /// The zygote's child, not ours.
    Zygote(&'static Zygote),
}

impl Origin {
    pub(crate) fn executed(line: OwnedFd, stuck_after: Duration) -> Self {
        let within = stuck_after.checked_mul(BEGINS_WITHIN);
        Self::Executed {
            line,
            begins_by: within.and_then(|within| Instant::now().checked_add(within)),
            is_given_up: false,
        }
    }

    /// Collects a child that has ended. None where somebody else did, or nobody can any more.
    pub(crate) fn reap(&self, pid: u32, pidfd: BorrowedFd<'_>) -> Option<(Exit, Usage)> {
        match self {
            Self::Forked | Self::Executed { .. } => {
                let reaped = sys::reap(pidfd);
                if let Err(error) = &reaped {
                    debug_assert_eq!(
                        error.raw_os_error(),
                        Some(sys::ECHILD),
                        "waitid for child {pid}"
                    );
                }
                reaped.ok()
            }
            Self::Zygote(zygote) => zygote.collect(pid).ok(),
        }
    }
}

/// The signals a child was sent by us.
#[derive(Clone, Copy)]
pub(crate) enum Sent {
    Nothing,
    Term { at: Instant },
    Kill,
}

impl Live {
    /// When the next signal is due, if any. `grace` is the group's.
    pub(crate) fn due(&self, grace: Duration, is_abandoned: bool) -> Option<Instant> {
        let own = self
            .terms
            .as_ref()
            .and_then(|terms| terms.limits.own_grace());
        let grace = own.unwrap_or(grace);
        match self.sent {
            Sent::Nothing => {
                let patience = if is_abandoned { Duration::ZERO } else { grace };
                let cancel = self.cancelled_at.and_then(|at| at.checked_add(patience));
                [self.expires_at, cancel].into_iter().flatten().min()
            }
            Sent::Term { at } => at.checked_add(grace),
            Sent::Kill => None,
        }
    }

    /// When an executed child is to have begun, as long as it has not.
    pub(crate) fn begins_by(&self) -> Option<Instant> {
        match (&self.origin, self.sent) {
            (Origin::Executed { begins_by, .. }, Sent::Nothing)
                if self.slot.stage() == Some(Stage::Forked) =>
            {
                *begins_by
            }
            _ => None,
        }
    }

    /// Ends a child that has not begun in time; it counts as one that ended by itself before that.
    pub(crate) fn give_up(&mut self) {
        if let Origin::Executed {
            begins_by,
            is_given_up,
            ..
        } = &mut self.origin
        {
            *begins_by = None;
            *is_given_up = true;
        }
        if sys::is_our_child(self.pidfd.as_fd()) {
            drop(sys::pidfd_send_signal(self.pidfd.as_fd(), sys::SIGKILL));
        }
    }

    /// Sends the next signal.
    pub(crate) fn press(&mut self, now: Instant) {
        let (signal, sent) = match self.sent {
            Sent::Nothing => {
                let first = self
                    .terms
                    .as_ref()
                    .map_or(sys::SIGTERM, |terms| terms.limits.first_signal());
                (first, Sent::Term { at: now })
            }
            Sent::Term { .. } | Sent::Kill => (sys::SIGKILL, Sent::Kill),
        };
        self.send(signal, sent);
    }

    /// Sends the last signal, whatever was sent before.
    pub(crate) fn kill(&mut self) {
        self.send(sys::SIGKILL, Sent::Kill);
    }

    fn send(&mut self, signal: i32, sent: Sent) {
        self.sent = sent;
        // The zygote opened the pidfd before it could collect its child. Somebody else may have collected our child right after the fork,
        // and its number gone to a stranger before the pidfd was opened. A process that cannot be signalled has ended.
        if matches!(self.origin, Origin::Zygote(_)) || sys::is_our_child(self.pidfd.as_fd()) {
            drop(sys::pidfd_send_signal(self.pidfd.as_fd(), signal));
        }
    }
}
