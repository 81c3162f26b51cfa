//! The two sides of a channel as bits, and a process's place packed with them.

use crate::layout::{OWNER_BITS, OWNER_MASK, Owner, row_of};
use crate::robust::Process;

/// Sides of a channel, as bits of `Row::sides`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sides(pub(super) u32);

impl Sides {
    pub(crate) const NONE: Sides = Sides(0);
    pub(crate) const SENDER: Sides = Sides(1);
    pub(crate) const RECEIVER: Sides = Sides(2);
    pub(crate) const BOTH: Sides = Sides(3);

    pub(super) const fn gone_flags(self) -> u32 {
        self.0 << 1
    }

    pub(super) fn with(self, other: Sides) -> Sides {
        Sides(self.0 | other.0)
    }

    pub(super) fn without(self, other: Sides) -> Sides {
        Sides(self.0 & !other.0)
    }

    pub(super) fn has(self, other: Sides) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `Gate::flags`: no more sends.
pub(crate) const CLOSED: u32 = 1;
/// `Gate::flags`: nobody is left to send.
pub(crate) const NO_SENDERS: u32 = 2;
/// `Gate::flags`: nobody is left to receive.
pub(crate) const NO_RECEIVERS: u32 = 4;

const _: () = assert!(
    Sides::SENDER.gone_flags() == NO_SENDERS && Sides::RECEIVER.gone_flags() == NO_RECEIVERS
);

/// This process's place in a channel, packed so that one load answers "may I use this side?".
///
/// ```text
///   63        32 31  27 26  25 24           0
///  ┌────────────┬──────┬──────┬──────────────┐
///  │ process    │ 0    │ sides │ owner       │   0: not entered
///  └────────────┴──────┴──────┴──────────────┘
/// ```
#[derive(Clone, Copy)]
pub(super) struct Place(pub(super) u64);

impl Place {
    pub(super) fn new(process: Process, sides: Sides, owner: Owner) -> Place {
        Place(u64::from(process.number()) << 32 | u64::from(sides.0) << OWNER_BITS | owner)
    }

    pub(super) fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn sides(self) -> Sides {
        Sides((self.0 >> OWNER_BITS) as u32 & 3)
    }

    pub(super) fn owner(self) -> Owner {
        self.0 & OWNER_MASK
    }

    pub(super) fn row(self) -> u16 {
        row_of(self.owner())
    }
}
