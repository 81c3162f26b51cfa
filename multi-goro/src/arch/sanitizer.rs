//! What AddressSanitizer is told of a switch: which stack the thread is on. Built under `cfg(asan)` only (`cargo xtask asan`).
//!
//! The sanitizer knows one stack per thread. Unless it is told, it takes a task's stack for wild memory when it unwinds or
//! looks for what may still be used, and the marks of an old task's frames for those of the next one on that stack.
//! The build must keep frames on their stacks (`-asan-use-after-return=never`): a frame kept elsewhere would be one more thing to switch.
//! The calls are those of `sanitizer/common_interface_defs.h` and `sanitizer/asan_interface.h` of LLVM.

#![expect(unsafe_code, reason = "calls the sanitizer's run-time library")]

use core::ffi::c_void;
use core::ptr;

unsafe extern "C" {
    fn __sanitizer_start_switch_fiber(save: *mut *mut c_void, bottom: *const c_void, size: usize);
    fn __sanitizer_finish_switch_fiber(
        save: *mut c_void,
        old_bottom: *mut *const c_void,
        old_size: *mut usize,
    );
    fn __asan_unpoison_memory_region(address: *const c_void, size: usize);
}

/// Says that the thread is about to go to the stack of `size` bytes from `bottom`.
pub(crate) fn leave(bottom: *const u8, size: usize) {
    // SAFETY: no frame is kept elsewhere than on its stack (see above), so there is nothing to save; the bounds are only noted.
    unsafe { __sanitizer_start_switch_fiber(ptr::null_mut(), bottom.cast(), size) };
}

/// Says that the thread has come to the stack that [`leave`] named.
pub(crate) fn arrive() {
    // SAFETY: as in `leave`; the old bounds are not asked for.
    unsafe { __sanitizer_finish_switch_fiber(ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) };
}

/// Forgets the frames that were on a stack whose task has ended.
pub(crate) fn wipe(bottom: *const u8, size: usize) {
    // SAFETY: changes the sanitizer's own notes about a stack that nobody is on.
    unsafe { __asan_unpoison_memory_region(bottom.cast(), size) };
}
