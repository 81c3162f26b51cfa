//! `cargo xtask tidy`: the rules of this repository that no lint can say.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{Member, Workspace};
use crate::{Result, Verdict};

/// What may lie at the top beside the members' folders and dot files. `target` is cargo's.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "target",
];

/// Who may depend on whom, tests aside: the one-minute picture. A backend that is not listed may use the contract alone.
const PICTURE: &[(&str, &[&str])] = &[
    ("multi-bench", &["multi-*"]),
    ("multi-chan", &[]),
    ("multi-core", &[]),
    ("multi-proc", &["multi-chan", "multi-core"]),
    ("xtask", &[]),
];
const NEW_BACKEND: &[&str] = &["multi-core"];

/// Crates whose atomics come through their `sync.rs`, so that the model checker can stand in for them.
const MODELLED: &[&str] = &["multi-chan", "multi-goro", "multi-proc"];

/// Words that mean unfinished work, split so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("#[", "ignore"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

/// Checks everything and prints one line per finding.
pub(crate) fn run(workspace: &Workspace) -> Result<Verdict> {
    let mut findings = top_level(workspace)?;
    findings.extend(workspace.members.iter().flat_map(dependencies));
    for member in &workspace.members {
        for file in rust_files(&member.dir)? {
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            let inside = file.strip_prefix(&member.dir)?;
            findings.extend(
                source(&member.name, inside, &text)
                    .into_iter()
                    .map(|(line, what)| {
                        format!("{}:{line}: {what}", workspace.relative(&file).display())
                    }),
            );
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} crates, nothing to say", workspace.members.len());
    }
    Ok(Verdict::green_if(findings.is_empty()))
}

/// Entries of the root folder that have no business there.
fn top_level(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for entry in fs::read_dir(&workspace.root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let member = workspace
            .members
            .iter()
            .any(|member| member.dir == entry.path() && member.name == name);
        if !(name.starts_with('.') || TOP_LEVEL.contains(&&*name) || member) {
            findings.push(format!(
                "{name}: not a member of the workspace, so not something for the top level"
            ));
        }
    }
    findings.sort();
    Ok(findings)
}

/// Dependencies that the picture does not have.
fn dependencies(member: &Member) -> Vec<String> {
    let allowed = PICTURE
        .iter()
        .find(|(name, _)| *name == member.name)
        .map_or(NEW_BACKEND, |(_, allowed)| allowed);
    let ours = |name: &str| name == "xtask" || name.starts_with("multi-");
    let is_allowed = |name: &str| {
        allowed.iter().any(|pattern| {
            *pattern == name || (*pattern == "multi-*" && name.starts_with("multi-"))
        })
    };
    // Tests may set one backend beside another, but nothing builds on the programs.
    let programs = |name: &str| name == "multi-bench" || name == "xtask";
    member
        .dependencies
        .iter()
        .filter(|dependency| ours(&dependency.name))
        .filter(|dependency| {
            if dependency.dev {
                programs(&dependency.name)
            } else {
                !is_allowed(&dependency.name)
            }
        })
        .map(|dependency| format!("{}: must not depend on {}", member.name, dependency.name))
        .collect()
}

/// Lines of one source file of `member` that break a rule; `path` is relative to the crate.
fn source(member: &str, path: &Path, text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    let is_modelled =
        MODELLED.contains(&member) && path.starts_with("src") && path != Path::new("src/sync.rs");
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        if names_libc(code) && !may_name_libc(path) {
            findings.push((
                index + 1,
                "names libc; only files called sys.rs do".to_owned(),
            ));
        }
        // clippy's disallowed-types sees through a re-export, so it cannot say which way a type came.
        if is_modelled
            && ["std::sync::atomic", "core::sync::atomic"]
                .iter()
                .any(|path| code.contains(path))
        {
            findings.push((
                index + 1,
                "names std::sync::atomic; use crate::sync".to_owned(),
            ));
        }
        if let Some(word) = UNFINISHED.iter().find(|word| code.contains(**word)) {
            findings.push((index + 1, format!("unfinished: {word}")));
        }
    }
    findings
}

fn names_libc(code: &str) -> bool {
    [
        concat!("lib", "c::"),
        concat!("use lib", "c;"),
        concat!("use lib", "c as"),
    ]
    .iter()
    .any(|word| {
        code.match_indices(word)
            .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// `sys.rs`, anything in a folder `sys`, and what is no part of a library: integration tests do to a process what no crate of ours offers
/// (lower its limits, kill it), and multi-chan's examples fork without a crate of ours.
fn may_name_libc(path: &Path) -> bool {
    let is_sys = |part: &OsStr| part == "sys" || part == "sys.rs";
    path.iter().any(is_sys) || !path.starts_with("src")
}

/// Every Rust file below `dir`, in order.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn member(name: &str, dependencies: &[(&str, bool)]) -> Member {
        Member {
            name: name.to_owned(),
            dir: PathBuf::from(name),
            tests: Vec::new(),
            dependencies: dependencies
                .iter()
                .map(|(name, dev)| Dependency {
                    name: (*name).to_owned(),
                    dev: *dev,
                })
                .collect(),
        }
    }

    #[test]
    fn backends_do_not_know_each_other() {
        for (name, on) in [
            ("multi-goro", "multi-pthread"),
            ("multi-demo", "multi-chan"),
            ("multi-core", "multi-chan"),
            ("xtask", "multi-core"),
        ] {
            assert_eq!(
                dependencies(&member(name, &[(on, false)])),
                [format!("{name}: must not depend on {on}")]
            );
        }
    }

    #[test]
    fn the_picture_itself_is_allowed() {
        for (name, on) in [
            ("multi-proc", "multi-chan"),
            ("multi-demo", "multi-core"),
            ("multi-bench", "multi-demo"),
            ("multi-chan", "libc"),
        ] {
            assert!(
                dependencies(&member(name, &[(on, false)])).is_empty(),
                "{name} on {on}"
            );
        }
    }

    #[test]
    fn tests_may_mix_backends_but_not_use_the_programs() {
        assert!(dependencies(&member("multi-proc", &[("multi-goro", true)])).is_empty());
        assert_eq!(
            dependencies(&member("multi-proc", &[("multi-bench", true)])).len(),
            1
        );
    }

    #[test]
    fn libc_is_named_in_sys_files_only() {
        let code = concat!("    unsafe { lib", "c::getpid() }");
        assert_eq!(
            source("multi-demo", Path::new("src/thread.rs"), code).len(),
            1
        );
        for allowed in [
            "src/sys.rs",
            "src/sys/linux.rs",
            "tests/support/mod.rs",
            "tests/fork.rs",
            "examples/fork.rs",
        ] {
            assert!(
                source("multi-demo", Path::new(allowed), code).is_empty(),
                "{allowed}"
            );
        }
        assert!(
            source(
                "multi-demo",
                Path::new("src/a.rs"),
                concat!("// see lib", "c::getpid")
            )
            .is_empty(),
            "a comment may"
        );
        assert!(
            source(
                "multi-demo",
                Path::new("src/a.rs"),
                concat!("mylib", "c::f()")
            )
            .is_empty(),
            "another name may"
        );
    }

    #[test]
    fn atomics_of_modelled_crates_come_through_sync() {
        let code = "use std::sync::atomic::AtomicU32;";
        assert_eq!(
            source("multi-goro", Path::new("src/proto/ring.rs"), code).len(),
            1
        );
        assert!(source("multi-goro", Path::new("src/sync.rs"), code).is_empty());
        assert!(source("multi-goro", Path::new("tests/stress.rs"), code).is_empty());
        assert!(source("multi-core", Path::new("src/ledger.rs"), code).is_empty());
        let model = "use loom::sync::atomic::AtomicU32;";
        assert!(source("multi-goro", Path::new("src/proto/ring.rs"), model).is_empty());
    }

    #[test]
    fn unfinished_work_is_found() {
        for word in UNFINISHED {
            let code = format!("fn f() {{ {word}) }}");
            assert_eq!(
                source("multi-demo", Path::new("src/a.rs"), &code),
                [(1, format!("unfinished: {word}"))]
            );
        }
    }
}
