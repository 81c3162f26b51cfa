//! Starting one empty task and waiting for it: what a group costs over the call beneath it.

use std::thread;

use multi_core::Group;

use crate::forked::EmptyTasks;
use crate::machine::Machine;
use crate::report::{Report, Row, Table, Unit};
use crate::sample::{Entry, Rounds, take_turns};
use crate::suite::{notes, progress_bar};
use crate::{Result, sys};

const STD_THREAD: &str = "std::thread::spawn + join";
const RAW_THREAD: &str = "pthread_create + join";
const RAW_FORK: &str = "fork + waitpid";

/// Operations per sample: enough that reading the clock does not show.
const THREADS_PER_SAMPLE: u64 = 10;
const FORKS_PER_SAMPLE: u64 = 5;

/// Runs every contender and reports. Call it while the process has one thread: what a fork costs depends on it.
///
/// # Errors
///
/// That of a contender that could not start its task.
pub fn run(quick: bool) -> Result<Report> {
    let machine = Machine::here();
    let rounds = if quick { 10 } else { 500 };
    let bar = progress_bar();
    let measure = |entries: &mut [Entry<'_>]| -> Result<Vec<Row>> {
        let stats = take_turns(entries, Rounds::Exactly(rounds), &bar)?;
        Ok(entries
            .iter()
            .zip(stats)
            .map(|(entry, stats)| Row::new(entry.name.clone(), entry.ours, stats))
            .collect())
    };
    // Processes first, before the others' threads exist.
    let mut processes = Table::new(
        "one empty task in a process: start + wait",
        Unit::Us,
        measure(&mut processes())?,
    );
    processes.compare(RAW_FORK, "fork", |_| true);
    let mut threads = Table::new(
        "one empty task in a thread: start + wait",
        Unit::Us,
        measure(&mut threads())?,
    );
    threads.compare(STD_THREAD, "std::thread", |_| true);
    threads.compare(RAW_THREAD, "pthread_create", |_| true);
    let mut green = Table::new(
        "one empty task on the runtime: start + wait",
        Unit::Us,
        measure(&mut green())?,
    );
    green.compare(STD_THREAD, "std::thread", |_| true);
    bar.finish_and_clear();
    Ok(Report {
        benchmark: "start",
        command: "cargo xtask bench start".to_owned() + if quick { " --quick" } else { "" },
        machine,
        settings: vec![
            ("samples", rounds as u64),
            ("threads per sample", THREADS_PER_SAMPLE),
            ("forks per sample", FORKS_PER_SAMPLE),
        ],
        tables: vec![processes, threads, green],
        sheets: vec![],
        failures: vec![],
        notes: notes(
            quick,
            "a group is used again and again unless its row says that a new one is made each time",
        )?,
    })
}

fn processes<'a>() -> Vec<Entry<'a>> {
    let mut group = EmptyTasks::new();
    vec![
        Entry::ours("proc.Group", FORKS_PER_SAMPLE, move || group.one()),
        Entry::ours("proc.Group, a new one each", FORKS_PER_SAMPLE, || {
            EmptyTasks::new().one()
        }),
        Entry::other(RAW_FORK, FORKS_PER_SAMPLE, || Ok(sys::raw_fork()?)),
    ]
}

/// A group is used again and again, as a program would that starts tasks all the time; beside it, one made for each task.
fn threads<'a>() -> Vec<Entry<'a>> {
    let mut group = multi_pthread::Group::new();
    vec![
        Entry::ours("pthread.Group", THREADS_PER_SAMPLE, move || {
            one_task(&mut group)
        }),
        Entry::ours("pthread.Group, a new one each", THREADS_PER_SAMPLE, || {
            one_task(&mut multi_pthread::Group::new())
        }),
        std_thread(),
        Entry::other(RAW_THREAD, THREADS_PER_SAMPLE, || Ok(sys::raw_thread()?)),
    ]
}

/// Green tasks, started by a thread that sleeps until they end; `cargo xtask bench goro` starts them from a task. Last, because the
/// runtime's workers stay.
fn green<'a>() -> Vec<Entry<'a>> {
    let mut group = multi_goro::Group::new();
    let mut locked = multi_goro::Group::locked();
    vec![
        Entry::ours("goro.Group (green tasks)", THREADS_PER_SAMPLE, move || {
            one_task(&mut group)
        }),
        Entry::ours("goro.Group::locked", THREADS_PER_SAMPLE, move || {
            one_task(&mut locked)
        }),
        std_thread(),
    ]
}

fn std_thread<'a>() -> Entry<'a> {
    Entry::other(STD_THREAD, THREADS_PER_SAMPLE, || {
        thread::Builder::new()
            .spawn(|| {})?
            .join()
            .map_err(|_| "an empty thread panicked")?;
        Ok(())
    })
}

/// What is measured: one empty task, from `go` to the end of `wait`.
fn one_task(group: &mut impl Group) -> Result {
    group.go(|| Ok(()));
    group.wait()?;
    Ok(())
}
