//! System calls that only tests make.

#![allow(
    dead_code,
    unused_qualifications,
    reason = "not every test program uses everything here"
)]
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const SIGALRM: i32 = libc::SIGALRM;
pub(crate) const SIGCHLD: i32 = libc::SIGCHLD;
pub(crate) const SIGINT: i32 = libc::SIGINT;
pub(crate) const SIGKILL: i32 = libc::SIGKILL;
pub(crate) const SIGSTOP: i32 = libc::SIGSTOP;
pub(crate) const SIGTERM: i32 = libc::SIGTERM;
pub(crate) const SIGUSR1: i32 = libc::SIGUSR1;
pub(crate) const SIGXCPU: i32 = libc::SIGXCPU;

/// `write` to standard error without a lock.
pub(crate) fn say(text: &str) {
    // SAFETY: reads within `text`.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

/// `write` to standard output without a lock.
pub(crate) fn say_out(text: &str) {
    // SAFETY: reads within `text`.
    unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

/// `kill`, kill(2), of every process of a group.
pub(crate) fn kill_group(group: u32, signal: i32) {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::kill(-(group as i32), signal) };
    assert_eq!(result, 0, "kill(-{group}, {signal})");
}

/// `sigaction`, sigaction(2): what handles `signal`, as a number.
pub(crate) fn handler(signal: i32) -> usize {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // SAFETY: asks only; `action` has room for the answer.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    action.sa_sigaction
}

/// `kill`, kill(2): by number, for children that were not collected yet.
pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(result, 0, "kill({pid}, {signal})");
}

/// As [`kill`], for one that may be gone; whether it was there.
pub(crate) fn try_kill(pid: u32, signal: i32) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid as i32, signal) == 0 }
}

/// Whether process `pid` exists, dead ones that nobody collected included.
pub(crate) fn exists(pid: u32) -> bool {
    // SAFETY: signal 0 only looks.
    unsafe { libc::kill(pid as i32, 0) == 0 }
}

/// Whether process `pid` runs: one that is dead and not collected, by whoever inherited it, does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// `getppid`, getpid(2).
pub(crate) fn parent_pid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::getppid() as u32 }
}

/// `raise`, raise(3).
pub(crate) fn raise(signal: i32) {
    // SAFETY: takes a number only.
    unsafe { libc::raise(signal) };
}

/// `signal(SIG_IGN)` or `signal(SIG_DFL)`, signal(2).
pub(crate) fn ignore(signal: i32, on: bool) {
    // SAFETY: installs no function.
    unsafe { libc::signal(signal, if on { libc::SIG_IGN } else { libc::SIG_DFL }) };
}

/// Handles `signal` with a function that does nothing, without `SA_RESTART`: every slow system call fails with `EINTR`.
pub(crate) fn interrupt_on(signal: i32) {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as libc::sighandler_t;
    // SAFETY: the handler does nothing.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

static CHAINED: AtomicU32 = AtomicU32::new(0);
static REPLACED: AtomicUsize = AtomicUsize::new(0);

/// Handles `signal` with a function that counts and then calls the one it replaced, as libraries for signals do.
pub(crate) fn chain_on(signal: i32) {
    extern "C" fn chained(signal: i32) {
        // Relaxed, twice: for this test's thread alone, which raises the signal itself.
        CHAINED.fetch_add(1, Ordering::Relaxed);
        let replaced = REPLACED.load(Ordering::Relaxed);
        // SAFETY: a handler of that type, says who installed it.
        let replaced = unsafe { std::mem::transmute::<usize, extern "C" fn(i32)>(replaced) };
        replaced(signal);
    }
    // Relaxed: as above.
    REPLACED.store(handler(signal), Ordering::Relaxed);
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = chained as extern "C" fn(i32) as libc::sighandler_t;
    // SAFETY: the handler calls nothing but a handler.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// How often the function of [`chain_on`] was called.
pub(crate) fn chained() -> u32 {
    // Relaxed: as there.
    CHAINED.load(Ordering::Relaxed)
}

/// `sigaction`, sigaction(2): puts back what [`chain_on`] replaced.
pub(crate) fn unchain(signal: i32) {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // Relaxed: as there.
    action.sa_sigaction = REPLACED.load(Ordering::Relaxed);
    // SAFETY: what was installed before.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// `setitimer(ITIMER_REAL)`, setitimer(2): a SIGALRM every `period`; zero stops it.
pub(crate) fn alarm_every(period: Duration) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: period.subsec_micros().into(),
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: reads `timer`.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

/// `waitpid(-1)`, wait(2): collects any child that ends, whoever it belongs to; none where there is none.
pub(crate) fn stray_wait() -> Option<u32> {
    // SAFETY: asks for no status.
    let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
    (pid > 0).then_some(pid as u32)
}

/// `waitpid`, wait(2): collects this child, whoever it belongs to; false where somebody was faster.
pub(crate) fn collect(pid: u32) -> bool {
    // SAFETY: asks for no status.
    let collected = unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) };
    collected == pid as i32
}

/// A process that is no task's, and does nothing; ended and collected when dropped.
pub(crate) struct Stranger(u32);

impl Stranger {
    /// `clone3` with `set_tid`, clone(2): one with this number, which nobody may have. None where this process may not choose it.
    #[expect(clippy::infinite_loop, reason = "it is ended from outside")]
    pub(crate) fn with_number(pid: u32) -> Option<Self> {
        let number = pid as libc::pid_t;
        // SAFETY: all-zero bytes are valid arguments.
        let mut arguments = unsafe { std::mem::zeroed::<libc::clone_args>() };
        arguments.exit_signal = libc::SIGCHLD as u64;
        arguments.set_tid = &raw const number as u64;
        arguments.set_tid_size = 1;
        // SAFETY: reads the arguments; the child has a copy of this memory, and makes system calls only.
        let made = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw const arguments,
                size_of::<libc::clone_args>(),
            )
        };
        match made {
            0 => {
                // SAFETY: takes numbers only.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, SIGKILL) };
                loop {
                    // SAFETY: takes nothing.
                    unsafe { libc::pause() };
                }
            }
            made if made == i64::from(number) => Some(Self(pid)),
            _ => {
                let error = io::Error::last_os_error();
                assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
                None
            }
        }
    }

    /// Whether no signal came: each but a few would have ended it.
    pub(crate) fn is_unharmed(&self) -> bool {
        is_alive(self.0)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        kill(self.0, SIGKILL);
        collect(self.0);
    }
}

/// `waitpid(-1, WNOHANG)`, wait(2): collects any child that has ended.
pub(crate) fn stray_look() {
    // SAFETY: asks for no status.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
}

/// `dup`, dup(2): a descriptor without the close-on-exec flag, as C libraries open them.
pub(crate) fn open_on_exec(file: &std::fs::File) -> std::fs::File {
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    // SAFETY: takes a number only.
    let fd = unsafe { libc::dup(file.as_raw_fd()) };
    assert!(fd >= 0, "dup: {}", io::Error::last_os_error());
    // SAFETY: it was just made, and nobody else knows of it.
    unsafe { std::fs::File::from_raw_fd(fd) }
}

/// `pthread_sigmask`, `pthread_sigmask(3)`: has this thread hold SIGTERM and SIGINT back.
pub(crate) fn block_termination() {
    // SAFETY: an all-zero set is an empty one.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    for signal in [SIGTERM, SIGINT] {
        // SAFETY: a valid set and signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: reads `set`.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// `pthread_sigmask`, `pthread_sigmask(3)`: has this thread hold every signal back that can be.
pub(crate) fn block_all() {
    // SAFETY: an all-zero set is an empty one.
    let mut all = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: writes one set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: reads `all`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
}

/// A bare `fork` whose child does `work`; whether it had to be ended by an alarm after `patience`.
pub(crate) fn raw_fork_hangs(patience: Duration, work: impl FnOnce()) -> bool {
    // SAFETY: none: what goes wrong in the child is what the test shows, and the alarm ends it.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: takes a number only.
            unsafe { libc::alarm(patience.as_secs().max(1) as u32) };
            work();
            exit_now(0)
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` has room for one.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM
        }
    }
}

/// `_exit`, _exit(2).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Reads address 0.
pub(crate) fn segfault() {
    // SAFETY: none: that is the point, in a process that is meant to die of it.
    unsafe { std::ptr::null::<u8>().wrapping_add(8).read_volatile() };
}

/// `setrlimit`, setrlimit(2), of the soft limit, up to the hard one; returns the old one.
fn set_limit(resource: libc::__rlimit_resource_t, soft: u64) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` has room for the answer.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    let old = limit.rlim_cur;
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: reads `limit`.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(result, 0, "setrlimit: {}", io::Error::last_os_error());
    old
}

/// Puts a limit back when dropped.
pub(crate) struct Limited {
    resource: libc::__rlimit_resource_t,
    old: u64,
    was_root: bool,
}

impl Drop for Limited {
    fn drop(&mut self) {
        set_limit(self.resource, self.old);
        if self.was_root {
            set_user(0);
        }
    }
}

/// `close`, close(2), whoever the descriptor belongs to.
pub(crate) fn close(fd: i32) {
    // SAFETY: none: what used it finds it closed.
    unsafe { libc::close(fd) };
}

/// `clock_gettime(CLOCK_PROCESS_CPUTIME_ID)`, `clock_gettime(2)`.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` has room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `umask`, umask(2): asks by setting it twice.
pub(crate) fn umask() -> u32 {
    // SAFETY: takes a number only.
    let mask = unsafe { libc::umask(0) };
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    mask
}

/// `prctl(PR_GET_PDEATHSIG)`: the signal that this process gets when its parent ends; 0 for none.
pub(crate) fn parent_death_signal() -> i32 {
    let mut signal: libc::c_int = 0;
    // SAFETY: `signal` has room for the answer.
    let result = unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    assert_eq!(result, 0, "prctl: {}", io::Error::last_os_error());
    signal
}

/// Gives up what the superuser may do, for good.
pub(crate) fn become_nobody() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: takes numbers only.
        let result = unsafe { libc::setresuid(65_534, 65_534, 65_534) };
        assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
    }
}

/// Whose rights a program is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    OfItsCaller,
    /// As if its file were set-group-ID, with another group's: only the superuser can do that here.
    OfAnotherGroup,
}

/// Whether [`start_with_line`] can give these.
pub(crate) fn can_give(rights: Rights) -> bool {
    // SAFETY: takes nothing.
    rights == Rights::OfItsCaller || unsafe { libc::geteuid() } == 0
}

/// Has `command` start with these rights, and with `line` as its descriptor 3.
pub(crate) fn start_with_line(command: &mut std::process::Command, line: OwnedFd, rights: Rights) {
    use std::os::unix::process::CommandExt as _;
    let set_up = move || {
        // SAFETY: takes numbers only. What was at descriptor 3 is this child's own, which executes right away.
        let mut result = unsafe { libc::dup2(line.as_raw_fd(), 3) };
        // SAFETY: takes numbers only.
        result |= unsafe { libc::fcntl(3, libc::F_SETFD, 0) };
        if rights == Rights::OfAnotherGroup {
            // SAFETY: takes numbers only.
            result |= unsafe { libc::setresgid(libc::gid_t::MAX, 65_534, libc::gid_t::MAX) };
        }
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: system calls only.
    unsafe { command.pre_exec(set_up) };
}

/// How large a core file this process may leave.
pub(crate) fn core_bytes_max(bytes: u64) {
    set_limit(libc::RLIMIT_CORE, bytes);
}

/// A bare `fork` whose child `dies` of `signal`: whether the kernel says that it dumped a core.
pub(crate) fn raw_fork_dumps_core(signal: i32, dies: impl FnOnce()) -> bool {
    // SAFETY: the child does what a task of a group would do.
    match unsafe { libc::fork() } {
        0 => {
            dies();
            exit_now(0)
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` has room for one.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert!(
                libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal,
                "signal {signal}: {status:#x}"
            );
            libc::WCOREDUMP(status)
        }
    }
}

/// No core files: the tests crash on purpose.
pub(crate) fn no_core_files() {
    set_limit(libc::RLIMIT_CORE, 0);
}

/// Lets this process have `count` descriptors.
pub(crate) fn limit_descriptors(count: u64) -> Limited {
    Limited {
        resource: libc::RLIMIT_NOFILE,
        old: set_limit(libc::RLIMIT_NOFILE, count),
        was_root: false,
    }
}

/// Puts the limit of another process back when dropped.
pub(crate) struct LimitedThere {
    pid: u32,
    old: libc::rlimit,
}

impl Drop for LimitedThere {
    fn drop(&mut self) {
        set_descriptors_of(self.pid, &raw const self.old);
    }
}

/// Lets process `pid` have `count` descriptors, those it has already left aside.
pub(crate) fn limit_descriptors_of(pid: u32, count: u64) -> LimitedThere {
    let mut limit = set_descriptors_of(pid, std::ptr::null());
    let old = limit;
    limit.rlim_cur = count;
    set_descriptors_of(pid, &raw const limit);
    LimitedThere { pid, old }
}

/// `prlimit(RLIMIT_NOFILE)`, getrlimit(2): sets the limit if there is a new one, and returns the old.
fn set_descriptors_of(pid: u32, new: *const libc::rlimit) -> libc::rlimit {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `new` is null or a limit, and `old` has room for one.
    let result = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_NOFILE, new, &raw mut old) };
    assert_eq!(result, 0, "prlimit: {}", io::Error::last_os_error());
    old
}

/// `sendmsg` with `SCM_RIGHTS`, unix(7): as many copies of a descriptor as fit into one message, to a socket that nobody receives from. They are on
/// their way until both sockets are dropped.
pub(crate) fn descriptors_on_their_way() -> [std::os::unix::net::UnixDatagram; 2] {
    const COUNT: usize = 253;
    const BYTES: u32 = (COUNT * size_of::<i32>()) as u32;
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut part = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut control = [0_u64; 256];
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: takes a number only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(BYTES) } as usize;
    assert!(message.msg_controllen <= size_of_val(&control));
    // SAFETY: the control buffer has room for a header.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    let filled = libc::cmsghdr {
        // SAFETY: takes a number only.
        cmsg_len: unsafe { libc::CMSG_LEN(BYTES) } as usize,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: at the start of the control buffer, which is aligned for it.
    unsafe { header.write(filled) };
    // SAFETY: within the control buffer, right behind the header.
    let data = unsafe { libc::CMSG_DATA(header) }.cast::<i32>();
    for index in 0..COUNT {
        // SAFETY: there is room for so many behind the header.
        let at = unsafe { data.add(index) };
        // SAFETY: as above; the place need not be aligned.
        unsafe { at.write_unaligned(file.as_raw_fd()) };
    }
    // SAFETY: reads the message and what it points to, which live until the call returns.
    let sent = unsafe { libc::sendmsg(ours.as_raw_fd(), &raw const message, 0) };
    assert!(sent >= 0, "sendmsg: {}", io::Error::last_os_error());
    [ours, theirs]
}

/// Has the system refuse to fork, until dropped. It never refuses the superuser, so that one becomes somebody else meanwhile.
pub(crate) fn refuse_forks() -> Limited {
    // SAFETY: takes nothing.
    let was_root = unsafe { libc::geteuid() } == 0;
    if was_root {
        set_user(65_534);
    }
    Limited {
        resource: libc::RLIMIT_NPROC,
        old: set_limit(libc::RLIMIT_NPROC, 0),
        was_root,
    }
}

/// `setresuid`, setresuid(2), with the way back to the superuser kept.
fn set_user(user: u32) {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::setresuid(user, user, 0) };
    assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
}

/// `atexit`, atexit(3).
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: the function lives as long as the program.
    let result = unsafe { libc::atexit(function) };
    assert_eq!(result, 0, "atexit");
}

/// `puts`, puts(3): into C's own buffer, where standard output is no terminal.
pub(crate) fn c_print(text: &std::ffi::CStr) {
    // SAFETY: reads up to the NUL.
    unsafe { libc::puts(text.as_ptr()) };
}

/// `pthread_sigmask`, `pthread_sigmask(3)`: holds one signal back, or not.
pub(crate) fn block(signal: i32, on: bool) {
    let how = if on {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    // SAFETY: all-zero bytes are the empty set.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: a valid set and a valid signal number.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: reads `set`.
    unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
}

/// An epoll instance.
#[derive(Clone)]
pub(crate) struct Epoll(std::sync::Arc<OwnedFd>);

impl Epoll {
    /// `epoll_create1`, `epoll_create(2)`.
    pub(crate) fn new() -> Self {
        // SAFETY: takes a number only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "epoll_create1: {}", io::Error::last_os_error());
        // SAFETY: just made, and nobody else's.
        Self(std::sync::Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// `epoll_ctl(EPOLL_CTL_ADD)`, `epoll_ctl(2)`.
    pub(crate) fn add(&self, fd: &impl AsRawFd, number: u64) {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: number,
        };
        // SAFETY: reads `event`.
        let result = unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd.as_raw_fd(),
                &raw mut event,
            )
        };
        assert_eq!(result, 0, "epoll_ctl: {}", io::Error::last_os_error());
    }

    /// `epoll_wait`, `epoll_wait(2)`: the number of one that is ready now.
    pub(crate) fn wait(&self) -> Option<u64> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` has room for one.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, 0) };
        (count == 1).then_some(event.u64)
    }
}

/// The submission ring of an `io_uring`.
#[derive(Clone)]
pub(crate) struct Ring {
    _fd: std::sync::Arc<OwnedFd>,
    tail: &'static AtomicU32,
}

impl Ring {
    /// `io_uring_setup`, `io_uring_setup(2)`, and mmap(2) of its ring, for good. None where the system refuses it.
    pub(crate) fn new() -> Option<Self> {
        const TAIL_OFFSET_AT: usize = 11;
        let mut parameters = [0_u32; 30];
        // SAFETY: `parameters` is as large as the structure that the kernel reads and writes, 120 bytes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
        if fd < 0 {
            return None;
        }
        // SAFETY: just made, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let ring = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        assert_ne!(ring, libc::MAP_FAILED);
        let offset = parameters[TAIL_OFFSET_AT] as usize;
        // SAFETY: the kernel says that the tail lies there, in the first page.
        let tail = unsafe { ring.cast::<u8>().add(offset) };
        // SAFETY: aligned, and mapped for good.
        let tail = unsafe { &*tail.cast::<AtomicU32>() };
        Some(Self {
            _fd: std::sync::Arc::new(fd),
            tail,
        })
    }

    pub(crate) fn tail(&self) -> u32 {
        // Relaxed: the other process has ended, or begins later.
        self.tail.load(Ordering::Relaxed)
    }

    pub(crate) fn set_tail(&self, tail: u32) {
        // Relaxed: as above.
        self.tail.store(tail, Ordering::Relaxed);
    }
}
