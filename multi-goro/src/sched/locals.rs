//! What a task keeps for itself beside its stack: `task_local!` values. A plain thread has such a set, too.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use super::current;
use super::task::Header;

/// Times that dropping a task's values may bring forth new ones; what is left then stays until the task is freed.
const ROUNDS_MAX: usize = 4;

/// A task's or thread's values, by key. Few, so a list.
///
/// Counted: who looks at a value keeps it, whatever becomes of the entry meanwhile.
#[derive(Default)]
pub(crate) struct Locals(Vec<(usize, Rc<dyn Any>)>);

thread_local! {
    static THREAD: RefCell<Locals> = RefCell::default();
}

impl Locals {
    pub(crate) fn get(&self, key: usize) -> Option<Rc<dyn Any>> {
        let (_, value) = self.0.iter().find(|(k, _)| *k == key)?;
        Some(Rc::clone(value))
    }

    /// Puts a value in the place of the one before, or of none; returns that. `None` removes.
    pub(crate) fn replace(
        &mut self,
        key: usize,
        value: Option<Rc<dyn Any>>,
    ) -> Option<Rc<dyn Any>> {
        let at = self.0.iter().position(|(k, _)| *k == key);
        match (at, value) {
            (Some(at), Some(value)) => Some(std::mem::replace(&mut self.0[at].1, value)),
            (Some(at), None) => Some(self.0.swap_remove(at).1),
            (None, Some(value)) => {
                self.0.push((key, value));
                None
            }
            (None, None) => None,
        }
    }
}

/// Uses the running task's values, which the forked child of a task has a copy of, or the thread's where no task runs; `None` if the thread's are gone already. `look` must not run
/// anything of the user's.
pub(crate) fn with_locals<R>(look: impl FnOnce(&mut Locals) -> R) -> Option<R> {
    let Some(header) = current::underfoot() else {
        return THREAD
            .try_with(|locals| look(&mut locals.borrow_mut()))
            .ok();
    };
    let mut locals = header.take_locals().unwrap_or_default();
    let result = look(&mut locals);
    header.set_locals(locals);
    Some(result)
}

/// Drops the values of a task that has run, on its stack.
pub(super) fn drop_locals(header: &Header) {
    for _ in 0..ROUNDS_MAX {
        let Some(locals) = header.take_locals() else {
            return;
        };
        for (_, value) in locals.0 {
            // The panic of a destructor has been printed by the hook; the task's outcome is settled.
            drop(multi_core::panic::catch(|| drop(value)));
        }
    }
}
