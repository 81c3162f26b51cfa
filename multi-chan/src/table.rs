//! One channel's participants: which process holds which sides, and who is gone.
//!
//! `Core` is the part of a channel that does not depend on the type of its values; a process has one
//! per channel, however many handles. How handles count is written down in `README.md`.

mod burial;
mod sides;

pub(crate) use self::sides::{CLOSED, NO_RECEIVERS, NO_SENDERS, Sides};

use self::sides::Place;
use crate::Error;
use crate::error::Why;
use crate::face::{self, Faces};
use crate::fork::{self, Home};
use crate::layout::{ENTERED, Gate, Geometry, Header, Owner, next_tenure, owner_of};
use crate::map::Mapping;
use crate::message::arena::Arena;
use crate::pass::{self, Descriptors};
use crate::ring::Ring;
use crate::robust::{Process, Roll};
use crate::sync::{AcqRel, Acquire, AtomicU32, AtomicU64, AtomicUsize, Relaxed, Release, fence};
use crate::vigil::{self, Bell};
use crate::wait::{ALL, Event, Ticket};
use std::io;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// One process's share in one channel.
#[derive(Debug)]
pub(crate) struct Core {
    map: Mapping,
    /// The ring without its values, for recovery.
    ring: Ring<()>,
    arena: Option<Arena>,
    home: &'static Home,
    /// Of the home: the roll, and this process on it; the page is wiped in a forked child.
    roll: &'static Roll,
    me: &'static AtomicU64,
    /// A `Place`; a forked child inherits its parent's, which does not fit its own `me`.
    place: AtomicU64,
    /// Handles of this process.
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// 1 once a slot has been lent out: the user may forget it.
    lent: AtomicU32,
    /// Stands for this channel in what a thread keeps of the messages in its hands.
    token: Arc<()>,
    /// The eventfds, if the channel was built as pollable.
    faces: OnceLock<Faces>,
    /// Set if every process shall have all pages from its first use on.
    prefaults: OnceLock<()>,
}

impl Core {
    /// A mapped channel with one handle of each of these sides, and this process not entered yet.
    pub(crate) fn new(
        geometry: &Geometry,
        map: Mapping,
        home: &'static Home,
        sides: Sides,
    ) -> Core {
        let handles = |side| AtomicUsize::from(usize::from(sides.has(side)));
        Core {
            ring: map.ring(*geometry),
            arena: map.arena(geometry),
            map,
            home,
            roll: home.roll(),
            me: home.me(),
            place: AtomicU64::default(),
            senders: handles(Sides::SENDER),
            receivers: handles(Sides::RECEIVER),
            lent: AtomicU32::default(),
            token: Arc::new(()),
            faces: OnceLock::new(),
            prefaults: OnceLock::new(),
        }
    }

    /// Brings every page in, and has forked children do so at their first use.
    pub(crate) fn prefault(&self) -> io::Result<()> {
        self.prefaults.get_or_init(|| ());
        self.map.prefault()
    }

    /// Gives the channel its eventfds. The caller holds the fork lock; nobody else in this process has the channel yet.
    pub(crate) fn make_pollable(&self, faces: Faces) {
        let header = self.header();
        self.faces
            .get_or_init(|| faces)
            .enter(&header.sent.0, &header.freed.0, self.room());
    }

    /// Where senders of messages wait for chunks.
    fn room(&self) -> Option<&Event> {
        self.arena.as_ref().map(Arena::room)
    }

    pub(crate) fn is_pollable(&self) -> bool {
        self.faces.get().is_some()
    }

    /// Has poll loops look round, since a process entered that they cannot have watched.
    fn stir_pollers(&self) {
        if self.is_pollable() {
            self.header().sent.0.stir_pollers();
            self.header().freed.0.stir_pollers();
        }
    }

    /// True if that is how this process claims.
    pub(crate) fn is_me(&self, owner: Owner) -> bool {
        // Relaxed: as in `enter`.
        let place = Place(self.place.load(Relaxed));
        // Relaxed: as in `enter`.
        let me = self.me.load(Relaxed);
        u64::from(place.number()) == me >> 32 && me != 0 && place.owner() == owner
    }

    #[cfg(feature = "kill-points")]
    pub(crate) fn bare_ring(&self) -> &Ring<()> {
        &self.ring
    }

    pub(crate) fn arena(&self) -> Option<&Arena> {
        self.arena.as_ref()
    }

    pub(crate) fn map(&self) -> &Mapping {
        &self.map
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        self.ring.geometry()
    }

    pub(crate) fn header(&self) -> &Header {
        self.map.header()
    }

    /// This process as bits; 0 in a forked child that is not entered yet.
    #[inline]
    pub(crate) fn me(&self) -> u64 {
        // Relaxed: wiped by a fork or written by this process.
        self.me.load(Relaxed)
    }

    /// True if the process with these bits lives.
    pub(crate) fn lives(&self, bits: u64) -> bool {
        Process::from_bits(bits).is_some_and(|process| self.roll.is_alive(process))
    }

    /// Turns of a busy wait.
    pub(crate) fn spins(&self) -> u32 {
        self.home.spins()
    }

    /// True if this channel's users are on that roll.
    pub(crate) fn is_on(&self, home: &'static Home) -> bool {
        ptr::eq(self.home, home)
    }

    /// What the channel lies in, to be passed on.
    pub(crate) fn descriptors(&self) -> Result<Descriptors, Error> {
        pass::descriptors(self.map.file(), self.home.file(), self.faces.get())
    }

    /// The roll that this channel's users are on, and this process's place there.
    pub(crate) fn home(&self) -> &'static Home {
        self.home
    }

    pub(crate) fn token(&self) -> &Arc<()> {
        &self.token
    }

    /// Notes that a slot is on loan, and returns the process that it is lent to.
    pub(crate) fn lend(&self) -> u64 {
        // Relaxed: read in `leave`, which comes after the loan's borrow of a handle has ended.
        if self.lent.load(Relaxed) == 0 {
            // Relaxed: as above.
            self.lent.store(1, Relaxed);
        }
        self.me()
    }

    fn gate(&self) -> &Gate {
        &self.header().gate.0
    }

    pub(crate) fn flags(&self) -> u32 {
        // Acquire: pairs with the AcqRel in `close` and `is_gone`: what went before them is seen.
        self.gate().flags.load(Acquire)
    }

    /// As whom this process claims slots, as a user of `sides`.
    #[inline]
    pub(crate) fn enter(&self, sides: Sides) -> Result<Owner, Why> {
        // Relaxed: written by this process; a stale value leads to the slow path, which locks.
        let place = Place(self.place.load(Relaxed));
        // Relaxed: as above.
        let me = self.me.load(Relaxed);
        if u64::from(place.number()) == me >> 32 && place.sides().has(sides) {
            Ok(place.owner())
        } else {
            self.enter_slowly(sides)
        }
    }

    #[cold]
    fn enter_slowly(&self, sides: Sides) -> Result<Owner, Why> {
        let owner = fork::with_process(self.home, |process| self.enter_as(process, sides))
            .and_then(|owner| owner)
            .map_err(|_| Why::NotEntered)?;
        self.tell_sides_left(sides);
        Ok(owner)
    }

    /// After entering for `sides`: the other one, which this process may count for no longer, may have nobody left; lets the
    /// flags say so.
    pub(crate) fn tell_sides_left(&self, sides: Sides) {
        for side in [Sides::SENDER, Sides::RECEIVER] {
            if !sides.has(side) {
                self.is_gone(side);
            }
        }
    }

    /// Enters `process`, which is this one, with `sides` more; the caller holds the fork lock.
    ///
    /// A side that was only inherited, and is not among those used, stops counting here.
    pub(crate) fn enter_as(&self, process: Process, sides: Sides) -> io::Result<Owner> {
        // Relaxed: written under the fork lock, which the caller holds.
        let old = Place(self.place.load(Relaxed));
        let is_new = old.number() != process.number();
        if self.prefaults.get().is_some() && (is_new || old.sides() == Sides::NONE) {
            // The memory is there; what fails here costs faults later.
            self.map.prefault().ok();
        }
        let (row, used) = if is_new {
            (self.claim_row(process, sides)?, sides)
        } else {
            (old.row(), old.sides().with(sides))
        };
        let entry = &self.map.rows()[usize::from(row)];
        // AcqRel: pairs with the loads in `scan`: who sees us go sees what we sent first.
        entry.sides.swap(used.0, AcqRel);
        // Release: whoever finds our claims in the ring finds this too. Pairs with `undo`.
        let tenure = entry.tenure.fetch_or(ENTERED, Release);
        let owner = if is_new {
            owner_of(row, tenure)
        } else {
            old.owner()
        };
        // AcqRel: comes after the swap. Either this clears a flag that a scan set without seeing
        // us, or the scan's exchange comes later and its second look sees the swap.
        self.gate().flags.fetch_and(!used.gone_flags(), AcqRel);
        // Relaxed: read by this process only.
        self.place
            .store(Place::new(process, used, owner).0, Relaxed);
        // A process whose life nobody can sleep on: who sleeps already must begin to ask after it. Any other is
        // watched already; and if a side that stops counting here has nobody left, `is_gone` tells.
        if is_new && !self.roll.may_hold() {
            self.wake_everybody();
        }
        Ok(owner)
    }

    /// Takes a free row for `process`, or a dead process's.
    fn claim_row(&self, process: Process, sides: Sides) -> io::Result<u16> {
        for (index, row) in self.map.rows().iter().enumerate() {
            // Acquire: pairs with the exchange of the owner, so that its claims are seen.
            let bits = row.process.load(Acquire);
            if let Some(owner) = Process::from_bits(bits) {
                if self.roll.is_alive(owner) {
                    continue;
                }
                self.undo(index as u16, row, owner);
            }
            // AcqRel: our name is seen before any claim of ours on a slot, and the recovery of the
            // dead owner's claims before our name. Relaxed on failure: taken by somebody else.
            if row
                .process
                .compare_exchange(bits, process.bits(), AcqRel, Relaxed)
                .is_err()
            {
                continue;
            }
            // Relaxed: we acquired whatever the last owner wrote.
            let tenure = next_tenure(row.tenure.load(Relaxed));
            // Release: pairs with the Acquire load in `undo`.
            row.tenure.store(tenure, Release);
            // Release: pairs with the Acquire in `scan`.
            row.sides.store(sides.0, Release);
            // Release: whoever reads this high mark sees the row. Pairs with `taken_rows`.
            self.gate().rows_used.fetch_max(index as u32 + 1, Release);
            if bits != 0 {
                self.wake_everybody();
            }
            self.stir_pollers();
            return Ok(index as u16);
        }
        Err(io::Error::other("more than 4096 processes use the channel"))
    }

    /// Takes a row for a child about to be forked, which counts for what this process counts for.
    ///
    /// The caller holds the fork lock.
    pub(crate) fn claim_row_for_child(&self, child: Process) -> Option<u16> {
        // Relaxed: written under the fork lock.
        let place = Place(self.place.load(Relaxed));
        // Relaxed: as above.
        let me = self.me.load(Relaxed);
        let sides = if u64::from(place.number()) == me >> 32 && me != 0 {
            // Relaxed: this process wrote it, under the fork lock.
            Sides(
                self.map.rows()[usize::from(place.row())]
                    .sides
                    .load(Relaxed)
                    & Sides::BOTH.0,
            )
        } else {
            self.held()
        };
        let row = self.claim_row(child, sides).ok()?;
        // AcqRel: as in `enter_as`.
        self.gate().flags.fetch_and(!sides.gone_flags(), AcqRel);
        Some(row)
    }

    /// Frees the row of a child that never began, and tells whoever waited for it.
    pub(crate) fn drop_child(&self, child: Process, row: u16) {
        if self.roll.is_alive(child) {
            return;
        }
        let row = &self.map.rows()[usize::from(row)];
        // AcqRel: as in `bury_dead`; the child left nothing to undo. Relaxed on failure: somebody freed it.
        let freed = row
            .process
            .compare_exchange(child.bits(), 0, AcqRel, Relaxed);
        if freed.is_ok() {
            self.is_gone(Sides::SENDER);
            self.is_gone(Sides::RECEIVER);
        }
    }

    /// In a forked child: takes up the row its parent took for it.
    ///
    /// A handle may have been dropped between the parent's count and the fork that copied it, so the
    /// child leaves out what it does not hold.
    pub(crate) fn take_up(&self, child: Process, row: u16) {
        let entry = &self.map.rows()[usize::from(row)];
        // Release: pairs with the Acquire in `scan`.
        entry.sides.fetch_and(self.held().0, Release);
        // Relaxed: our parent wrote it.
        let owner = owner_of(row, entry.tenure.load(Relaxed));
        // Relaxed: read by this process only, which has one thread now.
        self.place
            .store(Place::new(child, Sides::NONE, owner).0, Relaxed);
        // Those who sleep do not watch us yet: our death before our first use may mean disconnection to them.
        self.wake_everybody();
    }

    fn held(&self) -> Sides {
        let mut sides = Sides::NONE;
        // Relaxed: the counts are this process's own; a fork copies whatever they are.
        if self.senders.load(Relaxed) > 0 {
            sides = sides.with(Sides::SENDER);
        }
        // Relaxed: as above.
        if self.receivers.load(Relaxed) > 0 {
            sides = sides.with(Sides::RECEIVER);
        }
        sides
    }

    fn count(&self, side: Sides) -> &AtomicUsize {
        if side == Sides::SENDER {
            &self.senders
        } else {
            &self.receivers
        }
    }

    /// Counts one more handle.
    pub(crate) fn add_handle(&self, side: Sides) {
        // Relaxed: the handle it was cloned from keeps the count above zero, or the fork lock is held, under which zero is
        // acted on.
        self.count(side).fetch_add(1, Relaxed);
    }

    /// Counts one more handle of each of these sides, of which there may be none. The caller holds the fork lock.
    pub(crate) fn add_handles(&self, sides: Sides) {
        for side in [Sides::SENDER, Sides::RECEIVER] {
            if sides.has(side) {
                self.add_handle(side);
            }
        }
    }

    /// Counts one handle less; true if it was this process's last of that side.
    pub(crate) fn remove_handle(&self, side: Sides) -> bool {
        // Release: what was done through the handle comes before. Pairs with the fence of whoever
        // gets to zero.
        if self.count(side).fetch_sub(1, Release) != 1 {
            return false;
        }
        // Acquire: pairs with the Release above of every other handle.
        fence(Acquire);
        true
    }

    /// Stops counting as `side`; true if this process has no handles left at all. The caller holds
    /// the fork lock.
    pub(crate) fn leave(&self, side: Sides) -> bool {
        if self.held().has(side) {
            // Attached again since its last handle was dropped.
            return false;
        }
        // Relaxed: written under the fork lock, which the caller holds.
        let place = Place(self.place.load(Relaxed));
        // Relaxed: as above.
        let Some(process) = Process::from_bits(self.me.load(Relaxed)) else {
            return self.held() == Sides::NONE;
        };
        if place.number() == process.number() {
            let entry = &self.map.rows()[usize::from(place.row())];
            // AcqRel: what this process sent comes before its going. Pairs with `scan`.
            entry.sides.fetch_and(!side.0, AcqRel);
            let left = Place::new(process, place.sides().without(side), place.owner());
            if self.held() == Sides::NONE {
                // Relaxed: see `lend`.
                if self.lent.load(Relaxed) != 0 {
                    // Slots on loan whose handles were forgotten.
                    self.undo_claims(place.row(), || true);
                }
                // Release: nothing of ours is left behind in the ring. Pairs with the exchange in
                // `claim_row`.
                entry.process.store(0, Release);
                // Relaxed: read by this process only.
                self.place.store(0, Relaxed);
            } else {
                // Relaxed: as above.
                self.place.store(left.0, Relaxed);
            }
            self.wake_everybody();
        }
        self.held() == Sides::NONE
    }

    /// Closes the channel for senders; true for the first to do so.
    pub(crate) fn close(&self) -> bool {
        // AcqRel: what the closer did before is seen by who finds the channel closed.
        let before = self.gate().flags.fetch_or(CLOSED, AcqRel);
        self.wake_everybody();
        before & CLOSED == 0
    }

    #[cold]
    pub(crate) fn wake_everybody(&self) {
        self.header().sent.0.post_all();
        self.header().freed.0.post_all();
        if let Some(arena) = &self.arena {
            arena.room().post_all();
        }
    }

    /// Messages that died with the receiver that was taking them.
    pub(crate) fn dropped(&self) -> u64 {
        // Relaxed: a statistic.
        self.gate().dropped.load(Relaxed)
    }

    /// Sleeps on the event, and on the life of every other participant: returns when something may
    /// have changed, and at the latest after `limit`.
    pub(crate) fn sleep_watching(&self, event: &Event, ticket: Ticket, limit: Option<Duration>) {
        let bell = Bell {
            core: self,
            event,
            ticket,
        };
        vigil::sleep(&[bell], limit);
    }

    /// Tells senders who wait for a receiver (of a rendezvous) that one has armed its event.
    #[cold]
    pub(crate) fn announce_receiver(&self) {
        // The arming ends with a fence, so the look in `post` comes after it. Pairs with the fence under the
        // sender's own arming: either we see that it is armed, or it sees that we are.
        self.header().freed.0.post(ALL);
    }

    pub(crate) fn roll(&self) -> &'static Roll {
        self.roll
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.is_pollable() {
            let header = self.header();
            let events = [Some(&header.sent.0), Some(&header.freed.0), self.room()];
            face::forget(events.into_iter().flatten());
        }
    }
}
