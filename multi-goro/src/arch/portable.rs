//! The context switch of processors that have no file of their own: corosensei's, made symmetric.
//!
//! corosensei goes down from a thread's own stack into a coroutine and back up, and nowhere else. A switch from task to task is
//! therefore two: the task says where it wants to go and suspends; the thread's own stack, which sits in `switch`, resumes that.
//!
//! ```text
//!  stack of a task              thread's own stack
//!  top ┌────────────────┐
//!      │ Fiber          │ ◀── what a saved stack pointer points to
//!      ├────────────────┤
//!      │ corosensei's   │       in `switch`, resuming one fiber after the other
//!      │ frames         │
//!      └────────────────┘
//! ```
//!
//! Built on x86-64 with the feature `portable-switch`, for tests. Other processors are untested.

#![expect(
    unsafe_code,
    reason = "leaving one stack for another is what this file is"
)]

use core::cell::Cell;
use core::num::NonZero;
use core::ptr;

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// What lies at the top of each stack. Never dropped: the next `prepare` writes over it.
#[repr(C, align(16))]
struct Fiber {
    coroutine: Coroutine<(), (), (), Part>,
    /// The way out, once the fiber has been entered.
    yielder: Cell<*const Yielder<(), ()>>,
}

/// The part of a stack below its fiber.
struct Part {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: `prepare`'s caller vouches for the memory between the two; it stays mapped while the fiber is used.
unsafe impl Stack for Part {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

thread_local! {
    /// The fiber this thread is in; null on its own stack.
    static RUNNING: Cell<*mut Fiber> = const { Cell::new(ptr::null_mut()) };
    /// Where a suspended fiber wanted to go.
    static NEXT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// The saved stack pointer of a thread's own stack.
const OWN_STACK: *mut u8 = ptr::without_provenance_mut(16);

fn pointer(address: usize) -> StackPointer {
    NonZero::new(address).expect("a stack is not at address zero")
}

/// Lays a fiber at the top of a fresh stack and returns its stack pointer, for [`switch`].
///
/// The first switch there calls `entry(argument)`, which never returns.
///
/// # Safety
///
/// - `top` is the 16-aligned end of `bytes` of writable memory that nobody uses.
pub(crate) unsafe fn prepare(
    top: *mut u8,
    bytes: usize,
    entry: extern "C" fn(*mut ()) -> !,
    argument: *mut (),
) -> *mut u8 {
    // SAFETY: `bytes` is far more than a fiber.
    let fiber = unsafe { top.sub(size_of::<Fiber>()) }.cast::<Fiber>();
    let part = Part {
        base: pointer(fiber.addr()),
        limit: pointer(top.addr() - bytes),
    };
    let coroutine = Coroutine::with_stack(part, move |yielder, ()| {
        // SAFETY: the fiber was written before it could be entered.
        unsafe { &(*fiber).yielder }.set(yielder);
        entry(argument)
    });
    let yielder = Cell::new(ptr::null());
    // SAFETY: inside the caller's memory, 16-aligned as `top` and the size are.
    unsafe { fiber.write(Fiber { coroutine, yielder }) };
    fiber.cast()
}

/// Leaves the current stack, whose pointer goes to `save`, for the one suspended at `to`.
///
/// Returns when something switches back to what was saved.
///
/// # Safety
///
/// - `save` is writable, and stays so until the write (the first thing done).
/// - `to` came from [`prepare`] or from a `save`, has not been switched to since, and its stack is still mapped.
/// - The saved stack is resumed on the thread that left it, or never.
pub(crate) unsafe fn switch(save: *mut *mut u8, to: *mut u8) {
    let here = RUNNING.get();
    if !here.is_null() {
        // SAFETY: the caller's promise.
        unsafe { save.write(here.cast()) };
        NEXT.set(to);
        // SAFETY: the fiber that we are in; only its coroutine is borrowed elsewhere.
        let yielder = unsafe { &(*here).yielder }.get();
        // SAFETY: set when the fiber was entered, and alive while it is.
        let yielder = unsafe { &*yielder };
        yielder.suspend(());
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { save.write(OWN_STACK) };
    let mut fiber = to.cast::<Fiber>();
    loop {
        RUNNING.set(fiber);
        // SAFETY: a suspended fiber, by the promise of whoever named it; nobody else uses its coroutine.
        let coroutine = unsafe { &mut (*fiber).coroutine };
        let CoroutineResult::Yield(()) = coroutine.resume(()) else {
            unreachable!("the entry of a stack returned")
        };
        RUNNING.set(ptr::null_mut());
        let next = NEXT.get();
        if next == OWN_STACK {
            return;
        }
        fiber = next.cast();
    }
}
