//! One thread that does everything itself: what no group of tasks can beat by more than its processors.

use std::time::Instant;

use crate::Result;
use crate::job::{Job, Work};
use crate::peers::load::fib;

pub(crate) fn perform(job: &Job) -> Result<Work> {
    match &*job.workload {
        "join" => {
            let n = job.number("n")?;
            Ok(Work::once(move || {
                let started = Instant::now();
                fib(n);
                Ok(vec![("total", started.elapsed().as_secs_f64() * 1e9)])
            }))
        }
        _ => job.unknown("serial"),
    }
}
