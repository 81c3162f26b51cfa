//! Samples: contenders take turns, and what each took becomes a median with its quartiles.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::Result;

/// One contender while it is measured.
pub struct Entry<'a> {
    /// Its name in the table.
    pub name: String,
    /// Whether it is of this workspace, rather than what it is set beside.
    pub ours: bool,
    /// How many operations one sample does; figures are per operation.
    pub operations: u64,
    /// Does them and says how long that took.
    pub sample: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

impl std::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("operations", &self.operations)
            .finish_non_exhaustive()
    }
}

impl<'a> Entry<'a> {
    /// A contender of this workspace whose sample is `operations` runs of `operation`.
    pub fn ours(name: &str, operations: u64, operation: impl FnMut() -> Result + 'a) -> Self {
        Self::repeat(name, true, operations, operation)
    }

    /// What ours is set beside, sampled the same way.
    pub fn other(name: &str, operations: u64, operation: impl FnMut() -> Result + 'a) -> Self {
        Self::repeat(name, false, operations, operation)
    }

    /// A contender that takes its own time, `operations` in each sample.
    pub fn timed(
        name: &str,
        ours: bool,
        operations: u64,
        sample: impl FnMut() -> Result<Duration> + 'a,
    ) -> Self {
        Self {
            name: name.to_owned(),
            ours,
            operations,
            sample: Box::new(sample),
        }
    }

    fn repeat(
        name: &str,
        ours: bool,
        operations: u64,
        mut operation: impl FnMut() -> Result + 'a,
    ) -> Self {
        let sample = move || {
            timed(|| {
                for _ in 0..operations {
                    operation()?;
                }
                Ok(())
            })
        };
        Self::timed(name, ours, operations, sample)
    }

    fn run(&mut self) -> Result<Duration> {
        (self.sample)().map_err(|error| format!("{}: {error}", self.name).into())
    }
}

/// How long `work` took.
///
/// # Errors
///
/// That of `work`.
pub fn timed(work: impl FnOnce() -> Result) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

/// How many rounds of samples to take.
#[derive(Debug, Clone, Copy)]
pub enum Rounds {
    /// This many.
    Exactly(usize),
    /// As many as fit into the time, and no fewer or more than these.
    Within {
        /// What all rounds together may take.
        budget: Duration,
        /// Fewer would have no spread.
        at_least: usize,
        /// More would show nothing new.
        at_most: usize,
    },
}

/// Warms every contender up with one sample that is not counted, then lets them take turns; every other round runs backwards and each
/// starts one further on, so that nobody always comes after the same one.
///
/// # Errors
///
/// That of a contender whose sample failed, with its name.
pub fn take_turns(
    entries: &mut [Entry<'_>],
    rounds: Rounds,
    progress: &ProgressBar,
) -> Result<Vec<Stats>> {
    let mut warm_up = Duration::ZERO;
    for entry in entries.iter_mut() {
        warm_up += timed(|| entry.run().map(drop))?;
    }
    let (rounds, at_least, end) = match rounds {
        Rounds::Exactly(rounds) => (rounds, rounds, None),
        Rounds::Within {
            budget,
            at_least,
            at_most,
        } => (
            fitting(budget, warm_up).clamp(at_least, at_most),
            at_least,
            Some(Instant::now() + budget),
        ),
    };
    let count = entries.len();
    progress.inc_length((rounds * count) as u64);
    let mut samples = vec![Vec::with_capacity(rounds); count];
    for round in 0..rounds {
        // The machine may have become slower since the warm-up.
        if round >= at_least && end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        for turn in 0..count {
            let turn = if round % 2 == 0 {
                turn
            } else {
                count - 1 - turn
            };
            let index = (turn + round) % count;
            let entry = &mut entries[index];
            let took = entry.run()?;
            samples[index].push(took.as_secs_f64() * 1e9 / entry.operations as f64);
            progress.inc(1);
        }
    }
    samples
        .into_iter()
        .map(|samples| Stats::of(samples).ok_or_else(|| "no samples were taken".into()))
        .collect()
}

fn fitting(budget: Duration, round: Duration) -> usize {
    (budget.as_secs_f64() / round.as_secs_f64().max(1e-9)) as usize
}

/// What became of the samples of one contender, in the unit that they were in: mostly nanoseconds per operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// How many samples.
    pub n: usize,
    /// Their arithmetic mean.
    pub mean: f64,
    /// Half of them took no longer.
    pub median: f64,
    /// A quarter of them took no longer.
    pub q1: f64,
    /// Three quarters of them took no longer.
    pub q3: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
}

impl Stats {
    /// The figures of these samples; none of nothing.
    ///
    /// ```
    /// use multi_bench::sample::Stats;
    ///
    /// let stats = Stats::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
    /// assert_eq!((stats.median, stats.min, stats.max), (2.5, 1.0, 4.0));
    /// ```
    #[must_use]
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        Some(Self {
            n: samples.len(),
            mean: samples.iter().sum::<f64>() / samples.len() as f64,
            median: quantile(&samples, 0.5),
            q1: quantile(&samples, 0.25),
            q3: quantile(&samples, 0.75),
            min: *samples.first()?,
            max: *samples.last()?,
        })
    }

    /// The same samples, each times `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            n: self.n,
            mean: self.mean * factor,
            median: self.median * factor,
            q1: self.q1 * factor,
            q3: self.q3 * factor,
            min: self.min * factor,
            max: self.max * factor,
        }
    }

    /// The distance of the quartiles as a part of the median: 0.02 is quiet.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.q3 - self.q1) / self.median
    }
}

/// The value below which this part of the sorted samples lies, interpolated between the two nearest; NaN of nothing.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = part * last as f64;
    let below = sorted[at.floor() as usize];
    let above = sorted[at.ceil() as usize];
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn quartiles_interpolate() {
        let stats = Stats::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]).expect("five samples");
        assert_eq!(
            (stats.q1, stats.median, stats.q3, stats.mean),
            (2.0, 3.0, 4.0, 3.0)
        );
        let stats = Stats::of(vec![1.0, 2.0]).expect("two samples");
        assert_eq!((stats.q1, stats.median, stats.q3), (1.25, 1.5, 1.75));
        assert_eq!(Stats::of(vec![7.0]).expect("one sample").spread(), 0.0);
        assert_eq!(Stats::of(Vec::new()), None);
    }

    #[test]
    fn times_scales_everything_but_the_count() {
        let stats = Stats::of(vec![1.0, 2.0, 3.0])
            .expect("three samples")
            .times(2.0);
        assert_eq!(
            stats,
            Stats::of(vec![2.0, 4.0, 6.0]).expect("three samples")
        );
    }

    #[test]
    fn everybody_gets_the_same_turns_and_no_fixed_place() {
        let order = RefCell::new(Vec::new());
        let mut entries: Vec<Entry<'_>> = ["a", "b", "c"]
            .map(|name| {
                let order = &order;
                Entry::ours(name, 1, move || {
                    order.borrow_mut().push(name);
                    Ok(())
                })
            })
            .into();
        let stats = take_turns(&mut entries, Rounds::Exactly(4), &ProgressBar::hidden())
            .expect("they do nothing");
        assert!(stats.iter().all(|stats| stats.n == 4));
        assert_eq!(
            order.borrow().concat(),
            "abc".to_owned() + "abc" + "acb" + "cab" + "cba"
        );
    }

    #[test]
    fn a_failing_contender_is_named() {
        let mut entries = [Entry::ours("broken", 1, || Err("no luck")?)];
        let error = take_turns(&mut entries, Rounds::Exactly(1), &ProgressBar::hidden())
            .expect_err("it fails");
        assert_eq!(error.to_string(), "broken: no luck");
    }

    #[test]
    fn contenders_that_become_slower_do_not_outstay_the_budget() {
        let mut runs = 0;
        let mut entries = [Entry::ours("tires", 1, || {
            runs += 1;
            std::thread::sleep(Duration::from_millis(if runs == 1 { 1 } else { 40 }));
            Ok(())
        })];
        let within = Rounds::Within {
            budget: Duration::from_millis(100),
            at_least: 1,
            at_most: 1_000,
        };
        let stats =
            take_turns(&mut entries, within, &ProgressBar::hidden()).expect("it only sleeps");
        // The warm-up promised a hundred rounds; at 40 ms each there is time for three, and the one under way ends.
        assert!((1..=3).contains(&stats[0].n), "{} rounds", stats[0].n);
    }

    #[test]
    fn rounds_follow_the_budget_within_their_bounds() {
        let rounds = |budget_ms| {
            let within = Rounds::Within {
                budget: Duration::from_millis(budget_ms),
                at_least: 2,
                at_most: 5,
            };
            let mut entries = [Entry::ours("sleeps", 1, || {
                std::thread::sleep(Duration::from_millis(5));
                Ok(())
            })];
            take_turns(&mut entries, within, &ProgressBar::hidden()).expect("it only sleeps")[0].n
        };
        assert_eq!(rounds(0), 2);
        assert_eq!(rounds(60_000), 5);
    }
}
