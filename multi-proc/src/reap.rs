//! Watching, ending and collecting the children of a group, done by whoever waits for it.
//!
//! There is no thread of ours. The group's [`Event`] is the [`Reaper`]: a `wait`, a `join` and a `go` at the limit all sleep in one
//! `ppoll` over the children's pidfds and one eventfd, and do what there is to do when they wake: collect who has ended, signal
//! whose time is up, report who is stuck. A `go` looks in passing, so that short tasks do not pile up. Where a time limit or a cancel
//! must be kept while nobody waits, an alarm of [`multi_core::clock`] does one round of the same.
//!
//! Several threads may wait at once. Each polls a list of its own; whoever takes a child out of the books under the lock
//! collects it. The eventfd is emptied by the last to leave, since an emptier one would let the others sleep on; not by those who look in passing,
//! who would take it from one who is about to lie down.

use crate::cancel::SharedWord;
use crate::capture::{self, Pipes};
use crate::identity::Owner;
use crate::live::{Live, Origin, Sent};
use crate::outcome::{End, Settles};
use crate::report::Ending;
use crate::slot::{Reach, Region, Slot};
use crate::stuck;
use crate::sync::AtomicBool;
use crate::sys::{self, PollFd};
use crate::terms::Terms;
use crate::threads::OtherThreads;
use multi_core::Usage;
use multi_core::clock::Alarm;
use multi_core::{CancelToken, CancelWord, Event};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

mod round;

use round::keep_tail;

/// Launches between two looks in passing: `live / SWEEP_SHARE`, at least `SWEEP_MIN`. A look costs about 0.3 µs per live child.
const SWEEP_MIN: usize = 16;
const SWEEP_SHARE: usize = 4;

/// How long a task that prints into a full pipe may wait while nobody waits for the group: short where it printed lately, so that it
/// gets through 16 MB a second; longer where not, so that silence costs little.
const DRAIN_PAUSE_MIN: Duration = Duration::from_millis(4);
const DRAIN_PAUSE_MAX: Duration = Duration::from_millis(32);

/// What a group's builder set for its children.
pub(crate) struct Settings {
    pub(crate) grace: Duration,
    pub(crate) stuck_after: Duration,
    pub(crate) value_bytes_max: usize,
    pub(crate) in_child: Option<Arc<dyn Fn() + Send + Sync>>,
    pub(crate) other_threads: OtherThreads,
    /// Of tasks that ask for nothing themselves.
    pub(crate) terms: Option<Arc<Terms>>,
}

impl Settings {
    /// For a process that follows the order of another's group: that one watches it.
    pub(crate) fn of_a_stranger(value_bytes_max: usize) -> Self {
        Self {
            grace: Duration::ZERO,
            stuck_after: Duration::ZERO,
            value_bytes_max,
            in_child: None,
            other_threads: OtherThreads::Allow,
            terms: None,
        }
    }
}

/// A group's children.
pub(crate) struct Reaper {
    pub(crate) owner: Owner,
    pub(crate) settings: Settings,
    pub(crate) region: Arc<Region>,
    /// Other threads were warned of.
    pub(crate) has_warned: AtomicBool,
    wake: Arc<OwnedFd>,
    me: Weak<Self>,
    state: Mutex<State>,
}

struct State {
    /// The event's key.
    key: u64,
    /// Threads in `ppoll`.
    pollers: usize,
    /// The eventfd was written to for those pollers, and is to be emptied by the last of them.
    is_signalled: bool,
    /// Children by their serial number. A vector keeps its memory: after a fork every page written to for the first time is a page fault.
    live: Vec<Live>,
    next_serial: u64,
    since_sweep: usize,
    /// Children whose output is captured, and how long it may wait to be read while nobody else waits.
    captures: usize,
    drain_pause: Duration,
    /// The word of this round; a new child obeys it.
    word: Option<Arc<SharedWord>>,
    /// Its token, until it is seen to be cancelled: by a child, perhaps, which could not tell those who depend on it here.
    unheard: Option<CancelToken>,
    /// The group was dropped: asked to stop, no grace before SIGTERM.
    is_abandoned: bool,
    /// The group was let go of, and whether a thread collects its children just now.
    is_detached: bool,
    has_collector: bool,
    /// Keeps time where nobody waits, and for when.
    alarm: Option<(Instant, Alarm)>,
    /// A descriptor in reserve, so that a child that was just forked can always be watched.
    spare: Option<OwnedFd>,
    /// The pidfd of the last child collected, to be closed while the next one runs instead of while somebody waits: 2 µs.
    spent: Option<OwnedFd>,
    usage: Usage,
    /// Kept for their memory.
    scratch: (Vec<PollFd>, Vec<u64>),
}

/// A child on its way to the books.
pub(crate) struct Forked {
    pub(crate) pid: u32,
    /// None where somebody else collected it at once.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) slot: Slot,
    pub(crate) word: Option<Arc<SharedWord>>,
    pub(crate) pipes: Pipes,
    pub(crate) terms: Option<Arc<Terms>>,
    pub(crate) origin: Origin,
}

impl Reaper {
    /// For children that `reach` says.
    pub(crate) fn reaching(settings: Settings, reach: Reach) -> io::Result<Arc<Self>> {
        let region = Region::new(settings.value_bytes_max, reach)?;
        let wake = Arc::new(sys::eventfd()?);
        let spare = Some(sys::duplicate(wake.as_fd())?);
        Ok(Arc::new_cyclic(|me| Self {
            owner: Owner::here(),
            settings,
            region,
            wake,
            me: me.clone(),
            has_warned: AtomicBool::new(false),
            state: Mutex::new(State {
                key: 0,
                pollers: 0,
                is_signalled: false,
                live: Vec::new(),
                next_serial: 0,
                since_sweep: 0,
                captures: 0,
                drain_pause: DRAIN_PAUSE_MIN,
                word: None,
                unheard: None,
                is_abandoned: false,
                is_detached: false,
                has_collector: false,
                alarm: None,
                spare,
                spent: None,
                usage: Usage::default(),
                scratch: (Vec::new(), Vec::new()),
            }),
        }))
    }

    /// The token of a new round.
    pub(crate) fn new_token(&self) -> CancelToken {
        let shared = self.region.take_word().ok();
        let word = Arc::new(SharedWord::new(
            shared,
            Arc::clone(&self.wake),
            Weak::clone(&self.me),
        ));
        let token = CancelToken::with_word(Arc::clone(&word) as _);
        let mut state = self.lock();
        let before = (
            state.word.replace(word),
            state.unheard.replace(token.clone()),
        );
        drop(state);
        drop(before);
        token
    }

    /// The word that a child forked now obeys.
    pub(crate) fn word(&self) -> Option<Arc<SharedWord>> {
        self.lock().word.clone()
    }

    /// What the collected children used.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().usage
    }

    /// How many children run.
    pub(crate) fn running(&self) -> usize {
        self.lock().live.len()
    }

    /// Sends every child SIGKILL; returns how many there were. Whoever waits collects them.
    pub(crate) fn kill_all(&self) -> usize {
        let mut state = self.lock();
        for live in &mut state.live {
            live.kill();
        }
        state.live.len()
    }

    /// Takes a child into the books: from here on it is watched.
    pub(crate) fn adopt(&self, forked: Forked, mut task: Box<dyn Settles>) {
        let Forked {
            pid,
            pidfd,
            slot,
            word,
            pipes,
            terms,
            origin,
        } = forked;
        let capture = pipes.into_capture(task.ticket().id());
        let Some(pidfd) = pidfd else {
            keep_tail(capture.as_deref(), &mut *task);
            task.settle(End {
                slot,
                ending: Ending::Vanished,
                usage: None,
                value_bytes_max: self.settings.value_bytes_max,
                was_pressed: false,
                terms,
            });
            return;
        };
        let now = Instant::now();
        let mut live = Live {
            serial: 0,
            pid,
            pidfd,
            slot,
            word,
            expires_at: task.ticket().expires_at(),
            task,
            terms,
            capture,
            cancelled_at: None,
            sent: Sent::Nothing,
            origin,
            watch: stuck::Watch::new(now, self.settings.stuck_after),
        };
        let mut state = self.lock();
        state.spent = None;
        live.serial = state.next_serial;
        state.next_serial += 1;
        // Cancelled between the fork and here: nobody has told this child's alarm yet.
        let is_pressing = live.expires_at.is_some()
            || live.capture.is_some()
            || live.word.as_ref().is_some_and(|word| word.is_set());
        state.captures += usize::from(live.capture.is_some());
        state.live.push(live);
        state.since_sweep += 1;
        let is_due = state.since_sweep >= SWEEP_MIN.max(state.live.len() / SWEEP_SHARE);
        // Those who wait now do not have this child on their lists.
        self.wake_pollers(&mut state);
        if is_pressing {
            self.keep_time(&mut state, now);
        }
        self.have_collected(state);
        if is_due {
            self.sweep();
        }
    }

    /// Collects who has ended, without waiting; returns whether anyone had.
    pub(crate) fn sweep(&self) -> bool {
        self.lock().since_sweep = 0;
        self.round(None, Some(Instant::now()))
    }

    /// Waits until a child ends or `until`, whichever is first; returns whether one did.
    pub(crate) fn wait_for_any(&self, until: Instant) -> bool {
        !capture::is_passing_on() && self.round(None, Some(until))
    }

    /// Has the child with this number ended as one whose time is up: SIGTERM now, SIGKILL after the grace. False where there is no
    /// such child, any more or yet.
    pub(crate) fn expire(&self, pid: u32) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let live = state.live.iter_mut().find(|live| live.pid == pid);
        let Some(live) = live else {
            return false;
        };
        live.expires_at = Some(live.expires_at.map_or(now, |at| at.min(now)));
        self.keep_time(&mut state, now);
        true
    }

    /// Wakes whoever waits in a round.
    pub(crate) fn ring(&self) {
        sys::eventfd_set(std::os::fd::AsRawFd::as_raw_fd(&*self.wake));
    }

    /// What wakes them, for a child.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The group was let go of: whenever there are children from now on, a thread collects them.
    pub(crate) fn detach(&self) {
        let mut state = self.lock();
        state.is_detached = true;
        self.have_collected(state);
    }

    /// Starts the thread that collects the children of a group that was let go of, if there are any and none runs.
    fn have_collected(&self, mut state: MutexGuard<'_, State>) {
        if !state.is_detached || state.has_collector || state.live.is_empty() {
            return;
        }
        let Some(reaper) = self.me.upgrade() else {
            return;
        };
        state.has_collector = true;
        drop(state);
        let thread = thread::Builder::new().name("multi-reaper".into());
        let collector = Arc::clone(&reaper);
        if let Err(error) = thread.spawn(move || collector.collect_all()) {
            self.lock().has_collector = false;
            stuck::print(&[format!(
                "a detached group's tasks will not be collected: {error}"
            )]);
            // They run on; with the books would go what ties them to this process, and end them.
            let _kept = Arc::into_raw(reaper);
        }
    }

    /// Collects children until none is left.
    fn collect_all(&self) {
        loop {
            // Before the look: what ends after it makes the key old.
            let key = self.key();
            let mut state = self.lock();
            if state.live.is_empty() {
                // Under the same lock: the next child starts the next thread.
                state.has_collector = false;
                return;
            }
            drop(state);
            self.wait(key, None);
        }
    }

    /// A round was cancelled, in this process.
    pub(crate) fn cancelled(&self) {
        let mut state = self.lock();
        self.keep_time(&mut state, Instant::now());
        state.key += 1;
        self.wake_pollers(&mut state);
    }

    /// The group is being dropped: once it is cancelled, SIGTERM is due at once.
    pub(crate) fn abandon(&self) {
        self.lock().is_abandoned = true;
    }

    /// Makes sure that the next child can be watched.
    pub(crate) fn reserve_descriptor(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.spare.is_none() {
            state.spare = state.spent.take();
        }
        if state.spare.is_none() {
            state.spare = Some(sys::duplicate(self.wake.as_fd())?);
        }
        Ok(())
    }

    /// Lets the reserve go, for a descriptor that is needed now; returns whether there was one.
    pub(crate) fn release_descriptor(&self) -> bool {
        let mut state = self.lock();
        state.spent.take().or_else(|| state.spare.take()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_pollers(&self, state: &mut State) {
        if state.pollers > 0 && !state.is_signalled {
            state.is_signalled = true;
            sys::eventfd_set(std::os::fd::AsRawFd::as_raw_fd(&*self.wake));
        }
    }
}

impl Event for Reaper {
    fn key(&self) -> u64 {
        assert!(
            self.owner.is_here(),
            "{}",
            self.owner.complaint("this group")
        );
        self.lock().key
    }

    fn wait(&self, key: u64, until: Option<Instant>) {
        assert!(
            self.owner.is_here(),
            "{}",
            self.owner.complaint("this group")
        );
        self.round(Some(key), until);
    }

    fn notify(&self) {
        // A child's copy of the lock may be held for ever, and nobody there waits for the parent's tasks.
        if !self.owner.is_here() {
            return;
        }
        let mut state = self.lock();
        state.key += 1;
        self.wake_pollers(&mut state);
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper")
            .field("owner", &self.owner.pid())
            .finish_non_exhaustive()
    }
}
