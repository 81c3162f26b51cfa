//! `cargo xtask models`: the synchronisation protocols under the model checker, which tries every interleaving it is told to.

use crate::workspace::Workspace;
use crate::{Result, Verdict};

/// The crates that have models, all of them unit tests under `cfg(loom)`.
const PACKAGES: [&str; 3] = ["multi-chan", "multi-goro", "multi-proc"];

/// Those whose protocols also run with more threads than loom can try all orders of, under `cfg(shuttle)` beside it.
const CROWDED: [&str; 1] = ["multi-goro"];

/// Builds those crates for each checker, in target folders of their own since the flags change every crate, and runs the models;
/// the largest within smaller bounds unless it is to be thorough.
pub(crate) fn run(workspace: &Workspace, thorough: bool) -> Result<Verdict> {
    let thorough = thorough.then_some(("MULTI_MODELS_THOROUGH", "1"));
    let check = |packages: &[&str], folder: &str, flags: &str| {
        let packages = packages.iter().flat_map(|name| ["--package", name]);
        workspace
            .cargo()
            .args([
                "test",
                "--profile",
                "models",
                "--lib",
                "--target-dir",
                folder,
            ])
            .args(packages)
            .env("RUSTFLAGS", flags)
            .envs(thorough)
            .status()
    };
    let few = check(&PACKAGES, "target/loom", "--cfg loom")?;
    let many = check(&CROWDED, "target/shuttle", "--cfg loom --cfg shuttle")?;
    Ok(Verdict::green_if(few.success() && many.success()))
}
