//! The seed's benchmark: one execution is a group of workers, each adding up random numbers.
//!
//! Beside every backend stands the ideal: what one worker takes alone, times the workers, over the processors.

use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::child::Child;
use crate::contender::GROUPS;
use crate::go;
use crate::machine::Machine;
use crate::report::{Report, Row, Table, Unit};
use crate::sample::{Entry, Rounds, take_turns, timed};
use crate::suite::{QUICK, noise, progress_bar};
use crate::workload::Work;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// One execution.
    pub work: Work,
    /// How many executions per contender; none chooses as many as fit.
    pub n: Option<usize>,
    /// Go, too.
    pub peers: bool,
    /// A few seconds instead of the better part of a minute.
    pub quick: bool,
}

/// The contender that is no group: one worker, nobody beside it.
const ALONE: &str = "one worker alone";
/// Why every execution comes after a lone worker's, which is not counted. After another group, three of four workers were seen to begin
/// on their parent's processor, and the balance came milliseconds later: a loss of up to 20 % decided by whoever ran before, for the
/// standard library as for everybody. After a parent that has been computing the loss is smaller. (2 processors, Linux 6.18, 50 to 80
/// rounds: the standard library and multi-pthread took 1.01 × ideal where they came first after a lone worker, 1.07 to 1.17 where not.
/// That the kernel takes a processor whose thread comes from sleep for one with room is our reading of it.)
const LEAD_IN: &str = "each execution comes after a lone worker's on the same thread: what ran before decides where its workers begin";
/// The row everything is compared with.
const IDEAL: &str = "ideal";
/// What Go does, beside peers.
const GO: &str = "Go, sync.WaitGroup";
/// What the standard library does.
const STD: &str = "std::thread::scope";

/// What all executions may take together, so that a run without options ends well within a minute.
const BUDGET: Duration = Duration::from_secs(40);
const QUICK_BUDGET: Duration = Duration::from_secs(2);
/// As many as the seed does.
const EXECUTIONS_MAX: usize = 100;

/// Runs every contender and reports.
///
/// # Errors
///
/// That of a contender whose execution failed.
pub fn run(options: Options) -> Result<Report> {
    let Options {
        work,
        n,
        quick,
        peers,
    } = options;
    let machine = Machine::here();
    let mut entries = vec![Entry::other(ALONE, 1, move || {
        let _sum = work.sum(0);
        Ok(())
    })];
    entries.extend(GROUPS.iter().map(|contender| {
        Entry::timed(contender.name, contender.ours, 1, move || {
            // See `LEAD_IN`.
            let _sum = work.sum(0);
            timed(|| (contender.run)(work))
        })
    }));
    let mut without = None;
    if peers {
        match in_go(work) {
            Ok(entry) => entries.push(entry),
            Err(error) => without = Some(format!("without Go: {error}")),
        }
    }
    let budget = if quick { QUICK_BUDGET } else { BUDGET };
    let rounds = n.map_or(
        Rounds::Within {
            budget,
            at_least: 3,
            at_most: EXECUTIONS_MAX,
        },
        Rounds::Exactly,
    );
    let bar = progress_bar();
    let stats = take_turns(&mut entries, rounds, &bar)?;
    bar.finish_and_clear();
    let alone = stats[0];
    // More processors than workers leave some idle: the ideal is then one worker alone.
    let parallel = machine.ncpu.min(work.workers);
    let ideal = alone.times(work.workers as f64 / parallel as f64);
    let mut rows = vec![Row::new(IDEAL, false, ideal)];
    rows.extend(
        entries
            .iter()
            .zip(&stats)
            .skip(1)
            .map(|(entry, stats)| Row::new(entry.name.clone(), entry.ours, *stats)),
    );
    let mut table = Table::new(
        "one execution: every worker adds up its random numbers",
        Unit::Us,
        rows,
    );
    table.compare(IDEAL, IDEAL, |_| true);
    table.compare(STD, STD, |row| row.ours);
    table.compare(GO, "Go", |row| row.ours);
    let mut command = "cargo xtask bench".to_owned();
    for (is_set, word) in [(peers, " --peers"), (quick, " --quick")] {
        command += if is_set { word } else { "" };
    }
    command += &format!(
        " --workers {} --numbers {} -n {}",
        work.workers, work.numbers, alone.n
    );
    let mut notes = vec![
        format!(
            "ideal: one worker alone ({:.0} µs) × {} workers / {parallel} processors, measured in the same run",
            alone.median / 1e3,
            work.workers
        ),
        noise(&alone),
    ];
    notes.extend(table.ratio(STD, IDEAL).map(of_the_machine));
    notes.push(LEAD_IN.to_owned());
    notes.extend(without);
    notes.extend(quick.then(|| QUICK.to_owned()));
    Ok(Report {
        benchmark: "groups",
        command,
        notes,
        settings: vec![
            ("workers", work.workers as u64),
            ("numbers", work.numbers),
            ("n", alone.n as u64),
        ],
        tables: vec![table],
        sheets: vec![],
        failures: vec![],
        machine,
    })
}

/// The same work in goroutines, in a process that waits between its turns.
fn in_go<'a>(work: Work) -> Result<Entry<'a>> {
    let mut command = Command::new(go::program()?);
    command.arg(format!(
        "sum tasks={} numbers={}",
        work.workers, work.numbers
    ));
    let mut child = Child::start(command, Duration::from_secs(60))?;
    Ok(Entry::timed(GO, false, 1, move || {
        // See `LEAD_IN`.
        let _sum = work.sum(0);
        let sample = child.sample()?;
        let total = sample.get("total").ok_or("no total came from Go")?;
        Ok(Duration::from_secs_f64(total / 1e9))
    }))
}

/// What no group can help: other programs take processors from four workers more than from one, which moves to the other processor.
fn of_the_machine(std_ratio: f64) -> String {
    format!(
        "{STD} took {std_ratio:.2} × ideal: up to there it is the machine and its scheduler, not a backend"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_a_row_beside_the_ideal() {
        let work = Work {
            workers: 2,
            numbers: 1_000,
        };
        let report = run(Options {
            work,
            n: Some(2),
            quick: true,
            peers: false,
        })
        .expect("every contender can do this");
        let rows = &report.tables[0].rows;
        assert_eq!(rows.len(), GROUPS.len() + 1);
        assert_eq!(rows[0].name, IDEAL);
        assert!(rows[0].ratios.is_empty());
        for row in &rows[1..] {
            assert_eq!(row.stats.n, 2, "{}", row.name);
            assert_eq!(row.ratios[0].0, IDEAL, "{}", row.name);
        }
    }
}
