//! Kill points: steps of a pool's worker at which a test has it killed.
//!
//! Without the feature `kill-points` there is nothing here.

/// A step after which a worker may be killed; what it leaves behind is in `pool/README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[cfg_attr(
    any(not(feature = "kill-points"), loom),
    expect(unreachable_pub, reason = "exported with the feature only")
)]
pub enum KillPoint {
    /// It has a message in its hands and has not claimed the job.
    Received = 1,
    /// It has claimed the job and not given the message back.
    Claimed,
    /// It has given the message back.
    Acknowledged,
    /// It has written down that it runs the job.
    Begun,
    /// It has copied the arguments.
    ArgsCopied,
    /// It has said that it holds a shared buffer among them.
    BufferAttached,
    /// It has claimed a block for a shared buffer of its own.
    BufferClaimed,
    /// It has listed the shared buffers of the value.
    BuffersListed,
    /// A buffer of its own is part of the value.
    BufferGiven,
    /// It has said that it does not hold a shared buffer any more.
    BufferLetGo,
    /// It has written the value, and the job is not done.
    ValueWritten,
    /// The job is done, and a thread that sleeps on its word was not woken.
    Finished,
    /// That thread was woken, and the job's bit is not set.
    Woken,
    /// The job's bit is set, and the bell was not looked at.
    BitSet,
    /// The bell was taken down, and nobody was told.
    BellTaken,
    /// All was said.
    Announced,
    /// The job counts as one of its share.
    Counted,
    /// It has said that it leaves.
    Left,
}

#[cfg(all(feature = "kill-points", not(loom)))]
mod points {
    use super::KillPoint;
    use crate::sync::{AtomicU32, Ordering};
    use crate::sys;

    impl KillPoint {
        /// All of them, in the order in which a worker reaches them.
        pub const ALL: [Self; 18] = [
            Self::Received,
            Self::Claimed,
            Self::Acknowledged,
            Self::Begun,
            Self::ArgsCopied,
            Self::BufferAttached,
            Self::BufferClaimed,
            Self::BuffersListed,
            Self::BufferGiven,
            Self::BufferLetGo,
            Self::ValueWritten,
            Self::Finished,
            Self::Woken,
            Self::BitSet,
            Self::BellTaken,
            Self::Announced,
            Self::Counted,
            Self::Left,
        ];
    }

    static NEXT: AtomicU32 = AtomicU32::new(0);

    /// For a job: has its process killed when that next reaches `point`.
    pub fn kill_at(point: KillPoint) {
        // Relaxed: read by the same thread.
        NEXT.store(point as u32, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn reached(point: KillPoint) {
        // Relaxed: as above.
        if NEXT.load(Ordering::Relaxed) == point as u32 {
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
