//! `cargo xtask models`: the synchronisation protocols under the model checker, which tries every interleaving it is told to.

use crate::workspace::Workspace;
use crate::{Result, Verdict};

/// The crates that have models, all of them unit tests under `cfg(loom)`.
const PACKAGES: [&str; 2] = ["multi-chan", "multi-goro"];

/// Builds those crates for loom, in a target folder of their own since the flag changes every crate, and runs the models.
pub(crate) fn run(workspace: &Workspace) -> Result<Verdict> {
    let packages = PACKAGES.iter().flat_map(|name| ["--package", name]);
    let status = workspace
        .cargo()
        .args(["test", "--release", "--lib", "--target-dir", "target/loom"])
        .args(packages)
        .env("RUSTFLAGS", "--cfg loom")
        .status()?;
    Ok(Verdict::green_if(status.success()))
}
