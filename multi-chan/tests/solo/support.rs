//! Children, signals and a watchdog for tests that fork.

#![expect(unsafe_code, reason = "fork, kill, waitpid and alarm through libc")]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// A test may take this long before the watchdog names it and ends everything.
const WATCHDOG_SECONDS: u32 = 40;

static RUNNING: OnceLock<std::sync::Mutex<&'static str>> = OnceLock::new();

/// Runs `test` under the watchdog.
pub(crate) fn watched(name: &'static str, test: fn()) {
    *RUNNING.get_or_init(Default::default).lock().unwrap() = name;
    arm_watchdog();
    test();
    // SAFETY: takes a number.
    unsafe { libc::alarm(0) };
}

/// Gives the test (or child) another while.
pub(crate) fn arm_watchdog() {
    on_signal(libc::SIGALRM, watchdog);
    // SAFETY: takes a number.
    unsafe { libc::alarm(WATCHDOG_SECONDS) };
}

extern "C" fn watchdog(_signal: i32) {
    let name = RUNNING
        .get()
        .and_then(|running| running.try_lock().ok())
        .map_or("(between tests)", |name| *name);
    for part in ["watchdog: hung in test ", name, "\n"] {
        // SAFETY: write(2) may be called in a handler; the text is static.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: may be called in a handler.
    unsafe { libc::_exit(101) };
}

/// Installs a handler without `SA_RESTART`, so that sleeping calls end with EINTR.
pub(crate) fn on_signal(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: zero bytes are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the action is whole, and the handler lives as long as the program.
    let done = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// A forked child; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: i32,
    reaped: bool,
}

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
}

/// Forks a child that runs `body` and then leaves without running destructors of this program.
pub(crate) fn fork(body: impl FnOnce()) -> Child {
    // SAFETY: this program has one thread while it forks (or the test's threads hold no locks the
    // child takes).
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return Child { pid, reaped: false };
    }
    be_a_child(body)
}

thread_local! {
    static STILLBORN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

extern "C" fn at_birth() {
    if STILLBORN.get() {
        die();
    }
}

/// Makes `fork_stillborn` possible. Before the first channel: handlers run in the order in which they were set.
pub(crate) fn prepare_births() {
    // SAFETY: the function lives as long as the program.
    let error = unsafe { libc::pthread_atfork(None, None, Some(at_birth)) };
    assert_eq!(error, 0);
}

/// Forks a child that is killed before any handler of the channels runs in it.
pub(crate) fn fork_stillborn() -> Child {
    STILLBORN.set(true);
    let child = fork(|| {});
    STILLBORN.set(false);
    child
}

/// Forks a child that goes on like its parent; `None` in the child.
pub(crate) fn fork_through() -> Option<Child> {
    // SAFETY: as in `fork`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    // Not made in the child: dropping it there would kill the whole group.
    (pid > 0).then(|| Child { pid, reaped: false })
}

/// As [`fork`], by the bare system call: no handler of the C library runs.
pub(crate) fn bare_clone(body: impl FnOnce()) -> Child {
    let none = ptr::null::<u8>();
    // SAFETY: as `fork`; without flags the child has a copy of everything, stack included.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) };
    assert!(pid >= 0, "clone: {}", std::io::Error::last_os_error());
    if pid > 0 {
        let pid = i32::try_from(pid).unwrap();
        return Child { pid, reaped: false };
    }
    be_a_child(body)
}

fn be_a_child(body: impl FnOnce()) -> ! {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    arm_watchdog();
    let ended_well = catch_unwind(AssertUnwindSafe(body)).is_ok();
    exit(if ended_well { 0 } else { 101 })
}

/// Tries to fork three times where no process may be made, and tells `report` whether each was refused.
///
/// The calling process gives up root for it.
pub(crate) fn without_processes(report: impl Fn(bool)) {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a limit that outlives the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const none) };
    assert_eq!(done, 0);
    // SAFETY: takes a number; harmless where we are not root.
    unsafe { libc::setuid(65_534) };
    for _ in 0..3 {
        // SAFETY: as in `fork`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            exit(0);
        }
        report(pid < 0);
    }
}

/// Bytes of shared memory that this process has touched.
pub(crate) fn shared_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssShmem:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}

/// Processor time of this process so far.
pub(crate) fn processor_time() -> Duration {
    let usage = usage();
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec as u32 * 1_000)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Page faults of this process so far that needed no reading.
pub(crate) fn page_faults() -> i64 {
    usage().ru_minflt
}

fn usage() -> libc::rusage {
    // SAFETY: zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: memory for one rusage.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(done, 0);
    usage
}

/// Has this process and its threads run on the processor that it runs on now, and no other.
pub(crate) fn stay_on_one_processor() {
    // SAFETY: zero bytes are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: takes nothing.
    let here = unsafe { libc::sched_getcpu() };
    // SAFETY: a set, and a number that the kernel gave.
    unsafe { libc::CPU_SET(usize::try_from(here).unwrap(), &mut set) };
    // SAFETY: a set that outlives the call.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(done, 0);
}

/// Runs `act` where no descriptor is to be had.
pub(crate) fn without_descriptors<R>(act: impl FnOnce() -> R) -> R {
    // SAFETY: zero bytes are a valid limit.
    let mut before: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: memory for one limit.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) };
    let none = libc::rlimit {
        rlim_cur: 0,
        ..before
    };
    // SAFETY: a limit that outlives the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) };
    assert_eq!((got, set), (0, 0));
    let done = act();
    // SAFETY: as above.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const before) };
    assert_eq!(set, 0);
    done
}

/// This process makes no file longer than that from now on, and gets SIGXFSZ where it tries.
pub(crate) fn limit_file_bytes(most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: a limit that outlives the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    assert_eq!(set, 0);
}

/// How often to do something: a few times as a rule, often where `MULTI_KILLS` asks for many kills.
pub(crate) fn times<N>(few: N, many: N) -> N {
    if is_thorough() { many } else { few }
}

/// True if `MULTI_KILLS` asks for many kills.
pub(crate) fn is_thorough() -> bool {
    let kills = std::env::var("MULTI_KILLS").ok();
    kills.is_some_and(|kills| kills.parse().is_ok_and(|kills: u32| kills >= 10))
}

/// Stops this process until it is sent SIGCONT.
pub(crate) fn stop() {
    // SAFETY: takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Whether the system has the two calls without which a sleeper beside a claim looks again now and then.
pub(crate) fn can_sleep_long() -> bool {
    // SAFETY: takes numbers.
    let barrier = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    barrier == 0 && multi_chan::has_futex_waitv()
}

/// Ends the process at once, without destructors.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(code) }
}

/// Signals a process that somebody else reaps later.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: takes numbers; the process is not reaped, so the pid is still its own.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
}

impl Child {
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: takes numbers; the child is not reaped, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Waits until the child has stopped itself.
    pub(crate) fn await_stop(&self) {
        let mut status = 0;
        // SAFETY: `status` is memory for one int.
        let stopped = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WUNTRACED) };
        assert!(stopped == self.pid && libc::WIFSTOPPED(status));
    }

    pub(crate) fn kill(mut self) {
        self.signal(libc::SIGKILL);
        assert_eq!(self.reap(), End::Signaled(libc::SIGKILL));
    }

    /// How often the child's threads went to sleep so far, and their processor time in ns.
    pub(crate) fn cost(&self) -> (u64, u64) {
        let mut cost = (0, 0);
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap() {
            let read = |name| std::fs::read_to_string(task.as_ref().unwrap().path().join(name));
            let status = read("status").unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            cost.0 += line.unwrap().trim().parse::<u64>().unwrap();
            let times = read("schedstat").unwrap();
            cost.1 += times
                .split_whitespace()
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap();
        }
        cost
    }

    /// Waits until the child's first sleeps are over and it lies down for long; returns its cost until then.
    pub(crate) fn cost_until_it_rests(&self) -> (u64, u64) {
        let mut before = self.cost();
        loop {
            pause(60);
            let now = self.cost();
            if now.0 == before.0 && self.is_asleep() {
                return now;
            }
            before = now;
        }
    }

    /// The end of a child that may be dead already.
    pub(crate) fn kill_if_alive(mut self) {
        self.signal(libc::SIGKILL);
        self.reap();
    }

    /// Waits for a child that must have been killed at its kill point.
    #[track_caller]
    pub(crate) fn killed(self) {
        assert_eq!(self.wait(), End::Signaled(libc::SIGKILL));
    }

    /// Waits for a child and says whether it was killed at its kill point; else it must have ended well.
    #[track_caller]
    pub(crate) fn was_killed(self) -> bool {
        match self.wait() {
            End::Signaled(libc::SIGKILL) => true,
            End::Exited(0) => false,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait(mut self) -> End {
        self.reap()
    }

    /// Waits for a child that must have ended well.
    #[track_caller]
    pub(crate) fn join(self) {
        assert_eq!(self.wait(), End::Exited(0));
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Each thread of the child, what it is doing, and the system call it is in.
    pub(crate) fn whereabouts(&self) -> String {
        let mut text = format!("process {}", self.pid);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        for task in tasks.into_iter().flatten().flatten() {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            for name in ["comm", "stat", "wchan", "syscall"] {
                text = format!("{text}\n    {}", read(name).trim());
            }
        }
        text
    }

    /// True once the child is a zombie: dead and not reaped.
    pub(crate) fn has_ended(&self) -> bool {
        self.state() == Some('Z')
    }

    /// How the child ended, if it has; reaps it.
    pub(crate) fn ended(&mut self) -> Option<End> {
        let mut status = 0;
        // SAFETY: `status` is memory for one int.
        let pid = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        (pid == self.pid).then(|| self.end(status))
    }

    /// True if the child's thread sleeps in the kernel.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state() == Some('S')
    }

    /// `proc_pid_stat(5)`, field 3.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }

    fn reap(&mut self) -> End {
        let mut status = 0;
        // SAFETY: `status` is memory for one int.
        while unsafe { libc::waitpid(self.pid, &raw mut status, 0) } != self.pid {}
        self.end(status)
    }

    fn end(&mut self, status: i32) -> End {
        self.reaped = true;
        if libc::WIFSIGNALED(status) {
            End::Signaled(libc::WTERMSIG(status))
        } else {
            End::Exited(libc::WEXITSTATUS(status))
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(libc::SIGKILL);
            self.reap();
        }
    }
}

/// Ends the process as a SIGKILL from anywhere would.
pub(crate) fn die() -> ! {
    // SAFETY: takes a number; the signal cannot be caught.
    unsafe { libc::raise(libc::SIGKILL) };
    unreachable!("SIGKILL was survived")
}

/// Zeroed memory for a record that every forked child shares with its parent; never given back.
pub(crate) fn shared<T: Default>() -> &'static T {
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<T>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    assert!(align_of::<T>() <= 4096);
    let place = base.cast::<T>();
    // SAFETY: large enough, page aligned, and nobody else's yet.
    unsafe { place.write(T::default()) };
    // SAFETY: written just now, and never unmapped.
    unsafe { &*place }
}

/// The place in the source that `address` was taken of, in this process or one it shares its image with.
pub(crate) fn location(address: usize) -> Option<&'static Location<'static>> {
    let location = ptr::with_exposed_provenance::<Location<'static>>(address);
    // SAFETY: null, or the address of a static that every forked process has at the same place.
    unsafe { location.as_ref() }
}

/// The clock that every process reads alike.
pub(crate) fn monotonic() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// An empty file in memory, without seals.
pub(crate) fn memfd() -> File {
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd: {}", std::io::Error::last_os_error());
    // SAFETY: just made for us.
    unsafe { File::from_raw_fd(fd) }
}

/// A file in huge pages whose size is sealed; `None` where the system has no such files.
pub(crate) fn huge_memfd() -> Option<File> {
    const BYTES: u64 = 2 << 20;
    let flags =
        libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made for us.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(BYTES).unwrap();
    // SAFETY: takes numbers.
    let sealed = unsafe {
        libc::fcntl(
            fd,
            libc::F_ADD_SEALS,
            libc::F_SEAL_SHRINK | libc::F_SEAL_GROW,
        )
    };
    assert_eq!(sealed, 0);
    Some(file)
}

/// A descriptor that is readable once the process `pid` has ended.
pub(crate) fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: takes numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: made just now for us.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

/// poll(2) until `fd` is readable, for as long as `limit`, if there is one.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Option<Duration>) {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: 0,
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one pollfd and a limit that outlive the call.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, limit, ptr::null()) };
    assert!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
}

/// Descriptors and mappings of this process.
pub(crate) fn holdings() -> (usize, usize) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (fds, maps.lines().count())
}

pub(crate) fn pause(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// Waits to be killed.
pub(crate) fn linger() -> ! {
    loop {
        pause(1_000);
    }
}

/// A plain generator; `MULTI_SEED` gives a printed seed back.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn from_environment() -> Random {
        let seed = std::env::var("MULTI_SEED").ok();
        let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            u64::from(now.subsec_nanos())
        });
        println!("MULTI_SEED={seed}");
        Random::new(seed)
    }

    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Sleeps or spins for about this many microseconds.
pub(crate) fn pause_us(us: u64) {
    let until = Instant::now() + Duration::from_micros(us);
    while Instant::now() < until {
        thread::yield_now();
    }
}
