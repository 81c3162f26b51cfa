//! Who waits, in order of arrival; anyone may leave early.

use std::collections::VecDeque;

/// A place in a [`WaitQueue`], to leave it early with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Waiters in order of arrival. Lives under a lock of its owner.
///
/// A waiter that leaves early turns its entry into a gap, found by binary search since tickets ascend; gaps are never at
/// either end.
#[derive(Debug)]
pub(crate) struct WaitQueue<W> {
    entries: VecDeque<(u64, Option<W>)>,
    next: u64,
}

impl<W> WaitQueue<W> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            next: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Joins at the end.
    pub(crate) fn push(&mut self, waiter: W) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        if self.entries.capacity() == 0 {
            // Most queues never hold more than one, and there may be millions of them: one for each stage of a pipeline.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back((ticket, Some(waiter)));
        Ticket(ticket)
    }

    /// Who has waited longest.
    pub(crate) fn front(&self) -> Option<&W> {
        self.entries.front().and_then(|(_, waiter)| waiter.as_ref())
    }

    /// Who came last.
    pub(crate) fn back(&self) -> Option<&W> {
        self.entries.back().and_then(|(_, waiter)| waiter.as_ref())
    }

    /// Takes who has waited longest. The caller now owes it an unpark.
    pub(crate) fn pop(&mut self) -> Option<W> {
        let (_, waiter) = self.entries.pop_front()?;
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        debug_assert!(waiter.is_some(), "no gap at the front");
        waiter
    }

    /// Takes everybody out. The numbers go on from where they are: a waiter that was taken and then wants to leave early must not find
    /// its number on somebody who came later.
    pub(crate) fn take_all(&mut self) -> Self {
        Self {
            entries: std::mem::take(&mut self.entries),
            next: self.next,
        }
    }

    /// A waiter that is in the queue; `None` if somebody has taken it.
    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        let index = self
            .entries
            .binary_search_by_key(&ticket.0, |(t, _)| *t)
            .ok()?;
        self.entries[index].1.as_mut()
    }

    /// Leaves early. `None` if somebody has taken the waiter already: then an unpark is on its way to it.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        if self
            .entries
            .front()
            .is_some_and(|(first, _)| *first == ticket.0)
        {
            return self.pop();
        }
        let index = self
            .entries
            .binary_search_by_key(&ticket.0, |(t, _)| *t)
            .ok()?;
        let waiter = self.entries[index].1.take();
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        while let Some((_, None)) = self.entries.back() {
            self.entries.pop_back();
        }
        waiter
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn queue_is_fair_and_lets_waiters_leave() {
        let mut queue = WaitQueue::new();
        let tickets: Vec<_> = (0..6).map(|n| queue.push(n)).collect();
        assert_eq!(queue.get_mut(tickets[2]), Some(&mut 2));
        assert_eq!(queue.remove(tickets[2]), Some(2));
        assert_eq!(queue.get_mut(tickets[2]), None);
        assert_eq!(queue.remove(tickets[2]), None);
        assert_eq!(queue.remove(tickets[0]), Some(0));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.remove(tickets[1]), None);
        assert_eq!(queue.pop(), Some(3));
        assert_eq!(queue.remove(tickets[5]), Some(5));
        assert_eq!(queue.remove(tickets[4]), Some(4));
        assert!(queue.is_empty());
        assert_eq!(queue.pop(), None);
        let again = queue.push(9);
        assert_eq!(queue.remove(again), Some(9));
    }

    #[test]
    fn waiter_taken_with_all_others_does_not_take_a_later_one_along() {
        let mut queue = WaitQueue::new();
        let early = queue.push('a');
        let mut all = queue.take_all();
        let late = queue.push('b');
        assert_eq!(queue.remove(early), None);
        assert_eq!(queue.remove(late), Some('b'));
        assert_eq!(all.pop(), Some('a'));
    }
}
