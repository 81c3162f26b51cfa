//! What the signal handlers of a child leave word of: a stack that overflowed, memory that ran out.

use super::check;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::alloc::Layout;
use std::ffi::c_int;
use std::io;
use std::mem::zeroed;
use std::ptr;

/// Where the handlers of this process leave word; null where nobody wants to know.
static NOTE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// A word: an allocation failed, and the process aborted for it.
pub(crate) const OUT_OF_MEMORY: u32 = 1;
/// A word: a stack overflowed.
pub(crate) const STACK_OVERFLOW: u32 = 2;

/// Has the handlers leave word in `note`, until [`forget_note`].
///
/// # Safety
///
/// `note` stays a word until then, or as long as this process lives.
pub(crate) unsafe fn set_note(note: &AtomicU32) {
    // Relaxed: signals of this thread come after this, other threads are started after this.
    NOTE.store(ptr::from_ref(note).cast_mut(), Ordering::Relaxed);
}

/// Has the handlers leave no more word.
pub(crate) fn forget_note() {
    // Relaxed: as above.
    NOTE.store(ptr::null_mut(), Ordering::Relaxed);
}

/// Leaves word, unless there is one: the first cause counts.
fn leave_word(word: u32) {
    // Relaxed, twice: see `set_note`; and the word is read once this process has ended.
    let note = NOTE.load(Ordering::Relaxed);
    if !note.is_null() {
        // SAFETY: `set_note` was promised that it is a word until forgotten.
        let note = unsafe { &*note };
        let _kept = note.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The stack pointer of what a signal interrupted.
///
/// # Safety
///
/// `context` is what the kernel handed a handler installed with `SA_SIGINFO`.
unsafe fn stack_at(context: *mut libc::c_void) -> usize {
    // SAFETY: the caller says what it is.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize
}

/// Words of the stack looked at: the frames between the allocation's failure and the abort take less than half of it.
const STACK_WORDS: usize = 512;

/// How long the code of `handle_alloc_error` is at most, which is one call.
const HANDLER_BYTES: usize = 64;

/// An abort. Was it for a failed allocation? That has left `ENOMEM` behind, unless a backtrace was printed since, which calls the
/// system; but also the caller of [`std::alloc::handle_alloc_error`] on the stack.
extern "C" fn on_abort(signal: c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // The calling thread's own. Looked at without an allocation.
    let errno = io::Error::last_os_error().raw_os_error();
    // SAFETY: this handler is installed with SA_SIGINFO.
    let stack_at = unsafe { stack_at(context) };
    if errno == Some(libc::ENOMEM) || is_allocation_error(stack_at) {
        leave_word(OUT_OF_MEMORY);
    }
    // SAFETY: raise may be called from a signal handler. The handler is gone by now, and the signal not held back: this ends us.
    unsafe { libc::raise(signal) };
}

/// Whether `handle_alloc_error`, which never returns, is among the callers on the stack at `stack_at`: whether any word there is an
/// address to return to in it. No frame of an older call of it can be left over, since there is none.
fn is_allocation_error(stack_at: usize) -> bool {
    let mut words = [0_usize; STACK_WORDS];
    let bytes = size_of_val(&words);
    let here = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: bytes,
    };
    let there = libc::iovec {
        iov_base: ptr::without_provenance_mut(stack_at),
        iov_len: bytes,
    };
    // The kernel copies, and stops where the stack ends.
    // SAFETY: getpid may be called from a signal handler.
    let own = unsafe { libc::getpid() };
    // SAFETY: writes at most `bytes` bytes of `words`; addresses that are not mapped are an error.
    unsafe { libc::process_vm_readv(own, &raw const here, 1, &raw const there, 1, 0) };
    let handler: fn(Layout) -> ! = std::alloc::handle_alloc_error;
    let handler = handler as usize;
    words
        .iter()
        .any(|word| (1..=HANDLER_BYTES).contains(&word.wrapping_sub(handler)))
}

/// `sigaction(SIGABRT)`: an abort because memory ran out leaves [`OUT_OF_MEMORY`]. There is no other way to hear of it: the
/// standard library's own report goes to standard error, and its hook cannot be set by stable code.
pub(crate) fn note_allocation_failure() {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    action.sa_sigaction = as_action(on_abort);
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: the handler calls nothing that a handler may not call.
    unsafe { libc::sigaction(super::SIGABRT, &raw const action, ptr::null_mut()) };
}

/// A handler that is told more than the signal.
type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn as_action(handler: Handler) -> libc::sighandler_t {
    handler as libc::sighandler_t
}

/// What handled faults before; kept for good.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// How far below the stack pointer an overflow can show: code that needs more looks at every page on its way.
const REACH_BYTES: usize = 64 << 10;

/// A fault. Was it a stack's end? Word is left of that; what comes of it is the business of who handled faults before.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel made `info` for this call.
    let info_ref = unsafe { &*info };
    // SAFETY: SIGSEGV carries an address.
    let address = unsafe { info_ref.si_addr() }.addr();
    // SAFETY: this handler is installed with SA_SIGINFO.
    let stack_at = unsafe { stack_at(context) };
    let is_sent = info_ref.si_code <= 0;
    if !is_sent
        && address < stack_at + super::PAGE_BYTES
        && stack_at - address.min(stack_at) <= REACH_BYTES
    {
        leave_word(STACK_OVERFLOW);
    }
    // Acquire: pairs with the Release in `note_stack_overflows`.
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: published before this handler was installed, and never freed.
    let before = unsafe { &*before };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // Back to what was: the access is tried again, and ends the process; a signal that was sent is sent again.
            // SAFETY: the action came from the kernel.
            unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
            if is_sent {
                // SAFETY: raise may be called from a signal handler.
                unsafe { libc::raise(signal) };
            }
        }
        address if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the installed handler has this type.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(address) };
            handler(signal, info, context);
        }
        address => {
            // SAFETY: without SA_SIGINFO the installed handler has this type.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(address) };
            handler(signal);
        }
    }
}

/// `sigaction(SIGSEGV)`: a stack that overflows leaves [`STACK_OVERFLOW`] where word is wanted, which is in children. Then, and in this process
/// always, faults are handled as before. Installed once, in the parent: a child has no system call to spare. Never `EINTR`.
pub(crate) fn note_stack_overflows() {
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    // Relaxed: whoever comes second may go on a moment before the handler is there.
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: an all-zero sigaction is a valid one.
    let mut before = unsafe { Box::new(zeroed::<libc::sigaction>()) };
    // SAFETY: asks only; `before` has room for the answer.
    if check(unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), &raw mut *before) }).is_err() {
        return;
    }
    // SAFETY: as above.
    let mut action = unsafe { zeroed::<libc::sigaction>() };
    action.sa_sigaction = as_action(on_fault);
    // As the one before wants it, which runs on top of this one.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | before.sa_flags & libc::SA_NODEFER;
    action.sa_mask = before.sa_mask;
    // Release: pairs with the Acquire in `on_fault`.
    BEFORE.store(Box::leak(before), Ordering::Release);
    // SAFETY: the handler calls nothing that a handler may not call, but what handled faults before.
    unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
}
