//! Green tasks: switching, starting and waiting, and the round trip of a message.

use std::thread;
use std::time::{Duration, Instant};

use multi_goro::{Group, Runtime, yield_now};

use crate::Result;
use crate::machine::Machine;
use crate::report::{Report, Row, Table, Unit};
use crate::sample::{Entry, Rounds, take_turns, timed};
use crate::suite::chan::{goro_channel, round_trip, std_channel};
use crate::suite::{notes, progress_bar};

const STD_SCOPE: &str = "std::thread::scope";
const STD_CHANNEL: &str = "std::sync::mpsc, threads";

/// Runs every contender and reports.
///
/// # Errors
///
/// That of a contender whose task failed.
pub fn run(quick: bool) -> Result<Report> {
    let machine = Machine::here();
    // How much work a sample is; a quick one only shows that everything runs.
    let scale = if quick { 1 } else { 20 };
    let budget = Duration::from_secs(if quick { 1 } else { 5 });
    let rounds = Rounds::Within {
        budget,
        at_least: 3,
        at_most: 200,
    };
    let bar = progress_bar();
    let mut tables = Vec::new();
    let mut measure = |title: String, reference: &str, mut entries: Vec<Entry<'_>>| -> Result {
        let stats = take_turns(&mut entries, rounds, &bar)?;
        let rows = entries
            .iter()
            .zip(stats)
            .map(|(entry, stats)| Row::new(entry.name.clone(), entry.ours, stats));
        let mut table = Table::new(title, Unit::Ns, rows.collect());
        table.compare(reference, reference, |row| row.ours);
        tables.push(table);
        Ok(())
    };
    let one_worker = Runtime::builder().workers(1).build()?;
    let yields = [2, 1_000].map(|tasks| yields(&one_worker, tasks, scale * 10_000 / tasks));
    measure("one yield, one worker".to_owned(), STD_SCOPE, yields.into())?;
    for tasks in [1, 4, 1_000] {
        let title = format!("one empty task of {tasks} started and waited for");
        // About as many tasks per sample, however many at once.
        let groups = (scale * 200 / tasks).max(1);
        measure(title, STD_SCOPE, starts(tasks, groups))?;
    }
    measure(
        "one round trip, capacity 0".to_owned(),
        STD_CHANNEL,
        round_trips(&one_worker, scale * 1_000),
    )?;
    bar.finish_and_clear();
    Ok(Report {
        benchmark: "goro",
        command: "cargo xtask bench goro".to_owned() + if quick { " --quick" } else { "" },
        machine,
        settings: vec![],
        tables,
        notes: notes(
            quick,
            "a green task started by a task need not wake anybody; one started by a thread wakes a worker, and the thread when it ends",
        )?,
    })
}

/// `tasks` green tasks on one worker, each yielding `times` times.
fn yields<'a>(runtime: &'a Runtime, tasks: u64, times: u64) -> Entry<'a> {
    Entry::timed(
        &format!("yield_now among {tasks} tasks"),
        true,
        tasks * times,
        move || {
            let mut group = runtime.group();
            timed(|| {
                for _ in 0..tasks {
                    group.go(move || {
                        (0..times).for_each(|_| yield_now());
                        Ok(())
                    });
                }
                group.wait()?;
                Ok(())
            })
        },
    )
}

fn starts<'a>(tasks: u64, groups: u64) -> Vec<Entry<'a>> {
    let operations = tasks * groups;
    vec![
        Entry::timed("goro.Group, from a task", true, operations, move || {
            Ok(Group::new()
                .spawn(move || start_and_wait(&mut Group::new(), tasks, groups))
                .join()?)
        }),
        Entry::timed("goro.Group, from a thread", true, operations, move || {
            start_and_wait(&mut Group::new(), tasks, groups)
        }),
        Entry::timed("goro.Group locked", true, operations, move || {
            start_and_wait(&mut Group::locked(), tasks, groups)
        }),
        Entry::timed(STD_SCOPE, false, operations, move || {
            timed(|| {
                for _ in 0..groups {
                    thread::scope(|scope| {
                        for _ in 0..tasks {
                            scope.spawn(|| {});
                        }
                    });
                }
                Ok(())
            })
        }),
    ]
}

/// How long `groups` times `tasks` empty tasks take.
fn start_and_wait(group: &mut Group, tasks: u64, groups: u64) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..groups {
        for _ in 0..tasks {
            group.go(|| Ok(()));
        }
        group.wait()?;
    }
    Ok(started.elapsed())
}

fn round_trips<'a>(one_worker: &'a Runtime, trips: u64) -> Vec<Entry<'a>> {
    vec![
        Entry::timed("multi_goro::chan, tasks", true, trips, move || {
            round_trip(&mut Group::new(), goro_channel(0), goro_channel(0), trips)
        }),
        Entry::timed(
            "multi_goro::chan, tasks of one worker",
            true,
            trips,
            move || {
                round_trip(
                    &mut one_worker.group(),
                    goro_channel(0),
                    goro_channel(0),
                    trips,
                )
            },
        ),
        Entry::timed("multi_goro::chan, locked tasks", true, trips, move || {
            round_trip(
                &mut Group::locked(),
                goro_channel(0),
                goro_channel(0),
                trips,
            )
        }),
        Entry::timed(STD_CHANNEL, false, trips, move || {
            round_trip(
                &mut multi_pthread::Group::new(),
                std_channel(0),
                std_channel(0),
                trips,
            )
        }),
    ]
}
