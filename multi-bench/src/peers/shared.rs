//! Channels beside each other: every contender sends the same messages between the same workers, which are processes unless its
//! name says that it is for threads.
//!
//! A message is so many words that all hold its number. The sender writes every word and the receiver reads every word, so what
//! is measured is bytes that are made on one side and used on the other, whatever happens to them between.

mod kernel;
mod memory;
mod multi;
mod word;

#[cfg(feature = "peers")]
mod crossbeam;
#[cfg(feature = "peers")]
mod iceoryx2;
#[cfg(feature = "peers")]
mod ipc_channel;
#[cfg(feature = "peers")]
mod ipmpsc;
#[cfg(feature = "peers")]
mod rtrb;
#[cfg(feature = "peers")]
mod shmem_ipc;

use std::sync::Arc;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;
use crate::crew::{Board, Crew, Kind, Worker};
use crate::job::{Job, Work};
use crate::peers::{Perform, trips};

/// The contenders of this build.
pub(super) const CONTENDERS: &[(&str, Perform)] = &[
    ("multi-chan", multi::copies),
    ("multi-chan SPSC", multi::one_to_one),
    ("multi-chan loans", multi::loans),
    ("multi-chan bytes", multi::bytes),
    ("multi-chan batch", multi::batches),
    ("multi-chan threads", multi::threads),
    ("std threads", kernel::std_threads),
    ("pipe", kernel::pipe),
    ("socketpair", kernel::socket_pair),
    ("POSIX mq", kernel::posix_queue),
    ("futex word", word::perform),
    ("memcpy", memory::copy),
    ("write+read", memory::write_and_read),
    #[cfg(feature = "peers")]
    ("crossbeam threads", crossbeam::perform),
    #[cfg(feature = "peers")]
    ("rtrb threads", rtrb::perform),
    #[cfg(feature = "peers")]
    ("ipc-channel", ipc_channel::perform),
    #[cfg(feature = "peers")]
    ("iceoryx2", iceoryx2::perform),
    #[cfg(feature = "peers")]
    ("shmem-ipc", shmem_ipc::perform),
    #[cfg(feature = "peers")]
    ("ipmpsc", ipmpsc::perform),
];

/// The end of a channel that messages go in at.
pub(crate) trait Put {
    /// Makes a message of this number and sends it.
    fn put(&mut self, number: u64) -> Result;

    /// Sends so many, numbered by this putter.
    fn put_all(&mut self, putter: u64, count: u64) -> Result {
        (0..count).try_for_each(|index| self.put(numbered(index, putter)))
    }
}

/// The end of a channel that messages come out of.
pub(crate) trait Take {
    /// Takes a message, reads it to its end, and says its number.
    fn take(&mut self) -> Result<u64>;

    /// Takes so many.
    fn take_all(&mut self, count: u64, order: &mut Order) -> Result {
        (0..count).try_for_each(|_| order.see(self.take()?))
    }
}

/// What a job asks of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How many put, and how many take.
    pub(crate) pairs: u64,
    /// A message.
    pub(crate) bytes: usize,
    /// How many messages the channel has room for, where that can be chosen.
    pub(crate) slots: usize,
}

impl Shape {
    /// For streams and ping-pongs; the latter have one message at each end.
    pub(crate) fn of(job: &Job) -> Result<Self> {
        if job.number("pinned").is_ok_and(|pinned| pinned == 1) {
            pin_to_one()?;
        }
        Ok(match &*job.workload {
            "stream" => Self {
                pairs: job.number("pairs")?,
                bytes: job.count("bytes")?,
                slots: job.count("cap")?,
            },
            "ping" => Self {
                pairs: 1,
                bytes: 8,
                slots: 1,
            },
            _ => return job.unknown("a channel"),
        })
    }

    /// Words of a message.
    pub(crate) fn words(self) -> usize {
        self.bytes / 8
    }

    /// Refuses more than one sender and one receiver, saying what the channel is for.
    pub(crate) fn one_pair(self, channel: &'static str) -> Result<Self> {
        match self.pairs {
            1 => Ok(self),
            _ => Err(channel.into()),
        }
    }
}

/// Messages of one size: calls a generic function with the number of words. A second function is for long messages, which by value would
/// be copied from one stack frame to the next.
macro_rules! by_words {
    ($shape:expr, $short:ident($($argument:expr),*)) => {
        match $shape.words() {
            1 => $short::<1>($($argument),*),
            8 => $short::<8>($($argument),*),
            128 => $short::<128>($($argument),*),
            words => Err(format!("messages of {words} words are not passed by value").into()),
        }
    };
    ($shape:expr, $short:ident($($argument:expr),*), $long:ident($($long_argument:expr),*)) => {
        match $shape.words() {
            8_192 => $long::<8_192>($($long_argument),*),
            131_072 => $long::<131_072>($($long_argument),*),
            _ => by_words!($shape, $short($($argument),*)),
        }
    };
}
pub(crate) use by_words;

/// This process, and what it forks, on one processor.
fn pin_to_one() -> Result {
    let all = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rfind(|cpu| all.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.ok_or("no processor")?);
    Ok(sched_setaffinity(None, &one)?)
}

/// Up to eight putters count for themselves.
fn numbered(index: u64, putter: u64) -> u64 {
    index << 3 | putter
}

/// The next message of each putter that would be in order; with several takers some go to the others.
#[derive(Debug, Default)]
pub(crate) struct Order([u64; 8]);

impl Order {
    /// Looks at a message's number.
    pub(crate) fn see(&mut self, number: u64) -> Result {
        let next = &mut self.0[(number & 7) as usize];
        let index = number >> 3;
        if index < *next {
            return Err(
                format!("message {index} of a sender came when {next} or later was next").into(),
            );
        }
        *next = index + 1;
        Ok(())
    }
}

/// Writes a message of this number.
pub(crate) fn write(words: &mut [u64], number: u64) {
    words.fill(number);
}

/// Reads a message to its end and says its number.
pub(crate) fn read(words: &[u64]) -> Result<u64> {
    let number = *words.first().ok_or("an empty message")?;
    let different = words.iter().fold(0, |all, word| all | (word ^ number));
    if different == 0 {
        Ok(number)
    } else {
        Err(format!("message {} is torn", number >> 3).into())
    }
}

/// [`read`] of bytes that may lie anywhere.
pub(crate) fn read_bytes(bytes: &[u8]) -> Result<u64> {
    let (words, rest) = bytes.as_chunks::<8>();
    let number = u64::from_ne_bytes(*words.first().ok_or("an empty message")?);
    let different = words
        .iter()
        .fold(0, |all, word| all | (u64::from_ne_bytes(*word) ^ number));
    if different == 0 && rest.is_empty() {
        Ok(number)
    } else {
        Err(format!("message {} is torn", number >> 3).into())
    }
}

/// Messages in one direction: a worker for each of `puts` and each of `takes`, which become the ends in the worker.
pub(crate) fn stream<P: Put + 'static, T: Take + 'static>(
    kind: Kind,
    puts: impl IntoIterator<Item = impl FnOnce() -> Result<P> + Send + 'static>,
    takes: impl IntoIterator<Item = impl FnOnce() -> Result<T> + Send + 'static>,
) -> Result<Work> {
    let mut crew = Crew::new(kind)?;
    let (puts, takes): (Vec<_>, Vec<_>) = (puts.into_iter().collect(), takes.into_iter().collect());
    let pairs = puts.len() as u64;
    // Receivers first: some channels forget what is sent before.
    for take in takes {
        crew.hire(move |_| {
            let mut take = take()?;
            let work =
                move |messages: u64| take.take_all(messages.div_ceil(pairs), &mut Order::default());
            Ok(Box::new(work) as Worker)
        });
    }
    for (putter, put) in (0..).zip(puts) {
        crew.hire(move |_| {
            let mut put = put()?;
            let work = move |messages: u64| put.put_all(putter, messages.div_ceil(pairs));
            Ok(Box::new(work) as Worker)
        });
    }
    let mut crew = crew.ready()?;
    Ok(Work::lap(move |messages| {
        let mut lap = crew.lap(messages)?;
        lap.operations = messages.div_ceil(pairs) * pairs;
        Ok(lap)
    }))
}

/// Round trips that a sample has at least, so that it has a hundredth of them.
const TRIPS_MIN: u64 = 2_000;

/// Messages to and fro between two workers, who wait as the channel has them wait; each trip is timed.
pub(crate) fn ping_pong<P: Put + 'static, T: Take + 'static>(
    kind: Kind,
    job: &Job,
    ping: impl FnOnce() -> Result<(P, T)> + Send + 'static,
    pong: impl FnOnce() -> Result<(P, T)> + Send + 'static,
) -> Result<Work> {
    let mut crew = Crew::new(kind)?;
    crew.hire(move |_| {
        let (mut put, mut take) = pong()?;
        let work = move |trips: u64| (0..trips).try_for_each(|_| put.put(take.take()?));
        Ok(Box::new(work) as Worker)
    });
    crew.hire(move |board| {
        let board = Arc::clone(board);
        let (mut put, mut take) = ping()?;
        let work = move |trips: u64| {
            play(&board, trips, |trip| {
                put.put(trip)?;
                take.take()
            })
        };
        Ok(Box::new(work) as Worker)
    });
    trips(job, crew.ready()?)
}

/// A sample of round trips: half of them, 99 of 100, and the mean.
pub(crate) fn trips(job: &Job, mut crew: Crew) -> Result<Work> {
    let least = job.number("ms").map_or(TRIPS_MIN, |_| TRIPS_MIN / 20);
    // The first lap warms up. As many as take 100 ms then: two sides that wake on one processor while another is idle are parted by the
    // kernel within 50 ms, and a dialogue that goes on is what is measured.
    crew.lap(least)?;
    let trial = crew.lap(least)?;
    let trip_ns = trial.took.as_secs_f64() * 1e9 / least as f64;
    let trips = ((100e6 / trip_ns) as u64).clamp(least, 100 * least);
    Ok(Work::once(move || {
        crew.lap(trips)?;
        Ok(vec![
            ("p50", crew.note(0)),
            ("p99", crew.note(1)),
            ("mean", crew.note(2)),
        ])
    }))
}

/// The side that serves: plays so many trips and notes what they took.
pub(crate) fn play(board: &Board, count: u64, trip: impl FnMut(u64) -> Result<u64>) -> Result {
    for (index, (_, figure)) in trips::time(count, trip)?.into_iter().enumerate() {
        board.set_note(index, figure);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_message_is_noticed() {
        let mut order = Order::default();
        for number in [numbered(0, 1), numbered(0, 2), numbered(3, 1)] {
            order.see(number).expect("in order");
        }
        let error = order.see(numbered(3, 1)).expect_err("it came before");
        assert_eq!(
            error.to_string(),
            "message 3 of a sender came when 4 or later was next"
        );
    }

    #[test]
    fn a_torn_message_is_noticed() {
        let mut words = [0; 8];
        write(&mut words, numbered(5, 3));
        assert_eq!(read(&words).expect("whole"), numbered(5, 3));
        words[7] = 0;
        assert_eq!(
            read(&words).expect_err("torn").to_string(),
            "message 5 is torn"
        );
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(read_bytes(&bytes).is_err());
        assert_eq!(read_bytes(&bytes[..56]).expect("whole"), numbered(5, 3));
    }
}
