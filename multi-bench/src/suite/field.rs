//! Contenders at the parts of a plan: each in a child process, and they take turns.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::child::{Child, Sample};
use crate::sample::Stats;
use crate::sheet::{Cell, Line, Sheet};
use crate::suite::Options;
use crate::suite::plan::{Part, Variant, Way};
use crate::{Result, peers};

/// What a reader of the sheets should know.
pub(super) const TURNS: &str = "median ± half the distance of the quartiles; every contender is a process of its own, and they take turns";

/// Who can be asked in this run.
pub(super) struct Field {
    program: PathBuf,
    outsiders: Vec<Outsider>,
    /// Contenders that are there without peers.
    house: &'static [&'static str],
    /// Those of them whose trouble is a failure of the run.
    ours: fn(&str) -> bool,
    peers: bool,
    quick: bool,
}

/// A contender that is a program of its own.
pub(super) struct Outsider {
    name: &'static str,
    /// Program and first arguments, or why there is none; the job comes last.
    command: Result<Vec<OsString>, String>,
}

impl Outsider {
    pub(super) fn new(name: &'static str, program: impl Into<OsString>) -> Self {
        Self {
            name,
            command: Ok(vec![program.into()]),
        }
    }

    /// One whose program takes other words before the job, or is not to be had.
    pub(super) fn with_words(name: &'static str, command: Result<Vec<OsString>, String>) -> Self {
        Self { name, command }
    }
}

/// A place in a variant's round.
enum Seat {
    Taken(Command),
    Empty(String),
}

impl Field {
    /// Everybody of this build who is asked for, without outsiders.
    pub(super) fn new(
        options: &Options,
        house: &'static [&'static str],
        ours: fn(&str) -> bool,
    ) -> Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            outsiders: vec![],
            house,
            ours,
            peers: options.peers,
            quick: options.quick,
        })
    }

    pub(super) fn admit(&mut self, outsider: Outsider) {
        self.outsiders.push(outsider);
    }

    /// The sheets of all parts, and what ours could not do.
    pub(super) fn measure_all(
        &self,
        parts: &[Part],
        bar: &ProgressBar,
    ) -> (Vec<Sheet>, Vec<String>) {
        bar.inc_length(parts.iter().map(|part| part.variants.len() as u64).sum());
        let (mut sheets, mut failures) = (Vec::new(), Vec::new());
        for part in parts {
            sheets.extend(self.measure(part, bar, &mut failures));
        }
        (sheets, failures)
    }

    /// The command of a contender; none if it does not take part in this run.
    fn seat(&self, contender: &str, job: &str) -> Option<Seat> {
        let outsider = self.outsiders.iter().find(|known| known.name == contender);
        if let Some(Outsider { command, .. }) = outsider {
            return Some(match command {
                Err(why) => Seat::Empty(why.clone()),
                Ok(words) => {
                    let mut command = Command::new(words.first()?);
                    command.args(&words[1..]).arg(job);
                    Seat::Taken(command)
                }
            });
        }
        if !peers::has(contender) || !(self.peers || self.house.contains(&contender)) {
            return None;
        }
        let mut command = Command::new(&self.program);
        command.args(["serve", contender, job]);
        Some(Seat::Taken(command))
    }

    /// A sheet for each figure of the part.
    fn measure(&self, part: &Part, bar: &ProgressBar, failures: &mut Vec<String>) -> Vec<Sheet> {
        let mut sheets: Vec<Sheet> = part
            .figures
            .iter()
            .map(|figure| Sheet {
                title: figure.title.to_owned(),
                unit: figure.unit,
                lines: vec![],
            })
            .collect();
        for variant in &part.variants {
            let turns: Vec<Turn> = variant
                .contenders
                .iter()
                .filter_map(|name| Some((name, self.seat(name, &variant.job)?)))
                .map(|(name, seat)| Turn::new(name, seat, variant, self.quick))
                .collect();
            let turns = take(turns, variant, part.budget, self.quick);
            for (sheet, figure) in sheets.iter_mut().zip(&part.figures) {
                let mut line = Line {
                    label: variant.label.clone(),
                    cells: turns
                        .iter()
                        .map(|turn| (turn.name, turn.cell(figure.name)))
                        .collect(),
                    verdicts: vec![],
                };
                // What a quick run takes is no figure to judge.
                if !self.quick {
                    let targets: Vec<_> = variant
                        .targets
                        .iter()
                        .filter(|(name, ..)| *name == figure.name)
                        .map(|(_, who, target)| (*who, *target))
                        .collect();
                    line.judge(&targets, figure.unit, &sheet.lines);
                }
                sheet.lines.push(line);
            }
            for turn in turns
                .iter()
                .filter(|turn| self.house.contains(&turn.name) && (self.ours)(turn.name))
            {
                if let Some(trouble) = &turn.trouble {
                    let (name, label) = (turn.name, &variant.label);
                    failures.push(format!("{name}, {} ({label}): {trouble}", part.name));
                }
            }
            bar.inc(1);
        }
        sheets
    }
}

/// One contender at one variant.
struct Turn {
    name: &'static str,
    /// A fresh process for each sample, or one for all.
    way: Way,
    command: Box<dyn FnMut() -> Command>,
    patience: Duration,
    child: Option<Child>,
    samples: Vec<Sample>,
    trouble: Option<String>,
}

impl Turn {
    fn new(name: &'static str, seat: Seat, variant: &Variant, quick: bool) -> Self {
        let (command, trouble) = match seat {
            Seat::Taken(command) => (command, None),
            Seat::Empty(why) => (Command::new(""), Some(why)),
        };
        let program = command.get_program().to_owned();
        let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        if let Some(job) = args.last_mut().filter(|_| quick) {
            job.push(" ms=1");
        }
        Self {
            name,
            way: variant.way,
            command: Box::new(move || {
                let mut command = Command::new(&program);
                command.args(&args);
                command
            }),
            patience: variant.patience,
            child: None,
            samples: vec![],
            trouble,
        }
    }

    /// Takes a sample, unless there was trouble before.
    fn sample(&mut self) {
        if self.trouble.is_some() {
            return;
        }
        match self.try_sample() {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                self.trouble = Some(error.to_string());
                self.child = None;
            }
        }
    }

    fn try_sample(&mut self) -> Result<Sample> {
        let child = match &mut self.child {
            Some(child) => child,
            slot => {
                let mut child = Child::start((self.command)(), self.patience)?;
                if matches!(self.way, Way::Turns) {
                    // The first is for warming up.
                    child.sample()?;
                }
                slot.insert(child)
            }
        };
        let sample = child.sample()?;
        if matches!(self.way, Way::Fresh(_)) {
            self.child = None;
        }
        Ok(sample)
    }

    fn cell(&self, figure: &str) -> Cell {
        let samples = self.samples.iter().filter_map(|sample| sample.get(figure));
        match (&self.trouble, Stats::of(samples.copied().collect())) {
            (Some(trouble), _) => Cell::Cannot(trouble.clone()),
            (None, Some(stats)) => Cell::Measured(stats),
            (None, None) => Cell::Cannot("has no such figure".to_owned()),
        }
    }
}

/// How many rounds one variant has.
const ROUNDS_MIN: usize = 5;
const ROUNDS_MAX: usize = 15;

/// Lets everybody take turns; each round starts one further on.
fn take(mut turns: Vec<Turn>, variant: &Variant, budget: Duration, quick: bool) -> Vec<Turn> {
    let (at_least, at_most) = match variant.way {
        _ if quick => (1, 1),
        Way::Turns => (ROUNDS_MIN, ROUNDS_MAX),
        Way::Fresh(rounds) => (rounds, rounds),
    };
    let count = turns.len();
    let mut end = None;
    for round in 0..at_most {
        if round >= at_least && end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        for turn in 0..count {
            turns[(turn + round) % count].sample();
        }
        // The first round starts the children.
        end.get_or_insert_with(|| Instant::now() + budget);
    }
    turns
}
