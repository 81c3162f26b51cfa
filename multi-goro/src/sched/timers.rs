//! The deadlines of one worker's parked tasks: a heap, in which each task knows its place.

#![expect(unsafe_code, reason = "parked tasks are known by address")]

use std::ptr::NonNull;
use std::time::Instant;

use super::task::{Header, NO_TIMER};

/// A binary heap, the nearest deadline on top; equal deadlines in the order they were set.
///
/// A task is in it only while it is parked, and so alive: that is the promise behind every dereference here, kept by
/// `park_task`, which removes what has not fired.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    nth: u64,
    task: NonNull<Header>,
}

impl Timers {
    pub(super) fn nearest(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    pub(super) fn add(&mut self, task: NonNull<Header>, at: Instant) {
        let nth = self.next;
        self.next += 1;
        self.heap.push(Entry { at, nth, task });
        self.rise(self.heap.len() - 1);
    }

    /// Takes a task out, if it has not fired.
    pub(super) fn remove(&mut self, task: NonNull<Header>) {
        // SAFETY: parked, and so alive.
        let place = unsafe { task.as_ref() }.timer.get();
        if place != NO_TIMER {
            self.take(place as usize);
        }
    }

    /// Takes out the nearest if its deadline has passed at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<NonNull<Header>> {
        (self.nearest()? <= now).then(|| self.take(0))
    }

    fn take(&mut self, place: usize) -> NonNull<Header> {
        let entry = self.heap.swap_remove(place);
        // SAFETY: parked, and so alive.
        unsafe { entry.task.as_ref() }.timer.set(NO_TIMER);
        if place < self.heap.len() {
            self.rise(place);
            self.sink(place);
        }
        entry.task
    }

    fn note(&self, place: usize) {
        // SAFETY: parked, and so alive.
        unsafe { self.heap[place].task.as_ref() }
            .timer
            .set(u32::try_from(place).expect("fewer than 2^32 timers"));
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.heap[a], &self.heap[b]);
        (a.at, a.nth) < (b.at, b.nth)
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.before(place, (place - 1) / 2) {
            self.heap.swap(place, (place - 1) / 2);
            self.note(place);
            place = (place - 1) / 2;
        }
        self.note(place);
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.before(right, left) {
                right
            } else {
                left
            };
            if !self.before(child, place) {
                break;
            }
            self.heap.swap(place, child);
            self.note(place);
            place = child;
        }
        self.note(place);
    }
}
