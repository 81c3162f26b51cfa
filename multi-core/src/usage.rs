//! What tasks cost: processor time and memory, as the kernel counted them.

use std::time::Duration;

/// What one task used, or the finished tasks of a group together, their own child processes included: where tasks are processes.
///
/// ```
/// use multi_core::Usage;
/// use std::time::Duration;
///
/// let mut total = Usage::default();
/// total.add(Usage::of_task(Duration::from_secs(2), Duration::ZERO, 1 << 20));
/// total.add(Usage::of_task(Duration::from_secs(1), Duration::ZERO, 3 << 20));
/// assert_eq!((total.tasks, total.cpu_time().as_secs(), total.peak_bytes), (2, 3, 3 << 20));
/// ```
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
    /// What one task used, for its backend to say.
    #[must_use]
    pub fn of_task(user: Duration, system: Duration, peak_bytes: u64) -> Self {
        Self {
            tasks: 1,
            user,
            system,
            peak_bytes,
        }
    }

    /// Processor time in all.
    #[must_use]
    pub fn cpu_time(self) -> Duration {
        self.user + self.system
    }

    /// Counts `other` in.
    pub fn add(&mut self, other: Self) {
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
        let mut total = Usage::of_task(second, second, 10);
        total.add(Usage::of_task(second, 2 * second, 7));
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
