//! One process waits for three children at once: two send, each over a channel of its own type, and the third dies without
//! a word, which its pidfd tells.
//!
//! `cargo run -p multi-chan --example select`

#![expect(unsafe_code, reason = "forks by hand, to need no other crate")]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use multi_chan::{Builder, Plain, Receiver, Select, Sender};
use std::error::Error;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ExitStatus};
use std::time::Duration;
use std::{io, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let (numbers, counter) =
        sender(|tx| (1..=3).try_for_each(|number: u32| tx.send(number)).is_ok())?;
    let (letters, speller) =
        sender(|tx| (b'a'..=b'c').try_for_each(|letter| tx.send(letter)).is_ok())?;
    let silent = fork(|| {
        thread::sleep(Duration::from_millis(50));
        process::abort()
    })?;
    let end_of_silent = pidfd(silent)?;

    let mut select = Select::new();
    let (from_numbers, from_letters) = (select.recv(&numbers), select.recv(&letters));
    let ended = select.readable(&end_of_silent);
    while !select.is_empty() {
        // What is done with a case: a value, or its end.
        let (case, value) = select.run(|case| {
            let value = if case == from_numbers {
                numbers.recv_now()?.map(|number| number.to_string()).ok()
            } else if case == from_letters {
                letters
                    .recv_now()?
                    .map(|letter| char::from(letter).to_string())
                    .ok()
            } else {
                None
            };
            Some((case, value))
        });
        match value {
            Some(value) => println!("received {value}"),
            None => {
                select.remove(case);
                if case == ended {
                    println!("the silent child ended: {}", reap(silent)?);
                } else {
                    println!("a sender is gone");
                }
            }
        }
    }
    for child in [counter, speller] {
        reap(child)?;
    }
    Ok(())
}

/// Forks a child that has a channel's only sender, and says whether it did its work. The channel can be waited on beside
/// descriptors.
fn sender<T: Plain>(
    work: impl FnOnce(&Sender<T>) -> bool,
) -> Result<(Receiver<T>, libc::pid_t), Box<dyn Error>> {
    let (tx, rx) = Builder::new().capacity(4).pollable(true).build()?;
    let child = fork(|| work(&tx))?;
    // The parent's copy of the sender goes.
    Ok((rx, child))
}

fn fork(work: impl FnOnce() -> bool) -> io::Result<libc::pid_t> {
    // SAFETY: this program has one thread, so the child inherits no lock that is held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let done = work();
            // SAFETY: takes a number; the child leaves without the parent's destructors.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        child => Ok(child),
    }
}

/// A descriptor that is readable once the child has ended.
fn pidfd(child: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) };
    match i32::try_from(fd) {
        // SAFETY: just opened, and nobody else's.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn reap(child: libc::pid_t) -> io::Result<ExitStatus> {
    let mut status = 0;
    // SAFETY: a place for the status; the child is ours, and waited for once.
    match unsafe { libc::waitpid(child, &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(ExitStatus::from_raw(status)),
    }
}
