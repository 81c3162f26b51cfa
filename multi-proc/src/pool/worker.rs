//! A worker's life: jobs, one after another, until there will be no more.

use super::board::{Board, Post};
use super::buffers::{self, Arena, Desk, Part};
use super::code::{self, Out};
use super::lanes::{Ends, Priority};
use super::word::{Claim, Wake};
use crate::function::Key;
use crate::kill::{self, KillPoint};
use crate::{child, sys};
use multi_chan::SlotRef;
use multi_core::{Result, panic};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

const PAGE_BYTES: u64 = 4096;

/// What a worker has of its pool.
pub(super) struct Tools<'a> {
    pub(super) board: &'a Board,
    pub(super) lanes: &'a Ends,
    /// The memory of shared buffers.
    pub(super) arena: &'a Arc<Arena>,
    /// Seals orders.
    pub(super) key: &'a Key,
    pub(super) share: Share,
    /// The time that workers' clocks count from, by [`sys::clock_ns`].
    pub(super) origin_ns: u64,
    /// Wakes the parent's threads that are in `ppoll`.
    pub(super) bell: BorrowedFd<'a>,
}

/// How much a worker does before it is replaced, and how large its answers may be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Share {
    pub(super) value_bytes_max: usize,
    pub(super) jobs: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
}

/// For a child: works as number `index` of the crew, once it is prepared. Returns when it has had its share of jobs or the pool closes.
///
/// # Errors
///
/// What the initialiser returned; a channel that cannot be read.
pub(super) fn work(
    tools: &Tools<'_>,
    index: usize,
    prepare: Option<impl FnOnce() -> Result>,
) -> Result {
    let row = tools.board.row(index);
    let desk = Desk::of_worker(Arc::clone(tools.arena), index)
        .map_err(|error| format!("it could not map the pool's shared buffers: {error}"))?;
    buffers::set_desk(&desk);
    if let Some(prepare) = prepare {
        // To ring is to write: never to a file or a connection that was opened in the bell's place. Eventfds have one number in common: another of
        // those is not told from it, and gets a wake too many.
        let bell = sys::file_id(tools.bell)?;
        prepare().map_err(|error| format!("its initialiser failed: {error}"))?;
        if sys::is_closed_or_other(tools.bell, bell) {
            return Err("its initialiser closed the pool's own descriptors; have it close none but those that the program opened".into());
        }
        child::tie_again();
    }
    let share = tools.share;
    let worker = Worker {
        tools,
        desk: &desk,
        index,
        pid: sys::pid(),
        memory: share.resident_bytes.map(Memory::new),
    };
    row.set_post(Post::Ready);
    let mut args = Vec::new();
    while let Some((job, began_ns)) = worker.next_job()? {
        worker.run(job, began_ns, &mut args);
        let jobs = row.count_job();
        kill::reached(KillPoint::Counted);
        let is_due = share.jobs.is_some_and(|most| jobs >= most);
        if is_due || worker.memory.as_ref().is_some_and(Memory::is_over) {
            break;
        }
    }
    row.set_post(Post::Leaving);
    kill::reached(KillPoint::Left);
    Ok(())
}

struct Worker<'a> {
    tools: &'a Tools<'a>,
    desk: &'a Arc<Desk>,
    index: usize,
    pid: u32,
    memory: Option<Memory>,
}

impl Worker<'_> {
    fn board(&self) -> &Board {
        self.tools.board
    }

    /// Waits for a job and claims it; none once the pool is closed, or the parent has this worker ended.
    fn next_job(&self) -> Result<Option<(usize, u64)>> {
        let lanes = self.tools.lanes;
        loop {
            // Empty, closed: the wait below finds out which.
            let ready = Priority::ALL
                .into_iter()
                .filter(|_| self.board().has_lanes())
                .find_map(|priority| lanes.receiver(priority).try_recv_ref().ok());
            let message = match ready {
                Some(message) => message,
                None => match lanes.receiver(Priority::Usual).recv_ref() {
                    Ok(message) => message,
                    Err(error) if error.is_closed() || error.is_disconnected() => return Ok(None),
                    Err(error) => return Err(format!("it could not wait for jobs: {error}").into()),
                },
            };
            // After a nudge, or an old message, from the first lane again.
            if let Some(job) = self.take(message) {
                // The parent finds the job with its dead worker's name on it and, by the row's post, not begun.
                let is_dismissed = self.board().row(self.index).dismissal().is_ordered();
                kill::reached(KillPoint::Acknowledged);
                return Ok((!is_dismissed).then_some(job));
            }
        }
    }

    /// Claims the job that a message names. The message is acknowledged after that, so that a worker killed in between loses nothing: it
    /// comes again, and then names a job that somebody has.
    fn take(&self, message: SlotRef<'_, u32>) -> Option<(usize, u64)> {
        let job = *message as usize;
        // A nudge names no job.
        if job >= self.board().jobs {
            return None;
        }
        kill::reached(KillPoint::Received);
        let began_ns = sys::clock_ns().saturating_sub(self.tools.origin_ns);
        self.board().row(self.index).set_began(began_ns);
        match self.board().word(job).claim(self.index) {
            Claim::Yours => {
                kill::reached(KillPoint::Claimed);
                Some((job, began_ns))
            }
            Claim::Gone => None,
        }
    }

    fn run(&self, job: usize, began_ns: u64, args: &mut Vec<u8>) {
        let board = self.board();
        board.set_run(job, self.pid, began_ns);
        kill::reached(KillPoint::Begun);
        let Tools { key, share, .. } = self.tools;
        let mut out = Out::new(
            board.value_paper(job),
            share.value_bytes_max,
            key,
            self.desk,
        );
        // The report too: encoding a value, or asking an error for its text, runs code of the job's, which may panic.
        let ended = panic::catch(|| {
            let copied = board.copy_args(job, args).and_then(|(args, list)| {
                let enclosures = buffers::read_list(key, Part::Args, job, list)?;
                Some((args, self.desk.attach(&enclosures)?))
            });
            let Some((args, attached)) = copied else {
                return out
                    .refuse("its arguments' place in the shared memory was overwritten".into());
            };
            kill::reached(KillPoint::ArgsCopied);
            let _open = buffers::open(self.desk, attached);
            code::carry_out(key, board.order(job), args, &mut out);
        });
        if let Err(panicked) = ended {
            out.take_panic(panicked);
        }
        kill::reached(KillPoint::ValueWritten);
        let word = board.word(job);
        let wake = word.finish(self.index);
        kill::reached(KillPoint::Finished);
        if wake == Wake::Sleeper {
            word.wake();
            kill::reached(KillPoint::Woken);
        }
        board.announce(job, || sys::eventfd_set(self.tools.bell.as_raw_fd()));
        kill::reached(KillPoint::Announced);
    }
}

/// Watches how much memory the worker holds of its own: what it leaks is there. Pages of files and of shared memory are not, since they are as much the
/// parent's, which has shared buffers put there that workers read.
struct Memory {
    statm: Option<File>,
    most: u64,
}

impl Memory {
    fn new(most: u64) -> Self {
        Self {
            // Opened here: in a worker, whose own it then is.
            statm: File::open("/proc/self/statm").ok(),
            most,
        }
    }

    fn is_over(&self) -> bool {
        self.own().is_some_and(|bytes| bytes > self.most)
    }

    fn own(&self) -> Option<u64> {
        let mut text = [0; 128];
        let len = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(&text[..len]).ok()?;
        // Of statm, proc(5): all, what is resident of it, and what of that is files' or shared.
        let mut pages = text.split_ascii_whitespace().skip(1);
        let mut next = || pages.next()?.parse::<u64>().ok();
        let (resident, shared) = (next()?, next()?);
        Some(resident.saturating_sub(shared) * PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_known() {
        let bytes = Memory::new(0).own().unwrap();
        assert!(bytes > 100_000 && bytes < 1 << 40, "{bytes}");
        assert!(Memory::new(0).is_over() && !Memory::new(1 << 40).is_over());
    }
}
