//! What a process can hold itself to: setrlimit and its neighbours.

use super::check;
use std::alloc::Layout;
use std::ffi::c_int;
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

pub(crate) const SIGABRT: i32 = libc::SIGABRT;
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

/// `getrlimit` and `setrlimit`, getrlimit(2): holds this process to `most`, or to what it is held to already where that is less. For
/// good: the hard limit too. Never `EINTR`.
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
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads `limit`.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
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

/// Where [`note_allocation_failure`]'s handler leaves its note.
static NOTE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// What the handler writes.
pub(crate) const OUT_OF_MEMORY: u32 = 1;

/// Words of the stack looked at: the frames between the allocation's failure and the abort take less than half of it.
const STACK_WORDS: usize = 512;

/// How long the code of `handle_alloc_error` is at most, which is one call.
const HANDLER_BYTES: usize = 64;

/// An abort. Was it for a failed allocation? That has left `ENOMEM` behind, unless a backtrace was printed since, which calls the
/// system; but also the caller of [`std::alloc::handle_alloc_error`] on the stack.
extern "C" fn on_abort(signal: c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // The calling thread's own. Looked at without an allocation.
    let errno = io::Error::last_os_error().raw_os_error();
    // Relaxed: written before the handler was installed, which was before there was a second thread.
    let note = NOTE.load(Ordering::Relaxed);
    // SAFETY: with SA_SIGINFO the kernel hands a handler the registers of what it interrupted.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let stack_at = context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
    if !note.is_null() && (errno == Some(libc::ENOMEM) || is_allocation_error(stack_at)) {
        // SAFETY: `note_allocation_failure` was promised that the word lives as long as the process.
        let note = unsafe { &*note };
        // Relaxed: read once this process has ended.
        note.store(OUT_OF_MEMORY, Ordering::Relaxed);
    }
    // SAFETY: raise may be called from a signal handler. The handler is gone by now, and the signal not held back: this ends us.
    unsafe { libc::raise(signal) };
}

/// Whether `handle_alloc_error`, which never returns, is among the callers on the stack at `stack_at`: whether any word there is an
/// address to return to in it. No frame of an older call of it can be left over, since there is none.
fn is_allocation_error(stack_at: usize) -> bool {
    let mut words = [0_usize; STACK_WORDS];
    let bytes = size_of_val(&words);
    let here = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: bytes,
    };
    let there = libc::iovec {
        iov_base: ptr::without_provenance_mut(stack_at),
        iov_len: bytes,
    };
    // The kernel copies, and stops where the stack ends.
    // SAFETY: getpid may be called from a signal handler.
    let own = unsafe { libc::getpid() };
    // SAFETY: writes at most `bytes` bytes of `words`; addresses that are not mapped are an error.
    unsafe { libc::process_vm_readv(own, &raw const here, 1, &raw const there, 1, 0) };
    let handler: fn(Layout) -> ! = std::alloc::handle_alloc_error;
    let handler = handler as usize;
    words
        .iter()
        .any(|word| (1..=HANDLER_BYTES).contains(&word.wrapping_sub(handler)))
}

/// `sigaction(SIGABRT)`: an abort because memory ran out leaves [`OUT_OF_MEMORY`] in `note`. There is no other way to hear of it: the
/// standard library's own report goes to standard error, and its hook cannot be set by stable code.
///
/// # Safety
///
/// `note` stays a word as long as this process lives.
pub(crate) unsafe fn note_allocation_failure(note: &AtomicU32) {
    // Relaxed: the handler runs after this.
    NOTE.store(ptr::from_ref(note).cast_mut(), Ordering::Relaxed);
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_abort;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: the handler calls nothing that a handler may not call.
    unsafe { libc::sigaction(SIGABRT, &raw const action, ptr::null_mut()) };
}
