//! The contract's rules, over forked processes and over a pool of them.

mod support;

use multi_core::conformance::{FnSubject, Subject};
use multi_core::{BuildError, CancelToken, GroupOptions};
use std::time::Duration;

struct Proc;

impl Subject for Proc {
    const NAME: &'static str = "proc";
    const IS_PROCESS: bool = true;
    type Group = multi_proc::Group;

    #[expect(
        unsafe_code,
        reason = "the rules' threads hold no locks that tasks take"
    )]
    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        let builder = multi_proc::Group::builder().options(options);
        // SAFETY: the rules' other threads hold no lock that a task takes.
        unsafe { builder.fork() }
    }

    fn detach(group: Self::Group) {
        group.detach();
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn flag() -> CancelToken {
        multi_proc::shared_token().expect("shared memory")
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        let _limited = support::sys::refuse_forks();
        while_refused();
        Ok(())
    }
}

struct Pool;

impl FnSubject for Pool {
    const NAME: &'static str = "proc pool";
    const IS_PROCESS: bool = true;
    type Group = multi_proc::Pool;

    #[expect(
        unsafe_code,
        reason = "the rules' threads hold no locks that jobs take"
    )]
    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        let builder = multi_proc::Pool::builder().workers(2).options(options);
        // SAFETY: as above.
        unsafe { builder.fork() }
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn with_starts_refused(_: &mut dyn FnMut()) -> Result<(), &'static str> {
        Err("a job starts no process: the pool has its workers already")
    }
}

multi_core::conformance!(Proc; functions: Pool);
