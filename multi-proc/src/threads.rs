//! The other threads of this process, whose locks a forked child would find held for ever.

use crate::sys;
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

/// What a group does about other threads of its program when it forks: see [`Builder::other_threads`](crate::Builder::other_threads).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherThreads {
    /// Nothing: what they must not do is promised at [`Builder::fork`](crate::Builder::fork).
    #[default]
    Allow,
    /// Says so once on standard error, naming them, and forks.
    Warn,
    /// Refuses: the task fails with a start error that names them.
    Deny,
}

/// The threads of multi itself, as the kernel names them. A fork takes care of what they hold.
const OURS: [&str; 3] = ["multi-clock", "multi-reaper", "multi-interrupt"];
/// How long a thread is given to say its name.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(1);
/// Threads named in a message; more are counted.
const NAMED_MAX: usize = 8;

/// Says who else is in this process, if anybody is.
///
/// # Errors
///
/// `/proc` cannot be read.
pub(crate) fn others() -> io::Result<Option<String>> {
    if sys::has_one_thread() {
        return Ok(None);
    }
    let unnamed = fs::read_to_string("/proc/self/comm")?;
    for _ in 1..TRIES {
        let names = names()?;
        // A thread has its program's name until it gives itself one, as its first act: this may be one of ours.
        if !names.iter().any(|name| name == unnamed.trim_end()) {
            return Ok(describe(&names));
        }
        thread::sleep(PAUSE);
    }
    Ok(describe(&names()?))
}

/// The names of the threads that are neither the caller nor ours.
fn names() -> io::Result<Vec<String>> {
    let own = sys::thread_id().to_string();
    let mut names = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if thread.file_name().to_str() == Some(&own) {
            continue;
        }
        // One that has ended meanwhile has no name.
        if let Ok(name) = fs::read_to_string(thread.path().join("comm")) {
            let name = name.trim_end().to_owned();
            if !OURS.contains(&&*name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn describe(names: &[String]) -> Option<String> {
    let plural = match names.len() {
        0 => return None,
        1 => "1 other thread",
        count => &format!("{count} other threads"),
    };
    let named: Vec<String> = names
        .iter()
        .take(NAMED_MAX)
        .map(|name| format!("{name:?}"))
        .collect();
    let more = if names.len() > NAMED_MAX { ", .." } else { "" };
    Some(format!("{plural} ({}{more})", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_named_up_to_a_number() {
        let names = |count| vec!["worker".to_owned(); count];
        assert_eq!(describe(&names(0)), None);
        assert_eq!(describe(&names(1)).unwrap(), "1 other thread (\"worker\")");
        assert!(describe(&names(9)).unwrap().ends_with("\"worker\", ..)"));
    }
}
