//! The system calls of this crate: threads, as pthreads(7) has them.

#![expect(unsafe_code, reason = "every item is one call into libc")]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;

/// A thread that was started and is to be joined or detached once.
pub(crate) type RawThread = libc::pthread_t;

/// What a new thread runs.
pub(crate) type Entry = extern "C" fn(*mut c_void) -> *mut c_void;

/// Scheduling policies a thread can be started with; sched(7).
pub(crate) const SCHED_FIFO: c_int = libc::SCHED_FIFO;
pub(crate) const SCHED_RR: c_int = libc::SCHED_RR;

/// CPUs a set can name; `sched_setaffinity(2)`.
pub(crate) const CPU_COUNT_MAX: usize = libc::CPU_SETSIZE as usize;

/// Turns a pthread function's return value into a result: these functions return the error and leave `errno` alone.
fn check(code: c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The attributes of a thread to be started: `pthread_attr_init`, `pthread_attr_init(3)`.
pub(crate) struct Attributes {
    raw: libc::pthread_attr_t,
}

impl Attributes {
    pub(crate) fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory for one attribute object, which the call initialises.
        check(unsafe { libc::pthread_attr_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above succeeded, so the object is initialised.
        let raw = unsafe { raw.assume_init() };
        Ok(Self { raw })
    }

    /// `pthread_attr_setstacksize`, `pthread_attr_setstacksize(3)`.
    pub(crate) fn set_stack_bytes(&mut self, bytes: usize) -> io::Result<()> {
        // SAFETY: `raw` was initialised by `new` and is destroyed by `drop` only.
        check(unsafe { libc::pthread_attr_setstacksize(&raw mut self.raw, bytes) })
    }

    /// `pthread_attr_setaffinity_np`, `pthread_attr_setaffinity_np(3)`. Every CPU must be below [`CPU_COUNT_MAX`].
    pub(crate) fn set_cpus(&mut self, cpus: &[usize]) -> io::Result<()> {
        // SAFETY: a CPU set is an array of integers, for which all zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
        for &cpu in cpus {
            assert!(cpu < CPU_COUNT_MAX, "CPU {cpu} does not fit in a CPU set");
            // SAFETY: the index was checked against the size of the set just above.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        // SAFETY: `raw` was initialised by `new`; the call copies the set, whose size is the one given.
        check(unsafe {
            libc::pthread_attr_setaffinity_np(
                &raw mut self.raw,
                size_of::<libc::cpu_set_t>(),
                &raw const set,
            )
        })
    }

    /// `pthread_attr_setinheritsched`, `-setschedpolicy` and `-setschedparam`; `pthread_attr_setschedpolicy(3)`.
    pub(crate) fn set_scheduling(&mut self, policy: c_int, priority: c_int) -> io::Result<()> {
        let param = libc::sched_param {
            sched_priority: priority,
        };
        // SAFETY: `raw` was initialised by `new`.
        check(unsafe {
            libc::pthread_attr_setinheritsched(&raw mut self.raw, libc::PTHREAD_EXPLICIT_SCHED)
        })?;
        // SAFETY: as above.
        check(unsafe { libc::pthread_attr_setschedpolicy(&raw mut self.raw, policy) })?;
        // SAFETY: as above; the call copies the parameter.
        check(unsafe { libc::pthread_attr_setschedparam(&raw mut self.raw, &raw const param) })
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `raw` was initialised by `new` and nothing uses it after this.
        unsafe { libc::pthread_attr_destroy(&raw mut self.raw) };
    }
}

/// `pthread_create`, `pthread_create(3)`: EAGAIN where a thread limit or memory is short.
///
/// # Safety
///
/// - `argument` must be what `entry` expects, and may be used from another thread.
/// - If this fails, `entry` will not be called and `argument` is still the caller's.
pub(crate) unsafe fn start(
    attributes: &Attributes,
    entry: Entry,
    argument: *mut c_void,
) -> io::Result<RawThread> {
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised as long as they live; the rest is the caller's promise.
    check(unsafe {
        libc::pthread_create(
            thread.as_mut_ptr(),
            &raw const attributes.raw,
            entry,
            argument,
        )
    })?;
    // SAFETY: the call above succeeded and wrote the thread's handle.
    Ok(unsafe { thread.assume_init() })
}

/// `pthread_join`, `pthread_join(3)`: waits until the thread is gone, its thread-local destructors included.
///
/// # Safety
///
/// - `thread` must have been returned by [`start`] and not have been joined or detached before.
pub(crate) unsafe fn join(thread: RawThread) -> io::Result<()> {
    // SAFETY: the caller's promise; the thread's return value is not wanted.
    check(unsafe { libc::pthread_join(thread, std::ptr::null_mut()) })
}

/// `pthread_tryjoin_np`, `pthread_tryjoin_np(3)`: joins the thread if it is gone; false if it is not yet.
///
/// # Safety
///
/// - As for [`join`]; after `Ok(true)` the thread is joined.
pub(crate) unsafe fn try_join(thread: RawThread) -> io::Result<bool> {
    // SAFETY: the caller's promise; the thread's return value is not wanted.
    match unsafe { libc::pthread_tryjoin_np(thread, std::ptr::null_mut()) } {
        libc::EBUSY => Ok(false),
        code => check(code).map(|()| true),
    }
}

/// `pthread_detach`, `pthread_detach(3)`: the thread frees itself when it ends.
///
/// # Safety
///
/// - As for [`join`].
pub(crate) unsafe fn detach(thread: RawThread) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::pthread_detach(thread) })
}

/// `pthread_self`, `pthread_self(3)`.
pub(crate) fn current() -> RawThread {
    // SAFETY: the call has no conditions.
    unsafe { libc::pthread_self() }
}

/// `pthread_setname_np` for the calling thread, `pthread_setname_np(3)`: at most 15 bytes.
pub(crate) fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string, which the call copies; the thread is the calling one.
    check(unsafe { libc::pthread_setname_np(current(), name.as_ptr()) })
}

/// `sysconf(_SC_PAGESIZE)`, sysconf(3).
pub(crate) fn page_bytes() -> usize {
    // SAFETY: the call has no conditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// `sysconf(_SC_THREAD_STACK_MIN)`, sysconf(3): the smallest stack `pthread_attr_setstacksize` takes.
pub(crate) fn stack_bytes_min() -> usize {
    // SAFETY: the call has no conditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_THREAD_STACK_MIN) };
    usize::try_from(bytes).unwrap_or(16 * 1024)
}
