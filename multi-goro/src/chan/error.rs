//! Why a channel operation did not succeed. What could not be sent comes back.

use std::error::Error;
use std::fmt;

/// The channel is closed or all receivers are gone; here is the value.
///
/// ```
/// let (tx, rx) = multi_goro::chan(1);
/// drop(rx);
/// assert_eq!(tx.send(7).unwrap_err().into_inner(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Why a value was not sent at once; the value is inside.
///
/// ```
/// use multi_goro::chan::TrySendError;
///
/// let (tx, rx) = multi_goro::chan(1);
/// tx.send(1)?;
/// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
/// drop(rx);
/// assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No room, or, with capacity 0, nobody receiving just now.
    Full(T),
    /// Closed, or all receivers gone.
    Closed(T),
}

/// Why a value was not sent in time; the value is inside.
///
/// ```
/// use std::time::Duration;
/// use multi_goro::chan::SendTimeoutError;
///
/// let (tx, rx) = multi_goro::chan(0);
/// let late = tx.send_timeout(7, Duration::from_millis(1));
/// assert!(matches!(late, Err(SendTimeoutError::Timeout(7))));
/// drop(rx);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// No room in time.
    Timeout(T),
    /// Closed, or all receivers gone.
    Closed(T),
}

/// The channel is closed, or all senders are gone, and its buffer is empty.
///
/// ```
/// let (tx, rx) = multi_goro::chan::<u8>(1);
/// drop(tx);
/// assert_eq!(rx.recv(), Err(multi_goro::chan::RecvError));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvError;

/// Why there was nothing to receive at once.
///
/// ```
/// use multi_goro::chan::TryRecvError;
///
/// let (tx, rx) = multi_goro::chan::<u8>(1);
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
/// drop(tx);
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing yet.
    Empty,
    /// Nothing, and there never will be.
    Closed,
}

/// Why nothing was received in time.
///
/// ```
/// use std::time::Duration;
/// use multi_goro::chan::RecvTimeoutError;
///
/// let (tx, rx) = multi_goro::chan::<u8>(0);
/// assert!(matches!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout)));
/// drop(tx);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    Timeout,
    /// Nothing, and there never will be.
    Closed,
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) | Self::Closed(value) => value,
        }
    }
}

// Values need not be printable for their errors to be.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

const SEND_CLOSED: &str = "send on a closed channel";
const RECV_CLOSED: &str = "receive on a closed and empty channel";

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SEND_CLOSED)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "send on a full channel",
            Self::Closed(_) => SEND_CLOSED,
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "send timed out on a full channel",
            Self::Closed(_) => SEND_CLOSED,
        })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RECV_CLOSED)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "receive on an empty channel",
            Self::Closed => RECV_CLOSED,
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "receive timed out on an empty channel",
            Self::Closed => RECV_CLOSED,
        })
    }
}

impl<T> Error for SendError<T> {}
impl<T> Error for TrySendError<T> {}
impl<T> Error for SendTimeoutError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}
