//! What a child process is asked to measure: the words on its command line, the same for a Rust contender and for Go's program.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::Result;

/// A workload and its numbers: `pingpong workers=2`.
///
/// ```
/// use multi_bench::job::Job;
///
/// let job: Job = "start tasks=4 workers=2".parse()?;
/// assert_eq!((job.workload.as_str(), job.number("tasks")?), ("start", 4));
/// assert_eq!(job.number("cap").unwrap_err().to_string(), "start needs cap=NUMBER");
/// # Ok::<(), multi_bench::BoxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The workload's name.
    pub workload: String,
    numbers: BTreeMap<String, u64>,
}

impl Job {
    /// One of the numbers.
    ///
    /// # Errors
    ///
    /// If it was not given.
    pub fn number(&self, name: &str) -> Result<u64> {
        self.numbers
            .get(name)
            .copied()
            .ok_or_else(|| format!("{} needs {name}=NUMBER", self.workload).into())
    }

    /// One of the numbers, as a count of things in memory.
    ///
    /// # Errors
    ///
    /// If it was not given.
    pub fn count(&self, name: &str) -> Result<usize> {
        Ok(usize::try_from(self.number(name)?)?)
    }

    /// What a contender says of a workload that it has nothing for.
    pub(crate) fn unknown<T>(&self, contender: &str) -> Result<T> {
        Err(format!("{contender} has nothing for {}", self.workload).into())
    }
}

impl FromStr for Job {
    type Err = crate::BoxError;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let workload = words.next().ok_or("no workload")?.to_owned();
        let numbers = words
            .map(|word| {
                let (name, number) = word
                    .split_once('=')
                    .ok_or_else(|| format!("{word:?} is not name=NUMBER"))?;
                Ok((name.to_owned(), number.parse()?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { workload, numbers })
    }
}

/// What a contender does for a job.
pub enum Work {
    /// A loop of so many operations, or a few more; how many fill a sample is found by trying.
    Loop(Box<dyn FnMut(u64) -> Result<Lap>>),
    /// Something whose size the job fixes, with several figures.
    Once(Box<dyn FnMut() -> Result<Figures>>),
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loop(_) => "Loop",
            Self::Once(_) => "Once",
        })
    }
}

impl Work {
    /// A [`Loop`](Self::Loop).
    pub fn lap(work: impl FnMut(u64) -> Result<Lap> + 'static) -> Self {
        Self::Loop(Box::new(work))
    }

    /// A [`Once`](Self::Once).
    pub fn once(work: impl FnMut() -> Result<Figures> + 'static) -> Self {
        Self::Once(Box::new(work))
    }
}

/// One run of a loop.
#[derive(Debug, Clone, Copy)]
pub struct Lap {
    /// How many operations it was in the end.
    pub operations: u64,
    /// What they took together.
    pub took: Duration,
}

/// What was measured, each in the unit that the plan says.
pub type Figures = Vec<(&'static str, f64)>;

/// The only figure of a [`Work::Loop`]: nanoseconds per operation.
pub const NS: &str = "ns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_numbers_are_named() {
        for (text, error) in [
            ("", "no workload"),
            ("start tasks", "\"tasks\" is not name=NUMBER"),
            ("start tasks=many", "invalid digit found in string"),
        ] {
            assert_eq!(text.parse::<Job>().unwrap_err().to_string(), error);
        }
    }
}
