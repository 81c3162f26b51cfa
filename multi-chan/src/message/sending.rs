//! Sending a message of some size as a case of a select, which holds neither slot nor chunks while it waits.

use crate::message::link::Link;
use crate::message::packet::INLINE;
use crate::readiness::Readiness;
use crate::select::{self, Look, Waitable, Way};
use crate::table::{CLOSED, Core, NO_RECEIVERS};
use crate::wait::{ALL, Event};
use std::cell::Cell;
use std::fmt;
use std::io;

/// Sending a message of so many bytes, as a case of a [`Select`](crate::Select) or for a poll loop.
///
/// Made by [`BytesSender::sending`](crate::BytesSender::sending) and `MessageSender::sending`; it is ready when such a message, or a smaller
/// one, can be sent. It holds no room: somebody else may be faster. It can be used for any number of messages. A larger one may find no room
/// when it is ready: a select would try it again and again.
///
/// # Examples
/// ```
/// let (tx, rx) = multi_chan::bytes(1)?;
/// let (stop_tx, stop) = multi_chan::channel::<u8>(1)?;
/// let page = [7; 4096];
///
/// let room = tx.sending(page.len());
/// let mut select = multi_chan::Select::new();
/// let send = select.send(&room);
/// select.recv(&stop);
/// let sent = select.run(|case| {
///     if case == send {
///         tx.send_now(&page).map(|sent| sent.is_ok())
///     } else {
///         stop.recv_now().map(|_| false)
///     }
/// });
/// assert!(sent);
/// assert_eq!(rx.recv().unwrap(), page);
/// # drop(stop_tx);
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub struct Sending<'a> {
    link: &'a Link,
    bytes: usize,
    /// What the last look found missing: chunks, and not a slot.
    lacks_chunks: Cell<bool>,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(link: &'a Link, bytes: usize) -> Sending<'a> {
        Sending {
            link,
            bytes,
            lacks_chunks: Cell::new(false),
        }
    }

    /// The most bytes that are sure to fit when it is ready.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A descriptor that tells a poll loop when to send.
    ///
    /// # Errors
    /// As [`Receiver::readiness`](crate::Receiver::readiness).
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(select::Sending::case(self).0)
    }

    fn freed(&self) -> &Event {
        &self.core().header().freed.0
    }

    /// Wakes the next who waits for a slot, if there is one.
    fn pass_on_slot(&self) {
        let freed = self.freed();
        if freed.is_armed() && self.link.end().look_send() == Look::Ready {
            freed.post(if self.is_rendezvous() { ALL } else { 1 });
        }
    }
}

impl Waitable for Sending<'_> {
    fn core(&self) -> &Core {
        self.link.end().core()
    }

    fn look(&self, _way: Way) -> Look {
        self.lacks_chunks.set(false);
        let (end, arena) = (self.link.end(), self.link.arena());
        // Also if the operation will say why it cannot be done.
        if end.enter().is_err() || end.core().flags() & (CLOSED | NO_RECEIVERS) != 0 {
            return Look::Ready;
        }
        if self.bytes > arena.bytes_max() {
            return Look::Ready;
        }
        if self.bytes > INLINE && !arena.has_room(self.bytes) {
            self.lacks_chunks.set(true);
            return Look::Nothing;
        }
        end.look_send()
    }

    fn is_rendezvous(&self) -> bool {
        self.link.end().capacity() == 0
    }

    fn event(&self, _way: Way) -> &Event {
        if self.lacks_chunks.get() {
            self.link.arena().room()
        } else {
            self.freed()
        }
    }

    fn second_event(&self) -> Option<&Event> {
        (self.bytes > INLINE).then(|| self.link.arena().room())
    }

    fn pass_on_unused(&self) {
        if self.lacks_chunks.get() {
            self.pass_on_slot();
        }
    }

    fn pass_on(&self, _way: Way) {
        self.pass_on_slot();
    }
}

impl fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
