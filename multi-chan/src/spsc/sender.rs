//! The one sender.

use crate::Error;
use crate::error::{SendBatchError, SendError, SendTimeoutError, TrySendError, Why};
use crate::pass::Descriptors;
use crate::patience::{Patience, Step};
use crate::plain::Plain;
use crate::select::Look;
use crate::spsc::end::{self, End};
use crate::spsc::lane::Stop;
use crate::spsc::loan::SlotMut;
use crate::table::{CLOSED, NO_RECEIVERS, Sides};
use std::fmt;
use std::time::Duration;

/// The sending end of a channel with one sender; used by one process at a time.
///
/// There is no second sender to be had:
///
/// ```compile_fail,E0599
/// let (tx, rx) = multi_chan::spsc::channel::<u8>(1)?;
/// let other = tx.clone();
/// # Ok::<(), multi_chan::Error>(())
/// ```
///
/// and no two threads can send through this one:
///
/// ```compile_fail,E0499
/// let (mut tx, rx) = multi_chan::spsc::channel::<u8>(1)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| tx.send(1));
///     scope.spawn(|| tx.send(2));
/// });
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub struct Sender<T: Plain> {
    pub(crate) end: End<T>,
}

impl<T: Plain> Sender<T> {
    /// Sends `value`, waiting for room.
    ///
    /// # Errors
    /// Gives the value back if the channel is closed ([`SendError::is_closed`]), if no receiver is left
    /// ([`SendError::is_disconnected`]; one that was killed is noticed when the channel is full, at the latest), or
    /// if another process uses this side ([`SendError::is_occupied`]).
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        self.put(&value, Patience::Endless)
            .map_err(|why| SendError::new(value, why))
    }

    /// Sends `value` if there is room just now.
    ///
    /// # Errors
    /// Gives the value back as [`send`](Self::send) does, or with [`TrySendError::is_full`].
    #[inline]
    pub fn try_send(&mut self, value: T) -> Result<(), TrySendError<T>> {
        self.put(&value, Patience::None)
            .map_err(|why| TrySendError::new(value, why))
    }

    /// Sends `value`, waiting for room no longer than `limit`.
    ///
    /// # Errors
    /// Gives the value back as [`send`](Self::send) does, or with
    /// [`SendTimeoutError::is_timeout`], never before `limit` has passed.
    pub fn send_timeout(&mut self, value: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        self.put(&value, Patience::for_limit(limit))
            .map_err(|why| SendTimeoutError::new(value, why))
    }

    /// Sends all `values` in order, waiting for room; as many as there is room for are published at once.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`SendBatchError::sent`] tells how many went through.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = multi_chan::spsc::channel::<u8>(8)?;
    /// tx.send_batch(&[1, 2, 3]).unwrap();
    /// let mut values = [0; 8];
    /// assert_eq!(rx.recv_batch(&mut values), Ok(3));
    /// assert_eq!(values[..3], [1, 2, 3]);
    /// # Ok::<(), multi_chan::Error>(())
    /// ```
    pub fn send_batch(&mut self, values: &[T]) -> Result<(), SendBatchError> {
        let mut sent = 0;
        while let Some(value) = values.get(sent) {
            sent += match self.put_batch(&values[sent..]) {
                Ok(0) => self.put(value, Patience::Endless).map(|()| 1),
                result => result,
            }
            .map_err(|why| SendBatchError::new(sent, why))?;
        }
        Ok(())
    }

    /// Whether a send would end just now.
    pub(crate) fn look(&mut self) -> Look {
        if self.end.enter().is_err() {
            // The operation will say so.
            return Look::Ready;
        }
        let End {
            lane, cursor, core, ..
        } = &mut self.end;
        match lane.room(cursor) {
            Err(Stop::Nothing) if core.flags() & (CLOSED | NO_RECEIVERS) == 0 => Look::Nothing,
            _ => Look::Ready,
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, value: &T, patience: Patience) -> Result<(), Why> {
        self.end.enter()?;
        if self.end.core.flags() == 0 && self.end.lane.push(&mut self.end.cursor, value).is_ok() {
            return self.published(1);
        }
        self.put_slowly(value, patience)
    }

    /// As many as there is room for; 0 where that has to be waited for or something is wrong.
    fn put_batch(&mut self, values: &[T]) -> Result<usize, Why> {
        self.end.enter()?;
        if self.end.core.flags() != 0 {
            return Ok(0);
        }
        let End { lane, cursor, .. } = &mut self.end;
        let Ok(count) = lane.push_batch(cursor, values) else {
            return Ok(0);
        };
        self.published(count)?;
        Ok(count)
    }

    /// Called after a publish: were the values in time for a close, and does the receiver sleep?
    #[inline]
    fn published(&mut self, count: usize) -> Result<(), Why> {
        if self.end.core.flags() & CLOSED != 0 {
            let End { lane, cursor, .. } = &mut self.end;
            lane.settle(cursor, count).map_err(|stop| match stop {
                Stop::Nothing | Stop::Ended => Why::Closed,
                Stop::Corrupt => Why::Corrupt,
            })?;
        }
        self.end.lane.header().sent.0.post(1);
        Ok(())
    }

    #[cold]
    fn put_slowly(&mut self, value: &T, patience: Patience) -> Result<(), Why> {
        self.await_room(patience)?;
        let End { lane, cursor, .. } = &mut self.end;
        lane.push(cursor, value).map_err(|_| Why::Corrupt)?;
        self.published(1)
    }

    /// Waits until the slot at the cursor is free.
    fn await_room(&mut self, patience: Patience) -> Result<(), Why> {
        let End {
            lane,
            cursor,
            luck,
            core,
            ..
        } = &mut self.end;
        let event = &lane.header().freed.0;
        let mut wait = end::wait(core, luck, patience);
        loop {
            let flags = core.flags();
            if flags & CLOSED != 0 {
                return Err(Why::Closed);
            }
            if flags & NO_RECEIVERS != 0 {
                return Err(Why::Disconnected);
            }
            match lane.room(cursor) {
                Ok(()) => return Ok(()),
                Err(Stop::Nothing) => {}
                Err(Stop::Ended) => return Err(Why::Closed),
                Err(Stop::Corrupt) => return Err(Why::Corrupt),
            }
            match wait.step(event) {
                Step::Again | Step::Armed => {}
                Step::LookRound => {
                    if wait.is_long() && core.bury_dead() {
                        wait.forget_ticket();
                    } else if core.is_gone(Sides::RECEIVER) {
                        return Err(Why::Disconnected);
                    } else {
                        wait.sleep(core, event, Why::Full)?;
                    }
                }
            }
        }
    }

    fn reserve_for(&mut self, patience: Patience) -> Result<SlotMut<'_, T>, Why> {
        self.end.enter()?;
        self.await_room(patience)?;
        Ok(SlotMut::new(self))
    }

    /// Sends the value that was written at the cursor.
    pub(crate) fn commit(&mut self) -> Result<(), Why> {
        let End { lane, cursor, .. } = &mut self.end;
        lane.commit(cursor);
        self.published(1)
    }

    /// Waits for room and lends it, to write a message where the receiver will read it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = multi_chan::spsc::channel::<[u32; 256]>(2)?;
    /// let mut frame = tx.reserve()?;
    /// frame[255] = 7;
    /// frame.commit()?;
    /// assert_eq!(rx.recv_ref()?[255], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self) -> Result<SlotMut<'_, T>, SendError<()>> {
        self.reserve_for(Patience::Endless)
            .map_err(|why| SendError::new((), why))
    }

    /// Lends a slot to write a message in, if there is room just now.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve), or [`TrySendError::is_full`].
    pub fn try_reserve(&mut self) -> Result<SlotMut<'_, T>, TrySendError<()>> {
        self.reserve_for(Patience::None)
            .map_err(|why| TrySendError::new((), why))
    }

    /// Lends a slot to write a message in, waiting for room no longer than `limit`.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve), or [`SendTimeoutError::is_timeout`], never before `limit` has
    /// passed.
    pub fn reserve_timeout(
        &mut self,
        limit: Duration,
    ) -> Result<SlotMut<'_, T>, SendTimeoutError<()>> {
        self.reserve_for(Patience::for_limit(limit))
            .map_err(|why| SendTimeoutError::new((), why))
    }

    /// Closes the channel: further sends fail, the receiver drains what is there.
    ///
    /// Returns true for the first to close it.
    pub fn close(&mut self) -> bool {
        let first = self.end.core.close();
        if self.end.is_mine() {
            // We know where the end is. If a receiver has set it already, it is there, too.
            self.end.lane.set_end(&self.end.cursor).ok();
        }
        first
    }

    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a sender from
    /// here on; it has the side from its first use, unless another handle has it, in this process or another.
    ///
    /// # Errors
    /// [`Error::is_mismatch`] unless they are those of such a channel of `T` values; else as
    /// [`channel`](crate::spsc::channel).
    pub fn attach(descriptors: Descriptors) -> Result<Sender<T>, Error> {
        let end = End::attach(descriptors, Sides::SENDER)?;
        Ok(Sender { end })
    }

    end::both!();
}

impl<T: Plain> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.end).finish()
    }
}
