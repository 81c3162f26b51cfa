//! What the loader mapped: `dl_iterate_phdr(3)`. Linux on x86-64.

use std::ffi::{CStr, c_int, c_void};
use std::ops::{ControlFlow, Range};
use std::slice;

/// The program or a shared library, as it lies in this process.
pub(crate) struct Loaded<'a> {
    /// Empty for the program itself.
    pub(crate) name: &'a CStr,
    /// What its addresses in the file are counted from.
    pub(crate) base: usize,
    headers: &'a [libc::Elf64_Phdr],
}

/// One stretch of it.
pub(crate) struct Segment<'a> {
    pub(crate) range: Range<usize>,
    pub(crate) is_executable: bool,
    pub(crate) is_note: bool,
    /// Where entries of a note begin: multiples of this.
    pub(crate) align: usize,
    /// Its contents, where they can be read and do not change.
    pub(crate) bytes: Option<&'a [u8]>,
}

impl<'a> Loaded<'a> {
    /// What it consists of that lies in memory.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        let base = self.base;
        self.headers.iter().filter_map(move |header| {
            let is_note = header.p_type == libc::PT_NOTE;
            if header.p_type != libc::PT_LOAD && !is_note {
                return None;
            }
            let start = base.wrapping_add(header.p_vaddr as usize);
            let bytes = header.p_memsz as usize;
            let is_constant = header.p_flags & libc::PF_R != 0 && header.p_flags & libc::PF_W == 0;
            Some(Segment {
                range: start..start.saturating_add(bytes),
                is_executable: header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0,
                is_note,
                align: header.p_align as usize,
                bytes: is_constant.then(|| {
                    let at = std::ptr::with_exposed_provenance(start);
                    // SAFETY: the loader mapped this stretch for reading and nobody may write to it; it stays at least as long as the
                    // visit, during which the loader's lock keeps it from being unloaded.
                    unsafe {
                        slice::from_raw_parts(at, header.p_filesz.min(header.p_memsz) as usize)
                    }
                }),
            })
        })
    }
}

/// `dl_iterate_phdr`, `dl_iterate_phdr(3)`: visits the program first, then its libraries, until told to stop. Takes the loader's lock: not for a
/// child that was forked from a program with other threads.
pub(crate) fn visit_loaded(visit: &mut dyn FnMut(&Loaded<'_>) -> ControlFlow<()>) {
    type Visit<'v> = &'v mut dyn FnMut(&Loaded<'_>) -> ControlFlow<()>;

    unsafe extern "C" fn each(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        visit: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader hands us a description that lives until we return.
        let info = unsafe { &*info };
        // SAFETY: `visit_loaded` passed a pointer to its argument, and waits.
        let visit = unsafe { &mut *visit.cast::<Visit<'_>>() };
        let name = if info.dlpi_name.is_null() {
            c""
        } else {
            // SAFETY: a name of the loader's, with its NUL.
            unsafe { CStr::from_ptr(info.dlpi_name) }
        };
        let headers = if info.dlpi_phdr.is_null() {
            &[]
        } else {
            // SAFETY: the image's own program headers, as many as it says.
            unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
        };
        let loaded = Loaded {
            name,
            base: info.dlpi_addr as usize,
            headers,
        };
        match visit(&loaded) {
            ControlFlow::Continue(()) => 0,
            ControlFlow::Break(()) => 1,
        }
    }

    let mut visit: Visit<'_> = visit;
    // SAFETY: `each` has the signature that is asked for and unwinds into the loader only if `visit` panics, which aborts.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut visit).cast()) };
}
