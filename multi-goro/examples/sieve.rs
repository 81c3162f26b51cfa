//! The prime sieve: a chain of tasks, each of which lets pass what its prime does not divide.
//!
//!     cargo run -p multi-goro --example sieve -- 100
//!
//! Each prime adds a task and an unbuffered channel to the chain.

#![expect(clippy::print_stdout, reason = "prints its result")]

use multi_goro::{Group, Receiver, Result, chan};

fn main() -> Result {
    let count = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 20,
    };
    let mut group = Group::new();
    let (tx, mut numbers) = chan(0);
    // Ends when nobody receives any more.
    group.go(move || {
        for n in 2u64.. {
            if tx.send(n).is_err() {
                break;
            }
        }
        Ok(())
    });
    for _ in 0..count {
        let prime = numbers.recv()?;
        println!("{prime}");
        numbers = filter(&group, numbers, prime);
    }
    // The end of the chain goes, and with it one task after the other.
    drop(numbers);
    group.wait()?;
    Ok(())
}

fn filter(group: &Group, numbers: Receiver<u64>, prime: u64) -> Receiver<u64> {
    let (tx, rest) = chan(0);
    group.go(move || {
        for n in numbers {
            if n % prime != 0 && tx.send(n).is_err() {
                break;
            }
        }
        Ok(())
    });
    rest
}
