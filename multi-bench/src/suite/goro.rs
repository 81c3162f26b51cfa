//! Green tasks beside other runtimes: each contender does the same work in a child process, they take turns, and what ours reached is
//! held against its targets.

mod plan;

use crate::machine::Machine;
use crate::report::Report;
use crate::suite::field::{Field, Outsider, TURNS};
use crate::suite::plan::only;
use crate::suite::{Options, notes, progress_bar};
use crate::{Result, go};

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
    let mut field = Field::new(options, plan::OF_THE_HOUSE, |_| true)?;
    let mut remarks = Vec::new();
    match options.peers.then(go::program) {
        None => {}
        Some(Ok(program)) => field.admit(Outsider::new(plan::GO, program)),
        Some(Err(error)) => remarks.push(format!("without Go: {error}")),
    }
    let bar = progress_bar();
    let (sheets, failures) = field.measure_all(&parts, &bar);
    bar.finish_and_clear();
    remarks.extend(notes(options.quick, TURNS)?);
    Ok(Report {
        benchmark: "goro",
        command: options.command("goro"),
        machine,
        settings: vec![],
        tables: vec![],
        sheets,
        notes: remarks,
        failures,
    })
}
