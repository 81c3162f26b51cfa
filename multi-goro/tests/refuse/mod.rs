//! Has the system refuse new threads and processes for a while: `RLIMIT_NPROC`, setrlimit(2).

#![expect(
    unsafe_code,
    reason = "user ids and limits are changed by system calls"
)]

use std::io;

/// A user id that owns nothing: `nobody`.
const NOBODY: libc::uid_t = 65534;

/// Calls `while_refused` while clone(2) fails with EAGAIN for this process.
///
/// The limit does not bind root, so root becomes `nobody` meanwhile and keeps its saved user id to come back by.
pub(crate) fn new_threads_and_processes(
    while_refused: &mut dyn FnMut(),
) -> Result<(), &'static str> {
    let _user = if is_root() {
        Some(User::nobody().map_err(|_| "the user id cannot be changed here")?)
    } else {
        None
    };
    let _limit = Limit::none_left().map_err(|_| "the process limit cannot be lowered here")?;
    while_refused();
    Ok(())
}

struct User;

impl User {
    fn nobody() -> io::Result<Self> {
        set_user_ids(NOBODY, NOBODY, 0).map(|()| Self)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        set_user_ids(0, 0, 0).expect("root cannot come back");
    }
}

struct Limit {
    before: libc::rlimit,
}

impl Limit {
    fn none_left() -> io::Result<Self> {
        let mut before = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the pointer is to a whole `rlimit`, which the call fills in.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut before) })?;
        let limit = Self { before };
        limit.set(0)?;
        Ok(limit)
    }

    fn set(&self, current: libc::rlim_t) -> io::Result<()> {
        let lowered = libc::rlimit {
            rlim_cur: current,
            ..self.before
        };
        // SAFETY: the pointer is to a whole `rlimit`, which the call reads.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const lowered) })
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.set(self.before.rlim_cur)
            .expect("the process limit cannot be raised again");
    }
}

fn is_root() -> bool {
    // SAFETY: the call has no conditions.
    unsafe { libc::getuid() == 0 }
}

/// `setresuid`, setresuid(2), for every thread of the process.
fn set_user_ids(real: libc::uid_t, effective: libc::uid_t, saved: libc::uid_t) -> io::Result<()> {
    // SAFETY: the call has no conditions.
    check(unsafe { libc::setresuid(real, effective, saved) })
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
