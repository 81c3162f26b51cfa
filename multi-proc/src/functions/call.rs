//! A call on its way from the caller to a process.

use super::order::{IntoSlot, Order, Work};
use super::source::Source;
use crate::child::Handled;
use crate::function::{ArgsError, FunctionId, encode_args};
use crate::outcome::{self, Settles};
use crate::pool::Duty;
use crate::reap::{Forked, Reaper};
use crate::start::{self, Patience};
use crate::task::check_owner;
use crate::terms::Terms;
use multi_core::ledger::{Ledger, Ticket};
use multi_core::{Handle, Promise, Result, TaskErrorKind, TaskOptions, panic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::panic::Location;
use std::sync::Arc;

/// What a call needs of its group.
pub(super) struct Maker<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) reaper: &'a Arc<Reaper>,
    pub(super) source: &'a Arc<Source>,
}

impl Maker<'_> {
    /// As [`multi_core::SpawnFn::spawn_fn_with`], on `terms` or those of the group.
    #[track_caller]
    pub(super) fn spawn<A, T>(
        &self,
        terms: Option<Arc<Terms>>,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.spawn_for(terms, options, function, args, outcome::valued)
    }

    /// Makes the call and has its outcome, a `T`, come home as a `V` through the seat that `seat` makes.
    #[track_caller]
    pub(super) fn spawn_for<A, T, V>(
        &self,
        terms: Option<Arc<Terms>>,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
        seat: fn(Ticket, Promise<V>) -> Box<dyn Settles>,
    ) -> Handle<V>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize,
        V: Send + 'static,
    {
        check_owner(self.reaper);
        let options = options.started_at(Location::caller());
        let call = Call::new(function, args);
        let (reaper, source) = (Arc::clone(self.reaper), Arc::clone(self.source));
        let event = self.ledger.event();
        self.ledger
            .launch_with(options, event, move |mut ticket, promise| {
                let terms = terms.as_ref().or(reaper.settings.terms.as_ref());
                match call.and_then(|call| call.start(&reaper, &source, terms)) {
                    Ok(forked) => {
                        ticket.set_pid(forked.pid);
                        reaper.adopt(forked, seat(ticket, promise));
                    }
                    Err(kind) => ticket.settle_with(promise, Err(kind)),
                }
            })
    }
}

/// Work on its way to a process.
pub(crate) struct Call<'a> {
    work: Work,
    args: Vec<u8>,
    /// What goes with it.
    fds: Vec<BorrowedFd<'a>>,
}

impl<'a> Call<'a> {
    /// For a worker of a pool, with the descriptors that it needs and the arguments of its initialiser.
    pub(crate) fn joining(duty: Duty, args: Vec<u8>, fds: Vec<BorrowedFd<'a>>) -> Self {
        Self {
            work: Work::Join(duty),
            args,
            fds,
        }
    }

    /// Calls the arguments' `Serialize`, and drops them.
    fn new<A, T>(function: fn(A) -> Result<T>, args: A) -> Result<Self, TaskErrorKind>
    where
        A: Serialize + DeserializeOwned,
        T: Serialize,
    {
        let cannot_start = |error| TaskErrorKind::Start(io::Error::other(error));
        let encoded = panic::catch(move || encode_args(&args))?;
        let function = FunctionId::of::<IntoSlot<'_>, A, T>(function);
        Ok(Self {
            work: Work::Call(function.map_err(|error| cannot_start(error.to_string()))?),
            args: encoded.map_err(|error: ArgsError| cannot_start(error.to_string()))?,
            fds: Vec::new(),
        })
    }

    /// Has a process made that does it, whatever it takes.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn start(
        &self,
        reaper: &Reaper,
        source: &Source,
        terms: Option<&Arc<Terms>>,
    ) -> Result<Forked, TaskErrorKind> {
        if let Some(terms) = terms {
            terms.check().map_err(TaskErrorKind::Start)?;
        }
        start::patiently(reaper, Patience::WaitALittle, (), |()| {
            self.try_start(reaper, source, terms)
                .map_err(|error| (error, ()))
        })
        .map_err(|(error, ())| TaskErrorKind::Start(error))?
        .ok_or_else(|| {
            TaskErrorKind::LimitExceeded(format!(
                "its arguments take {} bytes on the way to it, where value_bytes_max is {}",
                self.args.len(),
                reaper.settings.value_bytes_max
            ))
        })
    }

    /// None where the arguments take more room than there is.
    fn try_start(
        &self,
        reaper: &Reaper,
        source: &Source,
        terms: Option<&Arc<Terms>>,
    ) -> io::Result<Option<Forked>> {
        // All that can run out is fetched first: afterwards the task may have begun, and cannot be given back.
        reaper.reserve_descriptor()?;
        let mut slot = reaper.region.take()?;
        if self.args.len() > reaper.settings.value_bytes_max || !slot.put(&self.args) {
            return Ok(None);
        }
        let Some((memory, place)) = slot.whereabouts() else {
            unreachable!("a group of functions whose memory cannot be passed")
        };
        let plain = Terms::default();
        let Terms { limits, stdio } = terms.map_or(&plain, |terms| &**terms);
        let pipes = stdio.open()?;
        let (streams, stream_fds) = stdio.passing(&pipes);
        let word = reaper.word();
        // A worker outlives many a round of its pool.
        let obeyed = word.as_ref().filter(|_| matches!(self.work, Work::Call(_)));
        let token = obeyed.and_then(|word| word.passing());
        let token_at = token.as_ref().map(|(_, at, _)| *at);
        let token_fds = token
            .iter()
            .flat_map(|(file, _, wake)| [file.as_fd(), *wake]);
        let order = Order {
            work: self.work.clone(),
            place,
            value_bytes_max: reaper.settings.value_bytes_max,
            signals: Handled::now(),
            by_main_thread: start::is_main_thread(),
            limits: limits.clone(),
            token_at,
            streams,
        };
        let message = order.encode().map_err(io::Error::other)?;
        let fds: Vec<_> = [memory.as_fd()]
            .into_iter()
            .chain(token_fds)
            .chain(self.fds.iter().copied())
            .chain(stream_fds)
            .collect();
        let (pid, pidfd, origin) = source.start(reaper, message, &fds)?;
        Ok(Some(Forked {
            pid,
            pidfd,
            slot,
            word,
            pipes,
            terms: terms.cloned(),
            origin,
        }))
    }
}
