//! What a process is told to do, and does: one function, once, or those of a pool.

#![expect(
    unsafe_code,
    reason = "calls the function that an order names, once its build was compared"
)]

use super::token;
use crate::capture::Pipes;
use crate::child::{self, Birth, Handled};
use crate::function::{Build, FunctionId, Image, Outlet};
use crate::limits::Limits;
use crate::pool::Duty;
use crate::reap::Settings;
use crate::slot::{Region, Slot, Whereabouts};
use crate::start;
use crate::stdio::{Stdio, Stream};
use crate::sys::SignalMask;
use crate::terms::Terms;
use multi_core::Result;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};

/// How every order begins, so that one of another version is known for what it is.
const BEGINNING: &[u8; 8] = b"multi 1\n";
/// Room for any order, answer or refusal.
pub(crate) const BYTES_MAX: usize = 16 << 10;

/// What a process is to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// To call this function.
    Call(FunctionId),
    /// To work for a pool.
    Join(Duty),
}

impl Work {
    /// How many descriptors it needs.
    fn fd_count(&self) -> usize {
        match self {
            Self::Call(_) => 0,
            Self::Join(_) => Duty::FD_COUNT,
        }
    }
}

/// What is to be done, and where its outcome goes. Its arguments lie there already.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) work: Work,
    pub(crate) place: Whereabouts,
    pub(crate) value_bytes_max: usize,
    pub(crate) signals: Handled,
    /// The thread that starts the process is the main thread of its own.
    pub(crate) by_main_thread: bool,
    pub(crate) limits: Limits,
    /// Where the cancel word lies in its file, which comes with the order as what wakes the group does.
    pub(crate) token_at: Option<u64>,
    pub(crate) streams: [Stream; 3],
}

impl Order {
    /// The order as a message: a beginning and a build that any version can read, then what only the same build can.
    ///
    /// # Errors
    ///
    /// It does not fit into a message.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let build = Image::here().build().bytes();
        let too_long = || "its order does not fit into a message".to_owned();
        let build_len = u8::try_from(build.len()).map_err(|_| too_long())?;
        let mut message = [&BEGINNING[..], &[build_len], build].concat();
        message.extend(postcard::to_stdvec(self).map_err(|error| error.to_string())?);
        if message.len() > BYTES_MAX {
            return Err(too_long());
        }
        Ok(message)
    }

    /// The order in a message.
    ///
    /// # Errors
    ///
    /// Why this process cannot follow it: for whoever sent it.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, String> {
        let rest = message.strip_prefix(BEGINNING);
        let (build_len, rest) = rest.and_then(<[u8]>::split_first).ok_or(
            "its order is of another version of multi-proc; run the same build of the program",
        )?;
        let (build, rest) = rest
            .split_at_checked((*build_len).into())
            .ok_or("its order was cut short")?;
        let here = Image::here().build();
        if build != here.bytes() {
            let theirs = Build::from_bytes(build);
            return Err(format!(
                "it is another build of the program, {here}, than the one that started it, {theirs}: functions lie elsewhere in it; run \
                 the same build"
            ));
        }
        postcard::from_bytes(rest).map_err(|error| format!("its order cannot be read: {error}"))
    }

    /// The same, for a child of the zygote's only thread.
    pub(super) fn by_a_zygote(mut self) -> Self {
        self.by_main_thread = true;
        self
    }

    /// Whether the thread that started the process may end before its own process does.
    pub(super) fn is_by_a_passing_thread(&self) -> bool {
        !self.by_main_thread
    }

    /// Does as told, with the descriptors that came: for a child of `parent` that is here for nothing else. Returns once the outcome is reported.
    ///
    /// # Errors
    ///
    /// Why it could not begin.
    pub(crate) fn follow(
        &self,
        fds: Vec<OwnedFd>,
        parent: u32,
        mask: &Option<SignalMask>,
    ) -> Result<(), String> {
        let mut fds = fds.into_iter();
        let memory = fds
            .next()
            .ok_or("its order came without memory for the outcome")?;
        let mut slot = Region::borrow(memory.as_fd(), self.place)
            .map_err(|error| format!("cannot map the memory for its outcome: {error}"))?;
        drop(memory);
        let args = slot
            .taken()
            .ok_or("its arguments are not where they should be")?;
        if let Some(word_at) = self.token_at {
            let (Some(file), Some(wake)) = (fds.next(), fds.next()) else {
                return Err("its order came without its group's token".into());
            };
            token::enter(&file, word_at, wake)
                .map_err(|error| format!("cannot map its group's token: {error}"))?;
        }
        let passed: Vec<_> = fds.by_ref().take(self.work.fd_count()).collect();
        let stdio = Stdio::passed(self.streams, fds.collect())
            .ok_or("its order came without its streams")?;
        let value_bytes_max = self.value_bytes_max;
        let birth = Birth {
            settings: &Settings::of_a_stranger(value_bytes_max),
            terms: Some(&Terms {
                limits: self.limits.clone(),
                stdio,
            }),
            parent_pid: parent,
            by_main_thread: self.by_main_thread,
            mask,
            signals: self.signals,
        };
        start::enter_main_thread();
        child::run(&birth, Pipes::default(), &mut slot, |slot| {
            let mut outlet = IntoSlot {
                slot,
                value_bytes_max,
            };
            let function = match &self.work {
                Work::Call(function) => function,
                Work::Join(duty) => return outlet.take(duty.follow(&args, passed)),
            };
            // SAFETY: `FunctionId::of` made it for this outlet in the process that sent the order, of the same build: this one is forked
            // from it, or `decode` compared them. Orders come through a socket, where nobody writes over them. A parent that is not this
            // program and makes one up gets what it could do without us: `init` has seen that this process may do no more than its parent.
            if let Err(error) = unsafe { function.call(&args, &mut outlet) } {
                outlet.take::<()>(Err(error.into()));
            }
        });
        Ok(())
    }
}

/// The outcome of a function on its way into shared memory.
pub(crate) struct IntoSlot<'a> {
    slot: &'a mut Slot,
    value_bytes_max: usize,
}

impl Outlet for IntoSlot<'_> {
    fn take<T: Serialize>(&mut self, returned: Result<T>) {
        child::finish(self.slot, self.value_bytes_max, returned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Reach;

    fn function() -> FunctionId {
        FunctionId::of::<IntoSlot<'_>, (), ()>(|()| Ok(())).unwrap()
    }

    fn order() -> Order {
        let region = Region::new(1, Reach::Passed).unwrap();
        Order {
            work: Work::Call(function()),
            place: region.take().unwrap().whereabouts().unwrap().1,
            value_bytes_max: 7,
            signals: Handled::now(),
            by_main_thread: true,
            limits: Limits::new(),
            token_at: None,
            streams: Default::default(),
        }
    }

    #[test]
    fn order_of_this_build_is_read_again() {
        let order = order();
        let read = Order::decode(&order.encode().unwrap()).unwrap();
        assert!(matches!(read.work, Work::Call(id) if id == function()));
        assert_eq!((read.value_bytes_max, read.by_main_thread), (7, true));
    }

    #[test]
    fn order_of_another_build_names_both() {
        let mut message = order().encode().unwrap();
        message[BEGINNING.len() + 1] ^= 0xff;
        let why = Order::decode(&message).err().unwrap();
        assert!(
            why.starts_with("it is another build of the program, "),
            "{why}"
        );
        assert!(why.contains(&Image::here().build().to_string()), "{why}");
        assert!(why.ends_with("run the same build"), "{why}");
    }

    #[test]
    fn message_that_is_no_order_is_refused_however_long() {
        let message = order().encode().unwrap();
        for len in 0..message.len() {
            assert!(Order::decode(&message[..len]).is_err(), "{len} bytes");
        }
        let mut other = message;
        other[6] = b'2';
        let why = Order::decode(&other).err().unwrap();
        assert!(why.contains("another version of multi-proc"), "{why}");
    }
}
