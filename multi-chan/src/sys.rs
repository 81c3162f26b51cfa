//! System calls and nothing else: each function is one call, takes Rust types, returns `io::Result`.

#![expect(unsafe_code, reason = "libc calls")]

use crate::kill;
use crate::sync::AtomicU32;
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

#[cfg(test)]
thread_local! {
    /// Futex calls made by this thread, for the tests that count them.
    pub(crate) static FUTEX_CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Most words one `futex_waitv` takes.
pub(crate) const WAIT_WORDS_MAX: usize = 128;
/// Bit of a robust word: somebody sleeps on it, so its owner's death wakes one.
pub(crate) const WAITERS: u32 = libc::FUTEX_WAITERS;
/// Bit of a robust word: the kernel saw its owner die.
pub(crate) const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
/// Bits of a robust word: the thread that holds it.
pub(crate) const TID: u32 = libc::FUTEX_TID_MASK;

fn count_futex_call() {
    #[cfg(test)]
    FUTEX_CALLS.with(|calls| calls.set(calls.get() + 1));
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// `futex(FUTEX_WAIT)`, futex(2), on memory shared between processes.
///
/// Returns for a wake, a changed word, a signal, the limit or no reason at all: the caller looks at
/// its condition and its clock again in every case, so EINTR is not retried here.
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, limit: Option<Duration>) {
    count_futex_call();
    let limit = limit.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word outlives the call, and so does the limit, which is null or a timespec.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            limit,
        )
    };
}

/// `futex(FUTEX_WAKE)`, futex(2), on memory shared between processes; returns how many it woke.
#[cfg_attr(feature = "kill-points", track_caller)]
pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    count_futex_call();
    // SAFETY: the word outlives the call.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    kill::wrote();
    u32::try_from(woken).unwrap_or(0)
}

/// One word of `futex_waitv` and the value it is expected to hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitWord {
    seen: u64,
    address: u64,
    flags: u32,
    _reserved: u32,
}

impl WaitWord {
    const SIZE_U32: u32 = 2;

    pub(crate) fn new(word: &AtomicU32, seen: u32) -> WaitWord {
        WaitWord {
            seen: seen.into(),
            address: word.as_ptr().addr() as u64,
            flags: WaitWord::SIZE_U32,
            _reserved: 0,
        }
    }
}

/// The words of one `futex_waitv`, at most [`WAIT_WORDS_MAX`].
#[derive(Debug)]
pub(crate) struct WaitWords {
    words: [MaybeUninit<WaitWord>; WAIT_WORDS_MAX],
    used: usize,
}

impl WaitWords {
    pub(crate) fn new() -> WaitWords {
        WaitWords {
            words: [const { MaybeUninit::uninit() }; WAIT_WORDS_MAX],
            used: 0,
        }
    }

    /// Adds a word; false if there is no room.
    pub(crate) fn push(&mut self, word: &AtomicU32, seen: u32) -> bool {
        self.add(WaitWord::new(word, seen))
    }

    pub(crate) fn add(&mut self, word: WaitWord) -> bool {
        let Some(place) = self.words.get_mut(self.used) else {
            return false;
        };
        place.write(word);
        self.used += 1;
        true
    }

    /// How many more there is room for.
    pub(crate) fn room(&self) -> usize {
        WAIT_WORDS_MAX - self.used
    }

    pub(crate) fn as_slice(&self) -> &[WaitWord] {
        // SAFETY: the first `used` were written by `add`.
        unsafe { self.words[..self.used].assume_init_ref() }
    }
}

/// `futex_waitv`, `futex_waitv(2)`: sleeps while every word holds what it is expected to.
///
/// Ends like [`futex_wait`], and tells on which word it was woken, if it was; an error means that the
/// kernel does not have the call.
pub(crate) fn futex_waitv(
    words: &[WaitWord],
    limit: Option<Duration>,
) -> io::Result<Option<usize>> {
    count_futex_call();
    #[cfg(feature = "kill-points")]
    if without_waitv::get() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let until = limit
        .and_then(|limit| monotonic().checked_add(limit))
        .map(timespec);
    let until = until.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are to memory that outlives the call; each address is a mapped word.
    let done = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            words.as_ptr(),
            words.len(),
            0,
            until,
            libc::CLOCK_MONOTONIC,
        )
    };
    if let Ok(woken) = usize::try_from(done) {
        return Ok(Some(woken));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => Ok(None),
        _ => Err(error),
    }
}

/// Whether the kernel has `futex_waitv`: without words it says that, and no more.
pub(crate) fn has_futex_waitv() -> bool {
    let asked = futex_waitv(&[], None);
    !asked.is_err_and(|error| error.raw_os_error() != Some(libc::EINVAL))
}

/// For tests: makes `futex_waitv` fail as it does where the kernel does not have it.
#[cfg(feature = "kill-points")]
pub(crate) mod without_waitv {
    use crate::sync::{AtomicU32, Relaxed};
    use std::sync::LazyLock;

    static MISSING: LazyLock<AtomicU32> = LazyLock::new(AtomicU32::default);

    /// Has `futex_waitv` missing from here on, in this process and the children it forks, or not.
    pub fn pretend_without_waitv(missing: bool) {
        // Relaxed: a switch that tests set while nobody waits.
        MISSING.store(missing.into(), Relaxed);
    }

    /// Whether the system has it, and no test pretends that it has not.
    pub fn has_futex_waitv() -> bool {
        super::has_futex_waitv()
    }

    pub(crate) fn get() -> bool {
        // Relaxed: as above.
        MISSING.load(Relaxed) != 0
    }
}

/// `clock_gettime(CLOCK_MONOTONIC)`, `clock_gettime(2)`: the same clock in every process.
pub(crate) fn monotonic() -> Duration {
    let mut now = timespec(Duration::ZERO);
    // SAFETY: `now` is a timespec to write to; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// `mmap(MAP_SHARED | MAP_ANONYMOUS)`, mmap(2): zeroed memory that forked children share.
pub(crate) fn map_shared(bytes: usize) -> io::Result<NonNull<u8>> {
    map(bytes, libc::MAP_SHARED | libc::MAP_NORESERVE)
}

/// `mmap(MAP_PRIVATE | MAP_ANONYMOUS)`, mmap(2): zeroed memory of this process alone.
pub(crate) fn map_private(bytes: usize) -> io::Result<NonNull<u8>> {
    map(bytes, libc::MAP_PRIVATE)
}

/// `mmap(MAP_SHARED)`, mmap(2), of a file from its beginning.
pub(crate) fn map_file(file: BorrowedFd<'_>, bytes: usize) -> io::Result<NonNull<u8>> {
    map_fd(
        bytes,
        libc::MAP_SHARED | libc::MAP_NORESERVE,
        file.as_raw_fd(),
    )
}

fn map(bytes: usize, flags: i32) -> io::Result<NonNull<u8>> {
    map_fd(bytes, flags | libc::MAP_ANONYMOUS, -1)
}

fn map_fd(bytes: usize, flags: i32, fd: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// `memfd_create`, `memfd_create(2)`: an empty file in memory that can be sealed, closed by `exec`.
pub(crate) fn memfd(name: &'static CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with a zero and outlives the call.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Seals that keep a file's size.
pub(crate) const SIZE_SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// `fcntl(F_ADD_SEALS)`, fcntl(2): the file keeps its size, and these seals.
pub(crate) fn seal(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe {
        libc::fcntl(
            file.as_raw_fd(),
            libc::F_ADD_SEALS,
            SIZE_SEALS | libc::F_SEAL_SEAL,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `fcntl(F_GET_SEALS)`, fcntl(2): an error for what is not a file in memory.
pub(crate) fn seals(file: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: takes numbers only.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(seals)
}

/// `fcntl(F_SETFD)`, fcntl(2): `exec` does not close the descriptor.
pub(crate) fn keep_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `munmap`, munmap(2).
///
/// # Safety
/// - `base` and `bytes` are what a `map_` function gave and took.
/// - nothing uses the memory any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let done = unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    debug_assert_eq!(done, 0, "munmap of our own mapping");
}

/// `madvise(MADV_WIPEONFORK)`, madvise(2): a forked child finds these pages zeroed.
pub(crate) fn wipe_on_fork(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the advice changes what a child sees, nothing in this process.
    let done = unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_WIPEONFORK) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `pthread_sigmask`, `pthread_sigmask(3)`, twice: runs `act` with all signals blocked in this thread.
pub(crate) fn without_signals<R>(act: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: memory for a signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a set that is filled and memory for another; neither is kept.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let done = act();
    // SAFETY: the set that the call above wrote.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    done
}

/// `sysconf(_SC_NPROCESSORS_ONLN)`, sysconf(3): processors of the machine.
pub(crate) fn processors() -> usize {
    // SAFETY: takes a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1)
}

/// `geteuid`, geteuid(2).
#[cfg(feature = "named")]
pub(crate) fn user_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// `getpid`, getpid(2).
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// `gettid`, gettid(2).
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// `raise(SIGKILL)`, raise(3).
#[cfg(feature = "kill-points")]
pub(crate) fn kill_this_process() {
    // SAFETY: takes a number; the signal cannot be caught.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// `pidfd_open`, `pidfd_open(2)`.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(fd @ 0..) = i32::try_from(fd) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `fstat`, fstat(2), of a pidfd: the inode, which no other process ever gets (Linux 6.9 and later).
pub(crate) fn pidfd_inode(pidfd: &OwnedFd) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` is memory for the kernel to fill.
    let done = unsafe { libc::fstat(pidfd.as_raw_fd(), stat.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and filled by the kernel.
    Ok(unsafe { stat.assume_init() }.st_ino)
}

/// `poll`, poll(2), of a pidfd: true once the whole process has ended.
///
/// EINTR ends the wait early: the caller asks again.
pub(crate) fn pidfd_ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, patience_ms) };
    ready > 0
}

/// True if the error says that there is no such process.
pub(crate) fn is_no_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// `membarrier(MEMBARRIER_CMD_GLOBAL)`, membarrier(2): when it returns, every thread of the system has passed a point at
/// which its accesses to memory up to there were done and those after it were not begun.
///
/// Takes some milliseconds, asleep. Not everywhere: not on a kernel with `nohz_full`, nor in some sandboxes.
pub(crate) fn barrier_everywhere() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

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

/// `pthread_atfork`, `pthread_atfork(3)`.
pub(crate) fn at_fork(
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    child: extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: the three functions live as long as the program.
    let error = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Clears errno, so that a failed call can be told by it, later and elsewhere.
pub(crate) fn forget_error() {
    // SAFETY: takes nothing and cannot fail.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the calling thread's own word, for as long as the thread lives.
    unsafe { errno.write(0) };
}

/// True if errno says why a `fork` is refused: no process or no memory to be had.
pub(crate) fn is_fork_refused() -> bool {
    let error = io::Error::last_os_error().raw_os_error();
    matches!(error, Some(libc::EAGAIN | libc::ENOMEM))
}

/// A robust, process-shared mutex in shared memory, held for life and never contended.
///
/// The kernel marks its word when the holding thread ends, however it ends; that mark is all it is
/// for. It goes through `pthread_mutex_*(3)`, because the C library owns each thread's robust list.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Robust {
    raw: UnsafeCell<libc::pthread_mutex_t>,
}

// SAFETY: a process-shared mutex may be used from anywhere.
unsafe impl Sync for Robust {}

impl Robust {
    /// The futex word: the holder's thread id and the two flags.
    pub(crate) fn word(&self) -> &AtomicU32 {
        // SAFETY: glibc puts the lock word first and, as the kernel does, accesses it atomically; the
        // word lives as long as the mutex.
        unsafe { self.raw.get().cast::<AtomicU32>().as_ref_unchecked() }
    }

    /// Makes the mutex new, unheld. The caller owns the row it lies in.
    #[cfg_attr(feature = "kill-points", track_caller)]
    pub(crate) fn init(&self) -> io::Result<()> {
        let mut kind = MaybeUninit::uninit();
        // SAFETY: memory for an attribute object.
        check(unsafe { libc::pthread_mutexattr_init(kind.as_mut_ptr()) })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setrobust(kind.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST)
        })?;
        // SAFETY: initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(kind.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: the memory is a mutex's, nobody holds it, and no thread has it on its list.
        let done = check(unsafe { libc::pthread_mutex_init(self.raw.get(), kind.as_ptr()) });
        kill::wrote();
        done
    }

    /// Takes the mutex for the calling thread if no living thread holds it.
    #[cfg_attr(feature = "kill-points", track_caller)]
    pub(crate) fn hold(&self) -> io::Result<()> {
        // SAFETY: an initialised mutex.
        let error = unsafe { libc::pthread_mutex_trylock(self.raw.get()) };
        kill::wrote();
        if error != libc::EOWNERDEAD {
            return check(error);
        }
        // SAFETY: trylock just gave it to us in the state that this call mends.
        let done = check(unsafe { libc::pthread_mutex_consistent(self.raw.get()) });
        kill::wrote();
        done
    }

    /// Lets go; refused with EPERM if the calling thread does not hold it.
    #[cfg_attr(feature = "kill-points", track_caller)]
    pub(crate) fn release(&self) -> io::Result<()> {
        // SAFETY: an initialised robust mutex, which checks its owner.
        let done = check(unsafe { libc::pthread_mutex_unlock(self.raw.get()) });
        kill::wrote();
        done
    }
}

fn check(error: i32) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}
