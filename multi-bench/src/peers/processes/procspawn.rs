//! procspawn: functions in processes that it starts from this program, one each or in a pool.

use procspawn::{Pool, spawn};

use super::{burn, jobs, round_trips, starts};
use crate::Result;
use crate::job::{Job, Work};

pub(super) fn perform(job: &Job) -> Result<Work> {
    match &*job.workload {
        "begin" => starts(job, || Ok(spawn((), |()| {}).join()?)),
        "ping" => round_trips(job, || {
            let pool = Pool::new(1)?;
            Ok(move |number| Ok(pool.spawn(number, |number: u64| number).join()?))
        }),
        "jobs" => {
            let pool = Pool::new(job.count("workers")?)?;
            jobs(job, move |count, us| {
                let handles: Vec<_> = (0..count).map(|_| pool.spawn(us, burn)).collect();
                for handle in handles {
                    handle.join()?;
                }
                Ok(())
            })
        }
        _ => job.unknown("procspawn"),
    }
}
