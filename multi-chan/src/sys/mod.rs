//! System calls and nothing else: each function is one call, takes Rust types, returns `io::Result`.

#![expect(unsafe_code, reason = "libc calls")]

mod futex;
mod memory;
mod poll;
mod process;
mod robust;

#[cfg(test)]
pub(crate) use futex::FUTEX_CALLS;
#[cfg(feature = "kill-points")]
pub(crate) use futex::without_waitv;
pub(crate) use futex::{
    WaitWord, WaitWords, barrier_everywhere, futex_wait, futex_waitv, futex_wake, has_futex_waitv,
};
pub(crate) use memory::{
    SIZE_SEALS, copy_of_number, is_byte_locked, is_in_ordinary_memory, is_nonblocking,
    keep_on_exec, lengthen, lock_byte, map_file, map_private, map_shared, memfd, populate, seal,
    seals, unmap, wipe_on_fork,
};
pub(crate) use poll::{
    PollFd, drain, epoll, epoll_add, epoll_remove, eventfd, eventfd_add, poll, timerfd, timerfd_set,
};
#[cfg(feature = "kill-points")]
pub(crate) use process::kill_this_process;
#[cfg(feature = "named")]
pub(crate) use process::user_id;
pub(crate) use process::{
    at_fork, forget_error, is_fork_refused, is_no_process, pidfd_ended, pidfd_inode, pidfd_open,
    process_id, processors, thread_id, without_signals,
};
pub(crate) use robust::{OWNER_DIED, Robust, TID, WAITERS};

use std::time::Duration;

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// `clock_gettime(CLOCK_MONOTONIC)`, `clock_gettime(2)`: the same clock in every process.
pub(crate) fn monotonic() -> Duration {
    let mut now = timespec(Duration::ZERO);
    // SAFETY: `now` is a timespec to write to; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
