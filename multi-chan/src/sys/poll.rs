//! Descriptors that tell of something, and waiting for them.

#![expect(unsafe_code, reason = "libc calls")]

use super::timespec;
use crate::kill;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// `eventfd(EFD_CLOEXEC | EFD_NONBLOCK)`, eventfd(2).
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// `write`, write(2), of 1 to an eventfd: it is readable from here on.
#[cfg_attr(feature = "kill-points", track_caller)]
pub(crate) fn eventfd_add(fd: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1_u64;
    // SAFETY: eight bytes that outlive the call.
    let done = unsafe { libc::write(fd.as_raw_fd(), ptr::from_ref(&one).cast(), 8) };
    kill::wrote();
    if done == 8 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `read`, read(2), of the count of an eventfd or timerfd that does not block: it is unreadable from here on.
#[cfg_attr(feature = "kill-points", track_caller)]
pub(crate) fn drain(fd: BorrowedFd<'_>) {
    let mut count = 0_u64;
    // SAFETY: memory for eight bytes. An error says that there was nothing to read.
    unsafe { libc::read(fd.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
    kill::wrote();
}

/// `timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)`, `timerfd_create(2)`.
pub(crate) fn timerfd() -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: takes numbers only.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })
}

/// `timerfd_settime`, `timerfd_settime(2)`: readable once `after` has passed; `None`: never.
pub(crate) fn timerfd_set(fd: BorrowedFd<'_>, after: Option<Duration>) -> io::Result<()> {
    let once = libc::itimerspec {
        it_interval: timespec(Duration::ZERO),
        // Zero would mean never.
        it_value: timespec(
            after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1))),
        ),
    };
    // SAFETY: a timer's descriptor and a setting that outlives the call; the old one is not asked for.
    done(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const once, ptr::null_mut()) })
}

/// `epoll_create1(EPOLL_CLOEXEC)`, `epoll_create(2)`.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes a number.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// `epoll_ctl(EPOLL_CTL_ADD)`, `epoll_ctl(2)`: the set is readable while `fd` is.
pub(crate) fn epoll_add(set: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN.cast_unsigned(),
        u64: 0,
    };
    let (set, fd) = (set.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: two descriptors and an event that outlives the call.
    done(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &raw mut event) })
}

/// `epoll_ctl(EPOLL_CTL_DEL)`, `epoll_ctl(2)`.
pub(crate) fn epoll_remove(set: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let (set, fd) = (set.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: two descriptors; the call takes no event.
    done(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) })
}

/// A descriptor and what it is polled for.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PollFd<'a> {
    raw: libc::pollfd,
    _fd: PhantomData<BorrowedFd<'a>>,
}

impl<'a> PollFd<'a> {
    pub(crate) fn readable(fd: BorrowedFd<'a>) -> PollFd<'a> {
        PollFd::new(fd, libc::POLLIN)
    }

    pub(crate) fn writable(fd: BorrowedFd<'a>) -> PollFd<'a> {
        PollFd::new(fd, libc::POLLOUT)
    }

    fn new(fd: BorrowedFd<'a>, events: i16) -> PollFd<'a> {
        PollFd {
            raw: libc::pollfd {
                fd: fd.as_raw_fd(),
                events,
                revents: 0,
            },
            _fd: PhantomData,
        }
    }

    /// Whether the last `poll` found it ready, or in a state that a read or write would tell of.
    pub(crate) fn is_ready(&self) -> bool {
        self.raw.revents != 0
    }
}

/// `ppoll`, ppoll(2), with the signal mask as it is. Ends like [`futex_wait`]; EINTR says that none is ready.
pub(crate) fn poll(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: `PollFd` is a pollfd; descriptors and limit outlive the call.
    let ready = unsafe { libc::ppoll(fds.as_mut_ptr().cast(), count, limit, ptr::null()) };
    if ready >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    for fd in fds {
        fd.raw.revents = 0;
    }
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
