//! Tasks that are futures: no stack while they wait.

use std::panic::Location;
use std::sync::Arc;

use multi_core::ledger::Ticket;
use multi_core::{Handle, Promise, Result, TaskErrorKind, TaskOptions};

use super::{Go, Group, Inner, Place, Spawn, Spawner, told};
use crate::future::{When, block_on};
use crate::sched::{Info, Lane, Shared, Verdict};
use crate::stack::Class;

/// # Tasks without a stack
///
/// A future can be a task too. It is polled by the workers, on whatever stack is at hand, and has none of its own while it waits: a
/// few hundred bytes instead of a few thousand. What was said of tasks holds for them: errors, panics, the limit, time limits,
/// cancelling by token, a `wait` that waits for them.
///
/// - Each poll may be on another worker; so futures are `Send`, and a value of a [`task_local!`](crate::task_local) lasts for one poll.
/// - A poll runs in a task: it may wait as tasks do, and keeps a stack and its worker until it returns.
/// - Any waker may be used from any thread, at any time, after the task's end as well. In a forked child it does nothing.
/// - Timers and sockets of other runtimes need their own reactors, which are not here. What is here: channels
///   ([`recv_async`](crate::Receiver::recv_async), [`send_async`](crate::Sender::send_async)), and whatever needs nothing but its
///   waker.
impl Group {
    /// Starts a future as a task.
    ///
    /// ```
    /// use multi_goro::{Group, chan};
    ///
    /// let (tx, rx) = chan(0);
    /// let mut group = Group::new();
    /// group.go_async(async move {
    ///     assert_eq!(rx.recv_async().await?, 7);
    ///     Ok(())
    /// });
    /// tx.send(7)?;
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn go_async<F>(&self, future: F)
    where
        F: Future<Output = Result> + Send + 'static,
    {
        self.go_async_with(TaskOptions::new(), future);
    }

    /// As [`go_async`](Self::go_async), with a name, a timeout, a token of its own.
    #[track_caller]
    pub fn go_async_with<F>(&self, options: TaskOptions, future: F)
    where
        F: Future<Output = Result> + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.inner.go_async(options, future);
    }

    /// Starts a future as a task and returns the handle of its value.
    ///
    /// ```
    /// let group = multi_goro::Group::new();
    /// let answer = group.spawn_async(async { Ok(6 * 7) });
    /// assert_eq!(answer.join()?, 42);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn spawn_async<T, F>(&self, future: F) -> Handle<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.spawn_async_with(TaskOptions::new(), future)
    }

    /// As [`spawn_async`](Self::spawn_async), with options.
    #[track_caller]
    pub fn spawn_async_with<T, F>(&self, options: TaskOptions, future: F) -> Handle<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.inner.spawn_async(options, future)
    }

    /// Starts a task that waits for one operation without a stack, and then runs `task` with its result, on a stack, as
    /// [`go`](Self::go) does.
    ///
    /// The operation is a future: [`Receiver::when_recv`](crate::Receiver::when_recv), say. It is gone when `task` begins.
    ///
    /// ```
    /// use multi_goro::{Group, chan};
    ///
    /// let (tx, rx) = chan::<u32>(0);
    /// let (reply, replies) = chan(0);
    /// let mut group = Group::new();
    /// group.go_when(rx.when_recv(), move |number| Ok(reply.send(number? + 1)?));
    /// tx.send(41)?;
    /// assert_eq!(replies.recv()?, 42);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn go_when<O, F>(&self, operation: O, task: F)
    where
        O: Future + Send + 'static,
        F: FnOnce(O::Output) -> Result + Send + 'static,
    {
        self.go_when_with(TaskOptions::new(), operation, task);
    }

    /// As [`go_when`](Self::go_when), with options.
    #[track_caller]
    pub fn go_when_with<O, F>(&self, options: TaskOptions, operation: O, task: F)
    where
        O: Future + Send + 'static,
        F: FnOnce(O::Output) -> Result + Send + 'static,
    {
        self.go_async_with(options, When::new(operation, task));
    }
}

/// # Tasks without a stack
///
/// As those of [`Group`].
impl Spawner {
    /// Starts a future as a task: see [`Group::go_async`].
    #[track_caller]
    pub fn go_async<F>(&self, future: F)
    where
        F: Future<Output = Result> + Send + 'static,
    {
        self.go_async_with(TaskOptions::new(), future);
    }

    /// As [`go_async`](Self::go_async), with options.
    #[track_caller]
    pub fn go_async_with<F>(&self, options: TaskOptions, future: F)
    where
        F: Future<Output = Result> + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.inner.go_async(options, future);
    }

    /// Starts a task that waits for one operation without a stack: see [`Group::go_when`]. A task started in this way may start its
    /// own successor:
    ///
    /// ```
    /// use multi_goro::{Group, Receiver, Sender, Spawner, chan};
    ///
    /// /// Passes on each value, one more; no stack in between.
    /// fn stage(spawner: Spawner, rx: Receiver<u32>, tx: Sender<u32>) {
    ///     let next = rx.when_recv();
    ///     spawner.clone().go_when(next, move |value| {
    ///         if let Ok(value) = value {
    ///             tx.send(value + 1)?;
    ///             stage(spawner, rx, tx);
    ///         }
    ///         Ok(())
    ///     });
    /// }
    ///
    /// let (first, rx) = chan(0);
    /// let (tx, last) = chan(0);
    /// let mut group = Group::new();
    /// stage(group.spawner(), rx, tx);
    /// for n in 0..3 {
    ///     first.send(n)?;
    ///     assert_eq!(last.recv()?, n + 1);
    /// }
    /// drop(first);
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[track_caller]
    pub fn go_when<O, F>(&self, operation: O, task: F)
    where
        O: Future + Send + 'static,
        F: FnOnce(O::Output) -> Result + Send + 'static,
    {
        self.go_when_with(TaskOptions::new(), operation, task);
    }

    /// As [`go_when`](Self::go_when), with options.
    #[track_caller]
    pub fn go_when_with<O, F>(&self, options: TaskOptions, operation: O, task: F)
    where
        O: Future + Send + 'static,
        F: FnOnce(O::Output) -> Result + Send + 'static,
    {
        self.go_async_with(options, When::new(operation, task));
    }
}

impl Inner {
    #[track_caller]
    fn go_async<F>(self: &Arc<Self>, options: TaskOptions, future: F)
    where
        F: Future<Output = Result> + Send + 'static,
    {
        let here = Arc::clone(self);
        self.ledger.launch(options, move |ticket| {
            if let Some(start) = here.polled_place(&ticket) {
                start.spawn(future, ticket);
            } else {
                let task = move || block_on(future);
                here.start(Go { ticket, task });
            }
        });
    }

    #[track_caller]
    fn spawn_async<T, F>(self: &Arc<Self>, options: TaskOptions, future: F) -> Handle<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let here = Arc::clone(self);
        let event = Arc::new(self.place.event());
        self.ledger
            .launch_with(options, event, move |ticket, promise| {
                if let Some(start) = here.polled_place(&ticket) {
                    start.spawn(future, (ticket, promise));
                } else {
                    here.start(Spawn {
                        ticket,
                        promise,
                        task: move || block_on(future),
                    });
                }
            })
    }

    /// Where a future is polled; `None` where it has a thread to itself.
    fn polled_place(&self, ticket: &Ticket) -> Option<PolledPlace<'_>> {
        match &self.place {
            Place::Green {
                shared,
                class,
                lane,
                placement: _,
                hold: _,
            } => Some(PolledPlace {
                shared,
                class: *class,
                lane: *lane,
                info: self.info_of(ticket, Some(ticket.started_at())),
            }),
            Place::Locked => None,
        }
    }
}

struct PolledPlace<'a> {
    shared: &'a Arc<Shared>,
    class: Class,
    lane: Lane,
    info: Info,
}

impl PolledPlace<'_> {
    fn spawn<T, F, V>(self, future: F, verdict: V)
    where
        F: Future<Output = Result<T>> + Send + 'static,
        V: Verdict<T>,
    {
        self.shared
            .spawn_polled(self.lane, self.class, self.info, future, verdict);
    }
}

impl Verdict<()> for Ticket {
    fn settle(self, outcome: Result<(), TaskErrorKind>) {
        told(|| self.settle(outcome));
    }
}

impl<T: Send + 'static> Verdict<T> for (Ticket, Promise<T>) {
    fn settle(self, outcome: Result<T, TaskErrorKind>) {
        let (ticket, promise) = self;
        told(|| ticket.settle_with(promise, outcome));
    }
}
