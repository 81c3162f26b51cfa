//! Reports: tables for people, JSON for programs, from the same rows.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table as Grid};
use serde_json::{Map, Value, json};

use crate::machine::Machine;
use crate::sample::Stats;
use crate::sheet::{self, Sheet};

/// Ours counts as slower than a reference beyond this ratio; less is within the noise of medians.
pub(crate) const LOSS: f64 = 1.02;

/// One run of one benchmark.
#[derive(Debug)]
pub struct Report {
    /// The benchmark's name.
    pub benchmark: &'static str,
    /// What to type to repeat it.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was set, such as the number of workers.
    pub settings: Vec<(&'static str, u64)>,
    /// The figures.
    pub tables: Vec<Table>,
    /// More of them, with contenders side by side and targets.
    pub sheets: Vec<Sheet>,
    /// Sentences below the tables.
    pub notes: Vec<String>,
    /// What ours could not do; a run with any has failed.
    pub failures: Vec<String>,
}

/// Contenders at the same work.
#[derive(Debug)]
pub struct Table {
    /// What one operation is.
    pub title: String,
    /// The unit that people read; JSON is in nanoseconds.
    pub unit: Unit,
    /// One contender each.
    pub rows: Vec<Row>,
}

/// What figures are shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Nanoseconds, shown as microseconds.
    Us,
    /// Nanoseconds, shown as milliseconds.
    Ms,
    /// Bytes.
    Bytes,
    /// How many.
    Count,
    /// A ratio to the ideal.
    Ideal,
}

/// One contender's figures.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Whether it is of this workspace.
    pub ours: bool,
    /// What it took.
    pub stats: Stats,
    /// Its median over that of another row, with what the other is called.
    pub ratios: Vec<(String, f64)>,
}

impl Table {
    /// A table whose rows have no ratios yet.
    #[must_use]
    pub fn new(title: impl Into<String>, unit: Unit, rows: Vec<Row>) -> Self {
        Self {
            title: title.into(),
            unit,
            rows,
        }
    }

    /// Adds to each row in `rows` its ratio to the row called `reference`, under `label`. Without such rows nothing happens.
    pub fn compare(&mut self, reference: &str, label: &str, rows: impl Fn(&Row) -> bool) {
        let Some(base) = self
            .rows
            .iter()
            .find(|row| row.name == reference)
            .map(|row| row.stats.median)
        else {
            return;
        };
        for row in self
            .rows
            .iter_mut()
            .filter(|row| row.name != reference && rows(row))
        {
            row.ratios.push((label.to_owned(), row.stats.median / base));
        }
    }

    /// The ratio called `label` of the row called `name`, if both are there.
    #[must_use]
    pub fn ratio(&self, name: &str, label: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name)?.ratio(label)
    }

    /// Where ours is slower than what it is set beside.
    fn losses(&self, with_title: bool) -> impl Iterator<Item = String> {
        let title = if with_title {
            format!(" ({})", self.title)
        } else {
            String::new()
        };
        let slower = |row: &'_ Row| {
            row.ratios
                .clone()
                .into_iter()
                .filter(|(_, ratio)| *ratio > LOSS)
        };
        self.rows
            .iter()
            .filter(|row| row.ours)
            .flat_map(move |row| {
                let name = format!("{}{title}", row.name);
                slower(row).map(move |(label, ratio)| format!("{name}: {ratio:.2} × {label}"))
            })
    }

    /// The names of the ratios, in the order in which rows mention them.
    fn ratio_labels(&self) -> Vec<&str> {
        let mut labels = Vec::new();
        for (label, _) in self.rows.iter().flat_map(|row| &row.ratios) {
            if !labels.contains(&&**label) {
                labels.push(&**label);
            }
        }
        labels
    }

    fn json(&self) -> Value {
        json!({"title": self.title, "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>()})
    }
}

impl Row {
    /// A row without ratios.
    #[must_use]
    pub fn new(name: impl Into<String>, ours: bool, stats: Stats) -> Self {
        Self {
            name: name.into(),
            ours,
            stats,
            ratios: Vec::new(),
        }
    }

    fn ratio(&self, label: &str) -> Option<f64> {
        self.ratios
            .iter()
            .find(|(known, _)| known == label)
            .map(|(_, ratio)| *ratio)
    }

    fn json(&self) -> Value {
        let Stats {
            n,
            mean,
            median,
            q1,
            q3,
            min,
            max,
        } = self.stats;
        let ratios: Map<String, Value> = self
            .ratios
            .iter()
            .map(|(label, ratio)| (label.clone(), json!(ratio)))
            .collect();
        json!({
            "name": self.name, "ours": self.ours, "n": n, "mean_ns": mean, "median_ns": median,
            "q1_ns": q1, "q3_ns": q3, "min_ns": min, "max_ns": max, "ratios": ratios,
        })
    }
}

impl Unit {
    /// What stands at the head of a column.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "µs",
            Self::Ms => "ms",
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Ideal => "× ideal",
        }
    }

    /// What figures in this unit are called in JSON, where times are in nanoseconds: `median_ns`, `median_bytes`.
    #[must_use]
    pub fn in_json(self) -> &'static str {
        match self {
            Self::Ns | Self::Us | Self::Ms => "ns",
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Ideal => "ideal",
        }
    }

    /// A figure for people, without the unit's name.
    #[must_use]
    pub fn show(self, figure: f64) -> String {
        match self {
            Self::Ns if figure < 1e3 => format!("{figure:.1}"),
            Self::Ns | Self::Bytes | Self::Count => format!("{figure:.0}"),
            Self::Us if figure < 1e6 => format!("{:.2}", figure / 1e3),
            Self::Us => format!("{:.0}", figure / 1e3),
            Self::Ms => format!("{:.2}", figure / 1e6),
            Self::Ideal => format!("{figure:.2}"),
        }
    }
}

impl Report {
    /// The report as one JSON object. Times are in nanoseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let Machine {
            os,
            arch,
            cpu,
            ncpu,
            load_before,
        } = &self.machine;
        let settings: Map<String, Value> = self
            .settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        json!({
            "benchmark": self.benchmark,
            "command": self.command,
            "machine": {"os": os, "arch": arch, "cpu": cpu, "ncpu": ncpu, "load_before": load_before},
            "settings": settings,
            "tables": self
                .tables
                .iter()
                .map(Table::json)
                .chain(self.sheets.iter().map(Sheet::json))
                .collect::<Vec<_>>(),
            "losses": self.losses(),
            "notes": self.notes,
            "failures": self.failures,
        })
    }

    /// Every place where ours is slower than what it is set beside, beyond 2 %.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let with_title = self.tables.len() > 1;
        self.tables
            .iter()
            .flat_map(|table| table.losses(with_title))
            .chain(self.sheets.iter().flat_map(Sheet::losses))
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            os,
            arch,
            cpu,
            ncpu,
            load_before,
        } = &self.machine;
        writeln!(f, "os: {os}\narch: {arch}")?;
        if let Some(cpu) = cpu {
            writeln!(f, "cpu: {cpu}")?;
        }
        writeln!(f, "ncpu: {ncpu}")?;
        if let Some(load) = load_before {
            writeln!(f, "load before: {load:.2}")?;
        }
        for (name, value) in &self.settings {
            writeln!(f, "{name}: {value}")?;
        }
        for table in &self.tables {
            write!(f, "\n{}\n{}\n", table.title, grid(table))?;
        }
        for sheet in &self.sheets {
            write!(f, "\n{sheet}")?;
        }
        writeln!(f)?;
        sheet::summary(&self.sheets, f)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        let losses = self.losses();
        if losses.is_empty() {
            writeln!(f, "we lose: nowhere in this run, beyond 2 %")?;
        } else {
            writeln!(f, "we lose:")?;
            for loss in losses {
                writeln!(f, "  {loss}")?;
            }
        }
        writeln!(f, "again: {}", self.command)
    }
}

/// Three digits below a tenth, where two would say nothing.
fn show_ratio(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.3}")
    } else {
        format!("{ratio:.2}")
    }
}

fn grid(table: &Table) -> Grid {
    let unit = table.unit;
    let labels = table.ratio_labels();
    let mut grid = Grid::new();
    grid.load_style(UTF8_FULL_CONDENSED);
    let median = format!("median {}", unit.name());
    let header = ["", &*median, "quartiles", "min – max", "mean"];
    grid.set_header(
        header
            .into_iter()
            .map(str::to_owned)
            .chain(labels.iter().map(|label| format!("× {label}"))),
    );
    for row in &table.rows {
        let stats = &row.stats;
        let range = |low, high| format!("{} – {}", unit.show(low), unit.show(high));
        let figures = [
            row.name.clone(),
            unit.show(stats.median),
            range(stats.q1, stats.q3),
            range(stats.min, stats.max),
            unit.show(stats.mean),
        ];
        let ratios = labels
            .iter()
            .map(|label| row.ratio(label).map_or_else(String::new, show_ratio));
        grid.add_row(figures.into_iter().chain(ratios).collect::<Vec<_>>());
    }
    for column in grid.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let stats = |ns| Stats::of(vec![ns, ns, ns]).expect("three samples");
        let rows = vec![
            Row::new("raw", false, stats(1e3)),
            Row::new("ours", true, stats(1.5e3)),
            Row::new("theirs", false, stats(3e3)),
        ];
        let mut table = Table::new("start+wait", Unit::Us, rows);
        table.compare("raw", "raw", |_| true);
        table.compare("theirs", "theirs", |row| row.ours);
        table.compare("nobody", "nobody", |_| true);
        Report {
            benchmark: "start",
            command: "cargo xtask bench start".to_owned(),
            machine: Machine {
                os: "linux",
                arch: "x86_64",
                cpu: None,
                ncpu: 2,
                load_before: Some(0.0),
            },
            settings: vec![("n", 3)],
            tables: vec![table],
            sheets: vec![],
            notes: vec!["a note".to_owned()],
            failures: vec!["ours, start: hangs".to_owned()],
        }
    }

    #[test]
    fn json_has_every_figure_in_nanoseconds() {
        let json = report().json();
        assert_eq!(json["benchmark"], "start");
        assert_eq!(json["machine"]["ncpu"], 2);
        assert_eq!(json["settings"]["n"], 3);
        let row = &json["tables"][0]["rows"][1];
        assert_eq!(
            (
                row["name"].as_str(),
                row["ours"].as_bool(),
                row["n"].as_u64()
            ),
            (Some("ours"), Some(true), Some(3))
        );
        for field in ["mean_ns", "median_ns", "q1_ns", "q3_ns", "min_ns", "max_ns"] {
            assert_eq!(row[field], 1500.0, "{field}");
        }
        assert_eq!(row["ratios"], json!({"raw": 1.5, "theirs": 0.5}));
    }

    #[test]
    fn a_ratio_is_found_by_row_and_label() {
        let table = &report().tables[0];
        assert_eq!(table.ratio("ours", "theirs"), Some(0.5));
        assert_eq!(table.ratio("raw", "raw"), None);
        assert_eq!(table.ratio("nobody", "raw"), None);
    }

    #[test]
    fn losses_name_the_row_and_the_reference() {
        assert_eq!(report().losses(), ["ours: 1.50 × raw"]);
    }

    #[test]
    fn text_shows_the_table_and_how_to_repeat_it() {
        let text = report().to_string();
        for part in [
            "ncpu: 2",
            "n: 3",
            "median µs",
            "× raw",
            "× theirs",
            "1.50",
            "a note",
            "FAILED: ours, start: hangs",
            "we lose:\n  ours",
            "again: cargo xtask bench start",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn no_loss_is_said_too() {
        let mut report = report();
        report.tables.clear();
        assert!(report.to_string().contains("we lose: nowhere"));
    }
}
