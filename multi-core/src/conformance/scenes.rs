//! Small programs run in a process of their own, for rules about what is printed.

use super::{Subject, group};
use crate::group::{Group, Tasks};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Which scene this process is to play instead of running rules: `backend name/scene`.
pub(super) const VARIABLE: &str = "MULTI_CONFORMANCE_SCENE";

pub(super) const PANIC: &str = "panic";
pub(super) const DROP: &str = "drop";
pub(super) const WAIT: &str = "wait";
pub(super) const DETACH: &str = "detach";

/// Plays the scene in a new process and returns what it wrote on standard error.
pub(super) fn stderr_of<S: Subject>(scene: &str) -> String {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program)
        .env(VARIABLE, format!("{}/{scene}", S::NAME))
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .output()
        .expect("the scene cannot be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "the scene ended with {}: {said}",
        output.status
    );
    said
}

/// Plays the scene in a new process whose standard error takes nothing: full(4).
pub(super) fn play_to_full_device<S: Subject>(scene: &str) {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("the full device");
    let program = std::env::current_exe().expect("the path of this program");
    let status = Command::new(program)
        .env(VARIABLE, format!("{}/{scene}", S::NAME))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full)
        .status()
        .expect("the scene cannot be started");
    assert!(status.success(), "the scene ended with {status}");
}

/// Plays `scene` in this process.
#[expect(
    clippy::print_stderr,
    reason = "what is printed, and when, is what the scenes are about"
)]
pub(super) fn play<S: Subject>(scene: &str) {
    let mut group = group::<S>();
    match scene {
        PANIC => {
            let token = group.cancel_token();
            group.go(move || {
                token.wait();
                Ok(())
            });
            group.go(|| panic!("on purpose: a scene"));
            while group.progress().failed == 0 {
                let _still_running = group.wait_timeout(Duration::from_millis(1));
            }
            eprintln!("waited");
            group.cancel();
            assert!(group.wait().is_err());
        }
        DROP => {
            group.go(|| Err("unseen failure")?);
            // Ended before the drop, which would cancel it.
            while group.progress().failed == 0 {
                assert!(!group.cancel_token().wait_timeout(Duration::from_millis(1)));
            }
            drop(group);
        }
        WAIT => {
            group.go(|| Err("seen failure")?);
            assert!(group.wait().is_err());
            drop(group);
        }
        DETACH => {
            group.go(|| {
                S::sleep(Duration::from_millis(20));
                Err("detached failure")?
            });
            let ended = group.spawner();
            S::detach(group);
            // Nothing can wait for a detached group; a spawner keeps its books, no more.
            std::thread::sleep(Duration::from_millis(500));
            drop(ended);
        }
        other => panic!("no scene is called {other:?}"),
    }
}
