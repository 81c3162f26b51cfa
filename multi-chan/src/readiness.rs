//! A descriptor for poll loops: readable when an operation on a channel may be possible.

use crate::chan::{Chan, Receiver, Sender};
use crate::face;
use crate::message::BytesReceiver;
#[cfg(feature = "serde")]
use crate::message::MessageReceiver;
use crate::patience::{MOMENT, MOMENT_DOUBLINGS};
use crate::plain::Plain;
use crate::robust::{Process, Watch};
use crate::select::{Case, Look, Receiving, Sending};
use crate::sys;
use crate::vigil::{LOOK_ROUND, LOOK_ROUND_POLLING};
use crate::wait::Event;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A descriptor that becomes readable when receiving from a channel (or sending to it) may be possible.
///
/// For poll loops of any kind: `poll(2)`, `epoll(7)`, an asynchronous runtime. The channel must have been built with
/// [`Builder::pollable`](crate::Builder::pollable). The rules:
///
/// 1. Try the operation (`try_recv`, `try_send`) until it says that the channel is empty (full).
/// 2. Call [`arm`](Self::arm). If it returns false, go to 1.
/// 3. Wait until the descriptor is readable, in whatever way, and go to 1. Do not read from it.
///
/// No message, no close and no disconnection is missed that way, also when the other side is killed: the descriptor is a
/// set (an epoll instance) of the channel's eventfd, the pidfds of its other participants, and where that
/// is needed a timer. It may be readable for no reason. It costs a descriptor for each other participant, the set's and at
/// most one more.
///
/// Any number of poll loops, in any processes and beside blocking receivers, may wait for one channel, each with a
/// `Readiness` of its own. Each of them wakes for each message.
///
/// # Fork
/// The set is this process's. In a forked child `arm` fails: make a new one there.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
///
/// let (tx, rx) = multi_chan::Builder::new().capacity(4).pollable(true).build::<u32>()?;
/// let mut readiness = rx.readiness()?;
/// std::thread::scope(|scope| {
///     scope.spawn(move || tx.send(42));
///     let mut got = Vec::new();
///     loop {
///         match rx.recv_now() {
///             Some(Ok(number)) => got.push(number),
///             Some(Err(_)) => break,
///             None => {
///                 if readiness.arm()? {
///                     wait_until_readable(readiness.as_fd());
///                 }
///             }
///         }
///     }
///     assert_eq!(got, [42]);
///     Ok::<(), std::io::Error>(())
/// })?;
///
/// fn wait_until_readable(fd: std::os::fd::BorrowedFd<'_>) {
///     // poll(2), or the event loop of your choice
/// #   let mut select = multi_chan::Select::new();
/// #   select.readable(&fd);
/// #   select.wait();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a readiness is for waiting on its descriptor"]
pub struct Readiness<'a> {
    case: Case<'a>,
    /// The process that made the set, as bits.
    owner: u64,
    set: OwnedFd,
    watched: Vec<(Process, OwnedFd)>,
    timer: Option<OwnedFd>,
    /// Armings in a row that found somebody in the middle of what is waited for.
    moments: u32,
}

impl<'a> Readiness<'a> {
    pub(crate) fn new(case: Case<'a>) -> io::Result<Readiness<'a>> {
        let Some(face) = face::find(case.main_event()) else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "channel was not built as pollable: make it with Builder::pollable(true)",
            ));
        };
        // Enters this process, so that it has a number.
        case.look();
        let set = sys::epoll()?;
        sys::epoll_add(set.as_fd(), face)?;
        Ok(Readiness {
            case,
            owner: case.core().me(),
            set,
            watched: Vec::new(),
            timer: None,
            moments: 0,
        })
    }

    /// True if this process made it.
    pub(crate) fn is_ours(&self) -> bool {
        self.case.core().me() == self.owner
    }

    /// Has the descriptor become readable at the next change; false if the operation may be possible now, and nothing
    /// was armed.
    ///
    /// Never blocks.
    ///
    /// # Errors
    /// When no descriptor is left for a participant, and in a forked child. Until `arm` has returned true,
    /// waiting for the descriptor could last for ever.
    pub fn arm(&mut self) -> io::Result<bool> {
        // Enters a forked child, whose number is another one then.
        self.case.look();
        if !self.is_ours() {
            return Err(io::Error::other(
                "readiness was made before a fork: make one in this process",
            ));
        }
        let event = self.case.main_event();
        let face = face::find(event).ok_or(io::ErrorKind::Unsupported)?;
        // The order matters: what is written from here on stays, and whoever wrote before is seen below.
        sys::drain(face);
        let armed = self.arm_drained();
        if !matches!(armed, Ok(true)) {
            // What was drained may have been for another poll loop, too.
            face::signal(event);
        }
        armed
    }

    fn arm_drained(&mut self) -> io::Result<bool> {
        let core = self.case.core();
        let moment = self.arm_event(self.case.main_event());
        if let Some(second) = self.case.second_event() {
            let _ticket = second.arm_poll();
        }
        self.case.announce();
        core.bury_dead();
        let until = self.watch_lives()?;
        // Says so in the flags, where the look finds it.
        self.case.is_gone();
        let until = match self.case.look() {
            Look::Ready => return Ok(false),
            Look::Nothing => {
                self.moments = 0;
                match moment {
                    Some(moment) => Some(until.map_or(moment, |until| until.min(moment))),
                    None => until,
                }
            }
            Look::Soon(_) => {
                let moment = MOMENT * (1 << self.moments);
                self.moments = (self.moments + 1).min(MOMENT_DOUBLINGS);
                Some(until.map_or(moment, |until| until.min(moment)))
            }
        };
        self.set_timer(until)?;
        Ok(true)
    }

    /// Arms the event; returns when to look again, where posters may have missed it.
    fn arm_event(&self, event: &Event) -> Option<Duration> {
        let Some(standing) = self.case.standing() else {
            let _ticket = event.arm_poll();
            return None;
        };
        let (ticket, since) = match standing.get() {
            Some((ticket, since)) if event.is_polled(ticket) => (ticket, since),
            _ => (event.arm_poll(), Instant::now()),
        };
        standing.set(Some((ticket, since)));
        // A look that begins when the moment is over finds what was done by a poster that missed the arming.
        let left = MOMENT.saturating_sub(since.elapsed());
        Some(if left.is_zero() { LOOK_ROUND } else { left })
    }

    /// Brings the pidfds up to date; returns when to look again at those who have none.
    fn watch_lives(&mut self) -> io::Result<Option<Duration>> {
        let core = self.case.core();
        let others: Vec<Process> = core.others().collect();
        let (stay, gone) = mem::take(&mut self.watched)
            .into_iter()
            .partition(|(process, _)| others.contains(process));
        self.watched = stay;
        for (_, pidfd) in gone {
            // Closing is not enough: a forked child may have a copy.
            sys::epoll_remove(self.set.as_fd(), pidfd.as_fd())?;
        }
        let mut until = None;
        for process in others {
            if self.watched.iter().any(|(watched, _)| *watched == process) {
                continue;
            }
            if let Some(pidfd) = core.roll().pidfd(process)? {
                sys::epoll_add(self.set.as_fd(), pidfd.as_fd())?;
                self.watched.push((process, pidfd));
                continue;
            }
            let left = match core.roll().watch(process) {
                Watch::Birth(left) => left,
                Watch::Word | Watch::Poll => LOOK_ROUND_POLLING,
                Watch::Dead => {
                    core.bury_dead();
                    continue;
                }
            };
            until = Some(until.map_or(left, |until: Duration| until.min(left)));
        }
        Ok(until)
    }

    fn set_timer(&mut self, until: Option<Duration>) -> io::Result<()> {
        let timer = match (&self.timer, until) {
            (Some(timer), _) => timer,
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                let timer = sys::timerfd()?;
                sys::epoll_add(self.set.as_fd(), timer.as_fd())?;
                self.timer.insert(timer)
            }
        };
        // Setting it also makes it unreadable.
        sys::timerfd_set(timer.as_fd(), until)
    }
}

impl AsFd for Readiness<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

impl fmt::Debug for Readiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("set", &self.set)
            .field("watched", &self.watched.len())
            .finish_non_exhaustive()
    }
}

impl<T: Plain> Receiver<T> {
    /// A descriptor that tells a poll loop when to receive.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the channel was not built as [`pollable`](crate::Builder::pollable), and when
    /// there is no descriptor left.
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(Receiving::case(self).0)
    }
}

impl<T: Plain> Sender<T> {
    /// A descriptor that tells a poll loop when to send.
    ///
    /// # Errors
    /// As [`Receiver::readiness`].
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(Sending::case(self).0)
    }
}

impl<T: Plain> Chan<T> {
    /// A descriptor that tells a poll loop when to receive.
    ///
    /// # Errors
    /// As [`Receiver::readiness`].
    pub fn recv_readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(Receiving::case(self).0)
    }

    /// A descriptor that tells a poll loop when to send.
    ///
    /// # Errors
    /// As [`Receiver::readiness`].
    pub fn send_readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(Sending::case(self).0)
    }
}

impl BytesReceiver {
    /// A descriptor that tells a poll loop when to receive.
    ///
    /// # Errors
    /// As [`Receiver::readiness`].
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(Receiving::case(self).0)
    }
}

#[cfg(feature = "serde")]
impl<T> MessageReceiver<T> {
    /// A descriptor that tells a poll loop when to receive.
    ///
    /// # Errors
    /// As [`Receiver::readiness`].
    pub fn readiness(&self) -> io::Result<Readiness<'_>> {
        Readiness::new(Receiving::case(self).0)
    }
}
