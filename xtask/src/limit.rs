//! One test binary under a time limit, with everything it started.
//!
//! The binary leads a process group of its own. Beside it, in the same group, sits a watchdog: a shell that reads from a pipe
//! whose other end is held here, and kills its own group when the pipe closes. So the group ends
//!
//! - when the limit is over (we close the pipe),
//! - when the binary is done but left processes behind (we close the pipe),
//! - when xtask itself is interrupted or killed (the kernel closes the pipe).
//!
//! A process group's number cannot be reused while the watchdog is in it, so nobody else's processes are ever hit.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::tally::{self, Tally};
use crate::{Result, conformance, workspace};

/// How often the end of the binary is looked for.
const POLL: Duration = Duration::from_millis(10);

/// How a command under a time limit ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Exited(ExitStatus),
    /// The limit was over; the whole process group was killed.
    Hung,
}

/// Runs the test binary `command` and relays its output. A binary that hangs, or that ends without a summary of its own, is named on
/// standard output in the form that [`Tally`] counts as one failure.
pub(crate) fn run(command: &[String], limit: Duration) -> Result<ExitCode> {
    let (program, args) = command.split_first().ok_or("no command given")?;
    let (ended, seen) = supervise(program, args, limit, io::stdout())?;
    // Doc tests are counted by rustdoc, which captures our standard output.
    let counted_elsewhere = !Path::new(program)
        .parent()
        .is_some_and(|dir| dir.ends_with("deps"));
    let listing = args.iter().any(|arg| arg == "--list");
    let trouble = match &ended {
        Ended::Hung => Some(format!(
            "{program} did not end within {} s: killed with every process it started",
            limit.as_secs()
        )),
        Ended::Exited(status) if !seen.has_summary() && !counted_elsewhere && !listing => Some(
            format!("{program} ended without a summary of its tests ({status})"),
        ),
        Ended::Exited(_) => None,
    };
    if let Some(trouble) = &trouble {
        if counted_elsewhere {
            eprintln!("{trouble}");
        } else {
            println!("\n{}{trouble}", tally::COUNTED_AS_FAILED);
        }
    }
    Ok(match ended {
        Ended::Exited(status) if status.success() && trouble.is_none() => ExitCode::SUCCESS,
        Ended::Exited(status) => match status.code() {
            Some(code @ 1..=255) => ExitCode::from(u8::try_from(code)?),
            _ => ExitCode::from(128 | u8::try_from(status.signal().unwrap_or(1))?),
        },
        Ended::Hung => ExitCode::from(124), // the exit code of timeout(1)
    })
}

/// Runs `program` in a process group of its own until it ends or `limit` is over, relaying its standard output to `to`.
fn supervise(
    program: &str,
    args: &[String],
    limit: Duration,
    mut to: impl Write + Send + 'static,
) -> Result<(Ended, Tally)> {
    let mut child = Command::new(program)
        .args(args)
        .envs(conformance::report_of(Path::new(program)))
        // rustdoc tells a bundle of doc tests its path, so that each runs in a process of its own, but not when there is a runner.
        .env("RUSTDOC_DOCTEST_BIN_PATH", program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let watchdog = Watchdog::beside(&child)?;
    let stdout = child
        .stdout
        .take()
        .ok_or("the child's standard output is not a pipe")?;
    let (send_tally, tally) = mpsc::channel();
    let relay = thread::spawn(move || {
        let mut seen = Tally::default();
        let relayed = relay(stdout, &mut to, &mut seen);
        let _receiver_gone = send_tally.send((seen, relayed));
    });
    let ended = wait(&mut child, limit)?;
    drop(watchdog);
    if matches!(ended, Ended::Hung) {
        let _status = child.wait()?;
    }
    // With the group gone nobody holds the pipe; a process that left the group (setsid) may, and is not waited for.
    let seen =
        match tally.recv_timeout(Duration::from_secs(2)) {
            Ok((seen, relayed)) => {
                relayed?;
                relay
                    .join()
                    .map_err(|_| "the thread that relays output panicked")?;
                seen
            }
            Err(_) => return Err(format!(
                "{program}: a process that left the process group keeps its standard output open"
            )
            .into()),
        };
    Ok((ended, seen))
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Ended> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exited(status));
        }
        if started.elapsed() >= limit {
            return Ok(Ended::Hung);
        }
        thread::sleep(POLL);
    }
}

/// Copies `from` to `to` line by line, counting what the lines say.
pub(crate) fn relay(from: impl io::Read, to: &mut impl Write, seen: &mut Tally) -> io::Result<()> {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        seen.line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

/// Kills the process group it was put in when dropped, or when this process ends in any other way.
#[derive(Debug)]
struct Watchdog(Child);

impl Watchdog {
    fn beside(leader: &Child) -> Result<Self> {
        let group = i32::try_from(leader.id())?;
        let shell = Command::new("sh")
            .args(["-c", "read _; kill -KILL 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(group)
            .spawn()
            .map_err(|error| format!("cannot start the watchdog shell: {error}"))?;
        Ok(Self(shell))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _killed_with_its_group = self.0.wait();
    }
}

/// The `--config` value that makes cargo run every test binary through [`run`].
pub(crate) fn cargo_config(limit: Duration) -> Result<String> {
    let xtask = std::env::current_exe()?;
    let xtask = xtask.to_str().ok_or("the path of xtask is not UTF-8")?;
    // A JSON string is a TOML basic string.
    let xtask = serde_json::Value::from(xtask);
    Ok(format!(
        "target.'cfg(all())'.runner=[{xtask},\"run-limited\",\"{}\"]",
        limit.as_secs()
    ))
}

/// `cargo test` whose test binaries are each under `limit`.
pub(crate) fn cargo_test(workspace: &workspace::Workspace, limit: Duration) -> Result<Command> {
    let mut command = workspace.cargo();
    command
        .arg("--config")
        .arg(cargo_config(limit)?)
        .arg("test");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sh(script: &str) -> Vec<String> {
        vec!["-c".to_owned(), script.to_owned()]
    }

    #[test]
    fn an_exit_code_and_the_summary_come_home() {
        let script = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 3";
        let (ended, seen) =
            supervise("sh", &sh(script), Duration::from_secs(60), io::sink()).expect("runs");
        assert!(
            matches!(ended, Ended::Exited(status) if status.code() == Some(3)),
            "{ended:?}"
        );
        assert_eq!(
            seen,
            Tally {
                passed: 2,
                failed: 1,
                summaries: 1,
                failures: vec![],
            }
        );
    }

    #[test]
    fn a_hung_binary_is_killed_with_its_children() {
        let dir = std::env::temp_dir().join(format!("xtask-limit-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder for the pid file");
        let pid_file = dir.join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        let (ended, _) =
            supervise("sh", &sh(&script), Duration::from_millis(500), io::sink()).expect("runs");
        assert!(matches!(ended, Ended::Hung), "{ended:?}");
        let pid = fs::read_to_string(&pid_file).expect("the script wrote its child's pid");
        assert!(gone(pid.trim()), "the grandchild {pid} is still there");
        fs::remove_dir_all(&dir).expect("our own folder");
    }

    #[test]
    fn what_a_finished_binary_leaves_behind_is_killed() {
        let script = "sleep 1000 & echo 'test result: ok. 1 passed; 0 failed;'";
        let started = Instant::now();
        let (ended, seen) = supervise("sh", &sh(script), Duration::from_secs(60), io::sink())
            .expect("the pipe closes");
        assert!(
            matches!(ended, Ended::Exited(status) if status.success()),
            "{ended:?}"
        );
        assert_eq!(seen.passed, 1);
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "waited for the sleeping grandchild"
        );
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let error = supervise("/no/such/program", &[], Duration::from_secs(1), io::sink())
            .expect_err("cannot start");
        assert!(
            error
                .to_string()
                .starts_with("cannot start /no/such/program: "),
            "{error}"
        );
    }

    /// Whether process `pid` ended; a zombie that nobody reaped yet counts as ended.
    fn gone(pid: &str) -> bool {
        let ended = || {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                return true;
            };
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'))
        };
        (0..500).any(|_| {
            thread::sleep(POLL);
            ended()
        })
    }
}
