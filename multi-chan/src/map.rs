//! Memory mappings that unmap themselves.

#![expect(unsafe_code, reason = "hands out the mapping's tables as references")]

use crate::layout::{Geometry, Header, ROWS, ROWS_OFFSET, Row};
use crate::message::arena::Arena;
use crate::plain::Plain;
use crate::ring::Ring;
use crate::spsc::lane::Lane;
use crate::spsc::layout::Plan;
use crate::sys;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::slice;

/// Which file it is, whatever descriptor leads to it: the file system and the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilePlace {
    device: u64,
    inode: u64,
}

impl FilePlace {
    pub(crate) fn of(file: &File) -> io::Result<FilePlace> {
        let meta = file.metadata()?;
        Ok(FilePlace {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }
}

/// One channel's shared memory, mapped in this process.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// What is mapped, if it can be passed on.
    file: Option<(File, FilePlace)>,
}

// SAFETY: the mapping is shared memory by nature; everything in it is an atomic or a slot, and slots
// are touched through `Ring` alone.
unsafe impl Send for Mapping {}

// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory for a channel; `bytes` covers at least the header and the rows.
    pub(crate) fn new(bytes: usize) -> io::Result<Mapping> {
        assert!(bytes >= ROWS_OFFSET + ROWS * size_of::<Row>());
        Ok(Mapping {
            base: sys::map_shared(bytes)?,
            bytes,
            file: None,
        })
    }

    /// The first `bytes` of a file in memory that has so many and keeps them; they cover at least the header and the rows.
    pub(crate) fn in_file(file: File, bytes: usize) -> io::Result<Mapping> {
        assert!(bytes >= ROWS_OFFSET + ROWS * size_of::<Row>());
        let place = FilePlace::of(&file)?;
        Ok(Mapping {
            base: sys::map_file(file.as_fd(), bytes)?,
            bytes,
            file: Some((file, place)),
        })
    }

    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref().map(|(file, _)| file)
    }

    /// Which file is mapped, if it can be passed on.
    pub(crate) fn place(&self) -> Option<FilePlace> {
        self.file.as_ref().map(|&(_, place)| place)
    }

    /// Where the mapping begins, and its bytes.
    #[cfg(feature = "kill-points")]
    pub(crate) fn extent(&self) -> (NonNull<u8>, usize) {
        (self.base, self.bytes)
    }

    /// Brings every page in for this process.
    pub(crate) fn prefault(&self) -> io::Result<()> {
        sys::populate(self.base, self.bytes)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// A view of the ring for values of `T`, which the geometry was made for; `()` fits any.
    ///
    /// The view does not keep the mapping: whoever stores it stores the mapping's owner beside it.
    pub(crate) fn ring<T: Plain>(&self, geometry: Geometry) -> Ring<T> {
        assert!(geometry.map_bytes <= self.bytes && geometry.holds::<T>());
        // SAFETY: the mapping is large enough, zeroed when it was made, page aligned, and used as a
        // channel only; the geometry fits `T`.
        unsafe { Ring::new(self.base, geometry) }
    }

    /// A view of the values of a channel with one sender and one receiver; `plan` was made for `T`.
    ///
    /// The view does not keep the mapping: whoever stores it stores the mapping's owner beside it.
    pub(crate) fn lane<T: Plain>(&self, plan: Plan) -> Lane<T> {
        assert!(plan.map_bytes <= self.bytes && plan.holds::<T>());
        // SAFETY: the mapping is large enough, zeroed when it was made, page aligned, and used as such a channel
        // only; the plan fits `T`.
        unsafe { Lane::new(self.base, plan) }
    }

    /// A view of the arena, if the geometry has one; it does not keep the mapping either.
    pub(crate) fn arena(&self, geometry: &Geometry) -> Option<Arena> {
        let arena = geometry.arena?;
        assert!(arena.end <= self.bytes);
        // SAFETY: the mapping is large enough, zeroed when it was made, page aligned, and used as a
        // channel of this geometry only.
        Some(unsafe { Arena::new(self.base, arena) })
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mapping begins with a header; zero bytes are valid atomics.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// The participants' table.
    pub(crate) fn rows(&self) -> &[Row] {
        // SAFETY: `new` checked that the table lies inside the mapping.
        let first = unsafe { self.base.add(ROWS_OFFSET) };
        // SAFETY: as above; zero bytes are valid rows, and rows are atomics.
        unsafe { slice::from_raw_parts(first.cast::<Row>().as_ptr(), ROWS) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours since `new`; every user holds the `Mapping` alive.
        unsafe { sys::unmap(self.base, self.bytes) };
    }
}
