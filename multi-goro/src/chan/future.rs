//! Sending and receiving as futures.
//!
//! A future waits in the same queues as everybody else, with a waker for an unpark. Two things differ. It is polled again, perhaps
//! with another waker, which then takes the place of the one in the queue. And it may be dropped while it waits: it takes its
//! seat back, or finds, under the lock, that somebody has used it. All that others do with the seat they do under the lock; what they
//! do afterwards is to wake, for which they have a waker of their own. So nobody has to be waited for.
//!
//! A value that was put into the hands of a receive that is then dropped goes back: to who has waited longest, or to the front
//! of the buffer, where it may be one more than the capacity for a while.

#![expect(unsafe_code, reason = "a seat is known by address while it is queued")]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::lookout::tell_lookouts;
use super::{Channel, Place, Receiver, RecvError, SendError, Sender};
use crate::proto::channel::{Received, Sent};
use crate::proto::wait_queue::Ticket;
use crate::sched::{self, OwnedWaiter, Waiter, enter};

/// A future's place for a value, and its place in the queue. Pinned while it is there.
///
/// While `waiting` is set, `value` is touched under the channel's lock only, by whoever holds that.
struct Seat<T> {
    value: UnsafeCell<Option<T>>,
    /// Its number in the queue, and what it is woken by. Whoever takes it out of the queue has the waiter then; until then it is ours.
    waiting: Cell<Option<(Ticket, Waiter)>>,
    _pinned: PhantomPinned,
}

impl<T> Seat<T> {
    fn new(value: Option<T>) -> Self {
        Self {
            value: UnsafeCell::new(value),
            waiting: Cell::new(None),
            _pinned: PhantomPinned,
        }
    }

    fn place(self: Pin<&Self>, waiter: Waiter) -> Place {
        Place {
            waiter,
            value: NonNull::new(self.value.get())
                .expect("the address of a field")
                .cast(),
            claim: None,
        }
    }

    /// Takes the value.
    ///
    /// # Safety
    ///
    /// - The seat is not in the queue; if it was, the caller has found that out under the lock.
    unsafe fn take(&self) -> Option<T> {
        // SAFETY: nobody else has it, by the caller's promise.
        unsafe { &mut *self.value.get() }.take()
    }

    /// Puts a value into the empty seat.
    ///
    /// # Safety
    ///
    /// - As for `take`.
    unsafe fn put(&self, value: T) {
        // SAFETY: nobody else has it, by the caller's promise.
        *unsafe { &mut *self.value.get() } = Some(value);
    }
}

/// What became of a seat since its future was last polled.
enum Look {
    /// It was not in the queue.
    Free,
    /// Somebody has used it, or the channel was closed.
    Used,
    /// It is in the queue still, with the right waker.
    Waits,
    /// It is in the queue still, with a waker that has to be replaced: make one, with the lock free, and look again.
    WantsWaker,
}

/// A waker on its way into the queue, or out of it: made, and dropped, with the lock free, since either may be anybody's code.
struct Spare<'a> {
    waker: &'a Waker,
    waiter: Option<OwnedWaiter>,
}

impl<'a> Spare<'a> {
    fn new(waker: &'a Waker) -> Self {
        Self {
            waker,
            waiter: None,
        }
    }

    /// With the lock free.
    fn make(&mut self) {
        self.waiter = Some(OwnedWaiter::of(self.waker));
    }

    /// With the lock held. `None`: make one first.
    fn take(&mut self) -> Option<Waiter> {
        let waiter = self.waiter.take();
        // A task of ours has nothing but a count to raise.
        let waiter = waiter.or_else(|| OwnedWaiter::of_task(self.waker))?;
        Some(waiter.into_waiter())
    }
}

impl<T> Seat<T> {
    /// Looks, under the lock, at what the queue has of this seat.
    fn look<'c>(
        &self,
        queued: impl FnOnce(Ticket) -> Option<&'c mut Place>,
        spare: &mut Spare<'_>,
    ) -> Look
    where
        T: 'c,
    {
        let Some((ticket, waiter)) = self.waiting.get() else {
            return Look::Free;
        };
        let Some(place) = queued(ticket) else {
            self.waiting.set(None);
            return Look::Used;
        };
        if waiter.is_for(spare.waker) {
            return Look::Waits;
        }
        let Some(fresh) = spare.take() else {
            return Look::WantsWaker;
        };
        place.waiter = fresh;
        self.waiting.set(Some((ticket, fresh)));
        // SAFETY: it was in the queue until now, so it is ours, and nobody has it now.
        spare.waiter = Some(unsafe { waiter.reclaim() });
        Look::Waits
    }

    /// Takes the seat out of the queue for good. True if somebody had used it before.
    fn leave(&self, leave: impl FnOnce(Ticket) -> bool) -> bool {
        let Some((ticket, waiter)) = self.waiting.take() else {
            return false;
        };
        if !leave(ticket) {
            return true;
        }
        // SAFETY: it was in the queue until now, so it is ours, and nobody has it now.
        drop(unsafe { waiter.reclaim() });
        false
    }
}

impl<T> Channel<T> {
    fn poll_recv(&self, seat: Pin<&Seat<T>>, waker: &Waker) -> Poll<Result<T, RecvError>> {
        let mut spare = Spare::new(waker);
        loop {
            let mut core = enter(&self.core);
            match seat.look(|ticket| core.gate.receiver_at(ticket), &mut spare) {
                Look::Free => {}
                Look::Used => {
                    // SAFETY: found out just now.
                    let value = unsafe { seat.take() };
                    return Poll::Ready(value.ok_or(RecvError));
                }
                Look::Waits => {
                    drop(core);
                    return Poll::Pending;
                }
                Look::WantsWaker => {
                    drop(core);
                    spare.make();
                    continue;
                }
            }
            match core.receive() {
                Received::Value(value, sender) => {
                    drop(core);
                    if let Some(sender) = sender {
                        // SAFETY: taken from the queue by this receive alone; senders wait for it as `send` does.
                        unsafe { sender.wake(false) };
                    }
                    sched::spend();
                    return Poll::Ready(Ok(value));
                }
                Received::Closed => return Poll::Ready(Err(RecvError)),
                Received::Empty => {}
            }
            if let Some(waiter) = spare.take() {
                let ticket = core.gate.wait_to_receive(seat.place(waiter));
                seat.waiting.set(Some((ticket, waiter)));
                if core.gate.has_lookouts() {
                    tell_lookouts(&mut core.gate, Some(waiter));
                }
                return Poll::Pending;
            }
            drop(core);
            spare.make();
        }
    }

    fn poll_send(&self, seat: Pin<&Seat<T>>, waker: &Waker) -> Poll<Result<(), SendError<T>>> {
        let mut spare = Spare::new(waker);
        loop {
            let mut core = enter(&self.core);
            match seat.look(|ticket| core.gate.sender_at(ticket), &mut spare) {
                Look::Free => {}
                Look::Used => {
                    // SAFETY: found out just now.
                    let value = unsafe { seat.take() };
                    return Poll::Ready(value.map_or(Ok(()), |value| Err(SendError(value))));
                }
                Look::Waits => {
                    drop(core);
                    return Poll::Pending;
                }
                Look::WantsWaker => {
                    drop(core);
                    spare.make();
                    continue;
                }
            }
            // SAFETY: not in the queue.
            let Some(value) = (unsafe { seat.take() }) else {
                // Others have done nothing wrong: they find the lock free.
                drop(core);
                panic!("a send was polled after its end");
            };
            match core.send(value) {
                Sent::Buffered => {
                    drop(core);
                    sched::spend();
                    return Poll::Ready(Ok(()));
                }
                Sent::Handed(receiver) => {
                    drop(core);
                    // SAFETY: taken from the queue by this send alone; receivers wait for it as `receive` does.
                    unsafe { receiver.wake(false) };
                    sched::spend();
                    return Poll::Ready(Ok(()));
                }
                Sent::Closed(value) => return Poll::Ready(Err(SendError(value))),
                // SAFETY: as above.
                Sent::Full(value) => unsafe { seat.put(value) },
            }
            if let Some(waiter) = spare.take() {
                let ticket = core.gate.wait_to_send(seat.place(waiter));
                seat.waiting.set(Some((ticket, waiter)));
                return Poll::Pending;
            }
            drop(core);
            spare.make();
        }
    }

    /// A receive is dropped. What it was given goes back.
    ///
    /// Others may have been told meanwhile that the channel is closed, and not look again. Rejected, because somebody will want it: to tell
    /// nobody so while a value is in the hands of a future. Such a future is woken, but may be kept for long without being polled, by a task that waits for
    /// something else; all other receivers would wait for that task at the end of the channel, and with it for ever if it waits for one of
    /// them. What would do is to leave values in the channel, and in the hands of senders, until a future is polled: a wake in
    /// place of the value, to be passed on by who drops it. Then a future could find that another receiver came first, and would wait again.
    fn abandon_recv(&self, seat: &Seat<T>) {
        if !seat.leave(|ticket| enter(&self.core).gate.leave_receivers(ticket)) {
            return;
        }
        // SAFETY: found out just now.
        let Some(value) = (unsafe { seat.take() }) else {
            return;
        };
        let receiver = enter(&self.core).give_back(value);
        if let Some(receiver) = receiver {
            // SAFETY: taken from the queue by us alone; receivers wait for it as `receive` does.
            unsafe { receiver.wake(false) };
        }
    }

    /// A send is dropped, and its value with it, unless somebody has it.
    fn abandon_send(&self, seat: &Seat<T>) {
        let _was_used = seat.leave(|ticket| enter(&self.core).gate.leave_senders(ticket));
    }
}

/// The future of [`Receiver::recv_async`].
#[must_use = "nothing is received before it is polled"]
pub struct RecvFuture<'a, T> {
    receiver: &'a Receiver<T>,
    seat: Seat<T>,
}

/// The future of [`Receiver::when_recv`]: as [`RecvFuture`], but with a receiver of its own.
#[must_use = "nothing is received before it is polled"]
pub struct WhenRecv<T> {
    receiver: Receiver<T>,
    seat: Seat<T>,
}

/// The future of [`Sender::send_async`].
#[must_use = "nothing is sent before it is polled"]
pub struct SendFuture<'a, T> {
    sender: &'a Sender<T>,
    seat: Seat<T>,
}

impl<T> Receiver<T> {
    /// Receives the next value, as a future. It resolves as [`recv`](Self::recv) returns.
    ///
    /// It may be dropped at any time: a value that it had been given by then goes to the next receiver, or waits in the channel (where
    /// another receiver, told meanwhile that the channel is closed, may not look for it any more). So it
    /// can be one of several in whatever selects among futures. Tasks with and without a stack, and threads, stand in one queue.
    ///
    /// ```
    /// use multi_goro::{Group, chan};
    ///
    /// let (tx, rx) = chan(1);
    /// let mut group = Group::new();
    /// let sum = group.spawn_async(async move {
    ///     let mut sum = 0;
    ///     while let Ok(n) = rx.recv_async().await {
    ///         sum += n;
    ///     }
    ///     Ok(sum)
    /// });
    /// group.go_async(async move {
    ///     for n in 1..=10 {
    ///         tx.send_async(n).await?;
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(sum.join()?, 55);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture {
            receiver: self,
            seat: Seat::new(None),
        }
    }

    /// As [`recv_async`](Self::recv_async), with a receiver of its own, for [`Group::go_when`](crate::Group::go_when).
    ///
    /// ```
    /// use multi_goro::{Group, chan};
    ///
    /// let (tx, rx) = chan(1);
    /// let mut group = Group::new();
    /// group.go_when(rx.when_recv(), |value| {
    ///     assert_eq!(value?, 7);
    ///     Ok(())
    /// });
    /// tx.send(7)?;
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn when_recv(&self) -> WhenRecv<T> {
        WhenRecv {
            receiver: self.clone(),
            seat: Seat::new(None),
        }
    }
}

impl<T> Sender<T> {
    /// Sends a value, as a future. It resolves as [`send`](Self::send) returns.
    ///
    /// Dropped before that, it has either sent the value, or drops it: a value that must not be lost is sent by a future that is
    /// polled to its end.
    ///
    /// ```
    /// use multi_goro::{chan, future::block_on};
    ///
    /// let (tx, rx) = chan(1);
    /// block_on(tx.send_async(7))?;
    /// assert_eq!(rx.recv(), Ok(7));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        SendFuture {
            sender: self,
            seat: Seat::new(Some(value)),
        }
    }
}

macro_rules! future {
    ($name:ident $(<$life:lifetime>)?, $end:ident, $poll:ident, $abandon:ident, $output:ty) => {
        impl<T> Future for $name<$($life,)? T> {
            type Output = $output;

            fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<$output> {
                let this = self.into_ref().get_ref();
                // SAFETY: pinned, as the whole is, which `Seat` being `!Unpin` makes so until it is dropped.
                let seat = unsafe { Pin::new_unchecked(&this.seat) };
                this.$end.channel.$poll(seat, context.waker())
            }
        }

        impl<T> Drop for $name<$($life,)? T> {
            fn drop(&mut self) {
                self.$end.channel.$abandon(&self.seat);
            }
        }

        impl<T> fmt::Debug for $name<$($life,)? T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("is_waiting", &self.seat.waiting.get().is_some())
                    .finish_non_exhaustive()
            }
        }
    };
}
future!(RecvFuture<'_>, receiver, poll_recv, abandon_recv, Result<T, RecvError>);
future!(WhenRecv, receiver, poll_recv, abandon_recv, Result<T, RecvError>);
future!(SendFuture<'_>, sender, poll_send, abandon_send, Result<(), SendError<T>>);
