//! The rules of [`SpawnFn`]: functions and their arguments, on whatever runs them.
//!
//! They use functions that capture nothing and arguments that can be written down, and see what calls did by the values that come home:
//! a backend that can run nothing else, in whatever process or place, can be run through them.

mod calls;
mod failures;
mod gate;
mod residue;
mod time;

use super::{Rule, Subject};
use crate::group::SpawnFn;
use crate::options::{BuildError, GroupOptions};
use std::time::Duration;

/// What the report calls this part of the contract.
const CONTRACT: &str = "SpawnFn";

/// What runs functions, as the rules see it. Every [`Subject`] is one.
pub trait FnSubject: 'static {
    /// What the table calls it.
    const NAME: &'static str;

    /// Whether a call has a process that may end without the program.
    const IS_PROCESS: bool = false;

    /// Why a function cannot make a group of its own and wait for it, if it cannot.
    ///
    /// # Errors
    ///
    /// The reason.
    const NESTED: Result<(), &'static str> = Ok(());

    /// What is under test. It runs at least two calls at once, unless its limit is one.
    type Group: SpawnFn<(), u64> + SpawnFn<u64, u64> + SpawnFn<String, String> + Send + 'static;

    /// One with these options.
    ///
    /// # Errors
    ///
    /// What the backend's builder says.
    fn group(options: GroupOptions) -> Result<Self::Group, BuildError>;

    /// Sleeps in a call.
    fn sleep(duration: Duration);

    /// Calls `while_refused` while the system refuses to start calls, or says why that cannot be brought about.
    ///
    /// # Errors
    ///
    /// Why the rule does not apply.
    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str>;

    /// Groups that the residue rule makes and drops.
    const RESIDUE_GROUPS: usize = 100;
}

impl<S: Subject> FnSubject for S {
    const NAME: &'static str = S::NAME;
    const IS_PROCESS: bool = S::IS_PROCESS;
    type Group = S::Group;

    fn group(options: GroupOptions) -> Result<Self::Group, BuildError> {
        S::group(options)
    }

    fn sleep(duration: Duration) {
        S::sleep(duration);
    }

    fn with_starts_refused(while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        S::with_starts_refused(while_refused)
    }
}

/// Every rule of [`SpawnFn`], for one backend.
#[must_use]
pub fn fn_rules<S: FnSubject>() -> Vec<Rule> {
    let mut rules = Vec::new();
    rules.extend(calls::rules::<S>());
    rules.extend(failures::rules::<S>());
    rules.extend(time::rules::<S>());
    rules.extend(residue::rules::<S>());
    rules
}

/// Lists the rules of a file: `fn_rule_list![a, b]` makes `rules::<S>()`.
macro_rules! fn_rule_list {
    ($($name:ident),+ $(,)?) => {
        pub(super) fn rules<S: $crate::conformance::FnSubject>() -> Vec<$crate::conformance::Rule> {
            vec![$($crate::conformance::Rule {
                contract: $crate::conformance::functions::CONTRACT,
                name: stringify!($name),
                run: $name::<S>,
            }),+]
        }
    };
}
use fn_rule_list;

/// A group with the default options.
fn group<S: FnSubject>() -> S::Group {
    with::<S>(GroupOptions::new())
}

fn with<S: FnSubject>(options: GroupOptions) -> S::Group {
    match S::group(options) {
        Ok(group) => group,
        Err(error) => panic!("the backend refuses the options: {error}"),
    }
}
