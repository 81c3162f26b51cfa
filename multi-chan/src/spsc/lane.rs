//! The lane: one sender's position, one receiver's, and the values between them. No waiting, no notion of processes.
//!
//! Each side has a cursor in private memory and publishes its position with one plain store. What a store
//! that was not made leaves behind is nothing: a value written and not published is no value, and a value copied out and not
//! freed is still there.

#![expect(
    unsafe_code,
    reason = "slots are plain memory, touched by the side that the positions name"
)]

use crate::kill::{self, KillPoint};
use crate::layout::Header;
use crate::message::copy;
use crate::plain::Plain;
use crate::spsc::layout::{Plan, Slot, USERS_OFFSET, Users};
use crate::sync::{AcqRel, Acquire, Relaxed, Release, store_before_look};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Why nothing went in or came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is no room just now, or no value.
    Nothing,
    /// The closed channel ends here.
    Ended,
    /// The mapping holds what no participant writes.
    Corrupt,
}

/// Where one side is; private memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// Values that this side has published (or freed).
    position: u64,
    /// `position % capacity`.
    index: usize,
    /// Positions before this one are known to be free (or published).
    limit: u64,
}

impl Cursor {
    pub(crate) fn start() -> Cursor {
        Cursor {
            position: 0,
            index: 0,
            limit: 0,
        }
    }
}

/// One process's view of the values.
pub(crate) struct Lane<T> {
    base: NonNull<u8>,
    plan: Plan,
    _values: PhantomData<T>,
}

impl<T> Clone for Lane<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lane<T> {}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

// SAFETY: all shared access goes through atomics and through slots that belong to one side at a time; `T: Plain`
// values are copied in and out, never lent.
unsafe impl<T: Plain> Send for Lane<T> {}

// SAFETY: as for `Send`.
unsafe impl<T: Plain> Sync for Lane<T> {}

impl<T: Plain> Lane<T> {
    /// A view of the channel at `base`.
    ///
    /// # Safety
    /// - `base` points to `plan.map_bytes` bytes, page aligned, readable and writable, that were all zero when the
    ///   first view was made and are touched through views (and the participants' table) alone.
    /// - they stay so for as long as this view or a copy of it is used.
    /// - `plan` was made for `T`.
    pub(crate) unsafe fn new(base: NonNull<u8>, plan: Plan) -> Lane<T> {
        Lane {
            base,
            plan,
            _values: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `new`'s caller promised a mapping that begins with a header; its fields are
        // atomics, for which zero bytes are valid.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    #[inline]
    pub(crate) fn users(&self) -> &Users {
        // SAFETY: inside the mapping, by the plan.
        let users = unsafe { self.base.add(USERS_OFFSET) };
        // SAFETY: aligned by the layout; zero bytes are valid atomics.
        unsafe { users.cast::<Users>().as_ref() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.plan.capacity
    }

    /// Where the sending side stands, as its last user left it.
    pub(crate) fn sender_cursor(&self) -> Cursor {
        // Acquire: pairs with the Release store in `publish` by the side's last user.
        let position = self.header().tail.0.load(Acquire);
        self.cursor_at(position)
    }

    /// Where the receiving side stands, as its last user left it.
    pub(crate) fn receiver_cursor(&self) -> Cursor {
        // Acquire: pairs with the Release store in `free` by the side's last user.
        let position = self.header().head.0.load(Acquire);
        self.cursor_at(position)
    }

    fn cursor_at(&self, position: u64) -> Cursor {
        Cursor {
            position,
            index: (position % self.plan.capacity as u64) as usize,
            limit: position,
        }
    }

    /// Puts `value` in and publishes it.
    #[inline]
    pub(crate) fn push(&self, cursor: &mut Cursor, value: &T) -> Result<(), Stop> {
        self.room(cursor)?;
        self.write(cursor.index, value);
        self.commit(cursor);
        Ok(())
    }

    /// Makes sure that the slot at the sender's cursor is free.
    #[inline]
    pub(crate) fn room(&self, cursor: &mut Cursor) -> Result<(), Stop> {
        if cursor.position == cursor.limit {
            self.find_room(cursor)?;
        }
        Ok(())
    }

    /// Publishes what has been written at the sender's cursor.
    #[inline]
    pub(crate) fn commit(&self, cursor: &mut Cursor) {
        kill::reached(KillPoint::Written);
        self.step(cursor);
        self.publish(cursor);
    }

    /// Puts in as many of `values` as there is room for and publishes them at once.
    pub(crate) fn push_batch(&self, cursor: &mut Cursor, values: &[T]) -> Result<usize, Stop> {
        // However much was known to be free: the more the better.
        self.find_room(cursor)?;
        let room = cursor.limit.wrapping_sub(cursor.position) as usize;
        let count = room.min(values.len());
        for value in &values[..count] {
            self.write(cursor.index, value);
            kill::reached(KillPoint::Written);
            self.step(cursor);
        }
        self.publish(cursor);
        Ok(count)
    }

    /// Copies the next value out and gives its slot back.
    #[inline]
    pub(crate) fn pop(&self, cursor: &mut Cursor) -> Result<T, Stop> {
        self.value(cursor)?;
        let value = self.read(cursor.index);
        self.release(cursor);
        Ok(value)
    }

    /// Makes sure that there is a value at the receiver's cursor.
    #[inline]
    pub(crate) fn value(&self, cursor: &mut Cursor) -> Result<(), Stop> {
        if cursor.position == cursor.limit {
            self.find_values(cursor)?;
        }
        Ok(())
    }

    /// Gives back the slot at the receiver's cursor.
    #[inline]
    pub(crate) fn release(&self, cursor: &mut Cursor) {
        kill::reached(KillPoint::Copied);
        self.step(cursor);
        self.free(cursor);
    }

    /// The value at the cursor, where it lies.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn place(&self, cursor: &Cursor) -> NonNull<T> {
        self.at(cursor.index).cast()
    }

    /// Fills the front of `values` with what is there and gives the slots back at once.
    pub(crate) fn pop_batch(&self, cursor: &mut Cursor, values: &mut [T]) -> Result<usize, Stop> {
        self.find_values(cursor)?;
        let there = cursor.limit.wrapping_sub(cursor.position) as usize;
        let count = there.min(values.len());
        for value in &mut values[..count] {
            *value = self.read(cursor.index);
            kill::reached(KillPoint::Copied);
            self.step(cursor);
        }
        self.free(cursor);
        Ok(count)
    }

    /// Says what becomes of the last `count` values, which were published when the channel may have been closed already.
    ///
    /// Either the end is set behind them, by this or by a receiver that has seen them; or a receiver has set it before them, and they
    /// are taken back.
    #[cold]
    pub(crate) fn settle(&self, cursor: &mut Cursor, count: usize) -> Result<(), Stop> {
        let first = cursor.position.wrapping_sub(count as u64);
        match self.set_end(cursor) {
            Ok(()) => Ok(()),
            Err(end) if end == mark(first) => {
                *cursor = self.cursor_at(first);
                self.publish(cursor);
                Err(Stop::Ended)
            }
            Err(_) => Err(Stop::Corrupt),
        }
    }

    /// Ends the closed channel where the cursor is. An error is where somebody else ended it.
    pub(crate) fn set_end(&self, cursor: &Cursor) -> Result<(), u64> {
        let here = mark(cursor.position);
        let end = &self.users().end;
        // AcqRel: as Release, whoever finds the end finds all that was published before it; as Acquire, so do we.
        // Pairs with itself and with the load in `find_values`. Acquire on failure: the same.
        match end.compare_exchange(0, here, AcqRel, Acquire) {
            Ok(_) => {
                kill::reached(KillPoint::Ended);
                Ok(())
            }
            Err(end) if end == here => Ok(()),
            Err(end) => Err(end),
        }
    }

    /// Values in the channel; out of date as soon as it is known.
    pub(crate) fn len(&self) -> usize {
        // Acquire: the head is not newer than the tail read after it. Pairs with the store in `free`.
        let head = self.header().head.0.load(Acquire);
        // Relaxed: a number for the eye.
        let tail = match self.users().end.load(Relaxed) {
            // Relaxed: as above.
            0 => self.header().tail.0.load(Relaxed),
            end => end - 1,
        };
        (tail.saturating_sub(head) as usize).min(self.plan.capacity)
    }

    #[cold]
    fn find_room(&self, cursor: &mut Cursor) -> Result<(), Stop> {
        // Acquire: pairs with the Release store in `free`: the receiver has done with the slots before it.
        let head = self.header().head.0.load(Acquire);
        let used = cursor.position.wrapping_sub(head);
        if used > self.plan.capacity as u64 {
            return Err(Stop::Corrupt);
        }
        cursor.limit = head.wrapping_add(self.plan.capacity as u64);
        if cursor.position == cursor.limit {
            return Err(Stop::Nothing);
        }
        Ok(())
    }

    #[cold]
    fn find_values(&self, cursor: &mut Cursor) -> Result<(), Stop> {
        // Acquire: pairs with the exchange in `set_end`: what was published before the end was set is seen below.
        let end = self.users().end.load(Acquire);
        if end == mark(cursor.position) {
            return Err(Stop::Ended);
        }
        // Acquire: pairs with the Release store in `publish`: the values before it are whole.
        let tail = self.header().tail.0.load(Acquire);
        if tail.wrapping_sub(cursor.position) > self.plan.capacity as u64 {
            return Err(Stop::Corrupt);
        }
        cursor.limit = tail;
        if cursor.position != cursor.limit {
            return Ok(());
        }
        // An end that lies elsewhere lies ahead, behind values that are there.
        Err(if end == 0 {
            Stop::Nothing
        } else {
            Stop::Corrupt
        })
    }

    #[inline]
    fn step(&self, cursor: &mut Cursor) {
        cursor.position = cursor.position.wrapping_add(1);
        cursor.index += 1;
        if cursor.index == self.plan.capacity {
            cursor.index = 0;
        }
    }

    #[inline]
    fn publish(&self, cursor: &Cursor) {
        // Release: publishes the values. Pairs with the Acquire load in `find_values`.
        self.header().tail.0.store(cursor.position, Release);
        store_before_look();
        kill::reached(KillPoint::Published);
    }

    #[inline]
    fn free(&self, cursor: &Cursor) {
        // Release: our reading is done. Pairs with the Acquire load in `find_room`.
        self.header().head.0.store(cursor.position, Release);
        store_before_look();
        kill::reached(KillPoint::Freed);
    }

    #[inline]
    fn write(&self, index: usize, value: &T) {
        #[cfg(loom)]
        self.slot(index).watch.with_mut(|_| ());
        let place = self.at(index).cast();
        // SAFETY: the receiver has freed this slot (`find_room`) and does not touch it before it is published; there
        // is one sender, whose `&mut` handle we are called through. The plan aligns slots for such copies.
        unsafe { copy::write_value(place, value) };
    }

    #[inline]
    fn read(&self, index: usize) -> T {
        #[cfg(loom)]
        self.slot(index).watch.with(|_| ());
        let place = self.at(index).cast();
        // SAFETY: the sender has published this slot (`find_values`) and does not touch it before it is freed. The plan
        // aligns slots for such copies.
        unsafe { copy::read_value(place) }
    }

    /// Where slot `index` lies, its whole stride.
    #[inline]
    fn at(&self, index: usize) -> NonNull<Slot<T>> {
        debug_assert!(index < self.plan.capacity);
        let offset = self.plan.slots_offset + index * self.plan.stride;
        // SAFETY: `index` is below the capacity (`step`, `cursor_at`), so the offset lies inside the mapping.
        unsafe { self.base.add(offset) }.cast()
    }

    #[cfg(loom)]
    fn slot(&self, index: usize) -> &Slot<T> {
        // SAFETY: aligned by the plan, and made of loom's own parts by the model.
        unsafe { self.at(index).as_ref() }
    }
}

/// How the end at `position` is written.
fn mark(position: u64) -> u64 {
    position.wrapping_add(1)
}
