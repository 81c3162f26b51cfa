//! The mapping of a channel with one sender and one receiver.
//!
//! ```text
//! byte
//!      0  Header, as every channel has it: gate, tail, head, sent, freed
//!    640  Row[4096]: which process holds which sides
//!  66176  Users: who uses the sending side, who the receiving side, and the end
//!  66304  Slot[capacity] (or at the values' alignment, if that is more; values above 64 bytes at 16)
//! ```
//!
//! A position is a plain count here: `tail` is how many values were ever published, `head` how many were ever
//! taken, and the slot of position `n` is `n % capacity`. Each handle keeps its own position and its slot's
//! index in private memory; what it reads of the other side's is checked against them. Positions do not wrap: a value a
//! nanosecond makes 584 years.

use crate::Error;
use crate::layout::{ALIGN_MAX, Geometry, SLOTS_BASE};
use crate::message::copy;
use crate::sync::AtomicU64;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// Who uses the two sides, and where a closed channel ends. Written seldom, read seldom.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Users {
    /// The process (`robust::Process` as bits) that sends, 0 for none.
    ///
    /// | value           | meaning                             | left by                                  |
    /// | --------------- | ----------------------------------- | ---------------------------------------- |
    /// | 0               | nobody has used this side, or its user has dropped its handle | who uses it next |
    /// | a live process  | only that process may use this side | itself, when it drops its handle         |
    /// | a dead process  | the side is vacant                  | who uses it next                         |
    pub(crate) sender: AtomicU64,
    /// The same for the process that receives.
    pub(crate) receiver: AtomicU64,
    /// 0, or one more than the position behind the last value of a closed channel; set once.
    pub(crate) end: AtomicU64,
}

/// One value. Whose it is at a time, tail and head say.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot<T> {
    pub(crate) value: UnsafeCell<MaybeUninit<T>>,
    /// Lets loom see who touches the value when.
    #[cfg(loom)]
    pub(crate) watch: loom::cell::UnsafeCell<()>,
}

pub(crate) const USERS_OFFSET: usize = SLOTS_BASE;

#[cfg(not(loom))]
const _: () = {
    assert!(USERS_OFFSET == 66_176 && size_of::<Users>() == 128);
    assert!(size_of::<Slot<u64>>() == 8 && align_of::<Users>() <= ALIGN_MAX);
};

/// The sizes of one such channel. Lives in private memory: it is never read back from the mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) capacity: usize,
    pub(crate) slots_offset: usize,
    pub(crate) stride: usize,
    /// Bytes of the whole mapping.
    pub(crate) map_bytes: usize,
}

impl Plan {
    /// Lays out a channel of `capacity` values of `T`.
    ///
    /// # Errors
    /// When there is no capacity, when the bytes do not fit an address space, or when `T` wants more alignment
    /// than a page.
    pub(crate) fn new<T>(capacity: usize) -> Result<Plan, Error> {
        if align_of::<T>() > ALIGN_MAX {
            return Err(Error::alignment(align_of::<T>()));
        }
        if capacity == 0 {
            return Err(Error::no_capacity());
        }
        let overflow = || Error::capacity(capacity, size_of::<T>());
        let align = align_of::<Slot<T>>().max(copy::alignment::<T>());
        let slots_offset = (USERS_OFFSET + size_of::<Users>()).next_multiple_of(align);
        let stride = size_of::<Slot<T>>()
            .checked_next_multiple_of(align)
            .ok_or_else(overflow)?;
        let map_bytes = capacity
            .checked_mul(stride)
            .and_then(|bytes| bytes.checked_add(slots_offset))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(overflow)?;
        Ok(Plan {
            capacity,
            slots_offset,
            stride,
            map_bytes,
        })
    }

    /// True if the slots of `T` lie inside the mapping, aligned.
    pub(crate) fn holds<T>(&self) -> bool {
        let align = align_of::<Slot<T>>().max(copy::alignment::<T>());
        self.slots_offset.is_multiple_of(align)
            && self.stride.is_multiple_of(align)
            && self.stride >= size_of::<Slot<T>>()
            && self
                .capacity
                .checked_mul(self.stride)
                .and_then(|bytes| bytes.checked_add(self.slots_offset))
                .is_some_and(|bytes| bytes <= self.map_bytes)
            && self.capacity > 0
    }

    /// What the participants' table has to know: how large the mapping is, and that it has no stamped slots to
    /// sweep after a death.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry::without_slots(self.map_bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(Plan::new::<u64>(usize::MAX).unwrap_err().is_capacity());
        assert!(Plan::new::<[u8; 4096]>(usize::MAX / 4096).is_err());
        assert!(Plan::new::<u64>(0).unwrap_err().is_capacity());
    }

    #[test]
    fn values_lie_side_by_side_at_their_alignment() {
        #[repr(align(512))]
        struct Wide;
        assert_eq!(Plan::new::<u8>(7).unwrap().map_bytes, 66_304 + 7);
        assert_eq!(Plan::new::<[u64; 9]>(7).unwrap().stride, 80);
        assert!(
            Plan::new::<Wide>(1)
                .unwrap()
                .slots_offset
                .is_multiple_of(512)
        );
    }
}
