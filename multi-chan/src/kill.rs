//! Kill points: steps of the protocol at which a test has its own process killed.
//!
//! Two kinds. Every write to an atomic is one by itself, since the façade in `sync.rs` tells of each
//! (`watch_writes`), and so is every system call that changes what others see. The named ones
//! ([`KillPoint`]) are for a test that wants one particular step.
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
    /// A process has taken a side of a channel with one user a side.
    Owned,
    /// The one sender has written a value and not yet published it.
    Written,
    /// The one receiver has copied a value and not yet given its slot back.
    Copied,
    /// The end of a closed channel has been set.
    Ended,
    /// A process has given a side up.
    Disowned,
    /// A sender has claimed a chunk of the arena, perhaps not its last.
    ChunkClaimed,
    /// A sender has filled its run and not yet sent the packet that describes it.
    RunFilled,
    /// A receiver (or a sender that gives up) has freed a chunk that is not the last of its run.
    ChunkFreed,
    /// A receiver (or a sender that gives up) has freed the last chunk of its run.
    RunFreed,
    /// A survivor has freed a dead process's chunk.
    ChunkUndone,
    /// A receiver has given its message back and not yet said so.
    GivenBack,
    /// A sender has withdrawn a reserved slot and not yet told anybody.
    Withdrawn,
    /// A receiver has acknowledged a message that may come again, and not yet freed a chunk of it.
    Acknowledged,
}

#[cfg(all(feature = "kill-points", not(loom)))]
mod points {
    use super::KillPoint;
    use crate::sync::{AtomicU32, Relaxed};
    use crate::sys;
    use std::panic::Location;
    use std::sync::{LazyLock, OnceLock};

    static NEXT: LazyLock<AtomicU32> = LazyLock::new(AtomicU32::default);
    static WATCHER: OnceLock<fn(&'static Location<'static>)> = OnceLock::new();

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

    /// Has `watcher` called right after every write to an atomic and every call that changes shared
    /// state, with its place in the source: every step of the protocol that others may see. Once per
    /// program; the first one stays.
    pub fn watch_writes(watcher: fn(&'static Location<'static>)) {
        WATCHER.get_or_init(|| watcher);
    }

    #[inline]
    #[track_caller]
    pub(crate) fn wrote() {
        if let Some(watcher) = WATCHER.get() {
            watcher(Location::caller());
        }
    }
}

/// Under the model checker: a thread of a model dies after one of its writes, whichever it is told.
#[cfg(loom)]
mod points {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// What a dying thread unwinds with: no code of the ring runs destructors that matter.
    struct Death;

    loom::thread_local! {
        /// Writes that this thread may still make before it dies; `None`: it lives.
        static WRITES_LEFT: Cell<Option<u32>> = Cell::new(None);
    }

    /// Runs `body` until it ends, or until it has written `writes` times and dies: then `None`.
    #[cfg(test)]
    pub(crate) fn dies_after<R>(writes: u32, body: impl FnOnce() -> R) -> Option<R> {
        if writes == 0 {
            return None;
        }
        WRITES_LEFT.with(|left| left.set(Some(writes)));
        let ended = catch_unwind(AssertUnwindSafe(body));
        WRITES_LEFT.with(|left| left.set(None));
        match ended {
            Ok(value) => Some(value),
            Err(death) if death.is::<Death>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    pub(crate) fn wrote() {
        let dies = WRITES_LEFT.with(|left| {
            let now = left.get().map(|writes| writes - 1);
            left.set(now);
            now == Some(0)
        });
        if dies {
            WRITES_LEFT.with(|left| left.set(None));
            resume_unwind(Box::new(Death));
        }
    }
}

#[cfg(all(loom, test))]
pub(crate) use points::dies_after;
#[cfg(all(feature = "kill-points", not(loom)))]
pub(crate) use points::reached;
#[cfg(any(feature = "kill-points", loom))]
pub(crate) use points::wrote;
#[cfg(all(feature = "kill-points", not(loom)))]
pub use points::{kill_at, watch_writes};

#[cfg(any(not(feature = "kill-points"), loom))]
#[inline]
pub(crate) fn reached(_point: KillPoint) {}

#[cfg(not(any(feature = "kill-points", loom)))]
#[inline]
pub(crate) fn wrote() {}
