//! Children that get nowhere: noticed by the stage word and by what the kernel says they sleep on.
//!
//! A fork copies one thread and every lock. A lock that another thread of the parent held at that moment stays held in the child for
//! ever. Such a child has one thread, and that thread sleeps without a time limit on a futex of its own memory, which only
//! that thread could wake: that is certain, not guessed, and two files of `/proc` show it.

use crate::outcome::Settles;
use crate::slot::{Slot, Stage};
use crate::sys;
use std::fs;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// When to look at a child again, and what was seen.
pub(crate) struct Watch {
    started: Instant,
    next: Option<Instant>,
    was_reporting: bool,
}

impl Watch {
    pub(crate) fn new(now: Instant, stuck_after: Duration) -> Self {
        Self {
            started: now,
            next: now.checked_add(stuck_after),
            was_reporting: false,
        }
    }

    /// When to look; none once there is nothing more to say.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, if it is time to; returns the line to print if the child is stuck. Each child is reported once.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        stuck_after: Duration,
        pid: u32,
        slot: &Slot,
        task: &dyn Settles,
    ) -> Option<String> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        self.next = now.checked_add(stuck_after);
        let what = match slot.stage()? {
            Stage::Forked | Stage::SetUp => "has not come to its closure",
            Stage::Running if waits_for_itself(pid) => {
                "waits for what nobody in its process can do: release a lock that another thread held when it was forked, or run a \
                 pool's thread, which was not copied"
            }
            Stage::Running => return None,
            Stage::Reporting | Stage::Done if self.was_reporting => {
                "has not finished reporting what came of it"
            }
            Stage::Reporting | Stage::Done => {
                self.was_reporting = true;
                return None;
            }
        };
        self.next = None;
        Some(format!(
            "{} is stuck: after {:.3?} it {what}",
            describe(task, pid),
            now.duration_since(self.started)
        ))
    }
}

fn describe(task: &dyn Settles, pid: u32) -> String {
    let ticket = task.ticket();
    let name = ticket
        .name()
        .map(|name| format!(" {name:?}"))
        .unwrap_or_default();
    format!(
        "task {}{name} ({}, pid {pid}, started at {})",
        ticket.id(),
        ticket.backend(),
        ticket.started_at()
    )
}

/// Whether the only thread of process `pid` sleeps, without a time limit, where only itself could wake it.
fn waits_for_itself(pid: u32) -> bool {
    has_one_thread(pid) == Some(true) && in_private_futex_wait(pid) == Some(true)
}

fn has_one_thread(pid: u32) -> Option<bool> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(threads.take(2).count() == 1)
}

fn in_private_futex_wait(pid: u32) -> Option<bool> {
    is_private_futex_wait(&fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?)
}

/// Reads a line of `/proc/<pid>/syscall`: number, six arguments, two pointers; or `running`.
fn is_private_futex_wait(line: &str) -> Option<bool> {
    const OPERATION: u64 = 0x7f;
    const WAIT: u64 = 0;
    const WAIT_BITSET: u64 = 9;
    const LOCK_PI: u64 = 6;
    let mut words = line.split_ascii_whitespace();
    if words.next()?.parse::<i64>().ok()? != sys::FUTEX {
        return Some(false);
    }
    let arguments: Vec<u64> = words
        .map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .take(4)
        .collect();
    let &[_word, operation, _value, time_limit] = arguments.as_slice() else {
        return None;
    };
    let waits = matches!(operation & OPERATION, WAIT | WAIT_BITSET | LOCK_PI);
    Some(waits && operation & sys::FUTEX_PRIVATE != 0 && time_limit == 0)
}

/// Tells standard error. Where that is closed, or nobody reads it, there is nobody to tell: not a reason for whoever waits to fail.
pub(crate) fn print(reports: &[String]) {
    for report in reports {
        let _untold = writeln!(io::stderr(), "multi: {report}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futex_waits_are_told_apart() {
        let private = "202 0x55d0c0de 0x80 0x2 0x0 0x0 0x0 0x7ffd5678 0x7f0012345678\n";
        assert_eq!(is_private_futex_wait(private), Some(true));
        let bitset = "202 0x55d0c0de 0x189 0x2 0x0 0x0 0xffffffff 0x7ffd5678 0x7f0012345678";
        assert_eq!(is_private_futex_wait(bitset), Some(true));
        let timed = "202 0x55d0c0de 0x80 0x2 0x7ffd1000 0x0 0x0 0x7ffd5678 0x7f0012345678";
        assert_eq!(is_private_futex_wait(timed), Some(false));
        let shared = "202 0x55d0c0de 0x0 0x2 0x0 0x0 0x0 0x7ffd5678 0x7f0012345678";
        assert_eq!(is_private_futex_wait(shared), Some(false));
        let pause = "34 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffd5678 0x7f0012345678";
        assert_eq!(is_private_futex_wait(pause), Some(false));
        assert_eq!(is_private_futex_wait("running\n"), None);
    }
}
