//! Messages that are values: encoded by postcard straight into the channel's memory.

use crate::Error;
use crate::builder::Builder;
use crate::message::bytes::both;
use crate::message::error::{RecvMessageError, Refusal, SendMessageError};
use crate::message::guard::{BytesRef, Reserved};
use crate::message::link::Link;
use crate::message::packet::INLINE;
use crate::message::sending::Sending;
use crate::pass::{Descriptors, Kind};
use crate::patience::Patience;
use crate::table::Sides;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
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

    /// As [`try_send`](Self::try_send), in the form that [`Select::run`](crate::Select::run) asks for: `None` if there is no room just
    /// now. The case is [`sending`](Self::sending).
    pub fn send_now(&self, value: &T) -> Option<Result<(), SendMessageError>> {
        match self.try_send(value) {
            Err(error) if error.is_full() => None,
            sent => Some(sent),
        }
    }

    /// The case of sending `value`, or one whose encoded form is no larger, for a [`Select`](crate::Select) or a poll loop.
    ///
    /// # Errors
    /// [`is_encode`](SendMessageError::is_encode) if the value refuses to be encoded, which is done to find its size.
    ///
    /// # Examples
    /// ```
    /// let (tx, rx) = multi_chan::messages::<Vec<String>>(1)?;
    /// let job = vec!["resize".to_owned(), "cat.jpg".to_owned()];
    /// let room = tx.sending(&job)?;
    /// let mut select = multi_chan::Select::new();
    /// select.send(&room);
    /// select.run(|_| tx.send_now(&job))?;
    /// assert_eq!(rx.recv()?, job);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sending(&self, value: &T) -> Result<Sending<'_>, SendMessageError> {
        Ok(Sending::new(&self.link, encoded_bytes(value)?))
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
        let bytes = encoded_bytes(value)?;
        // The encoder is the user's code: it may panic, fork, or make fewer or more bytes of the value than it just did.
        let mut room = Reserved::new(&self.link, bytes, patience)?;
        let written = postcard::to_slice(value, &mut room).map_err(Refusal::Encode)?;
        let bytes = written.len();
        room.commit_front_within(bytes, patience)
    }
}

/// How many bytes the encoded form of a value has.
fn encoded_bytes<T: Serialize>(value: &T) -> Result<usize, Refusal> {
    let size = postcard::ser_flavors::Size::default();
    postcard::serialize_with_flavor(value, size).map_err(Refusal::Encode)
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

    /// As [`try_recv`](Self::try_recv), in the form that [`Select::run`](crate::Select::run) asks for: `None` if there is no
    /// value just now.
    pub fn recv_now(&self) -> Option<Result<T, RecvMessageError>> {
        match self.try_recv() {
            Err(error) if error.is_empty() => None,
            received => Some(received),
        }
    }

    /// Receives the next value, waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or [`is_timeout`](RecvMessageError::is_timeout), never before `limit` has passed.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvMessageError> {
        self.take(Patience::for_limit(limit))
    }

    /// Receives the next value, waiting for one; it is acknowledged when the [`MessageRef`] is dropped.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// use multi_chan::{Builder, Delivery};
    ///
    /// let builder = Builder::new().capacity(4).delivery(Delivery::AtLeastOnce);
    /// let (tx, rx) = builder.build_messages::<String>()?;
    /// tx.send(&"resize cat.jpg".into())?;
    /// let job = rx.recv_ref()?;
    /// // Should this process die here, another one receives the job again.
    /// assert_eq!(*job, "resize cat.jpg");
    /// drop(job);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_ref(&self) -> Result<MessageRef<'_, T>, RecvMessageError> {
        MessageRef::new(&self.link, Patience::Endless)
    }

    /// As [`recv_ref`](Self::recv_ref), if there is a value just now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_ref(&self) -> Result<MessageRef<'_, T>, RecvMessageError> {
        MessageRef::new(&self.link, Patience::None)
    }

    /// As [`recv_ref`](Self::recv_ref), waiting no longer than `limit`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_ref_timeout(&self, limit: Duration) -> Result<MessageRef<'_, T>, RecvMessageError> {
        MessageRef::new(&self.link, Patience::for_limit(limit))
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
    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a sender from
    /// here on.
    ///
    /// # Errors
    /// [`Error::is_mismatch`] unless they are those of a channel of `T` values (told by the name of the type, not by what it
    /// is made of); else as [`messages`].
    pub fn attach(descriptors: Descriptors) -> Result<MessageSender<T>, Error> {
        Ok(MessageSender {
            link: Link::attach::<T>(descriptors, Kind::Messages, Sides::SENDER)?,
            _values: PhantomData,
        })
    }

    both!();
}

/// A received value whose message is acknowledged when this is dropped.
///
/// Until then the message keeps its slot and its room. If the process dies before, or panics, what becomes of it is the
/// channel's [`Delivery`](crate::Delivery): with `AtLeastOnce` it is received again. A value that cannot be decoded is
/// acknowledged at once: it would come for ever.
///
/// # Fork
/// The message stays the parent's: in a child, dropping the copy drops the value alone.
#[must_use = "dropping it acknowledges the message"]
pub struct MessageRef<'a, T> {
    value: T,
    bytes: BytesRef<'a>,
}

impl<'a, T: DeserializeOwned> MessageRef<'a, T> {
    fn new(link: &'a Link, patience: Patience) -> Result<MessageRef<'a, T>, RecvMessageError> {
        let bytes = BytesRef::new(link, patience)?;
        // From a copy, as in `take`.
        let copy = bytes.copied();
        match postcard::from_bytes(&copy) {
            Ok(value) => Ok(MessageRef { value, bytes }),
            Err(cause) => Err(RecvMessageError::decode(copy.len(), cause)),
        }
    }
}

impl<T> MessageRef<'_, T> {
    /// How often the message has been handed out in such a guard, this time included; see
    /// [`SlotRef::attempts`](crate::SlotRef::attempts).
    pub fn attempts(&self) -> u32 {
        self.bytes.attempts()
    }

    /// True if the message was handed out before.
    pub fn redelivered(&self) -> bool {
        self.bytes.redelivered()
    }

    /// Gives the message back without acknowledging it: it is received again, perhaps by this receiver.
    ///
    /// # Panics
    /// In a channel with [`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce): nothing comes back there.
    #[track_caller]
    pub fn give_back(self) {
        self.bytes.give_back();
    }

    /// Acknowledges the message and returns the value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for MessageRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for MessageRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRef")
            .field("value", &self.value)
            .field("attempts", &self.attempts())
            .finish_non_exhaustive()
    }
}

impl<T> MessageReceiver<T> {
    /// Makes a handle of descriptors that came from another program (or this one). This process counts as a receiver from
    /// here on.
    ///
    /// # Errors
    /// As [`MessageSender::attach`].
    pub fn attach(descriptors: Descriptors) -> Result<MessageReceiver<T>, Error> {
        Ok(MessageReceiver {
            link: Link::attach::<T>(descriptors, Kind::Messages, Sides::RECEIVER)?,
            _values: PhantomData,
        })
    }

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
