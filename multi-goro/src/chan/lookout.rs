//! Who receives on a channel: now, or as soon as somebody does.

#![expect(
    unsafe_code,
    reason = "who looks out is known by the address of its look, on its stack"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use super::{Channel, Place};
use crate::proto::channel::{Gate, Lookout};
use crate::sched::{Shared, Waiter, WaitsFor, Wake, enter, park};

/// Who was seen receiving on a channel.
pub(crate) enum Receiving {
    /// A task of this runtime.
    Task(Arc<Shared>),
    /// A plain thread, or a future that is no task of ours.
    Other,
    /// Nobody will: the channel is closed.
    Closed,
}

/// What lies on the stack of who looks out.
struct Look {
    waiter: Waiter,
    seen: Receiving,
}

impl Receiving {
    /// # Safety
    ///
    /// - As for [`Waiter::runtime`].
    unsafe fn by(waiter: Waiter) -> Self {
        // SAFETY: the caller's promise.
        unsafe { waiter.runtime() }.map_or(Self::Other, Self::Task)
    }
}

impl<T> Channel<T> {
    /// Who receives now, or else who will be the first to.
    pub(super) fn who_receives(&self) -> Receiving {
        let mut core = enter(&self.core);
        if core.gate.is_closed() {
            return Receiving::Closed;
        }
        if let Some(seat) = core.gate.receiver() {
            // SAFETY: queued, so its owner waits, or takes it back under the lock that we hold.
            return unsafe { Receiving::by(seat.waiter) };
        }
        let mut look = Look {
            waiter: Waiter::current(),
            seen: Receiving::Closed,
        };
        let at = NonNull::from(&mut look);
        core.gate.look_out(Lookout(at.cast()));
        drop(core);
        let Wake::Unparked = park(WaitsFor::Receiver, None) else {
            unreachable!("a wait without a deadline timed out")
        };
        // SAFETY: unparked by who took the look out, after the last touch; nobody else has the address.
        let look = unsafe { &mut *at.as_ptr() };
        std::mem::replace(&mut look.seen, Receiving::Closed)
    }
}

/// Tells everybody who looks out, under the lock: that the caller receives, who has just queued as `receiver`; or, with none, that the
/// channel is closed.
#[cold]
pub(super) fn tell_lookouts(gate: &mut Gate<Place>, receiver: Option<Waiter>) {
    for Lookout(look) in gate.take_lookouts() {
        let look = look.cast::<Look>().as_ptr();
        // SAFETY: announced by `who_receives`, taken out by us alone: it is not touched by others before the unpark.
        let waiter = unsafe { &*look }.waiter;
        if let Some(receiver) = receiver {
            // SAFETY: queued by the caller under the lock that is still held.
            let seen = unsafe { Receiving::by(receiver) };
            // SAFETY: as above.
            unsafe { &mut *look }.seen = seen;
        }
        // SAFETY: the one unpark of that wait, which has no deadline; the look is not touched afterwards.
        unsafe { waiter.unpark() };
    }
}
