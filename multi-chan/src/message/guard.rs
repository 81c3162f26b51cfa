//! Messages written and read where they lie.

#![expect(unsafe_code, reason = "lends the bytes of a run that it holds")]

use crate::layout::Owner;
use crate::loan;
use crate::message::arena::Run;
use crate::message::error::{RecvMessageError, Refusal, SendMessageError};
use crate::message::link::{Claimed, Link};
use crate::message::packet::INLINE;
use crate::patience::Patience;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::thread;

/// Room for one message, to be written in place and then [committed](Reserved::commit); dropping it gives the
/// room back.
///
/// The bytes are what the last message there left, not zeros. Processes that keep to the protocol leave reserved
/// room alone, whatever dies; a process that scribbles over the channel's memory could change the bytes while they are
/// borrowed, which no slice can stand. Where peers are not trusted that far, use [`send`](crate::BytesSender::send).
///
/// # Fork
/// The room stays the parent's. In a child, dropping the copy does nothing, a commit is refused, and dereferencing
/// panics. A reference got before the fork must not be used in the child.
#[must_use = "room that is not committed is given back"]
pub struct Reserved<'a> {
    link: &'a Link,
    bytes: usize,
    /// As whom this process claims: a forked child's copy names its parent.
    owner: Owner,
    room: Room,
}

#[track_caller]
fn check(is_ours: bool) {
    assert!(
        is_ours,
        "a message claimed before a fork belongs to the parent: claim one in the child"
    );
}

enum Room {
    /// A small message has its slot claimed only when it is committed.
    Inline([u8; INLINE]),
    Run(Run),
}

impl<'a> Reserved<'a> {
    pub(crate) fn new(
        link: &'a Link,
        bytes: usize,
        patience: Patience,
    ) -> Result<Reserved<'a>, SendMessageError> {
        let owner = link.end().enter().map_err(Refusal::from)?;
        let room = if bytes <= INLINE {
            Room::Inline([0; INLINE])
        } else {
            let run = link.claim_run(bytes, patience)?;
            link.lend();
            Room::Run(run)
        };
        Ok(Reserved {
            link,
            bytes,
            owner,
            room,
        })
    }

    fn is_ours(&self) -> bool {
        self.link.is_me(self.owner)
    }

    /// Sends the message, waiting for a slot.
    ///
    /// # Errors
    /// As [`BytesSender::send`](crate::BytesSender::send); the room is given back then.
    pub fn commit(self) -> Result<(), SendMessageError> {
        self.commit_within(Patience::Endless)
    }

    /// Sends the first `bytes` bytes only, waiting for a slot.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Panics
    /// If that is more than was reserved.
    #[track_caller]
    pub fn commit_front(self, bytes: usize) -> Result<(), SendMessageError> {
        self.commit_front_within(bytes, Patience::Endless)
    }

    #[track_caller]
    pub(crate) fn commit_front_within(
        mut self,
        bytes: usize,
        patience: Patience,
    ) -> Result<(), SendMessageError> {
        assert!(
            bytes <= self.bytes,
            "commit_front of {bytes} bytes: only {} were reserved",
            self.bytes
        );
        self.bytes = bytes;
        self.commit_within(patience)
    }

    /// Sends the message if there is a slot just now.
    ///
    /// # Errors
    /// As [`BytesSender::try_send`](crate::BytesSender::try_send); the room is given back then.
    pub fn try_commit(self) -> Result<(), SendMessageError> {
        self.commit_within(Patience::None)
    }

    fn commit_within(self, patience: Patience) -> Result<(), SendMessageError> {
        let this = ManuallyDrop::new(self);
        if !this.is_ours() {
            return Err(Refusal::Inherited.into());
        }
        let sent = match &this.room {
            Room::Inline(bytes) => {
                this.link
                    .send_inline(&[&bytes[..this.bytes]], this.bytes, patience)
            }
            Room::Run(run) => this.link.send_run(*run, this.bytes, patience),
        };
        Ok(sent?)
    }
}

impl Deref for Reserved<'_> {
    type Target = [u8];

    #[track_caller]
    fn deref(&self) -> &[u8] {
        check(self.is_ours());
        match &self.room {
            Room::Inline(bytes) => &bytes[..self.bytes],
            Room::Run(run) => {
                let bytes = self.link.arena().bytes(*run).as_ptr();
                // SAFETY: the run is ours until it is sent or freed, which needs this guard; mapped memory is
                // initialised.
                unsafe { slice::from_raw_parts(bytes, self.bytes) }
            }
        }
    }
}

impl DerefMut for Reserved<'_> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut [u8] {
        check(self.is_ours());
        match &mut self.room {
            Room::Inline(bytes) => &mut bytes[..self.bytes],
            Room::Run(run) => {
                let bytes = self.link.arena().bytes(*run).as_ptr();
                // SAFETY: as in `deref`, and this borrow is unique.
                unsafe { slice::from_raw_parts_mut(bytes, self.bytes) }
            }
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Room::Run(run) = self.room
            && self.is_ours()
        {
            self.link.arena().free(run);
        }
    }
}

impl fmt::Debug for Reserved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A received message where it lies; dropping it acknowledges the message and gives its room back.
///
/// If the process dies before, or panics, what becomes of the message is the channel's [`Delivery`](crate::Delivery): with
/// `AtLeastOnce` it is received again. Processes that keep to the protocol leave the bytes alone; a process that scribbles over the channel's memory could change them while they
/// are borrowed, which no slice can stand. [`copied`](BytesRef::copied) and [`recv`](crate::BytesReceiver::recv)
/// copy in a way that can.
///
/// # Fork
/// The message stays the parent's. In a child, dropping the copy does nothing, and dereferencing panics. A reference
/// got before the fork must not be used in the child.
///
/// It stays on the thread that made it, since messages in hand are counted by thread:
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>() {}
/// needs_send::<multi_chan::BytesRef<'static>>();
/// ```
#[must_use = "dropping it acknowledges the message"]
pub struct BytesRef<'a> {
    link: &'a Link,
    message: Claimed,
    attempts: u32,
    /// The thread was panicking already when it got the message.
    panicking: bool,
    _not_send: PhantomData<*const ()>,
}

impl<'a> BytesRef<'a> {
    pub(crate) fn new(
        link: &'a Link,
        patience: Patience,
    ) -> Result<BytesRef<'a>, RecvMessageError> {
        let message = link.claim_message(patience)?;
        link.lend();
        if link.end().redelivers() {
            loan::hold(link.end().core());
        }
        Ok(BytesRef {
            link,
            message,
            attempts: link.hand_out(&message),
            panicking: thread::panicking(),
            _not_send: PhantomData,
        })
    }

    /// How often the message has been handed out in such a guard, this time included; more than 1 only with
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce). See [`SlotRef::attempts`](crate::SlotRef::attempts).
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
            self.link.end().redelivers(),
            "no message comes back in this channel: make it with Delivery::AtLeastOnce"
        );
        ManuallyDrop::new(self).let_go(false);
    }

    fn let_go(&mut self, acknowledged: bool) {
        if !self.link.has_claimed(&self.message) {
            // A forked child's copy of a guard: the message is its parent's.
            return;
        }
        if acknowledged {
            self.link.acknowledge(self.message);
        } else {
            self.link.give_back(self.message);
        }
        if self.link.end().redelivers() {
            loan::let_go(self.link.end().core());
        }
    }

    /// A copy of the bytes, made so that a process that scribbles can spoil them and no more.
    ///
    /// # Panics
    /// In a forked child's copy of the guard.
    #[track_caller]
    pub fn copied(&self) -> Vec<u8> {
        check(self.link.has_claimed(&self.message));
        let mut bytes = Vec::new();
        self.link.copy(&self.message, &mut bytes);
        bytes
    }
}

impl Deref for BytesRef<'_> {
    type Target = [u8];

    #[track_caller]
    fn deref(&self) -> &[u8] {
        check(self.link.has_claimed(&self.message));
        let (start, bytes) = self.link.bytes(&self.message);
        // SAFETY: slot and run are ours until the message is finished with, in `drop`; mapped memory is initialised.
        unsafe { slice::from_raw_parts(start.as_ptr(), bytes) }
    }
}

impl Drop for BytesRef<'_> {
    fn drop(&mut self) {
        let by_panic = thread::panicking() && !self.panicking;
        self.let_go(!(by_panic && self.link.end().redelivers()));
    }
}

impl fmt::Debug for BytesRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesRef")
            .field("bytes", &self.link.bytes(&self.message).1)
            .finish_non_exhaustive()
    }
}
