//! Python's part of the benchmark: scripts, where a `python3` is found.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::Result;

/// The queues of its multiprocessing package.
const QUEUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/queues.py");
/// The pool of processes of its concurrent.futures package.
const EXECUTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/executor.py");

/// The command of a contender that is a queue of this class; the job comes last.
///
/// # Errors
///
/// If there is no `python3`.
pub fn queues(class: &str) -> Result<Vec<OsString>> {
    command(&[QUEUES, class])
}

/// The command of the contender that is a `ProcessPoolExecutor`; the job comes last.
///
/// # Errors
///
/// If there is no `python3`.
pub fn executor() -> Result<Vec<OsString>> {
    command(&[EXECUTOR])
}

fn command(words: &[&str]) -> Result<Vec<OsString>> {
    let answers = Command::new("python3")
        .args(["-c", "import multiprocessing"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    if !answers {
        return Err("not installed: no python3 on the path".into());
    }
    let words = words.iter().map(OsString::from);
    Ok(std::iter::once("python3".into()).chain(words).collect())
}
