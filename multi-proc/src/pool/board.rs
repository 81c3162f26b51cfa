//! The shared memory of a pool: who works, which jobs there are, their arguments and their values.
//!
//! ```text
//! mapping ┌ head: 64 ┬ rows: 64 per worker ┬ done: 1 bit per job ┬ (page) jobs: 2 KiB each ┬ (page) spills: args, value; per job ┐
//! job     ┌ 0 word ┬ 8 args len ┬ 16 function ┬ 32 seal ┬ 64 value kind, len ┬ 128 args: 960 ┬ 1088 value: 960 ┐
//! ```
//!
//! Spills are address space: a page is memory once something too long for the job's own 960 bytes was written there, and what was written
//! beyond the first `SPILL_KEPT` bytes is given back with the job, so that the next one of usual size faults no page in.

#![expect(
    unsafe_code,
    reason = "jobs lie in a mapping that the workers share with the parent"
)]

use super::bell::{Bell, EndedBits};
use super::buffers;
use super::dismissal::Dismissal;
use super::word::JobWord;
use crate::report::Paper;
use crate::slot::{Kind, Reach};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::{self, memory};
use serde::{Deserialize, Serialize};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;

const PAGE: usize = 4096;
const LINE: usize = 64;
const JOB_BYTES: usize = 2048;
const ARGS_AT: usize = 2 * LINE;
const INLINE: usize = (JOB_BYTES - ARGS_AT) / 2;
const VALUE_AT: usize = ARGS_AT + INLINE;
/// So that the text of an error always has room.
const SPILL_MIN: usize = 64 * 1024;
/// Bytes of a spill that stay memory for the next job.
const SPILL_KEPT: usize = 256 * 1024;

const _: () = assert!(size_of::<Head>() == LINE && size_of::<Row>() == LINE);
const _: () = assert!(size_of::<JobHead>() == ARGS_AT && INLINE == 960);

#[repr(C, align(64))]
struct Head {
    /// Threads of the parent wait until any job ends.
    bell: Bell,
    /// 1 once a job of another than the usual priority was sent.
    has_lanes: AtomicU32,
}

/// What a worker says of itself.
#[repr(C, align(64))]
pub(super) struct Row {
    /// A [`Post`].
    post: AtomicU32,
    /// When its job began, in nanoseconds since the pool was made.
    began_ns: AtomicU64,
    /// Jobs it has ended.
    jobs: AtomicU64,
    /// It is to begin no other job.
    dismissal: Dismissal,
}

/// How far a worker is. Only the worker moves it on; the parent sets it back before it starts the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Post {
    /// Not there, or its initialiser runs.
    Starting = 0,
    Ready = 1,
    /// It ends by itself: it has had its share of jobs, the pool closes, or the parent has it ended. It runs no job.
    Leaving = 2,
}

#[repr(C, align(64))]
struct JobHead {
    word: JobWord,
    args_len: AtomicU64,
    function: [AtomicU64; 2],
    seal: AtomicU64,
    /// 1 once anything may have been written to the spill for arguments.
    spilled: AtomicU32,
    /// Shared buffers listed behind the arguments, within their length.
    enclosed: AtomicU32,
    value: ValueHead,
}

/// On a line of its own: the parent writes the one before, the worker this one.
#[repr(C, align(64))]
struct ValueHead {
    kind: AtomicU32,
    /// 1 once anything may have been written to the spill for the value.
    spilled: AtomicU32,
    len: AtomicU64,
    /// Who ran it last; 0 before.
    pid: AtomicU32,
    /// Shared buffers listed behind the value, within its length.
    enclosed: AtomicU32,
    /// Since when, in nanoseconds since the pool was made.
    began_ns: AtomicU64,
}

/// What a job is to run: see [`super::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) function: [u64; 2],
    pub(super) seal: u64,
}

/// How large a board is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    workers: usize,
    jobs: usize,
    args_bytes_max: usize,
    value_bytes_max: usize,
}

/// The mapping.
pub(super) struct Board {
    at: NonNull<u8>,
    /// What is mapped, where that can be passed on.
    file: Option<OwnedFd>,
    pub(super) workers: usize,
    pub(super) jobs: usize,
    args_spill: usize,
    value_spill: usize,
    bits_at: usize,
    jobs_at: usize,
    spills_at: usize,
    bytes: usize,
}

// SAFETY: what lies in the mapping is reached through atomics, or by whoever the job's word says it belongs to.
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    /// Maps zeroes: no job, no worker. For workers that `reach` says.
    pub(super) fn new(
        workers: usize,
        jobs: usize,
        args_bytes_max: usize,
        value_bytes_max: usize,
        reach: Reach,
    ) -> io::Result<Self> {
        let shape = Shape {
            workers,
            jobs,
            args_bytes_max,
            value_bytes_max,
        };
        Self::map(shape, |bytes| match reach {
            Reach::Passed => {
                let file = memory::memory_file(bytes)?;
                Ok((memory::map_file(file.as_fd(), 0, bytes)?, Some(file)))
            }
            Reach::Forked | Reach::Borrowed => Ok((sys::map_shared(bytes)?, None)),
        })
    }

    /// For a worker that was given its pool's board: maps it.
    ///
    /// # Errors
    ///
    /// The file is not as long as such a board, or there is no room for it here.
    pub(super) fn borrow(file: BorrowedFd<'_>, shape: Shape) -> io::Result<Self> {
        Self::map(shape, |bytes| {
            if memory::len_of(file)? != bytes as u64 {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            Ok((memory::map_file(file, 0, bytes)?, None))
        })
    }

    /// What such a worker needs. None where there are to be none.
    pub(super) fn passing(&self) -> Option<(BorrowedFd<'_>, Shape)> {
        let shape = Shape {
            workers: self.workers,
            jobs: self.jobs,
            args_bytes_max: self.args_spill,
            value_bytes_max: self.value_spill,
        };
        Some((self.file.as_ref()?.as_fd(), shape))
    }

    /// A board of that shape in what `map` makes of so many bytes.
    fn map(
        shape: Shape,
        map: impl FnOnce(usize) -> io::Result<(NonNull<u8>, Option<OwnedFd>)>,
    ) -> io::Result<Self> {
        let Shape {
            workers,
            jobs,
            args_bytes_max,
            value_bytes_max,
        } = shape;
        let too_large =
            || io::Error::new(io::ErrorKind::InvalidInput, "larger than an address space");
        let spill = |bytes: usize| {
            bytes
                .max(SPILL_MIN)
                .checked_next_multiple_of(PAGE)
                .ok_or_else(too_large)
        };
        let (args_spill, value_spill) = (spill(args_bytes_max)?, spill(value_bytes_max)?);
        let bits_at = LINE * (1 + workers);
        let jobs_at = (bits_at + jobs.div_ceil(64) * size_of::<u64>()).next_multiple_of(PAGE);
        let spills_at = (jobs_at + jobs * JOB_BYTES).next_multiple_of(PAGE);
        let bytes = args_spill
            .checked_add(value_spill)
            .and_then(|each| each.checked_mul(jobs))
            .and_then(|spills| spills.checked_add(spills_at))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or_else(too_large)?;
        let (at, file) = map(bytes)?;
        Ok(Self {
            at,
            file,
            workers,
            jobs,
            args_spill,
            value_spill,
            bits_at,
            jobs_at,
            spills_at,
            bytes,
        })
    }

    fn head(&self) -> &Head {
        // SAFETY: the mapping begins with it and is aligned to a page; any bytes are atomics.
        unsafe { self.at.cast().as_ref() }
    }

    /// A worker's row.
    pub(super) fn row(&self, worker: usize) -> &Row {
        assert!(worker < self.workers, "there is no worker {worker}");
        // SAFETY: behind the head there is a row for each worker.
        let at = unsafe { self.at.add(LINE * (1 + worker)) };
        // SAFETY: aligned to a line, within the mapping, and any bytes are atomics.
        unsafe { at.cast().as_ref() }
    }

    fn ended(&self) -> EndedBits<'_> {
        // SAFETY: the bits lie behind the rows.
        let at = unsafe { self.at.add(self.bits_at) };
        // SAFETY: aligned to a line, so many words within the mapping, and any bytes are atomics.
        EndedBits(unsafe { slice::from_raw_parts(at.cast().as_ptr(), self.jobs.div_ceil(64)) })
    }

    fn job_at(&self, job: usize) -> NonNull<u8> {
        assert!(job < self.jobs, "there is no job {job}");
        // SAFETY: so many jobs lie there.
        unsafe { self.at.add(self.jobs_at + job * JOB_BYTES) }
    }

    fn job(&self, job: usize) -> &JobHead {
        // SAFETY: a job begins with its head, aligned to 2 KiB from a page, and any bytes are atomics.
        unsafe { self.job_at(job).cast().as_ref() }
    }

    /// A job's state.
    pub(super) fn word(&self, job: usize) -> &JobWord {
        &self.job(job).word
    }

    fn spill_at(&self, job: usize, offset: usize) -> NonNull<u8> {
        assert!(job < self.jobs, "there is no job {job}");
        let each = self.args_spill + self.value_spill;
        // SAFETY: each job has two spills there, and both offsets are within them.
        unsafe { self.at.add(self.spills_at + job * each + offset) }
    }

    /// For the parent, who has the job in its hands: where its arguments go.
    pub(super) fn args_paper(&self, job: usize) -> Sheet<'_> {
        // SAFETY: the place for arguments is within the job.
        let inline = unsafe { self.job_at(job).add(ARGS_AT) };
        Sheet {
            board: self,
            job,
            inline,
            spill: self.spill_at(job, 0),
            spill_bytes: self.args_spill,
            is_value: false,
        }
    }

    /// For the worker whose job it is: where its value goes.
    pub(super) fn value_paper(&self, job: usize) -> Sheet<'_> {
        // SAFETY: the place for the value is within the job.
        let inline = unsafe { self.job_at(job).add(VALUE_AT) };
        Sheet {
            board: self,
            job,
            inline,
            spill: self.spill_at(job, self.args_spill),
            spill_bytes: self.value_spill,
            is_value: true,
        }
    }

    /// For the parent: what the job is to run.
    pub(super) fn set_order(&self, job: usize, order: Order) {
        let head = self.job(job);
        // Relaxed: published with the job by `JobWord::queue`.
        for (word, value) in head.function.iter().zip(order.function) {
            word.store(value, Ordering::Relaxed);
        }
        // Relaxed: as above.
        head.seal.store(order.seal, Ordering::Relaxed);
    }

    /// For the worker whose job it is: what it is to run.
    pub(super) fn order(&self, job: usize) -> Order {
        let head = self.job(job);
        // Relaxed: acquired with the job by `JobWord::claim`.
        Order {
            function: head
                .function
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed)),
            seal: head.seal.load(Ordering::Relaxed),
        }
    }

    /// For the worker whose job it is: copies its arguments to `to`, and the list of shared buffers among them. None where a length was
    /// scribbled.
    pub(super) fn copy_args<'a>(
        &self,
        job: usize,
        to: &'a mut Vec<u8>,
    ) -> Option<(&'a [u8], &'a [u8])> {
        let head = self.job(job);
        // Relaxed, twice: acquired with the job.
        let len = head.args_len.load(Ordering::Relaxed);
        let enclosed = head.enclosed.load(Ordering::Relaxed);
        split(self.args_paper(job).copy(len, to)?, enclosed)
    }

    /// For the parent, once the job is done: copies its value, or the failure its function wrote, to `to`, and the list of shared buffers in
    /// it. None where its kind or a length was scribbled.
    pub(super) fn copy_value<'a>(
        &self,
        job: usize,
        to: &'a mut Vec<u8>,
    ) -> Option<(Kind, &'a [u8], &'a [u8])> {
        let head = &self.job(job).value;
        // Relaxed, twice: acquired with the job by `JobWord::phase`.
        let kind = match head.kind.load(Ordering::Relaxed) {
            1 => Kind::Value,
            2 => Kind::Failure,
            _ => return None,
        };
        // Relaxed, twice: as above.
        let len = head.len.load(Ordering::Relaxed);
        let enclosed = head.enclosed.load(Ordering::Relaxed);
        let (value, list) = split(self.value_paper(job).copy(len, to)?, enclosed)?;
        Some((kind, value, list))
    }

    /// For the worker whose job it is: who runs it, since when.
    pub(super) fn set_run(&self, job: usize, pid: u32, began_ns: u64) {
        let head = &self.job(job).value;
        // Relaxed: published with the value, or read when the worker is dead.
        head.began_ns.store(began_ns, Ordering::Relaxed);
        // Release: comes after the claim. Pairs with the Acquire in `is_begun`.
        head.pid.store(pid, Ordering::Release);
    }

    /// For the parent: whether a worker has begun the job since it was last given to them. A word that is read after this says no less.
    pub(super) fn is_begun(&self, job: usize) -> bool {
        // Acquire: pairs with the Release in `set_run`.
        self.job(job).value.pid.load(Ordering::Acquire) != 0
    }

    /// For the parent, before it gives the job of a dead worker to another.
    pub(super) fn forget_run(&self, job: usize) {
        // Relaxed: published with the job by `JobWord::requeue`.
        self.job(job).value.pid.store(0, Ordering::Relaxed);
    }

    /// For the parent, once the job is done: who ran it last, since when; none where nobody did.
    pub(super) fn run(&self, job: usize) -> Option<(u32, u64)> {
        let head = &self.job(job).value;
        // Relaxed, twice: acquired with the job by `JobWord::phase`.
        let pid = head.pid.load(Ordering::Relaxed);
        // Relaxed: as above.
        (pid != 0).then(|| (pid, head.began_ns.load(Ordering::Relaxed)))
    }

    /// For the parent: the job is nobody's any more; gives memory back that only large arguments or values need.
    pub(super) fn wipe(&self, job: usize) {
        let head = self.job(job);
        let value = &head.value;
        let sides = [
            (self.args_paper(job), &head.spilled, &head.args_len),
            (self.value_paper(job), &value.spilled, &value.len),
        ];
        for (sheet, spilled, len) in sides {
            // Relaxed, everywhere: the parent has the job in its hands.
            let len = len.swap(0, Ordering::Relaxed);
            if spilled.swap(0, Ordering::Relaxed) == 0 {
                continue;
            }
            // Where the length is not that of the spill, more may have been written than was used.
            let is_known = len > INLINE as u64 && len <= SPILL_KEPT as u64;
            if !is_known && sheet.spill_bytes > SPILL_KEPT {
                // SAFETY: beyond the kept bytes there are more of the same spill.
                let rest = unsafe { sheet.spill.add(SPILL_KEPT) };
                // SAFETY: the rest of a spill of a job that nobody reads or writes.
                unsafe { sys::give_back(rest, sheet.spill_bytes - SPILL_KEPT) };
            }
        }
        // Relaxed: as above.
        value.kind.store(0, Ordering::Relaxed);
        // Relaxed: as above.
        value.pid.store(0, Ordering::Relaxed);
        head.word.clear();
    }

    /// Says that a job has ended, and tells who waits for any: by `ring` who is in `ppoll`.
    pub(super) fn announce(&self, job: usize, ring: impl FnOnce()) {
        self.ended().set(job);
        self.bell().ring(ring);
    }

    /// What rings when a job ends.
    pub(super) fn bell(&self) -> &Bell {
        &self.head().bell
    }

    /// Whether any job has ended that nobody took note of.
    pub(super) fn has_done(&self) -> bool {
        self.ended().any()
    }

    /// Takes note of the jobs that have ended; calls `each` with their numbers.
    pub(super) fn take_done(&self, mut each: impl FnMut(usize)) {
        self.ended().take(|job| {
            if job < self.jobs {
                each(job);
            }
        });
    }

    /// Whether jobs of other than the usual priority were ever sent.
    pub(super) fn has_lanes(&self) -> bool {
        // Acquire: not needed for what is read, but a worker that misses it is woken by a nudge sent after it.
        self.head().has_lanes.load(Ordering::Acquire) != 0
    }

    /// For the parent: from now on there may be jobs of other priorities.
    pub(super) fn open_lanes(&self) {
        // Release: comes before the nudge. Pairs with the Acquire in `has_lanes`.
        self.head().has_lanes.store(1, Ordering::Release);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: a whole mapping, and every reference into it borrows this.
        unsafe { sys::unmap(self.at, self.bytes) };
    }
}

impl Row {
    /// For the parent: nobody has the row.
    pub(super) fn clear(&self) {
        // Relaxed, everywhere: its worker is made after this, and the one before is dead.
        self.post.store(Post::Starting as u32, Ordering::Relaxed);
        self.jobs.store(0, Ordering::Relaxed);
        self.dismissal.lift();
    }

    /// For the worker.
    pub(super) fn set_post(&self, post: Post) {
        // Relaxed: nothing is published with it.
        self.post.store(post as u32, Ordering::Relaxed);
    }

    pub(super) fn post(&self) -> Post {
        // Relaxed: as above.
        match self.post.load(Ordering::Relaxed) {
            0 => Post::Starting,
            1 => Post::Ready,
            _ => Post::Leaving,
        }
    }

    /// For the worker, before it claims a job.
    pub(super) fn set_began(&self, at_ns: u64) {
        // Relaxed: published with the claim.
        self.began_ns.store(at_ns, Ordering::Relaxed);
    }

    /// When the job began that the worker was found running.
    pub(super) fn began_ns(&self) -> u64 {
        // Relaxed: acquired with the claim. Of a later job if the worker was quick: then that job's time is looked at too late, and
        // at the job's own word again.
        self.began_ns.load(Ordering::Relaxed)
    }

    /// What keeps the worker from another job.
    pub(super) fn dismissal(&self) -> &Dismissal {
        &self.dismissal
    }

    /// Jobs that the worker has ended, as it says.
    pub(super) fn jobs(&self) -> u64 {
        // Relaxed: a statistic, but for a worker that was collected.
        self.jobs.load(Ordering::Relaxed)
    }

    /// For the worker: one job more; returns how many that makes.
    pub(super) fn count_job(&self) -> u64 {
        // Relaxed: written by this worker alone.
        let jobs = self.jobs.load(Ordering::Relaxed) + 1;
        // Relaxed: a statistic for all others.
        self.jobs.store(jobs, Ordering::Relaxed);
        jobs
    }
}

/// A payload, and the list of the shared buffers in it. None where there are more than it has room for.
fn split(bytes: &[u8], enclosed: u32) -> Option<(&[u8], &[u8])> {
    let list_bytes = buffers::list_bytes(enclosed as usize)?;
    bytes.split_at_checked(bytes.len().checked_sub(list_bytes)?)
}

/// The place for a job's arguments, or for its value.
pub(super) struct Sheet<'a> {
    board: &'a Board,
    job: usize,
    inline: NonNull<u8>,
    spill: NonNull<u8>,
    spill_bytes: usize,
    is_value: bool,
}

impl Sheet<'_> {
    pub(super) fn job(&self) -> usize {
        self.job
    }

    /// Copies `len` bytes out, word by word and each once: a peer that scribbles can spoil them, but not change them any more.
    fn copy<'b>(&self, len: u64, to: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        let len = usize::try_from(len).ok()?;
        let from = if len <= INLINE {
            self.inline
        } else if len <= self.spill_bytes {
            self.spill
        } else {
            return None;
        };
        let words = len.div_ceil(size_of::<u64>());
        to.clear();
        to.reserve(words * size_of::<u64>());
        // SAFETY: both places are aligned to 64 and hold whole words; any bytes are atomics.
        let shared = unsafe { slice::from_raw_parts(from.cast::<AtomicU64>().as_ptr(), words) };
        for word in shared {
            // Relaxed: acquired with the job's word.
            to.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        to.truncate(len);
        Some(to)
    }

    /// Sets the list of the `count` shared buffers behind the payload that was written. False where there is no room for it.
    pub(super) fn enclose(&mut self, list: &[u8], count: usize) -> bool {
        let head = self.board.job(self.job);
        let (len_word, count_word) = if self.is_value {
            (&head.value.len, &head.value.enclosed)
        } else {
            (&head.args_len, &head.enclosed)
        };
        // Relaxed: written by us, a moment ago.
        let len = len_word.load(Ordering::Relaxed) as usize;
        let Ok(count) = u32::try_from(count) else {
            return false;
        };
        let Some(end) = len.checked_add(list.len()) else {
            return false;
        };
        if end <= INLINE {
            self.inline_mut()[len..end].copy_from_slice(list);
        } else {
            // Read from there as a whole.
            let moved = (len <= INLINE).then(|| self.inline_mut()[..len].to_vec());
            let Some(place) = self.spill_mut().get_mut(..end) else {
                return false;
            };
            if let Some(payload) = moved {
                place[..len].copy_from_slice(&payload);
            }
            place[len..].copy_from_slice(list);
        }
        // Relaxed, twice: published with the job's next state.
        len_word.store(end as u64, Ordering::Relaxed);
        count_word.store(count, Ordering::Relaxed);
        true
    }
}

impl Paper for Sheet<'_> {
    const INLINE_MAX: usize = INLINE;

    fn inline_mut(&mut self) -> &mut [u8] {
        // SAFETY: within the job, initialised by the kernel, and the job is its writer's alone: the parent's until it is queued, its
        // worker's until it is done.
        unsafe { slice::from_raw_parts_mut(self.inline.as_ptr(), INLINE) }
    }

    fn spill_mut(&mut self) -> &mut [u8] {
        let head = self.board.job(self.job);
        let spilled = if self.is_value {
            &head.value.spilled
        } else {
            &head.spilled
        };
        // Relaxed: looked at by the parent once the job is in its hands again.
        spilled.store(1, Ordering::Relaxed);
        // SAFETY: the job's own spill, initialised by the kernel; its writer's alone as in `inline_mut`.
        unsafe { slice::from_raw_parts_mut(self.spill.as_ptr(), self.spill_bytes) }
    }

    fn set_payload(&mut self, kind: Kind, len: usize) {
        let head = self.board.job(self.job);
        // Relaxed, everywhere: published with the job's next state.
        if self.is_value {
            head.value.kind.store(kind as u32, Ordering::Relaxed);
            head.value.len.store(len as u64, Ordering::Relaxed);
            head.value.enclosed.store(0, Ordering::Relaxed);
        } else {
            head.args_len.store(len as u64, Ordering::Relaxed);
            head.enclosed.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mut sheet: Sheet<'_>, bytes: &[u8]) {
        if bytes.len() <= INLINE {
            sheet.inline_mut()[..bytes.len()].copy_from_slice(bytes);
        } else {
            sheet.spill_mut()[..bytes.len()].copy_from_slice(bytes);
        }
        sheet.set_payload(Kind::Value, bytes.len());
    }

    #[test]
    fn arguments_and_values_do_not_overlap() {
        let board = Board::new(3, 70, 100_000, 200_000, Reach::Forked).unwrap();
        let bytes = |job: usize, len: usize| vec![job as u8; len];
        for job in 0..70 {
            let (args, value) = if job % 2 == 0 {
                (960, 200_000)
            } else {
                (100_000, 960)
            };
            write(board.args_paper(job), &bytes(job, args));
            write(board.value_paper(job), &bytes(job + 100, value));
        }
        let mut copied = Vec::new();
        for job in 0..70 {
            let (args, _) = board.copy_args(job, &mut copied).unwrap();
            assert!(args.iter().all(|byte| *byte == job as u8), "job {job}");
            let (_, value, _) = board.copy_value(job, &mut copied).unwrap();
            assert!(value.iter().all(|byte| *byte == job as u8 + 100));
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let board = Board::new(1, 1, 1, 1, Reach::Forked).unwrap();
        let mut copied = Vec::new();
        board.value_paper(0).set_payload(Kind::Value, SPILL_MIN);
        assert!(board.copy_value(0, &mut copied).is_some());
        board.value_paper(0).set_payload(Kind::Value, SPILL_MIN + 1);
        assert!(board.copy_value(0, &mut copied).is_none());
        board.args_paper(0).set_payload(Kind::Value, usize::MAX);
        assert!(board.copy_args(0, &mut copied).is_none());
    }

    #[test]
    fn wiped_job_has_no_value_and_little_memory() {
        let board = Board::new(1, 1, 1 << 20, 1 << 20, Reach::Forked).unwrap();
        write(board.args_paper(0), &vec![7; 1 << 20]);
        write(board.value_paper(0), &vec![7; 1 << 20]);
        board.wipe(0);
        let mut copied = Vec::new();
        assert!(board.copy_value(0, &mut copied).is_none());
        board
            .value_paper(0)
            .set_payload(Kind::Value, SPILL_KEPT + 8);
        let (_, value, _) = board.copy_value(0, &mut copied).unwrap();
        assert_eq!((value[0], value[SPILL_KEPT]), (7, 0));
    }

    #[test]
    fn ended_jobs_are_announced_once() {
        let board = Board::new(1, 130, 1, 1, Reach::Forked).unwrap();
        for job in [0, 63, 64, 129] {
            board.announce(job, || panic!("nobody polls"));
        }
        let mut done = Vec::new();
        board.take_done(|job| done.push(job));
        assert_eq!(done, [0, 63, 64, 129]);
        assert!(!board.has_done());
        board.bell().arm_poll();
        let mut rung = 0;
        board.announce(5, || rung += 1);
        assert_eq!(rung, 1);
        board.announce(6, || panic!("told once"));
    }

    #[test]
    fn size_beyond_the_address_space_is_an_error() {
        assert!(Board::new(1, 64, usize::MAX, 1, Reach::Forked).is_err());
        assert!(Board::new(1, 64, 1, usize::MAX / 64, Reach::Forked).is_err());
    }
}
