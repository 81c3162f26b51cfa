//! A channel with one sender and one receiver: about half the cost of [`channel`](crate::channel) for a small
//! message, since neither side has anybody to agree with.
//!
//! ```
//! let (mut tx, mut rx) = multi_chan::spsc::channel::<u32>(2)?;
//! std::thread::scope(|scope| {
//!     scope.spawn(move || {
//!         for value in 0..1_000 {
//!             tx.send(value).unwrap();
//!         }
//!     });
//!     assert_eq!(rx.iter().sum::<u32>(), 499_500);
//! });
//! # Ok::<(), multi_chan::Error>(())
//! ```
//!
//! The handles cannot be cloned, and sending and receiving take `&mut self`: within a process the compiler sees to it
//! that there is one of each.
//!
//! # Forks
//!
//! A forked child has copies of its parent's handles. **The first process to use a side has it**: another one's use
//! is an error (`is_occupied`) for as long as that process lives and keeps its handle. When it has ended, however it
//! ended, or has dropped its handle, the next process to use the side takes it over and goes on where it stopped.
//! A process counts for a side as in every channel ([crate documentation](crate#forks)).
//!
//! # In a select, and in poll loops
//!
//! [`Receiver::shared`] and [`Sender::shared`] lend a side to a [`Select`](crate::Select), on one thread; of a channel that was built as
//! [`pollable`](crate::Builder::pollable), to a poll loop, too. A message costs the same in such a channel; a wait costs one short
//! sleep more.
//!
//! # What a death costs
//!
//! Nothing. A value whose `send` returned `Ok` is received, whole and in order, by this receiver or the next; a sender
//! killed in the middle of a send has sent nothing or all of it; a receiver killed in the middle of a receive leaves
//! the value for the next. The next may therefore meet a value that the last one had received when it died, but never one
//! whose `recv` returned.
//!
//! The protocol, with its proofs, is in `src/spsc/README.md`.

#[cfg(not(loom))]
mod end;
pub(crate) mod lane;
pub(crate) mod layout;
#[cfg(not(loom))]
mod loan;
#[cfg(all(loom, test))]
mod model;
#[cfg(not(loom))]
mod receiver;
#[cfg(not(loom))]
mod sender;
#[cfg(not(loom))]
mod shared;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
pub use {
    loan::{SlotMut, SlotRef},
    receiver::{IntoIter, Iter, Receiver},
    sender::Sender,
    shared::{SharedReceiver, SharedSender},
};

#[cfg(not(loom))]
use crate::plain::Plain;
#[cfg(not(loom))]
use crate::{Builder, Error};

/// Makes a channel for at most `capacity` values in flight between one sender and one receiver.
///
/// # Errors
/// [`Error::is_capacity`] if `capacity` is 0 (a rendezvous takes [`channel`](crate::channel)) or the values do not fit
/// an address space, [`Error::is_memory`] if the system has no memory for the mapping, [`Error::is_process`] if this process
/// cannot be entered in the table of channel users.
///
/// # Examples
/// ```
/// let (mut tx, mut rx) = multi_chan::spsc::channel::<[f64; 3]>(100)?;
/// tx.send([1.0, 2.0, 3.0]).unwrap();
/// drop(tx);
/// assert_eq!(rx.recv(), Ok([1.0, 2.0, 3.0]));
/// assert!(rx.recv().unwrap_err().is_disconnected());
/// # Ok::<(), multi_chan::Error>(())
/// ```
#[cfg(not(loom))]
pub fn channel<T: Plain>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), Error> {
    make(&Builder::new().capacity(capacity))
}

#[cfg(not(loom))]
pub(crate) fn make<T: Plain>(options: &Builder) -> Result<(Sender<T>, Receiver<T>), Error> {
    let (sender, receiver) = end::End::pair(options)?;
    Ok((Sender { end: sender }, Receiver { end: receiver }))
}
