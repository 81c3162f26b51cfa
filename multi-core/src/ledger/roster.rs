//! Who runs: a seat per task, taken under the books' lock and given back without it.

use crate::task::TaskId;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seats of each of the first four rows. Every fourth row after them doubles: a row is a quarter to an eighth of the seats before it.
const FIRST_ROWS: usize = 16;
/// Enough rows for 2³² seats.
const ROWS_MAX: usize = 4 * 27;
/// Ticks per unit of a seat's start: 48 bits of them are nine years.
const UNIT_TICKS: u64 = 1024;
const START_MASK: u64 = (1 << 48) - 1;
const QUEUED: u64 = 1 << 63;

/// The seats. They do not move, so that whoever ends a task gives its seat back with one store, and once taken they stay for the
/// next task: in the long run a seat costs no allocation.
pub(super) struct Roster {
    rows: [OnceLock<Box<[Seat]>>; ROWS_MAX],
}

/// What a report says of a task that runs: 16 bytes of what a task costs.
#[derive(Default)]
struct Seat {
    /// `{ queued: 1 bit, the task's number + 1: 63 bits }`; zero while the seat is free.
    who: AtomicU64,
    /// `{ site: 16 bits, start in units of UNIT_TICKS: 48 bits }`. Written before `who`.
    what: AtomicU64,
}

const _: () = assert!(size_of::<Seat>() == 16);

/// Where to look for a free seat. Lies under the books' lock.
#[derive(Default)]
pub(super) struct Usher {
    next: usize,
    seat_count: usize,
}

/// A task in its seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seated {
    pub(super) id: TaskId,
    /// Index of its start site.
    pub(super) site: u16,
    /// When it started, in [`ticks`](crate::clock::ticks), a little less at most.
    pub(super) ticks: u64,
}

impl Roster {
    pub(super) const fn new() -> Self {
        Self {
            rows: [const { OnceLock::new() }; ROWS_MAX],
        }
    }

    /// Takes a seat for a task while `taken` are taken. The caller holds the books' lock.
    pub(super) fn sit(&self, usher: &mut Usher, taken: usize, task: Seated) -> u32 {
        // An eighth is kept free, so that a round of all seats finds one in eight.
        if taken >= usher.seat_count - usher.seat_count / 8 {
            self.add_row(usher);
        }
        loop {
            let index = usher.next;
            usher.next = if index + 1 < usher.seat_count {
                index + 1
            } else {
                0
            };
            let seat = self.seat(index);
            // Acquire: pairs with the Release in `get_up`: who sat here reads no more.
            if seat.who.load(Ordering::Acquire) == 0 {
                let what = u64::from(task.site) << 48 | (task.ticks / UNIT_TICKS) & START_MASK;
                // Relaxed, both: the seat reaches its task, and others look under the books' lock.
                seat.what.store(what, Ordering::Relaxed);
                seat.who.store(task.id.0 + 1, Ordering::Relaxed);
                return u32::try_from(index).expect("fewer than 2^32 seats");
            }
        }
    }

    /// Starts over with the first seats, which are the warmest. For when nobody sits.
    pub(super) fn rewind(usher: &mut Usher) {
        usher.next = 0;
    }

    #[cold]
    fn add_row(&self, usher: &mut Usher) {
        let (row, _) = place(usher.seat_count);
        let seat_count = usher.seat_count + row_len(row);
        let row = &self.rows[row];
        // The roster of an earlier group may have it already.
        row.get_or_init(|| {
            (usher.seat_count..seat_count)
                .map(|_| Seat::default())
                .collect()
        });
        usher.next = usher.seat_count;
        usher.seat_count = seat_count;
    }

    /// Gives the seat back.
    pub(super) fn get_up(&self, seat: u32) {
        // Release: our reads of the seat are over. Pairs with the Acquire in `sit`.
        self.seat(seat as usize).who.store(0, Ordering::Release);
    }

    /// Says whether the task in `seat` is one that waits for room. The caller holds the books' lock, or is alone in knowing the seat.
    pub(super) fn set_queued(&self, seat: u32, ticks: Option<u64>) {
        let seat = self.seat(seat as usize);
        // Relaxed, all: the seat is the caller's.
        let id = seat.who.load(Ordering::Relaxed) & !QUEUED;
        match ticks {
            None => seat.who.store(id | QUEUED, Ordering::Relaxed),
            Some(ticks) => {
                // Relaxed, all: as above.
                let site = seat.what.load(Ordering::Relaxed) >> 48;
                let what = site << 48 | (ticks / UNIT_TICKS) & START_MASK;
                seat.what.store(what, Ordering::Relaxed);
                seat.who.store(id, Ordering::Relaxed);
            }
        }
    }

    /// What is known of the task in `seat`, asked by the one who is to give it back.
    pub(super) fn look(&self, seat: u32) -> Seated {
        let seat = self.seat(seat as usize);
        // Relaxed, both: written before the seat's task had it.
        Seated::decode(
            seat.who.load(Ordering::Relaxed),
            seat.what.load(Ordering::Relaxed),
        )
    }

    /// The first `most` running tasks, by number. The caller holds the books' lock: seats are given back meanwhile, and not taken.
    pub(super) fn first(&self, usher: &Usher, most: usize) -> Vec<Seated> {
        let mut running: Vec<Seated> = (0..usher.seat_count)
            .filter_map(|index| {
                let seat = self.seat(index);
                // Relaxed, both: seats are taken under the lock that the caller holds.
                let who = seat.who.load(Ordering::Relaxed);
                (who != 0 && who & QUEUED == 0)
                    .then(|| Seated::decode(who, seat.what.load(Ordering::Relaxed)))
            })
            .collect();
        running.sort_by_key(|task| task.id);
        running.truncate(most);
        running
    }

    fn seat(&self, index: usize) -> &Seat {
        let (row, nth) = place(index);
        &self.rows[row].get().expect("the row of a seat is there")[nth]
    }
}

/// The row of a seat, and which in it it is.
fn place(index: usize) -> (usize, usize) {
    // Counted from a row of -4 on, every four rows begin at a power of two.
    let from = index + 4 * FIRST_ROWS;
    let doublings = (from / (4 * FIRST_ROWS)).ilog2() as usize;
    let len = FIRST_ROWS << doublings;
    (4 * doublings + from / len - 4, from % len)
}

fn row_len(row: usize) -> usize {
    FIRST_ROWS << (row / 4)
}

impl Seated {
    fn decode(who: u64, what: u64) -> Self {
        Self {
            id: TaskId((who & !QUEUED).wrapping_sub(1)),
            site: (what >> 48) as u16,
            ticks: (what & START_MASK) * UNIT_TICKS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u64) -> Seated {
        Seated {
            id: TaskId(id),
            site: 7,
            ticks: 5 * UNIT_TICKS,
        }
    }

    #[test]
    fn seats_are_reused_and_reports_are_in_order() {
        let (roster, mut usher) = (Roster::new(), Usher::default());
        let seats: Vec<_> = (0..4)
            .map(|id| roster.sit(&mut usher, id as usize, task(id)))
            .collect();
        roster.get_up(seats[0]);
        roster.get_up(seats[2]);
        roster.sit(&mut usher, 2, task(9));
        let eighth = roster.sit(&mut usher, 3, task(8));
        assert_eq!(roster.look(eighth), task(8));
        roster.set_queued(seats[1], None);
        let first: Vec<_> = roster.first(&usher, 2);
        assert_eq!(first, [task(3), task(8)]);
        assert_eq!(roster.look(seats[1]).id, TaskId(1));
        roster.set_queued(seats[1], Some(5 * UNIT_TICKS));
        assert_eq!(roster.first(&usher, 1), [task(1)]);
    }

    #[test]
    fn rows_follow_each_other_without_a_gap() {
        let (mut row, mut nth) = (0, 0);
        for index in 0..100_000 {
            assert_eq!(place(index), (row, nth), "seat {index}");
            nth += 1;
            if nth == row_len(row) {
                (row, nth) = (row + 1, 0);
            }
        }
        assert!(place(u32::MAX as usize).0 < ROWS_MAX);
    }

    #[test]
    fn many_come_and_go_beside_some_that_stay() {
        let (roster, mut usher) = (Roster::new(), Usher::default());
        let stay: Vec<_> = (0..1_000)
            .map(|id| roster.sit(&mut usher, id as usize, task(id)))
            .collect();
        let seat_count = usher.seat_count;
        for id in 1_000..10_000 {
            let seat = roster.sit(&mut usher, 1_000, task(id));
            assert_eq!(roster.look(seat), task(id));
            assert!(!stay.contains(&seat), "two tasks on one seat");
            roster.get_up(seat);
        }
        assert_eq!(usher.seat_count, seat_count, "seats were added in vain");
        assert_eq!(roster.first(&usher, 2_000).len(), 1_000);
    }
}
