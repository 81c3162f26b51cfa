//! Memory that a pool's parent and its workers share: large arguments and values that are written once and copied never.

#![expect(unsafe_code, reason = "blocks of shared memory are lent as slices")]

mod arena;
mod block;
mod desk;
mod transit;

pub(super) use arena::{Arena, Shape};
pub(super) use desk::{Desk, Hold};
pub(crate) use transit::explained;
pub(super) use transit::{Part, begin_enclosing, end_enclosing, list, list_bytes, open, read_list};

use super::Pool;
use crate::sync::{AtomicPtr, Ordering};
use desk::NoBlock;
use multi_chan::Plain;
use multi_chan::bytemuck;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::slice;
use std::sync::Arc;

/// Bytes, or other plain values, in memory that a [`Pool`]'s parent and workers share: read where they were written, by any of them, without a copy.
///
/// A [`SharedBufferMut`] is made and written by one process; [frozen](SharedBufferMut::freeze) it is this. As part of a job's
/// argument or value only its number travels. It dereferences to a slice, and nobody can write to it any more, in any process: so a
/// job that is done again because its worker died finds its argument as it was, several jobs may have the same buffer, and whoever gave
/// it away may read on.
///
/// ```
/// use multi_proc::{Pool, SharedBuffer, SharedBufferMut};
///
/// /// A picture with black and white exchanged.
/// fn invert(picture: SharedBuffer) -> multi_proc::Result<SharedBuffer> {
///     let mut inverted = SharedBufferMut::new(picture.len())?;
///     for (to, from) in inverted.iter_mut().zip(&*picture) {
///         *to = !from;
///     }
///     Ok(inverted.freeze())
/// }
///
/// // SAFETY: this program has one thread.
/// let pool = unsafe { Pool::builder().workers(2).fork() }?;
/// let mut picture = pool.buffer(1_000_000)?;
/// picture.fill(0x0f);
/// let picture = picture.freeze();
/// let inverted = pool.call(invert, picture.clone())?;
/// assert_eq!((picture[0], inverted[999_999]), (0x0f, 0xf0));
/// # Ok::<(), multi_proc::BoxError>(())
/// ```
///
/// - **Where** it can be part of an argument or a value: anywhere in it (`(String, Vec<SharedBuffer<f32>>)`), for jobs of the pool it was made for.
///   Elsewhere (other pools, groups, files, channels) it refuses to be encoded, and says so.
/// - **What a job may return**: buffers that it made, and those of its own argument. One that came with an earlier job is refused.
/// - **Its memory** is free again when the last handle is gone, in the parent and in all workers, and no job has it as its argument. A worker
///   that dies, and a program that is killed, keeps none.
/// - **How many** there may be at once: [`PoolBuilder::shared_bytes_max`](crate::PoolBuilder::shared_bytes_max).
/// - **Small** ones are possible, but below some 16 KiB a `Vec` travels faster.
///
/// # What others may do to it
///
/// In safe code nobody writes to a buffer that anybody else reads. A stray pointer in a worker, a C library's say, cannot write to buffers
/// of the parent's or of other workers': they are mapped read-only there. What it can write to are the buffers that this worker made
/// itself, returned ones included, the numbers by which processes keep track of them, and, in the parent, all of them. Numbers are checked or
/// sealed; bytes are what they are: trust them as much as the code that runs in your workers. A worker is of the same program and has no
/// fewer rights, so that no more would be gained by sealing the memory, at some system calls and page faults each.
///
/// # Fork
///
/// A handle belongs to the process that made it or was given it. In a forked child, dereferencing a copy panics and says so, and dropping it does
/// nothing. A reference got before the fork must not be used in the child.
#[must_use = "the memory is given back when it is dropped"]
pub struct SharedBuffer<T = u8> {
    hold: Arc<Hold>,
    _of: PhantomData<T>,
}

/// A [`SharedBuffer`] in the making: one process's alone, which writes it.
///
/// Made by [`Pool::buffer`] in the parent and by [`new`](Self::new) in a job. It dereferences to a mutable slice. What it holds at first is
/// **not specified**: zeroes, or what lay there before.
///
/// It cannot travel: [`freeze`](Self::freeze) it first.
///
/// ```compile_fail,E0277
/// fn travels<T: serde::Serialize>() {}
/// travels::<multi_proc::SharedBufferMut<u8>>();
/// ```
///
/// # Fork
///
/// As for [`SharedBuffer`].
#[must_use = "the memory is given back when it is dropped"]
pub struct SharedBufferMut<T = u8> {
    hold: Hold,
    len: usize,
    _of: PhantomData<T>,
}

/// The desk of this process, if it is a worker; else null or, in a child of one, that one's.
static HERE: AtomicPtr<Desk> = AtomicPtr::new(ptr::null_mut());

/// For a worker that has just begun: from now on jobs make their buffers there.
pub(super) fn set_desk(desk: &Arc<Desk>) {
    // For the life of the process: no lock, that a fork could copy in its locked state.
    let desk = Arc::into_raw(Arc::clone(desk)).cast_mut();
    // Release: the desk is whole before it is published. Pairs with the Acquire in `desk`.
    HERE.store(desk, Ordering::Release);
}

fn desk() -> Option<Arc<Desk>> {
    // Acquire: pairs with the Release in `set_desk`.
    let desk = HERE.load(Ordering::Acquire).cast_const();
    if desk.is_null() {
        return None;
    }
    // SAFETY: came from `Arc::into_raw`, and that count is never given up.
    unsafe { Arc::increment_strong_count(desk) };
    // SAFETY: as above; this takes over the count just added.
    let desk = unsafe { Arc::from_raw(desk) };
    desk.is_here().then_some(desk)
}

impl Pool {
    /// A buffer to write to, for `len` elements: frozen, it can be given to this pool's jobs without being copied.
    ///
    /// ```
    /// use multi_proc::{Pool, SharedBuffer};
    ///
    /// // SAFETY: this program has one thread.
    /// let pool = unsafe { Pool::builder().workers(2).fork() }?;
    /// let mut numbers = pool.buffer::<f64>(100_000)?;
    /// for (number, n) in numbers.iter_mut().zip(0_u32..) {
    ///     *number = n.into();
    /// }
    /// let numbers = numbers.freeze();
    /// let sum = |(numbers, from, to): (SharedBuffer<f64>, usize, usize)| Ok(numbers[from..to].iter().sum::<f64>());
    /// let halves = pool.map(sum, [(numbers.clone(), 0, 50_000), (numbers, 50_000, 100_000)])?;
    /// assert_eq!(halves.iter().sum::<f64>(), 99_999. * 50_000.);
    /// # Ok::<(), multi_proc::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BufferError`]: there is no room for it.
    ///
    /// # Panics
    ///
    /// In a forked child: the pool is its parent's.
    pub fn buffer<T: Plain>(&self, len: usize) -> Result<SharedBufferMut<T>, BufferError> {
        self.hub.check_owner();
        SharedBufferMut::at(&self.hub.desk, len)
    }
}

impl<T: Plain> SharedBufferMut<T> {
    /// Whatever is plain has whole elements, and none is aligned to more than a page.
    const FITS: () = assert!(
        size_of::<T>() > 0 && align_of::<T>() <= arena::PAGE,
        "an element of a shared buffer takes at least a byte and is aligned to a page at most"
    );

    /// In a job that a pool's worker runs: a buffer to write to, for `len` elements, that can be part of the job's value. In the parent it is
    /// [`Pool::buffer`].
    ///
    /// # Errors
    ///
    /// [`BufferError`]: there is no room for it, or this process is no worker of a pool.
    pub fn new(len: usize) -> Result<Self, BufferError> {
        Self::at(&desk().ok_or(BufferError(Why::NoWorker))?, len)
    }

    fn at(desk: &Arc<Desk>, len: usize) -> Result<Self, BufferError> {
        const { Self::FITS };
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(BufferError(Why::Overflow))?;
        let hold = desk
            .make(bytes)
            .map_err(|why| BufferError(Why::NoBlock { bytes, why }))?;
        Ok(Self {
            hold,
            len,
            _of: PhantomData,
        })
    }

    /// Leaves out what comes after the first `len` elements: for who did not know how many there would be.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Ends the writing: from now on it can be read, here and by whoever is given it.
    pub fn freeze(self) -> SharedBuffer<T> {
        let Self { mut hold, len, .. } = self;
        hold.bytes = len * size_of::<T>();
        SharedBuffer {
            hold: Arc::new(hold),
            _of: PhantomData,
        }
    }
}

impl<T: Plain> Deref for SharedBufferMut<T> {
    type Target = [T];

    #[track_caller]
    fn deref(&self) -> &[T] {
        self.hold.desk().check();
        // SAFETY: the block was claimed for this handle alone, in all processes, until it is dropped or frozen; it begins at a page, has so many
        // elements, and is mapped as long as its desk lives; any bytes, which the kernel has made zeroes at first, are a valid `T: Plain`.
        unsafe { slice::from_raw_parts(self.hold.at().cast().as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for SharedBufferMut<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut [T] {
        self.hold.desk().check();
        // SAFETY: as in `deref`, and the handle is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.hold.at().cast().as_ptr(), self.len) }
    }
}

impl<T: Plain> Deref for SharedBuffer<T> {
    type Target = [T];

    #[track_caller]
    fn deref(&self) -> &[T] {
        self.hold.desk().check();
        let bytes = self.hold.bytes;
        // SAFETY: what is frozen nobody writes to until the last handle is gone, in any process, of which the hold is one; so many bytes lie in
        // the block, which is mapped as long as its desk lives.
        let bytes = unsafe { slice::from_raw_parts(self.hold.at().as_ptr(), bytes) };
        // Begins at a page; `freeze` and `deserialize` saw to it that the elements are whole.
        bytemuck::cast_slice(bytes)
    }
}

impl<T> Clone for SharedBuffer<T> {
    /// One more handle of the same memory.
    fn clone(&self) -> Self {
        Self {
            hold: Arc::clone(&self.hold),
            _of: PhantomData,
        }
    }
}

impl<T: Plain> AsRef<[T]> for SharedBuffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Plain> From<SharedBufferMut<T>> for SharedBuffer<T> {
    fn from(buffer: SharedBufferMut<T>) -> Self {
        buffer.freeze()
    }
}

impl<T: Plain> Serialize for SharedBuffer<T> {
    /// As part of a job's argument or value; fails elsewhere.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = transit::pass_out(&self.hold).map_err(ser::Error::custom)?;
        serializer.serialize_u32(number)
    }
}

impl<'de, T: Plain> Deserialize<'de> for SharedBuffer<T> {
    /// As part of a job's argument or value; fails elsewhere.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const { SharedBufferMut::<T>::FITS };
        let number = u32::deserialize(deserializer)?;
        let hold = transit::pass_in(number).map_err(de::Error::custom)?;
        if !hold.bytes.is_multiple_of(size_of::<T>()) {
            return Err(de::Error::custom(transit::misfit()));
        }
        Ok(Self {
            hold,
            _of: PhantomData,
        })
    }
}

/// Why there is no room for a shared buffer, or no buffer at all.
pub struct BufferError(Why);

#[derive(Debug)]
enum Why {
    NoWorker,
    Overflow,
    NoBlock { bytes: usize, why: NoBlock },
}

impl BufferError {
    /// Whether there is room once other buffers are dropped.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self(why) = self;
        matches!(
            why,
            Why::NoBlock {
                why: NoBlock::Full { .. },
                ..
            }
        )
    }
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::NoWorker => f.write_str(
                "this process is no worker of a pool: a shared buffer is made in a job or, in the parent, by Pool::buffer",
            ),
            Why::Overflow => f.write_str("a shared buffer of more bytes than can be counted"),
            Why::NoBlock { bytes, why } => match why {
                NoBlock::TooLarge { bytes_max } => write!(
                    f,
                    "a shared buffer of {bytes} bytes, where shared_bytes_max is {bytes_max}"
                ),
                NoBlock::Full { used, bytes_max } => write!(
                    f,
                    "no room for a shared buffer of {bytes} bytes: others of this process take {used}, where shared_bytes_max is {bytes_max}"
                ),
                NoBlock::Memory(error) => {
                    write!(f, "no memory for a shared buffer of {bytes} bytes: {error}")
                }
            },
        }
    }
}

impl fmt::Debug for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferError({:?})", self.0)
    }
}

impl Error for BufferError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Why::NoBlock {
                why: NoBlock::Memory(error),
                ..
            } => Some(error),
            _ => None,
        }
    }
}

impl<T> fmt::Debug for SharedBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer")
            .field("bytes", &self.hold.bytes)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SharedBufferMut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBufferMut")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
