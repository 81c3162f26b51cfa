//! The one receiver.

use crate::Error;
use crate::error::{RecvError, RecvTimeoutError, TryRecvError, Why};
use crate::pass::Descriptors;
use crate::patience::{Patience, Step};
use crate::plain::Plain;
use crate::select::Look;
use crate::spsc::end::{self, End};
use crate::spsc::lane::Stop;
use crate::spsc::loan::SlotRef;
use crate::table::{CLOSED, NO_SENDERS, Sides};
use std::fmt;
use std::thread;
use std::time::Duration;

/// How long it takes until a store made by another processor is seen here, with a thousandfold margin.
const MOMENT: Duration = Duration::from_micros(100);

/// The receiving end of a channel with one receiver; used by one process at a time.
///
/// A receiver killed in the middle of a receive takes nothing with it: the value is copied out first and given
/// up last. Another process that has a copy of the handle may go on where it stopped.
pub struct Receiver<T: Plain> {
    pub(crate) end: End<T>,
}

impl<T: Plain> Receiver<T> {
    /// Receives the next value, waiting for one.
    ///
    /// # Errors
    /// [`RecvError::is_closed`] once the channel is closed and drained, [`RecvError::is_disconnected`] once no
    /// process is left that may send, and it is drained; [`RecvError::is_occupied`] if another process uses this
    /// side.
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.take(Patience::Endless).map_err(RecvError::new)
    }

    /// Receives a value if there is one just now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`TryRecvError::is_empty`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.take(Patience::None).map_err(TryRecvError::new)
    }

    /// Receives the next value, waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`RecvTimeoutError::is_timeout`], never before `limit` has
    /// passed.
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvTimeoutError> {
        self.take(Patience::for_limit(limit))
            .map_err(RecvTimeoutError::new)
    }

    /// Waits for a value, then fills the front of `values` with what is there; returns how many.
    ///
    /// Returns 0 only for an empty `values`. The slots are given back at once.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); nothing was received then.
    pub fn recv_batch(&mut self, values: &mut [T]) -> Result<usize, RecvError> {
        self.take_batch(values).map_err(RecvError::new)
    }

    /// The values as they come, until the channel is closed or disconnected and drained.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Whether a receive would end just now.
    pub(crate) fn look(&mut self) -> Look {
        if self.end.enter().is_err() {
            // The operation will say so.
            return Look::Ready;
        }
        let End {
            lane, cursor, core, ..
        } = &mut self.end;
        match lane.value(cursor) {
            // Of a channel that is closed or deserted `take` finds the end, in a moment at most.
            Err(Stop::Nothing) if core.flags() & (CLOSED | NO_SENDERS) == 0 => Look::Nothing,
            _ => Look::Ready,
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, patience: Patience) -> Result<T, Why> {
        self.end.enter()?;
        if let Ok(value) = self.end.lane.pop(&mut self.end.cursor) {
            self.end.lane.header().freed.0.post(1);
            return Ok(value);
        }
        self.take_slowly(patience)
    }

    fn take_batch(&mut self, values: &mut [T]) -> Result<usize, Why> {
        self.end.enter()?;
        if values.is_empty() {
            return Ok(0);
        }
        let End { lane, cursor, .. } = &mut self.end;
        let count = match lane.pop_batch(cursor, values) {
            Ok(count) => count,
            Err(_) => {
                values[0] = self.take_slowly(Patience::Endless)?;
                // Only the first is waited for; whatever stands in the way of more is the next call's.
                let End { lane, cursor, .. } = &mut self.end;
                match lane.pop_batch(cursor, &mut values[1..]) {
                    Ok(more) => 1 + more,
                    Err(_) => return Ok(1),
                }
            }
        };
        self.end.lane.header().freed.0.post(1);
        Ok(count)
    }

    #[cold]
    fn take_slowly(&mut self, patience: Patience) -> Result<T, Why> {
        self.await_value(patience)?;
        let End { lane, cursor, .. } = &mut self.end;
        let value = lane.pop(cursor).map_err(|_| Why::Corrupt)?;
        lane.header().freed.0.post(1);
        Ok(value)
    }

    /// Waits until there is a value at the cursor.
    fn await_value(&mut self, patience: Patience) -> Result<(), Why> {
        let End {
            lane,
            cursor,
            luck,
            core,
            ..
        } = &mut self.end;
        let event = &lane.header().sent.0;
        let mut wait = end::wait(core, luck, patience);
        // The senders were found gone: one more look, then that is the answer.
        let mut last_look = false;
        // The channel was found closed a moment ago.
        let mut long_closed = false;
        loop {
            match lane.value(cursor) {
                Ok(()) => return Ok(()),
                Err(Stop::Corrupt) => return Err(Why::Corrupt),
                Err(Stop::Ended) => return Err(Why::Closed),
                Err(Stop::Nothing) => {}
            }
            if last_look {
                return Err(Why::Disconnected);
            }
            if core.flags() & CLOSED != 0 {
                if long_closed {
                    // An error is an end farther on, set by the sender behind a value that is there now.
                    lane.set_end(cursor).ok();
                } else {
                    // A value that was published before its sender could see the close is seen after this.
                    thread::sleep(MOMENT);
                    long_closed = true;
                }
                continue;
            }
            match wait.step(event) {
                Step::Again | Step::Armed => {}
                Step::LookRound => {
                    if wait.is_long() && core.bury_dead() {
                        wait.forget_ticket();
                    } else if core.is_gone(Sides::SENDER) {
                        last_look = true;
                    } else {
                        wait.sleep(core, event, Why::Empty)?;
                    }
                }
            }
        }
    }

    fn lend(&mut self, patience: Patience) -> Result<SlotRef<'_, T>, Why> {
        self.end.enter()?;
        self.await_value(patience)?;
        Ok(SlotRef::new(self))
    }

    /// Gives back the slot whose value was read at the cursor.
    pub(crate) fn release(&mut self) {
        let End { lane, cursor, .. } = &mut self.end;
        lane.release(cursor);
        lane.header().freed.0.post(1);
    }

    /// Waits for a value and lends it where it lies; it counts as received when the handle is dropped.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_ref(&mut self) -> Result<SlotRef<'_, T>, RecvError> {
        self.lend(Patience::Endless).map_err(RecvError::new)
    }

    /// Lends the next value where it lies, if there is one just now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`TryRecvError::is_empty`].
    pub fn try_recv_ref(&mut self) -> Result<SlotRef<'_, T>, TryRecvError> {
        self.lend(Patience::None).map_err(TryRecvError::new)
    }

    /// Lends the next value where it lies, waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`RecvTimeoutError::is_timeout`], never before `limit` has
    /// passed.
    pub fn recv_ref_timeout(
        &mut self,
        limit: Duration,
    ) -> Result<SlotRef<'_, T>, RecvTimeoutError> {
        self.lend(Patience::for_limit(limit))
            .map_err(RecvTimeoutError::new)
    }

    /// Closes the channel: the sender's next send fails; what was sent before can still be received.
    ///
    /// Returns true for the first to close it.
    pub fn close(&mut self) -> bool {
        self.end.core.close()
    }

    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a receiver from
    /// here on; it has the side from its first use, unless another handle has it, in this process or another.
    ///
    /// # Errors
    /// [`Error::is_mismatch`] unless they are those of such a channel of `T` values; else as
    /// [`channel`](crate::spsc::channel).
    pub fn attach(descriptors: Descriptors) -> Result<Receiver<T>, Error> {
        let end = End::attach(descriptors, Sides::RECEIVER)?;
        Ok(Receiver { end })
    }

    end::both!();
}

impl<T: Plain> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.end).finish()
    }
}

/// The values of a [`Receiver`] as they come.
///
/// Ends when the channel is closed or its sender is gone, and it is drained.
#[derive(Debug)]
pub struct Iter<'a, T: Plain> {
    receiver: &'a mut Receiver<T>,
}

impl<T: Plain> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.take(Patience::Endless).ok()
    }
}

/// As [`Iter`], owning the receiver.
#[derive(Debug)]
pub struct IntoIter<T: Plain> {
    receiver: Receiver<T>,
}

impl<T: Plain> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.take(Patience::Endless).ok()
    }
}

impl<T: Plain> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T: Plain> IntoIterator for &'a mut Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
