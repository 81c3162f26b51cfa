//! What can be asked of a group of threads.

use crate::group::Group;
use crate::sys;
use crate::thread::Settings;
use multi_core::ledger::Ledger;
use multi_core::{BuildError, CancelToken, GroupOptions, ThreadEvent};
use std::sync::Arc;

/// Stack of a thread unless the builder says otherwise: what `std::thread` gives.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Options of a [`Group`], then the group: `Group::builder().limit(8).build()?`.
///
/// ```
/// let mut group = multi_pthread::Group::builder().name("hash").limit(2).stack_bytes(256 * 1024).build()?;
/// group.go(|| Ok(()));
/// group.wait()?;
///
/// let error = multi_pthread::Group::builder().stack_bytes(5000).build().unwrap_err();
/// assert_eq!(error.to_string(), "stack of 5000 bytes is too small for a thread; give at least 16384");
/// # Ok::<(), multi_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    options: GroupOptions,
    settings: Settings,
    policy: Option<Scheduling>,
}

/// How the system schedules a group's threads; sched(7). A policy the program has no right to makes each task fail to start,
/// with EPERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheduling {
    /// First in, first out, at a real-time priority of 1 to 99.
    Fifo(u8),
    /// Round robin, at a real-time priority of 1 to 99.
    RoundRobin(u8),
}

multi_core::builder_face!(Builder);

impl Builder {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            stack_bytes: STACK_BYTES,
            cpus: Vec::new(),
            scheduling: None,
        };
        Self {
            options: GroupOptions::new(),
            settings,
            policy: None,
        }
    }

    /// Gives each thread a stack of `bytes`: a multiple of the page size, 16 KiB at least. Default: 2 MiB.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.settings.stack_bytes = bytes;
        self
    }

    /// Lets the threads run on these CPUs only, counted from 0. A CPU the machine lacks makes each task fail to start.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.settings.cpus = cpus.into_iter().collect();
        self
    }

    /// Starts the threads under a real-time policy.
    pub fn scheduling(mut self, policy: Scheduling) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Makes the group.
    ///
    /// # Errors
    ///
    /// [`BuildError`] naming the option, its value and the remedy.
    pub fn build(self) -> Result<Group, BuildError> {
        let (ledger, settings) = self.open()?;
        Ok(Group::with(ledger, settings))
    }

    fn open(mut self) -> Result<(Ledger, Settings), BuildError> {
        check_stack(self.settings.stack_bytes)?;
        check_cpus(&self.settings.cpus)?;
        self.settings.scheduling = self.policy.map(Scheduling::check).transpose()?;
        let event = Arc::new(ThreadEvent::new());
        let ledger = Ledger::new("pthread", self.options, event, CancelToken::new)?;
        Ok((ledger, self.settings))
    }
}

fn check_stack(bytes: usize) -> Result<(), BuildError> {
    let (least, page) = (sys::stack_bytes_min(), sys::page_bytes());
    if bytes < least {
        return Err(BuildError::new(format!(
            "stack of {bytes} bytes is too small for a thread; give at least {least}"
        )));
    }
    if !bytes.is_multiple_of(page) {
        let next = bytes
            .checked_next_multiple_of(page)
            .unwrap_or(bytes - bytes % page);
        return Err(BuildError::new(format!(
            "stack of {bytes} bytes is not a multiple of the page size, {page}; give {next}"
        )));
    }
    Ok(())
}

fn check_cpus(cpus: &[usize]) -> Result<(), BuildError> {
    match cpus.iter().find(|&&cpu| cpu >= sys::CPU_COUNT_MAX) {
        Some(cpu) => Err(BuildError::new(format!(
            "CPU {cpu} is beyond what the system can name; give numbers below {}",
            sys::CPU_COUNT_MAX
        ))),
        None => Ok(()),
    }
}

impl Scheduling {
    fn check(self) -> Result<(i32, i32), BuildError> {
        let (policy, priority) = match self {
            Self::Fifo(priority) => (sys::SCHED_FIFO, priority),
            Self::RoundRobin(priority) => (sys::SCHED_RR, priority),
        };
        if (1..=99).contains(&priority) {
            Ok((policy, priority.into()))
        } else {
            Err(BuildError::new(format!(
                "priority {priority} is no real-time priority; give 1 to 99"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: Builder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn stack_that_is_no_page_multiple_is_refused_with_the_next_that_is() {
        assert_eq!(
            refusal(Builder::new().stack_bytes(20_000)),
            "stack of 20000 bytes is not a multiple of the page size, 4096; give 20480"
        );
        assert!(refusal(Builder::new().stack_bytes(usize::MAX)).contains("not a multiple"));
        assert!(refusal(Builder::new().stack_bytes(0)).contains("too small"));
    }

    #[test]
    fn cpu_and_priority_out_of_range_are_refused() {
        assert!(refusal(Builder::new().cpus([0, 5000])).starts_with("CPU 5000 is beyond"));
        assert!(
            refusal(Builder::new().scheduling(Scheduling::Fifo(0))).starts_with("priority 0 is no")
        );
    }

    #[test]
    fn options_of_the_contract_are_checked_too() {
        assert!(refusal(Builder::new().limit(0)).starts_with("limit 0"));
        assert!(refusal(Builder::new().name("a\0b")).contains("NUL"));
    }
}
