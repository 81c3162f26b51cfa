//! Batches: runs of slots, each claimed by one exchange and given away by one store.
//!
//! Why a run is its claimer's alone, and what survivors do about half of one, is in `README.md` (*Runs*).

use crate::layout::Owner;
use crate::plain::Plain;
use crate::ring::{Nothing, Refused, Ring};
use crate::trail::Hint;

impl<T: Plain> Ring<T> {
    /// Puts in as many of `values` as there is room for, in a row.
    pub(crate) fn push_batch(
        &self,
        owner: Owner,
        values: &[T],
        hint: &Hint,
    ) -> Result<usize, Refused> {
        let tail = &self.header().tail.0;
        let limit = values.len().min(self.geometry().ring_len);
        let mut position = hint.get();
        let mut count = 0;
        while count < limit {
            match self.seize_room(owner, position, limit - count) {
                Ok(run) => {
                    self.write(run.first, &values[count]);
                    for nth in 1..run.len {
                        self.write(run.nth(nth), &values[count + nth]);
                        self.show(run.nth(nth));
                    }
                    // Last: until then nobody passes it, whatever the others hold.
                    self.show(run.first);
                    count += run.len;
                    let next = self.geometry().after(position, run.len);
                    if self.geometry().has_milestone(position, run.len) {
                        self.raise(tail, next);
                    }
                    position = next;
                }
                Err(miss) if count == 0 => {
                    position = self.after_miss(tail, hint, position, miss, Refused::Corrupt)?;
                }
                Err(_) => break,
            }
        }
        hint.set(position);
        Ok(count)
    }

    /// Fills the front of `values` with what is there.
    pub(crate) fn pop_batch(
        &self,
        owner: Owner,
        values: &mut [T],
        hint: &Hint,
    ) -> Result<usize, Nothing> {
        let head = &self.header().head.0;
        let limit = values.len().min(self.geometry().ring_len);
        let mut position = hint.get();
        let mut count = 0;
        while count < limit {
            // What comes back comes back one by one.
            let wanted = if self.redelivers() { 1 } else { limit - count };
            match self.seize_value(owner, position, wanted) {
                Ok(run) => {
                    for nth in 0..run.len {
                        self.read_to(run.nth(nth), &mut values[count + nth]);
                    }
                    // From the last to the first: a slot that is free says that those behind it are.
                    for nth in (0..run.len).rev() {
                        self.clear(run.nth(nth));
                    }
                    count += run.len;
                    let next = self.geometry().after(position, run.len);
                    if self.geometry().has_milestone(position, run.len) {
                        self.raise(head, next);
                    }
                    position = next;
                }
                Err(miss) if count == 0 => {
                    position = self.after_miss(head, hint, position, miss, Nothing::Corrupt)?;
                }
                Err(_) => break,
            }
        }
        hint.set(position);
        Ok(count)
    }
}
