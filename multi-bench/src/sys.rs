//! The bare system calls that our own are set beside: the only unsafe code of the benchmark.
#![expect(unsafe_code, reason = "raw contenders are raw calls")]

mod ballast;
mod mapping;
mod posix_queue;

pub(crate) use ballast::Ballast;
pub(crate) use mapping::SharedWords;
pub(crate) use posix_queue::PosixQueue;

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What a bare thread does: nothing.
extern "C" fn nothing(_argument: *mut c_void) -> *mut c_void {
    ptr::null_mut()
}

/// `pthread_create` and `pthread_join` of an empty function, see `pthread_create(3)`.
pub(crate) fn raw_thread() -> io::Result<()> {
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `thread` is a place for the identifier, no attributes means the defaults, and `nothing` is a function of the
    // type asked for that does not look at its argument.
    let code =
        unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), nothing, ptr::null_mut()) };
    check(code)?;
    // SAFETY: pthread_create returned 0, so it has written the identifier.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: `thread` was created above, is joinable, and is joined only here.
    check(unsafe { libc::pthread_join(thread, ptr::null_mut()) })
}

/// `fork` of a child that leaves at once, and `waitpid` for it, fork(2).
pub(crate) fn raw_fork() -> io::Result<()> {
    // SAFETY: the child calls nothing but `_exit`, which is allowed after a fork whatever other threads hold.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => leave(),
        child => reap(child),
    }
}

/// `_exit(0)`, _exit(2).
fn leave() -> ! {
    // SAFETY: ends the process without running anything of it; callable at any time.
    unsafe { libc::_exit(0) }
}

/// `waitpid`, waitpid(2). Tries again after EINTR.
fn reap(child: libc::pid_t) -> io::Result<()> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a place for the status; `child` is a child of ours that nobody else waits for.
        let code = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if code == child {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "the bare child ended with status {status}"
        )))
    }
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_calls_succeed_and_leave_nothing_to_wait_for() {
        for _ in 0..10 {
            raw_thread().expect("a thread");
            raw_fork().expect("a process");
        }
    }
}
