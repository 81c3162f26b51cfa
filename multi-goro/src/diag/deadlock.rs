//! Tells of a deadlock where one can be proven: once, on standard error.
//!
//! A thread that has waited without a limit for some seconds looks around. If every thread of the process is asleep and is one of
//! ours that only another of ours can wake (a worker with nothing to run and no timer, a monitor with nothing to watch, a thread that
//! waits in a group, a channel or a lock), nobody is left who could wake anybody. One thread that is not known is enough to
//! stay silent: it may be about to send something.

use std::fmt::Write as _;
use std::fs;
use std::io;

use super::Dump;
use crate::sched;
use crate::sync::{AtomicBool, Ordering::*};
use crate::sys;

/// To be called by a thread that is blocked, and counted as such.
pub(crate) fn look_around() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let Some((dumps, waiting)) = find() else {
        return;
    };
    // Relaxed: one of those who come here tells.
    if TOLD.swap(true, Relaxed) {
        return;
    }
    let mut text = format!(
        "multi-goro: deadlock: {waiting} threads wait in a group, for a channel or for a lock, all workers are idle, and there is \
         no other thread, time limit or call that could wake any of them; close the channel or end the wait that the tasks \
         below hang on\n"
    );
    for dump in dumps {
        // To a string it does not fail.
        let _ = writeln!(text, "{dump}");
    }
    sys::write_error(text.as_bytes());
}

/// What hangs, and how many threads outside wait; none if somebody may still wake somebody.
fn find() -> Option<(Vec<Dump>, usize)> {
    let waiting = sched::Blocked::now()?;
    let mut known = waiting.count();
    let mut dumps = Vec::new();
    let runtimes = sched::every_runtime();
    // A dump of a million tasks takes a third of a second, during which none of them can end.
    if !runtimes.iter().all(|shared| shared.is_asleep()) {
        return None;
    }
    for shared in runtimes {
        let dump = Dump::of(&shared);
        if !dump.is_hopeless() {
            return None;
        }
        known += shared.own_threads()?;
        if dump.tasks().len() > 0 {
            dumps.push(dump);
        }
    }
    // Who ran first after the looks above was a thread that had been woken and had not gone on: it is not asleep, or has gone on
    // since and so changed what is compared.
    let asleep = sleeping_threads().ok()?;
    let is_proven = asleep + 1 == known && sched::Blocked::now() == Some(waiting);
    is_proven.then_some((dumps, waiting.count()))
}

/// How many threads there are beside the caller, if all of them sleep.
fn sleeping_threads() -> io::Result<usize> {
    let own = fs::read_link("/proc/thread-self")?;
    let mut count = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if Some(thread.file_name().as_os_str()) == own.file_name() {
            continue;
        }
        let text = fs::read_to_string(thread.path().join("stat"))?;
        // The name, in parentheses, may have anything in it.
        let state = text
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        if state != Some('S') {
            return Err(io::Error::other("a thread is awake"));
        }
        count += 1;
    }
    Ok(count)
}
