//! The contract of multi-core, kept by green tasks and by locked ones.

use multi_core::conformance::Subject;
use multi_core::{BuildError, CancelToken, GroupOptions};
use multi_goro::{Group, OsThread};
use std::sync::OnceLock;
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

multi_core::conformance!(Green, Locked, Bound);
