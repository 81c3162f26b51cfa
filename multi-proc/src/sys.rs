//! System calls and nothing else: one function, one call. Linux on x86-64.

#![expect(unsafe_code, reason = "system calls")]

use crate::sync::{AtomicI32, AtomicU32, Ordering};
use multi_core::Usage;
use serde::{Deserialize, Serialize};
use std::arch::asm;
use std::ffi::{c_int, c_long};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

pub(crate) mod exec;
mod faults;
pub(crate) mod image;
mod interrupt;
mod limits;
pub(crate) mod memory;
pub(crate) mod pages;
mod pipes;
pub(crate) mod socket;

pub(crate) use faults::*;
pub(crate) use interrupt::*;
pub(crate) use limits::*;
pub(crate) use pipes::*;

pub(crate) const EAGAIN: i32 = libc::EAGAIN;
pub(crate) const ECHILD: i32 = libc::ECHILD;
pub(crate) const EMFILE: i32 = libc::EMFILE;
pub(crate) const ENFILE: i32 = libc::ENFILE;
pub(crate) const ENOMEM: i32 = libc::ENOMEM;
pub(crate) const ESRCH: i32 = libc::ESRCH;
pub(crate) const ETOOMANYREFS: i32 = libc::ETOOMANYREFS;
pub(crate) const SIGCHLD: i32 = libc::SIGCHLD;
pub(crate) const SIGHUP: i32 = libc::SIGHUP;
pub(crate) const SIGINT: i32 = libc::SIGINT;
pub(crate) const SIGKILL: i32 = libc::SIGKILL;
pub(crate) const SIGTERM: i32 = libc::SIGTERM;
/// The smallest piece of memory there is.
const PAGE_BYTES: usize = 4096;
/// The number of futex(2), as `/proc/<pid>/syscall` shows it.
pub(crate) const FUTEX: i64 = libc::SYS_futex;
/// The flag of a futex operation on memory that no other process shares.
pub(crate) const FUTEX_PRIVATE: u64 = libc::FUTEX_PRIVATE_FLAG as u64;

fn last<T>() -> io::Result<T> {
    Err(io::Error::last_os_error())
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { last() } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).or_else(|_| last())
}

fn check_long(result: c_long) -> io::Result<c_long> {
    if result < 0 { last() } else { Ok(result) }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// `mmap(MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE)`, mmap(2): zeroes that a forked child shares, and that no core dump has. Never `EINTR`.
pub(crate) fn map_shared(bytes: usize) -> io::Result<NonNull<u8>> {
    let at = map(
        bytes,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    )?;
    memory::leave_out_of_dumps(at, bytes);
    Ok(at)
}

/// `mmap(MAP_PRIVATE | MAP_ANONYMOUS)`, mmap(2): zeroes of this process alone. Never `EINTR`.
pub(crate) fn map_private(bytes: usize) -> io::Result<NonNull<u8>> {
    map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
}

fn map(bytes: usize, flags: c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return last();
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))
}

/// `munmap`, munmap(2). Never `EINTR`; fails only on arguments that were never mapped.
///
/// # Safety
///
/// - `at` and `bytes` are what one of the `map` functions was asked for and gave.
/// - Nothing refers to the mapping any more.
pub(crate) unsafe fn unmap(at: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller says that this is a whole mapping without users.
    let result = unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
    debug_assert_eq!(result, 0, "munmap of {at:p}, {bytes} bytes");
}

/// `madvise(MADV_WIPEONFORK)`, madvise(2): a forked child finds zeroes in these pages. Never `EINTR`.
///
/// # Safety
///
/// `at` and `bytes` are a private anonymous mapping whose contents a child does not need.
pub(crate) unsafe fn wipe_on_fork(at: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller says what the pages are and that a child can do without their contents.
    check(unsafe { libc::madvise(at.as_ptr().cast(), bytes, libc::MADV_WIPEONFORK) }).map(drop)
}

/// `madvise(MADV_REMOVE)`, madvise(2): gives the pages of a shared mapping back; they read as zeroes. Never `EINTR`.
///
/// # Safety
///
/// `at` and `bytes` lie within a shared mapping, and nothing refers to that part of it.
pub(crate) unsafe fn give_back(at: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller says that nobody needs the contents.
    let result = unsafe { libc::madvise(at.as_ptr().cast(), bytes, libc::MADV_REMOVE) };
    debug_assert_eq!(result, 0, "madvise(MADV_REMOVE) of {at:p}, {bytes} bytes");
}

fn own(fd: c_int) -> OwnedFd {
    // SAFETY: the descriptor was just made for us and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `eventfd(EFD_CLOEXEC | EFD_NONBLOCK)`, eventfd(2). Never `EINTR`.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(own)
}

/// `write` of 1 to an eventfd, eventfd(2). A counter that is full is readable already, so that error is none.
pub(crate) fn eventfd_set(fd: RawFd) {
    let one = 1_u64;
    let write = || {
        // SAFETY: reads the eight bytes of `one`. A descriptor that is no eventfd fails, or is written eight bytes.
        check_size(unsafe { libc::write(fd, ptr::from_ref(&one).cast(), 8) })
    };
    drop(retry(write));
}

/// `read` of an eventfd, eventfd(2): back to not readable. One that is not readable stays so.
pub(crate) fn eventfd_clear(fd: BorrowedFd<'_>) {
    let mut count = 0_u64;
    let read = || {
        // SAFETY: writes the eight bytes of `count`.
        check_size(unsafe { libc::read(fd.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) })
    };
    drop(retry(read));
}

/// `fcntl(F_DUPFD_CLOEXEC)`, fcntl(2). Never `EINTR`.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) }).map(own)
}

/// `pidfd_open`, `pidfd_open(2)`. The descriptor is close-on-exec. Never `EINTR`.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(own(fd as c_int))
}

/// `pidfd_send_signal`, `pidfd_send_signal(2)`: reaches the process the descriptor was opened for, never one that took over
/// its number. Never `EINTR`.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = ptr::null();
    // SAFETY: without a siginfo the kernel reads none of our memory.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    })
    .map(drop)
}

/// A descriptor for [`poll`] and what came of it.
#[repr(transparent)]
pub(crate) struct PollFd(libc::pollfd);

impl PollFd {
    pub(crate) fn readable(fd: BorrowedFd<'_>) -> Self {
        Self(libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
    }

    /// Whether anything at all is to be looked at, an error included.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.revents != 0
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// `ppoll`, poll(2). Not retried after `EINTR`, which counts as nothing ready: the caller works its timeout out again.
pub(crate) fn poll(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(timespec);
    let timeout_at = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: `PollFd` is a `pollfd`, there are `count` of them, and the timeout lives until the call returns.
    match check(unsafe { libc::ppoll(fds.as_mut_ptr().cast(), count, timeout_at, ptr::null()) }) {
        Ok(ready) => Ok(ready as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    Code(i32),
    Signal { signal: i32, core_dumped: bool },
}

/// `waitid(P_PIDFD, WEXITED)` with usage, waitid(2): collects the child. Blocks until it has ended; retries `EINTR`. `ECHILD`
/// where somebody else collected it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<(Exit, Usage)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // The system call itself: the C library's waitid leaves the usage out.
    retry(|| {
        // SAFETY: both places are large enough for what the kernel writes.
        check_long(unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                pidfd.as_raw_fd(),
                info.as_mut_ptr(),
                libc::WEXITED,
                usage.as_mut_ptr(),
            )
        })
    })?;
    // SAFETY: all-zero bytes are a siginfo_t, and the kernel filled it in.
    let info = unsafe { info.assume_init() };
    // SAFETY: all-zero bytes are an rusage, and the kernel filled it in.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: waitid gives a siginfo of the SIGCHLD kind, which has a status.
    let status = unsafe { info.si_status() };
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status),
        code => Exit::Signal {
            signal: status,
            core_dumped: code == libc::CLD_DUMPED,
        },
    };
    Ok((
        exit,
        Usage::of_task(
            duration(usage.ru_utime),
            duration(usage.ru_stime),
            kib(usage.ru_maxrss),
        ),
    ))
}

/// `waitid(P_PIDFD, WEXITED | WNOHANG | WNOWAIT)`, waitid(2): whether this is a child of ours that nobody has collected.
/// Never blocks.
pub(crate) fn is_our_child(pidfd: BorrowedFd<'_>) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is large enough for what the kernel writes.
    check(unsafe {
        libc::waitid(
            libc::P_PIDFD,
            pidfd.as_raw_fd() as libc::id_t,
            info.as_mut_ptr(),
            options,
        )
    })
    .is_ok()
}

/// `poll` of a pidfd: whether its process has ended, collected or not. Never blocks.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    matches!(
        poll(&mut [PollFd::readable(pidfd)], Some(Duration::ZERO)),
        Ok(1..)
    )
}

/// `kill(SIGKILL)` and `waitpid`, kill(2), wait(2): ends and collects a child that nobody else collects, by its number.
pub(crate) fn kill_child(pid: u32) {
    // SAFETY: takes numbers only; the number is the child's until it is collected, here.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    // SAFETY: asks for no status.
    let wait = || check(unsafe { libc::waitpid(pid as libc::pid_t, ptr::null_mut(), 0) });
    drop(retry(wait));
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64)
}

fn kib(count: c_long) -> u64 {
    count as u64 * 1024
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    Child,
    Parent { pid: u32 },
}

/// `fork`, fork(2), through the C library, which keeps its allocator usable in the child. Never `EINTR`.
///
/// # Safety
///
/// The child has one thread, a copy of this one. Until it leaves or executes another program it takes no lock that another
/// thread of the parent may have held.
pub(crate) unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: the caller keeps the child away from other threads' locks.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent { pid: pid as u32 }),
    }
}

/// The signals a thread holds back.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// This mask without the signal of [`die_with_parent_process`].
    pub(crate) fn open_for_parent_death(mut self) -> Self {
        // SAFETY: a valid set and a valid signal number.
        unsafe { libc::sigdelset(&raw mut self.0, parent_thread_signal()) };
        self
    }
}

/// `pthread_sigmask`, `pthread_sigmask(3)`: holds every signal back. Never `EINTR`; cannot fail on a full set.
pub(crate) fn block_signals() -> SignalMask {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: writes one set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: an all-zero set is the empty set.
    let mut old = unsafe { zeroed::<libc::sigset_t>() };
    // SAFETY: `all` is a filled set, `old` has room for one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), &raw mut old) };
    SignalMask(old)
}

/// `pthread_sigmask`, `pthread_sigmask(3)`. Never `EINTR`; cannot fail on a mask that the system gave.
pub(crate) fn set_signal_mask(mask: &SignalMask) {
    // SAFETY: `mask` is a set the system gave, perhaps less one signal; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, ptr::null_mut()) };
}

/// `getpid`, getpid(2).
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// A system call of two arguments, without the C library's code around it: that lies in pages which a child would have to fault in,
/// at 2 to 3 µs each, for one instruction. Errors come as negative numbers.
///
/// # Safety
///
/// As for the call itself.
#[inline(always)]
unsafe fn raw_call(number: c_long, first: usize, second: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention: it changes rax, rcx, r11 and what the call is said to change.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// `getppid`, getpid(2).
#[inline]
pub(crate) fn parent_pid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    let pid = unsafe { raw_call(libc::SYS_getppid, 0, 0) };
    pid as u32
}

/// `__libc_single_threaded`, `libc_single_threaded(3)`: whether this process has but one thread, for certain.
pub(crate) fn has_one_thread() -> bool {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            static __libc_single_threaded: std::ffi::c_char;
        }
        // SAFETY: a byte of the C library's. Only the last thread but one could be changing it, and then it reads 0.
        unsafe { ptr::read_volatile(&raw const __libc_single_threaded) != 0 }
    }
    #[cfg(not(target_env = "gnu"))]
    false
}

/// `gettid`, gettid(2).
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    let tid = unsafe { libc::gettid() };
    tid as u32
}

/// `gettid`, gettid(2): whether this is the thread the process began with.
pub(crate) fn is_main_thread() -> bool {
    thread_id() == pid()
}

/// The parent this process is to die with, for the signal handler. 0 where there is none.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// What a child of a thread other than main is told of that thread's end with: the last real-time signal.
fn parent_thread_signal() -> c_int {
    libc::SIGRTMAX()
}

/// The thread that forked us has ended: with its process, or alone?
extern "C" fn on_parent_thread_end(_signal: c_int) {
    // Relaxed: written before the handler was installed, by this thread.
    let parent = PARENT.load(Ordering::Relaxed);
    // SAFETY: getppid may be called from a signal handler.
    if unsafe { libc::getppid() } != parent {
        // SAFETY: getpid may be called from a signal handler.
        let own = unsafe { libc::getpid() };
        // SAFETY: kill may be called from a signal handler; the process is our own.
        unsafe { libc::kill(own, libc::SIGKILL) };
    }
}

/// `prctl(PR_SET_PDEATHSIG, SIGKILL)`, `PR_SET_PDEATHSIG(2const)`: ends this process with the *thread* that forked it. Never `EINTR`.
#[inline]
pub(crate) fn die_with_main_thread() {
    // SAFETY: takes numbers only.
    unsafe {
        raw_call(
            libc::SYS_prctl,
            libc::PR_SET_PDEATHSIG as usize,
            libc::SIGKILL as usize,
        )
    };
}

/// `sigaction` and `prctl(PR_SET_PDEATHSIG)`: ends this process with the *process* that forked it. The kernel signals the end of
/// the forking thread and, if that was not the last one, of each thread it hands us on to; the handler looks which it was.
/// Never `EINTR`.
pub(crate) fn die_with_parent_process() {
    // Relaxed: the handler runs on this thread, after this.
    PARENT.store(parent_pid() as i32, Ordering::Relaxed);
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    action.sa_sigaction = on_parent_thread_end as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler calls nothing that a handler may not call.
    unsafe { libc::sigaction(parent_thread_signal(), &raw const action, ptr::null_mut()) };
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, parent_thread_signal()) };
}

/// `sigaction`, sigaction(2): whether this process handles `signal` with a function of its own. Never `EINTR`.
pub(crate) fn has_handler(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    // SAFETY: asks only; `action` has room for the answer.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN
}

/// What a signal does where no function handles it.
#[derive(Clone, Copy)]
pub(crate) enum Disposition {
    Default,
    Ignore,
}

/// `signal`, signal(2). Never `EINTR`; fails only on a number that is no signal.
pub(crate) fn set_disposition(signal: i32, disposition: Disposition) {
    let to = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: installs no function.
    unsafe { libc::signal(signal, to) };
}

/// `_exit`, _exit(2): leaves without running what the parent registered for its own exit.
#[inline]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// `kill(SIGKILL)`, kill(2): ends this process as somebody else would.
#[cfg(feature = "kill-points")]
pub(crate) fn kill_this_process() {
    // SAFETY: getpid cannot fail.
    let own = unsafe { libc::getpid() };
    // SAFETY: takes numbers only; the process is our own.
    unsafe { libc::kill(own, libc::SIGKILL) };
}

/// `write` to standard error, write(2), without the lock that `eprintln!` takes. What cannot be written is left out.
pub(crate) fn write_stderr(mut text: &[u8]) {
    while !text.is_empty() {
        let write = || {
            // SAFETY: reads within `text`.
            check_size(unsafe { libc::write(2, text.as_ptr().cast(), text.len()) })
        };
        match retry(write) {
            Ok(count @ 1..) => text = text.get(count..).unwrap_or_default(),
            _ => return,
        }
    }
}

/// `getrandom`, getrandom(2): eight bytes of the kernel's generator. Retries `EINTR`.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let read = || {
        // SAFETY: writes at most eight bytes; up to 256 are never cut short once the generator is ready.
        check_size(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })
    };
    retry(read)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// `clock_gettime(CLOCK_MONOTONIC)`, `clock_gettime(2)`: the clock behind `Instant`, in nanoseconds, which all processes share. Cannot fail.
pub(crate) fn clock_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` has room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a time, and the kernel filled it in.
    let time = unsafe { time.assume_init() };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `futex(FUTEX_WAIT)`, futex(2), on a word in shared memory: sleeps while it is `expected`. Returns early for no reason,
/// `EINTR` included.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(timespec);
    let timeout_at = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout_at,
        )
    };
}

/// `futex(FUTEX_WAKE)`, futex(2), on a word in shared memory: wakes everyone in every process. Never `EINTR`.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word lives until the call returns; its value is not looked at.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
