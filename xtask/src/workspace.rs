//! The workspace as cargo sees it: where it is, which crates it has, which targets they have.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;

/// The workspace around the current directory.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// Every member, in the order of their names.
    pub(crate) members: Vec<Member>,
}

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The folder of its manifest.
    pub(crate) dir: PathBuf,
    /// Names of its integration tests.
    pub(crate) tests: Vec<String>,
    /// What it depends on, development included.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a member's dependency tables.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether it is there for tests, examples and benches alone.
    pub(crate) dev: bool,
}

impl Workspace {
    /// Asks cargo for the workspace of the current directory.
    pub(crate) fn find() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err("cargo metadata failed; run cargo xtask inside the workspace".into());
        }
        Self::from_metadata(&serde_json::from_slice(&output.stdout)?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let mut members: Vec<Member> = array(metadata, "packages")?
            .iter()
            .map(Member::from_metadata)
            .collect::<Result<_>>()?;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root: PathBuf::from(text(metadata, "workspace_root")?),
            target: PathBuf::from(text(metadata, "target_directory")?),
            members,
        })
    }

    /// `cargo` in the root of this workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// The members that have an integration test of this name, in the order of their names.
    pub(crate) fn members_with_test<'a>(
        &'a self,
        test: &'a str,
    ) -> impl Iterator<Item = &'a Member> {
        self.members
            .iter()
            .filter(move |member| member.tests.iter().any(|name| name == test))
    }

    /// `path` as seen from the root, for messages.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl Member {
    fn from_metadata(package: &Value) -> Result<Self> {
        let manifest = PathBuf::from(text(package, "manifest_path")?);
        let dir = manifest
            .parent()
            .ok_or("a manifest path without a folder")?
            .to_owned();
        let tests = array(package, "targets")?
            .iter()
            .filter(|target| {
                target["kind"]
                    .as_array()
                    .is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"))
            })
            .map(|target| text(target, "name").map(str::to_owned))
            .collect::<Result<_>>()?;
        let dependencies = array(package, "dependencies")?
            .iter()
            .map(|dependency| {
                Ok(Dependency {
                    name: text(dependency, "name")?.to_owned(),
                    dev: dependency["kind"] == "dev",
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            name: text(package, "name")?.to_owned(),
            dir,
            tests,
            dependencies,
        })
    }
}

/// The cargo that started us, or the one on the path.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // What `cargo run` set for xtask's own package must not leak into other packages' builds and tests.
    for (name, _) in env::vars_os() {
        let leaked = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if leaked {
            command.env_remove(name);
        }
    }
    command
}

fn array<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    value[field]
        .as_array()
        .ok_or_else(|| format!("cargo metadata has no list {field:?}").into())
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field]
        .as_str()
        .ok_or_else(|| format!("cargo metadata has no text {field:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_members_with_tests_and_dependencies() {
        let metadata = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [
                {"name": "b", "manifest_path": "/w/b/Cargo.toml",
                 "targets": [{"kind": ["lib"], "name": "b"}, {"kind": ["test"], "name": "conformance"}],
                 "dependencies": [{"name": "a", "kind": null}, {"name": "c", "kind": "dev"}]},
                {"name": "a", "manifest_path": "/w/a/Cargo.toml", "targets": [], "dependencies": []},
            ],
        });
        let workspace = Workspace::from_metadata(&metadata).expect("well-formed");
        assert_eq!(
            workspace
                .members
                .iter()
                .map(|member| &*member.name)
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        let found: Vec<_> = workspace.members_with_test("conformance").collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].dir, Path::new("/w/b"));
        assert!(!found[0].dependencies[0].dev && found[0].dependencies[1].dev);
    }

    #[test]
    fn metadata_without_packages_is_an_error() {
        let error = Workspace::from_metadata(&serde_json::json!({})).expect_err("nothing there");
        assert_eq!(error.to_string(), "cargo metadata has no list \"packages\"");
    }
}
