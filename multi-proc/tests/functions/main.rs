//! Groups of functions, on a zygote and by execution, tested on the main thread of a program that calls `init` as it should, or does not.

#![expect(clippy::print_stdout, reason = "tests show what they counted")]
#![expect(
    clippy::exit,
    clippy::infinite_loop,
    reason = "what tasks do that do not end well"
)]

#[path = "../support/mod.rs"]
mod support;

mod death;
mod init;
mod passing;
mod points;
mod pool;
mod residue;
mod strangers;
mod values;
mod zygote;

use multi_proc::{BuildError, Builder, FnGroup, Group};
use std::process::ExitCode;
use std::time::Duration;

/// How a group is made, and its name.
pub(crate) type Way = (&'static str, fn(Builder) -> Result<FnGroup, BuildError>);
pub(crate) const WAYS: [Way; 2] = [("zygote", Builder::zygote), ("spawn", Builder::spawn)];

/// Both kinds of group, with the default options.
pub(crate) fn groups() -> [(&'static str, FnGroup); 2] {
    WAYS.map(|(name, way)| (name, way(Group::builder()).unwrap()))
}

fn main() -> ExitCode {
    support::sys::no_core_files();
    // Programs that do it wrong.
    if support::play_if_there(&[init::BEFORE_INIT, pool::BEFORE_INIT].concat()) {
        return ExitCode::SUCCESS;
    }
    multi_proc::init();
    if support::play(
        &[
            init::SCENES,
            death::SCENES,
            passing::SCENES,
            pool::SCENES,
            zygote::SCENES,
        ]
        .concat(),
    ) {
        return ExitCode::SUCCESS;
    }
    let tests = [
        death::TESTS,
        init::TESTS,
        passing::TESTS,
        points::TESTS,
        pool::TESTS,
        residue::TESTS,
        strangers::TESTS,
        values::TESTS,
        zygote::TESTS,
    ];
    support::run(&tests.concat(), Duration::from_secs(60))
}
