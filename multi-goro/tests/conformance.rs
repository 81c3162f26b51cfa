//! The contract of multi-core, kept by green tasks, by locked and bound ones, and by those that are futures.

use multi_core::conformance::Subject;
use multi_core::{
    BuildError, CancelToken, GroupError, GroupOptions, Handle, Progress, Result, TaskOptions,
    TryGoError, WaitTimeoutError,
};
use multi_goro::{Group, OsThread};
use std::future::poll_fn;
use std::panic::Location;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Duration;

#[path = "../../multi-pthread/tests/refuse/mod.rs"]
mod refuse;

struct Green;

impl Subject for Green {
    const NAME: &'static str = "goro";
    type Group = Group;

    fn group(options: GroupOptions) -> Result<Group, BuildError> {
        Group::builder().options(options).build()
    }

    fn detach(group: Group) {
        group.detach();
    }

    fn sleep(duration: Duration) {
        multi_goro::sleep(duration);
    }

    fn flag() -> CancelToken {
        multi_goro::cancel_token()
    }

    fn with_starts_refused(_while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        Err(
            "a task starts in memory its worker has already; tests/solo.rs takes that away in a child",
        )
    }
}

struct Locked;

impl Subject for Locked {
    const NAME: &'static str = "goro locked";
    type Group = Group;

    fn group(options: GroupOptions) -> Result<Group, BuildError> {
        Group::builder().options(options).locked(true).build()
    }

    fn detach(group: Group) {
        group.detach();
    }

    fn sleep(duration: Duration) {
        multi_goro::sleep(duration);
    }

    fn flag() -> CancelToken {
        multi_goro::cancel_token()
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        refuse::new_threads_and_processes(while_refused)
    }
}

/// Tasks bound to one thread.
struct Bound;

impl Subject for Bound {
    const NAME: &'static str = "goro bound";
    type Group = Group;

    fn group(options: GroupOptions) -> Result<Group, BuildError> {
        static THREAD: OnceLock<OsThread> = OnceLock::new();
        let thread = THREAD.get_or_init(|| OsThread::spawn("bound").expect("a thread"));
        Group::builder().options(options).os_thread(thread).build()
    }

    fn detach(group: Group) {
        group.detach();
    }

    fn sleep(duration: Duration) {
        multi_goro::sleep(duration);
    }

    fn flag() -> CancelToken {
        multi_goro::cancel_token()
    }

    fn with_starts_refused(_while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        Err("as for green tasks: a task starts in memory its worker has already")
    }
}

/// Green tasks that are futures: each waits once, without a stack, before it does what it is to do.
struct Polled;

struct PolledGroup(Group);

#[derive(Clone)]
struct PolledSpawner(multi_goro::Spawner);

async fn later<T>(task: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut has_waited = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    task()
}

impl multi_core::Tasks for PolledGroup {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.0.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.0.wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.0.cancel_token()
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }
}

impl multi_core::Group for PolledGroup {
    type Spawner = PolledSpawner;

    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.0.go_async_with(options, later(task));
    }

    /// A future cannot be given back as the closure it was made of; so this one is not one.
    #[track_caller]
    fn try_go_with<F>(&self, options: TaskOptions, task: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        self.0.try_go_with(options, task)
    }

    fn spawner(&self) -> PolledSpawner {
        PolledSpawner(self.0.spawner())
    }
}

impl<T: Send + 'static> multi_core::Spawn<T> for PolledGroup {
    #[track_caller]
    fn spawn_with<F>(&self, options: TaskOptions, task: F) -> Handle<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.0.spawn_async_with(options, later(task))
    }
}

impl multi_core::Spawner for PolledSpawner {
    #[track_caller]
    fn go_with<F>(&self, options: TaskOptions, task: F)
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let options = options.started_at(Location::caller());
        self.0.go_async_with(options, later(task));
    }
}

impl Subject for Polled {
    const NAME: &'static str = "goro futures";
    type Group = PolledGroup;

    fn group(options: GroupOptions) -> Result<PolledGroup, BuildError> {
        Group::builder().options(options).build().map(PolledGroup)
    }

    fn detach(group: PolledGroup) {
        group.0.detach();
    }

    fn sleep(duration: Duration) {
        multi_goro::sleep(duration);
    }

    fn flag() -> CancelToken {
        multi_goro::cancel_token()
    }

    fn with_starts_refused(_while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        Err("as for green tasks: a task starts in memory its worker has already")
    }
}

multi_core::conformance!(Green, Locked, Bound, Polled);
