//! Copies between private memory and chunks that some peer may write over at any time.
//!
//! The shared side is read and written as whole volatile words, each once: a peer that breaks the protocol
//! can spoil the bytes, and what was copied cannot change any more. Bodies of packets and chunks begin and end at words,
//! so the last word may be copied whole, too. Words of 16 bytes are as fast as `memcpy` (4 KiB: 40 ns against 46, 64 KiB: 799
//! against 775, on a busy machine in one run); words of 8 take twice as long (96, 1 839), and atomics have no more.

#![expect(unsafe_code, reason = "slots and chunks are found by address")]

use crate::plain::Plain;
use bytemuck::bytes_of;
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;
use std::slice;

/// The widest word that every processor of the target reads and writes by one instruction.
#[cfg(target_arch = "x86_64")]
type Word = std::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Word = u64;

/// Bytes of a word, and the alignment of the shared side.
pub(crate) const WORD: usize = size_of::<Word>();

/// Writes bytes one after another into a slot or a run.
#[derive(Debug)]
pub(crate) struct Writer {
    next: NonNull<Word>,
    words_left: usize,
    /// Bytes that do not fill a word yet.
    part: [u8; WORD],
    part_len: usize,
}

impl Writer {
    /// # Safety
    /// `to` is aligned to a word and points to `bytes` bytes (rounded up to whole words) of a mapping, which no
    /// participant but the caller touches for as long as the writer is used.
    pub(crate) unsafe fn new(to: NonNull<u8>, bytes: usize) -> Writer {
        Writer {
            next: to.cast(),
            words_left: bytes.div_ceil(WORD),
            part: [0; WORD],
            part_len: 0,
        }
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        if self.part_len > 0 {
            let taken = bytes.len().min(WORD - self.part_len);
            self.part[self.part_len..self.part_len + taken].copy_from_slice(&bytes[..taken]);
            self.part_len += taken;
            bytes = &bytes[taken..];
            if self.part_len < WORD {
                return;
            }
            self.put(self.part);
            self.part_len = 0;
        }
        let (words, rest) = bytes.as_chunks::<WORD>();
        for word in words {
            self.put(*word);
        }
        self.part[..rest.len()].copy_from_slice(rest);
        self.part_len = rest.len();
    }

    pub(crate) fn finish(mut self) {
        if self.part_len > 0 {
            self.part[self.part_len..].fill(0);
            self.put(self.part);
        }
    }

    #[inline]
    fn put(&mut self, bytes: [u8; WORD]) {
        assert!(
            self.words_left > 0,
            "more bytes than the run was claimed for"
        );
        self.words_left -= 1;
        // SAFETY: a word is any bytes of its size.
        let word = unsafe { mem::transmute::<[u8; WORD], Word>(bytes) };
        // SAFETY: aligned and inside the run while words are left, by the promise of `new`.
        unsafe { self.next.write_volatile(word) };
        // SAFETY: at most one past the run.
        self.next = unsafe { self.next.add(1) };
    }
}

/// Fills `to` from shared words.
///
/// # Safety
/// `from` is aligned to a word and points to as many bytes of a mapping as `to` has (rounded up to whole
/// words), which no participant writes to meanwhile.
pub(crate) unsafe fn read(from: NonNull<u8>, to: &mut [MaybeUninit<u8>]) {
    let mut next = from.cast::<Word>();
    let mut get = || {
        // SAFETY: aligned and inside the run, by the caller's promise.
        let word = unsafe { next.read_volatile() };
        // SAFETY: at most one past the run.
        next = unsafe { next.add(1) };
        // SAFETY: any bytes are possibly initialised ones.
        unsafe { mem::transmute::<Word, [MaybeUninit<u8>; WORD]>(word) }
    };
    let (words, rest) = to.as_chunks_mut::<WORD>();
    for word in words {
        *word = get();
    }
    if !rest.is_empty() {
        let last = get();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Values up to this size are copied as the compiler likes it best; larger ones would be copied byte by byte.
const WHOLE_MAX: usize = 64;

/// What the place of a `T` must be aligned to at least, and may be filled up to, for the copies below.
pub(crate) fn alignment<T>() -> usize {
    if size_of::<T>() > WHOLE_MAX { WORD } else { 1 }
}

/// Writes a value into its place.
///
/// # Safety
/// `to` is a place for a `T` in a mapping, aligned to `alignment::<T>()` and filled up to a multiple of that, which no
/// participant but the caller touches meanwhile.
#[inline]
pub(crate) unsafe fn write_value<T: Plain>(to: NonNull<T>, value: &T) {
    // Decided while compiling: LLVM does not survive a volatile access of a megabyte, even in dead code.
    if const { size_of::<T>() <= WHOLE_MAX } {
        // SAFETY: the caller's promise.
        return unsafe { to.write_volatile(*value) };
    }
    // SAFETY: the caller's promise.
    let mut writer = unsafe { Writer::new(to.cast(), size_of::<T>()) };
    writer.write(bytes_of(value));
    writer.finish();
}

/// Reads a value from its place.
///
/// # Safety
/// `from` is as in [`write_value`], and no participant writes to it meanwhile.
#[inline]
pub(crate) unsafe fn read_value<T: Plain>(from: NonNull<T>) -> T {
    // Decided while compiling: LLVM does not survive a volatile access of a megabyte, even in dead code.
    if const { size_of::<T>() <= WHOLE_MAX } {
        // SAFETY: the caller's promise; any bytes are a valid `T: Plain`, and mapped memory is initialised.
        return unsafe { from.read_volatile() };
    }
    let mut value = MaybeUninit::<T>::uninit();
    let bytes = (&raw mut value).cast::<MaybeUninit<u8>>();
    // SAFETY: the bytes of `value`, which nobody else sees.
    let bytes = unsafe { slice::from_raw_parts_mut(bytes, size_of::<T>()) };
    // SAFETY: the caller's promise.
    unsafe { read(from.cast(), bytes) };
    // SAFETY: filled just now; any bytes are a valid `T: Plain`.
    unsafe { value.assume_init() }
}

/// The same to where the value is wanted.
///
/// # Safety
/// As [`read_value`].
#[inline]
pub(crate) unsafe fn read_value_to<T: Plain>(from: NonNull<T>, value: &mut T) {
    if const { size_of::<T>() <= WHOLE_MAX } {
        // SAFETY: the caller's promise.
        *value = unsafe { read_value(from) };
        return;
    }
    let bytes = (&raw mut *value).cast::<MaybeUninit<u8>>();
    // SAFETY: the bytes of `value`, which are not read through this slice; what is written there is initialised.
    let bytes = unsafe { slice::from_raw_parts_mut(bytes, size_of::<T>()) };
    // SAFETY: the caller's promise.
    unsafe { read(from.cast(), bytes) };
}

/// As [`read`] into a vector, behind what it holds.
///
/// # Safety
/// As [`read`] for `bytes` bytes.
pub(crate) unsafe fn append(from: NonNull<u8>, bytes: usize, to: &mut Vec<u8>) {
    to.reserve(bytes);
    let spare = &mut to.spare_capacity_mut()[..bytes];
    // SAFETY: the caller's promise.
    unsafe { read(from, spare) };
    // SAFETY: just filled.
    unsafe { to.set_len(to.len() + bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Aligned([u8; 128]);

    #[test]
    fn parts_of_any_length_come_out_as_they_went_in() {
        let bytes: Vec<u8> = (0..=255).collect();
        for (first, second) in [(0, 0), (1, 7), (3, 4), (8, 1), (5, 40), (17, 99), (16, 112)] {
            let mut shared = Aligned([0; 128]);
            let place = NonNull::from(&mut shared).cast();
            let len = first + second;
            // SAFETY: 128 bytes of our own.
            let mut writer = unsafe { Writer::new(place, len) };
            writer.write(&bytes[..first]);
            writer.write(&bytes[first..len]);
            writer.finish();
            let mut read = vec![1];
            // SAFETY: as above.
            unsafe { append(place, len, &mut read) };
            assert!(shared.0.len() >= len);
            assert_eq!(read[1..], bytes[..len], "{first} {second}");
        }
    }

    #[test]
    #[should_panic(expected = "more bytes than the run was claimed for")]
    fn a_writer_stays_inside() {
        let mut shared = Aligned([0; 128]);
        // SAFETY: 16 bytes of our own.
        let mut writer = unsafe { Writer::new(NonNull::from(&mut shared).cast(), WORD) };
        writer.write(&[0; 2 * WORD]);
    }
}
