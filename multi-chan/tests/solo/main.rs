//! Tests that fork, run one after another on the main thread.

#![expect(
    clippy::print_stdout,
    reason = "seeds and counts belong to a test's report"
)]

mod account;
mod again;
mod bad_luck;
mod bytes;
mod chaos;
mod crowd;
mod death;
mod inherit;
mod kill;
mod kinds;
mod ledger;
mod lent;
mod letters;
mod loan;
mod mixed;
mod named;
mod pass;
mod plain_ring;
mod points;
mod poll;
mod redelivery;
mod redelivery_long;
mod report;
mod scenes;
mod scribble;
mod select;
mod sending;
mod spsc;
mod stage;
mod support;
mod traffic;
mod waiting;
mod wires;

use libtest_mimic::{Arguments, Trial};

fn main() {
    support::prepare_births();
    pass::play_part();
    let mut arguments = Arguments::from_args();
    // One thread means the main thread: a fork must not find others.
    arguments.test_threads = Some(1);
    let tests = [
        traffic::TESTS,
        waiting::TESTS,
        select::TESTS,
        death::TESTS,
        kill::TESTS,
        loan::TESTS,
        redelivery::TESTS,
        redelivery_long::TESTS,
        bad_luck::TESTS,
        poll::TESTS,
        mixed::TESTS,
        chaos::TESTS,
        named::TESTS,
        pass::TESTS,
        spsc::TESTS,
        lent::TESTS,
        bytes::TESTS,
        sending::TESTS,
        scribble::TESTS,
        // Last: once so many processes were on the roll, every sleeper has threads that watch it, and all the rest would take longer.
        inherit::TESTS,
        crowd::TESTS,
    ]
    .concat();
    // Once more as on a system that cannot sleep on several words.
    let mut without_waitv = [waiting::TESTS, select::TESTS, death::TESTS].concat();
    without_waitv.retain(|(name, _)| !death::LONG.contains(name));
    let mut trials = points::trials();
    trials.extend(without_waitv.into_iter().map(|test| trial(test, false)));
    trials.extend(tests.into_iter().map(|test| trial(test, true)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    report::print();
    conclusion.exit();
}

fn trial((name, test): Test, has_waitv: bool) -> Trial {
    let shown = match has_waitv {
        true => name.to_owned(),
        false => format!("{name}_without_futex_waitv"),
    };
    Trial::test(shown, move || {
        multi_chan::pretend_without_waitv(!has_waitv);
        support::watched(name, test);
        multi_chan::pretend_without_waitv(false);
        Ok(())
    })
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
