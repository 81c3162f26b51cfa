//! The contract of multi-core, kept by threads.

use multi_core::conformance::Subject;
use multi_core::{BuildError, CancelToken, GroupOptions};
use std::time::Duration;

mod refuse;

struct Pthread;

impl Subject for Pthread {
    const NAME: &'static str = "pthread";
    type Group = multi_pthread::Group;

    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        multi_pthread::Group::builder().options(options).build()
    }

    fn detach(group: Self::Group) {
        group.detach();
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn flag() -> CancelToken {
        CancelToken::new()
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        refuse::new_threads_and_processes(while_refused)
    }
}

multi_core::conformance!(Pthread);
