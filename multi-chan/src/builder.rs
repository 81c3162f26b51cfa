//! The options of a channel that is about to be made.

use crate::Error;
use crate::chan::{Chan, Receiver, Sender};
use crate::ends::End;
use crate::plain::Plain;
use crate::table::Sides;

/// A channel that is about to be made, with its options.
///
/// [`channel`](crate::channel) and [`Chan::new`] are short forms of it.
///
/// # Examples
/// ```
/// let (tx, rx) = multi_chan::Builder::new().capacity(2).build::<u32>()?;
/// tx.send(42).unwrap();
/// assert_eq!(rx.recv(), Ok(42));
/// # Ok::<(), multi_chan::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    pub(crate) capacity: usize,
}

impl Builder {
    /// A rendezvous (capacity 0) with no options chosen yet.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// At most this many values in flight; 0, the default, is a rendezvous.
    pub fn capacity(mut self, capacity: usize) -> Builder {
        self.capacity = capacity;
        self
    }

    /// Makes the channel and its two ends.
    ///
    /// # Errors
    /// [`Error::is_capacity`] if the values do not fit an address space, [`Error::is_memory`] if the
    /// system has no memory for the mapping, [`Error::is_process`] if this process cannot be entered in
    /// the table of channel users (once per process: two mappings and, for a moment, one descriptor).
    pub fn build<T: Plain>(&self) -> Result<(Sender<T>, Receiver<T>), Error> {
        let (sender, receiver) = End::pair(self, Sides::SENDER, Sides::RECEIVER)?;
        Ok((Sender { end: sender }, Receiver { end: receiver }))
    }

    /// Makes the channel as a [`Chan`], which has both ends in one handle.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_chan<T: Plain>(&self) -> Result<Chan<T>, Error> {
        let (sender, receiver) = End::pair(self, Sides::BOTH, Sides::BOTH)?;
        Ok(Chan { sender, receiver })
    }
}
