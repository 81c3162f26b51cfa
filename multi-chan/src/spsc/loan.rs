//! Values written and read where they lie: the slot at a side's cursor.
//!
//! There is nothing to claim and nothing to undo: the slot is the side's until its position is stored.

#![expect(unsafe_code, reason = "lends the value at the cursor as a reference")]

use crate::error::{SendError, Why};
use crate::plain::Plain;
use crate::spsc::receiver::Receiver;
use crate::spsc::sender::Sender;
use std::fmt;
use std::ops::{Deref, DerefMut};

const INHERITED: &str = "a slot lent before a fork belongs to the parent: ask for one in the child";

/// A slot to write a message in, where the receiver will read it; sent by [`commit`](Self::commit).
///
/// Made by [`Sender::reserve`]. It dereferences to the value in shared memory. What the value is at first is **not
/// specified**: zeros, or bytes of an older message. Dropped without `commit`, or with its process, it sends nothing.
///
/// # Fork
/// The slot stays the parent's. In a child, dropping the copy does nothing, `commit` fails, and
/// dereferencing panics. A reference got before the fork must not be used in the child.
#[must_use = "a slot dropped without `commit` sends nothing"]
pub struct SlotMut<'a, T: Plain> {
    sender: &'a mut Sender<T>,
}

impl<'a, T: Plain> SlotMut<'a, T> {
    /// The slot at the cursor, which is free.
    pub(crate) fn new(sender: &'a mut Sender<T>) -> SlotMut<'a, T> {
        SlotMut { sender }
    }

    /// Sends the message.
    ///
    /// # Errors
    /// [`SendError::is_closed`] if the receiver has closed the channel and found the end of it meanwhile,
    /// [`SendError::is_inherited`] in a forked child.
    pub fn commit(self) -> Result<(), SendError<()>> {
        let done = if self.sender.end.is_mine() {
            self.sender.commit()
        } else {
            Err(Why::Inherited)
        };
        done.map_err(|why| SendError::new((), why))
    }
}

impl<T: Plain> Deref for SlotMut<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        let end = &self.sender.end;
        assert!(end.is_mine(), "{INHERITED}");
        // SAFETY: the slot at the cursor is free (`new`), so the receiver keeps off it until it is published, and the one
        // sender is borrowed; the pointer is aligned and inside the mapping; any bytes are a valid `T: Plain`.
        unsafe { end.lane.place(&end.cursor).as_ref() }
    }
}

impl<T: Plain> DerefMut for SlotMut<'_, T> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        let end = &self.sender.end;
        assert!(end.is_mine(), "{INHERITED}");
        // SAFETY: as in `deref`, and this handle is borrowed mutably.
        unsafe { end.lane.place(&end.cursor).as_mut() }
    }
}

/// A message, read where it lies; received when this is dropped.
///
/// Made by [`Receiver::recv_ref`]. Until it is dropped the message is still in the channel: a process that dies with
/// it, or forgets it (`mem::forget`), leaves it to be received again.
///
/// # Fork
/// The message stays the parent's. In a child, dropping the copy does nothing, and dereferencing panics.
/// A reference got before the fork must not be used in the child.
#[must_use = "a message is received when its handle is dropped"]
pub struct SlotRef<'a, T: Plain> {
    receiver: &'a mut Receiver<T>,
}

impl<'a, T: Plain> SlotRef<'a, T> {
    /// The slot at the cursor, which holds a value.
    pub(crate) fn new(receiver: &'a mut Receiver<T>) -> SlotRef<'a, T> {
        SlotRef { receiver }
    }
}

impl<T: Plain> Deref for SlotRef<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        let end = &self.receiver.end;
        assert!(end.is_mine(), "{INHERITED}");
        // SAFETY: the slot at the cursor is published (`new`), so the sender keeps off it until it is given back, and the one
        // receiver is borrowed; the pointer is aligned and inside the mapping; any bytes are a valid `T: Plain`.
        unsafe { end.lane.place(&end.cursor).as_ref() }
    }
}

impl<T: Plain> Drop for SlotRef<'_, T> {
    fn drop(&mut self) {
        if self.receiver.end.is_mine() {
            self.receiver.release();
        }
    }
}

impl<T: Plain> fmt::Debug for SlotMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotMut").finish_non_exhaustive()
    }
}

impl<T: Plain> fmt::Debug for SlotRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotRef").finish_non_exhaustive()
    }
}
