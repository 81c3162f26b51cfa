//! A side lent to one thread's select, or to its poll loop.
//!
//! Sending and receiving take a handle mutably, and a select holds on to its cases meanwhile: so it is given one of these, through
//! which both can be had, on one thread.

use crate::error::{RecvError, SendError, Why};
use crate::patience::Patience;
use crate::plain::Plain;
use crate::readiness::Readiness;
use crate::select::{Look, Standing, Waitable, Way};
use crate::spsc::receiver::Receiver;
use crate::spsc::sender::Sender;
use crate::table::Core;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A [`Receiver`] lent to a [`Select`](crate::Select) or a poll loop, and to the code that receives when it says so.
///
/// Made by [`Receiver::shared`]; the receiver is its owner's again when this is dropped.
///
/// # Examples
/// ```
/// let (mut tx, mut rx) = multi_chan::spsc::channel::<u32>(4)?;
/// let (stop_tx, stop) = multi_chan::channel::<u8>(1)?;
/// tx.send(7).unwrap();
///
/// let rx = rx.shared();
/// let mut select = multi_chan::Select::new();
/// let numbers = select.recv(&rx);
/// select.recv(&stop);
/// let got = select.run(|case| {
///     if case == numbers {
///         rx.recv_now().map(Result::ok)
///     } else {
///         stop.recv_now().map(|_| None)
///     }
/// });
/// assert_eq!(got, Some(7));
/// # drop(stop_tx);
/// # Ok::<(), multi_chan::Error>(())
/// ```
///
/// It stays on its thread while it is lent:
///
/// ```compile_fail,E0277
/// let (tx, mut rx) = multi_chan::spsc::channel::<u8>(1)?;
/// let rx = rx.shared();
/// std::thread::scope(|scope| {
///     scope.spawn(|| rx.recv_now());
/// });
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub struct SharedReceiver<'a, T: Plain> {
    core: Arc<Core>,
    standing: Standing,
    receiver: RefCell<&'a mut Receiver<T>>,
}

/// A [`Sender`] lent to a [`Select`](crate::Select) or a poll loop, and to the code that sends when it says so.
///
/// Made by [`Sender::shared`]; like [`SharedReceiver`].
pub struct SharedSender<'a, T: Plain> {
    core: Arc<Core>,
    standing: Standing,
    sender: RefCell<&'a mut Sender<T>>,
}

impl<T: Plain> Receiver<T> {
    /// Lends the receiver to a [`Select`](crate::Select), or to a poll loop.
    pub fn shared(&mut self) -> SharedReceiver<'_, T> {
        SharedReceiver {
            core: self.end.core.clone(),
            standing: Standing::default(),
            receiver: RefCell::new(self),
        }
    }
}

impl<T: Plain> Sender<T> {
    /// Lends the sender to a [`Select`](crate::Select), or to a poll loop.
    pub fn shared(&mut self) -> SharedSender<'_, T> {
        SharedSender {
            core: self.end.core.clone(),
            standing: Standing::default(),
            sender: RefCell::new(self),
        }
    }
}

impl<T: Plain> SharedReceiver<'_, T> {
    /// Receives a value, in the form that [`Select::run`](crate::Select::run) asks for: `None` if there is none just now.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv_now(&self) -> Option<Result<T, RecvError>> {
        match self.receiver.borrow_mut().take(Patience::None) {
            Err(Why::Empty) => None,
            received => Some(received.map_err(RecvError::new)),
        }
    }

    /// A descriptor that tells a poll loop when to receive.
    ///
    /// # Errors
    /// As [`Receiver::readiness`](crate::Receiver::readiness).
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(crate::select::Receiving::case(self).0)
    }
}

impl<T: Plain> SharedSender<'_, T> {
    /// Sends `value`, in the form that [`Select::run`](crate::Select::run) asks for: `None` if there is no room just now.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_now(&self, value: T) -> Option<Result<(), SendError<T>>> {
        match self.sender.borrow_mut().put(&value, Patience::None) {
            Err(Why::Full) => None,
            sent => Some(sent.map_err(|why| SendError::new(value, why))),
        }
    }

    /// A descriptor that tells a poll loop when to send.
    ///
    /// # Errors
    /// As [`Receiver::readiness`](crate::Receiver::readiness).
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(crate::select::Sending::case(self).0)
    }
}

impl<T: Plain> Waitable for SharedReceiver<'_, T> {
    fn core(&self) -> &Core {
        &self.core
    }

    fn look(&self, _way: Way) -> Look {
        self.receiver.borrow_mut().look()
    }

    fn is_rendezvous(&self) -> bool {
        false
    }

    fn standing(&self) -> Option<&Standing> {
        Some(&self.standing)
    }
}

impl<T: Plain> Waitable for SharedSender<'_, T> {
    fn core(&self) -> &Core {
        &self.core
    }

    fn look(&self, _way: Way) -> Look {
        self.sender.borrow_mut().look()
    }

    fn is_rendezvous(&self) -> bool {
        false
    }

    fn standing(&self) -> Option<&Standing> {
        Some(&self.standing)
    }
}

impl<T: Plain> fmt::Debug for SharedReceiver<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedReceiver")
            .field(&self.receiver)
            .finish()
    }
}

impl<T: Plain> fmt::Debug for SharedSender<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedSender").field(&self.sender).finish()
    }
}
