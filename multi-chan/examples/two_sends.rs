//! Two children send 42 each over a buffered channel of 2; the parent receives both.
//!
//! `cargo run -p multi-chan --example two_sends`

#![expect(unsafe_code, reason = "forks by hand, to need no other crate")]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::io;
use std::process;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tx, rx) = multi_chan::channel::<i32>(2)?;
    for _ in 0..2 {
        // SAFETY: this program has one thread, so the child inherits no lock that is held.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error().into()),
            0 => {
                let sent = tx.send(42);
                // SAFETY: takes a number; the child leaves without the parent's destructors.
                unsafe { libc::_exit(i32::from(sent.is_err())) }
            }
            _ => {}
        }
    }
    drop(tx);
    for value in &rx {
        println!("{} received {value}", process::id());
    }
    println!("every sender is gone: {}", rx.recv().unwrap_err());
    // SAFETY: a null status is allowed; both children are ours.
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
    Ok(())
}
