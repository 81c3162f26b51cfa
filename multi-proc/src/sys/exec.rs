//! Another execution of a program: `posix_spawn`. Linux on x86-64, glibc 2.34 or newer.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// The descriptor that an executed program finds its order at: the first behind the standard streams.
pub(crate) const ORDER_FD: RawFd = 3;

/// `getauxval(AT_SECURE)`, getauxval(3): whether whoever executed this program may do less than the program may: set-user-ID, set-group-ID, file
/// capabilities, or what a security module says. Decided by the kernel at the execution; a fork keeps it. Cannot fail.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: takes a number, and reads what the kernel left behind the environment.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// What the functions of `posix_spawn(3)` return: an error code, or 0.
fn check_code(code: c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Owns an object of the C library, to be destroyed whatever happens.
struct Actions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: makes an object where there is room for one.
        check_code(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

struct Attributes(MaybeUninit<libc::posix_spawnattr_t>);

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: made by `open_signals`.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

impl Attributes {
    /// No signal held back, whatever the calling thread does.
    fn open_signals() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: makes an object where there is room for one.
        check_code(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Self(attributes);
        let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: writes one set.
        unsafe { libc::sigemptyset(none.as_mut_ptr()) };
        // SAFETY: both objects were made above.
        check_code(unsafe {
            libc::posix_spawnattr_setsigmask(attributes.0.as_mut_ptr(), none.as_ptr())
        })?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
        // SAFETY: made above.
        check_code(unsafe { libc::posix_spawnattr_setflags(attributes.0.as_mut_ptr(), flags) })?;
        Ok(attributes)
    }
}

/// `posix_spawn`, `posix_spawn(3)`: executes `program` in a child, with the standard streams of this process, `order` as descriptor
/// [`ORDER_FD`], and no other. Its cost does not grow with this process's memory, which the child borrows until it executes. Never `EINTR`.
pub(crate) fn execute(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    order: BorrowedFd<'_>,
) -> io::Result<u32> {
    let mut actions = Actions::new()?;
    let actions_at = actions.0.as_mut_ptr();
    // SAFETY: `actions` was made above. Where both numbers are the same the C library takes the close-on-exec flag away.
    check_code(unsafe {
        libc::posix_spawn_file_actions_adddup2(actions_at, order.as_raw_fd(), ORDER_FD)
    })?;
    // SAFETY: as above.
    check_code(unsafe {
        libc::posix_spawn_file_actions_addclosefrom_np(actions_at, ORDER_FD + 1)
    })?;
    let attributes = Attributes::open_signals()?;
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    let mut pid = 0;
    // SAFETY: the objects and lists were made above, each list ends with a null, and all live until the call returns.
    check_code(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            actions_at,
            attributes.0.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    })?;
    Ok(pid as u32)
}

/// A list as C wants it; it refers to `texts`.
fn pointers(texts: &[CString]) -> Vec<*mut c_char> {
    let pointers = texts.iter().map(|text| text.as_ptr().cast_mut());
    pointers.chain([ptr::null_mut()]).collect()
}
