//! A sheet: contenders side by side at variants of one work, and what was aimed at.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table as Grid};
use serde_json::{Map, Value, json};

use crate::report::{LOSS, Unit};
use crate::sample::Stats;

/// What the names of our contenders begin with.
const OURS: &str = "multi";
/// Contenders side by side, as long as a screen has room for them; more stand below each other.
const COLUMNS_MAX: usize = 8;
/// What nobody can beat, being no alternative: the same without tasks, the same without a channel.
const FLOORS: &[&str] = &["serial", "memcpy", "write+read"];

/// One work, one figure of it.
#[derive(Debug)]
pub struct Sheet {
    /// What the figure is of.
    pub title: String,
    /// What it is in.
    pub unit: Unit,
    /// Variants of the work.
    pub lines: Vec<Line>,
}

/// One variant.
#[derive(Debug)]
pub struct Line {
    /// What is special about it.
    pub label: String,
    /// The contenders, in the order of their columns.
    pub cells: Vec<(&'static str, Cell)>,
    /// What ours were to reach here.
    pub verdicts: Vec<Verdict>,
}

/// What became of one contender.
#[derive(Debug, Clone)]
pub enum Cell {
    /// It was measured.
    Measured(Stats),
    /// Why it was not.
    Cannot(String),
}

/// A target, and what was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Which of ours.
    pub who: &'static str,
    /// What ours was set beside: a contender, or the unit of the target.
    pub against: String,
    /// Ours as a multiple of it, or ours itself; none where that could not be told.
    pub reached: Option<f64>,
    /// The target.
    pub at_most: f64,
    /// The unit, where the target is a figure and not a ratio.
    pub unit: Option<Unit>,
}

/// What ours is to be compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most so many times what this contender takes.
    Times(f64, &'static str),
    /// At most so many times what the best of the others takes.
    TimesBest(f64),
    /// At most this, in the sheet's unit as JSON has it.
    AtMost(f64),
    /// At most so many times what ours takes in the line with this label, which comes earlier.
    TimesLine(f64, &'static str),
}

impl Line {
    fn median(&self, contender: &str) -> Option<f64> {
        self.cells.iter().find_map(|(name, cell)| match cell {
            Cell::Measured(stats) if *name == contender => Some(stats.median),
            _ => None,
        })
    }

    fn best_other(&self) -> Option<(&'static str, f64)> {
        self.cells
            .iter()
            .filter(|(name, _)| !is_ours(name) && !FLOORS.contains(name))
            .filter_map(|(name, _)| Some((*name, self.median(name)?)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// Holds ours against their targets; `earlier` are the lines before this one.
    pub fn judge(&mut self, targets: &[(&'static str, Target)], unit: Unit, earlier: &[Self]) {
        let verdicts = targets
            .iter()
            .map(|(who, target)| self.verdict(who, *target, unit, earlier));
        self.verdicts = verdicts.collect();
    }

    fn verdict(&self, who: &'static str, target: Target, unit: Unit, earlier: &[Self]) -> Verdict {
        let ours = self.median(who);
        let ratio = |base: Option<f64>| Some(ours? / base?);
        match target {
            Target::Times(at_most, name) => Verdict {
                who,
                against: name.to_owned(),
                reached: ratio(self.median(name)),
                at_most,
                unit: None,
            },
            Target::TimesBest(at_most) => {
                let best = self.best_other();
                Verdict {
                    who,
                    against: best.map_or_else(
                        || "the best of the others".to_owned(),
                        |(name, _)| format!("{name}, the best of the others"),
                    ),
                    reached: ratio(best.map(|(_, median)| median)),
                    at_most,
                    unit: None,
                }
            }
            Target::AtMost(at_most) => Verdict {
                who,
                against: unit.name().to_owned(),
                reached: ours,
                at_most,
                unit: Some(unit),
            },
            Target::TimesLine(at_most, label) => {
                let line = earlier.iter().find(|line| line.label == label);
                Verdict {
                    who,
                    against: label.to_owned(),
                    reached: ratio(line.and_then(|line| line.median(who))),
                    at_most,
                    unit: None,
                }
            }
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

impl Verdict {
    /// Whether the target was met, as far as that can be told.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        Some(self.reached? <= self.at_most)
    }

    fn json(&self) -> Value {
        json!({
            "against": self.against, "reached": self.reached, "at_most": self.at_most,
            "unit": self.unit.map(Unit::in_json), "met": self.met(),
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |figure: f64| match self.unit {
            Some(unit) => unit.show(figure),
            None if figure < 0.1 => format!("{figure:.3}"),
            None => format!("{figure:.2}"),
        };
        let times = if self.unit.is_some() { "" } else { "× " };
        let against = &self.against;
        if self.who != OURS {
            write!(f, "{}: ", self.who)?;
        }
        let at_most = show(self.at_most);
        match (self.reached, self.met()) {
            (Some(reached), Some(met)) => {
                let reached = show(reached);
                let word = if met { "met" } else { "SHORT" };
                write!(f, "{reached} {times}{against} (at most {at_most}): {word}")
            }
            _ => write!(
                f,
                "at most {at_most} {times}{against}: not told in this run"
            ),
        }
    }
}

impl Sheet {
    /// Its names, in the order in which lines mention them.
    fn contenders(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (name, _) in self.lines.iter().flat_map(|line| &line.cells) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    /// One object; a row for each contender of each line, with its figures or with what it could not do.
    #[must_use]
    pub fn json(&self) -> Value {
        let unit = self.unit.in_json();
        let row = |line: &Line, name: &str, cell: &Cell| {
            let mut row = Map::new();
            row.insert("line".to_owned(), json!(line.label));
            row.insert("name".to_owned(), json!(name));
            row.insert("ours".to_owned(), json!(is_ours(name)));
            match cell {
                Cell::Cannot(why) => {
                    row.insert("cannot".to_owned(), json!(why));
                }
                Cell::Measured(stats) => {
                    row.insert("n".to_owned(), json!(stats.n));
                    for (what, figure) in [
                        ("mean", stats.mean),
                        ("median", stats.median),
                        ("q1", stats.q1),
                        ("q3", stats.q3),
                        ("min", stats.min),
                        ("max", stats.max),
                    ] {
                        row.insert(format!("{what}_{unit}"), json!(figure));
                    }
                }
            }
            if is_ours(name) {
                let verdicts = line.verdicts.iter().filter(|verdict| verdict.who == name);
                let verdicts = verdicts.map(Verdict::json).collect::<Vec<_>>();
                row.insert("targets".to_owned(), json!(verdicts));
            }
            Value::Object(row)
        };
        let rows = self.lines.iter().flat_map(|line| {
            line.cells
                .iter()
                .map(move |(name, cell)| row(line, name, cell))
        });
        json!({"title": self.title, "rows": rows.collect::<Vec<_>>()})
    }

    /// A contender's place in the grid; why it could not goes to the notes.
    fn cell<'a>(&self, line: &'a Line, name: &str, notes: &mut Vec<&'a str>) -> String {
        let known = line.cells.iter().find(|(known, _)| *known == name);
        match known.map(|(_, cell)| cell) {
            None => String::new(),
            Some(Cell::Measured(stats)) => {
                let spread = (stats.q3 - stats.q1) / stats.median / 2.0 * 100.0;
                format!("{} ±{spread:.0}%", self.unit.show(stats.median))
            }
            Some(Cell::Cannot(why)) => {
                let known = notes.iter().position(|note| note == why);
                let number = known.unwrap_or_else(|| {
                    notes.push(why);
                    notes.len() - 1
                });
                format!("cannot [{}]", number + 1)
            }
        }
    }

    /// Where another contender beats ours.
    pub(crate) fn losses(&self) -> impl Iterator<Item = String> {
        self.lines.iter().filter_map(|line| {
            let (best, median) = line.best_other()?;
            let (ours, _) = line.cells.iter().find(|(name, _)| is_ours(name))?;
            let ratio = line.median(ours)? / median;
            (ratio > LOSS).then(|| format!("{}, {}: {ratio:.2} × {best}", self.title, line.label))
        })
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.contenders();
        let mut notes: Vec<&str> = Vec::new();
        let mut grid = Grid::new();
        grid.load_style(UTF8_FULL_CONDENSED);
        let labels = || self.lines.iter().map(|line| &*line.label);
        let corner = std::iter::once("");
        if names.len() > COLUMNS_MAX {
            grid.set_header(corner.chain(labels()));
            for name in &names {
                let cells = self
                    .lines
                    .iter()
                    .map(|line| self.cell(line, name, &mut notes));
                let row = std::iter::once((*name).to_owned()).chain(cells);
                grid.add_row(row.collect::<Vec<_>>());
            }
        } else {
            grid.set_header(corner.chain(names.iter().copied()));
            for line in &self.lines {
                let cells = names.iter().map(|name| self.cell(line, name, &mut notes));
                let row = std::iter::once(line.label.clone()).chain(cells);
                grid.add_row(row.collect::<Vec<_>>());
            }
        }
        for column in grid.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{}, {}\n{grid}", self.title, self.unit.name())?;
        for (number, note) in (1..).zip(notes) {
            writeln!(f, "[{number}] {note}")?;
        }
        for line in &self.lines {
            for verdict in &line.verdicts {
                writeln!(f, "  {}: {verdict}", line.label)?;
            }
        }
        Ok(())
    }
}

/// The targets of all sheets: how many were met, and those that were not.
pub(crate) fn summary(sheets: &[Sheet], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let all = || {
        sheets.iter().flat_map(|sheet| {
            sheet.lines.iter().flat_map(move |line| {
                line.verdicts
                    .iter()
                    .map(move |verdict| (sheet, line, verdict))
            })
        })
    };
    let count = |met| all().filter(|(.., verdict)| verdict.met() == met).count();
    let (met, short, open) = (count(Some(true)), count(Some(false)), count(None));
    if met + short + open == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "targets: {met} met, {short} short, {open} not told in this run"
    )?;
    for (sheet, line, verdict) in all().filter(|(.., verdict)| verdict.met() == Some(false)) {
        writeln!(f, "  {}, {}: {verdict}", sheet.title, line.label)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, figures: &[(&'static str, f64)]) -> Line {
        let measured = |figure| Cell::Measured(Stats::of(vec![figure; 3]).expect("three"));
        Line {
            label: label.to_owned(),
            cells: figures
                .iter()
                .map(|(name, figure)| (*name, measured(*figure)))
                .collect(),
            verdicts: vec![],
        }
    }

    fn sheet() -> Sheet {
        let first = line("2 tasks", &[(OURS, 10.0), ("Go", 100.0), ("may", 40.0)]);
        let mut second = line("8 tasks", &[(OURS, 30.0), ("Go", 20.0)]);
        second
            .cells
            .push(("may", Cell::Cannot("too many".to_owned())));
        let mut sheet = Sheet {
            title: "one yield".to_owned(),
            unit: Unit::Ns,
            lines: vec![first, second],
        };
        let targets = [
            Target::Times(0.5, "Go"),
            Target::TimesBest(0.3),
            Target::AtMost(20.0),
            Target::TimesLine(2.0, "2 tasks"),
            Target::Times(1.0, "smol"),
        ]
        .map(|target| (OURS, target));
        for at in 0..2 {
            let (earlier, rest) = sheet.lines.split_at_mut(at);
            rest[0].judge(&targets, Unit::Ns, earlier);
        }
        sheet
    }

    #[test]
    fn targets_are_ratios_to_a_contender_the_best_another_line_or_a_figure() {
        let sheet = sheet();
        let met = |line: usize| {
            sheet.lines[line]
                .verdicts
                .iter()
                .map(Verdict::met)
                .collect::<Vec<_>>()
        };
        assert_eq!(met(0), [Some(true), Some(true), Some(true), None, None]);
        assert_eq!(
            met(1),
            [Some(false), Some(false), Some(false), Some(false), None]
        );
        assert_eq!(
            sheet.lines[0].verdicts[1].to_string(),
            "0.25 × may, the best of the others (at most 0.30): met"
        );
        assert_eq!(
            sheet.lines[1].verdicts[2].to_string(),
            "30.0 ns (at most 20.0): SHORT"
        );
    }

    #[test]
    fn text_has_a_column_per_contender_and_says_what_it_cannot() {
        let text = sheet().to_string();
        for part in [
            "one yield, ns",
            "10.0 ±0%",
            "cannot [1]",
            "[1] too many",
            "  8 tasks: 1.50 × Go (at most 0.50): SHORT",
            "at most 1.00 × smol: not told in this run",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn very_many_contenders_have_a_row_each() {
        let mut sheet = sheet();
        let names = ["a", "b", "c", "d", "e", "f"];
        let cells = names.map(|name| (name, sheet.lines[0].cells[1].1.clone()));
        sheet.lines[0].cells.extend(cells);
        let text = sheet.to_string();
        let row = |name: &str| {
            let start = format!("│ {name} ");
            text.lines().find(|line| line.starts_with(&start))
        };
        assert!(
            row("multi").is_some_and(|row| row.contains("10.0 ±0%") && row.contains("30.0 ±0%")),
            "{text}"
        );
        assert!(row("f").is_some(), "{text}");
    }

    #[test]
    fn json_has_a_row_per_contender_and_line() {
        let json = sheet().json();
        let rows = json["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[0]["median_ns"], 10.0);
        assert_eq!(rows[0]["targets"][0]["met"], true);
        assert_eq!(rows[5]["cannot"], "too many");
    }

    #[test]
    fn losses_name_who_was_faster() {
        assert_eq!(
            sheet().losses().collect::<Vec<_>>(),
            ["one yield, 8 tasks: 1.50 × Go"]
        );
    }
}
