//! loom models of the lane and its sleepers: every interleaving of one sender, one receiver, a closer, a successor.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p multi-chan --lib spsc`

#![expect(unsafe_code, reason = "lays a channel out in private memory")]

use crate::kill::dies_after;
use crate::model_memory::{Memory, bound, check};
use crate::spsc::lane::{Cursor, Lane, Stop};
use crate::spsc::layout::{Plan, Slot, USERS_OFFSET, Users};
use crate::sync::{AcqRel, Acquire, Bed};
use crate::wait::{Event, Ticket};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::mem::MaybeUninit;

const CLOSED: u32 = 1;

/// A channel in private memory, with loom's atomics in the places of the real ones.
struct Channel {
    lane: Lane<u64>,
    _memory: Memory,
    /// Operations between their first store and their last look: a moment is over when there are none.
    busy: Mutex<u32>,
    bell: Condvar,
}

// SAFETY: as the mapping it stands for.
unsafe impl Send for Channel {}

// SAFETY: as above.
unsafe impl Sync for Channel {}

impl Channel {
    fn new(capacity: usize) -> Arc<Channel> {
        let plan = Plan::new::<u64>(capacity).unwrap();
        let mut memory = Memory::new(plan.map_bytes);
        memory.put(USERS_OFFSET, Users::default());
        for index in 0..capacity {
            let slot = Slot {
                value: MaybeUninit::<u64>::zeroed().into(),
                watch: loom::cell::UnsafeCell::new(()),
            };
            memory.put(plan.slots_offset + index * size_of::<Slot<u64>>(), slot);
        }
        // SAFETY: laid out for this plan just now, and freed when the last user is gone.
        let lane = unsafe { Lane::new(memory.base(), plan) };
        Arc::new(Channel {
            lane,
            _memory: memory,
            busy: Mutex::new(0),
            bell: Condvar::new(),
        })
    }

    /// Begins an operation, which ends when the guard is dropped, by a death too.
    fn begin(&self) -> Busy<'_> {
        *self.busy.lock().unwrap() += 1;
        Busy(self)
    }

    /// What takes a moment in a real channel: whoever was between a store and a look has made both.
    fn moment(&self) {
        let mut busy = self.busy.lock().unwrap();
        while *busy > 0 {
            busy = self.bell.wait(busy).unwrap();
        }
    }

    /// Sleeps as `Wait::fenceless` does: a moment, and long only on a ticket that is still good after it.
    fn sleep(&self, event: &Event, ticket: Ticket, settled: &mut bool) -> Option<Ticket> {
        if *settled {
            event.sleep(ticket, None);
            return None;
        }
        self.moment();
        *settled = event.holds(ticket);
        settled.then_some(ticket)
    }

    fn closed(&self) -> bool {
        // Acquire: as in `Core::flags`; pairs with `close`.
        self.lane.header().gate.0.flags.load(Acquire) & CLOSED != 0
    }

    fn close(&self) {
        let header = self.lane.header();
        // AcqRel: as in `Core::close`; pairs with the Acquire load in `closed`.
        header.gate.0.flags.fetch_or(CLOSED, AcqRel);
        header.sent.0.post_all();
        header.freed.0.post_all();
    }

    /// Sends as `spsc::Sender` does, without the processes; false if the channel is closed.
    fn send(&self, cursor: &mut Cursor, value: u64) -> bool {
        let event = &self.lane.header().freed.0;
        let mut ticket = None;
        let mut settled = false;
        loop {
            if self.closed() {
                return false;
            }
            let busy = self.begin();
            let pushed = self.lane.push(cursor, &value);
            let settling = pushed.is_ok() && self.closed();
            let accepted = !settling || self.lane.settle(cursor, 1).is_ok();
            if pushed.is_ok() && accepted {
                self.lane.header().sent.0.post(1);
            }
            drop(busy);
            match (pushed, ticket) {
                (Ok(()), _) => return accepted,
                (Err(Stop::Nothing), None) => {
                    ticket = Some(event.arm());
                    settled = false;
                }
                (Err(Stop::Nothing), Some(drawn)) => {
                    ticket = self.sleep(event, drawn, &mut settled);
                }
                (Err(other), _) => panic!("{other:?}"),
            }
        }
    }

    /// Receives as `spsc::Receiver` does, without the processes; `None` once closed and drained.
    fn recv(&self, cursor: &mut Cursor) -> Option<u64> {
        let event = &self.lane.header().sent.0;
        let mut ticket = None;
        let mut settled = false;
        let mut long_closed = false;
        loop {
            let busy = self.begin();
            let popped = self.lane.pop(cursor);
            if popped.is_ok() {
                self.lane.header().freed.0.post(1);
            }
            drop(busy);
            match popped {
                Ok(value) => return Some(value),
                Err(Stop::Ended) => return None,
                Err(Stop::Corrupt) => panic!("corrupt"),
                Err(Stop::Nothing) if self.closed() => {
                    if long_closed {
                        self.lane.set_end(cursor).ok();
                    } else {
                        self.moment();
                        long_closed = true;
                    }
                    continue;
                }
                Err(Stop::Nothing) => {}
            }
            match ticket {
                None => {
                    ticket = Some(event.arm());
                    settled = false;
                }
                Some(drawn) => ticket = self.sleep(event, drawn, &mut settled),
            }
        }
    }
}

/// Receives from either channel as a `Turn` does; returns which, and the value.
fn select(channels: [&Channel; 2], cursors: &mut [Cursor; 2]) -> (usize, u64) {
    let event = |n: usize| &channels[n].lane.header().sent.0;
    let mut tickets: [Option<Ticket>; 2] = [None; 2];
    let mut settled = false;
    loop {
        for n in [0, 1] {
            let busy = channels[n].begin();
            let popped = channels[n].lane.pop(&mut cursors[n]);
            if popped.is_ok() {
                channels[n].lane.header().freed.0.post(1);
            }
            drop(busy);
            match popped {
                Ok(value) => return (n, value),
                Err(Stop::Nothing) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        let [Some(one), Some(other)] = tickets else {
            for n in [0, 1] {
                tickets[n].get_or_insert_with(|| event(n).arm());
            }
            settled = false;
            continue;
        };
        if settled {
            Bed::sleep_any(&[event(0).berth(one), event(1).berth(other)]);
            tickets = [None; 2];
            continue;
        }
        channels.iter().for_each(|channel| channel.moment());
        for n in [0, 1] {
            tickets[n] = tickets[n].filter(|&ticket| event(n).holds(ticket));
        }
        settled = true;
    }
}

/// Receives as a poll loop with a `Readiness` does. What it keeps in between is the last arming that stands, and whether a moment has
/// passed since.
fn poll(channel: &Channel, cursor: &mut Cursor, standing: &mut Option<(Ticket, bool)>) -> u64 {
    let event = &channel.lane.header().sent.0;
    loop {
        let busy = channel.begin();
        let popped = channel.lane.pop(cursor);
        if popped.is_ok() {
            channel.lane.header().freed.0.post(1);
        }
        drop(busy);
        match popped {
            Ok(value) => return value,
            Err(Stop::Nothing) => {}
            Err(other) => panic!("{other:?}"),
        }
        event.count.drain();
        let (ticket, is_good) = standing
            .filter(|&(ticket, _)| event.is_polled(ticket))
            .unwrap_or_else(|| (event.arm_poll(), false));
        *standing = Some((ticket, true));
        if channel.lane.value(cursor).is_ok() {
            event.count.signal();
            *standing = Some((ticket, is_good));
        } else if is_good {
            event.count.wait();
        } else {
            channel.moment();
        }
    }
}

struct Busy<'a>(&'a Channel);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap() -= 1;
        self.0.bell.notify_all();
    }
}

#[test]
fn values_keep_their_order_and_sleepers_are_woken() {
    for (capacity, preemptions) in bound([(1, 2), (2, 2)], [(1, 3), (2, 3)]) {
        check(preemptions, move || {
            let channel = Channel::new(capacity);
            let sender = channel.clone();
            let sending = thread::spawn(move || {
                let mut cursor = Cursor::start();
                for value in 1..=3 {
                    assert!(sender.send(&mut cursor, value));
                }
            });
            let mut cursor = Cursor::start();
            for value in 1..=3 {
                assert_eq!(channel.recv(&mut cursor), Some(value));
            }
            sending.join().unwrap();
        });
    }
}

#[test]
fn a_select_sleeps_past_no_value_of_either_channel() {
    for (each, preemptions) in bound(vec![(1, 2)], vec![(1, 3), (2, 2)]) {
        check(preemptions, move || {
            let channels = [Channel::new(1), Channel::new(1)];
            let senders = [0, 1].map(|n| {
                let channel = channels[n].clone();
                thread::spawn(move || {
                    let mut cursor = Cursor::start();
                    assert!((1..=each).all(|value| channel.send(&mut cursor, value)));
                })
            });
            let mut cursors = [Cursor::start(), Cursor::start()];
            let mut last = [0; 2];
            for _ in 0..2 * each {
                let (n, value) = select([&channels[0], &channels[1]], &mut cursors);
                last[n] += 1;
                assert_eq!(value, last[n]);
            }
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }
}

#[test]
fn a_poll_loop_sleeps_past_no_value() {
    for (each, preemptions) in bound([(2, 3), (3, 2)], [(2, 4), (3, 3)]) {
        check(preemptions, move || {
            let channel = Channel::new(1);
            channel.lane.header().sent.0.count.make_pollable();
            let sender = channel.clone();
            let sending = thread::spawn(move || {
                let mut cursor = Cursor::start();
                assert!((1..=each).all(|value| sender.send(&mut cursor, value)));
                // Somebody enters, of which poll loops are told without a post.
                sender.lane.header().sent.0.stir_pollers();
            });
            let (mut cursor, mut standing) = (Cursor::start(), None);
            for value in 1..=each {
                assert_eq!(poll(&channel, &mut cursor, &mut standing), value);
            }
            sending.join().unwrap();
        });
    }
}

#[test]
fn batches_are_published_and_freed_whole() {
    check(3, || {
        let channel = Channel::new(2);
        let sender = channel.clone();
        let sending = thread::spawn(move || {
            let mut cursor = Cursor::start();
            let mut rest: &[u64] = &[1, 2, 3];
            while !rest.is_empty() {
                match sender.lane.push_batch(&mut cursor, rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(Stop::Nothing) => thread::yield_now(),
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
        let mut cursor = Cursor::start();
        let mut received: Vec<u64> = Vec::new();
        while received.len() < 3 {
            let mut values = [0; 2];
            match channel.lane.pop_batch(&mut cursor, &mut values) {
                Ok(count) => received.extend(&values[..count]),
                Err(Stop::Nothing) => thread::yield_now(),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(received, [1, 2, 3]);
        sending.join().unwrap();
    });
}

#[test]
fn a_close_by_the_receiver_loses_nothing_that_was_sent() {
    check(3, || {
        let channel = Channel::new(2);
        let sender = channel.clone();
        let sending = thread::spawn(move || {
            let mut cursor = Cursor::start();
            (1..=2)
                .take_while(|&value| sender.send(&mut cursor, value))
                .count()
        });
        channel.close();
        let mut cursor = Cursor::start();
        let mut received = 0;
        while let Some(value) = channel.recv(&mut cursor) {
            received += 1;
            assert_eq!(value, received);
        }
        assert_eq!(sending.join().unwrap() as u64, received);
        // What a sender took back is not seen later either.
        assert_eq!(channel.recv(&mut cursor), None);
    });
}

/// Writes of an operation that waits: arming, the value's, and waking.
const WRITES_MAX: u32 = 5;

#[test]
fn a_receiver_may_die_after_any_write_and_loses_nothing_it_had_not_received() {
    for writes in 1..=WRITES_MAX {
        check(2, move || {
            let channel = Channel::new(1);
            let sender = channel.clone();
            let sending = thread::spawn(move || {
                let mut cursor = Cursor::start();
                assert!(sender.send(&mut cursor, 1) && sender.send(&mut cursor, 2));
            });
            let first = channel.clone();
            let dying = thread::spawn(move || {
                dies_after(writes, || first.recv(&mut Cursor::start()));
                // What burying does: wakes that the dead may have been given are made good.
                first.lane.header().freed.0.post_all();
            });
            // The kernel tells of its death what a join tells here.
            dying.join().unwrap();
            let mut cursor = channel.lane.receiver_cursor();
            let next = channel.recv(&mut cursor).unwrap();
            if next == 1 {
                assert_eq!(channel.recv(&mut cursor), Some(2));
            } else {
                assert_eq!(next, 2);
            }
            sending.join().unwrap();
        });
    }
}

#[test]
fn a_sender_may_die_after_any_write_and_has_sent_all_or_nothing() {
    for writes in 1..=WRITES_MAX {
        check(2, move || {
            let channel = Channel::new(1);
            let sender = channel.clone();
            let sending = thread::spawn(move || {
                let dying = sender.clone();
                thread::spawn(move || {
                    dies_after(writes, || dying.send(&mut Cursor::start(), 1));
                    dying.lane.header().sent.0.post_all();
                })
                .join()
                .unwrap();
                let mut successor = sender.lane.sender_cursor();
                assert!(sender.send(&mut successor, 2));
            });
            let mut cursor = Cursor::start();
            let next = channel.recv(&mut cursor);
            if next == Some(1) {
                assert_eq!(channel.recv(&mut cursor), Some(2));
            } else {
                assert_eq!(next, Some(2));
            }
            sending.join().unwrap();
        });
    }
}
