//! What a process can hold itself to: setrlimit and its neighbours.

use super::check;
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::time::Duration;

pub(crate) const SIGABRT: i32 = libc::SIGABRT;
pub(crate) const SIGSEGV: i32 = libc::SIGSEGV;
pub(crate) const SIGCONT: i32 = libc::SIGCONT;
pub(crate) const SIGSTOP: i32 = libc::SIGSTOP;
pub(crate) const SIGTSTP: i32 = libc::SIGTSTP;
pub(crate) const SIGTTIN: i32 = libc::SIGTTIN;
pub(crate) const SIGTTOU: i32 = libc::SIGTTOU;
pub(crate) const SIGXCPU: i32 = libc::SIGXCPU;
pub(crate) const SIGXFSZ: i32 = libc::SIGXFSZ;
/// How many CPUs a set can name.
pub(crate) const CPUS_MAX: usize = libc::CPU_SETSIZE as usize;

/// What [`lower_limit`] lowers.
#[derive(Clone, Copy)]
pub(crate) enum Resource {
    /// Private writable memory: `RLIMIT_DATA`.
    Memory,
    /// Seconds of processor time: `RLIMIT_CPU`.
    CpuSeconds,
    /// The highest descriptor, and one: `RLIMIT_NOFILE`.
    Files,
    /// Processes and threads of this user: `RLIMIT_NPROC`.
    Processes,
    /// Bytes of any file written to: `RLIMIT_FSIZE`.
    FileBytes,
}

/// `getrlimit` and `setrlimit`, getrlimit(2): holds this process to `most`, or to what it is held to already, by the soft limit as by the
/// hard one, where that is less. For good: the hard limit too. Never `EINTR`.
pub(crate) fn lower_limit(resource: Resource, most: u64) -> io::Result<()> {
    let resource = match resource {
        Resource::Memory => libc::RLIMIT_DATA,
        Resource::CpuSeconds => libc::RLIMIT_CPU,
        Resource::Files => libc::RLIMIT_NOFILE,
        Resource::Processes => libc::RLIMIT_NPROC,
        Resource::FileBytes => libc::RLIMIT_FSIZE,
    };
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` has room for the answer.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    limit.rlim_max = limit.rlim_max.min(most);
    limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
    // SAFETY: reads `limit`.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// `getrlimit(RLIMIT_FSIZE)`, getrlimit(2): how long files may be that this process makes longer; `u64::MAX` where there is no limit. Never `EINTR`.
pub(super) fn file_bytes_max() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` has room for the answer.
    check(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

/// `setpriority(PRIO_PROCESS)`, setpriority(2), of the calling thread, which those it starts inherit. Never `EINTR`.
pub(crate) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// `sched_setaffinity` and `sched_getaffinity`, `sched_setaffinity(2)`, of the calling thread: confines it to `cpus`, each less than
/// [`CPUS_MAX`], and returns the first that there is not, or that the thread may not use. Never `EINTR`.
pub(crate) fn set_cpus(cpus: &[usize]) -> io::Result<Option<usize>> {
    // SAFETY: all-zero bytes are the empty set.
    let mut set = unsafe { zeroed::<libc::cpu_set_t>() };
    for &cpu in cpus {
        // SAFETY: changes one bit of `set`; a number out of range would panic.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    let bytes = size_of::<libc::cpu_set_t>();
    // SAFETY: reads `bytes` bytes of `set`.
    check(unsafe { libc::sched_setaffinity(0, bytes, &raw const set) })?;
    // SAFETY: writes at most `bytes` bytes of `set`.
    check(unsafe { libc::sched_getaffinity(0, bytes, &raw mut set) })?;
    // SAFETY: reads one bit of `set`; as above.
    let is_missing = |&&cpu: &&usize| unsafe { !libc::CPU_ISSET(cpu, &set) };
    Ok(cpus.iter().find(is_missing).copied())
}

/// `umask`, umask(2). Cannot fail.
pub(crate) fn set_umask(mode: u32) {
    // SAFETY: takes a number only.
    unsafe { libc::umask(mode) };
}

/// `timer_create(CLOCK_PROCESS_CPUTIME_ID)`, `timer_create(2)`: sends this process SIGXCPU once it has used `after` more processor time.
/// The timer stays until the process ends. Never `EINTR`.
pub(crate) fn alarm_on_cpu_time(after: Duration) -> io::Result<()> {
    // SAFETY: an all-zero sigevent is a valid one.
    let mut event = unsafe { zeroed::<libc::sigevent>() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = SIGXCPU;
    let mut timer = MaybeUninit::<libc::timer_t>::uninit();
    // SAFETY: reads `event`, and writes the timer's name.
    check(unsafe {
        libc::timer_create(
            libc::CLOCK_PROCESS_CPUTIME_ID,
            &raw mut event,
            timer.as_mut_ptr(),
        )
    })?;
    // SAFETY: `timer_create` filled it in.
    let timer = unsafe { timer.assume_init() };
    let once = libc::itimerspec {
        it_interval: super::timespec(Duration::ZERO),
        it_value: super::timespec(after),
    };
    // SAFETY: the timer was just made; reads `once`, and the old time is not asked for.
    check(unsafe { libc::timer_settime(timer, 0, &raw const once, ptr::null_mut()) }).map(drop)
}

/// `sigaction` and `sigprocmask`: `signal` does to this process what it does by default, and is not held back.
pub(crate) fn open_signal(signal: i32) {
    super::set_disposition(signal, super::Disposition::Default);
    // SAFETY: an all-zero set is the empty set.
    let mut set = unsafe { zeroed::<libc::sigset_t>() };
    // SAFETY: a valid set; a number that is no signal is refused.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: reads `set`; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
}

/// `SIGRTMAX`, signal(7): the last signal there is, which [`die_with_parent_process`](super::die_with_parent_process) uses.
pub(crate) fn last_signal() -> i32 {
    libc::SIGRTMAX()
}
