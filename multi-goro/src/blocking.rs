//! Blocking calls from tasks: a thread of a pool makes the call while the task is parked and its worker runs others.

#![expect(
    unsafe_code,
    reason = "a pool thread runs a closure that lies on a parked task's stack"
)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::sync::{Condvar, PoisonError};
use std::thread;
use std::time::Duration;

use crate::sched::{self, Waiter, WaitsFor, Wake, park};
use crate::sync::{AtomicPtr, Ordering::*, OsMutex, lock};

/// Most threads the pool has; calls beyond wait their turn.
const THREADS_MAX: usize = 512;
/// How long a thread of the pool waits for the next call before it ends.
const LINGER: Duration = Duration::from_secs(5);

/// Runs `call`, which may block the thread, without blocking the worker: on a thread of a pool, while the task is parked.
///
/// `call` may borrow from the caller, who waits for it in any case. From a plain thread it is run right there. A panic of
/// `call` goes on in the caller.
///
/// ```
/// let mut text = String::new();
/// multi_goro::blocking(|| std::fs::read_to_string("/proc/version").map(|read| text = read))?;
/// assert!(text.contains("Linux"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
///
/// With what `call` panics with.
pub fn blocking<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    // A task that may not switch blocks its worker whatever is done.
    if !sched::can_switch() {
        return call();
    }
    let mut errand = Errand {
        call: Some(call),
        result: None,
        waiter: Waiter::current(),
    };
    let job = errand.job();
    if !pool().submit(job) {
        // No thread is to be had: better a blocked worker than a lost call.
        let call = errand.call.take().expect("not submitted");
        return call();
    }
    let Wake::Unparked = park(WaitsFor::Blocking, None) else {
        unreachable!("a wait without a deadline timed out")
    };
    match errand.result.take().expect("unparked when it is there") {
        Ok(result) => result,
        Err(payload) => resume_unwind(payload),
    }
}

/// A call, its result and who waits for it: on the stack of the parked task.
struct Errand<F, R> {
    call: Option<F>,
    result: Option<thread::Result<R>>,
    waiter: Waiter,
}

/// An errand without its types.
#[derive(Clone, Copy)]
struct Job {
    errand: NonNull<()>,
    run: unsafe fn(NonNull<()>),
}

// SAFETY: the call and its result are `Send`; see `Errand::run` for the rest.
unsafe impl Send for Job {}

impl<F: FnOnce() -> R + Send, R: Send> Errand<F, R> {
    fn job(&mut self) -> Job {
        Job {
            errand: NonNull::from(self).cast(),
            run: Self::run,
        }
    }

    /// # Safety
    ///
    /// - `errand` is of this type, and its task is parked, or about to park, until this unparks it; called once.
    unsafe fn run(errand: NonNull<()>) {
        // SAFETY: the task does not touch it, or leave, before it is unparked.
        let errand = unsafe { errand.cast::<Self>().as_mut() };
        let call = errand.call.take().expect("run once");
        errand.result = Some(catch_unwind(AssertUnwindSafe(call)));
        let waiter = errand.waiter;
        // SAFETY: the one unpark of this wait; the errand is not touched afterwards.
        unsafe { waiter.unpark() };
    }
}

/// The pool of this process. A forked child has its parent's, with threads that are not there and perhaps a lock that is held for ever:
/// it leaves that one alone and makes its own.
fn pool() -> &'static Pool {
    static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
    loop {
        // Acquire: pairs with the Release below: the pool is seen whole.
        let at = POOL.load(Acquire);
        // SAFETY: null, or from `Box::leak` below and never freed.
        if let Some(pool) = unsafe { at.as_ref() }
            && pool.owner == sched::process_id()
        {
            return pool;
        }
        let mine: *mut Pool = Box::leak(Box::new(Pool {
            owner: sched::process_id(),
            state: OsMutex::default(),
            arrival: Condvar::new(),
        }));
        // Release: publishes the pool. Relaxed: a failure is followed by the load above.
        if POOL.compare_exchange(at, mine, Release, Relaxed).is_err() {
            // SAFETY: made just now and shown to nobody.
            drop(unsafe { Box::from_raw(mine) });
        }
    }
}

struct Pool {
    /// The process whose threads these are.
    owner: u32,
    state: OsMutex<State>,
    arrival: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job and have not been told of one.
    idle: usize,
    /// Threads that have been told of a job and have not woken yet.
    told: usize,
}

impl Pool {
    /// Has a job run by a thread of the pool; false if there is no thread and none can be had.
    fn submit(&'static self, job: Job) -> bool {
        let mut state = lock(&self.state);
        state.jobs.push_back(job);
        if state.idle > 0 {
            state.idle -= 1;
            state.told += 1;
            drop(state);
            self.arrival.notify_one();
            return true;
        }
        if state.threads >= THREADS_MAX {
            return true;
        }
        state.threads += 1;
        drop(state);
        let started = thread::Builder::new()
            .name("goro-blocking".to_owned())
            .spawn(|| self.serve());
        if started.is_ok() {
            return true;
        }
        let mut state = lock(&self.state);
        state.threads -= 1;
        if state.threads > 0 {
            // One of the others will come to it.
            return true;
        }
        state.jobs.retain(|queued| queued.errand != job.errand);
        false
    }

    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            while let Some(job) = state.jobs.pop_front() {
                drop(state);
                // SAFETY: submitted by `blocking`, whose task waits; taken from the queue by us alone.
                unsafe { (job.run)(job.errand) };
                state = lock(&self.state);
            }
            state.idle += 1;
            loop {
                let (back, wait) = self
                    .arrival
                    .wait_timeout(state, LINGER)
                    .unwrap_or_else(PoisonError::into_inner);
                state = back;
                if state.told > 0 {
                    state.told -= 1;
                    break;
                }
                if wait.timed_out() {
                    state.idle -= 1;
                    state.threads -= 1;
                    return;
                }
            }
        }
    }
}
