//! What a panic said and where: caught at a task's root, never lost.
//!
//! Only the panic hook is told a panic's location, only `catch_unwind` knows that it left the task. So a hook, put before the
//! program's own (which still prints when the panic happens), leaves a record in a thread-local, and [`catch`] collects it.

use crate::error::TaskErrorKind;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a panic happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicLocation {
    /// The source file as the compiler was given it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl fmt::Display for PanicLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

struct Record {
    message: String,
    location: Option<PanicLocation>,
    backtrace: Option<String>,
}

thread_local! {
    /// The last panics of this thread that nobody has collected. A panicking task does not switch, so tasks that share a thread
    /// do not mix their panics up here.
    static LAST: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
}

/// Panics remembered per thread: one, and those caught by destructors while it unwinds.
const RECORDS_MAX: usize = 4;

static WITH_BACKTRACE: AtomicBool = AtomicBool::new(true);

/// Puts the recording hook before the program's own, once per process. A hook that the program sets later and that does not
/// call the one it replaced costs the location and the backtrace, not the message.
pub fn install_hook() {
    // No `Once`: a fork in the middle of it would leave one that a child waits for in vain.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    // The hook cannot be changed from a panicking thread; the next group will.
    if std::thread::panicking() {
        return;
    }
    // Relaxed, twice: whoever comes second may go on a moment before the hook is there, and lose a location at worst.
    if !IS_INSTALLED.load(Ordering::Relaxed) && !IS_INSTALLED.swap(true, Ordering::Relaxed) {
        let program_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            record(info);
            program_hook(info);
        }));
    }
}

/// Remembers what the panic that is happening on this thread said. For a backend whose own hook stands in for the others.
pub fn record(info: &PanicHookInfo<'_>) {
    let location = info.location().map(|at| PanicLocation {
        file: at.file().to_owned(),
        line: at.line(),
        column: at.column(),
    });
    let backtrace = captured_backtrace();
    let record = Record {
        message: message_of(info.payload()),
        location,
        backtrace,
    };
    // A thread that is being torn down, or a panic inside this function, has no record: the message is still known.
    let _unrecorded = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            if last.len() == RECORDS_MAX {
                last.remove(0);
            }
            last.push(record);
        }
    });
}

/// Stops recording backtraces in this process. For a forked child: the lock that a backtrace takes may be held for ever.
pub fn disable_backtraces() {
    // Relaxed: set by a forked child before its only thread runs the task.
    WITH_BACKTRACE.store(false, Ordering::Relaxed);
}

fn captured_backtrace() -> Option<String> {
    // Relaxed: a flag on its own; see `disable_backtraces`.
    if !WITH_BACKTRACE.load(Ordering::Relaxed) {
        return None;
    }
    // Captures nothing unless RUST_BACKTRACE or RUST_LIB_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string())
}

/// Calls `f` and turns a panic into the kind of error a group reports.
///
/// # Errors
///
/// [`TaskErrorKind::Panicked`] where `f` panicked.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, TaskErrorKind> {
    catch_unwind(AssertUnwindSafe(f)).map_err(kind_of)
}

fn kind_of(payload: Box<dyn Any + Send>) -> TaskErrorKind {
    let message = message_of(&*payload);
    // The panic's own record: panics that were caught on the way (in a destructor, say) left theirs beside it. None where there
    // was no hook call (`resume_unwind`).
    let records = LAST.try_with(|last| {
        last.try_borrow_mut()
            .map(|mut last| std::mem::take(&mut *last))
    });
    let records = records.ok().and_then(Result::ok).unwrap_or_default();
    let record = records
        .into_iter()
        .rev()
        .find(|record| record.message == message);
    // A payload may panic when dropped. That panic's own payload is left alone: it may do the same.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _kept = std::mem::ManuallyDrop::new(second);
    }
    let (location, backtrace) =
        record.map_or((None, None), |record| (record.location, record.backtrace));
    TaskErrorKind::Panicked {
        message,
        location,
        backtrace,
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(f: impl FnOnce()) -> (String, Option<PanicLocation>) {
        install_hook();
        match catch(f) {
            Err(TaskErrorKind::Panicked {
                message, location, ..
            }) => (message, location),
            other => panic!("expected a panic, got {other:?}"),
        }
    }

    #[test]
    fn message_and_location_are_kept() {
        let line = line!() + 1;
        let (message, location) = caught(|| panic!("on purpose: {}", 7));
        assert_eq!(message, "on purpose: 7");
        let location = location.unwrap();
        assert!(location.file.ends_with("panic.rs"));
        assert_eq!(location.line, line);
    }

    #[test]
    fn payload_that_is_not_text_is_named_so() {
        let (message, _) = caught(|| std::panic::panic_any(7_u8));
        assert_eq!(message, "a panic whose payload is not text");
    }

    #[test]
    fn panic_caught_inside_the_task_does_not_lend_its_location() {
        let (message, location) = caught(|| {
            assert!(catch_unwind(|| panic!("on purpose: inner")).is_err());
            std::panic::resume_unwind(Box::new("outer"));
        });
        assert_eq!((message.as_str(), location), ("outer", None));
    }

    #[test]
    fn payload_that_panics_when_dropped_is_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on purpose: dropped payload");
            }
        }
        let (message, _) = caught(|| std::panic::panic_any(Bomb));
        assert_eq!(message, "a panic whose payload is not text");
    }
}
