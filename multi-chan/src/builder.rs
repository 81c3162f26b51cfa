//! The options of a channel that is about to be made.

use crate::Error;
use crate::chan::{Chan, Receiver, Sender};
use crate::delivery::Delivery;
use crate::ends::End;
use crate::message::link::Link;
use crate::message::{BytesReceiver, BytesSender};
#[cfg(feature = "serde")]
use crate::message::{MessageReceiver, MessageSender};
use crate::pass::{Kind, Label};
use crate::plain::Plain;
use crate::spsc;
use crate::table::Sides;
#[cfg(feature = "serde")]
use std::marker::PhantomData;

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
    pub(crate) in_memfd: bool,
    pub(crate) delivery: Delivery,
    pub(crate) pollable: bool,
    pub(crate) prefault: bool,
    /// `None`: as many as `ARENA_BYTES`.
    arena_bytes: Option<usize>,
}

/// The arena of a channel of messages: room for dozens of large ones, and memory only for what was used.
const ARENA_BYTES: usize = 64 << 20;

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

    /// What becomes of a message whose receiver dies with it; [`Delivery::AtMostOnce`] unless said.
    ///
    /// [`build_spsc`](Self::build_spsc) answers [`Error::is_unsupported`] to `AtLeastOnce`.
    pub fn delivery(mut self, delivery: Delivery) -> Builder {
        self.delivery = delivery;
        self
    }

    /// Lays the channel in sealed files in memory (`memfd_create(2)`), so that it can be passed to another program: see
    /// [`Descriptors`](crate::Descriptors).
    ///
    /// It costs one descriptor per channel, and one more per process that stays. The users of such channels form one
    /// table of their own, beside that of the other channels.
    pub fn in_memfd(mut self) -> Builder {
        self.in_memfd = true;
        self
    }

    /// What the memory is to say of itself, if it is to be passed on.
    pub(crate) fn label<T>(&self, kind: Kind) -> Option<Label> {
        self.in_memfd.then(|| Label::of::<T>(kind, self))
    }

    /// Whether poll loops can wait for the channel, with [`readiness`](crate::Receiver::readiness), and selects that
    /// wait for descriptors, too.
    ///
    /// Such a channel has two descriptors, which forked children inherit. While no poll loop waits it is as fast as
    /// any other. Passed to another program ([`in_memfd`](Self::in_memfd)) it has four descriptors instead of two, which are told apart by `/proc`; it cannot be found by a
    /// name, since nobody can open an eventfd through another process.
    pub fn pollable(mut self, pollable: bool) -> Builder {
        self.pollable = pollable;
        self
    }

    /// Whether all of the channel's memory is brought in when it is made, and in every forked process at its first use (send, receive,
    /// clone of a handle).
    ///
    /// Otherwise a page is brought in when it is first touched, by each process for itself: in the first lap round a ring of large values
    /// each message then pays a page fault for every 4 KiB, on both sides. With it, making the channel and the first use take that time, less
    /// in all, and the memory is used up from the start, the arena's too (see [`arena_bytes`](Self::arena_bytes)). In a program that
    /// attaches to the channel, and on Linux before 5.14, it changes nothing.
    ///
    /// # Examples
    /// ```
    /// let (tx, rx) = multi_chan::Builder::new().capacity(4).prefault(true).build::<[u64; 8192]>()?;
    /// let mut frame = tx.reserve()?;
    /// frame.fill(7);
    /// frame.commit()?;
    /// assert_eq!(rx.recv_ref()?[8191], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefault(mut self, prefault: bool) -> Builder {
        self.prefault = prefault;
        self
    }

    /// At least this many bytes for messages too large for a slot, together: 64 MiB if nothing is said.
    ///
    /// For channels of messages ([`build_bytes`](Self::build_bytes)). It is rounded up to whole chunks of 4 KiB, of
    /// which each message has its own. It is address space: memory is used only as far as the arena was filled at one time.
    pub fn arena_bytes(mut self, bytes: usize) -> Builder {
        self.arena_bytes = Some(bytes);
        self
    }

    /// Bytes of the arena asked for.
    pub(crate) fn arena_bytes_or_default(&self) -> usize {
        self.arena_bytes.unwrap_or(ARENA_BYTES)
    }

    /// Makes a channel for messages of bytes and its two ends, as [`bytes`](crate::bytes) does.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_bytes(&self) -> Result<(BytesSender, BytesReceiver), Error> {
        let (sender, receiver) = Link::pair::<u8>(self, Kind::Bytes)?;
        Ok((
            BytesSender { link: sender },
            BytesReceiver { link: receiver },
        ))
    }

    /// Makes a channel for values that serde can encode and its two ends, as [`messages`](crate::messages) does.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    #[cfg(feature = "serde")]
    pub fn build_messages<T>(&self) -> Result<(MessageSender<T>, MessageReceiver<T>), Error>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let (sender, receiver) = Link::pair::<T>(self, Kind::Messages)?;
        let sender = MessageSender {
            link: sender,
            _values: PhantomData,
        };
        let receiver = MessageReceiver {
            link: receiver,
            _values: PhantomData,
        };
        Ok((sender, receiver))
    }

    /// Makes the channel and its two ends.
    ///
    /// # Errors
    /// [`Error::is_capacity`] if the values do not fit an address space, [`Error::is_memory`] if the
    /// system has no memory for the mapping, [`Error::is_process`] if this process cannot be entered in
    /// the table of channel users (once per process: two mappings and, for a moment, one descriptor;
    /// two descriptors if it is [`pollable`](Self::pollable)).
    pub fn build<T: Plain>(&self) -> Result<(Sender<T>, Receiver<T>), Error> {
        let (sender, receiver) = End::pair(self, Sides::SENDER, Sides::RECEIVER)?;
        Ok((Sender { end: sender }, Receiver { end: receiver }))
    }

    /// Makes a channel with one sender and one receiver, as [`spsc::channel`] does.
    ///
    /// # Errors
    /// As [`spsc::channel`]; [`Error::is_unsupported`] with [`Delivery::AtLeastOnce`].
    pub fn build_spsc<T: Plain>(&self) -> Result<(spsc::Sender<T>, spsc::Receiver<T>), Error> {
        if self.delivery == Delivery::AtLeastOnce {
            return Err(Error::unsupported(
                "a channel with one sender and one receiver delivers at most once: nobody is left to receive again; use `build`",
            ));
        }
        spsc::make(self)
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
