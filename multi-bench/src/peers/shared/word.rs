//! One word in shared memory that two processes write in turn and sleep on: what a round trip costs at least where both sleep.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

use rustix::io::Errno;
use rustix::thread::futex;

use super::{Shape, play, trips};
use crate::Result;
use crate::crew::{Crew, Kind};
use crate::job::{Job, Work};
use crate::sys::SharedWords;

pub(crate) fn perform(job: &Job) -> Result<Work> {
    if job.workload != "ping" {
        return job.unknown("a futex word");
    }
    let _shape = Shape::of(job)?;
    let page = Arc::new(SharedWords::new(1)?);
    let mut crew = Crew::new(Kind::Processes)?;
    let word = Arc::clone(&page);
    crew.hire(move |_| {
        Ok(Box::new(move |trips: u64| {
            let word = word.futex(0);
            for _ in 0..trips {
                let number = await_turn(word, Turn::Pong)?;
                pass(word, number, Turn::Ping);
            }
            Ok(())
        }))
    });
    crew.hire(move |board| {
        let board = Arc::clone(board);
        Ok(Box::new(move |trips: u64| {
            let word = page.futex(0);
            play(&board, trips, |number| {
                pass(word, number as u32, Turn::Pong);
                Ok(u64::from(await_turn(word, Turn::Ping)?))
            })
        }))
    });
    trips(job, crew.ready()?)
}

/// Whose turn it is, in the lowest bit; the number is in the others.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Ping = 0,
    Pong = 1,
}

fn pass(word: &AtomicU32, number: u32, to: Turn) {
    // Release: what was done before belongs to the number. Pairs with the Acquire in `await_turn`.
    word.store(number << 1 | to as u32, Release);
    // It cannot fail but for a bad address.
    let _woken = futex::wake(word, futex::Flags::empty(), 1);
}

fn await_turn(word: &AtomicU32, turn: Turn) -> Result<u32> {
    loop {
        // Acquire: pairs with the Release in `pass`.
        let now = word.load(Acquire);
        if now & 1 == turn as u32 {
            return Ok(now >> 1);
        }
        match futex::wait(word, futex::Flags::empty(), now, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
