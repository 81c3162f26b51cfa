//! The two ends: what a user holds. Handles count here, the waiting is in `ends`.

use crate::Error;
use crate::builder::Builder;
use crate::delivery::Received;
use crate::ends::End;
use crate::error::{
    RecvError, RecvTimeoutError, SendBatchError, SendError, SendTimeoutError, TryRecvError,
    TrySendError, Why,
};
use crate::iter::{IntoIter, Iter};
use crate::loan::{SlotMut, SlotRef};
use crate::pass::Descriptors;
use crate::patience::Patience;
use crate::plain::Plain;
use crate::table::Sides;
use std::fmt;
use std::time::Duration;

/// Makes a channel for at most `capacity` values in flight; 0 makes a rendezvous, where `send`
/// returns only once a receiver has taken the value.
///
/// The channel lives in anonymous shared memory: threads share it through clones of the handles, and
/// a forked child has copies of both handles. How those copies count is described in the
/// [crate documentation](crate#forks). A [`Builder`] makes one with options.
///
/// # Errors
/// As [`Builder::build`].
///
/// # Examples
/// ```
/// let (tx, rx) = multi_chan::channel::<u32>(2)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| tx.send(42));
///     scope.spawn(|| tx.send(42));
/// });
/// drop(tx);
/// assert_eq!(rx.iter().sum::<u32>(), 84);
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub fn channel<T: Plain>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), Error> {
    Builder::new().capacity(capacity).build()
}

/// The sending end of a channel; clones and the copies in forked children send to the same one.
pub struct Sender<T: Plain> {
    pub(crate) end: End<T>,
}

/// The receiving end of a channel; each value goes to exactly one receiver.
pub struct Receiver<T: Plain> {
    pub(crate) end: End<T>,
}

/// Both ends of a channel in one handle.
///
/// It counts as a sender and as a receiver, so a receiver waiting on a `Chan` never finds the channel
/// disconnected: say `close` when there is nothing more to send.
///
/// # Examples
/// ```
/// let chan = multi_chan::Chan::<i64>::new(2)?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| chan.send(42));
///     }
/// });
/// chan.close();
/// assert_eq!(chan.iter().collect::<Vec<_>>(), [42, 42]);
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub struct Chan<T: Plain> {
    pub(crate) sender: End<T>,
    pub(crate) receiver: End<T>,
}

macro_rules! sending {
    ($end:ident) => {
        /// Sends `value`, waiting for room; in a rendezvous, for a receiver to take it.
        ///
        /// # Errors
        /// Gives the value back if the channel is closed ([`SendError::is_closed`]) or no receiver
        /// is left ([`SendError::is_disconnected`]). Receivers that were killed are noticed at the
        /// latest when the channel is full: before that, a send into free room still succeeds.
        ///
        /// In a rendezvous a value whose receiver is killed before it has received it is the next receiver's, or comes back here.
        #[inline]
        pub fn send(&self, value: T) -> Result<(), SendError<T>> {
            self.$end
                .send(&value, Patience::Endless)
                .map_err(|why| SendError::new(value, why))
        }

        /// Sends `value` if there is room just now; in a rendezvous, if a receiver is waiting.
        ///
        /// A rendezvous gives the waiting receiver up to a millisecond to get up and take the value.
        ///
        /// # Errors
        /// Gives the value back as [`send`](Self::send) does, or with [`TrySendError::is_full`].
        #[inline]
        pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            self.$end
                .send(&value, Patience::None)
                .map_err(|why| TrySendError::new(value, why))
        }

        /// As [`try_send`](Self::try_send), in the form that [`Select::run`](crate::Select::run) asks for: `None` if
        /// the value could not be sent just now.
        pub fn send_now(&self, value: T) -> Option<Result<(), SendError<T>>> {
            match self.$end.send(&value, Patience::None) {
                Ok(()) => Some(Ok(())),
                Err(Why::Full) => None,
                Err(why) => Some(Err(SendError::new(value, why))),
            }
        }

        /// Sends `value`, waiting for room no longer than `limit`.
        ///
        /// # Errors
        /// Gives the value back as [`send`](Self::send) does, or with
        /// [`SendTimeoutError::is_timeout`], never before `limit` has passed. In a rendezvous a value counts as received if a
        /// living receiver is in the middle of receiving it then.
        pub fn send_timeout(&self, value: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
            self.$end
                .send(&value, Patience::for_limit(limit))
                .map_err(|why| SendTimeoutError::new(value, why))
        }

        /// Claims a slot to write a message in, waiting for room; [`SlotMut::commit`] sends it.
        ///
        /// The message is made where the receiver reads it, without a copy. In a rendezvous this waits for
        /// the place between the two sides to be free, and `commit` for a receiver.
        ///
        /// # Errors
        /// As [`send`](Self::send).
        #[inline]
        pub fn reserve(&self) -> Result<SlotMut<'_, T>, SendError<()>> {
            self.$end
                .reserve(Patience::Endless)
                .map_err(|why| SendError::new((), why))
        }

        /// Claims a slot to write a message in, if there is room just now.
        ///
        /// # Errors
        /// As [`reserve`](Self::reserve), or [`TrySendError::is_full`].
        pub fn try_reserve(&self) -> Result<SlotMut<'_, T>, TrySendError<()>> {
            self.$end
                .reserve(Patience::None)
                .map_err(|why| TrySendError::new((), why))
        }

        /// Claims a slot to write a message in, waiting for room no longer than `limit`.
        ///
        /// # Errors
        /// As [`reserve`](Self::reserve), or [`SendTimeoutError::is_timeout`], never before `limit` has
        /// passed.
        pub fn reserve_timeout(
            &self,
            limit: Duration,
        ) -> Result<SlotMut<'_, T>, SendTimeoutError<()>> {
            self.$end
                .reserve(Patience::for_limit(limit))
                .map_err(|why| SendTimeoutError::new((), why))
        }

        /// Sends all `values` in order, waiting for room; much cheaper than one by one.
        ///
        /// Values of other senders may come between them. Runs of up to 128 values become visible at once: if this process is
        /// killed in the middle of one, none of it was sent.
        ///
        /// # Errors
        /// As [`send`](Self::send); [`SendBatchError::sent`] tells how many went through.
        pub fn send_batch(&self, values: &[T]) -> Result<(), SendBatchError> {
            self.$end
                .send_batch(values)
                .map_err(|(sent, why)| SendBatchError::new(sent, why))
        }
    };
}

macro_rules! receiving {
    ($end:ident) => {
        /// Receives the next value, waiting for one.
        ///
        /// # Errors
        /// [`RecvError::is_closed`] once the channel is closed and drained,
        /// [`RecvError::is_disconnected`] once no process is left that may send, and it is drained.
        #[inline]
        pub fn recv(&self) -> Result<T, RecvError> {
            self.$end.recv(Patience::Endless).map_err(RecvError::new)
        }

        /// Receives a value if there is one just now.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`TryRecvError::is_empty`].
        #[inline]
        pub fn try_recv(&self) -> Result<T, TryRecvError> {
            self.$end.recv(Patience::None).map_err(TryRecvError::new)
        }

        /// As [`try_recv`](Self::try_recv), in the form that [`Select::run`](crate::Select::run) asks for: `None` if
        /// there is no value just now.
        pub fn recv_now(&self) -> Option<Result<T, RecvError>> {
            match self.$end.recv(Patience::None) {
                Ok(value) => Some(Ok(value)),
                Err(Why::Empty) => None,
                Err(why) => Some(Err(RecvError::new(why))),
            }
        }

        /// Receives the next value, waiting no longer than `limit`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`RecvTimeoutError::is_timeout`], never before `limit` has
        /// passed.
        pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
            self.$end
                .recv(Patience::for_limit(limit))
                .map_err(RecvTimeoutError::new)
        }

        /// Receives the next value where it lies, waiting for one; it is acknowledged when dropped.
        ///
        /// # Errors
        /// As [`recv`](Self::recv).
        #[inline]
        pub fn recv_ref(&self) -> Result<SlotRef<'_, T>, RecvError> {
            self.$end
                .recv_ref(Patience::Endless)
                .map_err(RecvError::new)
        }

        /// Receives a value where it lies, if there is one just now.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`TryRecvError::is_empty`].
        pub fn try_recv_ref(&self) -> Result<SlotRef<'_, T>, TryRecvError> {
            self.$end
                .recv_ref(Patience::None)
                .map_err(TryRecvError::new)
        }

        /// Receives the next value where it lies, waiting no longer than `limit`.
        ///
        /// # Errors
        /// As [`recv`](Self::recv), or [`RecvTimeoutError::is_timeout`], never before `limit` has
        /// passed.
        pub fn recv_ref_timeout(
            &self,
            limit: Duration,
        ) -> Result<SlotRef<'_, T>, RecvTimeoutError> {
            self.$end
                .recv_ref(Patience::for_limit(limit))
                .map_err(RecvTimeoutError::new)
        }

        /// Receives the next value with the number of times it was handed out; see
        /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce).
        ///
        /// # Errors
        /// As [`recv`](Self::recv).
        pub fn recv_delivery(&self) -> Result<Received<T>, RecvError> {
            self.$end
                .recv_delivery(Patience::Endless)
                .map_err(RecvError::new)
        }

        /// Waits for a value, then fills the front of `values` with what is there; returns how many.
        ///
        /// Returns 0 only for an empty `values`. Values that are being received when this process is killed die with it, as in
        /// [`recv`](Self::recv).
        ///
        /// # Errors
        /// As [`recv`](Self::recv); nothing was received then.
        ///
        /// # Examples
        /// ```
        /// let (tx, rx) = multi_chan::channel::<u8>(8)?;
        /// tx.send_batch(&[1, 2, 3]).unwrap();
        /// let mut values = [0; 8];
        /// assert_eq!(rx.recv_batch(&mut values), Ok(3));
        /// assert_eq!(values[..3], [1, 2, 3]);
        /// # Ok::<(), multi_chan::Error>(())
        /// ```
        pub fn recv_batch(&self, values: &mut [T]) -> Result<usize, RecvError> {
            self.$end.recv_batch(values).map_err(RecvError::new)
        }

        /// The values as they come, until the channel is closed or disconnected and drained.
        pub fn iter(&self) -> Iter<'_, T> {
            Iter::new(&self.$end)
        }

        /// Messages lost so far with receivers that died in the middle of taking them.
        pub fn dropped(&self) -> u64 {
            self.$end.dropped()
        }
    };
}

macro_rules! both {
    ($end:ident) => {
        /// Closes the channel for everybody: further sends fail, receivers drain what is there.
        ///
        /// Returns true for the first to close it.
        pub fn close(&self) -> bool {
            self.$end.close()
        }

        /// The channel's descriptors, to be passed to another program.
        ///
        /// # Errors
        /// [`Error::is_not_passable`] if it was not made [`in_memfd`](crate::Builder::in_memfd),
        /// [`Error::is_memory`] if no descriptor is to be had.
        pub fn descriptors(&self) -> Result<Descriptors, Error> {
            self.$end.descriptors()
        }

        /// True once somebody has closed the channel; there may still be values in it.
        pub fn is_closed(&self) -> bool {
            self.$end.is_closed()
        }

        /// Values in the channel at this moment; always 0 for a rendezvous.
        pub fn len(&self) -> usize {
            self.$end.len()
        }

        /// True if the channel holds no value at this moment.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// The capacity asked for; 0 for a rendezvous.
        pub fn capacity(&self) -> usize {
            self.$end.capacity()
        }
    };
}

impl<T: Plain> Sender<T> {
    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a
    /// sender from here on.
    ///
    /// # Errors
    /// [`Error::is_mismatch`] unless they are those of a channel of `T` values; else as [`channel`].
    pub fn attach(descriptors: Descriptors) -> Result<Sender<T>, Error> {
        let [end] = End::attach(descriptors, [Sides::SENDER], Sides::SENDER)?;
        Ok(Sender { end })
    }

    sending!(end);
    both!(end);
}

impl<T: Plain> Receiver<T> {
    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a
    /// receiver from here on.
    ///
    /// # Errors
    /// [`Error::is_mismatch`] unless they are those of a channel of `T` values; else as [`channel`].
    pub fn attach(descriptors: Descriptors) -> Result<Receiver<T>, Error> {
        let [end] = End::attach(descriptors, [Sides::RECEIVER], Sides::RECEIVER)?;
        Ok(Receiver { end })
    }

    receiving!(end);
    both!(end);
}

impl<T: Plain> Chan<T> {
    /// Makes a channel for at most `capacity` values in flight, as [`channel`] does.
    ///
    /// # Errors
    /// As [`channel`].
    pub fn new(capacity: usize) -> Result<Chan<T>, Error> {
        Builder::new().capacity(capacity).build_chan()
    }

    /// Makes a handle of descriptors that came from another program (or this one). This process counts for both sides from
    /// here on.
    ///
    /// # Errors
    /// As [`Sender::attach`].
    pub fn attach(descriptors: Descriptors) -> Result<Chan<T>, Error> {
        let sides = [Sides::SENDER, Sides::RECEIVER];
        let [sender, receiver] = End::attach(descriptors, sides, Sides::BOTH)?;
        Ok(Chan { sender, receiver })
    }

    sending!(sender);
    receiving!(receiver);
    both!(sender);
}

impl<T: Plain> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            end: self.end.clone(),
        }
    }
}

impl<T: Plain> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver {
            end: self.end.clone(),
        }
    }
}

impl<T: Plain> Clone for Chan<T> {
    fn clone(&self) -> Self {
        Chan {
            sender: self.sender.clone(),
            receiver: self.receiver.clone(),
        }
    }
}

impl<T: Plain> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter::new(self.end)
    }
}

impl<'a, T: Plain> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Plain> IntoIterator for &'a Chan<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

macro_rules! debug {
    ($name:ident) => {
        impl<T: Plain> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("len", &self.len())
                    .field("capacity", &self.capacity())
                    .field("closed", &self.is_closed())
                    .finish_non_exhaustive()
            }
        }
    };
}

debug!(Sender);
debug!(Receiver);
debug!(Chan);
