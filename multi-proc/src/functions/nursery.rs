//! The zygote's side: forks, and collects what it forked, for the program it belongs to.

#![expect(
    unsafe_code,
    reason = "forks a process that has one thread and starts no other"
)]

use super::order::{self, Order};
use crate::identity;
use crate::sys::socket::{self, Patience};
use crate::sys::{self, Exit, Fork, SignalMask};
use multi_core::Usage;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What a program asks of its zygote; each request has one answer.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    /// Fork a child for this order; so many descriptors come with it.
    Start { message: Vec<u8>, fd_count: usize },
    /// Say how a child ended that has ended.
    Collect { pid: u32 },
    /// Send the descriptor of a child again: there was no room for it.
    Watch { pid: u32 },
}

/// What the zygote says.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    /// With the child's pidfd.
    Started {
        pid: u32,
    },
    Collected(Collected),
    /// With the child's pidfd.
    Watched,
    /// The system refused, for this reason: nothing was begun.
    Refused {
        os_code: i32,
    },
    /// The child was made but could not be watched, for this reason, and was ended: it may have begun.
    Ended {
        os_code: i32,
    },
}

/// How a child ended and what it used.
#[derive(Serialize, Deserialize)]
pub(super) struct Collected {
    pub(super) exit: Exit,
    user: Duration,
    system: Duration,
    peak_bytes: u64,
}

impl Collected {
    pub(super) fn usage(&self) -> Usage {
        Usage::of_task(self.user, self.system, self.peak_bytes)
    }
}

/// Answers until the program is gone. `mask`: what the program's children hold back of signals; the zygote itself holds back all.
pub(super) fn serve(line: OwnedFd, mask: SignalMask) -> ! {
    let mut nursery = Nursery {
        line: Some(line),
        mask,
    };
    let mut buffer = vec![0; order::BYTES_MAX + 64];
    // A child leaves this loop inside `answer`.
    while let Some(line) = &nursery.line {
        let received = match socket::receive(line.as_fd(), &mut buffer, Patience::Wait) {
            Ok(received) if received.len > 0 => received,
            // The program is gone, or is ending.
            _ => sys::exit_now(0),
        };
        let (answer, child) = match postcard::from_bytes(&buffer[..received.len]) {
            Ok(request) => nursery.answer(request, received.fds),
            // Not of our program.
            Err(_) => sys::exit_now(1),
        };
        let Ok(answer) = postcard::to_stdvec(&answer) else {
            sys::exit_now(1)
        };
        let fds: Vec<BorrowedFd<'_>> = child.iter().map(|pidfd| pidfd.as_fd()).collect();
        let sent = nursery
            .line
            .as_ref()
            .map(|line| socket::send(line.as_fd(), &answer, &fds));
        if !matches!(sent, Some(Ok(()))) {
            break;
        }
    }
    sys::exit_now(0)
}

struct Nursery {
    /// To the program. None in a child.
    line: Option<OwnedFd>,
    mask: SignalMask,
}

impl Nursery {
    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> (Answer, Option<OwnedFd>) {
        let refused = |error: io::Error| {
            let os_code = code_of(&error);
            (Answer::Refused { os_code }, None)
        };
        match request {
            Request::Start { message, fd_count } => match self.start(&message, fds, fd_count) {
                Ok((pid, Ok(pidfd))) => (Answer::Started { pid }, Some(pidfd)),
                Ok((pid, Err(error))) => {
                    // Ours and not collected: the number is still its own.
                    sys::kill_child(pid);
                    (
                        Answer::Ended {
                            os_code: code_of(&error),
                        },
                        None,
                    )
                }
                Err(error) => refused(error),
            },
            Request::Collect { pid } => match collect(pid) {
                Ok(collected) => (Answer::Collected(collected), None),
                Err(error) => refused(error),
            },
            Request::Watch { pid } => match sys::pidfd_open(pid) {
                Ok(pidfd) => (Answer::Watched, Some(pidfd)),
                Err(error) => refused(error),
            },
        }
    }

    /// A child for an order, and what it is watched by or why there is no such thing.
    fn start(
        &mut self,
        message: &[u8],
        fds: Vec<OwnedFd>,
        fd_count: usize,
    ) -> io::Result<(u32, io::Result<OwnedFd>)> {
        // Those that came but found no room here.
        if fds.len() < fd_count {
            return Err(io::Error::from_raw_os_error(sys::EMFILE));
        }
        // So that the child can be watched whatever happens: afterwards it may have begun, and cannot be taken back.
        let spare = sys::eventfd()?;
        identity::step_hash_keys();
        let zygote_pid = sys::pid();
        // SAFETY: this process has one thread, from its own fork on, so that no other can hold a lock.
        match unsafe { sys::fork() }? {
            Fork::Child => {
                // Else the program would not see the zygote's end as long as this child lives.
                self.line = None;
                drop(spare);
                live(message, fds, zygote_pid, self.mask)
            }
            Fork::Parent { pid } => {
                drop(spare);
                Ok((pid, sys::pidfd_open(pid)))
            }
        }
    }
}

fn code_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(sys::ENOMEM)
}

/// A child's life.
fn live(message: &[u8], fds: Vec<OwnedFd>, zygote_pid: u32, mask: SignalMask) -> ! {
    let followed = Order::decode(message).and_then(|order| {
        let order = order.by_a_zygote();
        order.follow(fds, zygote_pid, &Some(mask))
    });
    match followed {
        Ok(()) => sys::exit_now(0),
        Err(why) => {
            sys::write_stderr(format!("multi: process {}: {why}\n", sys::pid()).as_bytes());
            sys::exit_now(1)
        }
    }
}

/// Collects a child that has ended.
fn collect(pid: u32) -> io::Result<Collected> {
    let pidfd = sys::pidfd_open(pid)?;
    let (exit, usage) = sys::reap(pidfd.as_fd())?;
    Ok(Collected {
        exit,
        user: usage.user,
        system: usage.system,
        peak_bytes: usage.peak_bytes,
    })
}
