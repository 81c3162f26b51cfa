//! Boost's part of the benchmark: built from `multi-bench/boost` where there is a C++ compiler.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::go::{run, target};

/// Its source.
const SOURCE: &str = include_str!("../boost/main.cpp");
/// A package of `PyPI` that carries Boost's headers.
const PACKAGE: &str = "boost-headers";

/// Builds Boost's part and returns the program. Where Boost's headers are not installed, they are fetched from `PyPI` into cargo's target
/// folder, where what is built stays, too.
///
/// # Errors
///
/// Why there is none: no `c++`, or no headers and no `python3` or network to fetch them.
pub fn program() -> Result<PathBuf> {
    let folder = target()?.join("boost");
    fs::create_dir_all(&folder)?;
    let (program, source) = (folder.join("multi-bench-boost"), folder.join("main.cpp"));
    // Built from this very source before.
    if program.exists() && fs::read_to_string(&source).is_ok_and(|old| old == SOURCE) {
        return Ok(program);
    }
    let building = folder.join("building.cpp");
    fs::write(&building, SOURCE)?;
    let compile = |headers: Option<&Path>| {
        let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut command = Command::new(compiler);
        command.args([
            "-std=c++17",
            "-O2",
            "-pthread",
            "-fno-diagnostics-show-caret",
        ]);
        if let Some(headers) = headers {
            command.arg("-isystem").arg(headers);
        }
        command.arg(&building).arg("-o").arg(&program);
        // Where shm_open was a library of its own.
        command.arg("-lrt");
        run(&mut command, "not installed: c++")
    };
    if let Err(without) = compile(None) {
        compile(Some(&headers(&folder, &without)?))?;
    }
    fs::rename(&building, &source)?;
    Ok(program)
}

/// The folder with fetched headers.
fn headers(folder: &Path, without: &crate::BoxError) -> Result<PathBuf> {
    if !without.to_string().contains("fatal error") && !without.to_string().contains("terminated") {
        return Err(without.to_string().into());
    }
    let fetched = folder.join("fetched");
    if find(&fetched).is_none() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
            .arg(&fetched)
            .arg(PACKAGE);
        run(
            &mut pip,
            "not installed: no Boost headers, and pip cannot fetch them",
        )?;
    }
    find(&fetched)
        .ok_or_else(|| format!("the package {PACKAGE} was fetched, but has no headers").into())
}

/// The folder below this one that has Boost's headers.
fn find(folder: &Path) -> Option<PathBuf> {
    if folder.join("boost/version.hpp").exists() {
        return Some(folder.to_owned());
    }
    let entries = fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .find_map(|path| find(&path))
}
