//! Passing a channel to a program that is not a forked copy: two sealed files in memory (and two eventfds, if it is pollable), and
//! the checks that make them a channel again over there.
//!
//! ```text
//! the channel's memory                        the roll of its users
//!   0  as `layout.rs` (or `spsc/layout.rs`)     0  as `robust.rs`
//!   -  Label, on a page of its own              -  Label, on a page of its own
//! ```
//!
//! Nothing in them is believed. The label is copied out before it is looked at, the sizes are computed from the
//! receiving program's own type and compared with the file's, and the seals say that the file keeps that size: no peer can cut
//! the memory off under us. Nor can it take single pages away: the file must lie in ordinary memory, where a hole is filled with zeros.

#![expect(unsafe_code, reason = "inherited numbers become descriptors")]

use crate::Error;
use crate::builder::Builder;
use crate::delivery::Delivery;
use crate::face::Faces;
use crate::map::{FilePlace, Mapping};
use crate::sys;
use bytemuck::{Pod, Zeroable};
use std::any::type_name;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

const PAGE: usize = 4096;
const MAGIC: [u8; 8] = *b"multi\0ch";
/// Of everything that lies in the two files; raised with every change.
const VERSION: u32 = 8;

/// The descriptors of a channel made with [`Builder::in_memfd`]: its memory, and the table that tells which of its users
/// live; of a [`pollable`](Builder::pollable) one two more, which tell poll loops of receivers and of senders.
///
/// They may go to another program by any way there is: through `exec`, as in `examples/exec.rs`, or over a Unix socket.
/// There, [`Sender::attach`](crate::Sender::attach), [`Receiver::attach`](crate::Receiver::attach) and their like check them and
/// make a handle of them.
///
/// Both programs must use the same version of this crate and the same C library, in one pid namespace. Types of values are told
/// apart by size, alignment and name with its path, so a type of one's own belongs in a crate that both use. Whoever has the
/// descriptors can read, write and disturb the channel: give them to nobody else.
///
/// A program counts from the moment it attaches, not from the moment it is given the descriptors: keep a handle of its side
/// until then, or the other side may find itself alone.
///
/// # Examples
/// ```
/// use multi_chan::{Builder, Descriptors, Sender};
///
/// let (tx, rx) = Builder::new().capacity(2).in_memfd().build::<u32>()?;
/// let fds = tx.descriptors()?.into_fds();
/// // Elsewhere:
/// let other = Sender::<u32>::attach(Descriptors::from_fds(fds))?;
/// other.send(42).unwrap();
/// assert_eq!(rx.recv(), Ok(42));
/// # Ok::<(), multi_chan::Error>(())
/// ```
#[derive(Debug)]
pub struct Descriptors {
    fds: Vec<OwnedFd>,
}

impl Descriptors {
    /// Takes the descriptors that [`into_fds`](Self::into_fds) gave, in that order. They are checked where they are attached.
    pub fn from_fds(fds: impl IntoIterator<Item = OwnedFd>) -> Descriptors {
        Descriptors {
            fds: fds.into_iter().collect(),
        }
    }

    /// Copies of descriptors that this program inherited open under these numbers, for instance told on its command line; in that order.
    ///
    /// # Errors
    /// If one of the numbers is no open descriptor, or there are none left.
    ///
    /// # Safety
    /// - Each number that is open was inherited from the program that executed this one, and what it leads to is meant for this program: nothing
    ///   in this process owns it, or relies on nobody else's having it.
    ///
    /// # Examples
    /// ```no_run
    /// # #![allow(unsafe_code)]
    /// use multi_chan::{Descriptors, Receiver};
    ///
    /// // The program that executes this one left a channel's descriptors open, and tells their numbers.
    /// let numbers = std::env::args().skip(1).map(|number| number.parse().unwrap());
    /// // SAFETY: the numbers are the channel's, and nothing else here has them.
    /// let descriptors = unsafe { Descriptors::inherited(numbers)? };
    /// let rx = Receiver::<u64>::attach(descriptors)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn inherited(numbers: impl IntoIterator<Item = RawFd>) -> io::Result<Descriptors> {
        // SAFETY: the caller's promise.
        let fds = numbers
            .into_iter()
            .map(|number| unsafe { sys::copy_of_number(number) });
        Ok(Descriptors {
            fds: fds.collect::<io::Result<_>>()?,
        })
    }

    /// The memory and the roll; of a pollable channel the eventfds of receivers and of senders, too.
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// The same, lent.
    pub fn as_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }

    /// Has the descriptors stay open, under their numbers, in programs that this process executes: in *every* one that it
    /// executes from now on, until they are dropped.
    ///
    /// # Errors
    /// What `fcntl` says of a descriptor.
    pub fn keep_on_exec(&self) -> io::Result<()> {
        self.as_fds().into_iter().try_for_each(sys::keep_on_exec)
    }
}

/// What kind of thing a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel = 1,
    Spsc = 2,
    Roll = 3,
    Bytes = 4,
    #[cfg(feature = "serde")]
    Messages = 5,
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Label {
    magic: [u8; 8],
    version: u32,
    kind: u32,
    capacity: u64,
    value_bytes: u64,
    value_align: u64,
    value_name: u64,
    /// 1 if messages come back.
    redelivers: u64,
    /// What was asked for, where messages are of any size.
    arena_bytes: u64,
    /// The inode of the roll; a roll's own is not named.
    roll: u64,
    /// Which eventfds tell poll loops (`Faces::identities`); 0 where there are none.
    faces: [u64; 2],
}

impl Label {
    pub(crate) fn of<T>(kind: Kind, options: &Builder) -> Label {
        Label {
            magic: MAGIC,
            version: VERSION,
            kind: kind as u32,
            capacity: options.capacity as u64,
            value_bytes: size_of::<T>() as u64,
            value_align: align_of::<T>() as u64,
            value_name: fnv(type_name::<T>()),
            redelivers: u64::from(options.delivery == Delivery::AtLeastOnce),
            arena_bytes: match kind {
                Kind::Channel | Kind::Spsc | Kind::Roll => 0,
                _ => options.arena_bytes_or_default() as u64,
            },
            roll: 0,
            faces: [0; 2],
        }
    }

    /// The same for a channel with these eventfds.
    pub(crate) fn with_faces(self, faces: [u64; 2]) -> Label {
        Label { faces, ..self }
    }

    fn of_roll() -> Label {
        Label::of::<()>(Kind::Roll, &Builder::new())
    }

    /// Reads the label of `file`, of which nothing is known, and checks that no process can take its pages away.
    fn read(file: &File) -> Result<Label, Error> {
        let seals = sys::seals(file.as_fd())
            .map_err(|_| Error::mismatch("a descriptor is not a file in memory"))?;
        if seals & sys::SIZE_SEALS != sys::SIZE_SEALS {
            return Err(Error::mismatch("a file's size is not sealed"));
        }
        // No seal forbids to punch a hole. Ordinary memory fills it with zeros at the next touch; where no huge page is free, that
        // touch is a SIGBUS.
        if !sys::is_in_ordinary_memory(file.as_fd()).is_ok_and(|ordinary| ordinary) {
            return Err(Error::mismatch("a file lies in huge pages"));
        }
        let short = || Error::mismatch("a file is too short");
        let bytes = file.metadata().map_err(|_| short())?.len();
        let at = bytes.checked_sub(PAGE as u64).ok_or_else(short)?;
        let mut label = Label::zeroed();
        file.read_exact_at(bytemuck::bytes_of_mut(&mut label), at)
            .map_err(|_| short())?;
        if label.magic != MAGIC {
            return Err(Error::mismatch("a file holds no channel"));
        }
        if label.version != VERSION {
            return Err(Error::mismatch(
                "the channel was made by another version of multi-chan",
            ));
        }
        Ok(label)
    }

    /// The options of a channel whose label must be that of a channel of `T` values of this kind.
    fn options<T>(&self, kind: Kind) -> Result<Builder, Error> {
        if self.kind != kind as u32 {
            return Err(Error::mismatch("it is a channel of another kind"));
        }
        let capacity = usize::try_from(self.capacity)
            .map_err(|_| Error::mismatch("its capacity does not fit an address space"))?;
        let arena_bytes = usize::try_from(self.arena_bytes)
            .map_err(|_| Error::mismatch("its arena does not fit an address space"))?;
        let delivery = match self.redelivers {
            0 => Delivery::AtMostOnce,
            _ => Delivery::AtLeastOnce,
        };
        let options = Builder::new()
            .capacity(capacity)
            .in_memfd()
            .delivery(delivery)
            .pollable(self.faces != [0; 2])
            .arena_bytes(arena_bytes);
        if (Label {
            roll: self.roll,
            faces: self.faces,
            ..Label::of::<T>(kind, &options)
        }) != *self
        {
            return Err(Error::mismatch("its values are of another type"));
        }
        Ok(options)
    }
}

/// FNV-1a: the same number in every program.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// A sealed file of `bytes` zeros, and its label.
fn create(name: &'static std::ffi::CStr, bytes: usize, label: &Label) -> io::Result<File> {
    let file = File::from(sys::memfd(name)?);
    let at = bytes.next_multiple_of(PAGE) as u64;
    sys::lengthen(&file, at + PAGE as u64)?;
    file.write_all_at(bytemuck::bytes_of(label), at)?;
    sys::seal(file.as_fd())?;
    Ok(file)
}

/// Memory for a channel of `bytes`, whose users are on the roll in that file.
pub(crate) fn create_memory(bytes: usize, label: Label, roll: &File) -> io::Result<Mapping> {
    let roll = roll.metadata()?.ino();
    Mapping::in_file(
        create(c"multi-chan", bytes, &Label { roll, ..label })?,
        bytes,
    )
}

/// A file for a roll of `bytes`.
pub(crate) fn create_roll(bytes: usize) -> io::Result<File> {
    create(c"multi-chan-roll", bytes, &Label::of_roll())
}

/// A channel that came from elsewhere: checked, except for its length.
pub(crate) struct Arrived {
    pub(crate) options: Builder,
    memory: File,
    pub(crate) roll: File,
    faces: Option<Faces>,
}

impl Arrived {
    pub(crate) fn check<T>(
        descriptors: Descriptors,
        kind: Kind,
        roll_bytes: usize,
    ) -> Result<Arrived, Error> {
        let count = descriptors.fds.len();
        let mut fds = descriptors.fds.into_iter();
        let (Some(memory), Some(roll)) = (fds.next(), fds.next()) else {
            return Err(Error::mismatch("it takes two descriptors at least"));
        };
        let (memory, roll) = (File::from(memory), File::from(roll));
        let label = Label::read(&memory)?;
        let options = label.options::<T>(kind)?;
        if Label::read(&roll)? != Label::of_roll() || !has_length(&roll, roll_bytes) {
            return Err(Error::mismatch("the second descriptor is no roll"));
        }
        if roll.metadata().map(|meta| meta.ino()).ok() != Some(label.roll) {
            return Err(Error::mismatch("the roll is another channel's"));
        }
        if count != if options.pollable { 4 } else { 2 } {
            return Err(Error::mismatch(
                "it takes two descriptors, and two more if it is pollable",
            ));
        }
        let faces = match (fds.next(), fds.next()) {
            (Some(sent), Some(freed)) => Some(Faces::arrived([sent, freed], label.faces)?),
            _ => None,
        };
        Ok(Arrived {
            options,
            memory,
            roll,
            faces,
        })
    }

    /// Which file the channel lies in.
    pub(crate) fn place(&self) -> Result<FilePlace, Error> {
        FilePlace::of(&self.memory).map_err(Error::memory)
    }

    /// Maps the channel, which the caller has found to be of `bytes`.
    pub(crate) fn map(self, bytes: usize) -> Result<(Mapping, File, Option<Faces>), Error> {
        if !has_length(&self.memory, bytes) {
            return Err(Error::mismatch("its memory has not the length for that"));
        }
        let map = Mapping::in_file(self.memory, bytes).map_err(Error::memory)?;
        Ok((map, self.roll, self.faces))
    }
}

/// True if the file, whose size is sealed, has `bytes` and a label.
fn has_length(file: &File, bytes: usize) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.len() == (bytes.next_multiple_of(PAGE) + PAGE) as u64)
}

/// Copies of a channel's descriptors.
pub(crate) fn descriptors(
    memory: Option<&File>,
    roll: Option<&File>,
    faces: Option<&Faces>,
) -> Result<Descriptors, Error> {
    let (Some(memory), Some(roll)) = (memory, roll) else {
        return Err(Error::not_passable());
    };
    let faces = faces.into_iter().flat_map(Faces::fds);
    let fds = [memory.as_fd(), roll.as_fd()].into_iter().chain(faces);
    let copies = fds.map(|fd| fd.try_clone_to_owned().map_err(Error::memory));
    Ok(Descriptors {
        fds: copies.collect::<Result<_, _>>()?,
    })
}
