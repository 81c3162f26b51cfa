//! One process waits for three children at once: two send, each over a channel of its own type, and the third dies without
//! a word. Its channel says so.
//!
//! `cargo run -p multi-chan --example select`

#![expect(unsafe_code, reason = "forks by hand, to need no other crate")]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use multi_chan::{Plain, Receiver, Select, Sender, channel};
use std::time::Duration;
use std::{io, process, ptr, thread};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers = child(|tx| (1..=3).try_for_each(|number: u32| tx.send(number)).is_ok())?;
    let letters = child(|tx| (b'a'..=b'c').try_for_each(|letter| tx.send(letter)).is_ok())?;
    // Nothing is ever sent here: the channel is there for the life at its other end.
    let life = child(|_tx: &Sender<u8>| {
        thread::sleep(Duration::from_millis(50));
        process::abort()
    })?;

    let mut select = Select::new();
    let (from_numbers, from_letters) = (select.recv(&numbers), select.recv(&letters));
    let from_life = select.recv(&life);
    while !select.is_empty() {
        // What came, or which case has no sender any more.
        let came = select.run(|case| {
            Some(
                if case == from_numbers {
                    numbers.recv_now()?.map(|number| number.to_string())
                } else if case == from_letters {
                    letters
                        .recv_now()?
                        .map(|letter| char::from(letter).to_string())
                } else {
                    life.recv_now()?.map(|byte| byte.to_string())
                }
                .map_err(|_| case),
            )
        });
        match came {
            Ok(value) => println!("received {value}"),
            Err(case) => {
                select.remove(case);
                let names = [
                    (from_numbers, "numbers"),
                    (from_letters, "letters"),
                    (from_life, "the silent one"),
                ];
                let name = names.iter().find(|(known, _)| *known == case);
                println!("gone: {}", name.map_or("nobody", |(_, name)| name));
            }
        }
    }
    // SAFETY: a null status is allowed; the children are ours.
    while unsafe { libc::wait(ptr::null_mut()) } > 0 {}
    Ok(())
}

/// Forks a child that has a channel's only sender, and says whether it did its work.
fn child<T: Plain>(
    work: impl FnOnce(&Sender<T>) -> bool,
) -> Result<Receiver<T>, Box<dyn std::error::Error>> {
    let (tx, rx) = channel(4)?;
    // SAFETY: this program has one thread, so the child inherits no lock that is held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            let done = work(&tx);
            // SAFETY: takes a number; the child leaves without the parent's destructors.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        // The parent's copy of the sender goes.
        _ => Ok(rx),
    }
}
