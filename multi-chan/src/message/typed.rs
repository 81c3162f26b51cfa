//! Messages that are values: encoded by postcard straight into the channel's memory.

use crate::Error;
use crate::builder::Builder;
use crate::message::bytes::both;
use crate::message::error::{RecvMessageError, Refusal, SendMessageError};
use crate::message::guard::Reserved;
use crate::message::link::Link;
use crate::message::packet::INLINE;
use crate::patience::Patience;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Makes a channel for values of `T`, at most `capacity` of them in flight; 0 makes a rendezvous.
///
/// Unlike [`channel`](crate::channel) it takes whatever serde can encode: strings, vectors, enums, maps. A value
/// whose encoded form has at most 112 bytes lies in the ring itself, larger ones in an arena as in
/// [`bytes`](crate::bytes).
///
/// # Errors
/// As [`Builder::build`].
///
/// # Examples
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// enum Job {
///     Resize { path: String, width: u32 },
///     Stop,
/// }
///
/// let (tx, rx) = multi_chan::messages::<Job>(8)?;
/// let job = Job::Resize { path: "cat.jpg".into(), width: 640 };
/// tx.send(&job).unwrap();
/// assert_eq!(rx.recv().unwrap(), job);
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub fn messages<T: Serialize + DeserializeOwned>(
    capacity: usize,
) -> Result<(MessageSender<T>, MessageReceiver<T>), Error> {
    Builder::new().capacity(capacity).build_messages()
}

/// The sending end of a channel of values; clones and the copies in forked children send to the same one.
pub struct MessageSender<T> {
    pub(crate) link: Link,
    pub(crate) _values: PhantomData<fn(&T)>,
}

/// The receiving end of a channel of values; each value goes to exactly one receiver.
pub struct MessageReceiver<T> {
    pub(crate) link: Link,
    pub(crate) _values: PhantomData<fn() -> T>,
}

impl<T: Serialize> MessageSender<T> {
    /// Encodes `value` and sends it, waiting for room; in a rendezvous, for a receiver to take it.
    ///
    /// # Errors
    /// As [`BytesSender::send`](crate::BytesSender::send), or
    /// [`is_encode`](SendMessageError::is_encode) if the value refuses to be encoded.
    pub fn send(&self, value: &T) -> Result<(), SendMessageError> {
        self.post(value, Patience::Endless)
    }

    /// Sends `value` if there is room just now; in a rendezvous, if a receiver is waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`is_full`](SendMessageError::is_full).
    pub fn try_send(&self, value: &T) -> Result<(), SendMessageError> {
        self.post(value, Patience::None)
    }

    /// Sends `value`, waiting for room no longer than `limit`.
    ///
    /// # Errors
    /// As [`send`](Self::send), or [`is_timeout`](SendMessageError::is_timeout), never before `limit` has passed.
    pub fn send_timeout(&self, value: &T, limit: Duration) -> Result<(), SendMessageError> {
        self.post(value, Patience::for_limit(limit))
    }

    fn post(&self, value: &T, patience: Patience) -> Result<(), SendMessageError> {
        let mut small = [0; INLINE];
        match postcard::to_slice(value, &mut small) {
            Ok(bytes) => return Ok(self.link.send_inline(&[bytes], bytes.len(), patience)?),
            Err(postcard::Error::SerializeBufferFull) => {}
            Err(cause) => return Err(Refusal::Encode(cause).into()),
        }
        // Counted first, so that it is encoded where it is to lie, and needs no buffer of its own.
        let size = postcard::ser_flavors::Size::default();
        let bytes = postcard::serialize_with_flavor(value, size).map_err(Refusal::Encode)?;
        // The encoder is the user's code: it may panic, fork, or make fewer or more bytes of the value than it just did.
        let mut room = Reserved::new(&self.link, bytes, patience)?;
        let written = postcard::to_slice(value, &mut room).map_err(Refusal::Encode)?;
        let bytes = written.len();
        room.commit_front_within(bytes, patience)
    }
}

impl<T: DeserializeOwned> MessageReceiver<T> {
    /// Receives the next value, waiting for one.
    ///
    /// # Errors
    /// As [`BytesReceiver::recv`](crate::BytesReceiver::recv), or
    /// [`is_decode`](RecvMessageError::is_decode) if the message is no `T`; the next call gets the next message.
    pub fn recv(&self) -> Result<T, RecvMessageError> {
        self.take(Patience::Endless)
    }

    /// Receives a value if there is one just now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`is_empty`](RecvMessageError::is_empty).
    pub fn try_recv(&self) -> Result<T, RecvMessageError> {
        self.take(Patience::None)
    }

    /// Receives the next value, waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`is_timeout`](RecvMessageError::is_timeout), never before `limit` has passed.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvMessageError> {
        self.take(Patience::for_limit(limit))
    }

    /// The values as they come, until the channel is closed or disconnected and drained.
    ///
    /// A message that is no `T` ends it, too: use [`recv`](Self::recv) where that may happen.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    fn take(&self, patience: Patience) -> Result<T, RecvMessageError> {
        // Decoded from a copy: a decoder must not see bytes change under it, whoever writes there.
        let mut bytes = Vec::with_capacity(INLINE);
        self.link.recv(&mut bytes, patience)?;
        postcard::from_bytes(&bytes).map_err(|cause| RecvMessageError::decode(bytes.len(), cause))
    }
}

impl<T> MessageSender<T> {
    both!();
}

impl<T> MessageReceiver<T> {
    /// Messages lost so far with receivers that died in the middle of taking them.
    pub fn dropped(&self) -> u64 {
        self.link.end().dropped()
    }

    both!();
}

macro_rules! handle {
    ($name:ident) => {
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                $name {
                    link: self.link.clone(),
                    _values: PhantomData,
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
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

handle!(MessageSender);
handle!(MessageReceiver);
