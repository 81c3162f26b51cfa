//! Who is gone, and what the dead left half done.

use super::{Core, Sides};
use crate::kill::{self, KillPoint};
use crate::layout::{ENTERED, Owner, ROWS, Row, row_of};
use crate::message::recover;
use crate::robust::Process;
use crate::sync::{AcqRel, Acquire, Relaxed, SeqCst, fence};

impl Core {
    /// True if no live process counts as `side`; says so in the gate's flags too.
    pub(crate) fn is_gone(&self, side: Sides) -> bool {
        if self.flags() & side.gone_flags() != 0 {
            return true;
        }
        if self.scan(side) {
            return false;
        }
        // AcqRel: pairs with the exchange in `enter_as`; see there.
        let before = self.gate().flags.fetch_or(side.gone_flags(), AcqRel);
        // SeqCst: the second look comes after the flag for everybody. Pairs with `enter_as`.
        fence(SeqCst);
        if self.scan(side) {
            // AcqRel: as above.
            self.gate().flags.fetch_and(!side.gone_flags(), AcqRel);
            return false;
        }
        if before & side.gone_flags() == 0 {
            self.wake_everybody();
        }
        true
    }

    /// True if some live process counts as `side`.
    fn scan(&self, side: Sides) -> bool {
        // Relaxed: wiped by a fork or written by this process.
        let me = self.me.load(Relaxed);
        self.taken_rows().any(|(_, row, process)| {
            // Acquire: pairs with the swap in `enter_as` and the store in `leave`: who is seen to be
            // gone, what it sent is seen too.
            Sides(row.sides.load(Acquire)).has(side)
                && (process.bits() == me || self.roll.is_alive(process))
        })
    }

    fn taken_rows(&self) -> impl Iterator<Item = (u16, &Row, Process)> {
        // Acquire: pairs with the Release in `claim_row`.
        let used = (self.gate().rows_used.load(Acquire) as usize).min(ROWS);
        let rows = self.map.rows()[..used].iter().enumerate();
        rows.filter_map(|(index, row)| {
            // Acquire: pairs with the exchange in `claim_row`.
            let process = Process::from_bits(row.process.load(Acquire))?;
            Some((index as u16, row, process))
        })
    }

    /// True if the process that claimed as `owner` is dead.
    pub(crate) fn is_dead(&self, owner: Owner) -> bool {
        // Acquire: as in `taken_rows`.
        let bits = self.map.rows()[usize::from(row_of(owner))]
            .process
            .load(Acquire);
        // Relaxed: as in `scan`.
        let me = self.me.load(Relaxed);
        bits != me && Process::from_bits(bits).is_none_or(|process| !self.roll.is_alive(process))
    }

    /// Undoes what dead processes left half done, and frees their rows; true if there were any.
    #[cold]
    pub(crate) fn bury_dead(&self) -> bool {
        // Relaxed: as in `scan`.
        let me = self.me.load(Relaxed);
        let mut found = false;
        let mut freed = false;
        for (index, row, process) in self.taken_rows() {
            if process.bits() == me || self.roll.is_alive(process) {
                continue;
            }
            found = true;
            self.undo(index, row, process);
            // AcqRel: the sweep comes before the row is free. Pairs with `claim_row`.
            // Relaxed on failure: another survivor freed it.
            freed |= row
                .process
                .compare_exchange(process.bits(), 0, AcqRel, Relaxed)
                .is_ok();
            kill::reached(KillPoint::Buried);
        }
        // By one of us is enough: if that one is killed first, the rest hears of its death.
        if freed {
            self.wake_everybody();
        }
        found
    }

    /// Undoes the claims of a dead process that owned `row`.
    pub(super) fn undo(&self, index: u16, row: &Row, dead: Process) {
        // Acquire: pairs with the Release in `enter_as`. A process that never entered never claimed.
        if row.tenure.load(Acquire) & ENTERED != 0 {
            // Acquire: pairs with the exchange in `claim_row` by a next owner.
            self.undo_claims(index, || row.process.load(Acquire) == dead.bits());
        }
    }

    /// Undoes the claims of a row, in the ring and in the arena behind it.
    pub(super) fn undo_claims(&self, row: u16, still_his: impl Fn() -> bool) {
        self.ring
            .sweep(row, &still_his, |slot, stamp| match &self.arena {
                Some(arena) => recover::settle(&self.ring, arena, slot, stamp),
                None => false,
            });
        if let Some(arena) = &self.arena {
            recover::free_runs_of(&self.ring, arena, row, still_his);
        }
    }

    /// The other processes that hold the channel.
    pub(crate) fn others(&self) -> impl Iterator<Item = Process> {
        let me = self.me();
        self.taken_rows()
            .map(|(_, _, process)| process)
            .filter(move |process| process.bits() != me)
    }
}
