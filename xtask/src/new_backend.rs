//! `cargo xtask new-backend NAME`: a small working backend to start from.
//!
//! The templates are ordinary files under `xtask/templates/`; in them `{{name}}` stands for the name as given (`my-demo`) and `{{ident}}`
//! for the same as an identifier (`my_demo`).

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use crate::workspace::Workspace;
use crate::{Result, Verdict};

/// Where each template goes, from the new crate's folder.
const TEMPLATES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../templates/Cargo.toml.in")),
    ("CHANGELOG.md", include_str!("../templates/CHANGELOG.md.in")),
    ("src/lib.rs", include_str!("../templates/lib.rs.in")),
    ("src/group.rs", include_str!("../templates/group.rs.in")),
    (
        "tests/conformance.rs",
        include_str!("../templates/conformance.rs.in"),
    ),
];

/// The line of the bench's table above which a new row goes.
const BENCH_ROWS_END: &str = "// A new backend's row goes above this line.";

/// Words that are no name for anything in Rust 2024.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Writes the crate, registers it, and prints what to do next.
pub(crate) fn run(workspace: &Workspace, name: &str) -> Result<Verdict> {
    check_name(name)?;
    let package = format!("multi-{name}");
    let dir = workspace.root.join(&package);
    if workspace
        .members
        .iter()
        .any(|member| member.name == package)
        || dir.exists()
    {
        return Err(format!("{package} exists already").into());
    }
    // Every edit is worked out before the first file is written, so a failure leaves nothing half-registered.
    let edits = [
        edit(workspace, "Cargo.toml", |text| register(text, &package))?,
        edit(workspace, "multi-bench/Cargo.toml", |text| {
            insert_sorted(
                text,
                "[dependencies]",
                &format!("{package}.workspace = true"),
            )
        })?,
        edit(workspace, "multi-bench/src/contender.rs", |text| {
            add_row(text, name)
        })?,
    ];
    for (file, template) in TEMPLATES {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().ok_or("a template without a folder")?)?;
        fs::write(&path, fill(template, name))?;
    }
    for (path, text) in &edits {
        fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    tidy_up(workspace, &package);
    println!("wrote {package}: a thread per task, over multi-core's ledger");
    for (path, _) in &edits {
        println!("registered it in {}", workspace.relative(path).display());
    }
    println!(
        "\nnow edit\n  {package}/src/group.rs        how a task starts, and what waits for it\n  {package}/src/lib.rs          what the backend is, and when not to use it\n  {package}/tests/conformance.rs  rules that cannot apply, each with its reason\nand look with\n  cargo test -p {package}\n  cargo xtask conformance\n  cargo xtask bench"
    );
    Ok(Verdict::Green)
}

/// Has cargo break lines that a long name has made too long. Nothing is lost without rustfmt.
fn tidy_up(workspace: &Workspace, package: &str) {
    let mut fmt = workspace.cargo();
    fmt.args(["fmt", "--package", package, "--package", "multi-bench"]);
    let formatted = fmt.stderr(Stdio::null()).status();
    if !formatted.is_ok_and(|status| status.success()) {
        println!("rustfmt is not there or failed: run cargo fmt later");
    }
}

fn check_name(name: &str) -> Result {
    let mut chars = name.chars();
    if name.is_empty() {
        return Err("the name is empty; give a word such as demo".into());
    }
    if !chars.next().is_some_and(|c| c.is_ascii_lowercase())
        || !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        return Err(format!("{name:?} is no name for a backend: a lower-case letter first, then lower-case letters, digits and hyphens").into());
    }
    if name.ends_with('-') || name.contains("--") {
        return Err(format!(
            "{name:?} is no name for a backend: a hyphen stands between two words"
        )
        .into());
    }
    if KEYWORDS.contains(&name) {
        return Err(format!("{name:?} is a keyword of Rust").into());
    }
    if let Some(rest) = name.strip_prefix("multi-") {
        return Err(
            format!("{name:?}: the folder gets its multi- by itself; give {rest:?}").into(),
        );
    }
    Ok(())
}

fn fill(template: &str, name: &str) -> String {
    template
        .replace("{{name}}", name)
        .replace("{{ident}}", &name.replace('-', "_"))
}

/// A file of the workspace and what it shall be.
fn edit(
    workspace: &Workspace,
    file: &str,
    change: impl FnOnce(&str) -> Result<String>,
) -> Result<(PathBuf, String)> {
    let path = workspace.root.join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {file}: {error}"))?;
    let text =
        change(&text).map_err(|error| format!("cannot register the backend in {file}: {error}"))?;
    Ok((path, text))
}

/// The root manifest with the crate as a member and as a dependency to share.
fn register(text: &str, package: &str) -> Result<String> {
    let text = insert_sorted(text, "members = [", &format!("    \"{package}\","))?;
    let text = insert_sorted(
        &text,
        "[workspace.dependencies]",
        &format!("{package} = {{ path = \"{package}\" }}"),
    )?;
    let default = text
        .lines()
        .find(|line| line.starts_with("default-members = ["))
        .ok_or("no line \"default-members = [..]\"")?;
    let longer = default
        .strip_suffix(']')
        .ok_or("default-members is not on one line")?;
    Ok(text.replacen(default, &format!("{longer}, \"{package}\"]"), 1))
}

/// `text` with `line` among the lines that follow the line `after`, up to the first that is not one of ours, sorted.
fn insert_sorted(text: &str, after: &str, line: &str) -> Result<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let start = lines
        .iter()
        .position(|known| *known == after)
        .ok_or_else(|| format!("no line {after:?}"))?
        + 1;
    let section = &lines[start..];
    let length = section
        .iter()
        .position(|known| known.is_empty() || known.starts_with([']', '[']))
        .unwrap_or(section.len());
    let ours = |known: &str| known.trim_start_matches([' ', '"']).starts_with("multi-");
    let at = section[..length]
        .iter()
        .position(|known| ours(known) && *known > line)
        .or_else(|| {
            section[..length]
                .iter()
                .rposition(|known| ours(known))
                .map(|last| last + 1)
        })
        .unwrap_or(0);
    lines.insert(start + at, line);
    Ok(lines.join("\n") + "\n")
}

/// The bench's table with one more row.
fn add_row(text: &str, name: &str) -> Result<String> {
    let line = text
        .lines()
        .find(|line| line.trim() == BENCH_ROWS_END)
        .ok_or_else(|| format!("no line {BENCH_ROWS_END:?}"))?;
    let indent = &line[..line.len() - line.trim_start().len()];
    let ident = name.replace('-', "_");
    let row = format!(
        "{indent}Contender::ours(\"{name}.Group\", |work| work.in_group(multi_{ident}::Group::new())),\n"
    );
    Ok(text.replacen(line, &(row + line), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        for (name, reason) in [
            ("", "empty"),
            ("Demo", "lower-case"),
            ("9demo", "lower-case letter first"),
            ("-demo", "lower-case letter first"),
            ("de_mo", "hyphens"),
            ("demo/..", "hyphens"),
            ("démo", "hyphens"),
            ("demo-", "between two words"),
            ("async", "keyword"),
            ("multi-demo", "give \"demo\""),
        ] {
            let error = check_name(name).expect_err(name).to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
        for name in ["demo", "my-demo", "io2"] {
            check_name(name).expect(name);
        }
    }

    #[test]
    fn the_root_manifest_stays_sorted() {
        let text = "[workspace]\nmembers = [\n    \"multi-bench\",\n    \"multi-pthread\",\n    \"xtask\",\n]\ndefault-members = [\"multi-core\"]\n\n\
                    [workspace.dependencies]\nmulti-bench = 1\nmulti-pthread = 2\n\n# Other.\nserde = 1\n";
        let expected = "[workspace]\nmembers = [\n    \"multi-bench\",\n    \"multi-demo\",\n    \"multi-pthread\",\n    \"xtask\",\n]\n\
                        default-members = [\"multi-core\", \"multi-demo\"]\n\n[workspace.dependencies]\nmulti-bench = 1\n\
                        multi-demo = { path = \"multi-demo\" }\nmulti-pthread = 2\n\n# Other.\nserde = 1\n";
        assert_eq!(register(text, "multi-demo").expect("well-formed"), expected);
        let last = register(text, "multi-zero").expect("well-formed");
        assert!(
            last.contains("\"multi-pthread\",\n    \"multi-zero\",\n    \"xtask\""),
            "{last}"
        );
    }

    #[test]
    fn a_manifest_without_the_place_is_an_error() {
        assert_eq!(
            register("[package]\n", "multi-demo")
                .expect_err("no members")
                .to_string(),
            "no line \"members = [\""
        );
    }

    #[test]
    fn the_row_goes_above_the_marker() {
        let text = format!("[\n    a,\n    {BENCH_ROWS_END}\n]\n");
        let row = "    Contender::ours(\"my-demo.Group\", |work| work.in_group(multi_my_demo::Group::new())),";
        assert_eq!(
            add_row(&text, "my-demo").expect("has the marker"),
            format!("[\n    a,\n{row}\n    {BENCH_ROWS_END}\n]\n")
        );
    }
}
