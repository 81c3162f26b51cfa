//! A prime sieve: one thread per prime, each passing on what its prime does not divide.
//!
//! `cargo run -p multi-chan --example prime_sieve -- 30`

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use multi_chan::{Error, Receiver, channel};
use std::{env, thread};

fn main() -> Result<(), Error> {
    let count = env::args()
        .nth(1)
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(20);
    let (tx, mut numbers) = channel::<u64>(64)?;
    // Ends when the first filter is gone.
    thread::spawn(move || (2..).try_for_each(|number| tx.send(number)));
    for _ in 0..count {
        let Ok(prime) = numbers.recv() else { break };
        println!("{prime}");
        numbers = filter(prime, numbers)?;
    }
    Ok(())
}

/// Starts a thread that passes on the numbers that `prime` does not divide.
fn filter(prime: u64, numbers: Receiver<u64>) -> Result<Receiver<u64>, Error> {
    let (tx, rest) = channel(64)?;
    thread::spawn(move || {
        let mut rest = numbers.into_iter().filter(|number| number % prime != 0);
        rest.try_for_each(|number| tx.send(number))
    });
    Ok(rest)
}
