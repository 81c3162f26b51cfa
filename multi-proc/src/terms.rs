//! What was asked of a task's process.

use crate::limits::Limits;
use std::io;

/// What was asked of a task's process, its group's defaults included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) limits: Limits,
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
}
