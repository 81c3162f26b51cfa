//! Names under which other programs of the same user find channels; with the feature `named`.
//!
//! A named piece of shared memory (crate `shared_memory`: created exclusively, mode 0600) is a signpost only: it says which
//! process keeps the descriptors of the channel, and under which numbers. Whoever finds it opens those through
//! `/proc/<pid>/fd`, so the channel itself lies in sealed files without a name. That has two merits over
//! memory that is named itself: no peer can cut it off under the others, and a keeper that is killed leaves a page behind,
//! not a channel; the next one to use the name sees that it is dead and takes the name over.
//!
//! ```text
//! word 0  MAGIC, written last        word 2  memory's number << 32 | roll's number
//!      1  the keeper's pid                3  the inode of its pidfd, which no other process ever gets
//! ```

#![expect(unsafe_code, reason = "the signpost is shared memory")]

use crate::Error;
use crate::pass::Descriptors;
use crate::sync::{Acquire, AtomicU64, Relaxed, Release};
use crate::sys;
use shared_memory::{Shmem, ShmemConf, ShmemError};
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

const MAGIC: u64 = u64::from_le_bytes(*b"multi\0nm");
const WORDS: usize = 4;
const BYTES: usize = WORDS * size_of::<u64>();

/// How often, and how far apart, a signpost is asked for that another process holds just now.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A name that a channel goes by, kept by this process until it is dropped.
///
/// Made by [`publish`].
#[derive(Debug)]
#[must_use = "the name is gone when this is dropped"]
pub struct Name {
    os_name: String,
    keeper: Keeper,
    /// What `/proc` shows to who looks for the name.
    _descriptors: Descriptors,
}

/// What a signpost says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keeper {
    pid: u32,
    numbers: [i32; 2],
    identity: u64,
}

/// Gives a channel a name, under which other programs of the same user find it for as long as the [`Name`] is kept.
///
/// The name has no slash in it. This process keeps the two descriptors open; when it ends, however it ends, the name leads nowhere
/// and may be given again. The channel goes on for those who have found it.
///
/// # Errors
/// [`Error::is_name`] if the name is in use by a live process, has a slash in it or is too long, or if the system refuses it;
/// [`Error::is_unsupported`] if the channel is [`pollable`](crate::Builder::pollable).
///
/// # Fork
/// The name stays the parent's: a child that drops its copy takes nothing away.
///
/// # Examples
/// ```
/// use multi_chan::{Builder, Sender, named};
///
/// let (tx, rx) = Builder::new().capacity(2).in_memfd().build::<u32>()?;
/// # let unique = format!("multi-chan-doc-{}", std::process::id());
/// # let unique = unique.as_str();
/// let name = named::publish(unique, tx.descriptors()?)?;
/// // In another program of the same user:
/// let other = Sender::<u32>::attach(named::find(unique)?)?;
/// other.send(42).unwrap();
/// assert_eq!(rx.recv(), Ok(42));
/// drop(name);
/// assert!(named::find(unique).unwrap_err().is_name());
/// # Ok::<(), multi_chan::Error>(())
/// ```
pub fn publish(name: &str, descriptors: Descriptors) -> Result<Name, Error> {
    let os_name = os_name(name)?;
    let pid = sys::process_id();
    let numbers = descriptors.as_fds().into_iter().map(|fd| fd.as_raw_fd());
    let numbers: Vec<i32> = numbers.collect();
    let Ok(numbers) = numbers.try_into() else {
        return Err(Error::unsupported(
            "a pollable channel cannot be found by a name: pass its descriptors on, or make it without `pollable`",
        ));
    };
    let keeper = Keeper {
        pid,
        numbers,
        // Without an identity (no descriptor to be had) the pid alone must do.
        identity: identity_of(pid).unwrap_or(0),
    };
    let post = post(&os_name)?;
    let signpost = ShmemConf::new().os_id(&os_name).open();
    let signpost = signpost.map_err(|_| Error::name("the system refuses the name"))?;
    // Of a dead keeper, or of one that died before it had written it: then it is ours.
    if words(&signpost).and_then(said).is_some_and(Keeper::lives) {
        return Err(Error::name("a live process keeps the name"));
    }
    write(&signpost, keeper);
    drop(post);
    Ok(Name {
        os_name,
        keeper,
        _descriptors: descriptors,
    })
}

/// Finds the channel that goes by a name; the descriptors are checked where they are attached.
///
/// # Errors
/// [`Error::is_name`] if no live process of this user keeps the name, or `/proc` does not let us at its descriptors.
pub fn find(name: &str) -> Result<Descriptors, Error> {
    let os_name = os_name(name)?;
    let nobody = || Error::name("no live process keeps the name");
    let keeper = read(&os_name)?.ok_or_else(nobody)?;
    if !keeper.lives() {
        return Err(nobody());
    }
    let open = |number: i32| -> Result<OwnedFd, Error> {
        let path = format!("/proc/{}/fd/{number}", keeper.pid);
        let file = File::options().read(true).write(true).open(path);
        Ok(file
            .map_err(|_| Error::name("the keeper's descriptors cannot be opened"))?
            .into())
    };
    let [memory, roll] = keeper.numbers;
    let descriptors = Descriptors::from_fds([open(memory)?, open(roll)?]);
    // Were they still its own when we opened them?
    if !keeper.lives() || read(&os_name)? != Some(keeper) {
        return Err(nobody());
    }
    Ok(descriptors)
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.keeper.pid == sys::process_id() {
            remove(&self.os_name, self.keeper);
        }
    }
}

impl Keeper {
    fn lives(self) -> bool {
        let Ok(pidfd) = sys::pidfd_open(self.pid) else {
            return false;
        };
        let same = self.identity == 0
            || sys::pidfd_inode(&pidfd).is_ok_and(|inode| inode == self.identity);
        same && !sys::pidfd_ended(&pidfd, Duration::ZERO)
    }
}

fn identity_of(pid: u32) -> Option<u64> {
    let pidfd = sys::pidfd_open(pid).ok()?;
    sys::pidfd_inode(&pidfd).ok()
}

fn os_name(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > 200 || name.contains(['/', '\0']) {
        return Err(Error::name(
            "a name has one to 200 bytes, and no slash or zero among them",
        ));
    }
    Ok(format!("/multi-chan.{name}"))
}

/// The file of a signpost, locked. Whoever writes a signpost, reads it or takes it away holds this; so nobody takes away what
/// another has just written, and nobody writes what has been taken away.
#[derive(Debug)]
struct Post {
    file: File,
}

impl Drop for Post {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked meanwhile has a copy.
        self.file.unlock().ok();
    }
}

/// The file of the signpost, made if there is none.
fn post(os_name: &str) -> Result<Post, Error> {
    for _ in 0..LOOKS {
        match ShmemConf::new().os_id(os_name).size(BYTES).create() {
            // `Name` takes it away.
            Ok(mut made) => drop(made.set_owner(false)),
            Err(ShmemError::MappingIdExists) => {}
            Err(_) => return Err(Error::name("the system refuses the name")),
        }
        if let Some(post) = existing_post(os_name)? {
            let refused = |_| Error::name("the system refuses the name");
            // Whoever made it may have died before it had its length.
            post.file.set_len(BYTES as u64).map_err(refused)?;
            return Ok(post);
        }
        // Taken away between the two.
    }
    Err(Error::name("others keep giving and taking the name"))
}

/// The file of the signpost; `None` if there is none.
fn existing_post(os_name: &str) -> Result<Option<Post>, Error> {
    let path = path_of(os_name);
    for _ in 0..LOOKS {
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(others()),
        };
        let meta = file.metadata().map_err(|_| others())?;
        if !is_private(&meta) {
            return Err(others());
        }
        if file.try_lock().is_ok() {
            let post = Post { file };
            // Not a link to a file of ours, and not taken away before we had the lock.
            if std::fs::symlink_metadata(&path).is_ok_and(|now| now.ino() == meta.ino()) {
                return Ok(Some(post));
            }
        } else {
            thread::sleep(BETWEEN_LOOKS);
        }
    }
    Err(Error::name(
        "another process is at the name for longer than that takes",
    ))
}

fn others() -> Error {
    Error::name("the name is another user's, or open to others")
}

fn path_of(os_name: &str) -> String {
    format!("/dev/shm{os_name}")
}

/// Removes the signpost if it is still this keeper's.
fn remove(os_name: &str, keeper: Keeper) {
    let Ok(Some(post)) = existing_post(os_name) else {
        return;
    };
    if said_at(os_name) == Some(keeper) {
        std::fs::remove_file(path_of(os_name)).ok();
    }
    drop(post);
}

/// What the signpost says; `None` if there is none, or its keeper has died before it wrote it.
fn read(os_name: &str) -> Result<Option<Keeper>, Error> {
    let Some(_post) = existing_post(os_name)? else {
        return Ok(None);
    };
    Ok(said_at(os_name))
}

/// What the signpost says, whose post the caller holds.
fn said_at(os_name: &str) -> Option<Keeper> {
    let signpost = ShmemConf::new().os_id(os_name).open().ok()?;
    words(&signpost).and_then(said)
}

/// True if nobody but this user can write the file.
fn is_private(file: &Metadata) -> bool {
    file.uid() == sys::user_id() && file.mode() & 0o777 == 0o600
}

fn words(signpost: &Shmem) -> Option<&[AtomicU64; WORDS]> {
    if signpost.len() < BYTES {
        return None;
    }
    let first = signpost.as_ptr().cast::<[AtomicU64; WORDS]>();
    // SAFETY: mapped, page aligned and long enough for as long as `signpost` is borrowed; atomics are valid for any bytes.
    // Only this user can shorten the file (`read`, or mode 0600 of what we created).
    unsafe { first.as_ref() }
}

fn write(signpost: &Shmem, keeper: Keeper) {
    let Some([magic, pid, numbers, identity]) = words(signpost) else {
        return;
    };
    let [memory, roll] = keeper.numbers.map(|number| u64::from(number as u32));
    // Release: whoever is killed in the middle of this leaves nothing that looks whole. Pairs with the Acquire in `said`.
    magic.store(0, Release);
    // Relaxed: published by the store of the magic, here and in the next two.
    pid.store(keeper.pid.into(), Relaxed);
    // Relaxed: as above.
    numbers.store(memory << 32 | roll, Relaxed);
    // Relaxed: as above.
    identity.store(keeper.identity, Relaxed);
    // Release: publishes the rest. Pairs with the Acquire in `said`.
    magic.store(MAGIC, Release);
}

fn said([magic, pid, numbers, identity]: &[AtomicU64; WORDS]) -> Option<Keeper> {
    // Acquire: pairs with the Release in `write`.
    if magic.load(Acquire) != MAGIC {
        return None;
    }
    // Relaxed: published by the magic, here and below.
    let numbers = numbers.load(Relaxed);
    Some(Keeper {
        // Relaxed: as above.
        pid: pid.load(Relaxed) as u32,
        numbers: [(numbers >> 32) as u32 as i32, numbers as u32 as i32],
        // Relaxed: as above.
        identity: identity.load(Relaxed),
    })
}
