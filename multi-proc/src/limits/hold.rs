//! Holding a process to its limits, from inside, before its task begins.

use super::Limits;
use crate::sys::{self, Resource};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// Why a process could not be held to a limit.
pub(crate) struct Refused {
    /// What was tried, in words.
    pub(crate) what: String,
    /// Why it failed.
    pub(crate) error: io::Error,
}

/// Says what was tried where `done` failed.
fn tried(done: io::Result<()>, what: impl FnOnce() -> String) -> Result<(), Refused> {
    done.map_err(|error| Refused {
        what: what(),
        error,
    })
}

impl Limits {
    /// Holds the calling process to these limits; it has one thread.
    ///
    /// # Errors
    ///
    /// The first limit that the system refuses. Those before it hold.
    pub(crate) fn hold(&self) -> Result<(), Refused> {
        if let Some(path) = &self.working_directory {
            let path = OsStr::from_bytes(path);
            tried(std::env::set_current_dir(path), || {
                format!("cannot change to its working_directory {path:?}")
            })?;
        }
        if let Some(mode) = self.umask {
            sys::set_umask(mode);
        }
        if let Some(nice) = self.nice {
            tried(sys::set_nice(nice), || format!("cannot set nice {nice}"))?;
        }
        if let Some(cpus) = &self.cpus {
            let missing = |cpu| {
                Err(io::Error::other(format!(
                    "there is no CPU {cpu} that this process may use"
                )))
            };
            let done = sys::set_cpus(cpus).and_then(|cpu| cpu.map_or(Ok(()), missing));
            tried(done, || format!("cannot confine it to cpus {cpus:?}"))?;
        }
        if self.kill_signal.is_some() {
            sys::open_signal(self.first_signal());
        }
        self.hold_files_and_processes()?;
        if let Some(time) = self.cpu_time_max {
            sys::open_signal(sys::SIGXCPU);
            tried(hold_cpu_time(time), || {
                format!("cannot set cpu_time_max {time:?}")
            })?;
        }
        // Last, since the others may allocate.
        if let Some(bytes) = self.memory_bytes_max {
            sys::note_allocation_failure();
            tried(hold_memory(bytes), || {
                format!("cannot set memory_bytes_max {bytes}")
            })?;
        }
        Ok(())
    }

    fn hold_files_and_processes(&self) -> Result<(), Refused> {
        let limits = [
            (Resource::Files, "open_files_max", self.open_files_max),
            (Resource::Processes, "processes_max", self.processes_max),
            (Resource::FileBytes, "file_bytes_max", self.file_bytes_max),
        ];
        for (resource, name, most) in limits {
            if let Some(most) = most {
                tried(sys::lower_limit(resource, most), || {
                    format!("cannot set {name} {most}")
                })?;
            }
        }
        if self.file_bytes_max.is_some() {
            sys::open_signal(sys::SIGXFSZ);
        }
        Ok(())
    }
}

/// At least so much processor time is between the warning and the end.
const OBEDIENCE: Duration = Duration::from_millis(500);

/// A timer, which is exact, and behind it, for a task that does not obey, the kernel's own limit, which counts whole seconds.
fn hold_cpu_time(time: Duration) -> io::Result<()> {
    sys::alarm_on_cpu_time(time)?;
    let seconds = time.saturating_add(OBEDIENCE).as_secs().saturating_add(1);
    sys::lower_limit(Resource::CpuSeconds, seconds)
}

fn hold_memory(bytes: u64) -> io::Result<()> {
    sys::lower_limit(Resource::Memory, memory_bytes()?.saturating_add(bytes))
}

/// What `RLIMIT_DATA` counts of this process, and its stack.
fn memory_bytes() -> io::Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let text = fs::read_to_string("/proc/self/statm")?;
    // size, resident, shared, text, lib, data: proc_pid_statm(5).
    let pages = text.split_ascii_whitespace().nth(5);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    pages
        .map(|pages| pages * PAGE_BYTES)
        .ok_or_else(|| io::Error::other(format!("/proc/self/statm says {text:?}")))
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}
