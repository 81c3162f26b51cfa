//! The context switch of x86-64 (System V calling convention).
//!
//! A suspended stack is one word: its stack pointer. Below it lie the registers that the compiler cannot be told to save.
//!
//! ```text
//!  suspended in `switch`           fresh, made by `prepare`         the worker's own stack
//!                                                                   is suspended in `switch`
//!  high  ┌──────────────────┐      ┌──────────────────┐ ◀─ top      like any other: a worker
//!        │ frames of callers│      │ 0                │ 16-aligned  is resumed by the same
//!        ├──────────────────┤      │ argument         │             three pops
//!        │ rbp              │      │ entry            │
//!        │ rbx              │      │ `root`           │ ◀─ sp
//!        │ resume address   │ ◀─sp └──────────────────┘
//!  low   └──────────────────┘
//! ```
//!
//! `switch` is inline: there is no `call` and so no `ret`. A `ret` that returns to another stack than its `call` came from
//! is mispredicted, and so are the callers' after it; an indirect `jmp` is predicted by its own history. All registers
//! but rbx and rbp (which inline assembly may not name as clobbered) are declared clobbered, so that the compiler saves
//! those that are live at the place, and no others.
//!
//! MXCSR and the x87 control word are not saved (it would cost ten times the rest): the floating-point control state is
//! the worker's, not the task's. Code that changes the rounding mode or unmasks exceptions must put it back before
//! anything that may switch.

#![expect(
    unsafe_code,
    reason = "leaving one stack for another is what this file is"
)]

use core::arch::{asm, naked_asm};

/// Lays the first frame on a fresh stack and returns its stack pointer, for [`switch`].
///
/// The first switch there calls `entry(argument)` with the stack aligned as the calling convention asks. `entry` never
/// returns, and a backtrace ends cleanly below it.
///
/// # Safety
///
/// - `top` is the 16-aligned end of `bytes` of writable memory that nobody uses; 32 bytes at least.
pub(crate) unsafe fn prepare(
    top: *mut u8,
    bytes: usize,
    entry: extern "C" fn(*mut ()) -> !,
    argument: *mut (),
) -> *mut u8 {
    debug_assert!(top.addr().is_multiple_of(16) && bytes >= 32);
    let frame: [usize; 4] = [
        root as *const () as usize,
        entry as *const () as usize,
        argument.expose_provenance(),
        0,
    ];
    // SAFETY: the caller vouches for 32 bytes below `top`.
    let sp = unsafe { top.sub(size_of_val(&frame)) };
    // SAFETY: the same 32 bytes; `top` is 16-aligned, so `sp` is.
    unsafe { sp.cast::<[usize; 4]>().write(frame) };
    sp
}

/// The caller of every task's entry: the place where backtraces end.
///
/// On entry rsp is top − 24: `prepare`'s first word has been popped by the jump that came here.
#[unsafe(naked)]
extern "C" fn root() -> ! {
    naked_asm!(
        ".cfi_startproc",
        // No caller: an unwinder, a debugger and perf stop here rather than read past the top of the stack.
        ".cfi_undefined rip",
        // Frame-pointer walkers stop at a zero rbp.
        "xor ebp, ebp",
        "pop rax", // entry
        "pop rdi", // argument; rsp is now top - 8
        // The zero word at the top stays as a null return address. `call` wants rsp 16-aligned before it pushes.
        "sub rsp, 8",
        "call rax",
        // `entry` does not return.
        "ud2",
        ".cfi_endproc",
    )
}

/// Leaves the current stack, whose pointer goes to `save`, for the one suspended at `to`.
///
/// Returns when something switches back to what was saved.
///
/// # Safety
///
/// - `save` is writable, and stays so until the write (the first thing done).
/// - `to` came from [`prepare`] or from a `save`, has not been switched to since, and its stack is still mapped.
/// - The saved stack is resumed on the thread that left it, or never: compiled code may hold thread-local addresses.
#[inline(always)]
pub(crate) unsafe fn switch(save: *mut *mut u8, to: *mut u8) {
    // SAFETY: the callers' promises above; every register not restored below is declared clobbered, and without
    // `nostack` the compiler keeps nothing below rsp.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "push rbp",
            "push rbx",
            "push rax",
            "mov [rdi], rsp",
            "mov rsp, rsi",
            // The other side's resume address: `2:` of some other inlining of this, or `root`.
            "pop rax",
            "jmp rax",
            "2:",
            "pop rbx",
            "pop rbp",
            inout("rdi") save => _,
            inout("rsi") to => _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
}
