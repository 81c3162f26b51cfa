//! What went wrong: in which task, where it was started, how it ended, and what to do about it.

mod group;
mod refused;

use crate::BoxError;
use crate::panic::PanicLocation;
use crate::remote::{RemoteError, causes};
use crate::task::TaskId;
use crate::usage::Usage;
use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use group::Counts;
pub use group::{GroupError, StillRunning, WaitTimeoutError};
pub use refused::{TryGoError, TryGoReason};

/// How much of what a failed task printed last is shown with its failure: a few lines. The rest is in the error.
const TAIL_BYTES_SHOWN: usize = 500;

/// How a task failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// It returned an error.
    Returned(BoxError),
    /// It panicked.
    Panicked {
        /// What the panic said.
        message: String,
        /// Where, if the panic hook was called.
        location: Option<PanicLocation>,
        /// The stack, if `RUST_BACKTRACE` asked for it.
        backtrace: Option<String>,
    },
    /// Its process left by itself with this code before the task ended.
    Exited(i32),
    /// Its process was ended by a signal.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the system wrote a core file.
        core_dumped: bool,
    },
    /// Its time, or that of its group, was up before it ended.
    TimedOut,
    /// It was asked to stop, or was not started because its group had been.
    Cancelled,
    /// It went over a limit of its own; the text names it.
    LimitExceeded(String),
    /// It could not be started.
    Start(io::Error),
    /// What became of it cannot be known.
    Lost,
}

/// One task's failure. Clones share it.
///
/// [`Display`](fmt::Display) says it in one line: task, place, cause and remedy.
#[derive(Clone)]
pub struct TaskError {
    inner: Arc<Inner>,
}

struct Inner {
    id: TaskId,
    name: Option<Arc<str>>,
    backend: &'static str,
    pid: Option<u32>,
    site: &'static Location<'static>,
    kind: TaskErrorKind,
    /// What a task said whose time was up already.
    afterwards: Option<BoxError>,
    /// The end of what the task wrote on its standard error, where its backend keeps it.
    stderr_tail: Option<String>,
    usage: Option<Usage>,
    elapsed: Duration,
    /// False where its group refused to start it.
    was_started: bool,
    /// Its process ended before it came to the task's closure.
    ended_early: bool,
    attempts: u32,
}

/// What a [`TaskError`] is made of; the ledger fills it in.
pub(crate) struct Facts {
    pub(crate) id: TaskId,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) backend: &'static str,
    pub(crate) pid: Option<u32>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) elapsed: Duration,
    pub(crate) stderr_tail: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) was_started: bool,
    pub(crate) ended_early: bool,
    pub(crate) attempts: u32,
}

impl TaskError {
    pub(crate) fn new(facts: Facts, kind: TaskErrorKind, afterwards: Option<BoxError>) -> Self {
        let Facts {
            id,
            name,
            backend,
            pid,
            site,
            elapsed,
            stderr_tail,
            usage,
            was_started,
            ended_early,
            attempts,
        } = facts;
        let inner = Inner {
            id,
            name,
            backend,
            pid,
            site,
            kind,
            afterwards,
            stderr_tail,
            usage,
            elapsed,
            was_started,
            ended_early,
            attempts,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The task's number in its group.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.inner.id
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// The process it ran in, where it had one of its own.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.inner.pid
    }

    /// The line that called `go`.
    #[must_use]
    pub fn started_at(&self) -> &'static Location<'static> {
        self.inner.site
    }

    /// How it failed.
    #[must_use]
    pub fn kind(&self) -> &TaskErrorKind {
        &self.inner.kind
    }

    /// How long it took from its start to its end. Never less than it was; more by a few milliseconds at most where the backend reads
    /// a coarser clock when tasks start, as the green one does.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.inner.elapsed
    }

    /// The end of what it wrote on its standard error, where its backend captures that.
    #[must_use]
    pub fn stderr_tail(&self) -> Option<&str> {
        self.inner.stderr_tail.as_deref()
    }

    /// What it used until it failed, where its backend can tell: processor time and peak memory.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.inner.usage
    }

    /// How often it was tried: more than once only where its backend gives the tasks of a process that died to another one. The rest of this
    /// error is about the last time.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// The operating system's error code, if one is in the chain of causes; also after crossing a process.
    #[must_use]
    pub fn os_code(&self) -> Option<i32> {
        match &self.inner.kind {
            TaskErrorKind::Start(error) => RemoteError::os_code_of(error),
            _ => self.source().and_then(RemoteError::os_code_of),
        }
    }

    /// Whether it returned an error.
    #[must_use]
    pub fn is_returned(&self) -> bool {
        matches!(self.inner.kind, TaskErrorKind::Returned(_))
    }

    /// Whether it panicked.
    #[must_use]
    pub fn is_panicked(&self) -> bool {
        matches!(self.inner.kind, TaskErrorKind::Panicked { .. })
    }

    /// Whether its process ended before the task's closure started: nothing of the task has happened.
    #[must_use]
    pub fn ended_early(&self) -> bool {
        self.inner.ended_early
    }

    /// Whether its time was up.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self.inner.kind, TaskErrorKind::TimedOut)
    }

    /// Whether it was asked to stop, or never started because its group was.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.inner.kind, TaskErrorKind::Cancelled)
    }

    /// Whether it could not be started.
    #[must_use]
    pub fn is_start(&self) -> bool {
        matches!(self.inner.kind, TaskErrorKind::Start(_))
    }

    fn write_cause(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match &self.inner.kind {
            TaskErrorKind::Returned(error) => f.write_str(&causes(&**error).join(": ")),
            TaskErrorKind::Panicked {
                message, location, ..
            } => {
                f.write_str("panicked")?;
                if let Some(location) = location {
                    write!(f, " at {location}")?;
                }
                write!(f, ": {message}")
            }
            TaskErrorKind::Exited(code) if self.inner.ended_early => write!(
                f,
                "its process left with exit code {code} before the task began"
            ),
            TaskErrorKind::Exited(code) => {
                write!(f, "left its process with exit code {code} before it ended")
            }
            TaskErrorKind::Signaled {
                signal,
                core_dumped,
            } => {
                write!(f, "killed by {}", SignalName(*signal))?;
                if *core_dumped {
                    f.write_str(" (core dumped)")?;
                }
                if self.inner.ended_early {
                    f.write_str(" before it began")?;
                }
                Ok(())
            }
            TaskErrorKind::TimedOut if !self.inner.was_started => {
                f.write_str("not started: its group's deadline had passed")
            }
            TaskErrorKind::TimedOut => {
                write!(f, "timed out after {:.3?}", self.inner.elapsed)?;
                match &self.inner.afterwards {
                    Some(error) => write!(f, " (then: {})", causes(&**error).join(": ")),
                    None => Ok(()),
                }
            }
            TaskErrorKind::Cancelled if !self.inner.was_started => {
                f.write_str("not started: its group was cancelled")
            }
            TaskErrorKind::Cancelled => f.write_str("cancelled"),
            TaskErrorKind::LimitExceeded(limit) => write!(f, "went over its limit: {limit}"),
            TaskErrorKind::Start(error) => {
                write!(f, "could not start: {}", causes(error).join(": "))
            }
            TaskErrorKind::Lost => f.write_str("lost: what became of it cannot be known"),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match &self.inner.kind {
            TaskErrorKind::Start(error) if error.kind() == io::ErrorKind::WouldBlock => Some(
                "run fewer tasks at once with limit(n), give them smaller stacks, or raise the process limit (ulimit -u)",
            ),
            TaskErrorKind::Start(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                Some("run fewer tasks at once with limit(n), or give them smaller stacks")
            }
            TaskErrorKind::TimedOut if self.inner.was_started => {
                Some("give it more time, or let it watch its cancel token")
            }
            TaskErrorKind::Lost if self.inner.pid.is_some() => Some(
                "nothing else may collect the program's processes (waitpid(-1), an ignored SIGCHLD) or end its zygote",
            ),
            TaskErrorKind::LimitExceeded(_) => Some("raise the limit, or give the task less to do"),
            _ => None,
        }
    }
}

impl Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.inner.id)?;
        if let Some(name) = &self.inner.name {
            write!(f, " {name:?}")?;
        }
        write!(f, " ({}", self.inner.backend)?;
        if let Some(pid) = self.inner.pid {
            write!(f, ", pid {pid}")?;
        }
        write!(f, ", started at {}): ", self.inner.site)?;
        self.write_cause(&mut OneLine {
            f,
            at_line_start: false,
        })?;
        if self.inner.attempts > 1 {
            write!(f, ", the last of {} attempts", self.inner.attempts)?;
        }
        if let Some(remedy) = self.remedy() {
            write!(f, "; {remedy}")?;
        }
        match self.inner.stderr_tail.as_deref().map(str::trim_ascii) {
            None | Some("") => Ok(()),
            Some(tail) => {
                let from = tail.ceil_char_boundary(tail.len().saturating_sub(TAIL_BYTES_SHOWN));
                let cut = if from > 0 { "…" } else { "" };
                write!(f, "; its standard error ends with: {cut}")?;
                let mut line = OneLine {
                    f,
                    at_line_start: false,
                };
                fmt::Write::write_str(&mut line, &tail[from..])
            }
        }
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError")
            .field("id", &self.inner.id.index())
            .field("name", &self.inner.name)
            .field("started_at", &format_args!("{}", self.inner.site))
            .field("kind", &self.inner.kind)
            .field("elapsed", &self.inner.elapsed)
            .finish_non_exhaustive()
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.inner.kind {
            TaskErrorKind::Returned(error) => Some(&**error),
            TaskErrorKind::Start(error) => Some(error),
            _ => self.inner.afterwards.as_deref().map(|error| error as _),
        }
    }
}

/// Passes text on with its lines run together: a failure is one line in a list, whatever it quotes.
struct OneLine<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    /// A line ended, and nothing of the next has been written.
    at_line_start: bool,
}

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (nth, line) in text.split('\n').enumerate() {
            self.at_line_start |= nth > 0;
            let line = if self.at_line_start {
                line.trim_start()
            } else {
                line
            };
            if line.is_empty() {
                continue;
            }
            if std::mem::take(&mut self.at_line_start) {
                self.f.write_str(" | ")?;
            }
            self.f.write_str(line)?;
        }
        Ok(())
    }
}

/// A signal's name where it has one everywhere, else its number (signal(7), x86-64 numbers).
struct SignalName(i32);

impl Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 32] = [
            "",
            "SIGHUP",
            "SIGINT",
            "SIGQUIT",
            "SIGILL",
            "SIGTRAP",
            "SIGABRT",
            "SIGBUS",
            "SIGFPE",
            "SIGKILL",
            "SIGUSR1",
            "SIGSEGV",
            "SIGUSR2",
            "SIGPIPE",
            "SIGALRM",
            "SIGTERM",
            "SIGSTKFLT",
            "SIGCHLD",
            "SIGCONT",
            "SIGSTOP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGXCPU",
            "SIGXFSZ",
            "SIGVTALRM",
            "SIGPROF",
            "SIGWINCH",
            "SIGIO",
            "SIGPWR",
            "SIGSYS",
        ];
        match usize::try_from(self.0)
            .ok()
            .and_then(|index| NAMES.get(index))
        {
            Some(name) if !name.is_empty() => f.write_str(name),
            _ => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests;
