//! Messages of bytes: what a user holds.

use crate::Error;
use crate::builder::Builder;
use crate::message::error::{RecvMessageError, SendMessageError};
use crate::message::guard::{BytesRef, Reserved};
use crate::message::link::Link;
use crate::message::sending::Sending;
use crate::pass::{Descriptors, Kind};
use crate::patience::Patience;
use crate::table::Sides;
use std::time::Duration;

/// Makes a channel for messages of bytes, of any size, at most `capacity` of them in flight; 0 makes a rendezvous.
///
/// Messages up to 112 bytes lie in the ring itself, larger ones in an arena of 64 MiB beside it, which uses memory
/// only as far as it was filled at one time. [`Builder::arena_bytes`] makes it larger or smaller.
///
/// # Errors
/// As [`Builder::build`].
///
/// # Examples
/// ```
/// let (tx, rx) = multi_chan::bytes(8)?;
/// tx.send(b"short").unwrap();
/// tx.send(&[7; 100_000]).unwrap();
/// assert_eq!(rx.recv().unwrap(), b"short");
/// assert_eq!(rx.recv().unwrap().len(), 100_000);
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub fn bytes(capacity: usize) -> Result<(BytesSender, BytesReceiver), Error> {
    Builder::new().capacity(capacity).build_bytes()
}

/// The sending end of a channel of byte messages; clones and the copies in forked children send to the same one.
#[derive(Clone, Debug)]
pub struct BytesSender {
    pub(crate) link: Link,
}

/// The receiving end of a channel of byte messages; each message goes to exactly one receiver.
#[derive(Clone, Debug)]
pub struct BytesReceiver {
    pub(crate) link: Link,
}

macro_rules! both {
    () => {
        /// Closes the channel for everybody: further sends fail, receivers drain what is there.
        ///
        /// Returns true for the first to close it.
        pub fn close(&self) -> bool {
            self.link.end().close()
        }

        /// The channel's descriptors, to be passed to another program.
        ///
        /// # Errors
        /// [`Error::is_not_passable`] if it was not made [`in_memfd`](crate::Builder::in_memfd), [`Error::is_memory`] if no descriptor is to be had.
        pub fn descriptors(&self) -> Result<Descriptors, Error> {
            self.link.end().descriptors()
        }

        /// True once somebody has closed the channel; there may still be messages in it.
        pub fn is_closed(&self) -> bool {
            self.link.end().is_closed()
        }

        /// Messages in the channel at this moment; always 0 for a rendezvous.
        pub fn len(&self) -> usize {
            self.link.end().len()
        }

        /// True if the channel holds no message at this moment.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// The capacity asked for; 0 for a rendezvous.
        pub fn capacity(&self) -> usize {
            self.link.end().capacity()
        }

        /// The largest message there can be.
        pub fn bytes_max(&self) -> usize {
            self.link.arena().bytes_max()
        }

        /// Bytes of the arena in use at this moment: by messages, and by whoever writes or reads one.
        pub fn arena_used(&self) -> usize {
            self.link.arena().bytes_in_use()
        }
    };
}

#[cfg(feature = "serde")]
pub(crate) use both;

impl BytesSender {
    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a sender from
    /// here on.
    ///
    /// # Errors
    /// [`Error::is_mismatch`] unless they are those of a channel of bytes; else as [`bytes`].
    pub fn attach(descriptors: Descriptors) -> Result<BytesSender, Error> {
        let link = Link::attach::<u8>(descriptors, Kind::Bytes, Sides::SENDER)?;
        Ok(BytesSender { link })
    }

    /// Sends `bytes` as one message, waiting for room; in a rendezvous, for a receiver to take it.
    ///
    /// # Errors
    /// [`is_closed`](SendMessageError::is_closed), [`is_disconnected`](SendMessageError::is_disconnected) if no
    /// receiver is left, and [`is_too_large`](SendMessageError::is_too_large) for more bytes than the arena has.
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendMessageError> {
        Ok(self.link.send(&[bytes], Patience::Endless)?)
    }

    /// Sends `bytes` if there is room just now; in a rendezvous, if a receiver is waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`is_full`](SendMessageError::is_full).
    pub fn try_send(&self, bytes: &[u8]) -> Result<(), SendMessageError> {
        Ok(self.link.send(&[bytes], Patience::None)?)
    }

    /// As [`try_send`](Self::try_send), in the form that [`Select::run`](crate::Select::run) asks for: `None` if there is no room just
    /// now. The case is [`sending`](Self::sending).
    pub fn send_now(&self, bytes: &[u8]) -> Option<Result<(), SendMessageError>> {
        match self.try_send(bytes) {
            Err(error) if error.is_full() => None,
            sent => Some(sent),
        }
    }

    /// The case of sending a message of up to `bytes` bytes, for a [`Select`](crate::Select) or a poll loop.
    pub fn sending(&self, bytes: usize) -> Sending<'_> {
        Sending::new(&self.link, bytes)
    }

    /// Sends `bytes`, waiting for room no longer than `limit`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`is_timeout`](SendMessageError::is_timeout), never before `limit` has passed.
    pub fn send_timeout(&self, bytes: &[u8], limit: Duration) -> Result<(), SendMessageError> {
        Ok(self.link.send(&[bytes], Patience::for_limit(limit))?)
    }

    /// Sends the parts, one behind the other, as one message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Examples
    /// ```
    /// let (tx, rx) = multi_chan::bytes(1)?;
    /// tx.send_parts(&[b"head, ", b"body"]).unwrap();
    /// assert_eq!(rx.recv().unwrap(), b"head, body");
    /// # Ok::<(), multi_chan::Error>(())
    /// ```
    pub fn send_parts(&self, parts: &[&[u8]]) -> Result<(), SendMessageError> {
        Ok(self.link.send(parts, Patience::Endless)?)
    }

    /// Reserves room for a message of `bytes` bytes, to be written in place; waits for room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Examples
    /// ```
    /// let (tx, rx) = multi_chan::bytes(1)?;
    /// let mut room = tx.reserve(1 << 20).unwrap();
    /// room.fill(7);
    /// room.commit().unwrap();
    /// let message = rx.recv_ref().unwrap();
    /// assert!(message.iter().all(|&byte| byte == 7));
    /// # Ok::<(), multi_chan::Error>(())
    /// ```
    pub fn reserve(&self, bytes: usize) -> Result<Reserved<'_>, SendMessageError> {
        Reserved::new(&self.link, bytes, Patience::Endless)
    }

    /// As [`reserve`](Self::reserve), if there is room just now.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_reserve(&self, bytes: usize) -> Result<Reserved<'_>, SendMessageError> {
        Reserved::new(&self.link, bytes, Patience::None)
    }

    /// As [`reserve`](Self::reserve), waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn reserve_timeout(
        &self,
        bytes: usize,
        limit: Duration,
    ) -> Result<Reserved<'_>, SendMessageError> {
        Reserved::new(&self.link, bytes, Patience::for_limit(limit))
    }

    both!();
}

impl BytesReceiver {
    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a receiver from
    /// here on.
    ///
    /// # Errors
    /// As [`BytesSender::attach`].
    pub fn attach(descriptors: Descriptors) -> Result<BytesReceiver, Error> {
        let link = Link::attach::<u8>(descriptors, Kind::Bytes, Sides::RECEIVER)?;
        Ok(BytesReceiver { link })
    }

    /// Receives the next message, waiting for one.
    ///
    /// # Errors
    /// [`is_closed`](RecvMessageError::is_closed) once the channel is closed and drained,
    /// [`is_disconnected`](RecvMessageError::is_disconnected) once no process is left that may send, and it is
    /// drained.
    pub fn recv(&self) -> Result<Vec<u8>, RecvMessageError> {
        self.recv_vec(Patience::Endless)
    }

    /// Receives a message if there is one just now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`is_empty`](RecvMessageError::is_empty).
    pub fn try_recv(&self) -> Result<Vec<u8>, RecvMessageError> {
        self.recv_vec(Patience::None)
    }

    /// As [`try_recv`](Self::try_recv), in the form that [`Select::run`](crate::Select::run) asks for: `None` if there is no
    /// message just now.
    ///
    /// # Examples
    /// ```
    /// let (words_tx, words) = multi_chan::bytes(4)?;
    /// let (numbers_tx, numbers) = multi_chan::channel::<u32>(4)?;
    /// words_tx.send(b"seven").unwrap();
    ///
    /// let mut select = multi_chan::Select::new();
    /// let from_words = select.recv(&words);
    /// select.recv(&numbers);
    /// let got = select.run(|case| {
    ///     if case == from_words {
    ///         words.recv_now().map(Result::unwrap)
    ///     } else {
    ///         numbers.recv_now().map(|number| number.unwrap().to_string().into_bytes())
    ///     }
    /// });
    /// assert_eq!(got, b"seven");
    /// # drop(numbers_tx);
    /// # Ok::<(), multi_chan::Error>(())
    /// ```
    pub fn recv_now(&self) -> Option<Result<Vec<u8>, RecvMessageError>> {
        match self.try_recv() {
            Err(error) if error.is_empty() => None,
            received => Some(received),
        }
    }

    /// Receives the next message, waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`is_timeout`](RecvMessageError::is_timeout), never before `limit` has passed.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Vec<u8>, RecvMessageError> {
        self.recv_vec(Patience::for_limit(limit))
    }

    /// Receives the next message behind what `buffer` holds, waiting for one; returns its size.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); the buffer is unchanged then.
    pub fn recv_into(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvMessageError> {
        Ok(self.link.recv(buffer, Patience::Endless)?)
    }

    /// As [`recv_into`](Self::recv_into), if there is a message just now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv); the buffer is unchanged then.
    pub fn try_recv_into(&self, buffer: &mut Vec<u8>) -> Result<usize, RecvMessageError> {
        Ok(self.link.recv(buffer, Patience::None)?)
    }

    /// As [`recv_into`](Self::recv_into), waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout); the buffer is unchanged then.
    pub fn recv_into_timeout(
        &self,
        buffer: &mut Vec<u8>,
        limit: Duration,
    ) -> Result<usize, RecvMessageError> {
        Ok(self.link.recv(buffer, Patience::for_limit(limit))?)
    }

    /// Receives the next message where it lies, waiting for one; dropping the guard acknowledges it.
    ///
    /// Until then the message keeps its slot: when the senders have come round the ring, they wait for it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_ref(&self) -> Result<BytesRef<'_>, RecvMessageError> {
        BytesRef::new(&self.link, Patience::Endless)
    }

    /// As [`recv_ref`](Self::recv_ref), if there is a message just now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_ref(&self) -> Result<BytesRef<'_>, RecvMessageError> {
        BytesRef::new(&self.link, Patience::None)
    }

    /// As [`recv_ref`](Self::recv_ref), waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_ref_timeout(&self, limit: Duration) -> Result<BytesRef<'_>, RecvMessageError> {
        BytesRef::new(&self.link, Patience::for_limit(limit))
    }

    /// The messages as they come, until the channel is closed or disconnected and drained.
    pub fn iter(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Messages lost so far with receivers that died in the middle of taking them.
    pub fn dropped(&self) -> u64 {
        self.link.end().dropped()
    }

    both!();

    fn recv_vec(&self, patience: Patience) -> Result<Vec<u8>, RecvMessageError> {
        let mut bytes = Vec::new();
        self.link.recv(&mut bytes, patience)?;
        Ok(bytes)
    }
}
