//! Processes beside each other: what it costs to start one, also from a large parent, what a call through a pool costs, and how many jobs
//! a pool gets done. Each contender is a process of its own, they take turns, and what ours reached is held against its targets.

mod plan;

use crate::machine::Machine;
use crate::report::Report;
use crate::suite::field::{Field, Outsider, TURNS};
use crate::suite::plan::only;
use crate::suite::{Options, notes, progress_bar};
use crate::{Result, python};

pub use plan::NAMES;

/// Runs the parts chosen and reports.
///
/// # Errors
///
/// If no part has such a name. What a contender cannot do is part of the report.
pub fn run(options: &Options) -> Result<Report> {
    let machine = Machine::here();
    let mut parts = plan::parts(options.quick, machine.ncpu);
    only(&mut parts, &options.only, NAMES)?;
    let ours = |name: &str| name.starts_with("multi");
    let mut field = Field::new(options, plan::OF_THE_HOUSE, ours)?;
    if options.peers {
        let command = python::executor().map_err(|error| error.to_string());
        field.admit(Outsider::with_words(plan::EXECUTOR, command));
    }
    let bar = progress_bar();
    let (sheets, failures) = field.measure_all(&parts, &bar);
    bar.finish_and_clear();
    let mut remarks = vec![WORK.to_owned()];
    remarks.extend(notes(options.quick, TURNS)?);
    Ok(Report {
        benchmark: "proc",
        command: options.command("proc"),
        machine,
        settings: vec![],
        tables: vec![],
        sheets,
        notes: remarks,
        failures,
    })
}

const WORK: &str = "memory is touched in pages of 4 KiB; a call takes a number and returns it; a job is busy for so long by the clock, \
                    and rayon's run in threads";
