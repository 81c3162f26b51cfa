//! What was asked of a task's process.

use crate::capture::Pipes;
use crate::limits::{Limits, Refused};
use crate::stdio::Stdio;
use std::io;

/// What was asked of a task's process, its group's defaults included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) limits: Limits,
    pub(crate) stdio: Stdio,
}

impl Terms {
    /// Looks for what no process can be asked.
    ///
    /// # Errors
    ///
    /// The option, its value and the remedy.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.limits.check()
    }

    /// For the child: makes its process as it was asked for. `pipes` are those made before the fork.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn enter(&self, pipes: Pipes) -> Result<(), Refused> {
        if self.stdio.is_changed() {
            self.stdio.enter(pipes)?;
        }
        self.limits.hold()
    }
}
