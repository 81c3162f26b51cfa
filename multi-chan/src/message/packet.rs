//! What a slot carries: a small message itself, or where in the arena a large one lies.

#![expect(unsafe_code, reason = "packets lie in slots")]

use crate::message::arena::{Arena, CHUNK, Run};
use crate::message::copy::WORD;
use bytemuck::{Pod, Zeroable};
use std::ptr::NonNull;

/// Messages up to this many bytes lie in their slot.
pub(crate) const INLINE: usize = 112;

const WORDS: usize = INLINE / 8;

/// In `head`: the bytes are in a run.
const IN_RUN: u64 = 1;
/// In `head`: the receiver is done with the message, and frees its run. Where messages may come again, and in `TAKING` slots only.
const ACKNOWLEDGED: u64 = 1 << 63;

/// The value in a slot of a message channel. Only as many words of it as are needed are read and written.
///
/// | `head`          | `body`                                                       |
/// | --------------- | ------------------------------------------------------------ |
/// | bytes << 1      | the bytes themselves                                         |
/// | bytes << 1 \| 1 | the run's word; its first chunk and its count (32 bits each) |
///
/// The highest bit of `head` is ACKNOWLEDGED.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Packet {
    head: u64,
    body: [u64; WORDS],
}

// With its stamp a slot fills two cache lines, where messages do not come again.
const _: () = assert!(size_of::<Packet>() + 8 == 128);
// Stamp and head come before the body, which is copied by words.
const _: () = assert!(INLINE.is_multiple_of(WORD) && CHUNK.is_multiple_of(WORD) && 16 % WORD == 0);

/// A packet's first words, read and checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// So many bytes in the packet's body.
    Inline(usize),
    Run {
        run: Run,
        bytes: usize,
    },
}

impl Packet {
    /// The words that say whether and where there is a run.
    pub(crate) const HEAD_WORDS: usize = 3;

    /// The first words of a packet for `bytes` bytes in its body.
    pub(crate) fn inline(bytes: usize) -> u64 {
        debug_assert!(bytes <= INLINE);
        (bytes as u64) << 1
    }

    /// The first words of a packet that describes `run`.
    pub(crate) fn of_run(run: Run, bytes: usize) -> [u64; Packet::HEAD_WORDS] {
        let place = u64::from(run.count) << 32 | u64::from(run.first);
        [(bytes as u64) << 1 | IN_RUN, run.word, place]
    }

    /// The first word of an acknowledged packet that describes a run.
    pub(crate) fn acknowledged(bytes: usize) -> u64 {
        ACKNOWLEDGED | (bytes as u64) << 1 | IN_RUN
    }

    /// True if the receiver was done with the message of a packet with these first words.
    pub(crate) fn is_acknowledged(head: [u64; Packet::HEAD_WORDS]) -> bool {
        head[0] & (ACKNOWLEDGED | IN_RUN) == ACKNOWLEDGED | IN_RUN
    }

    /// Bytes before the body.
    pub(crate) const LEAD: usize = 8;

    /// Where the body of a packet lies.
    pub(crate) fn body(packet: NonNull<Packet>) -> NonNull<u8> {
        // SAFETY: inside the packet.
        unsafe { packet.cast::<u64>().add(1) }.cast()
    }

    /// What a packet says whose first words are these, or `None` if no participant says that.
    pub(crate) fn read(head: [u64; Packet::HEAD_WORDS], arena: &Arena) -> Option<Content> {
        let bytes = usize::try_from(head[0] >> 1).ok()?;
        if head[0] & IN_RUN == 0 {
            return (bytes <= INLINE).then_some(Content::Inline(bytes));
        }
        let run = Packet::run(head, arena)?;
        // Every chunk must belong to it: words that somebody wrote over name another's, as a rule.
        (bytes <= run.count as usize * CHUNK && arena.is_held(run))
            .then_some(Content::Run { run, bytes })
    }

    /// The run that a packet's first words describe, if they do.
    pub(crate) fn run(head: [u64; Packet::HEAD_WORDS], arena: &Arena) -> Option<Run> {
        let [head, word, place] = head;
        if head & IN_RUN == 0 {
            return None;
        }
        arena.run(place as u32, (place >> 32) as u32, word)
    }
}
