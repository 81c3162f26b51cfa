//! What [`select!`](crate::select) is made of. Nothing here is for use by hand.
//!
//! The steps, and why exactly one case wins, are in `chan/README.md`.

#![expect(unsafe_code, reason = "a seat is known by address while it is queued")]

mod arms;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use super::lookout::tell_lookouts;
use super::{Channel, Deadline, Place, Receiver, RecvError, SendError, Sender};
use crate::proto::channel::{Gate, Received, Sent};
use crate::proto::claim::Claim;
use crate::proto::home_lock::{Door, Streak, Visitor};
use crate::proto::wait_queue::Ticket;
use crate::sched::{self, Waiter, WaitsFor, Wake, park};
use crate::sync::OsGuard;

/// Cases of one select: as many as the bits of a set of them. The macro has as many names.
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

/// Only this file has one: what asks for it keeps rules that types do not.
#[derive(Debug, Clone, Copy)]
pub struct Inside(());

const INSIDE: Inside = Inside(());

mod sealed {
    #[expect(unnameable_types, reason = "nobody else may write an `Operation`")]
    pub trait Sealed {}
}

/// What of a case depends on what its channel carries.
pub trait Operation: sealed::Sealed {
    /// Carries the case out if it is ready, and notes whom to tell. Its channel's lock is held.
    #[doc(hidden)]
    fn act(&self, _: Inside) -> bool;
}

/// One case as a select sees it.
#[derive(Clone, Copy)]
pub struct Arm<'a> {
    base: &'a Base<'a>,
    operation: &'a dyn Operation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Send,
    Receive,
}

/// What of a case does not depend on what its channel carries. No drop glue, so that a case may be dropped after its value.
struct Base<'a> {
    /// The channel's identity, and the order in which doors are passed, by address.
    door: &'a Door,
    /// Behind the door.
    gate: NonNull<Gate<Place>>,
    side: Side,
    /// A send without a value is never ready.
    is_idle: bool,
    /// The value to send, or to be received. Reached by others while the seat is queued, so by address only.
    value: NonNull<()>,
    ticket: Cell<Option<Ticket>>,
    /// Whose wait the case has ended, and whether that one goes on next.
    owed: Cell<Option<(Place, bool)>>,
}

impl Base<'_> {
    /// What is behind the door, for who has passed it.
    ///
    /// # Safety
    ///
    /// - The caller is inside, and lets go of what it got before it gets at the core in another way, or leaves.
    #[expect(clippy::mut_from_ref, reason = "a lock without its guard")]
    unsafe fn gate(&self) -> &mut Gate<Place> {
        // SAFETY: alive with the channel that is borrowed; the caller's promise.
        unsafe { &mut *self.gate.as_ptr() }
    }

    /// Whether it is worth trying.
    ///
    /// # Safety
    ///
    /// - As for [`gate`](Self::gate).
    unsafe fn may_act(&self) -> bool {
        // SAFETY: the caller's promise.
        let gate = unsafe { self.gate() };
        match self.side {
            Side::Send => !self.is_idle && gate.may_send(),
            Side::Receive => gate.may_receive(),
        }
    }

    /// Takes a seat in the channel's queue.
    ///
    /// # Safety
    ///
    /// - As for [`gate`](Self::gate).
    unsafe fn announce(&self, waiter: Waiter, claim: &Claim, case: u32) {
        // One seat at most, so that `withdraw` gives back all.
        if self.is_idle || self.ticket.get().is_some() {
            return;
        }
        let seat = Place {
            waiter,
            value: self.value,
            claim: Some((NonNull::from(claim), case)),
        };
        // SAFETY: the caller's promise.
        let gate = unsafe { self.gate() };
        self.ticket.set(Some(match self.side {
            Side::Send => gate.wait_to_send(seat),
            Side::Receive => {
                let ticket = gate.wait_to_receive(seat);
                if gate.has_lookouts() {
                    tell_lookouts(gate, Some(waiter));
                }
                ticket
            }
        }));
    }

    /// Takes the seat back, if nobody else has.
    fn withdraw(&self, visitor: Visitor) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let take_back = || {
            // SAFETY: called inside, and this is all that is done there.
            let gate = unsafe { self.gate() };
            // False: somebody has met the seat, and has won it or dropped it.
            let _was_queued = match self.side {
                Side::Send => gate.leave_senders(ticket),
                Side::Receive => gate.leave_receivers(ticket),
            };
        };
        if self.door.enter_home(visitor) {
            take_back();
            self.door.leave_home();
        } else {
            let _guard = self.door.enter_shared(visitor);
            take_back();
        }
    }

    /// Tells who has waited for what the case did.
    fn tell(&self) {
        if let Some((seat, next)) = self.owed.take() {
            // SAFETY: taken from its queue, and won, by `act`; whose seat it is waits for this unpark.
            unsafe { seat.wake(next) };
        }
    }
}

/// A case on a channel of `T`.
pub struct Case<'a, T> {
    base: Base<'a>,
    channel: &'a Channel<T>,
    _value: PhantomData<&'a mut Option<T>>,
}

impl<'a, T> Case<'a, T> {
    fn new(channel: &'a Channel<T>, side: Side, value: &'a mut Option<T>) -> Self {
        let core = channel.core.value();
        // SAFETY: no reference is made; the core is part of the channel.
        let gate = unsafe { &raw mut (*core).gate };
        Self {
            base: Base {
                door: channel.core.door(),
                gate: NonNull::new(gate).expect("part of a channel"),
                side,
                is_idle: side == Side::Send && value.is_none(),
                value: NonNull::from(value).cast(),
                ticket: Cell::new(None),
                owed: Cell::new(None),
            },
            channel,
            _value: PhantomData,
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

    /// What a select is given.
    pub fn arm(&'a self) -> Arm<'a> {
        Arm {
            base: &self.base,
            operation: self,
        }
    }

    /// Ends the borrow of the channel and the value.
    pub fn leave(self) {}

    /// Puts something into the value's place and returns what was there.
    fn exchange(&self, value: Option<T>) -> Option<T> {
        let place = self.base.value.cast::<Option<T>>();
        // SAFETY: borrowed for as long as this case lives, and nobody else has the seat: it was never queued, or was used
        // before the select ended.
        unsafe { place.replace(value) }
    }

    /// How a receive that was chosen ended.
    pub fn received(&self) -> Result<T, RecvError> {
        self.exchange(None).ok_or(RecvError)
    }

    /// How a send that was chosen ended.
    pub fn sent(&self) -> Result<(), SendError<T>> {
        self.exchange(None)
            .map_or(Ok(()), |value| Err(SendError(value)))
    }
}

impl<T> sealed::Sealed for Case<'_, T> {}

impl<T> Operation for Case<'_, T> {
    fn act(&self, _: Inside) -> bool {
        // SAFETY: inside, by the caller's token; let go of when this returns.
        let core = unsafe { &mut *self.channel.core.value() };
        let (is_done, value) = match self.base.side {
            Side::Send => {
                let Some(value) = self.exchange(None) else {
                    return false;
                };
                match core.send(value) {
                    Sent::Buffered => (true, None),
                    Sent::Handed(receiver) => {
                        let is_rendezvous = core.gate.capacity() == 0;
                        self.base.owed.set(Some((receiver, is_rendezvous)));
                        (true, None)
                    }
                    Sent::Full(value) => (false, Some(value)),
                    Sent::Closed(value) => (true, Some(value)),
                }
            }
            Side::Receive => match core.receive() {
                Received::Value(value, sender) => {
                    self.base.owed.set(sender.map(|sender| (sender, false)));
                    (true, Some(value))
                }
                Received::Empty => (false, None),
                Received::Closed => (true, None),
            },
        };
        // Nothing is dropped: the place was emptied above, or is a receive's, which starts empty.
        let before = self.exchange(value);
        debug_assert!(before.is_none());
        drop(before);
        is_done
    }
}

impl<T> fmt::Debug for Case<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").finish_non_exhaustive()
    }
}

impl fmt::Debug for Arm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arm").finish_non_exhaustive()
    }
}

/// Carries out one of the cases and returns which; their number if the patience ran out first.
pub fn select(arms: &[Arm<'_>], patience: Patience) -> usize {
    let count = arms.len();
    assert!(
        count <= CASES_MAX,
        "a select of more than {CASES_MAX} cases"
    );
    let visitor = sched::visitor();
    let entered = match Entered::home(arms, visitor) {
        Some(entered) => entered,
        None => {
            // One look at one case: enough where cases are mostly ready, and cheap where they are not.
            let first = below(count);
            let look = Entered::shared(&arms[first..=first], visitor);
            // SAFETY: inside.
            let is_done =
                unsafe { arms[first].base.may_act() } && arms[first].operation.act(INSIDE);
            look.leave();
            if is_done {
                arms[first].base.tell();
                sched::spend();
                return first;
            }
            Entered::shared(arms, visitor)
        }
    };
    // All at once: whether any case is ready is asked, and all seats are taken, in one instant.
    if let Some(done) = act_on_any(arms) {
        entered.leave();
        arms[done].base.tell();
        sched::spend();
        return done;
    }
    let deadline = match patience {
        Patience::None | Patience::For(Duration::ZERO) => {
            entered.leave();
            return count;
        }
        Patience::For(duration) => Deadline::after(duration).at(),
        Patience::Endless => None,
    };
    let claim = Claim::new();
    let waiter = Waiter::current();
    let announce = |case: usize| {
        // SAFETY: inside all doors.
        unsafe { arms[case].base.announce(waiter, &claim, case as u32) };
    };
    // Who meets several seats in one queue takes the first. So they are not always taken in the same order: from anywhere, either way
    // round. Of two cases of one channel each is the first as often as the other.
    match below(2 * count) {
        _ if count == 0 => {}
        start if start < count => (start..count).chain(0..start).for_each(announce),
        end => (0..=end - count)
            .rev()
            .chain((end - count + 1..count).rev())
            .for_each(announce),
    }
    entered.leave();
    wait(arms, &claim, deadline, visitor).unwrap_or(count)
}

/// Carries out one of the cases that are ready, each as likely as the others. All doors are passed.
fn act_on_any(arms: &[Arm<'_>]) -> Option<usize> {
    let mut ready = 0_u32;
    for (nth, arm) in arms.iter().enumerate() {
        // SAFETY: inside all doors.
        ready |= u32::from(unsafe { arm.base.may_act() }) << nth;
    }
    while ready != 0 {
        let nth = pick(ready);
        if arms[nth].operation.act(INSIDE) {
            return Some(nth);
        }
        // Who waited there has been won elsewhere.
        ready &= !(1 << nth);
    }
    None
}

/// Waits for one of the announced cases to be won, and takes the other seats back.
fn wait(
    arms: &[Arm<'_>],
    claim: &Claim,
    deadline: Option<std::time::Instant>,
    visitor: Visitor,
) -> Option<usize> {
    let mut has_winner = true;
    if park(WaitsFor::Select, deadline) == Wake::TimedOut {
        has_winner = !claim.give_up();
        if has_winner {
            // Somebody has won us, and is about to tell us.
            let Wake::Unparked = park(WaitsFor::Select, None) else {
                unreachable!("a wait without a deadline timed out")
            };
        }
    }
    let winner = has_winner.then(|| claim.winner() as usize);
    for (index, arm) in arms.iter().enumerate() {
        // The winner's seat is gone already.
        if winner != Some(index) {
            arm.base.withdraw(visitor);
        }
    }
    winner
}

/// Inside the doors of several arms.
#[must_use]
struct Entered<'a> {
    arms: &'a [Arm<'a>],
    /// Of which arms the door was passed as the home.
    home: u32,
    shared: Vec<OsGuard<'a, Streak>>,
}

impl<'a> Entered<'a> {
    /// Passes all doors if this thread is the home of all. Nothing is waited for, and so they may come in any order; and a door
    /// may be passed twice, if nothing is done between the two times that it is left.
    fn home(arms: &'a [Arm<'a>], visitor: Visitor) -> Option<Self> {
        for (nth, arm) in arms.iter().enumerate() {
            if !arm.base.door.enter_home(visitor) {
                for arm in &arms[..nth] {
                    arm.base.door.leave_home();
                }
                return None;
            }
        }
        Some(Self {
            arms,
            home: u32::MAX,
            shared: Vec::new(),
        })
    }

    /// Passes each door once, in the order of their addresses: no two selects wait for each other. A home that is inside one door and
    /// waits at another keeps that order, too.
    #[cold]
    fn shared(arms: &'a [Arm<'a>], visitor: Visitor) -> Self {
        let mut sorted: Vec<(*const Door, usize)> = arms
            .iter()
            .enumerate()
            .map(|(nth, arm)| (ptr::from_ref(arm.base.door), nth))
            .collect();
        sorted.sort_unstable();
        sorted.dedup_by_key(|(door, _)| *door);
        let mut home = 0;
        let mut shared = Vec::with_capacity(sorted.len());
        for (_, nth) in sorted {
            let door = arms[nth].base.door;
            if door.enter_home(visitor) {
                home |= 1 << nth;
            } else {
                shared.push(door.enter_shared(visitor));
            }
        }
        Self { arms, home, shared }
    }

    fn leave(self) {
        for (nth, arm) in self.arms.iter().enumerate() {
            if self.home >> nth & 1 != 0 {
                arm.base.door.leave_home();
            }
        }
        drop(self.shared);
    }
}

/// One of the members of a set, which is not empty, each as likely as the others.
fn pick(mut set: u32) -> usize {
    let count = set.count_ones();
    if count > 1 {
        for _ in 0..below(count as usize) {
            set &= set - 1;
        }
    }
    set.trailing_zeros() as usize
}

/// A random number below `end`.
fn below(end: usize) -> usize {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut random = state.get();
        if random == 0 {
            // Any start but zero will do; threads differ by their address.
            random = ptr::from_ref(state).addr() as u64 | 1;
        }
        // xorshift64; the upper half, scaled.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        state.set(random);
        (((random >> 32) * end as u64) >> 32) as usize
    })
}
