//! Telling a limit that was kept from a death of another kind.

use super::{Bytes, Limits};
use crate::sys;
use multi_core::TaskErrorKind;
use multi_core::Usage;
use std::time::Duration;

/// The kernel's two clocks for processor time differ by less than this share.
const CLOCK_SHARE: u32 = 10;

impl Limits {
    /// `kind`, or the limit that was behind it. `is_out_of_memory`: what the process left in its slot; `usage`: what it used.
    pub(crate) fn explain(
        &self,
        kind: TaskErrorKind,
        is_out_of_memory: bool,
        usage: Option<Usage>,
    ) -> TaskErrorKind {
        let TaskErrorKind::Signaled { signal, .. } = kind else {
            return kind;
        };
        let exceeded = match signal {
            sys::SIGABRT if is_out_of_memory => self.memory_bytes_max.map(|bytes| {
                let peak = usage.map_or(0, |usage| usage.peak_bytes) >> 20;
                format!(
                    "memory_bytes_max {} beyond what it started with ({peak} MiB resident at its peak)",
                    Bytes(bytes)
                )
            }),
            // SIGKILL: it did not obey SIGXCPU.
            sys::SIGXCPU | sys::SIGKILL => self.cpu_time_max.and_then(|time| {
                let used = usage.map(|usage| usage.user + usage.system)?;
                has_used(used, time)
                    .then(|| format!("cpu_time_max {time:?} (it used {used:.3?})"))
            }),
            sys::SIGXFSZ => self
                .file_bytes_max
                .map(|bytes| format!("file_bytes_max {}", Bytes(bytes))),
            _ => None,
        };
        exceeded.map_or(kind, TaskErrorKind::LimitExceeded)
    }
}

/// Whether `used` is `time` or more, as far as can be told.
fn has_used(used: Duration, time: Duration) -> bool {
    used >= time - time / CLOCK_SHARE
}
