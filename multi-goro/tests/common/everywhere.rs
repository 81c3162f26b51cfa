//! A program wherever it may run.

use multi_goro::Runtime;

use crate::common::watchdog;

/// Runs `program` on a plain thread, and as a task beside one worker and two.
pub(crate) fn everywhere(program: impl Fn() + Sync) {
    let _dog = watchdog(60);
    program();
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&program);
    }
}
