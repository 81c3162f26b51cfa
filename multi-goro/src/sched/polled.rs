//! Tasks without a stack: a future in a cell, polled by a worker on the stack of an unstarted task, by a call.
//!
//! Between two polls the cell is in no queue, or in one as an unstarted task is; whoever takes it from there gives it a
//! stack and polls. So a poll is a task like any other while it runs: it may wait as one does, and keeps its stack and its
//! worker until it returns. The states, and why no wake is lost, are in `proto/poll_word.rs`.

#![expect(unsafe_code, reason = "wakers know their task by address")]

use std::cell::UnsafeCell;
use std::io;
use std::mem::{ManuallyDrop, offset_of};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use multi_core::{Result, TaskErrorKind, panic};

use super::current::this_worker;
use super::deal::Placement;
use super::locals;
use super::shared::Shared;
use super::task::{Calls, Header, Info, Lane, Ran, TaskRef};
use super::worker::Worker;
use crate::proto::poll_word::{PollWord, Polled, Released, Woken};
use crate::stack::Class;

/// Who is told how a future ended.
pub(crate) trait Verdict<T>: Send + 'static {
    /// Tells. Must not panic.
    fn settle(self, outcome: Result<T, TaskErrorKind>);
}

/// What a waker knows of its task.
#[repr(C)]
struct Front {
    header: Header,
    word: PollWord,
}

/// A future and what its task is made of.
///
/// The future and the verdict are touched by who polls, alone: from `begin` to `end` or `finish` of the word. They are there until
/// the task is done.
#[repr(C)]
struct Cell<F, V> {
    front: Front,
    verdict: UnsafeCell<ManuallyDrop<V>>,
    future: UnsafeCell<ManuallyDrop<F>>,
}

const _: () = assert!(offset_of!(Front, header) == 0);

/// One address for all polled tasks: by it a waker is known to be of this file.
static WAKER: RawWakerVTable = RawWakerVTable::new(share, wake, wake_by_ref, release);

impl Shared {
    /// Starts a task that is polled. On an error the future has been dropped and the verdict is in.
    pub(crate) fn spawn_polled<T, F, V>(
        self: &Arc<Self>,
        lane: Lane,
        class: Class,
        info: Info,
        future: F,
        verdict: V,
    ) where
        F: Future<Output = Result<T>> + Send + 'static,
        V: Verdict<T>,
    {
        self.start_in(
            lane,
            // Between its polls it is anybody's.
            Placement::Any,
            (future, verdict),
            |shared, (future, verdict)| {
                let task = Cell::create(shared, class, info, future, verdict);
                if self.bound().is_some() {
                    // Its wakers keep the task, and may be asked later where it belongs.
                    task.bind(Arc::downgrade(self));
                }
                task
            },
            |error, (future, verdict), count| {
                let outcome = refused(|| drop(future), error);
                count();
                verdict.settle(outcome);
            },
        );
    }
}

impl<T, F, V> Cell<F, V>
where
    F: Future<Output = Result<T>> + Send + 'static,
    V: Verdict<T>,
{
    fn create(shared: NonNull<Shared>, class: Class, info: Info, future: F, verdict: V) -> TaskRef {
        let cell = Box::new(Self {
            front: Front {
                header: Header::new(
                    shared,
                    class,
                    info,
                    &Calls {
                        run: Self::run,
                        refuse: Self::refuse,
                        free: Self::finish,
                        destroy: Self::destroy,
                    },
                ),
                word: PollWord::new(),
            },
            verdict: UnsafeCell::new(ManuallyDrop::new(verdict)),
            future: UnsafeCell::new(ManuallyDrop::new(future)),
        });
        TaskRef(NonNull::from(Box::leak(cell)).cast())
    }

    /// # Safety
    ///
    /// - `task` is a live `Cell<F, V>`.
    unsafe fn of<'a>(task: NonNull<Header>) -> &'a Self {
        // SAFETY: `repr(C)`, twice: the header is where the cell is.
        unsafe { task.cast::<Self>().as_ref() }
    }

    /// Polls once.
    ///
    /// # Safety
    ///
    /// - As for `Header::run`, with a `Cell<F, V>`.
    unsafe fn run(task: NonNull<Header>, count: &dyn Fn()) -> Ran {
        // SAFETY: the caller's promise.
        let cell = unsafe { Self::of(task) };
        cell.front.word.begin();
        // SAFETY: not a reference of its own: the runtime's lasts as long as the poll, and the waker is never dropped.
        let waker = ManuallyDrop::new(unsafe { waker_of(task) });
        // SAFETY: between `begin` and the end of the poll the future is the caller's alone, and it is there: not done.
        let future: &mut F = unsafe { &mut *cell.future.get() };
        // SAFETY: it is in its cell until it is dropped there, in `conclude`.
        let future = unsafe { Pin::new_unchecked(future) };
        let outcome = match panic::catch(|| future.poll(&mut Context::from_waker(&waker))) {
            Ok(Poll::Pending) => {
                // The next poll may be on another thread, where these may not go.
                drop_locals(&cell.front.header);
                return Ran::Waits;
            }
            Ok(Poll::Ready(outcome)) => outcome.map_err(TaskErrorKind::Returned),
            Err(panicked) => Err(panicked),
        };
        // SAFETY: polled by us.
        unsafe { cell.conclude(|drop_future| settled(drop_future, outcome), count) };
        Ran::Ended
    }

    /// # Safety
    ///
    /// - As for `Header::refuse`, with a `Cell<F, V>`.
    unsafe fn refuse(task: NonNull<Header>, error: io::Error, count: &dyn Fn()) {
        // SAFETY: the caller's promise.
        let cell = unsafe { Self::of(task) };
        cell.front.word.begin();
        // SAFETY: begun by us.
        unsafe { cell.conclude(|drop_future| refused(drop_future, error), count) };
    }

    /// Drops the future, by the closure given to `outcome`, and tells.
    ///
    /// # Safety
    ///
    /// - The caller has begun a poll, and concludes once. `outcome` calls its argument once.
    unsafe fn conclude(
        &self,
        outcome: impl FnOnce(&mut dyn FnMut()) -> Result<T, TaskErrorKind>,
        count: &dyn Fn(),
    ) {
        let outcome = outcome(&mut || {
            // SAFETY: the caller's alone.
            let future = unsafe { &mut *self.future.get() };
            // SAFETY: dropped once.
            unsafe { ManuallyDrop::drop(future) };
        });
        drop_locals(&self.front.header);
        count();
        // SAFETY: the caller's alone.
        let verdict = unsafe { &mut *self.verdict.get() };
        // SAFETY: taken once.
        let verdict = unsafe { ManuallyDrop::take(verdict) };
        verdict.settle(outcome);
        // What the end dropped may have used some again.
        drop_locals(&self.front.header);
    }

    /// The runtime lets go of a task that has ended.
    ///
    /// # Safety
    ///
    /// - As for `Header::free`, with a `Cell<F, V>`.
    unsafe fn finish(task: NonNull<Header>) {
        // SAFETY: the caller's promise.
        match unsafe { Self::of(task) }.front.word.finish() {
            // SAFETY: nobody else has its address.
            Released::Free => unsafe { Self::destroy(task) },
            Released::Nothing => {}
        }
    }

    /// # Safety
    ///
    /// - `task` is a `Cell<F, V>` from `create` whose last reference was given up; the future and the verdict are gone.
    unsafe fn destroy(task: NonNull<Header>) {
        // SAFETY: from `create`, and the caller gives it up.
        drop(unsafe { Box::from_raw(task.cast::<Self>().as_ptr()) });
    }
}

/// Drops the `task_local!` values of a poll, which may not change threads.
fn drop_locals(header: &Header) {
    locals::drop_locals(header);
    // What destructors have made again and again stays behind: this thread is the only one that may drop it.
    header.take_locals().map(Box::leak);
}

/// The outcome of a future that was polled to its end, once it is dropped: a panic in that is the task's too.
fn settled<T>(
    drop_future: &mut dyn FnMut(),
    outcome: Result<T, TaskErrorKind>,
) -> Result<T, TaskErrorKind> {
    match (panic::catch(drop_future), outcome) {
        (Err(panicked), Ok(value)) => {
            // What it has to say comes second, if it panics too.
            let _ignored = panic::catch(|| drop(value));
            Err(panicked)
        }
        (_, outcome) => outcome,
    }
}

/// What is left of a future that could not be polled: it is dropped before its end is told.
fn refused<T>(drop_future: impl FnOnce(), error: io::Error) -> Result<T, TaskErrorKind> {
    let _ignored = panic::catch(drop_future);
    Err(TaskErrorKind::Start(error))
}

/// After a poll that has left the future waiting: lets the task go, or queues it again if it was woken meanwhile.
///
/// # Safety
///
/// - `task` was run on `worker`, with the result [`Ran::Waits`], and has no stack any more.
pub(super) unsafe fn rest(worker: &Worker, task: NonNull<Header>) {
    // SAFETY: only polled tasks wait in this way, and it is alive: not done.
    let front = unsafe { task.cast::<Front>().as_ref() };
    front.header.unstart();
    match front.word.end() {
        Polled::Wait => {}
        // Behind the others: it may do nothing but wake itself.
        Polled::Again => worker.put_behind(task),
    }
}

/// The task that a waker wakes, if it is one of these.
pub(super) fn task_of(waker: &Waker) -> Option<NonNull<Header>> {
    ptr::eq(waker.vtable(), &raw const WAKER).then(|| header(waker.data()))
}

/// The waker of a polled task.
///
/// # Safety
///
/// - The caller has a reference to the task, and gives it to the waker.
pub(super) unsafe fn waker_of(task: NonNull<Header>) -> Waker {
    // SAFETY: the functions of `WAKER` keep the contract of a waker for a live task, as each says.
    unsafe { Waker::from_raw(RawWaker::new(task.as_ptr().cast_const().cast(), &WAKER)) }
}

/// # Safety
///
/// - `data` is that of a waker made here, which holds a reference, or is used during a poll.
unsafe fn front<'a>(data: *const ()) -> &'a Front {
    // SAFETY: the waker's reference keeps the cell alive, whose front is where its header is.
    unsafe { &*data.cast::<Front>() }
}

fn header(data: *const ()) -> NonNull<Header> {
    NonNull::new(data.cast_mut().cast()).expect("the address of a task")
}

/// A waker's `clone`. Called with a waker's data only, as the next three.
unsafe fn share(data: *const ()) -> RawWaker {
    // SAFETY: a waker's data.
    unsafe { front(data) }.word.share();
    RawWaker::new(data, &WAKER)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: a waker's data; its reference is given up.
    match unsafe { front(data) }.word.wake_and_release() {
        // SAFETY: scheduled by us just now.
        Woken::Schedule => unsafe { schedule(header(data)) },
        Woken::Nothing => {}
        // SAFETY: it was the last.
        Woken::Free => unsafe { Header::destroy(header(data)) },
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: a waker's data.
    match unsafe { front(data) }.word.wake() {
        // SAFETY: scheduled by us just now.
        Woken::Schedule => unsafe { schedule(header(data)) },
        Woken::Nothing | Woken::Free => {}
    }
}

unsafe fn release(data: *const ()) {
    // SAFETY: a waker's data; its reference is given up.
    match unsafe { front(data) }.word.release() {
        // SAFETY: it was the last.
        Released::Free => unsafe { Header::destroy(header(data)) },
        Released::Nothing => {}
    }
}

/// Queues a task that waited.
///
/// # Safety
///
/// - The caller has just made it SCHEDULED: it is alive until it has run, and in no queue.
unsafe fn schedule(task: NonNull<Header>) {
    // SAFETY: the caller's promise.
    let header = unsafe { task.as_ref() };
    let address = header.shared.as_ptr();
    // SAFETY: alive while it has tasks.
    if unsafe { &*address }.is_foreign() {
        // A forked child's memory of a task: there is nobody to poll it, and a lock may be held for ever.
        return;
    }
    if let Some(worker) = this_worker()
        && ptr::eq(&raw const *worker.shared, address)
    {
        worker.put_first(task);
        return;
    }
    // The task may run, end, and let the runtime go before we are done with it.
    // SAFETY: `shared` points into an `Arc`, which is alive while it has tasks.
    unsafe { Arc::increment_strong_count(address) };
    // SAFETY: the count that was just added.
    let shared = unsafe { Arc::from_raw(address) };
    shared.put(TaskRef(task));
}
