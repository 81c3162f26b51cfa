//! A closure run elsewhere while its caller waits, and lies on the caller's stack.

#![expect(
    unsafe_code,
    reason = "another thread runs a closure that lies on the stack of who waits for it"
)]

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;

use multi_core::Lineage;

use super::WaitsFor;
use super::park::{Waiter, Wake, park};
use super::task::{Info, Job};

/// How an errand ended.
pub(crate) enum Outcome<R> {
    Returned(R),
    Panicked(Box<dyn Any + Send>),
    Refused(io::Error),
}

/// The closure, then its outcome.
struct Errand<F, R> {
    call: Option<F>,
    outcome: Option<Outcome<R>>,
}

/// An errand without its types: the task that carries it out.
pub(crate) struct Parcel {
    errand: NonNull<()>,
    run: unsafe fn(NonNull<()>),
    refuse: unsafe fn(NonNull<()>, io::Error),
    waiter: Waiter,
}

// SAFETY: the closure and its outcome are `Send`, as `send` asks for.
unsafe impl Send for Parcel {}

/// Has `start` start a task that runs `f`, and waits for it; a report says that the caller waits for `waits_for`.
#[track_caller]
pub(crate) fn send<R: Send, F: FnOnce() -> R + Send>(
    waits_for: WaitsFor,
    f: F,
    start: impl FnOnce(Info, Parcel),
) -> Outcome<R> {
    let mut errand = Errand {
        call: Some(f),
        outcome: None,
    };
    let at = NonNull::from(&mut errand);
    let info = Info {
        name: None,
        started_at: Some(Location::caller()),
        lineage: Lineage::current(),
        group: None,
    };
    let parcel = Parcel {
        errand: at.cast(),
        run: Errand::<F, R>::run,
        refuse: Errand::<F, R>::refuse,
        waiter: Waiter::current(),
    };
    start(info, parcel);
    let Wake::Unparked = park(waits_for, None) else {
        unreachable!("a wait without a deadline timed out")
    };
    // SAFETY: unparked by the parcel's end, after which nobody else has the address.
    let outcome = unsafe { &mut *at.as_ptr() }.outcome.take();
    outcome.expect("unparked when it is there")
}

impl<R, F: FnOnce() -> R> Errand<F, R> {
    /// # Safety
    ///
    /// - `errand` is of this type, and who made it waits for the parcel's end.
    /// - Either this or `refuse` is called, once.
    unsafe fn run(errand: NonNull<()>) {
        // SAFETY: the caller's promise: nobody else touches it now.
        let errand = unsafe { errand.cast::<Self>().as_mut() };
        let call = errand.call.take().expect("run once");
        errand.outcome = Some(match catch_unwind(AssertUnwindSafe(call)) {
            Ok(value) => Outcome::Returned(value),
            Err(payload) => Outcome::Panicked(payload),
        });
    }

    /// # Safety
    ///
    /// - As for `run`.
    unsafe fn refuse(errand: NonNull<()>, error: io::Error) {
        // SAFETY: as in `run`. The closure is dropped by its maker, on its own stack.
        unsafe { errand.cast::<Self>().as_mut() }.outcome = Some(Outcome::Refused(error));
    }
}

impl Job for Parcel {
    type End = Waiter;

    fn run(self) -> Waiter {
        // SAFETY: made by `send`, which waits for `end`; a job is run or refused, once.
        unsafe { (self.run)(self.errand) };
        self.waiter
    }

    fn refuse(self, error: io::Error) -> Waiter {
        // SAFETY: as above.
        unsafe { (self.refuse)(self.errand, error) };
        self.waiter
    }

    fn end(waiter: Waiter) {
        // SAFETY: the one unpark of the wait in `send`, which has no deadline.
        unsafe { waiter.unpark() };
    }
}
