//! Green tasks of multi-goro.

mod channels;
mod compute;
mod memory;
pub(super) mod stackless;
mod switching;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use multi_goro::{Placement, Receiver, Runtime, Sender, chan};

use crate::Result;
use crate::job::{Job, Work};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    match &*job.workload {
        "yield" => switching::yields(job),
        "start" => switching::start(job),
        "start-from-thread" => switching::start_from_thread(job),
        "start-locked" => switching::start_locked(job),
        "pingpong" => channels::ping_pong(job),
        "stream" => channels::stream(job),
        "select" => channels::select(job),
        "server" => channels::server(job),
        "pipeline" => memory::pipeline(job),
        "parked" => memory::parked(job),
        "unstarted" => memory::unstarted(job),
        "join" => compute::fork_join(job),
        "calls" => compute::calls(job),
        "skew" => compute::skew(job),
        "sweep" => compute::sweep(job),
        "blocking" => waiting::blocking(job),
        "timers" => waiting::timers(job),
        "ticker" => waiting::ticker(job),
        "ticker-locked" => waiting::ticker_locked(job),
        "begin-beside-hogs" => waiting::begin_beside_hogs(job),
        _ => job.unknown("multi"),
    }
}

/// A runtime with as many workers as the job says, and tasks placed as it says, if it does.
fn runtime(job: &Job) -> Result<Runtime> {
    let placement = match job.number("placement") {
        Ok(LOCAL) => Placement::Local,
        Ok(SPREAD) => Placement::Spread,
        _ => Placement::Any,
    };
    let builder = Runtime::builder().workers(job.count("workers")?);
    Ok(builder.placement(placement).build()?)
}

/// Jobs name placements by number.
pub(crate) const LOCAL: u64 = 1;
pub(crate) const SPREAD: u64 = 2;

/// Tells one task when so many others have come to a place.
#[derive(Clone)]
struct Roll(Arc<Missing>);

struct Missing {
    count: AtomicU64,
    tell: Sender<()>,
}

impl Roll {
    fn of(count: u64) -> (Self, Receiver<()>) {
        let (tell, told) = chan(1);
        let count = AtomicU64::new(count);
        (Self(Arc::new(Missing { count, tell })), told)
    }

    fn here(self) {
        // AcqRel: the last one to come has seen what the others did before.
        if self.0.count.fetch_sub(1, AcqRel) == 1 {
            let _nobody_waits = self.0.tell.send(());
        }
    }
}
