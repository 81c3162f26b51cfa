//! Tasks that have an OS thread each.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use multi_core::{Result, TaskOptions};

use super::{Body, Go, Group, Inner, Spawner};
use crate::stack::Class;
use crate::sync::{AtomicBool, Ordering::*, OsMutex, lock};

/// Stack of a locked task's thread unless the builder says otherwise: what `std::thread` gives.
const STACK_BYTES: usize = 2 * 1024 * 1024;

thread_local! {
    /// Whether this thread is a locked task's.
    static LOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a locked task.
pub(crate) fn is_locked() -> bool {
    LOCKED.get()
}

impl Group {
    /// Starts one task with an OS thread of its own, which ends with it, among the group's others: as in a
    /// [locked](Group::locked) group.
    ///
    /// `wait` waits for the thread's end, its thread-local destructors with it, and a task that calls it keeps its worker for that moment: so these
    /// must not wait for tasks.
    ///
    /// ```
    /// let mut group = multi_goro::Group::new();
    /// let (tx, rx) = multi_goro::chan(0);
    /// group.go_locked(move || Ok(tx.send(std::thread::current().id())?));
    /// group.go(move || {
    ///     assert_ne!(rx.recv()?, std::thread::current().id());
    ///     Ok(())
    /// });
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn go_locked<F>(&self, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.go_locked_with(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// As [`go_locked`](Self::go_locked), with a name (the thread's, too), a timeout, a token of its own.
    #[track_caller]
    pub fn go_locked_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.inner
            .go_locked(options.started_at(Location::caller()), task);
    }
}

impl Spawner {
    /// Starts one task with an OS thread of its own: see [`Group::go_locked`].
    #[track_caller]
    pub fn go_locked<F>(&self, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.go_locked_with(TaskOptions::new().started_at(Location::caller()), task);
    }

    /// Starts one task with an OS thread of its own, and with options: see [`Group::go_locked_with`].
    #[track_caller]
    pub fn go_locked_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.inner
            .go_locked(options.started_at(Location::caller()), task);
    }
}

impl Inner {
    pub(super) fn go_locked<F>(self: &Arc<Self>, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let here = Arc::clone(self);
        self.ledger.launch(options, move |ticket| {
            here.start_locked(Go { ticket, task });
        });
    }
}

/// The threads of one group's locked tasks.
pub(super) struct Threads {
    stack_bytes: usize,
    state: OsMutex<State>,
}

#[derive(Default)]
struct State {
    live: Vec<Thread>,
    is_detached: bool,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Set when the task is settled: joining the thread takes a moment only.
    has_ended: Arc<AtomicBool>,
}

impl Threads {
    pub(super) fn new(class: Option<Class>) -> Self {
        Self {
            stack_bytes: class.map_or(STACK_BYTES, Class::bytes),
            state: OsMutex::default(),
        }
    }

    /// Starts a thread for a task, or gives the task back.
    pub(super) fn start<B: Body>(&self, body: B) -> Result<(), (io::Error, B)> {
        let has_ended = Arc::new(AtomicBool::new(false));
        let mut builder = thread::Builder::new().stack_size(self.stack_bytes);
        if let Some(name) = body.ticket().name() {
            builder = builder.name(name.to_owned());
        }
        // std drops the closure of a thread that it cannot start; the task itself is kept here.
        let parcel = Arc::new(OsMutex::new(Some(body)));
        let started = {
            let (parcel, has_ended) = (Arc::clone(&parcel), Arc::clone(&has_ended));
            builder.spawn(move || {
                let body = lock(&parcel).take().expect("taken once");
                drop(parcel);
                LOCKED.set(true);
                body.ticket().lineage().enter();
                let end = body.run();
                // It may run destructors of the task's, of which nobody knows what they wait for.
                B::end(end);
                // Release: pairs with the Acquire in `join_ended`.
                has_ended.store(true, Release);
            })
        };
        match started {
            Ok(handle) => {
                let mut state = lock(&self.state);
                if !state.is_detached {
                    state.live.push(Thread { handle, has_ended });
                    // Amortised: a group that only starts tasks does not pile up dead threads.
                    if state.live.len() == state.live.capacity() {
                        drop(state);
                        self.join_ended();
                    }
                }
                Ok(())
            }
            Err(error) => {
                let body = lock(&parcel).take().expect("the thread never ran");
                Err((error, body))
            }
        }
    }

    /// Joins the threads whose tasks have ended. Waits for none.
    pub(super) fn join_ended(&self) {
        // Acquire: pairs with the Release in `start`.
        self.join_those(|thread| thread.has_ended.load(Acquire));
    }

    /// Joins every thread; for a group whose tasks are all settled.
    pub(super) fn join_all(&self) {
        self.join_those(|_| true);
    }

    fn join_those(&self, which: impl Fn(&Thread) -> bool) {
        let mut state = lock(&self.state);
        if state.live.is_empty() {
            return;
        }
        let (ended, live) = std::mem::take(&mut state.live)
            .into_iter()
            .partition::<Vec<_>, _>(which);
        state.live = live;
        drop(state);
        for thread in ended {
            if thread.handle.thread().id() != thread::current().id() {
                // The task's panic was caught and told; what comes after it is ours, and does not panic.
                let _ignored = thread.handle.join();
            }
        }
    }

    /// Lets the threads end by themselves.
    pub(super) fn detach(&self) {
        let mut state = lock(&self.state);
        state.is_detached = true;
        state.live.clear();
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked")
            .field("stack_bytes", &self.stack_bytes)
            .finish_non_exhaustive()
    }
}
