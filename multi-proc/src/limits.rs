//! What one task's process is held to, and how it is ended.

use crate::sys;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

mod explain;
mod hold;

pub(crate) use hold::Refused;

/// Less than a process can end in good order with.
const MEMORY_BYTES_MIN: u64 = 64 << 10;

/// What a task's process is held to, what it runs like, and how it is ended: set for one task by
/// [`TaskBuilder::limits`](crate::TaskBuilder::limits), for all of a group by [`Builder::limits`](crate::Builder::limits).
///
/// ```
/// use multi_proc::{Limits, TaskErrorKind};
///
/// // SAFETY: this program has one thread.
/// let mut group = unsafe { multi_proc::Group::new() };
/// group.task().limits(Limits::new().memory_bytes_max(64 << 20)).go(|| {
///     let leak = vec![7_u8; 100 << 20];
///     Err(format!("{} bytes are too many", leak.len()))?
/// });
/// let error = group.wait().unwrap_err();
/// assert!(matches!(error.first().kind(), TaskErrorKind::LimitExceeded(_)));
/// assert!(error.to_string().contains("went over its limit: memory_bytes_max 64 MiB"));
/// ```
///
/// The kernel keeps these limits, for the task's process and, each by itself, for the processes that it starts. A limit that is tighter
/// already stays: a task cannot give its own tasks more than it has. They hold before
/// [`in_child`](crate::Builder::in_child) is called, so that privileges can be dropped there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "limits do nothing until a task is started with them"]
pub struct Limits {
    memory_bytes_max: Option<u64>,
    cpu_time_max: Option<Duration>,
    open_files_max: Option<u64>,
    processes_max: Option<u64>,
    file_bytes_max: Option<u64>,
    nice: Option<i32>,
    cpus: Option<Vec<usize>>,
    /// As bytes: a path need not be text, and must be able to go to another process.
    working_directory: Option<Vec<u8>>,
    umask: Option<u32>,
    kill_signal: Option<i32>,
    grace: Option<Duration>,
}

impl Limits {
    /// No limit but those that the process has already.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes of memory of its own the task may have beyond what it starts with, as `RLIMIT_DATA` counts them: what it maps to
    /// write to, used or not. Memory shared with other processes and mapped files are not counted, nor is what the parent
    /// had at the fork, so that one number serves under a large parent and a small one. An allocation beyond it fails; where that
    /// ends the process, as it does in Rust unless the task looks, the error is
    /// [`LimitExceeded`](multi_core::TaskErrorKind::LimitExceeded) and says so. At least 64 KiB.
    ///
    /// `RLIMIT_AS` is not used: it counts address space, of which allocators, thread pools and the group itself reserve far more
    /// than they use.
    pub fn memory_bytes_max(mut self, bytes: u64) -> Self {
        self.memory_bytes_max = Some(bytes);
        self
    }

    /// How much processor time the task may use. It is then sent SIGXCPU, which ends it unless it handles that, and SIGKILL
    /// half a second to one and a half of processor time later; the error is [`LimitExceeded`](multi_core::TaskErrorKind::LimitExceeded).
    pub fn cpu_time_max(mut self, time: Duration) -> Self {
        self.cpu_time_max = Some(time);
        self
    }

    /// How many descriptors the task may have open, those included that it starts with: the numbers a descriptor can have end here. Opening
    /// one more is an error of the task's, `EMFILE`.
    pub fn open_files_max(mut self, count: u64) -> Self {
        self.open_files_max = Some(count);
        self
    }

    /// How many processes and threads the user may have for the task to start another: the kernel counts them all, wherever they were
    /// started. Starting one more is an error of the task's, `EAGAIN`. The superuser is not held to it.
    pub fn processes_max(mut self, count: u64) -> Self {
        self.processes_max = Some(count);
        self
    }

    /// How large a file may become that the task writes to. A write beyond it ends the task with SIGXFSZ, reported as
    /// [`LimitExceeded`](multi_core::TaskErrorKind::LimitExceeded).
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// The task's priority: from -20, the highest, to 19, the lowest. Less than the parent has needs a privilege.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// The CPUs that the task may run on, counted from 0.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Where the task's relative paths begin. A path that is relative itself begins where the parent is.
    pub fn working_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.working_directory = Some(path.into().into_os_string().into_vec());
        self
    }

    /// The permissions that files made by the task do not get, such as `0o077`.
    pub fn umask(mut self, mode: u32) -> Self {
        self.umask = Some(mode);
        self
    }

    /// The signal that asks the task to end when its time is up or its group is cancelled, by number: SIGTERM unless set. It has its
    /// default effect in the child until the task handles it.
    pub fn kill_signal(mut self, signal: i32) -> Self {
        self.kill_signal = Some(signal);
        self
    }

    /// As [`Builder::grace`](crate::Builder::grace), for this task.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// These limits and, where one is not set, that of `defaults`.
    pub(crate) fn over(self, defaults: &Self) -> Self {
        let theirs = defaults.clone();
        Self {
            memory_bytes_max: self.memory_bytes_max.or(theirs.memory_bytes_max),
            cpu_time_max: self.cpu_time_max.or(theirs.cpu_time_max),
            open_files_max: self.open_files_max.or(theirs.open_files_max),
            processes_max: self.processes_max.or(theirs.processes_max),
            file_bytes_max: self.file_bytes_max.or(theirs.file_bytes_max),
            nice: self.nice.or(theirs.nice),
            cpus: self.cpus.or(theirs.cpus),
            working_directory: self.working_directory.or(theirs.working_directory),
            umask: self.umask.or(theirs.umask),
            kill_signal: self.kill_signal.or(theirs.kill_signal),
            grace: self.grace.or(theirs.grace),
        }
    }

    /// The signal that asks this task to end.
    pub(crate) fn first_signal(&self) -> i32 {
        self.kill_signal.unwrap_or(sys::SIGTERM)
    }

    /// The task's own grace.
    pub(crate) fn own_grace(&self) -> Option<Duration> {
        self.grace
    }

    /// Looks for values that no process can be held to.
    ///
    /// # Errors
    ///
    /// The option, its value and the remedy.
    pub(crate) fn check(&self) -> io::Result<()> {
        let refuse = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if let Some(bytes) = self.memory_bytes_max
            && bytes < MEMORY_BYTES_MIN
        {
            return refuse(format!(
                "memory_bytes_max {bytes} is less than a process can run with; give at least {MEMORY_BYTES_MIN}"
            ));
        }
        if self.cpu_time_max == Some(Duration::ZERO) {
            return refuse(
                "cpu_time_max 0 leaves the task no time; give some, or no limit at all".into(),
            );
        }
        if let Some(nice) = self.nice
            && !(-20..=19).contains(&nice)
        {
            return refuse(format!(
                "nice {nice} is no priority; give one from -20, the highest, to 19, the lowest"
            ));
        }
        match self.cpus.as_deref() {
            Some([]) => return refuse("cpus names no CPU; name at least one".into()),
            Some(cpus) => {
                if let Some(cpu) = cpus.iter().find(|cpu| **cpu >= sys::CPUS_MAX) {
                    return refuse(format!(
                        "cpus names CPU {cpu}, and sets of CPUs end at {}",
                        sys::CPUS_MAX - 1
                    ));
                }
            }
            None => {}
        }
        if let Some(path) = &self.working_directory
            && (path.is_empty() || path.contains(&0))
        {
            return refuse(format!(
                "working_directory {:?} is no path; leave it out to stay where the parent is",
                OsString::from_vec(path.clone())
            ));
        }
        if let Some(mode) = self.umask
            && mode & !0o777 != 0
        {
            return refuse(format!(
                "umask {mode:#o} has bits beyond the permissions; give 0 to 0o777"
            ));
        }
        if let Some(signal) = self.kill_signal {
            let stops = [
                sys::SIGCONT,
                sys::SIGSTOP,
                sys::SIGTSTP,
                sys::SIGTTIN,
                sys::SIGTTOU,
            ];
            // The last one tells a child of its parent's end.
            if signal < 1 || signal >= sys::last_signal() || stops.contains(&signal) {
                return refuse(format!(
                    "kill_signal {signal} does not ask a process to end; SIGTERM, SIGINT or SIGKILL does"
                ));
            }
        }
        Ok(())
    }
}

/// A number of bytes as people write it: `64 MiB`, `1000 bytes`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in units {
            let whole = self.0 >> shift;
            if whole > 0 && whole << shift == self.0 {
                return write!(f, "{whole} {unit}");
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests;
