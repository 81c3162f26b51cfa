//! Buffers on their way: as part of a job's arguments, or of its value.
//!
//! In the encoding stands a number: which of the job's *enclosures* it is. Those follow the encoding, under a seal: block and length of
//! each. So a buffer that is decoded is one that was enclosed in this very job, whatever bytes somebody decodes; and what a value that
//! nobody decodes encloses is known all the same.

use super::desk::{Desk, Hold};
use crate::function::Key;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

/// One buffer of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) struct Enclosure {
    pub(super) block: u32,
    pub(super) bytes: u64,
}

const ENCLOSURE_BYTES: usize = size_of::<u32>() + size_of::<u64>();
const SEAL_BYTES: usize = size_of::<u64>();

/// What a list of enclosures is part of, so that none is taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum Part {
    Args,
    Value,
}

/// The enclosures as they lie in shared memory. Nothing where there are none.
pub(in crate::pool) fn list(key: &Key, part: Part, job: usize, holds: &[Arc<Hold>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(holds.len() * ENCLOSURE_BYTES + SEAL_BYTES);
    for hold in holds {
        let Enclosure { block, bytes } = hold.enclosure();
        list.extend_from_slice(&block.to_ne_bytes());
        list.extend_from_slice(&bytes.to_ne_bytes());
    }
    if !list.is_empty() {
        let seal = seal(key, part, job, &list);
        list.extend_from_slice(&seal.to_ne_bytes());
    }
    list
}

fn seal(key: &Key, part: Part, job: usize, list: &[u8]) -> u64 {
    key.seal(&[&[part as u8], &job.to_ne_bytes(), list])
}

/// How many bytes a list of `count` enclosures takes.
pub(in crate::pool) fn list_bytes(count: usize) -> Option<usize> {
    if count == 0 {
        return Some(0);
    }
    count.checked_mul(ENCLOSURE_BYTES)?.checked_add(SEAL_BYTES)
}

/// Reads what [`list`] wrote, in a copy of it that nobody else can write to. None where it was overwritten.
pub(in crate::pool) fn read_list(
    key: &Key,
    part: Part,
    job: usize,
    list: &[u8],
) -> Option<Vec<Enclosure>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    let (list, sealed) = list.split_at_checked(list.len().checked_sub(SEAL_BYTES)?)?;
    if u64::from_ne_bytes(sealed.try_into().ok()?) != seal(key, part, job, list) {
        return None;
    }
    let (each, []) = list.as_chunks::<ENCLOSURE_BYTES>() else {
        return None;
    };
    let enclosure = |bytes: &[u8; ENCLOSURE_BYTES]| {
        let (block, bytes) = bytes.split_at(size_of::<u32>());
        Some(Enclosure {
            block: u32::from_ne_bytes(block.try_into().ok()?),
            bytes: u64::from_ne_bytes(bytes.try_into().ok()?),
        })
    };
    each.iter().map(enclosure).collect()
}

thread_local! {
    static PASSAGE: RefCell<Option<Passage>> = const { RefCell::new(None) };
    /// Why a buffer was refused in the encoding or decoding that goes on: postcard's own error has no room for it.
    static REFUSAL: Cell<Option<Refusal>> = const { Cell::new(None) };
}

/// What may pass on this thread just now.
struct Passage {
    desk: Arc<Desk>,
    /// What the job was given, or what its value gave: the ones that can be decoded.
    attached: Vec<Arc<Hold>>,
    /// What was encoded so far, while something is.
    enclosed: Option<Vec<Arc<Hold>>>,
}

/// Keeps a thread's passage open; the one before, of a job that has a pool of its own, comes back when this is dropped.
pub(in crate::pool) struct Open {
    before: Option<Passage>,
    // It is this thread's.
    _not_send: PhantomData<*mut ()>,
}

/// Lets buffers pass: `attached` ones into what is decoded on this thread, and others out, after [`begin_enclosing`].
pub(in crate::pool) fn open(desk: &Arc<Desk>, attached: Vec<Arc<Hold>>) -> Open {
    let passage = Passage {
        desk: Arc::clone(desk),
        attached,
        enclosed: None,
    };
    let swap = |place: &RefCell<Option<Passage>>| place.borrow_mut().replace(passage);
    Open {
        // A thread at its very end lets nothing pass.
        before: PASSAGE.try_with(swap).ok().flatten(),
        _not_send: PhantomData,
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let before = self.before.take();
        let swap =
            |place: &RefCell<Option<Passage>>| std::mem::replace(&mut *place.borrow_mut(), before);
        // Outside the borrow: handles are dropped with it.
        drop(PASSAGE.try_with(swap));
    }
}

/// From now on buffers may be encoded on this thread, where a passage is open.
pub(in crate::pool) fn begin_enclosing() {
    with(|passage| passage.enclosed = Some(Vec::new()));
}

/// What was encoded since then, each buffer once; no more may be.
pub(in crate::pool) fn end_enclosing() -> Vec<Arc<Hold>> {
    with(|passage| passage.enclosed.take())
        .flatten()
        .unwrap_or_default()
}

fn with<T>(act: impl FnOnce(&mut Passage) -> T) -> Option<T> {
    let act = |place: &RefCell<Option<Passage>>| place.borrow_mut().as_mut().map(act);
    PASSAGE.try_with(act).ok().flatten()
}

/// Why a buffer does not pass.
pub(super) type Refusal = &'static str;

const NO_JOB: Refusal = "a shared buffer travels in the argument or the value of a pool's job alone: elsewhere send its bytes";

fn refused(why: Refusal) -> Refusal {
    // A thread at its very end has postcard's word for it.
    let _noted = REFUSAL.try_with(|place| place.set(Some(why)));
    why
}

/// Calls `act`, which encodes or decodes something; where that fails, says why: as a shared buffer says, else as postcard does.
pub(crate) fn explained<T>(
    act: impl FnOnce() -> postcard::Result<T>,
) -> Result<T, (postcard::Error, String)> {
    // One that somebody else's encoding met.
    let _old = REFUSAL.try_with(Cell::take);
    act().map_err(|error| {
        let refusal = REFUSAL.try_with(Cell::take).ok().flatten();
        let why = refusal.map_or_else(|| error.to_string(), str::to_owned);
        (error, why)
    })
}

/// A buffer is encoded: the number that stands for it.
pub(super) fn pass_out(hold: &Arc<Hold>) -> Result<u32, Refusal> {
    let pass = |passage: &mut Passage| {
        let Some(enclosed) = &mut passage.enclosed else {
            return Err(NO_JOB);
        };
        if !Arc::ptr_eq(&passage.desk, hold.desk()) {
            return Err(
                "the shared buffer is another pool's, or was made before this process was forked",
            );
        }
        let is_same = |other: &Arc<Hold>| other.is_same(hold);
        if let Some(index) = enclosed.iter().position(is_same) {
            return Ok(index as u32);
        }
        // What came with another job may be the parent's to free by the time that it reads this one's value.
        let is_ours = passage.desk.is_parents()
            || passage.attached.iter().any(is_same)
            || passage.desk.is_draft(hold);
        if !is_ours {
            return Err(
                "the shared buffer came with an earlier job, or was returned by one: return a copy, in a buffer of its own",
            );
        }
        enclosed.push(Arc::clone(hold));
        Ok(enclosed.len() as u32 - 1)
    };
    with(pass).unwrap_or(Err(NO_JOB)).map_err(refused)
}

/// A buffer is decoded.
pub(super) fn pass_in(index: u32) -> Result<Arc<Hold>, Refusal> {
    let pass = |passage: &mut Passage| {
        let hold = passage.attached.get(index as usize);
        hold.cloned().ok_or("there is no such shared buffer")
    };
    with(pass).unwrap_or(Err(NO_JOB)).map_err(refused)
}

/// A buffer is decoded as another type than it was encoded as.
pub(super) fn misfit() -> Refusal {
    refused("the shared buffer's bytes are no whole number of such elements")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::buffers::Arena;
    use crate::slot::Reach;

    #[test]
    fn list_is_of_one_part_of_one_job() {
        let key = Key::new().unwrap();
        let desk = Desk::of_parent(Arc::new(Arena::new(1, 1 << 20, Reach::Forked).unwrap()));
        let holds: Vec<_> = [10, 70_000]
            .map(|bytes| Arc::new(desk.make(bytes).unwrap()))
            .into();
        let sealed = list(&key, Part::Args, 3, &holds);
        assert_eq!(Some(sealed.len()), list_bytes(holds.len()));
        let read = read_list(&key, Part::Args, 3, &sealed).unwrap();
        let enclosures: Vec<_> = holds.iter().map(|hold| hold.enclosure()).collect();
        assert_eq!(read, enclosures);
        assert!(read_list(&key, Part::Args, 4, &sealed).is_none());
        assert!(read_list(&key, Part::Value, 3, &sealed).is_none());
        assert!(read_list(&Key::new().unwrap(), Part::Args, 3, &sealed).is_none());
        for at in 0..sealed.len() {
            let mut scribbled = sealed.clone();
            scribbled[at] ^= 4;
            assert!(read_list(&key, Part::Args, 3, &scribbled).is_none());
            assert!(read_list(&key, Part::Args, 3, &sealed[..at]).is_none() == (at > 0));
        }
        assert!(list(&key, Part::Args, 3, &[]).is_empty());
    }
}
