//! The contract's rules, over processes: forked, a zygote's, executed, and pools of each.

mod support;

use multi_core::conformance::{FnSubject, Subject, Suite, run};
use multi_core::{BuildError, CancelToken, GroupOptions};
use std::process::ExitCode;
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

struct ZygotePool;

impl FnSubject for ZygotePool {
    const NAME: &'static str = "zygote pool";
    const IS_PROCESS: bool = true;
    type Group = multi_proc::Pool;

    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        let builder = multi_proc::Pool::builder().workers(2);
        builder.options(options).zygote()
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        Pool::with_starts_refused(while_refused)
    }
}

struct SpawnedPool;

impl FnSubject for SpawnedPool {
    const NAME: &'static str = "spawn pool";
    const IS_PROCESS: bool = true;
    type Group = multi_proc::Pool;

    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        let builder = multi_proc::Pool::builder().workers(2);
        builder.options(options).spawn()
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        Pool::with_starts_refused(while_refused)
    }

    const RESIDUE_GROUPS: usize = 10;
}

struct Zygote;

impl FnSubject for Zygote {
    const NAME: &'static str = "zygote";
    const IS_PROCESS: bool = true;
    type Group = multi_proc::FnGroup;

    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        multi_proc::Group::builder().options(options).zygote()
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        let mut group = multi_proc::Group::builder().zygote().expect("a zygote");
        let zygote = group.call(|()| Ok(support::sys::parent_pid()), ());
        let _limited = support::sys::limit_descriptors_of(zygote.expect("a child"), 0);
        while_refused();
        group.wait().map_err(|_| "the zygote's child failed")
    }
}

struct Spawned;

impl FnSubject for Spawned {
    const NAME: &'static str = "spawn";
    const IS_PROCESS: bool = true;
    type Group = multi_proc::FnGroup;

    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        multi_proc::Group::builder().options(options).spawn()
    }

    fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        let _limited = support::sys::refuse_forks();
        while_refused();
        Ok(())
    }

    const RESIDUE_GROUPS: usize = 10;
}

fn main() -> ExitCode {
    multi_proc::init();
    run(&[
        Suite::of::<Proc>(),
        Suite::of_functions::<Pool>(),
        Suite::of_functions::<ZygotePool>(),
        Suite::of_functions::<SpawnedPool>(),
        Suite::of_functions::<Zygote>(),
        Suite::of_functions::<Spawned>(),
    ])
}
