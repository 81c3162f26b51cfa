//! Green tasks beside other runtimes: each contender does the same work in a child process, they take turns, and what ours reached is
//! held against its targets.

mod plan;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::child::{Child, Sample};
use crate::machine::Machine;
use crate::report::Report;
use crate::sample::Stats;
use crate::sheet::{Cell, Line, Sheet};
use crate::suite::{notes, progress_bar};
use crate::{Result, go, peers};

pub use plan::NAMES;
use plan::{Part, Variant, Way};

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// A few seconds instead of minutes.
    pub quick: bool,
    /// Other runtimes, too, as far as this build has them, and Go.
    pub peers: bool,
    /// Parts whose names contain one of these words; all of them where there is none.
    pub only: Vec<String>,
}

/// Runs the parts chosen and reports.
///
/// # Errors
///
/// If no part has such a name. What a contender cannot do is part of the report.
pub fn run(options: &Options) -> Result<Report> {
    let machine = Machine::here();
    let mut parts = plan::parts(options.quick, machine.ncpu);
    if !options.only.is_empty() {
        parts.retain(|part| options.only.iter().any(|word| part.name.contains(&**word)));
    }
    if parts.is_empty() {
        let names = NAMES.join(", ");
        return Err(format!("no part of that name; there are: {names}").into());
    }
    let mut remarks = Vec::new();
    let field = Field {
        program: std::env::current_exe()?,
        go: match options.peers.then(go::program) {
            None => None,
            Some(Ok(program)) => Some(program),
            Some(Err(error)) => {
                remarks.push(format!("without Go: {error}"));
                None
            }
        },
        peers: options.peers,
    };
    let bar = progress_bar();
    bar.inc_length(parts.iter().map(|part| part.variants.len() as u64).sum());
    let (mut sheets, mut failures) = (Vec::new(), Vec::new());
    for part in &parts {
        sheets.extend(field.measure(part, options.quick, &bar, &mut failures));
    }
    bar.finish_and_clear();
    let mut command = "cargo xtask bench goro".to_owned();
    for (is_set, word) in [(options.peers, " --peers"), (options.quick, " --quick")] {
        command += if is_set { word } else { "" };
    }
    for word in &options.only {
        command += &format!(" --only {word}");
    }
    remarks.extend(notes(
        options.quick,
        "median ± half the distance of the quartiles; every contender is a process of its own, and they take turns",
    )?);
    Ok(Report {
        benchmark: "goro",
        command,
        machine,
        settings: vec![],
        tables: vec![],
        sheets,
        notes: remarks,
        failures,
    })
}

/// Who can be asked in this run.
struct Field {
    program: PathBuf,
    go: Option<PathBuf>,
    peers: bool,
}

impl Field {
    /// The command of a contender; none if it does not take part in this run.
    fn command(&self, contender: &str, job: &str) -> Option<Command> {
        if contender == plan::GO {
            let mut command = Command::new(self.go.as_ref()?);
            command.arg(job);
            return Some(command);
        }
        if !peers::has(contender) || !(self.peers || plan::OF_THE_HOUSE.contains(&contender)) {
            return None;
        }
        let mut command = Command::new(&self.program);
        command.args(["serve", contender, job]);
        Some(command)
    }

    /// A sheet for each figure of the part.
    fn measure(
        &self,
        part: &Part,
        quick: bool,
        bar: &ProgressBar,
        failures: &mut Vec<String>,
    ) -> Vec<Sheet> {
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
                .filter_map(|name| {
                    let command = self.command(name, &variant.job)?;
                    Some(Turn::new(name, command, variant, quick))
                })
                .collect();
            let turns = take(turns, variant, quick);
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
                if !quick {
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
                .filter(|turn| plan::OF_THE_HOUSE.contains(&turn.name))
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
    fn new(name: &'static str, command: Command, variant: &Variant, quick: bool) -> Self {
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
            trouble: None,
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

/// What the rounds of one variant may take, and how many there are.
const BUDGET: Duration = Duration::from_millis(1_200);
const ROUNDS_MIN: usize = 5;
const ROUNDS_MAX: usize = 15;

/// Lets everybody take turns; each round starts one further on.
fn take(mut turns: Vec<Turn>, variant: &Variant, quick: bool) -> Vec<Turn> {
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
        end.get_or_insert_with(|| Instant::now() + BUDGET);
    }
    turns
}
