//! What survivors do about the dead: undo every claim they left behind.

use crate::kill::{self, KillPoint};
use crate::layout::{Slot, Stamp, State, lap_after, row_of};
use crate::plain::Plain;
use crate::ring::Ring;
use crate::sync::{AcqRel, Acquire, Relaxed};

impl<T: Plain> Ring<T> {
    /// Undoes every claim with the row `row`, whose process is dead; returns how many there were.
    ///
    /// May run in several processes at once and die at any step: each claim is undone by one
    /// exchange, and a claim undone twice is undone once. `still_his` says whether the row still
    /// names the dead process: another survivor may have finished and the row have a new owner.
    ///
    /// `settle` sees the index and the stamp of each slot that a dead receiver had, and frees what the value stands for, unless it
    /// is to come again; where messages do, it tells whether this one was acknowledged. It may be called by several
    /// survivors for one slot, and late.
    #[cold]
    pub(crate) fn sweep(
        &self,
        row: u16,
        still_his: impl Fn() -> bool,
        settle: impl Fn(usize, u64) -> bool,
    ) -> usize {
        let mut undone = 0;
        for (index, slot, bits) in self.used_slots() {
            let Some(stamp) = Stamp::read(bits) else {
                continue;
            };
            if row_of(stamp.owner) != row {
                continue;
            }
            let freed = Stamp::new(lap_after(stamp.lap), 0, State::Free);
            let after = match stamp.state {
                State::Busy => Stamp::new(stamp.lap, 0, State::Skip),
                State::Taking if self.comes_again(stamp.lap) => {
                    Stamp::new(stamp.lap, 0, State::Returned)
                }
                State::Taking => freed,
                State::Free | State::Full | State::Skip | State::Sealed | State::Returned => {
                    continue;
                }
            };
            let Some(run_len) = self.run_len(index, stamp) else {
                continue;
            };
            // The stamp was read first. A new owner of the row writes its claims after its name, so if
            // the name is still the dead one's, so was the stamp; and it says which of the row's owners it is, so the
            // exchange below cannot meet a newer claim, not even of the same message in the same lap.
            if !still_his() {
                break;
            }
            let dies = stamp.state == State::Taking && after.state == State::Free;
            let after = match after.state {
                State::Returned if settle(index, bits) => freed,
                _ => after,
            };
            for nth in (1..run_len).rev() {
                undone += usize::from(self.undo_in_run(index + nth, stamp, after, &settle));
            }
            if dies {
                settle(index, bits);
            }
            // AcqRel: stands in for the dead owner's publish or free, which were Release.
            // Relaxed on failure: another survivor did it.
            if slot
                .stamp
                .compare_exchange(bits, after.bits(), AcqRel, Relaxed)
                .is_ok()
            {
                undone += 1;
                kill::reached(KillPoint::Undone);
                if dies {
                    let count = run_len as u64;
                    // Relaxed: a statistic.
                    self.header().gate.0.dropped.fetch_add(count, Relaxed);
                }
            }
        }
        if self.looks_behind() {
            // Even if nothing was undone: the dead process may have given a message back and not yet said so,
            // or another survivor may have died just there.
            self.announce_returned();
        }
        undone
    }

    /// Gives slot `index`, not the first of a run that the dead process claimed as `run`, the stamp `after`; true if another
    /// survivor had not.
    fn undo_in_run(
        &self,
        index: usize,
        run: Stamp,
        after: Stamp,
        settle: impl Fn(usize, u64) -> bool,
    ) -> bool {
        let slot = self.slot(index);
        let full = Stamp::new(run.lap, 0, State::Full).bits();
        let free = Stamp::new(run.lap, 0, State::Free).bits();
        // Acquire: pairs with the dead process's stores, and with the exchange below by another survivor: what
        // we undo after this slot comes after whatever was done to it.
        let bits = slot.stamp.load(Acquire);
        if bits != full && !(run.state == State::Busy && bits == free) {
            return false;
        }
        if run.state == State::Taking && !self.redelivers() {
            settle(index, bits);
        }
        // AcqRel: as in `sweep`. Acquire on failure: another survivor did it; as above.
        let undone = slot
            .stamp
            .compare_exchange(bits, after.bits(), AcqRel, Acquire)
            .is_ok();
        if undone {
            kill::reached(KillPoint::Undone);
        }
        undone
    }

    /// The slots that have ever been claimed, with their stamps; oldest first, as far as the tail is known.
    pub(crate) fn used_slots(&self) -> impl Iterator<Item = (usize, &Slot, u64)> {
        // Acquire: pairs with the Release in `raise`. In a later lap the head may be a lap behind, the tail is not.
        let tail = self.header().tail.0.load(Acquire);
        let lap_mask = (1 << self.geometry().lap_shift) - 1;
        let first_lap = tail <= lap_mask;
        let ring_len = self.geometry().ring_len;
        let start = if first_lap {
            0
        } else {
            (tail & lap_mask) as usize
        };
        // Slots of such a run that are still to come, and one.
        let mut in_run = 0_usize;
        (0..ring_len)
            .map(move |step| {
                let index = (start + step) % ring_len;
                let slot = self.slot(index);
                // Acquire: pairs with the exchanges and stores of whoever had the slot last.
                (index, slot, slot.stamp.load(Acquire))
            })
            // In the first lap slots are claimed in order, so nobody has been at this one or beyond, unless it is in a
            // run that is being written: the rest of a large ring stays untouched memory.
            .take_while(move |&(_, _, bits)| {
                in_run = in_run.saturating_sub(1);
                if let Some(stamp) = Stamp::read(bits).filter(|stamp| stamp.state == State::Busy) {
                    in_run = stamp.run_len();
                }
                !first_lap || bits != 0 || in_run > 0
            })
    }

    /// The stamp of slot `index` as it is now.
    pub(crate) fn stamp_bits(&self, index: usize) -> u64 {
        // Acquire: pairs with the store that published or freed the slot.
        self.slot(index).stamp.load(Acquire)
    }
}
