//! Where processes come from that are not forked from this one.

use super::init;
use super::spawn::{Program, Setting};
use super::zygote::Zygote;
use crate::live::Origin;
use crate::reap::Reaper;
use crate::start;
use crate::sys::exec;
use multi_core::BuildError;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Where the processes of a group of functions, or of a pool, come from.
pub(crate) enum Source {
    Zygote(&'static Zygote),
    Program(Program),
}

impl Source {
    /// The program's zygote.
    ///
    /// # Errors
    ///
    /// There is none and none can be made.
    pub(crate) fn zygote() -> Result<Self, BuildError> {
        Zygote::of_program()
            .map(Self::Zygote)
            .map_err(BuildError::new)
    }

    /// Executions of this program, or of what is set, for `what`: a group, say.
    ///
    /// # Errors
    ///
    /// They would not come to their work, or must not.
    pub(crate) fn executing(setting: &Setting, what: &str) -> Result<Self, BuildError> {
        if !init::was_called() {
            return Err(BuildError::new(format!(
                "multi_proc::init() was not called, so that the processes of this {what}, which execute this program again, would do what main \
                 does instead of their tasks; call it first in main"
            )));
        }
        if setting.program.is_none() && exec::is_privileged() {
            return Err(BuildError::new(format!(
                "this program may do more than whoever executes it (set-user-ID, set-group-ID, file capabilities): if it called functions that it \
                 is told to, anybody could tell it; make the {what} by zygote(), or by fork()"
            )));
        }
        Program::new(setting)
            .map(Self::Program)
            .map_err(BuildError::new)
    }

    /// Has a process made that follows the order in `message`.
    pub(super) fn start(
        &self,
        reaper: &Reaper,
        message: Vec<u8>,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(u32, Option<OwnedFd>, Origin)> {
        match self {
            Self::Zygote(zygote) => {
                let born = zygote.start(message, fds, || reaper.release_descriptor())?;
                Ok((born.pid, Some(born.pidfd), Origin::Zygote(zygote)))
            }
            Self::Program(program) => {
                let executed = program.execute(&message, fds)?;
                let pidfd = start::watch(reaper, executed.pid);
                Ok((
                    executed.pid,
                    pidfd,
                    Origin::executed(executed.line, reaper.settings.stuck_after),
                ))
            }
        }
    }
}
