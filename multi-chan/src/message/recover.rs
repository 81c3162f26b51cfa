//! What a dead participant held of the arena; the proof is in `README.md`.

use crate::layout::{Stamp, State};
use crate::message::arena::{Arena, Run};
use crate::message::packet::Packet;
use crate::ring::Ring;

/// A slot changes hands twice in a lap, and twice more each time that a message comes again.
const LOOKS: u32 = 100;

/// Sees to the message of a dead receiver: slot `index` was the receiver's, with the stamp `bits`. Frees its run, unless it
/// is to come again; true if the receiver had acknowledged it.
///
/// Called before the slot changes, by any number of survivors.
pub(crate) fn settle(ring: &Ring<()>, arena: &Arena, index: usize, bits: u64) -> bool {
    // Before the look at the packet: a next receiver, who may have the message by now, would hand it out after we looked.
    let comes_again = Stamp::read(bits).is_some_and(|stamp| ring.comes_again(stamp.lap));
    let Some(head) = ring.glance::<{ Packet::HEAD_WORDS }>(index, bits) else {
        // Another survivor was faster, and what we say makes no difference.
        return false;
    };
    let acknowledged = Packet::is_acknowledged(head);
    if (!comes_again || acknowledged)
        && let Some(run) = Packet::run(head, arena)
    {
        arena.free_left(run);
    }
    acknowledged
}

/// Frees what the dead row `row` had claimed and no message describes; returns the number of chunks.
///
/// Called after the ring was swept, so that nothing of this row will ever be published any more.
pub(crate) fn free_runs_of(
    ring: &Ring<()>,
    arena: &Arena,
    row: u16,
    still_his: impl Fn() -> bool,
) -> usize {
    // First what the row holds, then what the slots describe: whatever a message of his describes now and
    // is gone from the slots later was freed in between, and then the exchange below fails.
    let held: Vec<_> = arena.held_by(row).collect();
    if held.is_empty() || !still_his() {
        return 0;
    }
    let mut sent = Vec::new();
    for index in 0..ring.geometry().ring_len {
        match lookup(ring, arena, index) {
            Said::Run(run) => sent.push(run.word),
            Said::Nothing => {}
            Said::NeverUsed => break,
            // Then it may be any of them. Room is lost, which is better than freeing what somebody reads.
            Said::Unsteady => return 0,
        }
    }
    sent.sort_unstable();
    held.into_iter()
        .filter(|(_, word)| sent.binary_search(word).is_err())
        .filter(|&(index, word)| arena.free_orphan(index, word))
        .count()
}

/// What a slot says of runs.
enum Said {
    Run(Run),
    Nothing,
    /// Nothing, like all slots behind it.
    NeverUsed,
    /// It changed at every look.
    Unsteady,
}

/// What slot `index` says.
fn lookup(ring: &Ring<()>, arena: &Arena, index: usize) -> Said {
    let mut bits = ring.stamp_bits(index);
    if bits == 0 {
        // In the first lap slots are used in order.
        return Said::NeverUsed;
    }
    let lap = Stamp::read(bits).map(|stamp| stamp.lap);
    // A receiver may take the message as we read, or give it back. In the next lap it is no longer the dead one's.
    for _ in 0..LOOKS {
        let Some(stamp) = Stamp::read(bits).filter(|stamp| Some(stamp.lap) == lap) else {
            return Said::Nothing;
        };
        if !matches!(stamp.state, State::Full | State::Taking | State::Returned) {
            return Said::Nothing;
        }
        if let Some(head) = ring.glance::<{ Packet::HEAD_WORDS }>(index, bits) {
            return Packet::run(head, arena).map_or(Said::Nothing, Said::Run);
        }
        bits = ring.stamp_bits(index);
    }
    Said::Unsteady
}
