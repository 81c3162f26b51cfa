//! Why a message was not sent or not received.

use crate::error::Why;
use std::error;
use std::fmt;

/// Why a message was not sent.
#[derive(Debug)]
pub(crate) enum Refusal {
    Why(Why),
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    /// A guard made before a fork, used in the child.
    Inherited,
    #[cfg(feature = "serde")]
    Encode(postcard::Error),
}

impl From<Why> for Refusal {
    fn from(why: Why) -> Self {
        Refusal::Why(why)
    }
}

/// A message was not sent; nothing of it is left in the channel.
///
/// # Examples
/// ```
/// let (tx, _rx) = multi_chan::Builder::new().capacity(4).arena_bytes(4096).build_bytes()?;
/// let error = tx.send(&[0; 5000]).unwrap_err();
/// assert!(error.is_too_large());
/// assert_eq!(
///     error.to_string(),
///     "a message of 5000 bytes does not fit the channel's arena of 4096 bytes: make the channel with a larger `arena_bytes`"
/// );
/// # Ok::<(), multi_chan::Error>(())
/// ```
#[derive(Debug)]
pub struct SendMessageError {
    refusal: Refusal,
}

impl From<Refusal> for SendMessageError {
    fn from(refusal: Refusal) -> Self {
        SendMessageError { refusal }
    }
}

macro_rules! question {
    ($(#[$doc:meta])* $name:ident, $why:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> bool {
            self.why() == Some(Why::$why)
        }
    };
}

macro_rules! questions {
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
            /// Time ran out.
            is_timeout, Timeout
        );
        question!(
            /// The shared memory holds what no participant writes.
            is_corrupt, Corrupt
        );
        question!(
            /// This process could not enter the table of the channel's users.
            is_not_entered, NotEntered
        );
    };
}

impl SendMessageError {
    fn why(&self) -> Option<Why> {
        match self.refusal {
            Refusal::Why(why) => Some(why),
            _ => None,
        }
    }

    questions!();
    question!(
        /// There was no slot, or no room in the arena, just now.
        is_full, Full
    );

    /// The message is larger than the whole arena: it can never be sent.
    pub fn is_too_large(&self) -> bool {
        matches!(self.refusal, Refusal::TooLarge { .. })
    }

    /// The room was reserved before a fork, by the parent, and this is the child.
    pub fn is_inherited(&self) -> bool {
        matches!(self.refusal, Refusal::Inherited)
    }

    /// The value could not be encoded.
    #[cfg(feature = "serde")]
    pub fn is_encode(&self) -> bool {
        matches!(self.refusal, Refusal::Encode(_))
    }
}

impl fmt::Display for SendMessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Refusal::Why(Why::Full) => f.write_str(
                "channel is full: receive from it, wait with send, or make its capacity or arena larger",
            ),
            Refusal::Why(why) => f.write_str(why.text(true)),
            Refusal::TooLarge { bytes, bytes_max } => write!(
                f,
                "a message of {bytes} bytes does not fit the channel's arena of {bytes_max} bytes: make the channel with a larger `arena_bytes`"
            ),
            Refusal::Inherited => f.write_str(
                "this room was reserved before a fork and belongs to the parent: reserve after the fork",
            ),
            #[cfg(feature = "serde")]
            Refusal::Encode(_) => f.write_str("the value could not be encoded, and was not sent"),
        }
    }
}

impl error::Error for SendMessageError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.refusal {
            #[cfg(feature = "serde")]
            Refusal::Encode(cause) => Some(cause),
            _ => None,
        }
    }
}

/// No message was received.
#[derive(Debug)]
pub struct RecvMessageError {
    kind: RecvKind,
}

#[derive(Debug)]
pub(crate) enum RecvKind {
    Why(Why),
    #[cfg(feature = "serde")]
    Decode {
        bytes: usize,
        cause: postcard::Error,
    },
}

impl From<Why> for RecvMessageError {
    fn from(why: Why) -> Self {
        RecvMessageError {
            kind: RecvKind::Why(why),
        }
    }
}

impl RecvMessageError {
    #[cfg(feature = "serde")]
    pub(crate) fn decode(bytes: usize, cause: postcard::Error) -> Self {
        RecvMessageError {
            kind: RecvKind::Decode { bytes, cause },
        }
    }

    fn why(&self) -> Option<Why> {
        match self.kind {
            RecvKind::Why(why) => Some(why),
            #[cfg(feature = "serde")]
            RecvKind::Decode { .. } => None,
        }
    }

    questions!();
    question!(
        /// Nothing was there just now.
        is_empty, Empty
    );

    /// A message came that is no value of the type; it was taken out, and the next one may be received.
    #[cfg(feature = "serde")]
    pub fn is_decode(&self) -> bool {
        matches!(self.kind, RecvKind::Decode { .. })
    }
}

impl fmt::Display for RecvMessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RecvKind::Why(why) => f.write_str(why.text(false)),
            #[cfg(feature = "serde")]
            RecvKind::Decode { bytes, .. } => write!(
                f,
                "a message of {bytes} bytes is no value of the expected type: both sides must be built from the same definition"
            ),
        }
    }
}

impl error::Error for RecvMessageError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.kind {
            RecvKind::Why(_) => None,
            #[cfg(feature = "serde")]
            RecvKind::Decode { cause, .. } => Some(cause),
        }
    }
}
