//! One side of a channel with one sender and one receiver: whose it is, and what both sides share.

use crate::error::Why;
use crate::fork;
use crate::kill::{self, KillPoint};
use crate::pass::{Arrived, Descriptors, Kind};
use crate::patience::{Luck, Patience, Wait};
use crate::plain::Plain;
use crate::robust::ROLL_BYTES;
use crate::spsc::lane::{Cursor, Lane};
use crate::spsc::layout::Plan;
use crate::sync::{AcqRel, Acquire, AtomicU64, Relaxed, Release};
use crate::table::{CLOSED, Core, Sides};
use crate::{Builder, Error};
use std::fmt;
use std::sync::Arc;

/// A handle on one side.
pub(crate) struct End<T: Plain> {
    pub(crate) lane: Lane<T>,
    pub(crate) cursor: Cursor,
    pub(crate) luck: Luck,
    /// The process, as bits, in which this handle has taken its side; a forked child's copy still names the
    /// parent.
    user: u64,
    side: Sides,
    pub(crate) core: Arc<Core>,
}

/// No process has this number.
const NOBODY: u64 = u64::MAX;

impl<T: Plain> End<T> {
    /// Makes a channel and its two ends.
    pub(crate) fn pair(options: &Builder) -> Result<(End<T>, End<T>), Error> {
        let plan = Plan::new::<T>(options.capacity)?;
        let label = options.label::<T>(Kind::Spsc);
        let core = fork::adopt(&plan.geometry(), label, options.pollable)?;
        if options.prefault {
            core.prefault().map_err(Error::memory)?;
        }
        Ok((
            End::new(core.clone(), plan, Sides::SENDER),
            End::new(core, plan, Sides::RECEIVER),
        ))
    }

    /// Makes an end of a channel that came from elsewhere.
    pub(crate) fn attach(descriptors: Descriptors, side: Sides) -> Result<End<T>, Error> {
        let arrived = Arrived::check::<T>(descriptors, Kind::Spsc, ROLL_BYTES)?;
        let plan = Plan::new::<T>(arrived.options.capacity)?;
        let core = fork::join(&plan.geometry(), arrived, side)?;
        Ok(End::new(core, plan, side))
    }

    fn new(core: Arc<Core>, plan: Plan, side: Sides) -> End<T> {
        End {
            lane: core.map().lane::<T>(plan),
            cursor: Cursor::start(),
            luck: Luck::default(),
            user: NOBODY,
            side,
            core,
        }
    }

    /// Makes sure that this process is the one that uses this side.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), Why> {
        if self.user == self.core.me() {
            Ok(())
        } else {
            self.take_side()
        }
    }

    /// True if this process is the one that uses this side.
    pub(crate) fn is_mine(&self) -> bool {
        self.user == self.core.me()
    }

    #[cold]
    fn take_side(&mut self) -> Result<(), Why> {
        let me = fork::with_process(self.core.home(), |process| process.bits())
            .map_err(|_| Why::NotEntered)?;
        let user = self.user_word();
        // Acquire: pairs with the Release in `drop`, or the kernel's mark on a dead user's word (`lives`): its
        // position is the last it wrote.
        let last = user.load(Acquire);
        // Also if it is this very process: then another handle has the side, made by another `attach`.
        if last == me || last != 0 && self.core.lives(last) {
            return Err(Why::Occupied);
        }
        // AcqRel: as Acquire, the load above; as Release, whoever finds us here finds what we saw.
        // Relaxed on failure: somebody else was faster, and lives.
        user.compare_exchange(last, me, AcqRel, Relaxed)
            .map_err(|_| Why::Occupied)?;
        kill::reached(KillPoint::Owned);
        if let Err(why) = self.core.enter(self.side) {
            // Release: as in `drop`.
            user.store(0, Release);
            return Err(why);
        }
        self.cursor = if self.side == Sides::SENDER {
            self.lane.sender_cursor()
        } else {
            self.lane.receiver_cursor()
        };
        self.user = me;
        Ok(())
    }

    fn user_word(&self) -> &AtomicU64 {
        let users = self.lane.users();
        if self.side == Sides::SENDER {
            &users.sender
        } else {
            &users.receiver
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.core.flags() & CLOSED != 0
    }
}

/// What both ends of a channel have alike.
macro_rules! both {
    () => {
        /// The channel's descriptors, to be passed to another program.
        ///
        /// # Errors
        /// [`Error::is_not_passable`](crate::Error::is_not_passable) if it was not made
        /// [`in_memfd`](crate::Builder::in_memfd), [`Error::is_memory`](crate::Error::is_memory) if no descriptor is to be had.
        pub fn descriptors(&self) -> Result<crate::Descriptors, crate::Error> {
            self.end.core.descriptors()
        }

        /// True once somebody has closed the channel; there may still be values in it.
        pub fn is_closed(&self) -> bool {
            self.end.is_closed()
        }

        /// Values in the channel at this moment.
        pub fn len(&self) -> usize {
            self.end.lane.len()
        }

        /// True if the channel holds no value at this moment.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// The capacity asked for.
        pub fn capacity(&self) -> usize {
            self.end.lane.capacity()
        }
    };
}

pub(super) use both;

/// A wait whose posters make no fence.
pub(crate) fn wait<'a>(core: &Core, luck: &'a Luck, patience: Patience) -> Wait<'a> {
    Wait::new(core, luck, patience).fenceless()
}

impl<T: Plain> Drop for End<T> {
    fn drop(&mut self) {
        if self.is_mine() {
            // Release: our position is written. Pairs with the Acquire load in `take_side`.
            self.user_word().store(0, Release);
            kill::reached(KillPoint::Disowned);
        }
        if self.core.remove_handle(self.side) {
            fork::leave(&self.core, self.side);
        }
    }
}

impl<T: Plain> fmt::Debug for End<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End")
            .field("len", &self.lane.len())
            .field("capacity", &self.lane.capacity())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
