//! Channels between tasks, and between tasks and plain threads.
//!
//! [`chan`] makes one: a buffer of `capacity` values, or none, and then each value goes from hand to hand. Both ends can be
//! cloned; values are received in the order in which they were sent. A channel ends when it is closed or all of one side is
//! gone: receivers get what is left in the buffer, senders get their values back. [`select!`](crate::select) waits for one of
//! several.
//!
//! ```
//! use multi_goro::chan;
//!
//! let (tx, rx) = chan(2);
//! let mut group = multi_goro::Group::new();
//! for n in 0..2 {
//!     let tx = tx.clone();
//!     group.go(move || Ok(tx.send(40 + n)?));
//! }
//! drop(tx);
//! assert_eq!(rx.iter().sum::<i32>(), 81);
//! group.wait()?;
//! # Ok::<(), multi_goro::GroupError>(())
//! ```

#![expect(unsafe_code, reason = "a value's place is on the stack of who waits")]

mod error;
pub(crate) mod future;
mod lookout;
#[doc(hidden)]
pub mod select;

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};

pub(crate) use lookout::Receiving;
use lookout::tell_lookouts;

use crate::proto::channel::{Core, Received, Seat, Sent};
use crate::proto::claim::Claim;
use crate::proto::home_lock::HomeLock;
use crate::sched::{self, Waiter, WaitsFor, Wake, enter, park};
use crate::sync::{AtomicUsize, Ordering::*};

/// Makes a channel that buffers up to `capacity` values; with 0 a send waits for its receiver.
///
/// Memory is taken as values come, so a huge capacity costs nothing by itself.
///
/// ```
/// let (tx, rx) = multi_goro::chan::<u8>(1);
/// tx.send(7)?;
/// assert!(tx.try_send(8).is_err());
/// assert_eq!(rx.recv(), Ok(7));
/// # Ok::<(), multi_goro::chan::SendError<u8>>(())
/// ```
#[must_use]
pub fn chan<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        core: HomeLock::new(Core::new(capacity)),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
    });
    let sender = Sender {
        channel: Arc::clone(&channel),
    };
    (sender, Receiver { channel })
}

// Between two workers a message costs what it takes to bring lock and buffer from one processor's cache to the other's, shared by as many messages
// as one side handles at a time. One sender and one receiver held on two workers, a million messages on two virtual processors (AMD EPYC, at
// real-time priority): 97 ns with a capacity of 64, 57 with 1 024; kanal's on Tokio, whose tasks may change workers, 98 and 158, in a run of
// its own, not in turns with it. On one worker it is 7. Tried, and no better:
//
// - what each operation writes laid side by side: within 3 %;
// - other pauses in `lock_busy`: of 4 rather than 16 turns 10 to 60 % slower, of 32 the same, of 64 and more slower where the buffer is small;
// - to look again for some microseconds before parking: of 46 000 parks 170 were left, and it took as long; with a capacity of 1 twice as long.
struct Channel<T> {
    core: HomeLock<Core<T, Place>>,
    /// Living ends of each side; the channel closes when either falls to zero.
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

/// A waiting sender's or receiver's place for a value, on its own stack.
///
/// Stands in a queue of a channel of `T` with the address of an `Option<T>`, whose type it does not keep: so that a select need not know it either.
#[derive(Debug, Clone, Copy)]
struct Place {
    waiter: Waiter,
    value: NonNull<()>,
    /// The claim on the waiter and which of its seats this is, if it has taken several.
    claim: Option<(NonNull<Claim>, u32)>,
}

// SAFETY: the value is reached under the lock and before its owner is unparked, who then has it alone. Only a `Core<T, Place>` reaches
// it, and is `Send` as its buffer is: if `T` is.
unsafe impl Send for Place {}

// SAFETY: touches the place only, which lives until its owner has been unparked or has left the queue.
unsafe impl<T> Seat<T> for Place {
    fn is_won(&self) -> bool {
        self.claim.is_none_or(|(claim, case)| {
            // SAFETY: who waits takes back its seats, under this very lock, before it lets go of its claim.
            unsafe { claim.as_ref() }.win(case)
        })
    }

    unsafe fn deliver(&self, value: T) {
        // SAFETY: the owner waits until it is unparked, which the caller does later.
        unsafe { self.value.cast::<Option<T>>().write(Some(value)) };
    }

    unsafe fn collect(&self) -> T {
        // SAFETY: as in `deliver`.
        let place = unsafe { self.value.cast::<Option<T>>().as_mut() };
        place.take().expect("a waiting sender has a value")
    }
}

impl<T> Channel<T> {
    fn send(&self, value: T, deadline: impl FnOnce() -> Deadline) -> Result<(), TrySendError<T>> {
        let mut core = enter(&self.core);
        let value = match core.send(value) {
            Sent::Buffered => {
                drop(core);
                sched::spend();
                return Ok(());
            }
            Sent::Handed(receiver) => {
                let is_rendezvous = core.gate.capacity() == 0;
                drop(core);
                // SAFETY: taken from the queue by this send alone; receivers wait for it as `receive` does.
                unsafe { receiver.wake(is_rendezvous) };
                sched::spend();
                return Ok(());
            }
            Sent::Closed(value) => return Err(TrySendError::Closed(value)),
            Sent::Full(value) => value,
        };
        let deadline = match deadline() {
            Deadline::Now => return Err(TrySendError::Full(value)),
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        let mut place = Some(value);
        let slot = NonNull::from(&mut place);
        let ticket = core.gate.wait_to_send(Place {
            waiter: Waiter::current(),
            value: slot.cast(),
            claim: None,
        });
        drop(core);
        let mut timed_out = false;
        if park(WaitsFor::Send, deadline) == Wake::TimedOut {
            timed_out = enter(&self.core).gate.leave_senders(ticket);
            if !timed_out {
                // Somebody has taken our place, and is about to tell us.
                let Wake::Unparked = park(WaitsFor::Send, None) else {
                    unreachable!("a wait without a deadline timed out")
                };
            }
        }
        // SAFETY: nobody else has the slot any more: we left the queue, or were unparked after it was used.
        match unsafe { slot.as_ptr().replace(None) } {
            None => Ok(()),
            Some(value) if timed_out => Err(TrySendError::Full(value)),
            Some(value) => Err(TrySendError::Closed(value)),
        }
    }

    fn receive(&self, deadline: impl FnOnce() -> Deadline) -> Result<T, TryRecvError> {
        let mut core = enter(&self.core);
        match core.receive() {
            Received::Value(value, sender) => {
                drop(core);
                if let Some(sender) = sender {
                    // SAFETY: taken from the queue by this receive alone; senders wait for it as `send` does.
                    unsafe { sender.wake(false) };
                }
                sched::spend();
                return Ok(value);
            }
            Received::Closed => return Err(TryRecvError::Closed),
            Received::Empty => {}
        }
        let deadline = match deadline() {
            Deadline::Now => return Err(TryRecvError::Empty),
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        };
        let mut place = None;
        let slot = NonNull::from(&mut place);
        let waiter = Waiter::current();
        let ticket = core.gate.wait_to_receive(Place {
            waiter,
            value: slot.cast(),
            claim: None,
        });
        if core.gate.has_lookouts() {
            tell_lookouts(&mut core.gate, Some(waiter));
        }
        drop(core);
        if park(WaitsFor::Receive, deadline) == Wake::TimedOut {
            if enter(&self.core).gate.leave_receivers(ticket) {
                return Err(TryRecvError::Empty);
            }
            let Wake::Unparked = park(WaitsFor::Receive, None) else {
                unreachable!("a wait without a deadline timed out")
            };
        }
        // SAFETY: nobody else has the slot any more: we were unparked after it was used.
        unsafe { slot.as_ptr().replace(None) }.ok_or(TryRecvError::Closed)
    }

    fn close(&self) {
        let mut core = enter(&self.core);
        let waiting = core.close();
        tell_lookouts(&mut core.gate, None);
        drop(core);
        for mut queue in waiting {
            while let Some(seat) = queue.pop() {
                if let Some(soon) = queue.soon(sched::WAKES_AHEAD) {
                    soon.waiter.prefetch();
                }
                // SAFETY: taken from a queue by this close alone; both sides wait for it.
                unsafe { seat.wake(false) };
            }
        }
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Read before anything is written: what `f` writes to is the user's, and may use this very channel, wait or panic.
        let core = enter(&self.core);
        let (len, capacity) = (core.gate.len(), core.gate.capacity());
        let is_closed = core.gate.is_closed();
        drop(core);
        f.debug_struct(name)
            .field("len", &len)
            .field("capacity", &capacity)
            .field("is_closed", &is_closed)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// # Safety
    ///
    /// - As for [`Waiter::unpark`].
    unsafe fn wake(self, next: bool) {
        if next {
            // SAFETY: the caller's promise.
            unsafe { self.waiter.unpark_next() };
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.waiter.unpark() };
        }
    }
}

/// How long an operation may wait.
enum Deadline {
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        // A time beyond what the clock can count never comes.
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Never, Self::At)
    }

    /// When the wait ends, if it may begin.
    fn at(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::Now | Self::Never => None,
        }
    }
}

/// The sending end of a channel; clones send into the same one.
///
/// ```
/// let (tx, rx) = multi_goro::chan(2);
/// let other = tx.clone();
/// tx.send(1)?;
/// other.send(2)?;
/// assert_eq!(rx.try_iter().sum::<i32>(), 3);
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends a value, waiting until there is room for it or, with capacity 0, until somebody receives it.
    ///
    /// Parks the calling task, or blocks the calling thread.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value, if the channel is closed or all receivers are gone, now or while it waits.
    ///
    /// ```
    /// let (tx, rx) = multi_goro::chan(1);
    /// tx.send(7)?;
    /// assert_eq!(rx.recv(), Ok(7));
    /// drop(rx);
    /// assert_eq!(tx.send(8).unwrap_err().into_inner(), 8);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.channel
            .send(value, || Deadline::Never)
            .map_err(|error| SendError(error.into_inner()))
    }

    /// Sends a value if that is possible at once.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the value.
    ///
    /// ```
    /// let (tx, _rx) = multi_goro::chan(1);
    /// assert!(tx.try_send(7).is_ok());
    /// assert_eq!(tx.try_send(8).unwrap_err().into_inner(), 8);
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.channel.send(value, || Deadline::Now)
    }

    /// Sends a value, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the value.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (tx, _rx) = multi_goro::chan(0);
    /// let late = tx.send_timeout(7, Duration::from_millis(1));
    /// assert!(late.is_err(), "nobody receives");
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.channel
            .send(value, || Deadline::after(timeout))
            .map_err(|error| match error {
                TrySendError::Full(value) => SendTimeoutError::Timeout(value),
                TrySendError::Closed(value) => SendTimeoutError::Closed(value),
            })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: the one being cloned keeps the count above zero.
        self.channel.senders.fetch_add(1, Relaxed);
        Self {
            channel: Arc::clone(&self.channel),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Relaxed: `close` takes the lock, which orders it after what this and the other senders did.
        if self.channel.senders.fetch_sub(1, Relaxed) == 1 {
            self.channel.close();
        }
    }
}

/// The receiving end of a channel; clones take turns at the same values.
///
/// ```
/// let (tx, rx) = multi_goro::chan(2);
/// let other = rx.clone();
/// tx.send(1)?;
/// tx.send(2)?;
/// assert_eq!((rx.recv(), other.recv()), (Ok(1), Ok(2)));
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Receiver<T> {
    /// Receives the next value, waiting for it.
    ///
    /// Parks the calling task, or blocks the calling thread.
    ///
    /// # Errors
    ///
    /// [`RecvError`] once the channel is closed, or all senders are gone, and the buffer is empty.
    ///
    /// ```
    /// let (tx, rx) = multi_goro::chan(1);
    /// tx.send(7)?;
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(7));
    /// assert!(rx.recv().is_err());
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel
            .receive(|| Deadline::Never)
            .map_err(|_| RecvError)
    }

    /// Receives the next value if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: nothing yet, or nothing ever.
    ///
    /// ```
    /// use multi_goro::chan::TryRecvError;
    ///
    /// let (tx, rx) = multi_goro::chan::<u8>(1);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// drop(tx);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.receive(|| Deadline::Now)
    }

    /// Receives the next value, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: nothing came in time, or nothing ever will.
    ///
    /// ```
    /// use multi_goro::chan::RecvTimeoutError;
    /// use std::time::Duration;
    ///
    /// let (_tx, rx) = multi_goro::chan::<u8>(1);
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.channel
            .receive(|| Deadline::after(timeout))
            .map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Closed => RecvTimeoutError::Closed,
            })
    }

    /// The values to come, until the channel ends. Waits for each.
    ///
    /// ```
    /// let (tx, rx) = multi_goro::chan(2);
    /// tx.send(1)?;
    /// tx.send(2)?;
    /// drop(tx);
    /// assert_eq!(rx.iter().sum::<i32>(), 3);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// The values that are there now.
    ///
    /// ```
    /// let (tx, rx) = multi_goro::chan(2);
    /// tx.send(1)?;
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1]);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        // Relaxed: the one being cloned keeps the count above zero.
        self.channel.receivers.fetch_add(1, Relaxed);
        Self {
            channel: Arc::clone(&self.channel),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Relaxed: as for senders.
        if self.channel.receivers.fetch_sub(1, Relaxed) == 1 {
            self.channel.close();
            // Nobody will take these; they are dropped with the lock free.
            let rest = enter(&self.channel.core).drain();
            drop(rest);
        }
    }
}

macro_rules! both_ends {
    ($end:ident) => {
        impl<T> $end<T> {
            /// Closes the channel for everybody: sends fail from now on, receivers get what is left in the buffer.
            ///
            /// ```
            /// let (tx, rx) = multi_goro::chan(1);
            /// tx.send(7)?;
            /// tx.close();
            /// assert!(tx.send(8).is_err());
            /// assert_eq!((rx.recv().ok(), rx.recv().ok()), (Some(7), None));
            /// # Ok::<(), multi_goro::BoxError>(())
            /// ```
            pub fn close(&self) {
                self.channel.close();
            }

            /// Whether the channel is closed, or all of one side is gone.
            ///
            /// ```
            /// let (tx, rx) = multi_goro::chan::<u8>(1);
            /// drop(rx);
            /// assert!(tx.is_closed());
            /// ```
            #[must_use]
            pub fn is_closed(&self) -> bool {
                enter(&self.channel.core).gate.is_closed()
            }

            /// Who receives now, or else who will be the first to: waits for that.
            pub(crate) fn who_receives(&self) -> Receiving {
                self.channel.who_receives()
            }

            /// Values in the buffer.
            ///
            /// ```
            /// let (tx, rx) = multi_goro::chan(2);
            /// tx.send(7)?;
            /// assert_eq!((tx.len(), rx.len()), (1, 1));
            /// # Ok::<(), multi_goro::BoxError>(())
            /// ```
            #[must_use]
            pub fn len(&self) -> usize {
                enter(&self.channel.core).gate.len()
            }

            /// Whether the buffer is empty.
            ///
            /// ```
            /// let (tx, _rx) = multi_goro::chan::<u8>(2);
            /// assert!(tx.is_empty());
            /// ```
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Values that fit in the buffer.
            ///
            /// ```
            /// let (tx, _rx) = multi_goro::chan::<u8>(2);
            /// assert_eq!(tx.capacity(), 2);
            /// ```
            #[must_use]
            pub fn capacity(&self) -> usize {
                enter(&self.channel.core).gate.capacity()
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.channel.describe(stringify!($end), f)
            }
        }
    };
}
both_ends!(Sender);
both_ends!(Receiver);

/// The values to come: see [`Receiver::iter`].
///
/// ```
/// let (tx, rx) = multi_goro::chan(2);
/// tx.send(1)?;
/// tx.send(2)?;
/// drop(tx);
/// assert_eq!(rx.iter().sum::<i32>(), 3);
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

/// The values that are there now: see [`Receiver::try_iter`].
///
/// ```
/// let (tx, rx) = multi_goro::chan(2);
/// tx.send(1)?;
/// // The channel is open, and yet it ends.
/// assert_eq!(rx.try_iter().count(), 1);
/// assert_eq!(rx.try_iter().count(), 0);
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[derive(Debug)]
pub struct TryIter<'a, T>(&'a Receiver<T>);

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// The values to come, keeping the receiver: `for value in receiver`.
///
/// ```
/// let (tx, rx) = multi_goro::chan(1);
/// tx.send(7)?;
/// drop(tx);
/// for value in rx {
///     assert_eq!(value, 7);
/// }
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
