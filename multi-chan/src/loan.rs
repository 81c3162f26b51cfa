//! Values written and read where they lie: a slot on loan to this process.
//!
//! A handle stands for one claim. Who made the claim is written in the slot's stamp, so a handle whose
//! process dies is undone by whoever survives, and a handle copied by a fork is nobody's: the child's copy
//! neither publishes nor frees.

#![expect(unsafe_code, reason = "lends the claimed slot's value as a reference")]

use crate::ends::End;
use crate::error::{SendError, Why};
use crate::patience::Patience;
use crate::plain::Plain;
use crate::ring::Claim;
use crate::table::Core;
use std::cell::RefCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use std::thread;

/// A claimed slot, and the process whose claim it is. Neither side of the channel.
struct Loan<'a, T: Plain> {
    end: &'a End<T>,
    claim: Claim,
    process: u64,
    // A raw pointer also keeps the handles `!Send`: messages in hand are counted by thread.
    value: NonNull<T>,
}

impl<'a, T: Plain> Loan<'a, T> {
    fn new(end: &'a End<T>, claim: Claim) -> Loan<'a, T> {
        Loan {
            end,
            claim,
            process: end.core().lend(),
            value: end.value(claim),
        }
    }

    /// False in a forked child, for a loan of its parent's.
    fn is_ours(&self) -> bool {
        self.end.core().me() == self.process
    }

    #[track_caller]
    fn check(&self) {
        assert!(
            self.is_ours(),
            "a slot claimed before a fork belongs to the parent: claim one in the child"
        );
    }
}

/// A slot to write a message in, where the receiver will read it; sent by [`commit`](Self::commit).
///
/// Made by [`Sender::reserve`](crate::Sender::reserve) and its kin. It dereferences to the value in
/// shared memory. What the value is at first is **not specified**: zeros, or bytes of an older message.
///
/// - **Order.** The message has its place among the others from the `reserve` on: receivers wait for it to
///   be committed or dropped before they get what was sent after it, and so does the end of a closed
///   channel. Do not receive from the same channel on the same thread in between.
/// - **Drop** without `commit`, also by a panic, takes the slot back: nothing is sent.
/// - **Several** may be held at once; each takes one place of the capacity.
/// - **Death** of the process takes the slot back, too.
/// - **`mem::forget`** leaves the slot claimed, and receivers waiting behind it, until the process drops its last
///   handle of the channel or ends.
///
/// # Fork
/// The slot stays the parent's. In a child, dropping the copy does nothing, `commit` fails, and
/// dereferencing panics. A reference got before the fork must not be used in the child.
///
/// # Examples
/// ```
/// let (tx, rx) = multi_chan::channel::<[u32; 256]>(2)?;
/// let mut frame = tx.reserve()?;
/// for (place, pixel) in frame.iter_mut().zip(0..) {
///     *place = pixel;
/// }
/// frame.commit()?;
/// let frame = rx.recv_ref()?;
/// assert_eq!(frame[255], 255);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It stays on the thread that made it:
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>() {}
/// needs_send::<multi_chan::SlotMut<'static, u64>>();
/// ```
#[must_use = "a slot dropped without `commit` sends nothing"]
pub struct SlotMut<'a, T: Plain> {
    loan: Loan<'a, T>,
}

impl<'a, T: Plain> SlotMut<'a, T> {
    pub(crate) fn new(end: &'a End<T>, claim: Claim) -> SlotMut<'a, T> {
        SlotMut {
            loan: Loan::new(end, claim),
        }
    }

    /// Sends the message; in a rendezvous, waits until a receiver has it.
    ///
    /// # Errors
    /// In a rendezvous as [`Sender::send`](crate::Sender::send): the message is taken back then. In a
    /// channel with room for values only in a forked child's copy ([`SendError::is_inherited`]): a slot reserved
    /// before the channel was closed is still received by whoever drains it.
    pub fn commit(self) -> Result<(), SendError<()>> {
        let slot = ManuallyDrop::new(self);
        if !slot.loan.is_ours() {
            return Err(SendError::new((), Why::Inherited));
        }
        slot.loan
            .end
            .publish(slot.loan.claim, Patience::Endless)
            .map_err(|why| SendError::new((), why))
    }
}

impl<T: Plain> Drop for SlotMut<'_, T> {
    fn drop(&mut self) {
        if self.loan.is_ours() {
            self.loan.end.withdraw(self.loan.claim);
        }
    }
}

impl<T: Plain> Deref for SlotMut<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        self.loan.check();
        // SAFETY: the claim gives the slot to this handle alone, in all processes, until it is given up; the
        // pointer is aligned and inside the mapping, which `end` keeps; any bytes are a valid `T: Plain`.
        unsafe { self.loan.value.as_ref() }
    }
}

impl<T: Plain> DerefMut for SlotMut<'_, T> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.loan.check();
        // SAFETY: as in `deref`, and the handle is borrowed mutably.
        unsafe { self.loan.value.as_mut() }
    }
}

/// A received message, read where it lies; acknowledged when dropped.
///
/// Made by [`Receiver::recv_ref`](crate::Receiver::recv_ref) and its kin. Until it is dropped nobody else gets
/// the message, and its slot is not free: a handle kept for long holds up senders once they have come
/// round to it.
///
/// - **Several** may be held at once, and dropped in any order.
/// - **Death** of the process while it holds the message loses it, and counts it
///   ([`Receiver::dropped`](crate::Receiver::dropped)); with [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce)
///   another receiver gets it.
/// - **A panic** that drops it acknowledges it; with `AtLeastOnce` it gives the message back.
/// - **`mem::forget`** keeps the slot until the process drops its last handle of the channel or ends; then the
///   message counts as dropped, or comes back.
///
/// # Fork
/// The message stays the parent's. In a child, dropping the copy does nothing, and dereferencing panics.
/// A reference got before the fork must not be used in the child.
///
/// # Examples
/// ```
/// let (tx, rx) = multi_chan::channel::<u64>(2)?;
/// tx.send(1)?;
/// tx.send(2)?;
/// let first = rx.recv_ref()?;
/// let second = rx.recv_ref()?;
/// assert_eq!(*first + *second, 3);
/// assert!(tx.try_send(3).unwrap_err().is_full());
/// drop(first);
/// tx.send(3)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It stays on the thread that made it:
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>() {}
/// needs_send::<multi_chan::SlotRef<'static, u64>>();
/// ```
#[must_use = "a message is acknowledged when its handle is dropped"]
pub struct SlotRef<'a, T: Plain> {
    loan: Loan<'a, T>,
    attempts: u32,
    /// The thread was panicking already when it got the message.
    panicking: bool,
}

impl<'a, T: Plain> SlotRef<'a, T> {
    pub(crate) fn new(end: &'a End<T>, claim: Claim) -> SlotRef<'a, T> {
        let loan = Loan::new(end, claim);
        if end.redelivers() {
            hold(end.core());
        }
        SlotRef {
            attempts: end.hand_out(claim),
            panicking: thread::panicking(),
            loan,
        }
    }

    /// How often the message has been handed out as a `SlotRef`, this time included.
    ///
    /// More than 1 only with [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), where the receivers before this one died
    /// or gave it back. A message that kills whoever gets it comes again and again: give up on it
    /// after some attempts, by dropping it here.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// True if the message was handed out before.
    pub fn redelivered(&self) -> bool {
        self.attempts > 1
    }

    /// Gives the message back without acknowledging it: it is received again, perhaps by this receiver.
    ///
    /// # Panics
    /// In a channel with [`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce): nothing comes back there.
    #[track_caller]
    pub fn give_back(self) {
        assert!(
            self.loan.end.redelivers(),
            "no message comes back in this channel: make it with Delivery::AtLeastOnce"
        );
        ManuallyDrop::new(self).return_it();
    }

    fn return_it(&mut self) {
        if self.loan.is_ours() {
            self.loan.end.give_back(self.loan.claim);
            let_go(self.loan.end.core());
        }
    }
}

impl<T: Plain> Drop for SlotRef<'_, T> {
    fn drop(&mut self) {
        let redelivers = self.loan.end.redelivers();
        if redelivers && thread::panicking() && !self.panicking {
            self.return_it();
        } else if self.loan.is_ours() {
            self.loan.end.free(self.loan.claim);
            if redelivers {
                let_go(self.loan.end.core());
            }
        }
    }
}

/// Messages of one channel that this thread has in its hands.
struct InHand {
    /// A channel's token; its address stands for no other channel while this is kept.
    channel: Weak<()>,
    process: u64,
    count: usize,
}

thread_local! {
    static IN_HAND: RefCell<Vec<InHand>> = const { RefCell::new(Vec::new()) };
}

/// Runs `act` with this thread's entry for the channel, if there is one that was not inherited by a fork.
fn with_entry<R>(core: &Core, act: impl FnOnce(&mut InHand) -> R) -> Option<R> {
    let mine = |entry: &&mut InHand| {
        entry.channel.as_ptr() == Arc::as_ptr(core.token()) && entry.process == core.me()
    };
    IN_HAND
        .try_with(|entries| entries.borrow_mut().iter_mut().find(mine).map(act))
        .ok()
        .flatten()
}

/// Notes that this thread has one more message of the channel in its hands.
pub(crate) fn hold(core: &Core) {
    if with_entry(core, |entry| entry.count += 1).is_some() {
        return;
    }
    // A thread at its very end keeps no account: then it waits for itself as for others.
    IN_HAND
        .try_with(|entries| {
            let mut entries = entries.borrow_mut();
            // Channels that are gone.
            entries.retain(|entry| entry.channel.strong_count() > 0);
            entries.push(InHand {
                channel: Arc::downgrade(core.token()),
                process: core.me(),
                count: 1,
            });
        })
        .ok();
}

/// Notes that this thread has one message less.
pub(crate) fn let_go(core: &Core) {
    with_entry(core, |entry| entry.count = entry.count.saturating_sub(1));
}

/// How many messages of the channel this thread has in its hands.
pub(crate) fn held_here(core: &Core) -> usize {
    with_entry(core, |entry| entry.count).unwrap_or(0)
}

impl<T: Plain> Deref for SlotRef<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        self.loan.check();
        // SAFETY: the claim keeps all writers, in all processes, from the slot until it is given up; the pointer
        // is aligned and inside the mapping, which `end` keeps; any bytes are a valid `T: Plain`.
        unsafe { self.loan.value.as_ref() }
    }
}

impl<T: Plain> fmt::Debug for SlotMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&self.loan, f.debug_struct("SlotMut"))
    }
}

impl<T: Plain> fmt::Debug for SlotRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&self.loan, f.debug_struct("SlotRef"))
    }
}

fn debug<T: Plain>(loan: &Loan<'_, T>, mut text: fmt::DebugStruct<'_, '_>) -> fmt::Result {
    text.field("inherited", &!loan.is_ours())
        .finish_non_exhaustive()
}
