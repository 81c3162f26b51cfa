//! The state of a channel and what each operation does to it, under a lock that its owner takes.
//!
//! Nothing here blocks or wakes: operations say whom to unpark, and who cannot go on takes a seat in a queue. Values go from a
//! sender's hand to a receiver's directly where either waits; the buffer holds what nobody waits for.
//!
//! A seat may be one of several that one waiter has taken, in this channel and others: then whoever takes it out of the queue
//! has to win the waiter's claim, or leaves it (see [`claim`](super::claim)). A seat whose claim is lost waits for nobody; it is
//! dropped by who meets it, or taken back by its owner.
//!
//! Invariants, true between operations, of seats whose claim is open:
//!
//! - receivers wait only while the buffer is empty and no sender waits but one of the same select;
//! - senders wait only while the buffer is full, or more than that by values that were given back;
//! - nobody waits once the channel is closed;
//! - nobody looks out for a receiver while one waits, but until the operation that queued it is over.

#![expect(unsafe_code, reason = "values are put into the hands of who waits")]

use std::collections::VecDeque;
use std::ptr::NonNull;

use super::wait_queue::{Ticket, WaitQueue};

/// A waiting sender or receiver: a place for one value, and a way to unpark who waits.
///
/// # Safety
///
/// - `deliver` and `collect` touch nothing but the place, and are sound to call from any thread while the seat is queued.
/// - A seat whose `is_won` returned true, once, belongs to the caller: no other seat of that waiter will return true.
pub(crate) unsafe trait Seat<T> {
    /// Wins the waiter for this seat; false if another of its seats has won. Called once, under the lock under which the seat
    /// was just taken out: the waiter cannot have left before.
    fn is_won(&self) -> bool;

    /// Puts a value into the receiver's place.
    ///
    /// # Safety
    ///
    /// - The seat was taken out of its queue and won by the caller, under the lock, and its owner has not been unparked yet.
    unsafe fn deliver(&self, value: T);

    /// Takes the value out of the sender's place.
    ///
    /// # Safety
    ///
    /// - As for `deliver`; and it is called once.
    unsafe fn collect(&self) -> T;
}

/// The state of one channel.
#[derive(Debug)]
pub(crate) struct Core<T, S> {
    pub(crate) gate: Gate<S>,
    buffer: VecDeque<T>,
}

/// The part of it that does not depend on what is sent: whether one can go on, and who cannot.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    capacity: usize,
    /// Values in the buffer.
    len: usize,
    senders: WaitQueue<S>,
    receivers: WaitQueue<S>,
    /// Who waits for a receiver to appear.
    #[expect(
        clippy::box_collection,
        reason = "a word in the millions of channels that have none"
    )]
    lookouts: Option<Box<Vec<Lookout>>>,
    is_closed: bool,
}

/// Somebody who waits for a receiver to appear, known by an address. Who takes it out of the core tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lookout(pub(crate) NonNull<()>);

// SAFETY: an address; what is done with it is up to who takes it out.
unsafe impl Send for Lookout {}

/// What became of a value to send.
#[must_use]
#[derive(Debug)]
pub(crate) enum Sent<T, S> {
    /// It is in the buffer.
    Buffered,
    /// It is in the hands of this receiver, which is to be unparked.
    Handed(S),
    /// There is no room for it.
    Full(T),
    /// Nobody will take it.
    Closed(T),
}

/// What there was to receive.
#[must_use]
#[derive(Debug)]
pub(crate) enum Received<T, S> {
    /// A value, and the sender whose value took its place or was it, which is to be unparked.
    Value(T, Option<S>),
    /// Nothing yet.
    Empty,
    /// Nothing, and there never will be.
    Closed,
}

impl<T, S: Seat<T>> Core<T, S> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            gate: Gate {
                capacity,
                len: 0,
                senders: WaitQueue::new(),
                receivers: WaitQueue::new(),
                lookouts: None,
                is_closed: false,
            },
            buffer: VecDeque::new(),
        }
    }

    pub(crate) fn send(&mut self, value: T) -> Sent<T, S> {
        if self.gate.is_closed {
            return Sent::Closed(value);
        }
        if let Some(receiver) = win(&mut self.gate.receivers) {
            debug_assert!(self.buffer.is_empty(), "a receiver waits beside a value");
            // SAFETY: just taken out and won, under the lock; unparked by our caller.
            unsafe { receiver.deliver(value) };
            return Sent::Handed(receiver);
        }
        if self.gate.len < self.gate.capacity {
            self.buffer.push_back(value);
            self.gate.len += 1;
            return Sent::Buffered;
        }
        Sent::Full(value)
    }

    pub(crate) fn receive(&mut self) -> Received<T, S> {
        if let Some(value) = self.buffer.pop_front() {
            // Given back values may fill it beyond its capacity.
            let has_room = self.buffer.len() < self.gate.capacity;
            let sender = has_room.then(|| win(&mut self.gate.senders)).flatten();
            match &sender {
                // SAFETY: just taken out and won, under the lock; unparked by our caller.
                Some(sender) => self.buffer.push_back(unsafe { sender.collect() }),
                None => self.gate.len -= 1,
            }
            return Received::Value(value, sender);
        }
        if let Some(sender) = win(&mut self.gate.senders) {
            debug_assert_eq!(self.gate.capacity, 0, "a sender waits beside room");
            // SAFETY: as above.
            let value = unsafe { sender.collect() };
            return Received::Value(value, Some(sender));
        }
        if self.gate.is_closed {
            return Received::Closed;
        }
        Received::Empty
    }

    /// Takes back a value that was put into the hands of a receiver which then left: it is the next to be received. Returns who has it
    /// now, to be unparked, if somebody waited.
    pub(crate) fn give_back(&mut self, value: T) -> Option<S> {
        let Some(receiver) = win(&mut self.gate.receivers) else {
            self.buffer.push_front(value);
            self.gate.len += 1;
            return None;
        };
        // SAFETY: just taken out and won, under the lock; unparked by our caller.
        unsafe { receiver.deliver(value) };
        Some(receiver)
    }

    /// Closes the channel and returns who waited, all to be unparked: receivers without a value, and senders with theirs.
    pub(crate) fn close(&mut self) -> [WaitQueue<S>; 2] {
        self.gate.is_closed = true;
        let Gate {
            receivers, senders, ..
        } = &mut self.gate;
        [receivers, senders].map(|queue| {
            let mut waiting = queue.take_all();
            waiting.retain(S::is_won);
            waiting
        })
    }

    /// Empties the buffer: nobody is left to receive.
    pub(crate) fn drain(&mut self) -> VecDeque<T> {
        self.gate.len = 0;
        std::mem::take(&mut self.buffer)
    }
}

impl<S> Gate<S> {
    /// Values in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// False if a send would find no room; otherwise it may still, if those who wait have been won elsewhere.
    pub(crate) fn may_send(&self) -> bool {
        self.is_closed || self.len < self.capacity || !self.receivers.is_empty()
    }

    /// False if a receive would find nothing; otherwise it may still, as above.
    pub(crate) fn may_receive(&self) -> bool {
        self.is_closed || self.len > 0 || !self.senders.is_empty()
    }

    /// Queues a sender whose value was [`Sent::Full`]; the value is in its place.
    pub(crate) fn wait_to_send(&mut self, sender: S) -> Ticket {
        debug_assert!(!self.is_closed && self.len >= self.capacity);
        self.senders.push(sender)
    }

    /// Queues a receiver that found the channel [`Received::Empty`].
    pub(crate) fn wait_to_receive(&mut self, receiver: S) -> Ticket {
        debug_assert!(!self.is_closed && self.len == 0);
        self.receivers.push(receiver)
    }

    /// Who has waited longest to receive. A select among them may have been won elsewhere just now.
    pub(crate) fn receiver(&self) -> Option<&S> {
        self.receivers.front()
    }

    /// Waits for a receiver to appear, or for the channel to be closed.
    pub(crate) fn look_out(&mut self, lookout: Lookout) {
        debug_assert!(!self.is_closed && self.receiver().is_none());
        self.lookouts.get_or_insert_default().push(lookout);
    }

    /// Whether somebody is to be told of a receiver that was queued, or of the end.
    pub(crate) fn has_lookouts(&self) -> bool {
        self.lookouts.is_some()
    }

    /// Who is to be told, all of them, before the lock is free.
    pub(crate) fn take_lookouts(&mut self) -> Vec<Lookout> {
        self.lookouts
            .take()
            .map_or_else(Vec::new, |lookouts| *lookouts)
    }

    /// A sender's seat, if it is in the queue.
    pub(crate) fn sender_at(&mut self, ticket: Ticket) -> Option<&mut S> {
        self.senders.get_mut(ticket)
    }

    /// A receiver's seat, if it is in the queue.
    pub(crate) fn receiver_at(&mut self, ticket: Ticket) -> Option<&mut S> {
        self.receivers.get_mut(ticket)
    }

    /// Gives up waiting; false if somebody has taken the seat. Then an unpark is on its way, if the seat was won.
    pub(crate) fn leave_senders(&mut self, ticket: Ticket) -> bool {
        self.senders.remove(ticket).is_some()
    }

    /// As [`leave_senders`](Self::leave_senders), for a receiver.
    pub(crate) fn leave_receivers(&mut self, ticket: Ticket) -> bool {
        self.receivers.remove(ticket).is_some()
    }
}

/// Takes out who has waited longest and can still be had.
fn win<T, S: Seat<T>>(queue: &mut WaitQueue<S>) -> Option<S> {
    loop {
        let seat = queue.pop()?;
        if seat.is_won() {
            return Some(seat);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Debug, Clone)]
    struct Place(&'static str, Rc<RefCell<Option<u32>>>);

    // SAFETY: one thread.
    unsafe impl Seat<u32> for Place {
        fn is_won(&self) -> bool {
            true
        }
        unsafe fn deliver(&self, value: u32) {
            *self.1.borrow_mut() = Some(value);
        }
        unsafe fn collect(&self) -> u32 {
            self.1.borrow_mut().take().expect("a sender has a value")
        }
    }

    fn place(who: &'static str, value: Option<u32>) -> Place {
        Place(who, Rc::new(RefCell::new(value)))
    }

    #[test]
    fn waiting_senders_keep_their_order_behind_the_buffer() {
        let mut core = Core::new(1);
        assert!(matches!(core.send(1), Sent::Buffered));
        assert!(matches!(core.send(2), Sent::Full(2)));
        core.gate.wait_to_send(place("a", Some(2)));
        core.gate.wait_to_send(place("b", Some(3)));
        for (value, who) in [(1, Some("a")), (2, Some("b")), (3, None)] {
            match core.receive() {
                Received::Value(got, sender) => {
                    assert_eq!((got, sender.map(|s| s.0)), (value, who));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(core.receive(), Received::Empty));
    }

    #[test]
    fn rendezvous_hands_over_both_ways() {
        let mut core = Core::new(0);
        let receiver = place("r", None);
        core.gate.wait_to_receive(receiver.clone());
        assert!(matches!(core.send(7), Sent::Handed(Place("r", _))));
        assert_eq!(*receiver.1.borrow(), Some(7));
        core.gate.wait_to_send(place("s", Some(8)));
        assert!(matches!(
            core.receive(),
            Received::Value(8, Some(Place("s", _)))
        ));
    }

    #[test]
    fn close_gives_everybody_back_and_lets_the_buffer_drain() {
        let mut core = Core::new(1);
        assert!(matches!(core.send(1), Sent::Buffered));
        core.gate.wait_to_send(place("s", Some(2)));
        let [receivers, mut senders] = core.close();
        assert!(receivers.is_empty());
        assert_eq!(*senders.pop().unwrap().1.borrow(), Some(2));
        assert!(senders.is_empty());
        assert!(matches!(core.send(3), Sent::Closed(3)));
        assert!(matches!(core.receive(), Received::Value(1, None)));
        assert!(matches!(core.receive(), Received::Closed));
    }

    #[test]
    fn lookouts_are_taken_once_and_see_who_has_waited_longest() {
        let mut core = Core::new(0);
        assert!(core.gate.receiver().is_none());
        core.gate.look_out(Lookout(NonNull::dangling()));
        let first = core.gate.wait_to_receive(place("first", None));
        core.gate.wait_to_receive(place("second", None));
        assert_eq!(core.gate.take_lookouts(), [Lookout(NonNull::dangling())]);
        assert!(!core.gate.has_lookouts());
        assert_eq!(core.gate.receiver().map(|seat| seat.0), Some("first"));
        assert!(core.gate.leave_receivers(first));
        assert_eq!(core.gate.receiver().map(|seat| seat.0), Some("second"));
    }

    #[test]
    fn seat_that_leaves_is_not_served() {
        let mut core = Core::new(0);
        let ticket = core.gate.wait_to_receive(place("r", None));
        assert!(core.gate.leave_receivers(ticket));
        assert!(!core.gate.leave_receivers(ticket));
        assert!(matches!(core.send(1), Sent::Full(1)));
        let ticket = core.gate.wait_to_send(place("s", Some(1)));
        assert!(core.gate.leave_senders(ticket));
        assert!(matches!(core.receive(), Received::Empty));
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::super::task_word::{Park, TaskWord, Unpark};
    use super::*;
    use crate::sync::{OsMutex, lock};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// What a waiting thread leaves in the queue: the real parking word, and a place that loom checks for races.
    struct Wait {
        word: TaskWord,
        place: UnsafeCell<Option<u32>>,
        thread: thread::Thread,
    }

    #[derive(Clone)]
    struct Place(Arc<Wait>);
    // SAFETY: the place is accessed as `Seat` says; loom checks it.
    unsafe impl Send for Place {}

    // SAFETY: touches the place only.
    unsafe impl Seat<u32> for Place {
        fn is_won(&self) -> bool {
            true
        }
        unsafe fn deliver(&self, value: u32) {
            // SAFETY: the caller's promise, which loom checks.
            self.0
                .place
                .with_mut(|place| unsafe { *place = Some(value) });
        }
        unsafe fn collect(&self) -> u32 {
            // SAFETY: the caller's promise, which loom checks.
            self.0
                .place
                .with_mut(|place| unsafe { (*place).take() })
                .unwrap()
        }
    }

    impl Place {
        fn new(value: Option<u32>) -> Self {
            Self(Arc::new(Wait {
                word: TaskWord::new(),
                place: UnsafeCell::new(value),
                thread: thread::current(),
            }))
        }
        fn unpark(&self) {
            match self.0.word.unpark() {
                Unpark::Nothing => {}
                Unpark::Wake | Unpark::Enqueue => self.0.thread.unpark(),
            }
        }
        fn park(&self) {
            if self.0.word.block() == Park::Go {
                while !self.0.word.consume() {
                    thread::park();
                }
            }
        }
        fn value(&self) -> Option<u32> {
            // SAFETY: its owner has been unparked, after the last use by others; loom checks that.
            self.0.place.with_mut(|place| unsafe { (*place).take() })
        }
    }

    type Shared = Arc<OsMutex<Core<u32, Place>>>;

    fn send(channel: &Shared, value: u32) -> Result<(), u32> {
        let mut core = lock(channel);
        match core.send(value) {
            Sent::Buffered => Ok(()),
            Sent::Handed(receiver) => {
                drop(core);
                receiver.unpark();
                Ok(())
            }
            Sent::Closed(value) => Err(value),
            Sent::Full(value) => {
                let place = Place::new(Some(value));
                core.gate.wait_to_send(place.clone());
                drop(core);
                place.park();
                place.value().map_or(Ok(()), Err)
            }
        }
    }

    fn receive(channel: &Shared) -> Option<u32> {
        let mut core = lock(channel);
        match core.receive() {
            Received::Value(value, sender) => {
                drop(core);
                if let Some(sender) = sender {
                    sender.unpark();
                }
                Some(value)
            }
            Received::Closed => None,
            Received::Empty => {
                let place = Place::new(None);
                core.gate.wait_to_receive(place.clone());
                tell(&mut core, 1);
                drop(core);
                place.park();
                place.value()
            }
        }
    }

    fn close(channel: &Shared) {
        let mut core = lock(channel);
        let waiting = core.close();
        tell(&mut core, 2);
        drop(core);
        for mut queue in waiting {
            while let Some(seat) = queue.pop() {
                seat.unpark();
            }
        }
    }

    /// Tells who looks out: 1, there is a receiver; 2, the channel is closed.
    fn tell(core: &mut Core<u32, Place>, what: u32) {
        for Lookout(look) in core.gate.take_lookouts() {
            // SAFETY: the place of somebody in `look_out`, which does not leave before the unpark; loom checks its use.
            let look = unsafe { look.cast::<Place>().as_ref() };
            // SAFETY: as above.
            unsafe { look.deliver(what) };
            // Kept alive for the unpark itself, which may end that wait.
            look.clone().unpark();
        }
    }

    /// What is seen of the channel's receivers: 0, one that waits; else as it is told.
    fn look_out(channel: &Shared) -> u32 {
        let mut core = lock(channel);
        if core.gate.is_closed() {
            return 2;
        }
        if core.gate.receiver().is_some() {
            return 0;
        }
        let look = Place::new(None);
        core.gate.look_out(Lookout(NonNull::from(&look).cast()));
        drop(core);
        look.park();
        look.value().unwrap()
    }

    /// Somebody looks out for a receiver while one comes and the channel is closed: it is told one or the other, once.
    /// Bounds: three threads, capacity 0, 2 pre-emptions.
    #[test]
    fn who_looks_out_is_told_of_a_receiver_or_the_end() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(|| {
            let channel: Shared = Arc::new(OsMutex::new(Core::new(0)));
            let looking = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || look_out(&channel))
            };
            let receiving = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || receive(&channel))
            };
            close(&channel);
            assert_eq!(receiving.join().unwrap(), None);
            assert!(looking.join().unwrap() <= 2);
            assert!(!lock(&channel).gate.has_lookouts());
        });
    }

    fn values_arrive_in_order(capacity: usize) {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(move || {
            let channel: Shared = Arc::new(OsMutex::new(Core::new(capacity)));
            let sender = {
                let channel = Arc::clone(&channel);
                thread::spawn(move || {
                    send(&channel, 1).unwrap();
                    send(&channel, 2).unwrap();
                    close(&channel);
                })
            };
            assert_eq!(receive(&channel), Some(1));
            assert_eq!(receive(&channel), Some(2));
            assert_eq!(receive(&channel), None);
            sender.join().unwrap();
        });
    }

    /// Bounds: two threads, two values, capacity 0, 3 pre-emptions.
    #[test]
    fn rendezvous_delivers_everything_in_order() {
        values_arrive_in_order(0);
    }

    /// Bounds: two threads, two values, capacity 1, 3 pre-emptions.
    #[test]
    fn buffer_delivers_everything_in_order() {
        values_arrive_in_order(1);
    }

    /// Two senders, one receiver that closes after one value: every value is received or given back.
    /// Bounds: three threads, two values, capacity 0, 2 pre-emptions.
    #[test]
    fn close_loses_no_value() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(|| {
            let channel: Shared = Arc::new(OsMutex::new(Core::new(0)));
            let senders: Vec<_> = [1, 2]
                .into_iter()
                .map(|value| {
                    let channel = Arc::clone(&channel);
                    thread::spawn(move || send(&channel, value))
                })
                .collect();
            let got = receive(&channel).unwrap();
            close(&channel);
            let back: Vec<_> = senders
                .into_iter()
                .filter_map(|sender| sender.join().unwrap().err())
                .collect();
            assert_eq!(back, [3 - got]);
        });
    }
}
