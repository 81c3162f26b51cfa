//! What tasks cost: processor time and memory, as the kernel counted them.

use std::time::Duration;

/// What the finished tasks of a group used, their own child processes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tasks counted: those whose process was collected by their group.
    pub tasks: u64,
    /// Processor time in the tasks' own code, summed.
    pub user: Duration,
    /// Processor time in the kernel on the tasks' behalf, summed.
    pub system: Duration,
    /// The most memory any one of them held, in bytes. It includes what the task shares with its parent since the fork.
    pub peak_bytes: u64,
}

impl Usage {
    pub(crate) fn of_process(user: Duration, system: Duration, peak_bytes: u64) -> Self {
        Self {
            tasks: 1,
            user,
            system,
            peak_bytes,
        }
    }

    /// Counts `other` in.
    pub(crate) fn add(&mut self, other: Self) {
        self.tasks += other.tasks;
        self.user += other.user;
        self.system += other.system;
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_and_the_peak_is_the_highest() {
        let second = Duration::from_secs(1);
        let mut total = Usage::of_process(second, second, 10);
        total.add(Usage::of_process(second, 2 * second, 7));
        assert_eq!(
            total,
            Usage {
                tasks: 2,
                user: 2 * second,
                system: 3 * second,
                peak_bytes: 10
            }
        );
    }
}
