//! The mapping as a drawing: what lies where, and the arithmetic that finds it.
//!
//! ```text
//! byte
//!      0  Header ┬ gate: flags, rows_used, dropped, ..       (read by all, written seldom)
//!    128         ├ tail: the next position to send to        (senders)
//!    256         ├ head: the next position to receive from   (receivers)
//!    384         ├ sent: event word, receivers sleep on it
//!    512         └ freed: event word, senders sleep on it
//!    640  Row[4096], 16 bytes each: which process holds which sides
//!  66176  Slot[ring_len], `stride` bytes each:
//!             0  stamp
//!             8  value (or at the value's alignment, if that is more; values above 64 bytes at 16)
//!            or, where messages come back:
//!             8  attempts
//!            16  value
//!         Arena, page aligned: in a channel of messages only, see `message/arena.rs`
//! ```
//!
//! A fresh mapping is all zeros, and all zeros is a valid empty channel: creating one touches no
//! page of it. `ring_len` is the capacity, or 1 for a rendezvous channel.
//!
//! A **position** (`tail`, `head`) is `lap << lap_shift | index`, where `1 << lap_shift` is the
//! ring's length rounded up to a power of two. A **stamp** is
//!
//! ```text
//!   63                31 30         28 27         15 14        3 2     0
//!  ┌────────────────────┬─────────────┬─────────────┬───────────┬───────┐
//!  │ lap (33 bits)      │ run, as log │ row's owner │ owner row │ state │
//!  └────────────────────┴─────────────┴─────────────┴───────────┴───────┘
//! ```
//!
//! Run, owner and row are 0 but for BUSY and TAKING. The index is the slot's own, so a stamp need not hold it; laps are compared
//! the shorter way round and may wrap. A row's owners are counted (`Row::tenure`), so that a claim by one is never taken for a claim by the
//! next. None of this is trusted when read back: see [`Geometry::split`].

use crate::Error;
use crate::delivery::Delivery;
use crate::message::arena::ArenaGeometry;
use crate::message::copy;
use crate::sync::{AtomicU32, AtomicU64};
use crate::wait::Event;

/// Processes that may hold one channel at the same time.
pub(crate) const ROWS: usize = 1 << ROW_BITS;

const ROW_BITS: u32 = 12;
/// So many owners a row must have had before a claim looks like one of an earlier owner.
const TENURE_BITS: u32 = 13;
pub(crate) const OWNER_BITS: u32 = ROW_BITS + TENURE_BITS;
const STATE_BITS: u32 = 3;
const RUN_BITS: u32 = 3;
const RUN_SHIFT: u32 = OWNER_BITS + STATE_BITS;
const LAP_SHIFT: u32 = RUN_SHIFT + RUN_BITS;
pub(crate) const LAP_MASK: u64 = u64::MAX >> LAP_SHIFT;

/// Slots that one exchange claims at most.
pub(crate) const RUN_MAX: usize = 1 << ((1 << RUN_BITS) - 1);

/// The largest alignment a value may ask for: a page, which is what a mapping guarantees.
pub(crate) const ALIGN_MAX: usize = 4096;

/// A value alone on its two cache lines (the prefetcher fetches lines in pairs).
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

/// Words that everybody reads and hardly anybody writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Gate {
    /// | bit | name         | meaning                                                | cleared by        |
    /// | --- | ------------ | ------------------------------------------------------ | ----------------- |
    /// |  0  | CLOSED       | no more sends; receivers drain                         | nobody            |
    /// |  1  | NO_SENDERS   | a scan of the rows found no live process that may send | who may send next |
    /// |  2  | NO_RECEIVERS | the same for receivers                                 | who may receive   |
    pub(crate) flags: AtomicU32,
    /// One more than the highest row ever taken.
    pub(crate) rows_used: AtomicU32,
    /// | MAYBE | the rest                          | meaning                                      |
    /// | ----- | --------------------------------- | -------------------------------------------- |
    /// |   0   | how often it was raised, wrapping | no slot is RETURNED, or one just became so   |
    /// |   1   | the same                          | receivers look at every slot for RETURNED    |
    pub(crate) returned: AtomicU32,
    /// Messages that died with the receiver that was taking them.
    pub(crate) dropped: AtomicU64,
    /// In a rendezvous, the lap of the last message that was handed to a user where it lies, doubled, plus one; 0: none was.
    pub(crate) handed: AtomicU64,
}

/// The first 640 bytes of the mapping.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) gate: Line<Gate>,
    pub(crate) tail: Line<AtomicU64>,
    pub(crate) head: Line<AtomicU64>,
    pub(crate) sent: Line<Event>,
    pub(crate) freed: Line<Event>,
}

/// One process's line in the participants' table.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Row {
    /// The process (`robust::Process` as bits), 0 while the row is free.
    pub(crate) process: AtomicU64,
    /// | bit | name     | meaning                                                       |
    /// | --- | -------- | ------------------------------------------------------------- |
    /// |  0  | SENDER   | the process counts as a sender                                |
    /// |  1  | RECEIVER | the process counts as a receiver                              |
    ///
    /// Both clear: the process holds handles that do not count. Only the process itself and the
    /// fork that made it write here; whoever finds it dead frees the whole row.
    pub(crate) sides: AtomicU32,
    /// | ENTERED | the rest                                | meaning                                                 |
    /// | ------- | --------------------------------------- | ------------------------------------------------------- |
    /// |    0    | how many owners the row had, wrapping   | its owner has not used the channel: no claims to undo   |
    /// |    1    | the same                                | it has                                                  |
    pub(crate) tenure: AtomicU32,
}

/// The head of a slot; the value follows at [`Geometry::value_offset`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) stamp: AtomicU64,
    /// Lets loom see who touches the value when.
    #[cfg(loom)]
    pub(crate) watch: loom::cell::UnsafeCell<()>,
    /// Stand for the value's first words, where those are read by survivors.
    #[cfg(loom)]
    pub(crate) words: [AtomicU64; 3],
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<Header>() == 640 && size_of::<Row>() == 16 && size_of::<Slot>() == 8);
    assert!(offset_of!(Header, tail) == 128 && offset_of!(Header, head) == 256);
    assert!(offset_of!(Header, sent) == 384 && offset_of!(Header, freed) == 512);
    assert!(ROWS_OFFSET == 640 && SLOTS_BASE == 66_176);
};

/// The head of a slot where messages come back.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CountedSlot {
    pub(crate) slot: Slot,
    /// How often the message has been handed out; written by whoever has claimed the slot.
    pub(crate) attempts: AtomicU32,
}

/// Who claims: a row, and which of its owners (`Row::tenure`).
///
/// As wide as a position, though it has only so many bits: in a narrower one the compiler keeps the halves of a claim's words apart and
/// puts them together through memory, half as long again for a message.
pub(crate) type Owner = u64;

pub(crate) const OWNER_MASK: Owner = (1 << OWNER_BITS) - 1;

/// `Row::tenure`: the owner has used the channel.
pub(crate) const ENTERED: u32 = 1;

/// The owner that claims with the row `row` while its `tenure` is this.
pub(crate) fn owner_of(row: u16, tenure: u32) -> Owner {
    (Owner::from(tenure >> 1) << ROW_BITS | Owner::from(row)) & OWNER_MASK
}

/// The row that an owner claims with.
pub(crate) fn row_of(owner: Owner) -> u16 {
    owner as u16 & (ROWS - 1) as u16
}

/// The tenure of the next owner of a row.
pub(crate) fn next_tenure(tenure: u32) -> u32 {
    (tenure | ENTERED).wrapping_add(1)
}

/// What a slot is going through; see `README.md` in this folder for who moves it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Empty, waiting for the sender of this lap.
    Free = 0,
    /// Claimed by a sender (the owner), not yet published.
    Busy = 1,
    /// Published.
    Full = 2,
    /// Claimed by a receiver (the owner), not yet freed.
    Taking = 3,
    /// Claimed by a sender that died: receivers step over it.
    Skip = 4,
    /// The end of a closed channel: no position after this one is ever used.
    Sealed = 5,
    /// Given back by a receiver, or by the survivors of a dead one: behind the head, to be received again.
    Returned = 6,
}

/// A slot's stamp, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) lap: u64,
    pub(crate) owner: Owner,
    pub(crate) state: State,
    /// How many slots from this one on were claimed with it, as a logarithm.
    run_log: u32,
}

impl Stamp {
    #[inline]
    pub(crate) fn new(lap: u64, owner: Owner, state: State) -> Stamp {
        Stamp::of_run(lap, owner, state, 0)
    }

    /// The stamp of the first of `1 << run_log` slots that are claimed together.
    #[inline]
    pub(crate) fn of_run(lap: u64, owner: Owner, state: State, run_log: u32) -> Stamp {
        debug_assert!(1 << run_log <= RUN_MAX);
        Stamp {
            lap,
            owner,
            state,
            run_log,
        }
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.lap << LAP_SHIFT
            | u64::from(self.run_log) << RUN_SHIFT
            | self.owner << STATE_BITS
            | self.state as u64
    }

    /// How many slots were claimed together, this one being the first.
    pub(crate) fn run_len(self) -> usize {
        1 << self.run_log
    }

    /// Takes a stamp apart; `None` is a state that no participant ever writes.
    pub(crate) fn read(bits: u64) -> Option<Stamp> {
        let state = match bits & ((1 << STATE_BITS) - 1) {
            0 => State::Free,
            1 => State::Busy,
            2 => State::Full,
            3 => State::Taking,
            4 => State::Skip,
            5 => State::Sealed,
            6 => State::Returned,
            _ => return None,
        };
        let owner = bits >> STATE_BITS & OWNER_MASK;
        let run_log = (bits >> RUN_SHIFT) as u32 & ((1 << RUN_BITS) - 1);
        Some(Stamp::of_run(bits >> LAP_SHIFT, owner, state, run_log))
    }
}

pub(crate) fn lap_after(lap: u64) -> u64 {
    (lap + 1) & LAP_MASK
}

/// How many laps `lap` is ahead of `other`, the shorter way round.
pub(crate) fn laps_ahead(lap: u64, other: u64) -> i64 {
    (lap.wrapping_sub(other) << LAP_SHIFT) as i64 >> LAP_SHIFT
}

pub(crate) fn lap_before(lap: u64) -> u64 {
    lap.wrapping_sub(1) & LAP_MASK
}

/// A position, taken apart and checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) lap: u64,
}

/// The sizes of one channel. Lives in private memory: it is never read back from the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Slots in the ring: the capacity, or 1 for a rendezvous.
    pub(crate) ring_len: usize,
    pub(crate) lap_shift: u32,
    /// The shared tail and head are moved on at every index that has none of these bits.
    pub(crate) milestones: usize,
    pub(crate) stride: usize,
    pub(crate) value_offset: usize,
    /// True if a slot begins with a `CountedSlot`.
    pub(crate) redelivers: bool,
    /// True if senders wait until their values are received.
    pub(crate) is_rendezvous: bool,
    pub(crate) slots_offset: usize,
    /// Bytes of the whole mapping.
    pub(crate) map_bytes: usize,
    /// What lies behind the ring of a channel of messages.
    pub(crate) arena: Option<ArenaGeometry>,
}

/// Moving the shared tail and head costs as much as a claim, so a larger ring does it only now and then:
/// four times a lap, or every 64 values. A small ring does it for every value.
const fn milestones(ring_len: usize) -> usize {
    match ring_len {
        0..SMALL_RING => 0,
        SMALL_RING..256 => (1 << (ring_len / LAP_PARTS).ilog2()) - 1,
        256.. => 63,
    }
}

/// The shortest ring whose tail and head move by more than one, and how many such moves make a lap. A model
/// must see it in a ring of four.
const SMALL_RING: usize = if cfg!(loom) { 4 } else { 16 };
const LAP_PARTS: usize = if cfg!(loom) { 2 } else { 4 };

pub(crate) const ROWS_OFFSET: usize = size_of::<Header>();

/// Behind the header and the rows, which every channel has.
pub(crate) const SLOTS_BASE: usize = (ROWS_OFFSET + ROWS * size_of::<Row>()).next_multiple_of(128);

impl Geometry {
    /// Lays out a channel of `capacity` values of `T`.
    ///
    /// # Errors
    /// When the bytes do not fit an address space, or `T` wants more alignment than a page.
    pub(crate) fn new<T>(capacity: usize, delivery: Delivery) -> Result<Geometry, Error> {
        Geometry::with_lead::<T>(capacity, 0, delivery)
    }

    /// The same for values of which the first `lead` bytes are read and written by themselves, and what follows as a whole:
    /// that is what is aligned for copies.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn with_lead<T>(
        capacity: usize,
        lead: usize,
        delivery: Delivery,
    ) -> Result<Geometry, Error> {
        let redelivers = delivery == Delivery::AtLeastOnce;
        let head_bytes = if redelivers {
            size_of::<CountedSlot>()
        } else {
            size_of::<Slot>()
        };
        if align_of::<T>() > ALIGN_MAX {
            return Err(Error::alignment(align_of::<T>()));
        }
        let overflow = || Error::capacity(capacity, size_of::<T>());
        let ring_len = capacity.max(1);
        let align = align_of::<T>()
            .max(align_of::<Slot>())
            .max(copy::alignment::<T>());
        let value_offset = (head_bytes + lead).next_multiple_of(align) - lead;
        let slots_offset = SLOTS_BASE.next_multiple_of(align);
        let stride = value_offset
            .checked_add(size_of::<T>())
            .and_then(|bytes| bytes.checked_next_multiple_of(align))
            .ok_or_else(overflow)?;
        let map_bytes = ring_len
            .checked_mul(stride)
            .and_then(|bytes| bytes.checked_add(slots_offset))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(overflow)?;
        Ok(Geometry {
            ring_len,
            lap_shift: ring_len.next_power_of_two().trailing_zeros(),
            milestones: milestones(ring_len),
            stride,
            value_offset,
            redelivers,
            is_rendezvous: capacity == 0,
            slots_offset,
            map_bytes,
            arena: None,
        })
    }

    /// The same with an arena of at least `bytes` behind the ring.
    ///
    /// # Errors
    /// When the bytes do not fit an address space.
    pub(crate) fn with_arena(self, bytes: usize) -> Result<Geometry, Error> {
        let arena = ArenaGeometry::new(self.map_bytes, bytes)?;
        Ok(Geometry {
            map_bytes: arena.end,
            arena: Some(arena),
            ..self
        })
    }

    /// A channel that keeps its values in another way, in a mapping of `map_bytes`: no slot here.
    pub(crate) fn without_slots(map_bytes: usize) -> Geometry {
        Geometry {
            ring_len: 0,
            lap_shift: 0,
            milestones: 0,
            stride: align_of::<Slot>(),
            value_offset: 0,
            redelivers: false,
            is_rendezvous: false,
            slots_offset: SLOTS_BASE,
            map_bytes,
            arena: None,
        }
    }

    /// True if values of `T` fit between the slots' edges.
    pub(crate) fn holds<T>(&self) -> bool {
        self.value_offset + size_of::<T>() <= self.stride
            && self.value_offset.is_multiple_of(align_of::<T>())
            && self.stride.is_multiple_of(align_of::<T>())
            && self.slots_offset.is_multiple_of(align_of::<T>())
    }

    /// Takes a position apart; `None` if its index lies outside the ring, which only a corrupt
    /// mapping can say.
    pub(crate) fn split(&self, position: u64) -> Option<Place> {
        let index = (position & ((1 << self.lap_shift) - 1)) as usize;
        (index < self.ring_len).then_some(Place {
            index,
            lap: (position >> self.lap_shift) & LAP_MASK,
        })
    }

    /// The position `count` after this one; `count` is at most the ring's length.
    pub(crate) fn after(&self, position: u64, count: usize) -> u64 {
        let mask = (1 << self.lap_shift) - 1;
        let index = (position & mask) + count as u64;
        if index < self.ring_len as u64 {
            return position.wrapping_add(count as u64);
        }
        (position & !mask)
            .wrapping_add(mask + 1)
            .wrapping_add(index - self.ring_len as u64)
    }

    /// The longest way from one position to another that is forwards: half of all laps.
    pub(crate) fn walk_max(&self) -> i64 {
        1 << (self.lap_shift + LAP_MASK.count_ones() - 1).min(i64::BITS - 3)
    }

    /// True if the shared tail or head is moved on somewhere in the `count` positions from this one, all of one lap.
    #[inline]
    pub(crate) fn has_milestone(&self, position: u64, count: usize) -> bool {
        let last = position.wrapping_add(count as u64 - 1);
        // The last milestone up to there.
        last & !(self.milestones as u64) >= position
    }

    /// True if `position` comes after `other`.
    pub(crate) fn is_ahead(position: u64, other: u64) -> bool {
        // Positions wrap: the shorter way round is the way.
        (position.wrapping_sub(other) as i64) > 0
    }

    /// How many positions `tail` is ahead of `head`, held to what a ring can have.
    pub(crate) fn distance(&self, head: u64, tail: u64) -> usize {
        let mask = (1 << self.lap_shift) - 1;
        let laps = (tail >> self.lap_shift).wrapping_sub(head >> self.lap_shift) as i64;
        let ahead = i128::from(laps) * self.ring_len as i128 + i128::from(tail & mask)
            - i128::from(head & mask);
        ahead.clamp(0, self.ring_len as i128) as usize
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn positions_walk_a_ring_whose_length_is_no_power_of_two() {
        let geometry = Geometry::new::<u64>(3, Delivery::AtMostOnce).unwrap();
        let mut position = 0;
        for step in 0..30_u64 {
            let place = geometry.split(position).unwrap();
            assert_eq!((place.lap, place.index as u64), (step / 3, step % 3));
            assert_eq!(geometry.distance(position, geometry.after(position, 2)), 2);
            assert_eq!(geometry.distance(position, geometry.after(position, 3)), 3);
            position = geometry.after(position, 1);
        }
    }

    #[test]
    fn laps_are_compared_the_shorter_way_round() {
        assert_eq!(laps_ahead(5, 3), 2);
        assert_eq!(laps_ahead(0, LAP_MASK), 1);
        assert_eq!(laps_ahead(LAP_MASK, 1), -2);
        assert!(Geometry::is_ahead(1, u64::MAX) && !Geometry::is_ahead(7, 7));
    }

    #[test]
    fn large_rings_have_four_milestones_and_more() {
        let count = |len| {
            let geometry = Geometry::new::<u64>(len, Delivery::AtMostOnce).unwrap();
            (0..len as u64)
                .filter(|&i| geometry.has_milestone(i, 1))
                .count()
        };
        assert_eq!([1, 3, 15].map(count), [1, 3, 15]);
        assert_eq!([16, 17, 64, 1024].map(count), [4, 5, 4, 16]);
    }

    #[test]
    fn positions_outside_the_ring_are_refused() {
        let geometry = Geometry::new::<u64>(3, Delivery::AtMostOnce).unwrap();
        assert!(geometry.split(3).is_none());
        assert_eq!(geometry.distance(4, 2), 0);
        assert_eq!(geometry.distance(u64::MAX, 0), 0);
        assert_eq!(geometry.distance(0, 1 << 60), 3);
    }

    #[test]
    fn stamps_survive_a_round_trip_and_bad_states_are_refused() {
        for (owner, run_log) in [(0, 0), (0, 7), (OWNER_MASK, 0), (1, 5)] {
            let stamp = Stamp::of_run(LAP_MASK, owner, State::Sealed, run_log);
            assert_eq!(Stamp::read(stamp.bits()), Some(stamp));
            assert_eq!(stamp.run_len(), 1 << run_log);
        }
        assert_eq!(Stamp::read(0), Some(Stamp::new(0, 0, State::Free)));
        assert!(Stamp::read(7).is_none());
        assert_eq!(lap_after(LAP_MASK), 0);
        assert_eq!(lap_before(0), LAP_MASK);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(Geometry::new::<u64>(usize::MAX, Delivery::AtMostOnce).is_err());
        assert!(Geometry::new::<[u8; 4096]>(usize::MAX / 4096, Delivery::AtMostOnce).is_err());
        assert_eq!(
            Geometry::new::<u64>(0, Delivery::AtMostOnce)
                .unwrap()
                .ring_len,
            1
        );
        assert_eq!(
            Geometry::new::<u8>(7, Delivery::AtMostOnce).unwrap().stride,
            16
        );
    }
}
