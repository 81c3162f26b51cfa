//! The benchmarks, one module each: what they measure, and what they set beside it.

pub mod chan;
mod field;
pub mod goro;
pub mod groups;
mod plan;
pub mod proc;
pub mod start;

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::sample::{Entry, Rounds, Stats, take_turns};
use crate::workload::Work;

/// What to run of a benchmark that has parts.
#[derive(Debug, Clone)]
pub struct Options {
    /// A few seconds instead of minutes.
    pub quick: bool,
    /// Others beside ours, as far as this build and this machine have them.
    pub peers: bool,
    /// Parts whose names contain one of these words; all of them where there is none.
    pub only: Vec<String>,
}

impl Options {
    /// What to type to repeat it.
    fn command(&self, suite: &str) -> String {
        let mut command = format!("cargo xtask bench {suite}");
        for (is_set, word) in [(self.peers, " --peers"), (self.quick, " --quick")] {
            command += if is_set { word } else { "" };
        }
        for word in &self.only {
            command += &format!(" --only {word}");
        }
        command
    }
}

/// A bar on standard error where that is a terminal, otherwise nothing.
#[must_use]
pub fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} samples, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// How far one worker alone, who waits for nobody, was from taking the same time every time.
fn noise(alone: &Stats) -> String {
    let percent = alone.spread() * 100.0;
    let worst = (alone.max / alone.min - 1.0) * 100.0;
    let verdict = match percent {
        ..2.0 => "quiet",
        ..5.0 => "restless: differences of a few per cent mean nothing",
        _ => "noisy: repeat the run when nobody else works",
    };
    format!(
        "the machine was {verdict} (one worker alone: quartiles {percent:.1} % apart, slowest {worst:.0} % above fastest)"
    )
}

/// [`noise`] for a benchmark that has no worker alone: a tenth of a second of one, on a machine that is as it was for the others.
fn notes(quick: bool, note: &str) -> Result<Vec<String>> {
    let work = Work {
        workers: 1,
        numbers: 1_000_000,
    };
    let mut probe = [Entry::other("one worker alone", 1, || {
        let _sum = work.sum(0);
        Ok(())
    })];
    let stats = take_turns(
        &mut probe,
        Rounds::Exactly(if quick { 3 } else { 60 }),
        &ProgressBar::hidden(),
    )?;
    let mut notes = vec![note.to_owned()];
    notes.extend(stats.first().map(noise));
    notes.extend(quick.then(|| QUICK.to_owned()));
    Ok(notes)
}

/// What a quick run is not.
const QUICK: &str = "a quick run shows that everything works; compare nothing by it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_three_words() {
        let spread = |q3: f64| Stats {
            n: 3,
            mean: 1.0,
            median: 1.0,
            q1: 1.0,
            q3,
            min: 1.0,
            max: q3,
        };
        assert!(noise(&spread(1.01)).contains("quiet"));
        assert!(noise(&spread(1.03)).contains("restless"));
        assert!(noise(&spread(1.5)).contains("noisy"));
    }
}
