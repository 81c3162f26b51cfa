//! Channels between processes beside each other: streams of messages of several sizes, and round trips. Each contender is a process of its
//! own that forks the senders and receivers, they take turns, and what ours reached is held against its targets.

mod plan;

use crate::machine::Machine;
use crate::report::Report;
use crate::suite::field::{Field, Outsider, TURNS};
use crate::suite::plan::only;
use crate::suite::{Options, notes, progress_bar};
use crate::{Result, boost, python};

pub use plan::NAMES;

/// Runs the parts chosen and reports.
///
/// # Errors
///
/// If no part has such a name. What a contender cannot do is part of the report.
pub fn run(options: &Options) -> Result<Report> {
    let machine = Machine::here();
    let mut parts = plan::parts(options.quick);
    only(&mut parts, &options.only, NAMES)?;
    let mut field = Field::new(options, plan::OF_THE_HOUSE, is_ours)?;
    if options.peers {
        let program = boost::program().map(|program| vec![program.into_os_string()]);
        field.admit(Outsider::with_words(
            plan::BOOST,
            program.map_err(|error| error.to_string()),
        ));
        for (name, queue) in [(plan::QUEUE, "Queue"), (plan::SIMPLE_QUEUE, "SimpleQueue")] {
            let command = python::queues(queue).map_err(|error| error.to_string());
            field.admit(Outsider::with_words(name, command));
        }
    }
    let bar = progress_bar();
    let (sheets, failures) = field.measure_all(&parts, &bar);
    bar.finish_and_clear();
    let mut remarks = vec![WORK.to_owned()];
    remarks.extend(notes(options.quick, TURNS)?);
    Ok(Report {
        benchmark: "chan",
        command: options.command("chan"),
        machine,
        settings: vec![],
        tables: vec![],
        sheets,
        notes: remarks,
        failures,
    })
}

/// Adds the shortest of it to another benchmark's report: 8-byte messages and round trips, in a few seconds.
///
/// # Errors
///
/// If this program cannot be found, which is run for each contender.
pub fn add_brief(report: &mut Report, quick: bool) -> Result {
    let options = Options {
        quick,
        peers: false,
        only: vec![],
    };
    let field = Field::new(&options, plan::OF_THE_HOUSE, is_ours)?;
    let bar = progress_bar();
    let (sheets, failures) = field.measure_all(&plan::brief(quick), &bar);
    bar.finish_and_clear();
    report.sheets.extend(sheets);
    report.failures.extend(failures);
    report.notes.push(
        "more of channels: cargo xtask bench chan, of green tasks: cargo xtask bench goro, of processes: cargo xtask bench proc"
            .to_owned(),
    );
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name.starts_with("multi")
}

/// What is measured.
const WORK: &str = "senders and receivers are processes of their own unless the contender's name ends with \"threads\"; every byte of a message is \
written by its sender and read by its receiver";
