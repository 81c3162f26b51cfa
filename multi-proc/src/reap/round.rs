//! One round of a reaper: who is due is signalled, who has printed is read, who has ended is collected.

use super::{DRAIN_PAUSE_MAX, DRAIN_PAUSE_MIN, Reaper, State};
use crate::capture::{self, Capture};
use crate::functions;
use crate::live::{Live, Origin, Sent};
use crate::outcome::{End, Settles};
use crate::report::Ending;
use crate::slot::Stage;
use crate::stuck;
use crate::sys::{self, PollFd};
use multi_core::CancelWord as _;
use multi_core::clock;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

impl Reaper {
    /// One round: signals who is due, waits for a child or a wake-up until `until`, collects who has ended. Does not wait where `key`
    /// is old. Returns whether anyone was collected.
    pub(crate) fn round(&self, key: Option<u64>, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        if key.is_some_and(|key| key != state.key) {
            return false;
        }
        if capture::is_passing_on() {
            // Called by a function that is handed a line, and may go on with what it does.
            assert!(
                until.is_some_and(|until| until <= Instant::now()),
                "a function that is passed a task's lines must not wait for a group: it holds up whoever waits"
            );
            return false;
        }
        let now = Instant::now();
        let is_passing = until.is_some_and(|until| until <= now);
        state.pollers += 1;
        let next = self.keep_time(&mut state, now);
        let reports = state.look_for_stuck(now, self.settings.stuck_after);
        let looks = |live: &Live| [live.watch.next(), live.begins_by()];
        let next_look = state.live.iter().flat_map(looks).flatten().min();
        let wake_at = [next, next_look, until].into_iter().flatten().min();
        let (mut fds, mut serials) = std::mem::take(&mut state.scratch);
        fds.clear();
        serials.clear();
        fds.push(PollFd::readable(self.wake.as_fd()));
        for live in &state.live {
            fds.push(PollFd::readable(live.pidfd.as_fd()));
            serials.push(live.serial);
        }
        let captures = state.list_captures(&mut fds);
        drop(state);

        stuck::print(&reports);
        let timeout = wake_at.map(|at| at.saturating_duration_since(now));
        if let Err(error) = sys::poll(&mut fds, timeout) {
            // More descriptors than RLIMIT_NOFILE, or no memory: look at each child instead, after a moment.
            debug_assert!(error.raw_os_error().is_some());
            std::thread::sleep(
                timeout
                    .unwrap_or(Duration::MAX)
                    .min(Duration::from_millis(1)),
            );
            self.poll_one_by_one(&mut fds);
        }

        let mut state = self.lock();
        state.pollers -= 1;
        let was_woken = fds.first().is_some_and(PollFd::is_ready);
        if was_woken && (is_passing || state.pollers > 0) {
            // A look in passing, by the clock's thread or a `go`, leaves it to those who wait: what woke it may be for another than us, as the
            // end of a pool's job is, to whom one who is about to wait has looked already.
            state.is_signalled = true;
        } else if was_woken || (!is_passing && state.pollers == 0 && state.is_signalled) {
            sys::eventfd_clear(self.wake.as_fd());
            state.is_signalled = false;
        }
        let printed = who_printed(captures, &fds[1 + serials.len()..]);
        let mut at = 0;
        serials.retain(|_| {
            at += 1;
            fds[at].is_ready()
        });
        // What is left of the list is sorted, and may name children that another thread has collected meanwhile.
        let ended: Vec<Live> = if serials.is_empty() {
            Vec::new()
        } else {
            state
                .live
                .extract_if(.., |live| serials.binary_search(&live.serial).is_ok())
                .collect()
        };
        let captures_ended = ended.iter().filter(|live| live.capture.is_some()).count();
        state.captures -= captures_ended;
        if state.live.is_empty() {
            state.alarm = None;
        }
        // After the children were looked at: who cancelled and then ended is heard before its end is made known.
        let heard = state.unheard.take_if(|token| token.is_cancelled());
        state.scratch = (fds, serials);
        drop(state);

        if let Some(token) = heard {
            // Says it again, here.
            token.cancel();
        }
        self.read_what_was_printed(&printed);
        let anyone = !ended.is_empty();
        for live in ended {
            self.collect(live);
        }
        anyone
    }

    /// Empties the pipes of those who printed, and sees to it that they will be again.
    fn read_what_was_printed(&self, printed: &[Arc<Capture>]) {
        let mut any = false;
        for capture in printed {
            any |= capture.drain();
        }
        let mut state = self.lock();
        if state.captures > 0 {
            let longer = (state.drain_pause * 2).min(DRAIN_PAUSE_MAX);
            state.drain_pause = if any { DRAIN_PAUSE_MIN } else { longer };
            self.keep_time(&mut state, Instant::now());
        }
    }

    /// What is left where the children cannot be polled together.
    #[cold]
    fn poll_one_by_one(&self, fds: &mut [PollFd]) {
        for fd in fds {
            // An error here leaves this one for the next round.
            drop(sys::poll(std::slice::from_mut(fd), Some(Duration::ZERO)));
        }
    }

    /// Collects a child that has ended and settles its task. Without the lock: settling may start the next task, or cancel.
    fn collect(&self, live: Live) {
        let Live {
            pid,
            pidfd,
            slot,
            mut task,
            terms,
            capture,
            sent,
            origin,
            ..
        } = live;
        keep_tail(capture.as_deref(), &mut *task);
        let was_pressed = !matches!(sent, Sent::Nothing);
        let (ending, usage) = match origin.reap(pid, pidfd.as_fd()) {
            Some((exit, usage)) => {
                let mut state = self.lock();
                state.usage.add(usage);
                let before = state.spent.replace(pidfd);
                drop(state);
                drop(before);
                let ending = match origin {
                    Origin::Executed {
                        line, is_given_up, ..
                    } if !was_pressed && slot.stage() == Some(Stage::Forked) => Ending::NeverBegan(
                        functions::why_it_never_began(line.as_fd(), exit, is_given_up),
                    ),
                    _ => Ending::Collected(exit),
                };
                (ending, Some(usage))
            }
            None => (Ending::Vanished, None),
        };
        task.settle(End {
            slot,
            ending,
            usage,
            value_bytes_max: self.settings.value_bytes_max,
            was_pressed,
            terms,
        });
    }

    /// Sends the signals that are due, and sees to it that the next ones will be; returns when that is.
    pub(super) fn keep_time(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let (grace, is_abandoned) = (self.settings.grace, state.is_abandoned);
        let mut next: Option<Instant> = None;
        for live in &mut state.live {
            if live.cancelled_at.is_none() && live.word.as_ref().is_some_and(|word| word.is_set()) {
                live.cancelled_at = Some(now);
            }
            while let Some(due) = live.due(grace, is_abandoned) {
                if due > now {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    break;
                }
                live.press(now);
            }
        }
        if state.captures > 0 && state.pollers == 0 {
            let drain = now + state.drain_pause;
            next = Some(next.map_or(drain, |next| next.min(drain)));
        }
        match (next, &state.alarm) {
            (None, _) => state.alarm = None,
            (Some(next), Some((at, _))) if *at == next => {}
            (Some(next), _) => {
                let me = Weak::clone(&self.me);
                let alarm = clock::at(next, move || {
                    if let Some(me) = me.upgrade() {
                        me.alarmed();
                    }
                });
                // Without a clock thread the signals are sent by whoever waits.
                state.alarm = alarm.ok().map(|alarm| (next, alarm));
            }
        }
        next
    }

    /// The alarm rang: sends what is due and collects who has ended. Killed children end a moment later; whoever waits next, or the
    /// next alarm, collects those.
    fn alarmed(&self) {
        self.lock().alarm = None;
        self.sweep();
    }
}

/// Reads the rest of what a task printed, and keeps the end for its error.
pub(super) fn keep_tail(capture: Option<&Capture>, task: &mut dyn Settles) {
    if let Some(tail) = capture.and_then(Capture::finish) {
        task.ticket_mut().set_stderr_tail(tail);
    }
}

/// The captures on a poll list, and how many descriptors of each.
type Listed = Vec<(Arc<Capture>, usize)>;

/// Those of `listed` that have something to read; `fds` are their descriptors, in order.
fn who_printed(listed: Listed, mut fds: &[PollFd]) -> Vec<Arc<Capture>> {
    let mut printed = Vec::new();
    for (capture, count) in listed {
        let (own, others) = fds.split_at(count);
        fds = others;
        if own.iter().any(PollFd::is_ready) {
            printed.push(capture);
        }
    }
    printed
}

impl State {
    /// Adds what running children print to a poll list.
    fn list_captures(&self, fds: &mut Vec<PollFd>) -> Listed {
        let mut listed = Vec::new();
        if self.captures > 0 {
            for capture in self.live.iter().filter_map(|live| live.capture.as_ref()) {
                let before = fds.len();
                fds.extend(capture.fds().map(PollFd::readable));
                listed.push((Arc::clone(capture), fds.len() - before));
            }
        }
        listed
    }

    fn look_for_stuck(&mut self, now: Instant, stuck_after: Duration) -> Vec<String> {
        let look = |live: &mut Live| {
            live.watch
                .look(now, stuck_after, live.pid, &live.slot, &*live.task)
        };
        for live in &mut self.live {
            if live.begins_by().is_some_and(|by| by <= now) {
                live.give_up();
            }
        }
        self.live.iter_mut().filter_map(look).collect()
    }
}
