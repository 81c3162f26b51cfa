//! Kill points: steps of the protocol at which a test has its own process killed.
//!
//! Without the feature `kill-points` there is nothing here.

/// A step after which a participant may be killed; what it leaves behind is in `README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[cfg_attr(
    any(not(feature = "kill-points"), loom),
    expect(unreachable_pub, reason = "exported with the feature only")
)]
pub enum KillPoint {
    /// A sender has claimed a slot.
    Claimed = 1,
    /// A sender has published its value.
    Published,
    /// A sender has moved the tail.
    TailMoved,
    /// A poster has renewed the epoch and not yet woken anybody.
    Bumped,
    /// A receiver has claimed a value.
    Taken,
    /// A receiver has freed its slot.
    Freed,
    /// A receiver has moved the head.
    HeadMoved,
    /// A survivor has undone a dead process's claim.
    Undone,
    /// A survivor has freed a dead process's row.
    Buried,
    /// A sleeper has armed its event.
    Armed,
}

#[cfg(all(feature = "kill-points", not(loom)))]
mod points {
    use super::KillPoint;
    use crate::sync::{AtomicU32, Relaxed};
    use crate::sys;
    use std::sync::LazyLock;

    static NEXT: LazyLock<AtomicU32> = LazyLock::new(AtomicU32::default);

    /// Has this process killed when it next reaches `point`.
    pub fn kill_at(point: KillPoint) {
        // Relaxed: read by the same thread in the tests.
        NEXT.store(point as u32, Relaxed);
    }

    #[inline]
    pub(crate) fn reached(point: KillPoint) {
        // Relaxed: as above.
        if NEXT.load(Relaxed) == point as u32 {
            sys::kill_this_process();
        }
    }
}

#[cfg(all(feature = "kill-points", not(loom)))]
pub use points::kill_at;
#[cfg(all(feature = "kill-points", not(loom)))]
pub(crate) use points::reached;

#[cfg(any(not(feature = "kill-points"), loom))]
#[inline]
pub(crate) fn reached(_point: KillPoint) {}
