//! Tasks bound to a thread that has a loop of its own.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OsThread, OsThreadError, own_name, unseated};
use crate::sched::{self, Lent};

/// The calling thread as an [`OsThread`], whose tasks run when the owner of the thread's loop says so: for a thread that is
/// in the hands of a window system or another event loop.
///
/// It is a descriptor that is readable when there is something to run: put it into the loop (epoll, `glib`, `calloop`, `mio`),
/// and call [`run_for`](Self::run_for) when it is. That includes sleeps and deadlines of the tasks, so the loop needs no timer of
/// its own for them.
///
/// ```
/// use multi_goro::ThreadLoop;
/// use std::time::Duration;
///
/// let mut tasks = ThreadLoop::new()?;
/// let thread = tasks.thread();
/// let asking = std::thread::spawn(move || thread.run(|| 6 * 7));
/// while !asking.is_finished() {
///     // A real loop waits here for `tasks` and everything else to be readable.
///     tasks.run_for(Duration::from_millis(5));
/// }
/// assert_eq!(asking.join().unwrap(), 42);
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
///
/// Its owner may not wait for its tasks instead of running them: on the loop's own thread, outside of tasks, a group's `wait` and a handle's
/// `join` panic if bound tasks are left, and a group that is dropped cancels its tasks and lets them go.
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>() {}
/// needs_send::<multi_goro::ThreadLoop>();
/// ```
///
/// Dropped, it takes no more tasks and runs those it has to their end. A drop while a panic unwinds cannot do that: tasks that have not
/// started are refused then, with an error for who waits for them; those that have never end, nor does a wait for them, which is
/// reported on standard error.
pub struct ThreadLoop {
    /// Taken when it is dropped only.
    lent: Option<Lent>,
    thread: OsThread,
}

impl ThreadLoop {
    /// Makes the calling thread an [`OsThread`].
    ///
    /// # Errors
    ///
    /// [`is_in_task`](OsThreadError::is_in_task); [`is_refused`](OsThreadError::is_refused): the system gives no descriptor.
    pub fn new() -> Result<Self, OsThreadError> {
        if sched::on_task().is_some() {
            return Err(OsThreadError::in_task());
        }
        let unseated = unseated(&own_name(), true)?;
        let thread = OsThread::with(Arc::clone(unseated.shared()), None);
        Ok(Self {
            lent: Some(unseated.lend()),
            thread,
        })
    }

    /// A handle to start tasks with, from anywhere.
    ///
    /// ```
    /// use multi_goro::ThreadLoop;
    ///
    /// let mut tasks = ThreadLoop::new()?;
    /// let handle = tasks.thread();
    /// handle.go(|| Ok(()));
    /// tasks.run_ready(10);
    /// assert_eq!(handle.num_tasks(), 0);
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn thread(&self) -> OsThread {
        self.thread.clone()
    }

    /// Runs what is ready, for about `time` at most: a task that runs is not interrupted, and is asked to make room when it yields or
    /// waits. Returns whether there is more to run at once; the descriptor is readable then.
    ///
    /// ```
    /// use multi_goro::ThreadLoop;
    ///
    /// let mut tasks = ThreadLoop::new()?;
    /// let (tx, rx) = multi_goro::chan(1);
    /// tasks.thread().go(move || Ok(tx.send("drawn")?));
    /// // Once a frame, say.
    /// while tasks.run_for(std::time::Duration::from_millis(4)) {}
    /// assert_eq!(rx.try_recv()?, "drawn");
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If called in a task.
    #[track_caller]
    pub fn run_for(&mut self, time: Duration) -> bool {
        self.run(u32::MAX, Instant::now().checked_add(time))
    }

    /// As [`run_for`](Self::run_for), for `turns` turns at most; a turn ends when its task waits, yields or ends.
    ///
    /// ```
    /// use multi_goro::ThreadLoop;
    ///
    /// let mut tasks = ThreadLoop::new()?;
    /// tasks.thread().go(|| Ok(()));
    /// tasks.thread().go(|| Ok(()));
    /// assert!(tasks.run_ready(1), "the second is left");
    /// assert!(!tasks.run_ready(10));
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If called in a task.
    #[track_caller]
    pub fn run_ready(&mut self, turns: u32) -> bool {
        self.run(turns, None)
    }

    #[track_caller]
    fn run(&mut self, turns: u32, until: Option<Instant>) -> bool {
        assert!(
            sched::on_task().is_none(),
            "a task cannot run the loop of a ThreadLoop; call it from the thread's own loop"
        );
        // Tasks would see the panic as their own. A forked child has none of the tasks.
        if std::thread::panicking() || self.is_foreign() {
            return false;
        }
        self.lent().run(turns, until)
    }

    /// When the next sleep or deadline of a task is due; the descriptor is readable from then on.
    ///
    /// ```
    /// use multi_goro::ThreadLoop;
    ///
    /// let mut tasks = ThreadLoop::new()?;
    /// tasks.thread().go(|| Ok(multi_goro::sleep(std::time::Duration::from_millis(2))));
    /// tasks.run_ready(10);
    /// assert!(tasks.next_deadline().is_some());
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lent().next_deadline()
    }

    fn lent(&self) -> &Lent {
        self.lent.as_ref().expect("taken when it is dropped only")
    }

    fn is_foreign(&self) -> bool {
        self.thread.hold.shared.check_process().is_err()
    }
}

impl AsFd for ThreadLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lent().descriptor()
    }
}

impl AsRawFd for ThreadLoop {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for ThreadLoop {
    fn drop(&mut self) {
        let lent = self.lent.take().expect("dropped once");
        if self.is_foreign() {
            lent.forget();
            return;
        }
        self.thread.hold.shared.close();
        // In a task it would be another worker's thread that waits.
        if !std::thread::panicking() && sched::on_task().is_none() {
            lent.finish();
            return;
        }
        lent.abandon();
        let left = self.thread.num_tasks();
        if left > 0 {
            report(&format!(
                "multi-goro: the loop of OS thread \"{}\" was dropped by a panic; {left} tasks never run again\n",
                self.thread.name()
            ));
        }
    }
}

fn report(text: &str) {
    crate::sys::write_error(text.as_bytes());
}

impl fmt::Debug for ThreadLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadLoop")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
