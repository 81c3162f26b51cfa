//! Code during which no other task may run on the thread.

use crate::sched;

/// Runs `f` without letting another task onto the thread: a wait inside blocks the thread, as it would a plain one, and a yield does
/// nothing.
///
/// For code that saves and restores something of the thread's around a callback (the scoped thread-local crates, a library's "current
/// context"), where the callback waits: [rule 1](crate#safety-page-five-rules) of the safety page. It may be nested. On a plain
/// thread it is a call.
///
/// ```
/// use std::cell::Cell;
///
/// thread_local! { static CURRENT: Cell<u32> = const { Cell::new(0) } }
///
/// /// As such libraries do it.
/// fn with_current(value: u32, f: impl FnOnce()) {
///     let before = CURRENT.replace(value);
///     f();
///     CURRENT.set(before);
/// }
///
/// let mut group = multi_goro::Group::new();
/// for n in 1..4 {
///     group.go(move || {
///         multi_goro::no_switch(|| {
///             with_current(n, || {
///                 multi_goro::yield_now();
///                 assert_eq!(CURRENT.get(), n);
///             })
///         });
///         Ok(())
///     });
/// }
/// group.wait()?;
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
///
/// **A wait inside for a task that has run on the same worker never ends**: that task needs the thread which waits for it. Receive
/// from plain threads and [`OsThread`](crate::OsThread)s, sleep, lock briefly; do not wait for a group, a channel or a lock in the hands
/// of tasks. [`task_local!`](crate::task_local) has no such limits.
pub fn no_switch<R>(f: impl FnOnce() -> R) -> R {
    let _stay = sched::stay();
    f()
}
