//! Another execution of this program for each task.

use super::init::MARK;
use super::order;
use crate::sys::socket::{self, Patience};
use crate::sys::{Exit, exec};
use multi_core::BuildError;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What of the environment a child has unless told otherwise: what it takes to start, to find programs and places, and to speak to people.
pub(crate) const PASSED: [&str; 9] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
    "TZ",
    "USER",
];

/// What a builder set for programs that are executed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) program: Option<PathBuf>,
    pub(crate) is_env_clear: bool,
    /// To be passed if set, or set to this.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
}

impl Setting {
    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: Option<OsString>) {
        self.env.push((name.into(), value));
    }

    /// Refuses what was set for a group or pool, `what`, of processes made by `how`, which are not executed.
    ///
    /// # Errors
    ///
    /// What was set, and the remedy.
    pub(crate) fn check_plain(&self, how: &str, what: &str) -> Result<(), BuildError> {
        if self.program.is_none() && !self.is_env_clear && self.env.is_empty() {
            return Ok(());
        }
        Err(BuildError::new(format!(
            "env, env_pass, env_clear and program are for processes that are executed, which those of {how}() are not; make the {what} by \
             spawn(), or leave them out"
        )))
    }
}

/// What is executed, and with what.
pub(crate) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// A child that executes, or is about to.
pub(crate) struct Executed {
    pub(crate) pid: u32,
    /// Where it says why it cannot begin.
    pub(crate) line: OwnedFd,
}

impl Program {
    /// # Errors
    ///
    /// A NUL where none can be, by name.
    pub(crate) fn new(setting: &Setting) -> Result<Self, String> {
        // The file that this process executes, even where another lies under its name by now.
        let this = Path::new("/proc/self/exe");
        let path = setting.program.as_deref().unwrap_or(this);
        let name = std::env::args_os().next();
        let name = name.unwrap_or_else(|| "multi-proc".into());
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        let passed = PASSED.map(|name| (OsString::from(name), None));
        let passed = passed.into_iter().filter(|_| !setting.is_env_clear);
        for (name, value) in passed.chain(setting.env.iter().cloned()) {
            environment.retain(|(before, _)| *before != name);
            if let Some(value) = value.or_else(|| std::env::var_os(&name)) {
                environment.push((name, value));
            }
        }
        let variable = |(name, value): (OsString, OsString)| {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(format!(
                    "environment variable {name:?} cannot have that name"
                ));
            }
            let mut text = name;
            text.push("=");
            text.push(value);
            c_text(&text)
        };
        Ok(Self {
            path: c_text(path.as_os_str())?,
            arguments: vec![c_text(&name)?, c_text(OsStr::new(MARK))?],
            environment: environment
                .into_iter()
                .map(variable)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Executes it, with an order to be found at once.
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub(crate) fn execute(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<Executed> {
        let (line, theirs) = socket::socket_pair()?;
        // The socket keeps it: nobody waits for the child here.
        socket::send(line.as_fd(), message, fds)?;
        let pid = exec::execute(
            &self.path,
            &self.arguments,
            &self.environment,
            theirs.as_fd(),
        )?;
        Ok(Executed { pid, line })
    }
}

/// Why a child ended before it began: what it said itself, else what its end tells.
pub(crate) fn why_it_never_began(line: BorrowedFd<'_>, exit: Exit, is_given_up: bool) -> String {
    const REMEDY: &str = "call that first in main, whatever the arguments are";
    let mut buffer = vec![0; order::BYTES_MAX];
    match (socket::receive(line, &mut buffer, Patience::None), exit) {
        (Ok(said), _) if said.len > 0 => String::from_utf8_lossy(&buffer[..said.len]).into_owned(),
        _ if is_given_up => {
            format!(
                "its process did not come to multi_proc::init() for a long time, and was killed; {REMEDY}"
            )
        }
        (_, Exit::Code(code)) => format!(
            "its process left with exit code {code} before it came to multi_proc::init(); {REMEDY}"
        ),
        (_, Exit::Signal { signal, .. }) => {
            format!(
                "its process was killed by signal {signal} before it came to multi_proc::init()"
            )
        }
    }
}

fn c_text(text: &OsStr) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|_| format!("{text:?} contains a NUL; leave it out"))
}
