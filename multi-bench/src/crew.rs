//! A crew: workers, each a process or a thread of its own, that all do a lap when they are told. They stay between laps, so that a lap
//! finds them attached and warm, and sleep meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use multi_core::{DynGroup, Group as _, WaitTimeoutError};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::futex;

use crate::Result;
use crate::forked;
use crate::job::Lap;
use crate::sys::SharedWords;

/// What a worker does in a lap, told how many operations all of them shall do together.
pub(crate) type Worker = Box<dyn FnMut(u64) -> Result>;

/// What the workers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Forked from this process.
    Processes,
    /// Of this process.
    Threads,
}

/// What a worker's stack may grow to: large messages lie there on their way.
const STACK_BYTES: usize = 32 << 20;

/// Workers that wait for the next lap.
pub(crate) struct Crew {
    group: Box<dyn DynGroup>,
    board: Arc<Board>,
    size: u32,
}

impl Crew {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        Ok(Self {
            group: match kind {
                Kind::Processes => {
                    let mut limit = getrlimit(Resource::Stack);
                    limit.current = limit.current.map(|bytes| bytes.max(STACK_BYTES as u64));
                    setrlimit(Resource::Stack, limit)?;
                    forked::crew()
                }
                Kind::Threads => Box::new(
                    multi_pthread::Group::builder()
                        .stack_bytes(STACK_BYTES)
                        .build()?,
                ),
            },
            board: Arc::new(Board(SharedWords::new(WORDS)?)),
            size: 0,
        })
    }

    /// Starts a worker, which calls `attach` in its own process or thread, once, and what that returns in every lap.
    pub(crate) fn hire(
        &mut self,
        attach: impl FnOnce(&Arc<Board>) -> Result<Worker> + Send + 'static,
    ) {
        let board = Arc::clone(&self.board);
        self.size += 1;
        self.group.go(move || {
            let work = attach(&board).and_then(|mut work| board.work(&mut work));
            work.inspect_err(|error| board.complain(&error.to_string()))
        });
    }

    /// Waits until every worker is attached.
    pub(crate) fn ready(mut self) -> Result<Self> {
        let everybody = self.size;
        self.until(|board| &board.0.words()[ATTACHED], everybody)?;
        Ok(self)
    }

    /// One lap: everybody at once, from the word to go until the last has done its part.
    pub(crate) fn lap(&mut self, operations: u64) -> Result<Lap> {
        let board = Arc::clone(&self.board);
        let done = board.0.words()[DONE].load(Relaxed);
        board.0.words()[OPERATIONS].store(operations, Relaxed);
        let started = Instant::now();
        board.call();
        self.until(|board| &board.0.words()[DONE], done as u32 + self.size)?;
        Ok(Lap {
            operations,
            took: started.elapsed(),
        })
    }

    /// What a worker noted in the last lap.
    pub(crate) fn note(&self, index: usize) -> f64 {
        // Acquire in `until` made the notes visible.
        f64::from_bits(self.board.notes()[index].load(Relaxed))
    }

    /// Sleeps until the count is reached; wakes now and then to see whether everybody lives.
    fn until(&mut self, count: impl Fn(&Board) -> &AtomicU64, target: u32) -> Result {
        const LOOK_ROUND: futex::Timespec = futex::Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        loop {
            let told = self.board.told().load(Acquire);
            // Acquire: what workers noted before they counted themselves. Pairs with the Release in `Board::count`.
            if count(&self.board).load(Acquire) as u32 == target {
                return Ok(());
            }
            let told = futex::wait(
                self.board.told(),
                futex::Flags::empty(),
                told,
                Some(&LOOK_ROUND),
            );
            if told == Err(Errno::TIMEDOUT) {
                // Who has ended is found out by waiting.
                let ended = self.group.wait_timeout(Duration::ZERO);
                if ended.is_ok() || self.group.progress().finished > 0 {
                    return Err(self.trouble());
                }
            }
        }
    }

    /// What a worker that has ended has to say, or what ended it.
    fn trouble(&mut self) -> crate::BoxError {
        let complaint = self.board.complaint();
        if !complaint.is_empty() {
            return complaint.into();
        }
        // The others wait for it in vain.
        self.group.cancel_token().cancel();
        match self.group.wait_timeout(Duration::from_secs(5)) {
            Err(WaitTimeoutError::Failed(error)) => {
                let error = error.first().to_string();
                // Without its number and place.
                let how = error.rsplit_once("): ").map_or(&*error, |(_, how)| how);
                format!("a worker ended: {how}")
            }
            _ => "a worker died".to_owned(),
        }
        .into()
    }
}

/// Sends everybody home.
impl Drop for Crew {
    fn drop(&mut self) {
        self.board.0.words()[OPERATIONS].store(HOME, Relaxed);
        self.board.call();
        // Whoever is stuck with a contender that hangs is cancelled when the group is dropped.
        let _stuck = self.group.wait_timeout(Duration::from_secs(1));
    }
}

/// What the crew shares.
pub(crate) struct Board(SharedWords);

/// How often work was called for: what workers sleep on.
const CALLS: usize = 0;
/// How often a worker counted itself: what the crew's owner sleeps on.
const TOLD: usize = 8;
/// What the lap is.
const OPERATIONS: usize = 16;
/// How many workers have attached, and how many have done their part of a lap, ever.
const ATTACHED: usize = 24;
const DONE: usize = 25;
/// Figures of a lap.
const NOTES: usize = 32;
const NOTES_COUNT: usize = 8;
/// The first bytes of what a worker that gave up says: its length, then the text.
const COMPLAINT: usize = 64;
const COMPLAINT_WORDS: usize = 32;
const WORDS: usize = COMPLAINT + 1 + COMPLAINT_WORDS;
/// In place of a count of operations: the end.
const HOME: u64 = u64::MAX;

impl Board {
    fn calls(&self) -> &AtomicU32 {
        self.0.futex(CALLS)
    }

    fn told(&self) -> &AtomicU32 {
        self.0.futex(TOLD)
    }

    fn notes(&self) -> &[AtomicU64] {
        &self.0.words()[NOTES..NOTES + NOTES_COUNT]
    }

    /// Notes a figure of the lap that is under way.
    pub(crate) fn set_note(&self, index: usize, figure: f64) {
        // Relaxed: `count` releases it.
        self.notes()[index].store(figure.to_bits(), Relaxed);
    }

    fn call(&self) {
        // Release: publishes what the lap is. Pairs with the Acquire in `work`.
        self.calls().fetch_add(1, Release);
        // It cannot fail but for a bad address.
        let _woken = futex::wake(self.calls(), futex::Flags::empty(), i32::MAX as u32);
    }

    /// A worker's life.
    fn work(&self, work: &mut Worker) -> Result {
        let mut seen = 0;
        self.count(ATTACHED);
        loop {
            // Acquire: what the lap is. Pairs with the Release in `call`.
            let calls = self.calls().load(Acquire);
            if calls == seen {
                match futex::wait(self.calls(), futex::Flags::empty(), seen, None) {
                    Ok(()) | Err(Errno::AGAIN | Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            seen = calls;
            match self.0.words()[OPERATIONS].load(Relaxed) {
                HOME => return Ok(()),
                operations => work(operations)?,
            }
            self.count(DONE);
        }
    }

    fn count(&self, index: usize) {
        // Release: publishes the worker's notes. Pairs with the Acquire in `Crew::until`.
        self.0.words()[index].fetch_add(1, Release);
        self.told().fetch_add(1, Release);
        // It cannot fail but for a bad address.
        let _woken = futex::wake(self.told(), futex::Flags::empty(), 1);
    }

    fn complain(&self, text: &str) {
        let words = &self.0.words()[COMPLAINT..];
        let bytes = &text.as_bytes()[..text.len().min(COMPLAINT_WORDS * 8)];
        for (word, bytes) in words[1..].iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Relaxed);
        }
        // Release: publishes the text. Pairs with the Acquire in `complaint`. Of two that complain one is heard, or a mixture.
        words[0].store(bytes.len() as u64, Release);
    }

    fn complaint(&self) -> String {
        let words = &self.0.words()[COMPLAINT..];
        // Acquire: the text. Pairs with the Release in `complain`.
        let length = (words[0].load(Acquire) as usize).min(COMPLAINT_WORDS * 8);
        let bytes = words[1..]
            .iter()
            .flat_map(|word| word.load(Relaxed).to_ne_bytes());
        String::from_utf8_lossy(&bytes.take(length).collect::<Vec<_>>()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_does_every_lap_and_is_told_how_much() {
        let mut crew = Crew::new(Kind::Threads).expect("a group");
        for index in 0..3 {
            crew.hire(move |board| {
                let board = Arc::clone(board);
                let mut sum = 0;
                Ok(Box::new(move |operations| {
                    sum += operations;
                    board.set_note(index, sum as f64);
                    Ok(())
                }))
            });
        }
        let mut crew = crew.ready().expect("nobody fails");
        for (operations, sum) in [(5, 5.0), (7, 12.0)] {
            let lap = crew.lap(operations).expect("nobody fails");
            assert_eq!(lap.operations, operations);
            assert!((0..3).all(|index| crew.note(index) == sum));
        }
    }

    #[test]
    fn a_worker_that_gives_up_is_heard() {
        let mut crew = Crew::new(Kind::Threads).expect("a group");
        crew.hire(|_| Ok(Box::new(|_| Err("no more paper".into()))));
        crew.hire(|_| Ok(Box::new(|_| Ok(()))));
        let mut crew = crew.ready().expect("they attach");
        let error = crew.lap(1).expect_err("one gives up");
        assert_eq!(error.to_string(), "no more paper");
    }

    #[test]
    fn a_worker_that_cannot_attach_is_heard() {
        let mut crew = Crew::new(Kind::Threads).expect("a group");
        crew.hire(|_| Err("no such pen".into()));
        assert_eq!(
            crew.ready().err().expect("it cannot").to_string(),
            "no such pen"
        );
    }
}
