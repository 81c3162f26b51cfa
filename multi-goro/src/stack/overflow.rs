//! The report of a stack overflow: which task, how large its stack was, and what to do about it.

use std::fmt::{self, Write};

use crate::sys::{self, Fault};

/// Has overflows reported. `find` tells whose guard an address is in, and is called in a signal handler, on the thread
/// that faulted: it may read, and nothing else.
///
/// # Errors
///
/// What the kernel said to `sigaction`.
pub(crate) fn install(on_fault: fn(&Fault)) -> std::io::Result<()> {
    sys::hook_faults(on_fault)
}

/// What is said of the task that overflowed.
#[derive(Debug)]
pub(crate) struct Victim<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) started_at: Option<&'static std::panic::Location<'static>>,
    pub(crate) stack_bytes: usize,
}

/// Says what happened on standard error and aborts the process, as Rust does for a thread.
pub(crate) fn report(victim: &Victim<'_>) -> ! {
    let mut text = Line::default();
    // A line too long is cut: `Line` never fails.
    let _ = write!(text, "\nmulti-goro: task");
    if let Some(name) = victim.name {
        let _ = write!(text, " \"{name}\"");
    }
    if let Some(place) = victim.started_at {
        let _ = write!(text, " started at {place}");
    }
    let _ = writeln!(
        text,
        " has overflowed its stack of {} KiB; recurse less deeply, keep large values on the heap, or ask for more \
         (stack_size of the group, the runtime or the task)",
        victim.stack_bytes / 1024
    );
    sys::write_error(text.as_bytes());
    sys::abort();
}

/// Text in a fixed buffer: nothing may be allocated in a signal handler.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 1024],
            len: 0,
        }
    }
}

impl Line {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}
