//! Why an OS thread could not be had or used.

use std::error::Error;
use std::fmt;
use std::io;

use crate::sched::Shared;

/// Why a thread could not be had, or could not run something. Says which thread.
///
/// ```
/// use multi_goro::OsThread;
///
/// let mut kept = None;
/// OsThread::main(|thread| kept = Some(thread));
/// let error = kept.unwrap().try_run(|| ()).unwrap_err();
/// assert!(error.is_gone());
/// ```
#[derive(Debug)]
pub struct OsThreadError(Kind);

#[derive(Debug)]
enum Kind {
    Gone(io::Error),
    Forked(io::Error),
    Refused { name: String, error: io::Error },
    InTask,
}

impl OsThreadError {
    pub(super) fn refused(name: &str, error: io::Error) -> Self {
        Self(Kind::Refused {
            name: name.to_owned(),
            error,
        })
    }

    pub(super) fn in_task() -> Self {
        Self(Kind::InTask)
    }

    /// What `shared` said when it refused a task.
    pub(super) fn of(shared: &Shared, error: io::Error) -> Self {
        let Some(bound) = shared.bound() else {
            return Self::refused("?", error);
        };
        if shared.check_process().is_err() {
            Self(Kind::Forked(error))
        } else if shared.check().is_err() {
            Self(Kind::Gone(error))
        } else {
            Self::refused(bound.name(), error)
        }
    }

    /// Whether the thread takes no more tasks: its loop has ended, or its last handle is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.0, Kind::Gone(_))
    }

    /// Whether this is a forked child of the process that has the thread.
    #[must_use]
    pub fn is_in_forked_child(&self) -> bool {
        matches!(self.0, Kind::Forked(_))
    }

    /// Whether the system refused a thread, a descriptor or memory; [`source`](Error::source) is what it said.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.0, Kind::Refused { .. })
    }

    /// Whether the caller is a task, whose worker the call would block.
    ///
    /// ```
    /// use multi_goro::{Group, ThreadLoop};
    ///
    /// let mut group = Group::new();
    /// group.go(|| {
    ///     assert!(ThreadLoop::new().unwrap_err().is_in_task());
    ///     Ok(())
    /// });
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn is_in_task(&self) -> bool {
        matches!(self.0, Kind::InTask)
    }
}

impl fmt::Display for OsThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Gone(error) | Kind::Forked(error) => error.fmt(f),
            Kind::Refused { name, error } => {
                write!(f, "OS thread \"{name}\" is refused by the system: {error}")
            }
            Kind::InTask => f.write_str(
                "a task cannot lend its worker's thread, where other tasks wait for their turn; call this on a plain thread, \
                 or use OsThread::spawn",
            ),
        }
    }
}

impl Error for OsThreadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Refused { error, .. } => Some(error),
            Kind::Gone(_) | Kind::Forked(_) | Kind::InTask => None,
        }
    }
}
