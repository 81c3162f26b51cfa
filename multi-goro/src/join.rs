//! Fork-join: two closures, perhaps at the same time.

#![expect(
    unsafe_code,
    reason = "the second closure lies in this frame while others may take it"
)]

use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::thread;

use crate::proto::deque::Pop;
use crate::runtime;
use crate::sched::{self, Offer};

/// Runs `a` and `b`, perhaps at the same time, and returns what both returned.
///
/// The calling task runs `a` at once. Meanwhile `b` is on offer to workers that have nothing else to do; if none has come for it when
/// `a` is done, the caller runs `b` itself. An offer that nobody takes costs a few nanoseconds, so a computation can be cut into
/// pieces much finer than there are processors:
///
/// ```
/// fn sum(numbers: &[u64]) -> u64 {
///     if numbers.len() <= 1_000 {
///         return numbers.iter().sum();
///     }
///     let (left, right) = numbers.split_at(numbers.len() / 2);
///     let (left, right) = multi_goro::join(|| sum(left), || sum(right));
///     left + right
/// }
/// let numbers: Vec<u64> = (1..=100_000).collect();
/// assert_eq!(sum(&numbers), 5_000_050_000);
/// ```
///
/// A worker that takes `b` runs it as a task of its own, which may wait and call `join` like any other, counts as one of the calling
/// task's groups where those have limits, and has its name in reports. Its [`task_local!`](crate::task_local) values are its own: those
/// of the caller may be of types that must not be seen by another thread. The caller parks until it is done, and its worker runs other tasks meanwhile.
///
/// `b` may begin only when `a` has ended, so `a` must not wait for something that `b` does: where no worker becomes idle that
/// is a deadlock. Start two tasks of a [`Group`](crate::Group) for that.
///
/// From a plain thread the call as a whole moves to a task of the global runtime, and the thread sleeps until it is done; so does the
/// call of a task with a thread of its own ([`Group::locked`](crate::Group::locked)).
///
/// On an [`OsThread`](crate::OsThread) both closures run there, one after the other, though workers may be idle: who starts a task on such a thread
/// counts on that thread, for its thread-local values or a library that is bound to it, and `b` may be the part that does. A computation that
/// does not is moved to the workers as a whole by [`Runtime::run`](crate::Runtime::run), which the thread's other tasks do not wait for:
///
/// ```
/// use multi_goro::{OsThread, Runtime, join};
///
/// let window = OsThread::spawn("window")?;
/// let workers = Runtime::builder().workers(2).build()?;
/// let numbers = [1, 2, 3, 4];
/// let sum = window.run(|| {
///     let (left, right) = numbers.split_at(2);
///     workers.run(|| join(|| left.iter().sum::<i32>(), || right.iter().sum::<i32>()))
/// });
/// assert_eq!(sum, (3, 7));
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// # Stack
///
/// Calls nest on the stack of the calling task: 64 KiB unless the runtime was built with another size. A recursion whose depth is the
/// logarithm of its input is far from that; one that goes a thousand calls deep may not be. An overflow is reported with the
/// remedy, and aborts.
///
/// # Panics
///
/// With the panic of `a`, after `b` has ended or was dropped without being run; else with the panic of `b`, in which case what `a` returned
/// is dropped. From a plain thread, also if the task cannot be started.
///
/// # Fork
///
/// In a forked child both run here, one after the other. If the process forked in `a`, and `b` was being run by another worker at that
/// moment, which the child does not have, the call panics there.
#[track_caller]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let Some((worker, task)) = sched::on_task() else {
        return on_thread(a, b);
    };
    let mut hold = None;
    let offers = match worker.offers_of(task) {
        Some(offers) => offers,
        None if !worker.takes_offers() => return in_turn(a, b),
        None => hold.insert(worker.hold_offers(task)).offers(),
    };
    let half = Half::new(task, b);
    // SAFETY: this task's deque; `half` stays where it is until `take_back`, which follows, and if it was stolen until `wait` has returned.
    if !unsafe { offers.push(half.offer()) } {
        // So many older ones are on offer that this one would not be taken.
        return in_turn(a, half.into_closure());
    }
    worker.offered(hold.is_some());
    let left = catch_unwind(AssertUnwindSafe(a));
    // SAFETY: for the push above; those of the calls below were followed by theirs.
    match unsafe { offers.take_back() } {
        Pop::Kept => match left {
            Ok(left) => (left, half.into_closure()()),
            Err(panic) => {
                drop(multi_core::panic::catch(|| drop(half.into_closure())));
                resume_unwind(panic)
            }
        },
        Pop::Stolen => {
            worker.offer_was_taken();
            if worker.is_foreign() {
                lost_in_fork(left.err(), half)
            }
            // SAFETY: this task's offer, and stolen.
            unsafe { half.offer.wait() };
            meet(left, half)
        }
    }
}

/// The second closure while it is on offer, and what becomes of it.
#[repr(C)]
struct Half<B, RB> {
    /// First, so that who has its address finds the rest.
    offer: Offer,
    /// Taken out once: by the thief, or by who made it.
    closure: UnsafeCell<ManuallyDrop<B>>,
    /// Left by the thief; none if it could not run the closure.
    outcome: Cell<Option<thread::Result<RB>>>,
}

impl<B: FnOnce() -> RB, RB> Half<B, RB> {
    fn new(task: NonNull<sched::Header>, b: B) -> Self {
        Self {
            offer: Offer::new(task, Self::run),
            closure: UnsafeCell::new(ManuallyDrop::new(b)),
            outcome: Cell::new(None),
        }
    }

    fn offer(&self) -> NonNull<Offer> {
        NonNull::from(self).cast()
    }

    /// The thief's call.
    ///
    /// # Safety
    ///
    /// - `offer` is the first field of a live `Half` of this type, whose closure nobody has taken out and nobody else will.
    unsafe fn run(offer: NonNull<Offer>) {
        // SAFETY: the caller's promise.
        let half = unsafe { offer.cast::<Self>().as_ref() };
        // SAFETY: nobody else looks at the closure.
        let closure = unsafe { &mut *half.closure.get() };
        // SAFETY: taken once.
        let closure = unsafe { ManuallyDrop::take(closure) };
        half.outcome
            .set(Some(catch_unwind(AssertUnwindSafe(closure))));
    }

    /// The closure that no thief has run.
    fn into_closure(self) -> B {
        ManuallyDrop::into_inner(self.closure.into_inner())
    }
}

/// Both closures are done with: `b` by a thief.
#[cold]
fn meet<B: FnOnce() -> RB, RA, RB>(left: thread::Result<RA>, half: Half<B, RB>) -> (RA, RB) {
    match (left, half.outcome.take()) {
        (Ok(left), Some(Ok(right))) => (left, right),
        (Ok(left), Some(Err(panic))) => {
            drop(multi_core::panic::catch(|| drop(left)));
            resume_unwind(panic)
        }
        // There was no stack for it.
        (Ok(left), None) => (left, half.into_closure()()),
        (Err(panic), Some(right)) => {
            drop(multi_core::panic::catch(|| drop(right)));
            resume_unwind(panic)
        }
        (Err(panic), None) => {
            drop(multi_core::panic::catch(|| drop(half.into_closure())));
            resume_unwind(panic)
        }
    }
}

/// In a forked child, whose parent has the worker that runs `b`.
#[cold]
#[track_caller]
fn lost_in_fork<B, R>(panic: Option<Box<dyn std::any::Any + Send>>, half: Half<B, R>) -> ! {
    // Nobody knows how far the thief was with it.
    let _lost = ManuallyDrop::new(half);
    match panic {
        Some(panic) => resume_unwind(panic),
        None => panic!(
            "this process was forked inside `join(a, b)` while another worker ran `b`, and the child does not have that \
             worker; fork outside of `join`"
        ),
    }
}

fn in_turn<RA, RB>(a: impl FnOnce() -> RA, b: impl FnOnce() -> RB) -> (RA, RB) {
    let left = a();
    (left, b())
}

/// Moves the call to a task of the global runtime.
#[cold]
#[track_caller]
fn on_thread<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    match runtime::default_runtime() {
        Ok(shared) if shared.check_process().is_ok() => {
            runtime::run_on(&shared, move || join(a, b))
        }
        // A forked child, or no runtime to be had.
        _ => in_turn(a, b),
    }
}
