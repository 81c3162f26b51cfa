//! The contract as programs: every backend is run through the same rules.
//!
//! A rule is one function over a [`Subject`], named after what it claims; most of it is the shortest program that would go wrong
//! if the claim were false. A backend's `tests/conformance.rs` is a `harness = false` test with one line:
//!
//! ```text
//! multi_core::conformance!(Pthread);
//! ```
//!
//! That runs the rules of a [`Group`](crate::Group) and those of [`SpawnFn`](crate::SpawnFn), which every group keeps. What runs functions
//! and no closures is an [`FnSubject`] and has the latter alone:
//!
//! ```text
//! multi_core::conformance!(Proc; functions: Pool);
//! ```
//!
//! Rules run one after the other on the main thread: some count the threads, descriptors and children of the whole process,
//! some fork. A watchdog ends a rule that hangs and says where each thread waits. With `MULTI_CONFORMANCE_REPORT=file` each
//! verdict is appended there as a line of JSON, from which `cargo xtask conformance` draws its table.

mod basics;
mod cancelling;
mod failures;
mod functions;
mod limits;
mod luck;
mod residue;
mod run;
mod scenes;
mod tally;
mod timing;
mod values;

use crate::cancel::CancelToken;
use crate::group::Spawn;
use crate::options::{BuildError, GroupOptions};
use std::time::Duration;

pub use functions::{FnSubject, fn_rules};
pub use run::{Suite, run};

/// A backend as the rules see it.
pub trait Subject: 'static {
    /// What the table calls it.
    const NAME: &'static str;

    /// Whether each task has a process, and so a memory, of its own.
    const IS_PROCESS: bool = false;

    /// The group under test.
    type Group: Spawn<()> + Spawn<u64> + Spawn<String> + Send + 'static;

    /// A group with these options.
    ///
    /// # Errors
    ///
    /// What the backend's builder says.
    fn group(options: GroupOptions) -> Result<Self::Group, BuildError>;

    /// The backend's `detach`.
    fn detach(group: Self::Group);

    /// Sleeps in a task.
    fn sleep(duration: Duration);

    /// A token that tasks can wait on and set for each other, whatever divides them.
    fn flag() -> CancelToken;

    /// Calls `while_refused` while the system refuses to start tasks, or says why that cannot be brought about.
    ///
    /// # Errors
    ///
    /// Why the rule does not apply.
    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str>;

    /// Groups that the residue rule makes and drops.
    const RESIDUE_GROUPS: usize = if Self::IS_PROCESS { 1_000 } else { 10_000 };
}

/// What a rule found, where it did not panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend keeps the rule.
    Passed,
    /// The rule asks for what this backend cannot have, and why.
    NotApplicable(&'static str),
}

/// One rule of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whose it is: the name of the trait.
    pub contract: &'static str,
    /// Its claim, as a function name.
    pub name: &'static str,
    /// The program that shows it.
    pub run: fn() -> Verdict,
}

/// Every rule of [`Group`](crate::Group) and [`Spawn`], for one backend.
#[must_use]
pub fn rules<S: Subject>() -> Vec<Rule> {
    let mut rules = Vec::new();
    rules.extend(basics::rules::<S>());
    rules.extend(values::rules::<S>());
    rules.extend(failures::rules::<S>());
    rules.extend(limits::rules::<S>());
    rules.extend(timing::rules::<S>());
    rules.extend(cancelling::rules::<S>());
    rules.extend(luck::rules::<S>());
    rules.extend(residue::rules::<S>());
    rules
}

/// Lists the rules of a file: `rule_list![a, b]` makes `rules::<S>()`.
macro_rules! rule_list {
    ($($name:ident),+ $(,)?) => {
        pub(super) fn rules<S: $crate::conformance::Subject>() -> Vec<$crate::conformance::Rule> {
            vec![$($crate::conformance::Rule {
                contract: "Group",
                name: stringify!($name),
                run: $name::<S>,
            }),+]
        }
    };
}
use rule_list;

/// A group with the default options.
fn group<S: Subject>() -> S::Group {
    with::<S>(GroupOptions::new())
}

fn with<S: Subject>(options: GroupOptions) -> S::Group {
    match S::group(options) {
        Ok(group) => group,
        Err(error) => panic!("the backend refuses the options: {error}"),
    }
}

/// For rules about memory that a task and its owner share.
const NO_SHARED_MEMORY: Verdict = Verdict::NotApplicable(
    "a process has a copy of the group: it cannot start tasks in its parent's",
);

/// Makes `tests/conformance.rs` of a backend: a `main` that runs every rule over each [`Subject`] named, and the rules of
/// [`SpawnFn`](crate::SpawnFn) over each [`FnSubject`] behind `functions:`. A program that has something to do first in `main` calls
/// [`run`] itself.
#[macro_export]
macro_rules! conformance {
    ($($subject:ty),+ $(,)?) => {
        $crate::conformance!($($subject),+; functions: );
    };
    ($($subject:ty),*; functions: $($functions:ty),* $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::conformance::run(&[
                $($crate::conformance::Suite::of::<$subject>(),)*
                $($crate::conformance::Suite::of_functions::<$functions>(),)*
            ])
        }
    };
    (functions: $($functions:ty),+ $(,)?) => {
        $crate::conformance!(; functions: $($functions),+);
    };
}
