//! Slots and words of another process's region: a file and a place in it instead of memory that a fork copies.

#![expect(
    unsafe_code,
    reason = "places in a mapping that another process described"
)]

use super::{
    Chunk, INLINE_BYTES, Kind, PAGE_BYTES, Place, Reach, Region, SLOT_BYTES, SPILL_BYTES_MIN, Slot,
    State, Word, WordCell,
};
use crate::identity::Owner;
use crate::sys::memory;
use serde::{Deserialize, Serialize};
use std::io;
use std::mem::size_of;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// Where a slot lies in the file of its chunk.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    pub(super) header_at: u64,
    pub(super) spill_at: u64,
    pub(super) spill_bytes: u64,
}

impl Region {
    /// For a process that was given a slot: maps it.
    ///
    /// # Errors
    ///
    /// There is no such place in the file, or no room for it here.
    pub(crate) fn borrow(file: BorrowedFd<'_>, place: Whereabouts) -> io::Result<Slot> {
        let no_such_place = || io::Error::from(io::ErrorKind::InvalidInput);
        let [header_at, spill_at, spill_bytes] =
            [place.header_at, place.spill_at, place.spill_bytes].map(usize::try_from);
        let (Ok(header_at), Ok(spill_at), Ok(spill_bytes)) = (header_at, spill_at, spill_bytes)
        else {
            return Err(no_such_place());
        };
        let file_bytes = memory::len_of(file)?;
        let is_within = |at: usize, bytes: usize| {
            at.checked_add(bytes)
                .is_some_and(|end| end as u64 <= file_bytes)
        };
        let is_whole = header_at.is_multiple_of(SLOT_BYTES)
            && [spill_at, spill_bytes]
                .iter()
                .all(|n| n.is_multiple_of(PAGE_BYTES))
            && spill_bytes >= SPILL_BYTES_MIN;
        if !is_whole || !is_within(header_at, SLOT_BYTES) || !is_within(spill_at, spill_bytes) {
            return Err(no_such_place());
        }
        let map = |offset, bytes| {
            memory::map_file(file, offset, bytes).map(|at| Chunk {
                at,
                bytes,
                file: None,
            })
        };
        let in_page = header_at % PAGE_BYTES;
        let page = map(header_at - in_page, PAGE_BYTES)?;
        // Kept mapped also where the second fails: such a process ends.
        let spill = map(spill_at, spill_bytes)?;
        let place = Place {
            // SAFETY: within the page, which holds a whole number of slots.
            header: unsafe { page.at.add(in_page) }.cast(),
            spill: spill.at,
        };
        let region = Self::borrowed(spill_bytes, vec![page, spill]);
        Ok(Slot { region, place })
    }

    /// The file that is mapped at `address`, and where in it that is.
    fn file_of(&self, address: usize) -> Option<(Arc<OwnedFd>, u64)> {
        let state = self.lock();
        state.chunks.iter().find_map(|chunk| {
            let at = address.checked_sub(chunk.at.as_ptr().addr())?;
            let file = chunk.file.as_ref().filter(|_| at < chunk.bytes)?;
            Some((Arc::clone(file), at as u64))
        })
    }

    /// For a process that was given a word: maps it.
    ///
    /// # Errors
    ///
    /// There is no such place in the file, or no room for it here.
    pub(crate) fn borrow_word(file: BorrowedFd<'_>, word_at: u64) -> io::Result<Word> {
        let no_such_place = || io::Error::from(io::ErrorKind::InvalidInput);
        let at = usize::try_from(word_at).map_err(|_| no_such_place())?;
        let is_within = at
            .checked_next_multiple_of(PAGE_BYTES)
            .is_some_and(|end| end as u64 <= memory::len_of(file).unwrap_or(0));
        if !at.is_multiple_of(size_of::<WordCell>()) || !is_within {
            return Err(no_such_place());
        }
        let in_page = at % PAGE_BYTES;
        let page = memory::map_file(file, at - in_page, PAGE_BYTES)?;
        // SAFETY: within the page, which holds a whole number of words.
        let cell = unsafe { page.add(in_page) }.cast();
        let region = Self::borrowed(
            0,
            vec![Chunk {
                at: page,
                bytes: PAGE_BYTES,
                file: None,
            }],
        );
        Ok(Word { region, cell })
    }

    /// Another process's memory, for what is given there.
    fn borrowed(spill_bytes: usize, chunks: Vec<Chunk>) -> Arc<Self> {
        Arc::new(Self {
            owner: Owner::here(),
            spill_bytes,
            reach: Reach::Borrowed,
            state: Mutex::new(State {
                chunks,
                slot_chunks: 0,
                free: Vec::new(),
                words: Vec::new(),
            }),
        })
    }
}

impl Word {
    /// The file that it lies in, and where. None in a region that cannot be passed.
    pub(crate) fn whereabouts(&self) -> Option<(Arc<OwnedFd>, u64)> {
        self.region.file_of(self.cell.as_ptr().addr())
    }
}

impl Slot {
    /// The file that this slot lies in, and where: what another process needs to find it. None in a region that cannot be passed.
    pub(crate) fn whereabouts(&self) -> Option<(Arc<OwnedFd>, Whereabouts)> {
        let header = self.place.header.as_ptr().addr();
        let (file, header_at) = self.region.file_of(header)?;
        // In the same chunk, below.
        let down = header.checked_sub(self.place.spill.as_ptr().addr())? as u64;
        let place = Whereabouts {
            header_at,
            spill_at: header_at.checked_sub(down)?,
            spill_bytes: self.region.spill_bytes as u64,
        };
        Some((file, place))
    }

    /// Before there is a child: what it is to read. Not, where there is not so much room.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> bool {
        let room = if bytes.len() <= INLINE_BYTES {
            self.inline_mut()
        } else {
            self.spill_mut()
        };
        let Some(room) = room.get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.set_payload(Kind::Arguments, bytes.len());
        true
    }

    /// For the child: what its parent put there. A copy: it is read once, and then written over.
    pub(crate) fn taken(&self) -> Option<Vec<u8>> {
        match self.payload() {
            Some((Kind::Arguments, bytes)) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}
