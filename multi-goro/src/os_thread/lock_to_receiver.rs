//! Running on the thread of whoever receives on a channel.

use std::error::Error;
use std::fmt;

use super::{OsThreadError, run_on};
use crate::chan::{Receiver, Receiving, Sender};
use crate::group;
use crate::sched::{self, Lane};

/// Why a call was not run on the thread of a channel's receiver.
#[derive(Debug)]
pub struct LockToReceiverError(Kind);

#[derive(Debug)]
enum Kind {
    Closed,
    CallerLocked,
    ReceiverNotLocked,
    Thread(OsThreadError),
}

impl LockToReceiverError {
    /// Whether the channel is closed, so that nobody will receive on it: when the call was made, or while it waited for a receiver.
    ///
    /// ```
    /// let (tx, rx) = multi_goro::chan::<u8>(0);
    /// drop(rx);
    /// assert!(tx.lock_to_receiver(|| ()).unwrap_err().is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.0, Kind::Closed)
    }

    /// Whether the caller has an OS thread already: it is a bound or a locked task.
    #[must_use]
    pub fn is_caller_locked(&self) -> bool {
        matches!(self.0, Kind::CallerLocked)
    }

    /// Whether the receiver is not bound to an [`OsThread`](crate::OsThread): an ordinary task, a locked one, a plain thread, or a
    /// future that is not polled by a task of an `OsThread` itself.
    #[must_use]
    pub fn is_receiver_not_locked(&self) -> bool {
        matches!(self.0, Kind::ReceiverNotLocked)
    }

    /// Whether the receiver's thread could not run the call; [`source`](Error::source) says why.
    #[must_use]
    pub fn is_thread(&self) -> bool {
        matches!(self.0, Kind::Thread(_))
    }
}

impl fmt::Display for LockToReceiverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Closed => "nobody receives on a closed channel: there is no thread to lock to",
            Kind::CallerLocked => {
                "the caller is locked to an OS thread already; call this from a green task that is not bound, or a plain thread"
            }
            Kind::ReceiverNotLocked => {
                "who receives on this channel is not bound to an OsThread; start it with OsThread::go or OsThread::group"
            }
            Kind::Thread(error) => return error.fmt(f),
        })
    }
}

impl Error for LockToReceiverError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Thread(error) => Some(error),
            Kind::Closed | Kind::CallerLocked | Kind::ReceiverNotLocked => None,
        }
    }
}

#[track_caller]
fn lock_to<R: Send>(
    look: impl FnOnce() -> Receiving,
    f: impl FnOnce() -> R + Send,
) -> Result<R, LockToReceiverError> {
    if group::is_locked() || sched::current_runtime().is_some_and(|own| own.bound().is_some()) {
        return Err(LockToReceiverError(Kind::CallerLocked));
    }
    match look() {
        Receiving::Closed => Err(LockToReceiverError(Kind::Closed)),
        Receiving::Task(shared) if shared.bound().is_some() => run_on(&shared, Lane::Normal, f)
            .map_err(|error| LockToReceiverError(Kind::Thread(error))),
        Receiving::Task(_) | Receiving::Other => Err(LockToReceiverError(Kind::ReceiverNotLocked)),
    }
}

macro_rules! on_both_ends {
    ($end:ident) => {
        impl<T> $end<T> {
            /// Runs `f` on the OS thread of the task that is receiving on this channel, waits for it, and returns what it returned:
            /// so tasks share a thread with a server that they know by its channel only, and do not send it closures to run.
            ///
            /// If nobody is receiving (waiting in a receive or a [`select!`](crate::select)), it waits until somebody does. The
            /// receiver has to be bound to an [`OsThread`](crate::OsThread), as a task with or without a stack; `f` then is a task there, and may borrow,
            /// wait and send on the channel. Where the thread itself is at hand, [`OsThread::run`](crate::OsThread::run) is the shorter way.
            ///
            /// ```
            /// use multi_goro::{OsThread, chan};
            ///
            /// let (tx, rx) = chan::<u32>(0);
            /// let server = OsThread::spawn("server")?;
            /// server.go(move || Ok(rx.iter().for_each(drop)));
            ///
            /// let there = tx.lock_to_receiver(|| {
            ///     tx.send(1).unwrap(); // From task to task of one thread.
            ///     std::thread::current().id()
            /// })?;
            /// assert_eq!(there, server.run(|| std::thread::current().id()));
            /// # Ok::<(), multi_goro::BoxError>(())
            /// ```
            ///
            /// # Errors
            ///
            /// The channel is closed, before or while it waits for a receiver; the caller is bound or locked to a thread itself, as
            /// `f` is; the receiver is not bound; its thread is gone. `f` has been dropped then.
            ///
            /// # Panics
            ///
            /// With what `f` panics with.
            #[track_caller]
            pub fn lock_to_receiver<R: Send>(
                &self,
                f: impl FnOnce() -> R + Send,
            ) -> Result<R, LockToReceiverError> {
                lock_to(|| self.who_receives(), f)
            }
        }
    };
}
on_both_ends!(Sender);
on_both_ends!(Receiver);
