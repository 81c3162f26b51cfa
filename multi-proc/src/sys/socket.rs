//! A line between two processes: messages whole or not at all, with descriptors. Linux on x86-64.

use super::{check, check_size, own, retry};
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

/// How long a wait whose time was over when a signal interrupted it goes on where more signals come (else as long as before): a process that
/// was stopped meanwhile finds its time over, and the answer in the socket, or about to come from one that was stopped as well.
const ONCE_MORE: Duration = Duration::from_secs(1);
/// Descriptors that one message can bring.
const FDS_MAX: usize = 12;
/// Room for them and the header before them.
const CONTROL_BYTES: usize = 64;

const _: () = assert!(CONTROL_BYTES >= size_of::<libc::cmsghdr>() + FDS_MAX * size_of::<RawFd>());

/// Room for what comes beside a message, aligned as its header must be.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

/// `socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)`, socketpair(2), unix(7). Never `EINTR`.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok((own(fds[0]), own(fds[1])))
}

/// `sendmsg(MSG_NOSIGNAL)` with `SCM_RIGHTS`, send(2), unix(7): one message and copies of `fds`. Retries `EINTR`. `EPIPE` where the other end is
/// gone; `ETOOMANYREFS` where too many of this user's descriptors are on their way, and then nothing was sent.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(fds.len() <= FDS_MAX, "{} descriptors at once", fds.len());
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message = unsafe { zeroed::<libc::msghdr>() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let bytes = (fds.len() * size_of::<RawFd>()) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: takes a number only.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as usize;
        // SAFETY: the control buffer is set and large enough for a header.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: takes a number only.
        let len = unsafe { libc::CMSG_LEN(bytes) } as usize;
        let filled = libc::cmsghdr {
            cmsg_len: len,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: `header` points to the start of the control buffer, which is aligned for it.
        unsafe { header.write(filled) };
        // SAFETY: within the control buffer, right behind the header.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (index, fd) in fds.iter().enumerate() {
            // SAFETY: `FDS_MAX` descriptors fit behind the header, and there are no more.
            let at = unsafe { data.add(index) };
            // SAFETY: as above; the place need not be aligned.
            unsafe { at.write_unaligned(fd.as_raw_fd()) };
        }
    }
    let send = || {
        // SAFETY: the message, its part and its control buffer live until the call returns, which only reads them.
        check_size(unsafe {
            libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        })
    };
    retry(send).map(drop)
}

/// A message that came.
pub(crate) struct Received {
    pub(crate) len: usize,
    /// Those there was room for in this process.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Whether to sleep until a message comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    /// Not beyond this, give or take what [`limit_receiving`] says; [`ONCE_MORE`] beyond it where signals come.
    Until(Instant),
    None,
}

/// `recvmsg(MSG_CMSG_CLOEXEC)` with `SCM_RIGHTS`, recv(2), unix(7): one message; no bytes where the other end is gone. Retries `EINTR`.
/// `EAGAIN` where there is none, or none came within [`limit_receiving`].
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    patience: Patience,
) -> io::Result<Received> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message = unsafe { zeroed::<libc::msghdr>() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let flags = libc::MSG_CMSG_CLOEXEC
        | match patience {
            Patience::Wait | Patience::Until(_) => 0,
            Patience::None => libc::MSG_DONTWAIT,
        };
    let mut receive = || {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES;
        // SAFETY: the buffers are as long as the message says and live until the call returns.
        check_size(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })
    };
    let mut until = match patience {
        Patience::Until(until) => Some(until),
        Patience::Wait | Patience::None => None,
    };
    let mut is_last = false;
    let len = retry(|| match receive() {
        // Where signals come all the time, a wait that starts anew after each has no end.
        Err(error)
            if error.kind() == io::ErrorKind::Interrupted
                && until.is_some_and(|until| until <= Instant::now()) =>
        {
            if is_last {
                return Err(io::Error::from_raw_os_error(super::EAGAIN));
            }
            is_last = true;
            until = Instant::now().checked_add(ONCE_MORE);
            Err(error)
        }
        done => done,
    })?;
    Ok(Received {
        len,
        fds: descriptors_of(&message),
    })
}

fn descriptors_of(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control buffer in.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(ptr::from_ref(message)) };
    while !header.is_null() {
        // SAFETY: a header within what the kernel filled in.
        let filled = unsafe { header.read_unaligned() };
        if filled.cmsg_level == libc::SOL_SOCKET && filled.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: takes a number only.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = filled.cmsg_len.saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: behind a header that the kernel filled in.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: the kernel says that there are `count` of them.
                let at = unsafe { data.add(index) };
                // SAFETY: as above; the place need not be aligned.
                let fd = unsafe { at.read_unaligned() };
                fds.push(own(fd));
            }
        }
        // SAFETY: a header of this message.
        header = unsafe { libc::CMSG_NXTHDR(ptr::from_ref(message), header) };
    }
    fds
}

/// `setsockopt(SO_RCVTIMEO)`, socket(7): [`receive`] fails with `EAGAIN` after `at_most`. Never `EINTR`.
pub(crate) fn limit_receiving(socket: BorrowedFd<'_>, at_most: Duration) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: at_most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_usec: at_most.subsec_micros().into(),
    };
    // SAFETY: reads `time`.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            ptr::from_ref(&time).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Who made the pair that a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    pub(crate) pid: u32,
    pub(crate) user: u32,
}

/// `getsockopt(SO_PEERCRED)`, unix(7): kept by the kernel since the pair was made. Fails on what is no socket. Never `EINTR`.
pub(crate) fn maker_of(socket: BorrowedFd<'_>) -> io::Result<Maker> {
    let mut found = MaybeUninit::<libc::ucred>::zeroed();
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` has room for as many bytes as `bytes` says.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            found.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    })?;
    // SAFETY: all-zero bytes are a ucred, and the kernel filled it in.
    let found = unsafe { found.assume_init() };
    Ok(Maker {
        pid: found.pid as u32,
        user: found.uid,
    })
}

/// `getuid`, getuid(2). Cannot fail.
pub(crate) fn user() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::getuid() }
}

/// `fcntl(F_SETFD, FD_CLOEXEC)`, fcntl(2): takes over descriptor number `fd`, which this process was started with. `EBADF` where it was not.
///
/// # Safety
///
/// Nothing else in the process believes that the descriptor is its own.
pub(crate) unsafe fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and the caller says that it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicI32, Ordering};
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::sync::mpsc;
    use std::thread;

    /// Where the handler sends its answer.
    static ANSWERS: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn answer(_signal: libc::c_int) {
        // Relaxed: written before the handler was installed.
        let socket = ANSWERS.load(Ordering::Relaxed);
        // SAFETY: send may be called from a signal handler; reads one byte.
        unsafe { libc::send(socket, b"!".as_ptr().cast(), 1, 0) };
    }

    #[test]
    fn answer_that_came_while_the_time_ran_out_is_found() {
        let (ours, theirs) = socket_pair().unwrap();
        // Such a receive is interrupted by handlers with SA_RESTART, too.
        limit_receiving(ours.as_fd(), Duration::from_secs(100)).unwrap();
        // Relaxed: before the handler.
        ANSWERS.store(theirs.as_raw_fd(), Ordering::Relaxed);
        // SAFETY: an all-zero sigaction is a valid one.
        let mut action = unsafe { zeroed::<libc::sigaction>() };
        action.sa_sigaction = answer as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler calls nothing that a handler may not call, and no other test uses that signal.
        unsafe { libc::sigaction(libc::SIGUSR2, &raw const action, ptr::null_mut()) };

        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn(move || {
            tell.send(super::super::thread_id()).unwrap();
            let until = Patience::Until(Instant::now());
            receive(ours.as_fd(), &mut [0; 8], until).map(|received| received.len)
        });
        let thread = told.recv().unwrap();
        let is_receiving = || {
            let call = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap();
            call.starts_with(&format!("{} ", libc::SYS_recvmsg))
        };
        while !is_receiving() {
            thread::yield_now();
        }
        // The wait ends, its time is over, and then the handler answers.
        // SAFETY: takes numbers only; the thread is not joined yet.
        unsafe { libc::syscall(libc::SYS_tgkill, super::super::pid(), thread, libc::SIGUSR2) };
        assert_eq!(waiter.join().unwrap().unwrap(), 1);
    }
}
