//! A running child as its group sees it: what it is to be told, and when.

use crate::cancel::SharedWord;
use crate::capture::Capture;
use crate::outcome::Settles;
use crate::slot::Slot;
use crate::terms::Terms;
use crate::{stuck, sys};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    pub(crate) watch: stuck::Watch,
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
        // Somebody else may have collected our child right after the fork, and its number gone to a stranger before the pidfd was
        // opened. A process that cannot be signalled has ended.
        if sys::is_our_child(self.pidfd.as_fd()) {
            drop(sys::pidfd_send_signal(self.pidfd.as_fd(), signal));
        }
    }
}
