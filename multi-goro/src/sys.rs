//! System calls, and nothing else: each function is one call with Rust types.

#![expect(unsafe_code, reason = "system calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::sync::AtomicU32;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes in a page of memory, `sysconf(_SC_PAGESIZE)`, sysconf(3).
pub(crate) fn page_bytes() -> usize {
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("a page has a size")
}

/// This process's number, `getpid`, getpid(2).
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// The clock behind `Instant`, in nanoseconds, `clock_gettime(CLOCK_MONOTONIC)`, `clock_gettime(2)`.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// That clock at the kernel's last tick, `clock_gettime(CLOCK_MONOTONIC_COARSE)`: one load from a page of the kernel's.
pub(crate) fn monotonic_coarse_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_COARSE)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // It fails for clocks that do not exist only; these are older than what else this file asks of the kernel.
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Reserves zeroed, private memory that is given pages as it is touched: `mmap(MAP_NORESERVE)`, mmap(2).
pub(crate) fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(address.cast()).expect("the kernel never maps page zero for us"))
}

/// Gives a mapping back, `munmap`, munmap(2).
///
/// # Safety
///
/// - The range came from [`map`], and nothing refers to it any more.
pub(crate) unsafe fn unmap(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::munmap(address.as_ptr().cast(), bytes) })
}

/// `madvise`, madvise(2), with an advice that this file vouches for.
///
/// # Safety
///
/// - The range came from [`map`], and nothing is kept in the part of it that the advice empties.
unsafe fn advise(address: NonNull<u8>, bytes: usize, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::madvise(address.as_ptr().cast(), bytes, advice) })
}

/// Keeps transparent huge pages away, `madvise(MADV_NOHUGEPAGE)`: one touched page must not become 2 MiB.
///
/// # Safety
///
/// - The range came from [`map`].
pub(crate) unsafe fn no_huge_pages(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the advice empties nothing.
    unsafe { advise(address, bytes, libc::MADV_NOHUGEPAGE) }
}

/// Leaves the range out of forked children, where it is not mapped: `madvise(MADV_DONTFORK)`.
///
/// # Safety
///
/// - The range came from [`map`], and no forked child touches it.
pub(crate) unsafe fn keep_from_forks(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the advice empties nothing here; for children, the caller's promise.
    unsafe { advise(address, bytes, libc::MADV_DONTFORK) }
}

/// Gives the pages back and keeps the range, `madvise(MADV_DONTNEED)`. Guards stay.
///
/// # Safety
///
/// - The range came from [`map`], and nothing is kept in it.
pub(crate) unsafe fn give_back(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { advise(address, bytes, libc::MADV_DONTNEED) }
}

/// As [`give_back`], for `bytes` from each of the first [`RANGES_MAX`] addresses on; otherwise as [`guard_install_each`].
///
/// # Safety
///
/// - As for `give_back`, of each range.
pub(crate) unsafe fn give_back_each(addresses: &[NonNull<u8>], bytes: usize) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    unsafe { advise_each(addresses, bytes, libc::MADV_DONTNEED) }
}

/// From include/uapi/asm-generic/mman-common.h; libc does not name it on every version.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Makes every access to the range a fault without splitting the mapping: `madvise(MADV_GUARD_INSTALL)`, Linux 6.13.
///
/// # Safety
///
/// - The range came from [`map`], and nothing is kept in it.
pub(crate) unsafe fn guard_install(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { advise(address, bytes, MADV_GUARD_INSTALL) }
}

/// As [`guard_install`], for `bytes` from each of the first [`RANGES_MAX`] addresses on, in one call; returns how many of them were done:
/// `process_madvise(MADV_GUARD_INSTALL)`, `process_madvise(2)`, on the caller itself, Linux 6.14.
///
/// # Safety
///
/// - As for `guard_install`, of each range.
pub(crate) unsafe fn guard_install_each(
    addresses: &[NonNull<u8>],
    bytes: usize,
) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    unsafe { advise_each(addresses, bytes, MADV_GUARD_INSTALL) }
}

/// Most ranges in one call for several. They lie on the stack of the caller, who may be on a task's.
pub(crate) const RANGES_MAX: usize = 16;

/// # Safety
///
/// - As for [`advise`], of `bytes` from each address on.
unsafe fn advise_each(
    addresses: &[NonNull<u8>],
    bytes: usize,
    advice: libc::c_int,
) -> io::Result<usize> {
    /// The calling thread, in place of a descriptor of its process. From include/uapi/linux/pidfd.h.
    const PIDFD_SELF_THREAD: libc::c_int = -10_000;
    let mut ranges = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: bytes,
    }; RANGES_MAX];
    let count = addresses.len().min(RANGES_MAX);
    for (range, address) in ranges.iter_mut().zip(addresses) {
        range.iov_base = address.as_ptr().cast();
    }
    // SAFETY: as many ranges as are said, which live for the call; for what becomes of them, the caller's promise.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF_THREAD,
            ranges.as_ptr(),
            count,
            advice,
            0,
        )
    };
    // Negative where it failed for the first range.
    usize::try_from(done)
        .map(|done| done / bytes)
        .map_err(|_| io::Error::last_os_error())
}

/// Makes every access to the range a fault, `mprotect(PROT_NONE)`, mprotect(2). Splits the mapping.
///
/// # Safety
///
/// - The range came from [`map`], and nothing is kept in it.
pub(crate) unsafe fn protect(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::mprotect(address.as_ptr().cast(), bytes, libc::PROT_NONE) })
}

/// A page that reads as zero in a forked child, `madvise(MADV_WIPEONFORK)`, Linux 4.14.
pub(crate) fn wiped_on_fork() -> io::Result<&'static AtomicU32> {
    let bytes = page_bytes();
    let page = map(bytes)?;
    // SAFETY: just mapped, and holds nothing.
    unsafe { advise(page, bytes, libc::MADV_WIPEONFORK)? };
    // SAFETY: page-aligned, zeroed, and never unmapped.
    Ok(unsafe { page.cast::<AtomicU32>().as_ref() })
}

/// Sleeps while `word` holds `expected`, at most for `timeout`: `futex(FUTEX_WAIT_PRIVATE)`, futex(2).
///
/// Returns early for any reason (a wake, a signal, another value): the caller looks again.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let time = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos()),
    });
    // SAFETY: `word` and `time` are alive for the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            ptr::from_ref(word),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            time.as_ref().map_or(ptr::null(), ptr::from_ref),
        )
    };
}

/// How late the kernel may wake this thread, to wake others with it, `prctl(PR_SET_TIMERSLACK)`, prctl(2); 50 µs if nothing is said. Threads
/// that this one starts inherit it.
pub(crate) fn set_timer_slack(slack: Duration) -> io::Result<()> {
    let ns = slack.as_nanos() as libc::c_ulong;
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, ns) })
}

/// Wakes one sleeper on a word, `futex(FUTEX_WAKE_PRIVATE)`, futex(2).
///
/// Takes an address, which may be stale by now: the kernel uses it as a key and reads nothing there.
pub(crate) fn futex_wake(word: *const AtomicU32) {
    // SAFETY: the kernel checks the address and dereferences nothing for a private wake.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
}

/// `membarrier`, membarrier(2), with a command that needs no processor's number.
fn membarrier_call(command: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Allows [`membarrier`] to this process: `membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)`, membarrier(2), Linux 4.14.
pub(crate) fn membarrier_register() -> io::Result<()> {
    membarrier_call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// Runs a full fence on every processor that runs a thread of this process: `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`,
/// membarrier(2). A full fence for the caller, too.
pub(crate) fn membarrier() -> io::Result<()> {
    membarrier_call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// A timer as a descriptor, which does not outlive an exec: `timerfd_create(CLOCK_MONOTONIC)`, `timerfd_create(2)`.
pub(crate) fn timer_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe {
        libc::timerfd_create(
            libc::CLOCK_MONOTONIC,
            libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a timer's one expiry, or none, and forgets an expiry that has happened: `timerfd_settime`, `timerfd_create(2)`.
pub(crate) fn set_timer(timer: BorrowedFd<'_>, left: Option<Duration>) -> io::Result<()> {
    let left = left.unwrap_or_default();
    let value = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(left.subsec_nanos()),
        },
    };
    // SAFETY: `value` is alive for the call; a null old value is not written.
    check(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const value, ptr::null_mut()) })
}

/// Sleeps until a descriptor is readable, `poll`, poll(2). Returns early for a signal: the caller looks again.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>) {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, alive for the call.
    unsafe { libc::poll(&raw mut entry, 1, -1) };
}

/// A thread of this process, as the kernel knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread {
    id: libc::pid_t,
    clock: libc::clockid_t,
}

/// The calling thread: its number, `gettid`, and the clock of its processor time, `pthread_getcpuclockid`,
/// `pthread_getcpuclockid(3)`.
pub(crate) fn this_thread() -> io::Result<Thread> {
    // SAFETY: takes and touches nothing.
    let id = unsafe { libc::gettid() };
    // SAFETY: takes and touches nothing.
    let thread = unsafe { libc::pthread_self() };
    let mut clock = 0;
    // SAFETY: the thread is the calling one, and `clock` is writable.
    match unsafe { libc::pthread_getcpuclockid(thread, &raw mut clock) } {
        0 => Ok(Thread { id, clock }),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

impl Thread {
    pub(crate) fn id(self) -> i32 {
        self.id
    }

    /// What the thread has used of a processor, `clock_gettime`, `clock_gettime(2)`. An error once it has ended.
    pub(crate) fn used(self) -> io::Result<Duration> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is writable.
        check(unsafe { libc::clock_gettime(self.clock, &raw mut time) })?;
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Ok(Duration::new(seconds, nanos))
    }
}

/// What a fault handler is given: the faulting address, and what the previous handler wants to see.
#[derive(Debug)]
pub(crate) struct Fault {
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
}

impl Fault {
    /// The address whose access failed.
    pub(crate) fn address(&self) -> usize {
        // SAFETY: the kernel made `info` for this handler's call.
        let info = unsafe { &*self.info };
        // SAFETY: SIGSEGV and SIGBUS, the only signals hooked, carry an address.
        unsafe { info.si_addr() }.addr()
    }
}

struct Previous(std::sync::OnceLock<[libc::sigaction; 2]>);
// SAFETY: a sigaction is plain data; it holds a handler's address and masks.
unsafe impl Sync for Previous {}
// SAFETY: as above.
unsafe impl Send for Previous {}

static PREVIOUS: Previous = Previous(std::sync::OnceLock::new());
static ON_FAULT: std::sync::OnceLock<fn(&Fault)> = std::sync::OnceLock::new();

/// Has `on_fault` called first on SIGSEGV and SIGBUS, on the alternate stack, `sigaction`, sigaction(2).
///
/// What was installed before is called after it, for faults that are not its own. Later calls do nothing.
pub(crate) fn hook_faults(on_fault: fn(&Fault)) -> io::Result<()> {
    if ON_FAULT.set(on_fault).is_err() {
        return Ok(());
    }
    // SAFETY: an all-zero sigaction is a valid value.
    let mut previous: [libc::sigaction; 2] = unsafe { std::mem::zeroed() };
    for (signal, old) in [libc::SIGSEGV, libc::SIGBUS].into_iter().zip(&mut previous) {
        // SAFETY: `old` is writable; a null new action only reads.
        check(unsafe { libc::sigaction(signal, ptr::null(), old) })?;
    }
    // Kept before the first handler can run.
    let _ = PREVIOUS.0.set(previous);
    // SAFETY: an all-zero sigaction is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler is async-signal-safe: it reads memory, writes to stderr and ends the process.
        check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    }
    Ok(())
}

extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let fault = Fault {
        signal,
        info,
        context,
    };
    if let Some(on_fault) = ON_FAULT.get() {
        on_fault(&fault);
    }
    fault.pass_on();
}

impl Fault {
    /// Does what would have been done without us.
    fn pass_on(&self) {
        let index = usize::from(self.signal == libc::SIGBUS);
        let Some(previous) = PREVIOUS.0.get().map(|all| &all[index]) else {
            return;
        };
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                // Back to what was; the access is tried again when we return, and ends the process.
                // SAFETY: the action came from the kernel.
                unsafe { libc::sigaction(self.signal, previous, ptr::null_mut()) };
            }
            address if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                type Action = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                // SAFETY: with SA_SIGINFO the installed handler has this type.
                let action = unsafe { std::mem::transmute::<usize, Action>(address) };
                action(self.signal, self.info, self.context);
            }
            address => {
                // SAFETY: without SA_SIGINFO the installed handler has this type.
                let action =
                    unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(address) };
                action(self.signal);
            }
        }
    }
}

/// Gives this thread an alternate stack for signal handlers if it has none, `sigaltstack`, sigaltstack(2).
///
/// Returns the memory to keep mapped until the thread ends, if any was needed.
pub(crate) fn ensure_signal_stack() -> io::Result<()> {
    // SAFETY: an all-zero stack_t is a valid value.
    let mut current: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: `current` is writable; a null new stack only reads.
    check(unsafe { libc::sigaltstack(ptr::null(), &raw mut current) })?;
    if current.ss_flags & libc::SS_DISABLE == 0 {
        return Ok(());
    }
    // Room for the largest register state there is (AMX: 11 KiB) and for our formatting. Workers are few and live long:
    // the memory stays.
    let bytes = 64 * 1024;
    let memory = map(bytes)?;
    let stack = libc::stack_t {
        ss_sp: memory.as_ptr().cast(),
        ss_flags: 0,
        ss_size: bytes,
    };
    // SAFETY: the memory is ours, and is never given back.
    check(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })
}

/// Writes to standard error without a lock or an allocation, `write`, write(2). For signal handlers.
pub(crate) fn write_error(text: &[u8]) {
    // SAFETY: the buffer is alive for the call.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

/// Ends the process with SIGABRT, `abort`, abort(3).
pub(crate) fn abort() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// Where this thread's stack lies, and its size in bytes, `pthread_getattr_np`, pthread_getattr_np(3). Null and zero where that
/// cannot be had.
#[cfg(asan)]
pub(crate) fn thread_stack() -> (*const u8, usize) {
    // SAFETY: an all-zero attribute is storage for the next call.
    let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    // SAFETY: the calling thread is alive, and the attribute is ours.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) } != 0 {
        return (ptr::null(), 0);
    }
    let mut base = ptr::null_mut();
    let mut bytes = 0;
    // SAFETY: initialised by the call above; both results are writable.
    unsafe { libc::pthread_attr_getstack(&raw const attributes, &raw mut base, &raw mut bytes) };
    // SAFETY: initialised above, and not used again.
    unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    (base.cast_const().cast(), bytes)
}
