//! Asking tasks to stop.

use crate::event::{Event, ThreadEvent};
use crate::lock::lock;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// A request to stop that any number of tasks can see; once made it stays made.
///
/// Clones share one request. A [`child`](Self::child) sees its parent's request and can be cancelled without it. The same
/// type serves every backend: the token of a group of processes lies in shared memory, the token of a green group parks the
/// task that waits on it. A token made with [`CancelToken::new`] is for threads of one process.
///
/// ```
/// use multi_core::CancelToken;
/// use std::time::Duration;
///
/// let token = CancelToken::new();
/// assert!(!token.wait_timeout(Duration::from_millis(1)));
/// token.cancel();
/// assert!(token.wait_timeout(Duration::ZERO) && token.is_cancelled());
/// ```
///
/// # Fork
///
/// A token whose [`CancelWord`] lies in shared memory works on both sides of a fork. Its [`child`](Self::child) tokens see a request
/// made by another process, too, but who waits for one of them is woken only when a request is made in this process as well.
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

/// What a [`CancelToken`] is made of: the backend's flag that can be set once and waited for.
pub trait CancelWord: Send + Sync + fmt::Debug + 'static {
    /// Whether [`set`](Self::set) was called.
    fn is_set(&self) -> bool;
    /// Sets the flag and wakes all who wait for it.
    fn set(&self);
    /// Blocks the calling task or thread until the flag is set or `until` has passed; returns whether it is set.
    fn wait(&self, until: Option<Instant>) -> bool;
    /// Whether the calling process is not the one that made this flag but a fork of it, where a lock may be held for ever: there
    /// [`CancelToken::cancel`] sets the flag and does no more.
    fn is_foreign(&self) -> bool {
        false
    }
    /// A new event that whoever can wait for this flag can wait on: what a [`child`](CancelToken::child) waits on.
    fn fresh_event(&self) -> Arc<dyn Event> {
        Arc::new(ThreadEvent::new())
    }
}

struct Node {
    word: Arc<dyn CancelWord>,
    /// Who else is told: child tokens and the events of groups that may be waiting for room.
    dependants: Mutex<Vec<Dependant>>,
    /// What this was made a child of. Kept although nobody may have it any more: it is what is told, and passes it on.
    _parent: Option<Arc<Node>>,
}

enum Dependant {
    Child(Weak<Node>),
    Event(Weak<dyn Event>),
}

impl CancelToken {
    /// A token for threads of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Arc::new(ThreadEvent::new()))
    }

    /// A token in this process's memory whose waiters wait on `event`.
    #[must_use]
    pub fn on(event: Arc<dyn Event>) -> Self {
        Self::with_word(Arc::new(EventWord {
            set: AtomicBool::new(false),
            event,
        }))
    }

    /// A token over a backend's own flag.
    #[must_use]
    pub fn with_word(word: Arc<dyn CancelWord>) -> Self {
        Self::of(word, None)
    }

    fn of(word: Arc<dyn CancelWord>, parent: Option<Arc<Node>>) -> Self {
        Self {
            node: Arc::new(Node {
                word,
                dependants: Mutex::new(Vec::new()),
                _parent: parent,
            }),
        }
    }

    /// A token of this process that is cancelled with this one, and can be cancelled alone. Whoever can wait for this token can wait
    /// for its child: a green task parks.
    #[must_use]
    pub fn child(&self) -> Self {
        let word = ChildWord {
            own: EventWord {
                set: AtomicBool::new(false),
                event: self.node.word.fresh_event(),
            },
            parent: Arc::clone(&self.node.word),
        };
        let child = Self::of(Arc::new(word), Some(Arc::clone(&self.node)));
        self.adopt(&child);
        child
    }

    /// Makes `child` follow this token: cancelled now if this one is, and whenever this one will be.
    pub fn adopt(&self, child: &Self) {
        self.add(Dependant::Child(Arc::downgrade(&child.node)));
        // After the registration: a cancel that ran before it has not seen the child, one that runs later will.
        if self.is_cancelled() {
            child.cancel();
        }
    }

    /// Has `event` notified when this token is cancelled in this process.
    pub(crate) fn notify_on_cancel(&self, event: &Arc<dyn Event>) {
        self.add(Dependant::Event(Arc::downgrade(event)));
        if self.is_cancelled() {
            event.notify();
        }
    }

    /// Whether nobody else has it, nobody follows it but one event, and nobody has cancelled it.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.node) == 1
            && Arc::weak_count(&self.node) == 0
            && lock(&self.node.dependants).len() <= 1
            && !self.is_cancelled()
    }

    fn add(&self, dependant: Dependant) {
        let mut dependants = lock(&self.node.dependants);
        // Amortised: forget the dead whenever the list would have to grow.
        if dependants.len() == dependants.capacity() {
            dependants.retain(Dependant::is_alive);
        }
        dependants.push(dependant);
    }

    /// Asks everyone who holds this token to stop. Does not block and does not wait for them; calling it again does nothing.
    pub fn cancel(&self) {
        self.node.word.set();
        // Also where the word was set already: perhaps by another process, which could not tell those known here.
        if !self.node.word.is_foreign() {
            self.tell_dependants();
        }
    }

    fn tell_dependants(&self) {
        // Taken out of the lock before they are told: a dependant may hold tokens of its own.
        let dependants = std::mem::take(&mut *lock(&self.node.dependants));
        for dependant in dependants {
            match dependant {
                Dependant::Child(child) => {
                    if let Some(node) = child.upgrade() {
                        Self { node }.cancel();
                    }
                }
                Dependant::Event(event) => {
                    if let Some(event) = event.upgrade() {
                        event.notify();
                    }
                }
            }
        }
    }

    /// Whether somebody asked to stop. One load, and one for each token that this one is a child of; cheap enough for a loop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.word.is_set()
    }

    /// `Err(Cancelled)` once somebody asked to stop: `token.check()?` ends a task, and its group reports it as cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] once [`cancel`](Self::cancel) was called.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// Blocks the calling task or thread until somebody asks to stop.
    pub fn wait(&self) {
        while !self.node.word.wait(None) {}
    }

    /// Blocks until somebody asks to stop, `timeout` at most; returns whether somebody did.
    #[must_use = "the wait may have ended because the time was up"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        match Instant::now().checked_add(timeout) {
            Some(until) => self.wait_until(until),
            // Further away than the clock can count.
            None => {
                self.wait();
                true
            }
        }
    }

    /// Blocks until somebody asks to stop, until `until` at most; returns whether somebody did.
    #[must_use = "the wait may have ended because the time was up"]
    pub fn wait_until(&self, until: Instant) -> bool {
        self.node.word.wait(Some(until))
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Dependant {
    fn is_alive(&self) -> bool {
        match self {
            Self::Child(child) => child.strong_count() > 0,
            Self::Event(event) => event.strong_count() > 0,
        }
    }
}

/// The error of a task that stopped because it was asked to: see [`CancelToken::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// A flag in this process's memory and the event its waiters wait on.
#[derive(Debug)]
struct EventWord {
    set: AtomicBool,
    event: Arc<dyn Event>,
}

impl CancelWord for EventWord {
    fn fresh_event(&self) -> Arc<dyn Event> {
        self.event.fresh()
    }

    fn is_set(&self) -> bool {
        // Acquire: what the canceller wrote before it asked is seen by who obeys. Pairs with the swap in `set`.
        self.set.load(Ordering::Acquire)
    }

    fn set(&self) {
        // AcqRel: Release publishes the reason to the load in `is_set`; Acquire makes a second canceller see the first's.
        if !self.set.swap(true, Ordering::AcqRel) {
            self.event.notify();
        }
    }

    fn wait(&self, until: Option<Instant>) -> bool {
        self.wait_for(until, || self.is_set())
    }
}

impl EventWord {
    /// Waits on the event until `is_set` says so or `until` has passed; returns what it said last.
    fn wait_for(&self, until: Option<Instant>, is_set: impl Fn() -> bool) -> bool {
        loop {
            let key = self.event.key();
            if is_set() {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
            self.event.wait(key, until);
        }
    }
}

/// A flag of its own that also counts as set when its parent's is: a request that its maker has not passed on yet is seen.
#[derive(Debug)]
struct ChildWord {
    own: EventWord,
    parent: Arc<dyn CancelWord>,
}

impl CancelWord for ChildWord {
    fn fresh_event(&self) -> Arc<dyn Event> {
        self.own.fresh_event()
    }

    fn is_set(&self) -> bool {
        self.own.is_set() || self.parent.is_set()
    }

    fn set(&self) {
        self.own.set();
    }

    fn wait(&self, until: Option<Instant>) -> bool {
        self.own.wait_for(until, || self.is_set())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancel_reaches_children_but_not_parents() {
        let parent = CancelToken::new();
        let (first, second) = (parent.child(), parent.child());
        first.cancel();
        assert!(!parent.is_cancelled() && !second.is_cancelled());
        parent.cancel();
        assert!(second.is_cancelled());
        assert!(
            parent.child().is_cancelled(),
            "a late child of a cancelled parent"
        );
    }

    #[test]
    fn cancel_wakes_a_waiter() {
        let token = CancelToken::new();
        std::thread::scope(|s| {
            s.spawn(|| token.wait());
            token.cancel();
        });
    }

    #[test]
    fn cancel_wakes_who_waits_for_the_child_of_a_child_that_is_gone() {
        let token = CancelToken::new();
        let grandchild = token.child().child();
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            tell.send(()).unwrap();
            grandchild.wait();
            tell.send(()).unwrap();
        });
        told.recv().unwrap();
        // It is asleep by then, or sees the request before it sleeps.
        std::thread::sleep(Duration::from_millis(20));
        token.cancel();
        let woken = told.recv_timeout(Duration::from_secs(20));
        woken.expect("nobody told it");
        waiter.join().unwrap();
    }

    #[test]
    fn wait_timeout_is_not_early_and_takes_any_duration() {
        let token = CancelToken::new();
        let start = Instant::now();
        assert!(!token.wait_timeout(Duration::from_millis(15)));
        assert!(start.elapsed() >= Duration::from_millis(15));
        token.cancel();
        assert!(token.wait_timeout(Duration::MAX));
    }

    #[test]
    fn dead_children_are_forgotten() {
        let parent = CancelToken::new();
        for _ in 0..10_000 {
            let _short_lived = parent.child();
        }
        assert!(lock(&parent.node.dependants).len() < 16);
    }

    #[test]
    fn check_turns_into_the_error_of_a_task() {
        let token = CancelToken::new();
        assert_eq!(token.check(), Ok(()));
        token.cancel();
        assert_eq!(token.check().unwrap_err().to_string(), "cancelled");
    }

    #[test]
    fn children_see_a_request_that_nobody_told_them_of() {
        let event: Arc<dyn Event> = Arc::new(ThreadEvent::new());
        let word = Arc::new(EventWord {
            set: AtomicBool::new(false),
            event,
        });
        let here = CancelToken::with_word(word.clone());
        let grandchild = here.child().child();
        assert!(!grandchild.is_cancelled());
        // As another process would, which shares the word and nothing else, or a canceller that comes no further for now.
        word.set();
        assert!(here.is_cancelled() && grandchild.is_cancelled());
        grandchild.wait();
    }
}
