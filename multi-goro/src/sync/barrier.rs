//! A place where a number of parties wait for each other.

use std::fmt;

use super::{OsMutex, lock};
use crate::sched::{Waiters, WaitsFor, wait_in};

/// Lets tasks and plain threads go on when a number of them have come. Can be used again and again.
///
/// ```
/// use multi_goro::sync::Barrier;
///
/// let line = Barrier::new(3);
/// multi_goro::scope(|s| {
///     for _ in 0..2 {
///         s.go(|| {
///             line.wait();
///             Ok(())
///         });
///     }
///     line.wait();
/// })?;
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
pub struct Barrier {
    parties: usize,
    state: OsMutex<State>,
}

struct State {
    /// Those in `waiting`: always fewer than the parties.
    come: usize,
    waiting: Waiters,
}

impl Barrier {
    /// A barrier for `parties`; with 0 or 1 nobody waits.
    #[must_use]
    pub const fn new(parties: usize) -> Self {
        Self {
            parties,
            state: OsMutex::new(State {
                come: 0,
                waiting: Waiters::new(),
            }),
        }
    }

    /// Waits until all have come. True for one of each round, who came last.
    ///
    /// Who comes again while others of the last round have not gone on yet belongs to the next round.
    pub fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        state.come += 1;
        if state.come < self.parties {
            let _unparked = wait_in(
                &self.state,
                state,
                |state| &mut state.waiting,
                || (),
                WaitsFor::Barrier,
                None,
            );
            return false;
        }
        state.come = 0;
        let all = state.waiting.take_all();
        drop(state);
        all.unpark_all();
        true
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The lock is free again before anything is written: what `f` writes to is the user's.
        let come = lock(&self.state).come;
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("come", &come)
            .finish_non_exhaustive()
    }
}
