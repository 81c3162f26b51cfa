//! The program's side of its zygote.

#![expect(
    unsafe_code,
    reason = "forks the zygote while the program has one thread"
)]

use super::nursery::{self, Answer, Request};
use super::order;
use crate::identity::Owner;
use crate::sync::{AtomicPtr, AtomicUsize, Ordering};
use crate::sys::socket::{self, Patience};
use crate::sys::{self, Disposition, Exit, Fork};
use crate::{hook, lifeline, start};
use multi_core::Usage;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A fork of the small process that a zygote is takes less than a millisecond: after this long it is taken for dead, and is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A helper that was forked early and forks on demand.
pub(crate) struct Zygote {
    owner: Owner,
    pid: u32,
    pidfd: OwnedFd,
    line: Mutex<Line>,
}

struct Line {
    socket: OwnedFd,
    /// Why it cannot be asked any more.
    ended: Option<String>,
}

/// The last one that was made here or in a process this one was forked from. Never freed: children of any group may refer to it.
static LAST: AtomicPtr<Zygote> = AtomicPtr::new(ptr::null_mut());

/// The threads that there were when [`init`](super::init) was called, if that was too many.
static CAME_TOO_LATE: AtomicUsize = AtomicUsize::new(0);

/// A child that the zygote forked.
pub(crate) struct Born {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

/// For `init`: makes the zygote if that can be done, and remembers why not.
pub(super) fn prepare() {
    let threads = threads();
    if threads > 1 {
        // Relaxed: for a message.
        CAME_TOO_LATE.store(threads, Ordering::Relaxed);
    } else if Zygote::last().is_none() {
        // If it fails now it is tried again, and reported, when a group wants it.
        drop(Zygote::make());
    }
}

/// How many threads this process has, the kernel says.
fn threads() -> usize {
    match fs::read_dir("/proc/self/task") {
        Ok(tasks) => tasks.count(),
        // Without /proc the C library's word counts.
        Err(_) if sys::has_one_thread() => 1,
        Err(_) => usize::MAX,
    }
}

impl Zygote {
    /// The program's zygote; made now if there is none, where that can still be done.
    ///
    /// # Errors
    ///
    /// Why there is none, and the remedy.
    pub(super) fn of_program() -> Result<&'static Self, String> {
        let last = Self::last();
        let ended = match last {
            Some(zygote) => match zygote.ended() {
                None => return Ok(zygote),
                Some(why) => Some(why),
            },
            None => None,
        };
        let threads = threads();
        if threads > 1 {
            // Relaxed: for a message.
            let late = CAME_TOO_LATE.load(Ordering::Relaxed);
            let why = match (ended, late) {
                (Some(why), _) => why,
                (None, 0) => "there is no zygote".to_owned(),
                (None, late) => {
                    format!(
                        "multi_proc::init() came too late for a zygote, when the program had {late} threads already"
                    )
                }
            };
            return Err(format!(
                "{why}, and none can be made now that the program has {threads} threads, since a fork copies one of them; call \
                 multi_proc::init() first in main"
            ));
        }
        Self::make().map_err(|error| format!("cannot fork a zygote: {error}"))
    }

    fn last() -> Option<&'static Self> {
        // Acquire: what is published is whole. Pairs with the Release in `make`.
        let last = LAST.load(Ordering::Acquire);
        // SAFETY: null, or a leaked box.
        let last = unsafe { last.as_ref() };
        last.filter(|zygote| zygote.owner.is_here())
    }

    /// Forks it. The caller has seen that there is one thread.
    fn make() -> io::Result<&'static Self> {
        if !start::is_main_thread() {
            return Err(io::Error::other("this is not the program's main thread"));
        }
        let (ours, theirs) = socket::socket_pair()?;
        socket::limit_receiving(ours.as_fd(), ANSWERS_WITHIN)?;
        // Before the fork: the zygote watches its children by pidfd, too.
        let spare = sys::duplicate(ours.as_fd())?;
        // What waits to be printed is printed once.
        drop(io::stdout().flush());
        let owner = Owner::here();
        let lifeline = lifeline::prepare(false);
        let mask = sys::block_signals();
        // SAFETY: one thread, so that no other holds a lock.
        match unsafe { sys::fork() } {
            Ok(Fork::Child) => {
                drop((ours, spare));
                hook::install();
                hook::enter_child();
                lifeline.enter_child();
                // A zygote is killed with its program and by nothing less: what a terminal sends to all of them is held back.
                sys::die_with_main_thread();
                if sys::parent_pid() != owner.pid() {
                    sys::exit_now(1);
                }
                // Else its children would be collected by nobody.
                sys::set_disposition(sys::SIGCHLD, Disposition::Default);
                nursery::serve(theirs, mask)
            }
            Ok(Fork::Parent { pid }) => {
                sys::set_signal_mask(&mask);
                drop((theirs, spare));
                // A zygote that nobody can watch is none. Ours and not collected: the number is still its own.
                let pidfd = sys::pidfd_open(pid).inspect_err(|_| sys::kill_child(pid))?;
                let zygote = Box::leak(Box::new(Self {
                    owner,
                    pid,
                    pidfd,
                    line: Mutex::new(Line {
                        socket: ours,
                        ended: None,
                    }),
                }));
                // Release: publishes it. Pairs with the Acquire in `last`.
                LAST.store(zygote, Ordering::Release);
                Ok(zygote)
            }
            Err(error) => {
                sys::set_signal_mask(&mask);
                Err(error)
            }
        }
    }

    /// Why it cannot be asked any more, if that is known.
    fn ended(&self) -> Option<String> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.ended.is_none() && sys::has_ended(self.pidfd.as_fd()) {
            self.bury(&mut line, "is gone: it");
        }
        line.ended.clone()
    }

    /// Forks a child that follows `message`, an [`Order`](super::order::Order). `make_room` lets a descriptor go for the child's, and says whether there
    /// was one to let go.
    ///
    /// # Errors
    ///
    /// The system's reason, or that there is no zygote any more.
    pub(super) fn start(
        &self,
        message: Vec<u8>,
        fds: &[BorrowedFd<'_>],
        make_room: impl Fn() -> bool,
    ) -> io::Result<Born> {
        debug_assert!(message.len() <= order::BYTES_MAX);
        let request = Request::Start {
            message,
            fd_count: fds.len(),
        };
        let (answer, pidfd) = self.ask(&request, fds)?;
        let Answer::Started { pid } = answer else {
            return Err(self.refusal(answer));
        };
        let mut pidfd = pidfd;
        loop {
            if let Some(pidfd) = pidfd {
                return Ok(Born { pid, pidfd });
            }
            // No descriptor left in this process. The child may have begun: it must be watched. Another thread may snatch the descriptor
            // that is let go; then until one of all these is closed the child runs unwatched.
            if !make_room() {
                std::thread::sleep(Duration::from_millis(2));
            }
            pidfd = self.ask(&Request::Watch { pid }, &[])?.1;
        }
    }

    /// How a child ended that has ended; collects it.
    ///
    /// # Errors
    ///
    /// There is no zygote any more, so that nobody can say.
    pub(crate) fn collect(&self, pid: u32) -> io::Result<(Exit, Usage)> {
        match self.ask(&Request::Collect { pid }, &[])? {
            (Answer::Collected(collected), _) => Ok((collected.exit, collected.usage())),
            (other, _) => Err(self.refusal(other)),
        }
    }

    fn refusal(&self, answer: Answer) -> io::Error {
        match answer {
            Answer::Refused { os_code } => io::Error::from_raw_os_error(os_code),
            // Not as the system's code alone: that would be taken for a shortage, and the call be made again.
            Answer::Ended { os_code } => io::Error::other(format!(
                "its process could not be watched, and was killed, perhaps after it began: {}",
                io::Error::from_raw_os_error(os_code)
            )),
            _ => io::Error::other(format!("zygote {} answered something else", self.pid)),
        }
    }

    /// One request, one answer. Holds the line meanwhile, for [`ANSWERS_WITHIN`] at most.
    fn ask(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(Answer, Option<OwnedFd>)> {
        let request = postcard::to_stdvec(request).map_err(io::Error::other)?;
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &line.ended {
            return Err(io::Error::other(why.clone()));
        }
        let mut buffer = [0; 256];
        let until = Instant::now().checked_add(ANSWERS_WITHIN);
        let patience = until.map_or(Patience::Wait, Patience::Until);
        let sent = socket::send(line.socket.as_fd(), &request, fds);
        if let Err(error) = &sent
            && error.raw_os_error() == Some(sys::ETOOMANYREFS)
        {
            // Not the zygote's fault, and it knows of nothing: descriptors of other messages have yet to arrive.
            return Err(io::Error::from_raw_os_error(sys::ETOOMANYREFS));
        }
        let answered =
            sent.and_then(|()| socket::receive(line.socket.as_fd(), &mut buffer, patience));
        let what = match answered {
            Ok(received) if received.len > 0 => {
                match postcard::from_bytes(&buffer[..received.len]) {
                    Ok(answer) => return Ok((answer, received.fds.into_iter().next())),
                    Err(_) => "answered something unreadable and",
                }
            }
            Err(error) if error.raw_os_error() == Some(sys::EAGAIN) => {
                "did not answer for 10 s and"
            }
            _ => "is gone: it",
        };
        let why = self.bury(&mut line, what);
        Err(io::Error::other(why))
    }

    /// Makes an end of it, and finds out how it ended. Its children end with it.
    fn bury(&self, line: &mut Line, what: &str) -> String {
        // It may have ended already.
        drop(sys::pidfd_send_signal(self.pidfd.as_fd(), sys::SIGKILL));
        // A killed process may still be kept by the system, by a file system that does not answer, say; then it is left to that.
        drop(sys::poll(
            &mut [sys::PollFd::readable(self.pidfd.as_fd())],
            Some(Duration::from_secs(1)),
        ));
        if !sys::has_ended(self.pidfd.as_fd()) {
            let why = format!("zygote {} {what} does not end either", self.pid);
            line.ended = Some(why.clone());
            return why;
        }
        let how = match sys::reap(self.pidfd.as_fd()) {
            Ok((Exit::Code(code), _)) => format!("left with exit code {code}"),
            Ok((Exit::Signal { signal, .. }, _)) => format!("was killed by signal {signal}"),
            Err(_) => "was collected by somebody else".to_owned(),
        };
        let why = format!("zygote {} {what} {how}", self.pid);
        line.ended = Some(why.clone());
        why
    }
}

impl fmt::Debug for Zygote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zygote")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
