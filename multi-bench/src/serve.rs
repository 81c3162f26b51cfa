//! The child's side of a measurement: a contender in a process of its own, which takes one sample for each line it reads.
//!
//! ```text
//!  parent                         child
//!  starts it                 ──▶  warms up, finds out how many operations fill a sample
//!                            ◀──  {"ready":true}
//!  an empty line             ──▶  takes a sample
//!                            ◀──  {"ns":123.4}
//!  .. the other contenders, then again; in the end it closes the pipe ──▶ leaves
//! ```
//!
//! Instead of an answer a child may say `{"cannot":"why"}`. Go's program speaks the same.

use std::io::{self, BufRead as _, Write as _};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::job::{Job, NS, Work};
use crate::peers;

/// What a sample of a loop should take, unless the job says so in milliseconds (`ms=5`).
const SAMPLE: Duration = Duration::from_millis(20);

/// Serves until the parent closes the pipe.
///
/// # Errors
///
/// If the answers cannot be written.
pub fn run(contender: &str, job: &str) -> Result {
    panic::set_hook(Box::new(end));
    match serve(contender, job) {
        Err(Failure::Work(error)) => say(&json!({"cannot": error.to_string()})),
        Err(Failure::Pipe(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

/// A panic ends the process at once, and is the answer: in a task it might leave the others, and us, waiting for ever.
fn end(panic: &PanicHookInfo<'_>) {
    let why = panic.payload_as_str().unwrap_or("for no reason given");
    let _unheard = say(&json!({"cannot": format!("panicked: {why}")}));
    process::abort();
}

enum Failure {
    Work(crate::BoxError),
    Pipe(io::Error),
}

impl From<crate::BoxError> for Failure {
    fn from(error: crate::BoxError) -> Self {
        Self::Work(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Pipe(error)
    }
}

fn serve(contender: &str, job: &str) -> Result<(), Failure> {
    let job: Job = job.parse()?;
    let sample = job.number("ms").map_or(SAMPLE, Duration::from_millis);
    let mut take: Box<dyn FnMut() -> Result<Value>> = match peers::find(contender)?(&job)? {
        Work::Loop(mut work) => {
            let operations = filling(sample, &mut work)?;
            Box::new(move || {
                let lap = work(operations)?;
                Ok(json!({NS: lap.took.as_secs_f64() * 1e9 / lap.operations as f64}))
            })
        }
        Work::Once(mut work) => Box::new(move || {
            let figures = work()?
                .into_iter()
                .map(|(name, figure)| (name.to_owned(), json!(figure)));
            Ok(Value::Object(figures.collect::<Map<_, _>>()))
        }),
    };
    say(&json!({"ready": true})).map_err(Failure::Work)?;
    for line in io::stdin().lock().lines() {
        line?;
        say(&take()?).map_err(Failure::Work)?;
    }
    Ok(())
}

/// How many operations fill a sample: doubles until one is half full, which warms everything up, too. A lap may have been long because
/// somebody else had the processor: another one has to agree.
fn filling(sample: Duration, work: &mut dyn FnMut(u64) -> Result<crate::job::Lap>) -> Result<u64> {
    let mut operations = 1;
    loop {
        let mut lap = work(operations)?;
        if lap.took >= sample / 2 && lap.took < 10 * sample {
            let again = work(operations)?;
            if again.took < lap.took {
                lap = again;
            }
        }
        // Fewer than asked for: a work of one size, which fills no more of a sample.
        if lap.took >= sample / 2 || lap.operations < operations {
            let filling = lap.operations as f64 * sample.as_secs_f64() / lap.took.as_secs_f64();
            return Ok((filling as u64).max(1));
        }
        operations = lap.operations.max(operations) * 2;
    }
}

fn say(answer: &Value) -> Result {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Lap;

    #[test]
    fn a_sample_is_filled_by_doubling_and_then_to_the_brim() {
        let mut work = |operations: u64| {
            Ok(Lap {
                operations,
                took: Duration::from_micros(operations),
            })
        };
        assert_eq!(
            filling(Duration::from_millis(1), &mut work).expect("it only counts"),
            1_000
        );
    }

    #[test]
    fn a_work_of_one_size_is_not_asked_for_more_for_ever() {
        let mut work = |_| {
            Ok(Lap {
                operations: 200,
                took: Duration::from_micros(100),
            })
        };
        let filling = filling(Duration::from_millis(1), &mut work).expect("it only counts");
        assert_eq!(filling, 2_000);
    }

    #[test]
    fn a_lap_that_was_held_up_does_not_count() {
        let mut laps = 0;
        let mut work = |operations: u64| {
            laps += 1;
            Ok(Lap {
                operations,
                took: Duration::from_micros(if laps == 1 { 2_000 } else { operations }),
            })
        };
        assert_eq!(
            filling(Duration::from_millis(1), &mut work).expect("it only counts"),
            1_000
        );
    }

    #[test]
    fn work_that_cannot_be_divided_is_done_once() {
        let mut runs = 0;
        let mut work = |_| {
            runs += 1;
            Ok(Lap {
                operations: 5,
                took: Duration::from_secs(1),
            })
        };
        assert_eq!(
            filling(Duration::from_millis(1), &mut work).expect("it only counts"),
            1
        );
        assert_eq!(runs, 1);
    }
}
