//! Waiting for the first of several operations.

mod case;
mod turn;

pub(crate) use case::sealed::{Receiving, Sending};
pub(crate) use case::{Case, Look, Standing, Waitable, Way};
pub use case::{RecvSide, SendSide};

use crate::patience::{Luck, Patience};
use crate::readiness::Readiness;
use crate::sys::PollFd;
use std::fmt;
use std::os::fd::AsFd;
use std::time::{Duration, UNIX_EPOCH};
use turn::Turn;

/// Waits until one of several operations can be done, on channels of any types.
///
/// Each operation that is added is a *case* with a number, counted from 0. [`run`](Self::run) waits for a case that
/// is ready, has the caller try it, and goes on waiting if somebody else was faster: when it returns, the
/// operation is done. [`wait`](Self::wait) only tells which case is ready.
///
/// A case is ready when its operation would end at once, also with an error: the channel is closed, or the other
/// side is gone. If several are ready, one of them is chosen at random, so that none starves. A waiting select
/// sleeps, and hears of deaths, as `recv` does, on all its channels at once; wakes that it got and did not
/// use it passes on. A send to a rendezvous (capacity 0) is ready when a receiver waits.
///
/// Channels of messages of any size are received from like others. Whether there is room for a message depends on its size, so the case
/// of sending one is a [`Sending`](crate::Sending) of so many bytes. The sides of a channel with one sender and one receiver are
/// lent to a select ([`spsc::Receiver::shared`](crate::spsc::Receiver::shared)).
///
/// A select may be used any number of times. Nothing of it is in shared memory: it can be dropped, or its process
/// killed, at any moment. Up to some 60 channels it sleeps on all of them; of more it looks at the rest
/// every 20 ms. Descriptors can be waited for beside channels: then it sleeps in `poll(2)`.
///
/// # Examples
/// ```
/// let (numbers_tx, numbers) = multi_chan::channel::<u32>(4)?;
/// let (letters_tx, letters) = multi_chan::channel::<u8>(4)?;
/// numbers_tx.send(7).unwrap();
/// letters_tx.send(b'x').unwrap();
///
/// let mut select = multi_chan::Select::new();
/// let from_numbers = select.recv(&numbers);
/// select.recv(&letters);
/// let mut seen = Vec::new();
/// for _ in 0..2 {
///     seen.push(select.run(|case| {
///         if case == from_numbers {
///             numbers.recv_now().map(|number| number.unwrap().to_string())
///         } else {
///             letters.recv_now().map(|letter| char::from(letter.unwrap()).to_string())
///         }
///     }));
/// }
/// seen.sort();
/// assert_eq!(seen, ["7", "x"]);
/// # Ok::<(), multi_chan::Error>(())
/// ```
#[must_use = "a select does nothing until it is waited on"]
pub struct Select<'a> {
    cases: Vec<Option<Kind<'a>>>,
    luck: Luck,
    random: u64,
    /// By number of the case; filled when a wait goes by `poll`.
    faces: Vec<Option<Readiness<'a>>>,
}

/// What a case waits for.
enum Kind<'a> {
    Channel(Case<'a>),
    Descriptor(PollFd<'a>),
}

impl<'a> Select<'a> {
    /// A select without cases.
    pub fn new() -> Select<'a> {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        Select {
            cases: Vec::new(),
            luck: Luck::default(),
            random: u64::from(now.subsec_nanos()) << 32 | 1,
            faces: Vec::new(),
        }
    }

    /// Adds receiving from `from`; returns the number of the case.
    pub fn recv(&mut self, from: &'a impl RecvSide) -> usize {
        self.add(Kind::Channel(from.case().0))
    }

    /// Adds sending to `to`; returns the number of the case.
    pub fn send(&mut self, to: &'a impl SendSide) -> usize {
        self.add(Kind::Channel(to.case().0))
    }

    /// Adds waiting until `fd` is readable, or until a read would tell of its end or an error; returns the number of
    /// the case.
    ///
    /// Any descriptor that `poll(2)` takes: a socket, a pipe, a timer, a child's pidfd, which is readable once the child
    /// has ended. The channels of such a select must be [`pollable`](crate::Builder::pollable).
    pub fn readable(&mut self, fd: &'a impl AsFd) -> usize {
        self.add(Kind::Descriptor(PollFd::readable(fd.as_fd())))
    }

    /// Adds waiting until `fd` is writable, as [`readable`](Self::readable).
    pub fn writable(&mut self, fd: &'a impl AsFd) -> usize {
        self.add(Kind::Descriptor(PollFd::writable(fd.as_fd())))
    }

    fn add(&mut self, case: Kind<'a>) -> usize {
        self.cases.push(Some(case));
        self.cases.len() - 1
    }

    /// Takes a case out, for instance of a channel that has run out; the others keep their numbers.
    ///
    /// # Panics
    /// If there is no such case.
    #[track_caller]
    pub fn remove(&mut self, case: usize) {
        let removed = self.cases.get_mut(case).and_then(Option::take);
        assert!(
            removed.is_some(),
            "select has no case {case}: it was never added, or is removed already"
        );
        if let Some(face) = self.faces.get_mut(case) {
            *face = None;
        }
    }

    /// True if there is nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.cases.iter().all(Option::is_none)
    }

    /// Waits until `attempt`, called with the number of a case that is ready, has done the operation.
    ///
    /// `attempt` tries the operation without waiting, and returns `None` if somebody else was faster: then the wait
    /// goes on. [`recv_now`](crate::Receiver::recv_now) and [`send_now`](crate::Sender::send_now) have the
    /// right form.
    ///
    /// # Panics
    /// If there are no cases, since it would wait for ever; if there are descriptors beside a channel that is not
    /// [`pollable`](crate::Builder::pollable); and if `attempt` does.
    #[track_caller]
    pub fn run<R>(&mut self, attempt: impl FnMut(usize) -> Option<R>) -> R {
        let done = self.until(Patience::Endless, attempt);
        done.unwrap_or_else(|| unreachable!("endless patience ended"))
    }

    /// As [`run`](Self::run), no longer than `limit`; `None` if nothing was done in that time.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_timeout<R>(
        &mut self,
        limit: Duration,
        attempt: impl FnMut(usize) -> Option<R>,
    ) -> Option<R> {
        self.until(Patience::for_limit(limit), attempt)
    }

    /// As [`run`](Self::run), without waiting; `None` if nothing could be done.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn try_run<R>(&mut self, attempt: impl FnMut(usize) -> Option<R>) -> Option<R> {
        self.until(Patience::None, attempt)
    }

    /// Waits until a case is ready and returns its number.
    ///
    /// That is a fact of the moment: by the time the caller acts on it, somebody else may have been faster.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn wait(&mut self) -> usize {
        self.run(Some)
    }

    /// As [`wait`](Self::wait), no longer than `limit`.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn wait_timeout(&mut self, limit: Duration) -> Option<usize> {
        self.run_timeout(limit, Some)
    }

    /// As [`wait`](Self::wait), without waiting.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn try_wait(&mut self) -> Option<usize> {
        self.try_run(Some)
    }

    fn has_descriptors(&self) -> bool {
        let mut cases = self.cases.iter().flatten();
        cases.any(|kind| matches!(kind, Kind::Descriptor(_)))
    }

    fn all_pollable(&self) -> bool {
        let mut cases = self.cases.iter().flatten();
        cases.all(|kind| match kind {
            Kind::Channel(case) => case.core().is_pollable(),
            Kind::Descriptor(_) => true,
        })
    }

    #[track_caller]
    fn until<R>(
        &mut self,
        patience: Patience,
        mut attempt: impl FnMut(usize) -> Option<R>,
    ) -> Option<R> {
        assert!(
            !self.is_empty(),
            "select has no cases and would wait for ever: add one with recv or send"
        );
        assert!(
            !self.has_descriptors() || self.all_pollable(),
            "select has descriptors beside a channel that was not built as pollable: make it with Builder::pollable(true)"
        );
        let mut turn = Turn::new(self, patience);
        loop {
            let case = turn.ready()?;
            if let Some(done) = attempt(case) {
                return Some(done);
            }
        }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Select::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("cases", &self.cases.iter().flatten().count())
            .finish_non_exhaustive()
    }
}
