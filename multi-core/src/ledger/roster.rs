//! Who runs: a seat per task, reused.

use crate::task::TaskId;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

/// The running tasks. Sitting down and getting up are a few instructions and, in the long run, no allocation: this is done twice
/// for every task of every backend.
#[derive(Default)]
pub(super) struct Roster {
    seats: Vec<Option<Running>>,
    /// Seats that are empty.
    free: Vec<usize>,
}

/// What a report says of a task that runs.
pub(super) struct Running {
    pub(super) id: TaskId,
    pub(super) name: Option<Arc<str>>,
    pub(super) site: &'static Location<'static>,
    pub(super) since: Instant,
}

impl Roster {
    /// Takes a seat for a task.
    pub(super) fn sit(&mut self, task: Running) -> usize {
        match self.free.pop() {
            Some(seat) => {
                debug_assert!(self.seats[seat].is_none(), "two tasks on one seat");
                self.seats[seat] = Some(task);
                seat
            }
            None => {
                self.seats.push(Some(task));
                self.seats.len() - 1
            }
        }
    }

    /// Gives the seat back.
    pub(super) fn get_up(&mut self, seat: usize) {
        debug_assert!(self.seats[seat].is_some(), "a task got up twice");
        self.seats[seat] = None;
        self.free.push(seat);
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// A line for each of the first `most` tasks, by number.
    pub(super) fn describe(&self, most: usize) -> Vec<String> {
        let mut running: Vec<&Running> = self.seats.iter().flatten().collect();
        running.sort_by_key(|task| task.id);
        running
            .into_iter()
            .take(most)
            .map(Running::describe)
            .collect()
    }
}

impl Running {
    fn describe(&self) -> String {
        let name = self
            .name
            .as_ref()
            .map(|name| format!(" {name:?}"))
            .unwrap_or_default();
        format!(
            "task {}{name} (started at {}, {:.3?} ago)",
            self.id,
            self.site,
            self.since.elapsed()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn task(id: u64) -> Running {
        Running {
            id: TaskId(id),
            name: None,
            site: Location::caller(),
            since: Instant::now(),
        }
    }

    #[test]
    fn seats_are_reused_and_reports_are_in_order() {
        let mut roster = Roster::default();
        let seats: Vec<_> = (0..4).map(|id| roster.sit(task(id))).collect();
        roster.get_up(seats[0]);
        roster.get_up(seats[2]);
        assert_eq!(roster.len(), 2);
        roster.sit(task(9));
        roster.sit(task(8));
        assert_eq!((roster.len(), roster.seats.len()), (4, 4));
        let lines = roster.describe(3);
        let starts: Vec<_> = lines.iter().map(|line| &line[..6]).collect();
        assert_eq!(starts, ["task 1", "task 3", "task 8"]);
    }
}
