//! The table of kill points: where the victims died, how often, and what became of the rest.

use crate::stage::{Outcome, Shown};
use std::collections::BTreeMap;
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
    let mut sum = Line::default();
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
        sum.kills += line.kills;
        sum.late += line.late;
        sum.hung += line.hung;
        sum.broken += line.broken;
        sum.slowest = sum.slowest.max(line.slowest);
    }
    println!(
        "kill points: {} (role and write), {} kills, {} late, {} hung, {} broken, slowest resume {:.1} ms",
        table.len(),
        sum.kills,
        sum.late,
        sum.hung,
        sum.broken,
        sum.slowest.as_secs_f64() * 1e3
    );
}

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
    format!("{short}:{number} {}: {statement}", function.unwrap_or("?"))
}
