//! One end of a channel of messages: a ring of packets, and the arena behind it.

#![expect(unsafe_code, reason = "fills and reads slots and runs")]

use crate::Error;
use crate::builder::Builder;
use crate::delivery::Delivery;
use crate::ends::End;
use crate::error::Why;
use crate::kill::{self, KillPoint};
use crate::layout::{Geometry, Owner};
use crate::message::arena::{Arena, Run};
use crate::message::copy::{self, Writer};
use crate::message::error::Refusal;
use crate::message::packet::{Content, INLINE, Packet};
use crate::pass::{Arrived, Descriptors, Kind};
use crate::patience::{Patience, Step};
use crate::ring::Claim;
use crate::robust::ROLL_BYTES;
use crate::table::{CLOSED, NO_RECEIVERS, Sides};
use std::ptr::NonNull;

/// A handle on one side of a channel of messages.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    end: End<Packet>,
    arena: Arena,
}

/// A message that this process has claimed: its slot, and what that says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    claim: Claim,
    content: Content,
}

impl Link {
    /// Makes a channel of `V` values, as messages of this kind, and its two ends.
    pub(crate) fn pair<V>(options: &Builder, kind: Kind) -> Result<(Link, Link), Error> {
        let geometry = Link::geometry(options)?;
        let label = options.label::<V>(kind);
        let (sender, receiver) =
            End::pair_laid_out(options, geometry, label, Sides::SENDER, Sides::RECEIVER)?;
        Ok((Link::new(sender), Link::new(receiver)))
    }

    /// Makes an end of such a channel that came from elsewhere.
    pub(crate) fn attach<V>(
        descriptors: Descriptors,
        kind: Kind,
        side: Sides,
    ) -> Result<Link, Error> {
        let arrived = Arrived::check::<V>(descriptors, kind, ROLL_BYTES)?;
        let geometry = Link::geometry(&arrived.options)?;
        let [end] = End::join(arrived, geometry, [side], side)?;
        Ok(Link::new(end))
    }

    fn new(end: End<Packet>) -> Link {
        let arena = *end.core().arena().expect("the geometry has an arena");
        Link { end, arena }
    }

    /// The ring of packets, and the arena.
    fn geometry(options: &Builder) -> Result<Geometry, Error> {
        let (capacity, delivery) = (options.capacity, options.delivery);
        let geometry = Geometry::with_lead::<Packet>(capacity, Packet::LEAD, delivery)?;
        // Bodies lie at a word's alignment, and end at one; if nothing comes again, a slot is two cache lines.
        let at_most_once = (128, 8);
        let at_least_once = (144, 24);
        let expected = match delivery {
            Delivery::AtMostOnce => at_most_once,
            Delivery::AtLeastOnce => at_least_once,
        };
        assert!((geometry.stride, geometry.value_offset) == expected);
        assert!(geometry.slots_offset.is_multiple_of(128));
        geometry.with_arena(options.arena_bytes_or_default())
    }

    pub(crate) fn end(&self) -> &End<Packet> {
        &self.end
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Sends the parts, one after another, as one message.
    pub(crate) fn send(&self, parts: &[&[u8]], patience: Patience) -> Result<(), Refusal> {
        // More than there is is too large; the same part may be named any number of times.
        let bytes = parts
            .iter()
            .fold(0, |bytes: usize, part| bytes.saturating_add(part.len()));
        if bytes <= INLINE {
            return self.send_inline(parts, bytes, patience);
        }
        let run = self.claim_run(bytes, patience)?;
        // SAFETY: the run has room for `bytes`, begins at a page, and is ours.
        let mut writer = unsafe { Writer::new(self.arena.bytes(run), bytes) };
        for part in parts {
            writer.write(part);
        }
        writer.finish();
        self.send_run(run, bytes, patience)
    }

    /// Sends a message small enough for a slot.
    pub(crate) fn send_inline(
        &self,
        parts: &[&[u8]],
        bytes: usize,
        patience: Patience,
    ) -> Result<(), Refusal> {
        debug_assert!(bytes <= INLINE);
        let claim = self.end.claim_room(patience)?;
        self.end.ring().write_words(claim, [Packet::inline(bytes)]);
        let packet = self.end.value(claim);
        // SAFETY: a body has room for `INLINE` bytes, and is ours.
        let mut writer = unsafe { Writer::new(Packet::body(packet), bytes) };
        for part in parts {
            writer.write(part);
        }
        writer.finish();
        Ok(self.end.publish(claim, patience)?)
    }

    /// Sends the first `bytes` bytes of a run that is ours; frees it if that fails.
    pub(crate) fn send_run(
        &self,
        run: Run,
        bytes: usize,
        patience: Patience,
    ) -> Result<(), Refusal> {
        kill::reached(KillPoint::RunFilled);
        let sent = self.end.claim_room(patience).and_then(|claim| {
            self.end
                .ring()
                .write_words(claim, Packet::of_run(run, bytes));
            self.end.publish(claim, patience)
        });
        sent.map_err(|why| {
            self.arena.free(run);
            why.into()
        })
    }

    /// Claims chunks for a message, waiting for room.
    ///
    /// No slot is held meanwhile, and no chunk: whatever is in the ring can be received and freed.
    pub(crate) fn claim_run(&self, bytes: usize, patience: Patience) -> Result<Run, Refusal> {
        if bytes > self.arena.bytes_max() {
            return Err(Refusal::TooLarge {
                bytes,
                bytes_max: self.arena.bytes_max(),
            });
        }
        let owner = self.end.enter()?;
        if self.end.core().flags() == 0
            && let Some(run) = self.arena.claim(owner, bytes)
        {
            return Ok(run);
        }
        Ok(self.claim_run_slowly(owner, bytes, patience)?)
    }

    #[cold]
    fn claim_run_slowly(&self, owner: Owner, bytes: usize, patience: Patience) -> Result<Run, Why> {
        let core = self.end.core();
        let room = self.arena.room();
        let mut wait = self.end.wait(patience);
        loop {
            let flags = core.flags();
            if flags & CLOSED != 0 {
                return Err(Why::Closed);
            }
            if flags & NO_RECEIVERS != 0 {
                return Err(Why::Disconnected);
            }
            // The look after an arming: see `has_room`, and then `claim` sees it, too.
            if self.arena.has_room(bytes)
                && let Some(run) = self.arena.claim(owner, bytes)
            {
                return Ok(run);
            }
            match wait.step(room) {
                Step::Again | Step::Armed => {}
                Step::LookRound => {
                    if wait.is_long() && core.bury_dead() {
                        wait.forget_ticket();
                    } else if core.is_gone(Sides::RECEIVER) {
                        return Err(Why::Disconnected);
                    } else {
                        wait.sleep(core, room, Why::Full)?;
                    }
                }
            }
        }
    }

    /// Notes that something is on loan, which a user may forget.
    pub(crate) fn lend(&self) {
        self.end.core().lend();
    }

    /// True if that is how this process claims.
    pub(crate) fn is_me(&self, owner: Owner) -> bool {
        self.end.core().is_me(owner)
    }

    /// Claims the next message, waiting for one.
    pub(crate) fn claim_message(&self, patience: Patience) -> Result<Claimed, Why> {
        let claim = self.end.claim_value(patience)?;
        let content = self.read(claim)?;
        Ok(Claimed { claim, content })
    }

    /// What a claimed slot says; one that says what nobody writes is freed.
    #[inline]
    fn read(&self, claim: Claim) -> Result<Content, Why> {
        // Read once: what is checked is the copy.
        let head = self.end.ring().read_words(claim);
        Packet::read(head, &self.arena).ok_or_else(|| {
            self.end.free(claim);
            Why::Corrupt
        })
    }

    #[inline]
    fn place(&self, claim: Claim, content: Content) -> (NonNull<u8>, usize) {
        match content {
            Content::Inline(bytes) => (Packet::body(self.end.value(claim)), bytes),
            Content::Run { run, bytes } => (self.arena.bytes(run), bytes),
        }
    }

    /// True if the message was claimed by this process.
    pub(crate) fn has_claimed(&self, message: &Claimed) -> bool {
        self.end.core().is_me(message.claim.owner)
    }

    /// How many bytes a message has, and where they lie until it is finished with.
    pub(crate) fn bytes(&self, message: &Claimed) -> (NonNull<u8>, usize) {
        self.place(message.claim, message.content)
    }

    /// Copies a message out, behind what `to` holds.
    pub(crate) fn copy(&self, message: &Claimed, to: &mut Vec<u8>) {
        let (from, bytes) = self.bytes(message);
        // SAFETY: slots and chunks begin and end at words; these are ours until the message is finished with.
        unsafe { copy::append(from, bytes, to) };
    }

    /// Is done with a message: frees its chunks, and then its slot.
    #[inline]
    pub(crate) fn acknowledge(&self, message: Claimed) {
        if let Content::Run { run, bytes } = message.content {
            if self.end.ring().comes_again(message.claim.lap()) {
                // From here on whoever finds us dead frees the run, and before here nobody does.
                self.end
                    .ring()
                    .write_word(message.claim, Packet::acknowledged(bytes));
                kill::reached(KillPoint::Acknowledged);
            }
            self.arena.free(run);
        }
        self.end.free(message.claim);
    }

    /// Has a message received again.
    pub(crate) fn give_back(&self, message: Claimed) {
        self.end.give_back(message.claim);
    }

    /// Notes that a message is handed out where it lies; returns how often it was.
    pub(crate) fn hand_out(&self, message: &Claimed) -> u32 {
        self.end.hand_out(message.claim)
    }

    /// Receives a message, copied out behind what `to` holds; returns its size.
    pub(crate) fn recv(&self, to: &mut Vec<u8>, patience: Patience) -> Result<usize, Why> {
        let message = self.claim_message(patience)?;
        let before = to.len();
        self.copy(&message, to);
        self.acknowledge(message);
        Ok(to.len() - before)
    }
}
