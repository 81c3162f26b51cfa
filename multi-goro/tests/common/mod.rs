//! What every test file here uses.

use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Ends the process if the test hangs: a hang is a failure that has to be seen.
pub(crate) struct Watchdog(
    #[expect(dead_code, reason = "dropping it tells the dog")] mpsc::Sender<()>,
);

fn end(name: &str, seconds: u64) -> ! {
    // Not by `eprintln!`: the harness keeps what that writes until the test ends, and this one does not.
    let _nobody_left_to_tell = writeln!(io::stderr(), "{name} hangs after {seconds} s");
    for dump in multi_goro::diag::dump_all() {
        let _nobody_left_to_tell = writeln!(io::stderr(), "{dump}");
    }
    std::process::abort();
}

/// Gives the test `seconds`.
#[must_use]
pub(crate) fn watchdog(seconds: u64) -> Watchdog {
    let (tell, told) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or("?").to_owned();
    thread::spawn(move || {
        if told.recv_timeout(Duration::from_secs(seconds)) == Err(mpsc::RecvTimeoutError::Timeout) {
            end(&name, seconds);
        }
    });
    Watchdog(tell)
}
