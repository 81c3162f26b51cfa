//! Who waits, in order of arrival; anyone may leave early.

use std::collections::VecDeque;

/// A place in a [`WaitQueue`], to leave it early with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Waiters in order of arrival. Lives under a lock of its owner.
///
/// Most queues never hold more than one waiter, and there may be millions of them, one for each stage of a pipeline: who has waited
/// longest lies in the queue itself, where whoever wakes it looks anyway, and memory is allocated for a second one.
///
/// A waiter that leaves early turns its entry into a gap, found by binary search since tickets ascend; gaps are never at
/// either end.
#[derive(Debug)]
pub(crate) struct WaitQueue<W> {
    /// `None` if nobody waits.
    first: Option<(u64, W)>,
    /// Those behind the first; the last one is no gap.
    rest: Option<Box<Rest<W>>>,
    next: u64,
}

/// In a box: a word where there is no second waiter.
type Rest<W> = VecDeque<(u64, Option<W>)>;

impl<W> WaitQueue<W> {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            rest: None,
            next: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Joins at the end.
    pub(crate) fn push(&mut self, waiter: W) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        if self.first.is_none() {
            self.first = Some((ticket, waiter));
        } else {
            let rest = self.rest.get_or_insert_default();
            rest.push_back((ticket, Some(waiter)));
        }
        Ticket(ticket)
    }

    /// Who has waited longest.
    pub(crate) fn front(&self) -> Option<&W> {
        self.first.as_ref().map(|(_, waiter)| waiter)
    }

    /// Who came last.
    pub(crate) fn back(&self) -> Option<&W> {
        let last = self.rest.as_ref().and_then(|rest| rest.back());
        match last {
            Some((_, waiter)) => waiter.as_ref(),
            None => self.front(),
        }
    }

    /// Takes who has waited longest. The caller now owes it an unpark.
    pub(crate) fn pop(&mut self) -> Option<W> {
        let (_, waiter) = self.first.take()?;
        if let Some(rest) = &mut self.rest {
            // Over the gaps.
            while let Some((ticket, waiter)) = rest.pop_front() {
                if let Some(waiter) = waiter {
                    self.first = Some((ticket, waiter));
                    break;
                }
            }
        }
        Some(waiter)
    }

    /// Takes everybody out. The numbers go on from where they are: a waiter that was taken and then wants to leave early must not find
    /// its number on somebody who came later.
    pub(crate) fn take_all(&mut self) -> Self {
        Self {
            first: self.first.take(),
            rest: self.rest.take(),
            next: self.next,
        }
    }

    /// Has only those stay of whom `stays` says so.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&W) -> bool) {
        if let Some(rest) = &mut self.rest {
            rest.retain(|(_, waiter)| waiter.as_ref().is_some_and(&mut stays));
        }
        if self.front().is_some_and(|first| !stays(first)) {
            self.pop();
        }
    }

    /// Who is to be taken after `others` more, or one before that if somebody has left; `None` if there are not so many.
    pub(crate) fn soon(&self, others: usize) -> Option<&W> {
        let (_, waiter) = self.rest.as_ref()?.get(others)?;
        waiter.as_ref()
    }

    /// A waiter that is in the queue; `None` if somebody has taken it.
    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        if !self.is_first(ticket) {
            return self.behind(ticket)?.as_mut();
        }
        self.first.as_mut().map(|(_, waiter)| waiter)
    }

    /// Leaves early. `None` if somebody has taken the waiter already: then an unpark is on its way to it.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        if self.is_first(ticket) {
            return self.pop();
        }
        let waiter = self.behind(ticket)?.take();
        if let Some(rest) = &mut self.rest {
            while let Some((_, None)) = rest.back() {
                rest.pop_back();
            }
        }
        waiter
    }

    fn is_first(&self, ticket: Ticket) -> bool {
        let first = self.first.as_ref();
        first.is_some_and(|(first, _)| *first == ticket.0)
    }

    /// The entry of a waiter that is not the first.
    fn behind(&mut self, ticket: Ticket) -> Option<&mut Option<W>> {
        let rest = self.rest.as_mut()?;
        let index = rest.binary_search_by_key(&ticket.0, |(t, _)| *t).ok()?;
        Some(&mut rest[index].1)
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
    fn only_those_who_are_told_so_stay() {
        let mut queue = WaitQueue::new();
        let tickets: Vec<_> = (0..7).map(|n| queue.push(n)).collect();
        queue.remove(tickets[3]);
        queue.retain(|n| n % 2 == 1);
        assert_eq!(queue.soon(0), Some(&5));
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(1), Some(5), None)
        );
        assert_eq!(queue.soon(0), None);
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
