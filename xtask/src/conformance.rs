//! `cargo xtask conformance`: the contract's rules over every backend, as tables of rules × backends.
//!
//! A backend is a member with a `tests/conformance.rs`. Its rules append one JSON line each to the file named by
//! `MULTI_CONFORMANCE_REPORT`; a rule that one backend has and another lacks counts as failed for the other, so a run that dies
//! half-way cannot pass. Each trait of the contract has a table of its own: what runs functions and no closures is in that of `SpawnFn`
//! alone, while what is in that of `Group` has to be in both.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;

use crate::workspace::Workspace;
use crate::{Result, Verdict, limit};

/// Names the file that the rules append to.
const REPORT_VARIABLE: &str = "MULTI_CONFORMANCE_REPORT";

/// Names the folder of those files, to the runner of every test binary.
const REPORTS_VARIABLE: &str = "MULTI_CONFORMANCE_REPORTS";

/// The trait whose rules a line is of, where it does not say.
const GROUP: &str = "Group";

/// As much of a reason as a footnote shows: a few lines.
const REASON_CHARS_MAX: usize = 400;

/// What a rule found of a backend, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Passed,
    NotApplicable,
    Failed,
    /// No line in the report.
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    mark: Mark,
    reason: String,
}

/// What all crates reported.
#[derive(Debug, Default)]
struct Matrix {
    /// One for each trait, in the order in which they were first seen.
    parts: Vec<Part>,
    /// What went wrong beside the rules: a run that ended badly, a report that cannot be read.
    troubles: Vec<String>,
}

/// Rules × backends of one trait, both in the order in which they were first seen.
#[derive(Debug, Default)]
struct Part {
    contract: String,
    rules: Vec<Rule>,
    backends: Vec<String>,
    cells: HashMap<(String, String), Cell>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    doc: String,
}

/// Runs the rules and ends with the line `N passed, N failed`.
pub(crate) fn run(workspace: &Workspace, limit: Duration, docs: bool) -> Result<Verdict> {
    let reports = Reports::empty(workspace)?;
    if reports.crates.is_empty() {
        return Err("no member has a tests/conformance.rs".into());
    }
    let mut build = workspace.cargo();
    build.args(["test", "--no-run", "--test", "conformance"]);
    build.args(reports.crates.iter().flat_map(|name| ["--package", name]));
    if !build.status()?.success() {
        return Err("the conformance tests do not build".into());
    }
    let mut matrix = Matrix::default();
    for name in &reports.crates {
        eprintln!("running the rules over {name}");
        let mut cargo = limit::cargo_test(workspace, limit)?;
        cargo.args(["--quiet", "--package", name, "--test", "conformance"]);
        reports.ask_of(&mut cargo);
        let output = cargo.stdin(Stdio::null()).output()?;
        matrix.add_run(name, &reports.read(name)?, output.status.success());
        if !output.status.success() {
            println!("{}", String::from_utf8_lossy(&output.stdout));
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    matrix.complete();
    print!("{}", matrix.render(docs));
    Ok(Verdict::green_if(matrix.count().failed == 0))
}

/// What the rules of each backend's crate report, a file for each.
#[derive(Debug)]
pub(crate) struct Reports {
    folder: PathBuf,
    /// The crates that have rules to run.
    crates: Vec<String>,
}

impl Reports {
    /// An empty file for each crate, not none: a run that reports nothing is then seen as such.
    pub(crate) fn empty(workspace: &Workspace) -> Result<Self> {
        let reports = Self {
            folder: workspace.target.join("conformance"),
            crates: workspace
                .members_with_test("conformance")
                .map(|member| member.name.clone())
                .collect(),
        };
        fs::create_dir_all(&reports.folder)?;
        for name in &reports.crates {
            fs::write(file_of(&reports.folder, name), "")?;
        }
        Ok(reports)
    }

    /// Makes the conformance tests that `cargo` runs under [`limit`] report here.
    pub(crate) fn ask_of(&self, cargo: &mut Command) {
        cargo.env(REPORTS_VARIABLE, &self.folder);
    }

    /// The table of what was reported in a run of all tests, which counts by itself the crates whose run failed.
    pub(crate) fn table(&self) -> Result<Table> {
        let mut matrix = Matrix::default();
        for name in &self.crates {
            matrix.add_run(name, &self.read(name)?, true);
        }
        matrix.complete();
        Ok(Table {
            text: matrix.render(false),
            failed: matrix.count().failed,
        })
    }

    fn read(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(file_of(&self.folder, name))?)
    }
}

/// Rules × backends, to be printed.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) text: String,
    pub(crate) failed: usize,
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.jsonl"))
}

/// The variable with which the test binary `program`, started by cargo for one package, is told where to report; none for other tests.
pub(crate) fn report_of(program: &Path) -> Option<(&'static str, PathBuf)> {
    let rules = program.file_name()?.to_str()?.starts_with("conformance-");
    let folder = env::var_os(REPORTS_VARIABLE).filter(|_| rules)?;
    let package = env::var("CARGO_PKG_NAME").ok()?;
    Some((REPORT_VARIABLE, file_of(Path::new(&folder), &package)))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    not_applicable: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.not_applicable += other.not_applicable;
        self.failed += other.failed;
    }
}

impl Matrix {
    /// Takes in what one crate reported. A crate may be several backends (green and locked tasks).
    fn add_run(&mut self, name: &str, report: &str, success: bool) {
        let mut saw_failure = false;
        let mut lines = 0;
        for line in report.lines().filter(|line| !line.trim().is_empty()) {
            match self.add_line(line) {
                Ok(mark) => saw_failure |= mark == Mark::Failed,
                Err(error) => self.troubles.push(format!(
                    "{name}: unreadable line in the report: {error}: {line}"
                )),
            }
            lines += 1;
        }
        if lines == 0 {
            self.troubles
                .push(format!("{name}: its rules reported nothing"));
            self.part(GROUP)
                .add_backend(name.strip_prefix("multi-").unwrap_or(name));
        } else if !success && !saw_failure {
            self.troubles.push(format!(
                "{name}: the run failed, although no rule that reported did; its output is above"
            ));
        }
    }

    fn add_line(&mut self, line: &str) -> Result<Mark> {
        let value: Value = serde_json::from_str(line)?;
        let text = |field: &str| {
            value[field]
                .as_str()
                .ok_or_else(|| format!("no text {field:?}"))
        };
        let (backend, rule) = (text("backend")?, text("rule")?);
        let mark = match text("verdict")? {
            "passed" => Mark::Passed,
            "not applicable" => Mark::NotApplicable,
            "failed" => Mark::Failed,
            other => return Err(format!("unknown verdict {other:?}").into()),
        };
        let cell = Cell {
            mark,
            reason: text("reason").unwrap_or_default().to_owned(),
        };
        let doc = text("doc").unwrap_or_default().trim();
        self.part(text("contract").unwrap_or(GROUP))
            .add(backend, rule, doc, cell);
        Ok(mark)
    }

    fn part(&mut self, contract: &str) -> &mut Part {
        let known = self.parts.iter().position(|part| part.contract == contract);
        let at = known.unwrap_or_else(|| {
            self.parts.push(Part {
                contract: contract.to_owned(),
                ..Part::default()
            });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    /// Has every backend in the other tables whose tasks are closures: it runs functions, too.
    fn complete(&mut self) {
        let groups = self.parts.iter().find(|part| part.contract == GROUP);
        let groups = groups.map_or_else(Vec::new, |part| part.backends.clone());
        for part in &mut self.parts {
            groups.iter().for_each(|backend| part.add_backend(backend));
        }
    }

    fn count(&self) -> Count {
        let mut count = Count {
            failed: self.troubles.len(),
            ..Count::default()
        };
        self.parts.iter().for_each(|part| count.add(&part.count()));
        count
    }

    /// The tables, their footnotes, the troubles, and the closing line.
    fn render(&self, docs: bool) -> String {
        let mut out = String::new();
        for part in &self.parts {
            out += &part.render(docs);
        }
        for trouble in &self.troubles {
            out += &format!("FAILED: {trouble}\n");
        }
        out.push('\n');
        for part in &self.parts {
            // With one table there is nothing to tell apart.
            if self.parts.len() > 1 {
                out += &format!("{}: ", part.contract);
            }
            out += &format!(
                "{} rules × {} backends; {} not applicable\n",
                part.rules.len(),
                part.backends.len(),
                part.count().not_applicable
            );
        }
        let Count { passed, failed, .. } = self.count();
        out += &format!("{passed} passed, {failed} failed\n");
        out
    }
}

impl Part {
    fn add(&mut self, backend: &str, rule: &str, doc: &str, cell: Cell) {
        if !self.rules.iter().any(|known| known.name == rule) {
            self.rules.push(Rule {
                name: rule.to_owned(),
                doc: doc.to_owned(),
            });
        }
        self.add_backend(backend);
        // The worse of two: a rule that ran twice passed twice or did not pass.
        let slot = self
            .cells
            .entry((rule.to_owned(), backend.to_owned()))
            .or_insert_with(|| cell.clone());
        if cell.mark > slot.mark {
            *slot = cell;
        }
    }

    fn add_backend(&mut self, backend: &str) {
        if !self.backends.iter().any(|known| known == backend) {
            self.backends.push(backend.to_owned());
        }
    }

    fn cell(&self, rule: &str, backend: &str) -> Cell {
        self.cells.get(&(rule.to_owned(), backend.to_owned())).cloned().unwrap_or_else(|| Cell {
            mark: Mark::Missing,
            reason: "no verdict: the run ended before this rule, or it is not in this backend's list".to_owned(),
        })
    }

    fn count(&self) -> Count {
        let mut count = Count::default();
        for rule in &self.rules {
            for backend in &self.backends {
                match self.cell(&rule.name, backend).mark {
                    Mark::Passed => count.passed += 1,
                    Mark::NotApplicable => count.not_applicable += 1,
                    Mark::Failed | Mark::Missing => count.failed += 1,
                }
            }
        }
        count
    }

    /// The table and its footnotes.
    fn render(&self, docs: bool) -> String {
        let mut notes = Footnotes::default();
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let corner = format!("rule of {}", self.contract);
        table.set_header(std::iter::once(corner).chain(self.backends.iter().cloned()));
        for rule in &self.rules {
            let row = self.backends.iter().map(|backend| {
                let cell = self.cell(&rule.name, backend);
                match cell.mark {
                    Mark::Passed => "passed".to_owned(),
                    Mark::NotApplicable => format!("n/a [{}]", notes.number(&cell.reason)),
                    Mark::Failed => format!("FAILED [{}]", notes.number(&cell.reason)),
                    Mark::Missing => format!("MISSING [{}]", notes.number(&cell.reason)),
                }
            });
            table.add_row(
                std::iter::once(rule.name.clone())
                    .chain(row)
                    .collect::<Vec<_>>(),
            );
        }
        let mut out = format!("{table}\n");
        for (number, note) in notes.in_order() {
            out += &format!("[{number}] {note}\n");
        }
        if docs {
            out += "\n";
            for rule in &self.rules {
                out += &format!("{}: {}\n", rule.name, rule.doc);
            }
        }
        out
    }
}

/// Numbers for reasons: the same text, the same number.
#[derive(Debug, Default)]
struct Footnotes(BTreeMap<String, usize>);

impl Footnotes {
    fn number(&mut self, note: &str) -> usize {
        let next = self.0.len() + 1;
        let note = match note.trim() {
            "" => "no reason given".to_owned(),
            note => shortened(note),
        };
        *self.0.entry(note).or_insert(next)
    }

    fn in_order(&self) -> Vec<(usize, &str)> {
        let mut notes: Vec<_> = self
            .0
            .iter()
            .map(|(note, number)| (*number, &**note))
            .collect();
        notes.sort_unstable();
        notes
    }
}

/// The start of a long reason; a backtrace in it is in the run's output, too.
fn shortened(note: &str) -> String {
    match note.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{} ..", &note[..end]),
        None => note.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(backend: &str, rule: &str, verdict: &str, reason: &str) -> String {
        serde_json::json!({"backend": backend, "rule": rule, "verdict": verdict, "reason": reason, "doc": "A doc."}).to_string() + "\n"
    }

    #[test]
    fn all_passed_closes_with_no_failures() {
        let mut matrix = Matrix::default();
        let reason = "threads share memory";
        matrix.add_run(
            "multi-goro",
            &(line("goro", "a", "passed", "")
                + &line("goro locked", "a", "not applicable", reason)),
            true,
        );
        matrix.add_run(
            "multi-pthread",
            &line("pthread", "a", "not applicable", reason),
            true,
        );
        let out = matrix.render(true);
        assert!(
            out.ends_with("1 rules × 3 backends; 2 not applicable\n1 passed, 0 failed\n"),
            "{out}"
        );
        assert_eq!(
            out.matches(reason).count(),
            1,
            "one footnote for one reason: {out}"
        );
        assert!(out.contains("a: A doc."), "{out}");
    }

    #[test]
    fn a_rule_missing_from_one_backend_counts_as_failed() {
        let mut matrix = Matrix::default();
        matrix.add_run(
            "multi-goro",
            &(line("goro", "a", "passed", "") + &line("goro", "b", "passed", "")),
            true,
        );
        matrix.add_run("multi-proc", &line("proc", "a", "passed", ""), false);
        // The missing rule, and the run that failed without saying so.
        assert_eq!(
            matrix.count(),
            Count {
                passed: 3,
                not_applicable: 0,
                failed: 2
            }
        );
        assert!(matrix.render(false).contains("MISSING"));
    }

    #[test]
    fn a_backend_that_reports_nothing_fails_every_rule() {
        let mut matrix = Matrix::default();
        matrix.add_run("multi-goro", &line("goro", "a", "passed", ""), true);
        matrix.add_run("multi-demo", "", true);
        assert_eq!(
            matrix.count(),
            Count {
                passed: 1,
                not_applicable: 0,
                failed: 2
            }
        );
    }

    #[test]
    fn a_failure_stays_when_the_rule_runs_again() {
        let mut matrix = Matrix::default();
        let report = line("goro", "a", "failed", "lost a task") + &line("goro", "a", "passed", "");
        matrix.add_run("multi-goro", &report, false);
        assert_eq!(
            matrix.count(),
            Count {
                passed: 0,
                not_applicable: 0,
                failed: 1
            }
        );
        assert!(matrix.render(false).contains("lost a task"));
    }

    #[test]
    fn rules_of_functions_have_a_table_of_their_own_which_groups_cannot_leave_out() {
        let of_functions = |backend: &str| {
            line(backend, "f", "passed", "").replace("{\"", "{\"contract\":\"SpawnFn\",\"")
        };
        let mut matrix = Matrix::default();
        let report =
            line("proc", "a", "passed", "") + &of_functions("proc") + &of_functions("pool");
        matrix.add_run("multi-proc", &report, true);
        matrix.add_run("multi-pthread", &line("pthread", "a", "passed", ""), true);
        matrix.complete();
        // The pool keeps no rule of groups; threads have not kept that of functions.
        let out = matrix.render(false);
        let end = "\nGroup: 1 rules × 2 backends; 0 not applicable\n\
                   SpawnFn: 1 rules × 3 backends; 0 not applicable\n4 passed, 1 failed\n";
        assert!(out.ends_with(end), "{out}");
        assert_eq!(out.matches("MISSING").count(), 1, "{out}");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "é".repeat(REASON_CHARS_MAX + 1);
        assert_eq!(shortened(&long), "é".repeat(REASON_CHARS_MAX) + " ..");
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn a_torn_line_is_a_failure() {
        let mut matrix = Matrix::default();
        matrix.add_run(
            "multi-goro",
            &(line("goro", "a", "passed", "") + "{\"backend\":\"go"),
            true,
        );
        assert_eq!(matrix.count().failed, 1);
    }
}
