//! Groups of processes, tested on the main thread: every way to die, values, time limits, unfriendly hosts.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests show what they counted, and what tasks print"
)]
#![expect(
    clippy::exit,
    clippy::infinite_loop,
    reason = "what tasks do that do not end well"
)]

#[path = "../support/mod.rs"]
mod support;

mod buffers;
mod death;
mod fork;
mod host;
mod inside;
mod interrupt;
mod limits;
mod output;
mod pool;
mod pool_table;
mod seed_faults;
mod table;
mod time;
mod values;

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    support::sys::no_core_files();
    if support::play(
        &[
            death::SCENES,
            fork::SCENES,
            inside::SCENES,
            interrupt::SCENES,
            table::SCENES,
        ]
        .concat(),
    ) {
        return ExitCode::SUCCESS;
    }
    let tests = [
        buffers::TESTS,
        death::TESTS,
        fork::TESTS,
        host::TESTS,
        inside::TESTS,
        interrupt::TESTS,
        limits::TESTS,
        output::TESTS,
        pool::TESTS,
        pool_table::TESTS,
        pool::workers::TESTS,
        seed_faults::TESTS,
        table::TESTS,
        time::TESTS,
        values::TESTS,
    ];
    support::run(&tests.concat(), Duration::from_secs(60))
}
