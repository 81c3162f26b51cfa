//! What [`select!`](crate::select) is made of. Nothing here is for use by hand.
//!
//! The steps, and why exactly one case wins, are in `chan/README.md`.

#![expect(unsafe_code, reason = "a seat is known by address while it is queued")]

mod arms;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use super::lookout::tell_lookouts;
use super::{Channel, Deadline, Place, Receiver, RecvError, SendError, Sender};
use crate::proto::channel::{Core, Received, Sent};
use crate::proto::claim::Claim;
use crate::proto::home_lock::HomeGuard;
use crate::proto::wait_queue::Ticket;
use crate::sched::{self, Waiter, Wake, enter, park};

/// Cases of one select. The macro has as many names.
const CASES_MAX: usize = 32;

/// How long a select waits when no case is ready.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Until one is.
    Endless,
    /// Not at all.
    None,
    /// For this long.
    For(Duration),
}

/// Who is announced, and by which claim it is won.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    waiter: Waiter,
    claim: NonNull<Claim>,
    case: u32,
}

/// Only this file has one: what asks for it keeps rules that types do not.
#[derive(Debug, Clone, Copy)]
pub struct Inside(());

const INSIDE: Inside = Inside(());

mod sealed {
    #[expect(unnameable_types, reason = "nobody else may write an `Operation`")]
    pub trait Sealed {}
}

/// One case, whatever its channel carries. Of the methods that speak of the core, all but the first want its lock held.
pub trait Operation: sealed::Sealed {
    /// The channel's identity, and the order in which locks are taken.
    #[doc(hidden)]
    fn address(&self, _: Inside) -> usize;
    /// Takes the channel's lock.
    #[doc(hidden)]
    fn lock(&self, _: Inside);
    /// Uses the lock that another case of the same channel holds.
    #[doc(hidden)]
    fn share(&self, other: &dyn Operation, _: Inside);
    /// The core whose lock is held.
    #[doc(hidden)]
    fn core(&self, _: Inside) -> Option<NonNull<()>>;
    /// Lets the lock go.
    #[doc(hidden)]
    fn unlock(&self, _: Inside);
    /// Carries the case out if it is ready. Who has waited for that is told by `tell`, with the lock free.
    #[doc(hidden)]
    fn act(&self, _: Inside) -> bool;
    #[doc(hidden)]
    fn tell(&self, _: Inside);
    /// Takes a seat in the channel's queue.
    #[doc(hidden)]
    fn announce(&self, mark: Mark, _: Inside);
    /// Takes the seat back, if nobody else has; takes the lock itself.
    #[doc(hidden)]
    fn withdraw(&self, _: Inside);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Send,
    Receive,
}

type Locked<T> = Core<T, Place<T>>;

/// A case on a channel of `T`. A send that holds no value is never ready.
pub struct Case<'a, T> {
    channel: &'a Channel<T>,
    side: Side,
    /// The value to send, or to be received. Reached by others while the seat is queued, so by address only.
    value: NonNull<Option<T>>,
    _value: PhantomData<&'a mut Option<T>>,
    guard: RefCell<Option<HomeGuard<'a, Locked<T>>>>,
    /// The core while the lock is held, by this case or another of the same channel.
    core: Cell<Option<NonNull<Locked<T>>>>,
    ticket: Cell<Option<Ticket>>,
    owed: Cell<Option<(Place<T>, bool)>>,
}

impl<'a, T> Case<'a, T> {
    fn new(channel: &'a Channel<T>, side: Side, value: &'a mut Option<T>) -> Self {
        Self {
            channel,
            side,
            value: NonNull::from(value),
            _value: PhantomData,
            guard: RefCell::new(None),
            core: Cell::new(None),
            ticket: Cell::new(None),
            owed: Cell::new(None),
        }
    }

    /// Receives into `value`.
    pub fn recv(receiver: &'a Receiver<T>, value: &'a mut Option<T>) -> Self {
        *value = None;
        Self::new(&receiver.channel, Side::Receive, value)
    }

    /// Sends what is in `value`.
    pub fn send(sender: &'a Sender<T>, value: &'a mut Option<T>) -> Self {
        Self::new(&sender.channel, Side::Send, value)
    }

    fn take(&self) -> Option<T> {
        // SAFETY: borrowed for as long as this case lives, and nobody else has the seat: it was never queued, or was used
        // before the select ended.
        unsafe { self.value.as_ptr().replace(None) }
    }

    fn is_idle(&self) -> bool {
        // SAFETY: as in `take`; asked before the seat is queued.
        self.side == Side::Send && unsafe { self.value.as_ref() }.is_none()
    }

    /// Runs `use_core` on the core.
    fn with_core<R>(&self, use_core: impl FnOnce(&mut Locked<T>) -> R) -> R {
        let mut core = self.core.get().expect("the lock is held");
        // SAFETY: set while the lock is held by a case of this select, on this thread; nothing below gets at it a second time.
        use_core(unsafe { core.as_mut() })
    }

    /// How a receive that was chosen ended.
    pub fn received(&self) -> Result<T, RecvError> {
        self.take().ok_or(RecvError)
    }

    /// How a send that was chosen ended.
    pub fn sent(&self) -> Result<(), SendError<T>> {
        self.take().map_or(Ok(()), |value| Err(SendError(value)))
    }
}

impl<T> sealed::Sealed for Case<'_, T> {}

impl<T> Operation for Case<'_, T> {
    fn address(&self, _: Inside) -> usize {
        ptr::from_ref(self.channel).addr()
    }

    fn lock(&self, _: Inside) {
        let mut guard = enter(&self.channel.core);
        self.core.set(Some(NonNull::from(&mut *guard)));
        *self.guard.borrow_mut() = Some(guard);
    }

    fn share(&self, other: &dyn Operation, inside: Inside) {
        debug_assert_eq!(self.address(inside), other.address(inside));
        // The same channel, so the same type.
        self.core.set(other.core(inside).map(NonNull::cast));
    }

    fn core(&self, _: Inside) -> Option<NonNull<()>> {
        self.core.get().map(NonNull::cast)
    }

    fn unlock(&self, _: Inside) {
        self.core.set(None);
        drop(self.guard.borrow_mut().take());
    }

    fn act(&self, _: Inside) -> bool {
        if self.is_idle() {
            return false;
        }
        match self.side {
            Side::Send => {
                let value = self.take().expect("looked at just now");
                let (is_done, value) = self.with_core(|core| match core.send(value) {
                    Sent::Buffered => (true, None),
                    Sent::Handed(receiver) => {
                        self.owed.set(Some((receiver, core.capacity() == 0)));
                        (true, None)
                    }
                    Sent::Full(value) => (false, Some(value)),
                    Sent::Closed(value) => (true, Some(value)),
                });
                // SAFETY: as in `take`.
                unsafe { self.value.write(value) };
                is_done
            }
            Side::Receive => {
                let (is_done, value) = self.with_core(|core| match core.receive() {
                    Received::Value(value, sender) => {
                        self.owed.set(sender.map(|sender| (sender, false)));
                        (true, Some(value))
                    }
                    Received::Empty => (false, None),
                    Received::Closed => (true, None),
                });
                // SAFETY: as in `take`; a receive starts without a value, so none is overwritten.
                unsafe { self.value.write(value) };
                is_done
            }
        }
    }

    fn tell(&self, _: Inside) {
        if let Some((seat, next)) = self.owed.take() {
            // SAFETY: taken from its queue, and won, by `act`; whose seat it is waits for this unpark.
            unsafe { seat.wake(next) };
        }
    }

    fn announce(&self, mark: Mark, _: Inside) {
        // One seat at most, so that `withdraw` gives back all.
        if self.ticket.get().is_some() || self.is_idle() {
            return;
        }
        let seat = Place {
            waiter: mark.waiter,
            value: self.value,
            claim: Some((mark.claim, mark.case)),
        };
        let ticket = self.with_core(|core| match self.side {
            Side::Send => core.wait_to_send(seat),
            Side::Receive => {
                let ticket = core.wait_to_receive(seat);
                if core.has_lookouts() {
                    tell_lookouts(core);
                }
                ticket
            }
        });
        self.ticket.set(Some(ticket));
    }

    fn withdraw(&self, _: Inside) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let mut core = enter(&self.channel.core);
        // False: somebody has met the seat, and has won it or dropped it.
        let _was_queued = match self.side {
            Side::Send => core.leave_senders(ticket),
            Side::Receive => core.leave_receivers(ticket),
        };
    }
}

impl<T> fmt::Debug for Case<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").finish_non_exhaustive()
    }
}

/// Carries out one of the cases and returns which; their number if the patience ran out first.
pub fn select(cases: &[&dyn Operation], patience: Patience) -> usize {
    let count = cases.len();
    assert!(
        count <= CASES_MAX,
        "a select of more than {CASES_MAX} cases"
    );
    let mut order = [0; CASES_MAX];
    let order = &mut order[..count];
    shuffle(order);

    // One look at one case: enough where cases are mostly ready, and cheap where they are not.
    if let Some(&first) = order.first() {
        let case = cases[first];
        case.lock(INSIDE);
        let is_done = case.act(INSIDE);
        case.unlock(INSIDE);
        if is_done {
            case.tell(INSIDE);
            sched::spend();
            return first;
        }
    }

    // All locks at once: whether any case is ready is asked, and all seats are taken, in one instant.
    lock_all(cases);
    for &mut index in &mut *order {
        if cases[index].act(INSIDE) {
            unlock_all(cases);
            cases[index].tell(INSIDE);
            sched::spend();
            return index;
        }
    }
    let deadline = match patience {
        Patience::None | Patience::For(Duration::ZERO) => {
            unlock_all(cases);
            return count;
        }
        Patience::For(duration) => Deadline::after(duration).at(),
        Patience::Endless => None,
    };
    let claim = Claim::new();
    wait(cases, &claim, deadline).unwrap_or(count)
}

/// Announces every case, whose locks are held, and waits for one to be won.
fn wait(cases: &[&dyn Operation], claim: &Claim, deadline: Option<Instant>) -> Option<usize> {
    let waiter = Waiter::current();
    for (case, index) in cases.iter().zip(0..) {
        case.announce(
            Mark {
                waiter,
                claim: NonNull::from(claim),
                case: index,
            },
            INSIDE,
        );
    }
    unlock_all(cases);
    let mut has_winner = true;
    if park(deadline) == Wake::TimedOut {
        has_winner = !claim.give_up();
        if has_winner {
            // Somebody has won us, and is about to tell us.
            let Wake::Unparked = park(None) else {
                unreachable!("a wait without a deadline timed out")
            };
        }
    }
    let winner = has_winner.then(|| claim.winner() as usize);
    for (index, case) in cases.iter().enumerate() {
        // The winner's seat is gone already.
        if winner != Some(index) {
            case.withdraw(INSIDE);
        }
    }
    winner
}

/// Takes the lock of every channel, once, in the order of their addresses: no two selects wait for each other.
fn lock_all(cases: &[&dyn Operation]) {
    let mut sorted = [(0, 0); CASES_MAX];
    let sorted = &mut sorted[..cases.len()];
    for (place, (index, case)) in sorted.iter_mut().zip(cases.iter().enumerate()) {
        *place = (case.address(INSIDE), index);
    }
    sorted.sort_unstable();
    let mut last: Option<(usize, usize)> = None;
    for &mut (address, index) in sorted {
        match last {
            Some((same, holder)) if same == address => cases[index].share(cases[holder], INSIDE),
            _ => {
                cases[index].lock(INSIDE);
                last = Some((address, index));
            }
        }
    }
}

fn unlock_all(cases: &[&dyn Operation]) {
    for case in cases {
        case.unlock(INSIDE);
    }
}

/// A random order, each as likely as the others.
fn shuffle(order: &mut [usize]) {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut random = state.get();
        if random == 0 {
            // Any start but zero will do; threads differ by their address.
            random = ptr::from_ref(state).addr() as u64 | 1;
        }
        for n in 0..order.len() {
            // xorshift64; the upper half, scaled to 0..=n.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let other = (((random >> 32) * (n as u64 + 1)) >> 32) as usize;
            order[n] = order[other];
            order[other] = n;
        }
        state.set(random);
    });
}
