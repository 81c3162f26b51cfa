//! The table of kill points: where the victims died, how often, and what became of the rest.

use crate::stage::{Outcome, Shown};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
struct Line {
    kills: u32,
    late: u32,
    hung: u32,
    broken: u32,
    slowest: Duration,
}

/// Role, after whose death, file and line of the write.
type Point = (String, String, u32);

static TABLE: Mutex<BTreeMap<Point, Line>> = Mutex::new(BTreeMap::new());

/// In the name of a role that must hang: not part of the sum.
const EXPECTED: &str = "hangs are expected";

/// Adds one run to the table.
pub(crate) fn enter(role: &str, after: Option<&str>, shown: &Shown) {
    let Some(site) = shown.site else { return };
    let role = match after {
        Some(_) => format!("{role}, seeing to another death"),
        None => role.to_owned(),
    };
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let line = table
        .entry((role, site.file().to_owned(), site.line()))
        .or_default();
    line.kills += 1;
    line.slowest = line.slowest.max(shown.resumed);
    match shown.result {
        Outcome::Whole => {}
        Outcome::Late => line.late += 1,
        Outcome::Hung => line.hung += 1,
        Outcome::Broken(_) => line.broken += 1,
    }
}

/// Prints the table if anybody was killed: whole if `MULTI_KILLS` asks for many kills, else its sum.
pub(crate) fn print() {
    let table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if table.is_empty() {
        return;
    }
    let whole = std::env::var_os("MULTI_KILLS").is_some();
    if whole {
        println!(
            "\n{:>6} {:>5} {:>5} {:>7} {:>9}  point",
            "kills", "late", "hung", "broken", "slowest"
        );
    }
    let mut role_before = "";
    let (mut points, mut sum) = (0, Line::default());
    for ((role, file, number), line) in &*table {
        if whole && role != role_before {
            println!("{role}");
            role_before = role;
        }
        if whole {
            println!(
                "{:>6} {:>5} {:>5} {:>7} {:>6.1} ms  {}",
                line.kills,
                line.late,
                line.hung,
                line.broken,
                line.slowest.as_secs_f64() * 1e3,
                describe(file, *number),
            );
        }
        if role.contains(EXPECTED) {
            continue;
        }
        points += 1;
        sum.kills += line.kills;
        sum.late += line.late;
        sum.hung += line.hung;
        sum.broken += line.broken;
        sum.slowest = sum.slowest.max(line.slowest);
    }
    println!(
        "kill points: {} (role and write), {} kills, {} late, {} hung, {} broken, slowest resume {:.1} ms",
        points,
        sum.kills,
        sum.late,
        sum.hung,
        sum.broken,
        sum.slowest.as_secs_f64() * 1e3
    );
}

/// Writes in the crate's source that no victim died after, so far: for each, where it stands.
///
/// Left out are those in `PRIVATE`.
pub(crate) fn missed() -> Vec<String> {
    let table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let reached: BTreeSet<(&str, u32)> = table
        .keys()
        .map(|(_, file, number)| (file.as_str(), *number))
        .collect();
    let mut missed = Vec::new();
    let mut folders = vec!["src".to_owned()];
    while let Some(folder) = folders.pop() {
        let here = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(here).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                // The calls themselves are told of where they are made.
                if name != "sys" {
                    folders.push(format!("{folder}/{name}"));
                }
            } else if name.ends_with(".rs") && !NOT_THE_PROTOCOL.contains(&name.as_str()) {
                let source = fs::read_to_string(entry.path()).unwrap();
                let file = format!("multi-chan/{folder}/{name}");
                for (number, line) in (1..).zip(source.lines()) {
                    if line == "mod tests {" {
                        break;
                    }
                    let text = line.trim();
                    if WRITES.iter().any(|write| text.contains(write))
                        && !text.starts_with("//")
                        && !reached.contains(&(file.as_str(), number))
                    {
                        missed.push(describe(&file, number));
                    }
                }
            }
        }
    }
    missed.retain(|point| !PRIVATE.iter().any(|name| point.contains(name)));
    missed.sort();
    missed
}

const WRITES: [&str; 8] = [
    ".store(",
    ".swap(",
    ".compare_exchange(",
    ".compare_exchange_weak(",
    ".fetch_",
    "futex_wake(",
    ".word.init(",
    ".word.hold(",
];

/// The façade, the tests.
const NOT_THE_PROTOCOL: [&str; 7] = [
    "sync.rs",
    "kill.rs",
    "model.rs",
    "model_death.rs",
    "model_memory.rs",
    "tests.rs",
    "ends_tests.rs",
];

/// Writes after which nobody needs to be killed, each with its reason.
const PRIVATE: [&str; 18] = [
    // Private memory of one process.
    "trail.rs set:",
    "patience.rs draw:",
    "patience.rs was_in_vain:",
    "patience.rs pause:",
    "face.rs enter:",
    "face.rs forget:",
    "vigil.rs of:",
    // The maker of a name, before anybody else can have the memory.
    "named.rs write:",
    // Only if the process cannot be entered in the table.
    "end.rs take_side: user.store(0, Release)",
    // Tests' own.
    "robust.rs bury_for_test:",
    "slots.rs scribble:",
    // Needs a child that is late by two seconds; one exchange that several survivors may make.
    "watch.rs is_alive:",
    // Only where the robust word cannot be taken; one store.
    "robust.rs begin: row.claim.store(claim.with(DEAD)",
    // A thread's word passed on within its process: needs a first thread that is not the main one. Unit tests have it.
    "watch.rs keep_held:",
    "row.rs drop:",
    "row.rs give_back:",
    "row.rs notice:",
    // Needs somebody who enters between two looks at the table.
    "burial.rs is_gone: self.gate().flags.fetch_and",
];

/// File, line, function and statement of a write.
fn describe(file: &str, number: u32) -> String {
    let short = file.rsplit('/').next().unwrap_or(file);
    let source = fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR")));
    let source = source.unwrap_or_default();
    let lines: Vec<&str> = source.lines().take(number as usize).collect();
    let statement = lines.last().map_or("", |line| line.trim());
    let function = lines.iter().rev().find_map(|line| {
        let name = line.split_once("fn ")?.1;
        name.split(['(', '<']).next()
    });
    // The line last: a name in `PRIVATE` stays true when lines are added.
    format!(
        "{short} {}: {statement} ({number})",
        function.unwrap_or("?")
    )
}
