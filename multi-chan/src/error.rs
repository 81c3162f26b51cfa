//! What can go wrong, and what to do about it.

use std::error;
use std::fmt;
use std::io;

/// Why an operation ended without doing what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Closed,
    Disconnected,
    Full,
    Empty,
    Timeout,
    Corrupt,
    /// This process could not be entered in the participants' table.
    NotEntered,
    /// Another process uses this side of a channel with one sender and one receiver.
    Occupied,
    /// What was to be sent is claimed by the process that this one was forked from.
    Inherited,
}

impl Why {
    pub(crate) fn text(self, sending: bool) -> &'static str {
        match (self, sending) {
            (Why::Closed, true) => {
                "channel is closed: the value was not sent; close only after the last send"
            }
            (Why::Closed, false) => {
                "channel is closed and drained: there is nothing more to receive"
            }
            (Why::Disconnected, true) => {
                "every receiver is gone: the value was not sent; a receiving process may have died"
            }
            (Why::Disconnected, false) => {
                "every sender is gone and the channel is drained: a sending process may have died"
            }
            (Why::Full, _) => "channel is full: receive from it, wait with send, or make it larger",
            (Why::Empty, _) => "channel is empty: wait with recv",
            (Why::Timeout, true) => "timed out before a receiver made room: the value was not sent",
            (Why::Timeout, false) => "timed out before a value was sent",
            (Why::Corrupt, _) => {
                "channel memory is corrupt: some process wrote over it; make a new channel"
            }
            (Why::Inherited, _) => {
                "the slot was reserved before a fork and belongs to the parent: nothing was sent; reserve one in the child"
            }
            (Why::NotEntered, _) => {
                "this process could not enter the channel's table: too many processes use it, or memory or descriptors ran out"
            }
            (Why::Occupied, true) => {
                "another process is this channel's one sender: the value was not sent; drop that process's handle first, or use multi_chan::channel"
            }
            (Why::Occupied, false) => {
                "another process is this channel's one receiver: drop that process's handle first, or use multi_chan::channel"
            }
        }
    }
}

/// A channel could not be made.
///
/// # Examples
/// ```
/// let error = multi_chan::channel::<u64>(usize::MAX).unwrap_err();
/// assert!(error.is_capacity());
/// assert!(error.to_string().starts_with("a channel of 18446744073709551615 values of 8 bytes"));
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
}

#[derive(Debug)]
enum ErrorKind {
    Capacity {
        capacity: usize,
        value_bytes: usize,
    },
    Alignment {
        bytes: usize,
    },
    NoCapacity,
    Mismatch(&'static str),
    NotPassable,
    #[cfg(feature = "named")]
    Name(&'static str),
    Unsupported(&'static str),
    Memory(io::Error),
    Process(io::Error),
}

impl Error {
    pub(crate) fn capacity(capacity: usize, value_bytes: usize) -> Error {
        Error {
            kind: ErrorKind::Capacity {
                capacity,
                value_bytes,
            },
        }
    }

    pub(crate) fn alignment(bytes: usize) -> Error {
        Error {
            kind: ErrorKind::Alignment { bytes },
        }
    }

    pub(crate) fn no_capacity() -> Error {
        Error {
            kind: ErrorKind::NoCapacity,
        }
    }

    pub(crate) fn mismatch(what: &'static str) -> Error {
        Error {
            kind: ErrorKind::Mismatch(what),
        }
    }

    pub(crate) fn not_passable() -> Error {
        Error {
            kind: ErrorKind::NotPassable,
        }
    }

    #[cfg(feature = "named")]
    pub(crate) fn name(what: &'static str) -> Error {
        Error {
            kind: ErrorKind::Name(what),
        }
    }

    pub(crate) fn unsupported(what: &'static str) -> Error {
        Error {
            kind: ErrorKind::Unsupported(what),
        }
    }

    pub(crate) fn memory(cause: io::Error) -> Error {
        Error {
            kind: ErrorKind::Memory(cause),
        }
    }

    pub(crate) fn process(cause: io::Error) -> Error {
        Error {
            kind: ErrorKind::Process(cause),
        }
    }

    /// The capacity does not fit an address space, is 0 where it cannot be, or the values need more alignment than a page.
    pub fn is_capacity(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Capacity { .. } | ErrorKind::Alignment { .. } | ErrorKind::NoCapacity
        )
    }

    /// The descriptors that were to be attached hold no channel, or not one of this version, kind and type of values.
    pub fn is_mismatch(&self) -> bool {
        matches!(self.kind, ErrorKind::Mismatch(_))
    }

    /// The channel has no descriptors: it was made without [`Builder::in_memfd`](crate::Builder::in_memfd).
    pub fn is_not_passable(&self) -> bool {
        matches!(self.kind, ErrorKind::NotPassable)
    }

    /// No channel goes by that name, or the name cannot be given to one ([`named`](crate::named)).
    #[cfg(feature = "named")]
    pub fn is_name(&self) -> bool {
        matches!(self.kind, ErrorKind::Name(_))
    }

    /// The options do not go together.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.kind, ErrorKind::Unsupported(_))
    }

    /// The system had no memory for the mapping.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, ErrorKind::Memory(_))
    }

    /// The process could not make itself known: no descriptor, no memory, too many processes.
    pub fn is_process(&self) -> bool {
        matches!(self.kind, ErrorKind::Process(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Capacity {
                capacity,
                value_bytes,
            } => write!(
                f,
                "a channel of {capacity} values of {value_bytes} bytes does not fit in memory: ask for a smaller capacity"
            ),
            ErrorKind::Alignment { bytes } => write!(
                f,
                "values aligned to {bytes} bytes cannot lie in a channel: at most 4096 is possible"
            ),
            ErrorKind::NoCapacity => write!(
                f,
                "a channel with one sender and one receiver needs room for a value: ask for a capacity of at least 1, or use multi_chan::channel for a rendezvous"
            ),
            ErrorKind::Mismatch(what) => write!(
                f,
                "these descriptors are not those of such a channel: {what}"
            ),
            #[cfg(feature = "named")]
            ErrorKind::Name(what) => write!(f, "this name will not do for a channel: {what}"),
            ErrorKind::Unsupported(what) => f.write_str(what),
            ErrorKind::NotPassable => write!(
                f,
                "the channel cannot be passed on: make it with Builder::in_memfd"
            ),
            ErrorKind::Memory(_) => write!(
                f,
                "no memory for the channel: ask for a smaller capacity, or raise the limit on address space or mappings"
            ),
            ErrorKind::Process(_) => write!(
                f,
                "this process could not be made known to the channel's other users: check the limits on memory and descriptors"
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Memory(cause) | ErrorKind::Process(cause) => Some(cause),
            ErrorKind::Capacity { .. }
            | ErrorKind::Alignment { .. }
            | ErrorKind::NoCapacity
            | ErrorKind::Mismatch(_)
            | ErrorKind::NotPassable
            | ErrorKind::Unsupported(_) => None,
            #[cfg(feature = "named")]
            ErrorKind::Name(_) => None,
        }
    }
}

macro_rules! question {
    ($(#[$doc:meta])* $name:ident, $why:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> bool {
            self.why == Why::$why
        }
    };
}

macro_rules! common_questions {
    () => {
        question!(
            /// Somebody called `close`.
            is_closed, Closed
        );
        question!(
            /// Nobody is left on the other side, in any process.
            is_disconnected, Disconnected
        );
        question!(
            /// The shared memory holds what no participant writes.
            is_corrupt, Corrupt
        );
        question!(
            /// This process could not enter the table of the channel's users.
            is_not_entered, NotEntered
        );
        question!(
            /// Another live process uses this side of a channel with one sender and one receiver ([`spsc`](crate::spsc)).
            is_occupied, Occupied
        );
    };
}

macro_rules! send_error {
    ($(#[$doc:meta])* $name:ident { $($questions:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name<T> {
            value: T,
            why: Why,
        }

        impl<T> $name<T> {
            pub(crate) fn new(value: T, why: Why) -> Self {
                $name { value, why }
            }

            /// The value that was not sent.
            pub fn into_inner(self) -> T {
                self.value
            }

            common_questions!();
            $($questions)*
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("why", &self.why).finish_non_exhaustive()
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.why.text(true))
            }
        }

        impl<T> error::Error for $name<T> {}
    };
}

macro_rules! recv_error {
    ($(#[$doc:meta])* $name:ident { $($questions:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            why: Why,
        }

        impl $name {
            pub(crate) fn new(why: Why) -> Self {
                $name { why }
            }

            common_questions!();
            $($questions)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.why.text(false))
            }
        }

        impl error::Error for $name {}
    };
}

send_error! {
    /// `send` gives the value back: the channel is closed or its receivers are gone.
    SendError {
        question!(
            /// A slot reserved before a fork was committed in the child.
            is_inherited, Inherited
        );
    }
}

send_error! {
    /// `try_send` gives the value back: the channel is full, closed, or its receivers are gone.
    TrySendError {
        question!(
            /// There was no room just now.
            is_full, Full
        );
    }
}

send_error! {
    /// `send_timeout` gives the value back: time ran out, the channel is closed, or its receivers are gone.
    SendTimeoutError {
        question!(
            /// No receiver made room in time.
            is_timeout, Timeout
        );
    }
}

recv_error! {
    /// `recv` found the channel closed, or its senders gone, and nothing left in it.
    RecvError {}
}

recv_error! {
    /// `try_recv` found nothing: the channel is empty, closed, or its senders are gone.
    TryRecvError {
        question!(
            /// Nothing was there just now.
            is_empty, Empty
        );
    }
}

recv_error! {
    /// `recv_timeout` found nothing: time ran out, the channel is closed, or its senders are gone.
    RecvTimeoutError {
        question!(
            /// Nothing was sent in time.
            is_timeout, Timeout
        );
    }
}

/// `send_batch` stopped early: the channel is closed or its receivers are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendBatchError {
    sent: usize,
    why: Why,
}

impl SendBatchError {
    pub(crate) fn new(sent: usize, why: Why) -> Self {
        SendBatchError { sent, why }
    }

    /// How many values, from the front of the batch, were sent before that.
    pub fn sent(&self) -> usize {
        self.sent
    }

    common_questions!();
}

impl fmt::Display for SendBatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after {} values of the batch: {}",
            self.sent,
            self.why.text(true)
        )
    }
}

impl error::Error for SendBatchError {}
