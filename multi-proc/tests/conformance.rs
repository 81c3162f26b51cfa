//! The contract's rules, over forked processes.

mod support;

use multi_core::conformance::Subject;
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

multi_core::conformance!(Proc);
