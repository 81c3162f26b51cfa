//! Who was forked and has not begun: a lock for each, which the kernel lets go of when the child ends.
//!
//! From the fork to its first step a child has nothing to hold: its list of robust mutexes is empty, and its parent may not know
//! its number yet. But it has copies of its parent's descriptors. So before the fork the parent opens a file once more and locks
//! the byte of the child's row in it; a lock belongs to that opening (`F_OFD_SETLK`, fcntl(2)), not to a process. After the fork the
//! parent closes it, and the child closes it once it has begun. In between the byte is locked if and only if there is a parent
//! still forking or a child that lives.

use crate::map::FilePlace;
use crate::sys;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// The file whose bytes are locked, one for each row of a roll.
#[derive(Debug)]
pub(crate) struct Cradle {
    file: Arc<File>,
    place: FilePlace,
}

/// A row's lock, for as long as one process has this open.
#[derive(Debug)]
#[must_use = "closing it says that the child has begun, or will not"]
pub(crate) struct Lease(#[expect(dead_code, reason = "held open, and closed")] File);

impl Cradle {
    pub(crate) fn new(file: Arc<File>) -> io::Result<Cradle> {
        let place = FilePlace::of(&file)?;
        Ok(Cradle { file, place })
    }

    /// Locks the byte of the row `index` for a child that is about to be forked.
    pub(super) fn lease(&self, index: usize) -> io::Result<Lease> {
        // A program that closes all descriptors may have another file there by now: one that is not to be opened, such as a pipe, whose
        // readers would see a writer come and go.
        self.check(&self.file)?;
        let number = self.file.as_raw_fd();
        let path = format!("/proc/self/fd/{number}");
        let opened = File::options().read(true).write(true).open(path)?;
        // Or since the last line.
        self.check(&opened)?;
        sys::lock_byte(&opened, index)?;
        Ok(Lease(opened))
    }

    /// True if somebody has the byte of the row `index` locked; `None` if that cannot be told.
    pub(super) fn is_leased(&self, index: usize) -> Option<bool> {
        self.check(&self.file).ok()?;
        sys::is_byte_locked(&self.file, index).ok()
    }

    /// An error if `file` is another one.
    fn check(&self, file: &File) -> io::Result<()> {
        if FilePlace::of(file)? == self.place {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}
