//! Something that calls wait for, whatever divides them from their owner: a file, whose name is their argument.

use super::FnSubject;
use crate::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often those who wait look.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Shut as long as its file is there. Dropped, it is open: nobody is left waiting by a rule that fails.
pub(super) struct Gate {
    path: PathBuf,
}

impl Gate {
    /// A shut one.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: the number only has to be unique.
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("multi-conformance-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "").expect("a gate needs a folder for temporary files");
        Self { path }
    }

    /// What a function is told of it.
    pub(super) fn name(&self) -> String {
        self.path.to_str().expect("a path that is text").to_owned()
    }

    pub(super) fn is_open(&self) -> bool {
        !self.path.exists()
    }

    /// Opens it for good.
    pub(super) fn open(&self) {
        open(&self.path);
    }

    /// Waits on the thread of the rule until a call has opened it.
    pub(super) fn wait(&self) {
        let start = Instant::now();
        while !self.is_open() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "no call opened the gate"
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Opens it in a moment, from another thread.
    pub(super) fn open_soon(&self) -> std::thread::JoinHandle<()> {
        let path = self.path.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            open(&path);
        })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

fn open(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("the gate is stuck: {error}"),
        // Whoever comes first opens it.
        _ => {}
    }
}

/// For a call: waits at the gate of this name and returns it.
pub(super) fn wait_at<S: FnSubject>(gate: String) -> Result<String> {
    while Path::new(&gate).exists() {
        S::sleep(LOOK_EVERY);
    }
    Ok(gate)
}

/// For a call: opens the gate of the first line, and waits at that of the second.
pub(super) fn open_and_wait_at<S: FnSubject>(gates: String) -> Result<String> {
    let (first, second) = gates.split_once('\n').ok_or("two lines, a gate each")?;
    open(Path::new(first));
    wait_at::<S>(second.to_owned())
}
