//! One thread: started with what it is to run, joined once.

#![expect(
    unsafe_code,
    reason = "a closure crosses into the new thread as a raw pointer"
)]

use crate::sys::{self, RawThread};
use std::ffi::{CStr, CString, c_void};
use std::io;

/// What a thread is for. It comes back to the caller if no thread can be had.
pub(crate) trait Body: Send + 'static {
    /// Runs in the new thread. Must not unwind: nothing above it could catch that.
    fn run(self);
}

/// What is asked of the system for a new thread.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) stack_bytes: usize,
    /// Empty: any CPU the caller may use.
    pub(crate) cpus: Vec<usize>,
    /// Policy and priority; none: the caller's.
    pub(crate) scheduling: Option<(i32, i32)>,
}

/// A thread that is running or has ended, and has not been joined.
#[derive(Debug)]
#[must_use = "a thread that is neither joined nor detached leaks its stack"]
pub(crate) struct Thread {
    raw: RawThread,
}

// SAFETY: a pthread handle may be joined or detached from any thread; on some systems it is a pointer, hence the line.
unsafe impl Send for Thread {}

impl Thread {
    /// Starts a thread that runs `body`, or gives it back with the reason.
    pub(crate) fn start<B: Body>(settings: &Settings, body: B) -> Result<Self, (io::Error, B)> {
        let attributes = match settings.attributes() {
            Ok(attributes) => attributes,
            Err(error) => return Err((error, body)),
        };
        let argument = Box::into_raw(Box::new(body));
        // SAFETY: `main::<B>` expects a pointer from `Box::<B>::into_raw`, and `B` is `Send`.
        match unsafe { sys::start(&attributes, main::<B>, argument.cast()) } {
            Ok(raw) => Ok(Self { raw }),
            Err(error) => {
                // SAFETY: no thread was started, so the box is still only ours.
                let body = unsafe { Box::from_raw(argument) };
                Err((error, *body))
            }
        }
    }

    /// Waits until the thread is gone. A thread that would join itself lets itself go instead.
    pub(crate) fn join(self) {
        let is_self = self.raw == sys::current();
        let outcome = if is_self {
            // SAFETY: `self` is consumed, so this handle is used up exactly once.
            unsafe { sys::detach(self.raw) }
        } else {
            // SAFETY: as above.
            unsafe { sys::join(self.raw) }
        };
        debug_assert!(
            outcome.is_ok(),
            "a handle of our own could not be joined: {outcome:?}"
        );
    }

    /// Joins the thread if that takes no waiting, or gives it back.
    pub(crate) fn try_join(self) -> Result<(), Self> {
        // SAFETY: the handle is used up only where the call says that it joined, and is given back otherwise.
        match unsafe { sys::try_join(self.raw) } {
            Ok(true) => Ok(()),
            Ok(false) => Err(self),
            Err(error) => {
                debug_assert!(false, "a handle of our own could not be joined: {error}");
                Ok(())
            }
        }
    }

    /// Lets the thread go: it frees itself when it ends.
    pub(crate) fn detach(self) {
        // SAFETY: `self` is consumed, so this handle is used up exactly once.
        let outcome = unsafe { sys::detach(self.raw) };
        debug_assert!(
            outcome.is_ok(),
            "a handle of our own could not be detached: {outcome:?}"
        );
    }
}

impl Settings {
    fn attributes(&self) -> io::Result<sys::Attributes> {
        let mut attributes = sys::Attributes::new()?;
        attributes.set_stack_bytes(self.stack_bytes)?;
        if !self.cpus.is_empty() {
            attributes.set_cpus(&self.cpus)?;
        }
        if let Some((policy, priority)) = self.scheduling {
            attributes.set_scheduling(policy, priority)?;
        }
        Ok(attributes)
    }
}

extern "C" fn main<B: Body>(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `Thread::start` made this pointer with `Box::<B>::into_raw` and gave it away.
    let body = unsafe { Box::from_raw(argument.cast::<B>()) };
    body.run();
    std::ptr::null_mut()
}

/// Longest name of a thread in bytes, without the closing NUL; `pthread_setname_np(3)`.
const NAME_BYTES_MAX: usize = 15;

/// Names the calling thread after its task, cut to what fits. A thread without a name is no reason to fail.
pub(crate) fn set_name(name: &str) {
    if let Some(name) = short_name(name) {
        let _unnamed = sys::set_name(&name);
    }
}

fn short_name(name: &str) -> Option<CString> {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    CString::new(&name[..end])
        .ok()
        .filter(|name: &CString| name.as_c_str() != c"" as &CStr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_name_is_cut_between_characters() {
        assert_eq!(short_name("resize").unwrap().as_c_str(), c"resize");
        assert_eq!(short_name("0123456789abcdef").unwrap().as_bytes().len(), 15);
        assert_eq!(
            short_name("ääääääääää").unwrap().to_str().unwrap(),
            "äääääää"
        );
        assert_eq!(short_name(""), None);
    }
}
