//! Tests that fork, run one after another on the main thread.

#![expect(
    clippy::print_stdout,
    reason = "seeds and counts belong to a test's report"
)]

mod bad_luck;
mod death;
mod inherit;
mod kill;
mod ledger;
mod mixed;
mod points;
mod report;
mod scenes;
mod spsc;
mod stage;
mod support;
mod traffic;
mod waiting;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // One thread means the main thread: a fork must not find others.
    arguments.test_threads = Some(1);
    let tests = [
        traffic::TESTS,
        waiting::TESTS,
        inherit::TESTS,
        death::TESTS,
        kill::TESTS,
        bad_luck::TESTS,
        mixed::TESTS,
        spsc::TESTS,
    ]
    .concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || {
                support::watched(name, test);
                Ok(())
            })
        })
        .chain(points::trials())
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    report::print();
    conclusion.exit();
}

/// A test's name and body.
type Test = (&'static str, fn());

/// A table of tests, each named as its function.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[$crate::Test] = &[$((stringify!($name), $name)),*];
    };
}
