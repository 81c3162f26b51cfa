//! The parent's side of a measurement: a contender in a child process, which may crash or hang without harm to the run.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child as Process, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::Result;

/// A child that takes samples, one at a time, when asked.
#[derive(Debug)]
pub struct Child {
    process: Process,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    complaints: Option<JoinHandle<String>>,
    patience: Duration,
}

/// One sample, by the names of its figures.
pub type Sample = BTreeMap<String, f64>;

impl Child {
    /// Starts `command` and waits until it is warm. An answer that takes longer than `patience` counts as a hang.
    ///
    /// # Errors
    ///
    /// Why there will be no samples: what the child said, how it ended, or that it hangs.
    pub fn start(mut command: Command, patience: Duration) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot be started: {error}"))?;
        let (tell, answers) = channel();
        if let Some(stdout) = process.stdout.take() {
            // Ends with the pipe.
            drop(thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { break };
                    if tell.send(line).is_err() {
                        break;
                    }
                }
            }));
        }
        let complaints = process
            .stderr
            .take()
            .map(|stderr| thread::spawn(move || first_words(stderr)));
        let mut child = Self {
            stdin: process.stdin.take(),
            process,
            answers,
            complaints,
            patience,
        };
        let _ready = child.answer()?;
        Ok(child)
    }

    /// One sample.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn sample(&mut self) -> Result<Sample> {
        let asked = self.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
        if !matches!(asked, Some(Ok(()))) {
            return Err(self.end().into());
        }
        self.answer()?
            .into_iter()
            .map(|(name, figure)| {
                let figure = figure
                    .as_f64()
                    .ok_or_else(|| format!("{name} is no number: {figure}"))?;
                Ok((name, figure))
            })
            .collect()
    }

    fn answer(&mut self) -> Result<Map<String, Value>> {
        let line = match self.answers.recv_timeout(self.patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                let seconds = self.patience.as_secs();
                return Err(format!("hangs: no answer in {seconds} s").into());
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.end().into()),
        };
        let answer: Map<String, Value> = serde_json::from_str(&line)
            .map_err(|error| format!("said what is no answer ({error}): {line}"))?;
        match answer.get("cannot") {
            Some(why) => Err(why.as_str().unwrap_or("cannot").into()),
            None => Ok(answer),
        }
    }

    /// How a child ended that should not have.
    fn end(&mut self) -> String {
        drop(self.stdin.take());
        let how = match self.process.wait() {
            Ok(status) => ending(status),
            Err(error) => format!("is lost: {error}"),
        };
        let words = self.complaints.take().and_then(|words| words.join().ok());
        match words {
            Some(words) if !words.is_empty() => format!("{how}: {words}"),
            _ => how,
        }
    }

    fn kill(&mut self) {
        // It may have ended meanwhile.
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Closes the pipe, which tells the child to leave, and does not wait long: whatever a contender does on its way out is not measured.
impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stdin.take());
        for _ in 0..20 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(6)) => "aborted (SIGABRT)".to_owned(),
        (_, Some(9)) => "was killed (SIGKILL)".to_owned(),
        (_, Some(11)) => "crashed (SIGSEGV)".to_owned(),
        (_, Some(signal)) => format!("died of signal {signal}"),
        (Some(code), None) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The start of the first lines that say something; the rest is read and dropped, so that the child is never held up.
fn first_words(stderr: impl Read) -> String {
    const CHARS_MAX: usize = 160;
    let mut words = String::new();
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { break };
        let line = line.trim();
        if !line.is_empty() && words.chars().count() < CHARS_MAX {
            if !words.is_empty() {
                words.push(' ');
            }
            words += line;
        }
    }
    if words.chars().count() > CHARS_MAX {
        words = words.chars().take(CHARS_MAX).chain("…".chars()).collect();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn figures_come_home_until_the_child_dies() {
        let script = r#"echo '{"ready":true}'; read _; echo '{"ns":1.5,"bytes":3}'; read _; echo oh no >&2; kill -SEGV $$"#;
        let mut child = Child::start(sh(script), PATIENCE).expect("it is a shell");
        let sample = child.sample().expect("its first answer");
        assert_eq!((sample["ns"], sample["bytes"]), (1.5, 3.0));
        let error = child.sample().expect_err("it dies");
        assert_eq!(error.to_string(), "crashed (SIGSEGV): oh no");
    }

    #[test]
    fn a_child_that_cannot_says_why() {
        let error = Child::start(sh(r#"echo '{"cannot":"too many tasks"}'"#), PATIENCE)
            .expect_err("it cannot");
        assert_eq!(error.to_string(), "too many tasks");
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let error = Child::start(sh("exec sleep 1000"), Duration::from_secs(1))
            .expect_err("it never says a word");
        assert_eq!(error.to_string(), "hangs: no answer in 1 s");
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let error = Child::start(Command::new("/no/such/program"), PATIENCE).expect_err("no file");
        assert!(
            error.to_string().starts_with("cannot be started: "),
            "{error}"
        );
    }

    #[test]
    fn long_complaints_are_cut() {
        let words = first_words("a\n\nb\n".repeat(200).as_bytes());
        assert!(words.starts_with("a b a b") && words.ends_with('…'));
        assert_eq!(words.chars().count(), 161);
    }
}
