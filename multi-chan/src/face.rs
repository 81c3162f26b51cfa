//! The eventfd of a side: what a poll loop sees of an event.
//!
//! A channel that was built as pollable has two eventfds, made with it, inherited by forked children and passed on with it. Posters
//! write to one when a poller has armed the event (`Event::tell_pollers`), and must find it from the
//! event alone, deep inside the ring. So each process keeps a table from events to descriptors, in private memory: the
//! number of a descriptor is never read from the mapping.

#![expect(unsafe_code, reason = "borrows descriptors by number")]

use crate::Error;
use crate::sync::{Acquire, AtomicU32, AtomicUsize, Relaxed, Release};
use crate::sys;
use crate::wait::Event;
use std::fs;
use std::io;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

const CHAINS: usize = 64;

/// An event of this process and its eventfd.
///
/// Entries are added, changed and freed under the fork lock, so a fork never finds one half made. They are looked up
/// without a lock, by who holds the channel, and so keeps its entry as it is.
#[derive(Debug, Default)]
struct Entry {
    /// The event's address, 0 while the entry is free.
    event: AtomicUsize,
    fd: AtomicU32,
    next: OnceLock<Box<Entry>>,
}

/// Made with the first pollable channel, under the fork lock.
static TABLE: OnceLock<[Entry; CHAINS]> = OnceLock::new();

fn address(event: &Event) -> usize {
    std::ptr::from_ref(event).addr()
}

fn chain(address: usize) -> impl Iterator<Item = &'static Entry> {
    // Both events of a channel's ring are on one page.
    let first = TABLE.get().map(|table| &table[(address >> 12) % CHAINS]);
    iter::successors(first, |entry| entry.next.get().map(Box::as_ref))
}

/// Writes to the eventfd of `event`, if this process has it.
pub(crate) fn signal(event: &Event) {
    if let Some(fd) = find(event) {
        // The counter is full only if it is readable, which is all that is wanted.
        sys::eventfd_add(fd).ok();
    }
}

/// The eventfd of an event of a channel that the caller holds.
pub(crate) fn find(event: &Event) -> Option<BorrowedFd<'_>> {
    let address = address(event);
    // Acquire: pairs with the Release in `enter`.
    let entry = chain(address).find(|entry| entry.event.load(Acquire) == address)?;
    // Relaxed: written before the address.
    let fd = entry.fd.load(Relaxed).cast_signed();
    // SAFETY: whoever has a reference to the event holds its `Core`, which owns the descriptor and forgets
    // the entry before it closes it.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// The two descriptors of a channel of this process; open for as long as this lives.
#[derive(Debug)]
pub(crate) struct Faces {
    sent: OwnedFd,
    freed: OwnedFd,
}

impl Faces {
    /// Makes the eventfds of a new channel. The caller holds the fork lock.
    pub(crate) fn new() -> io::Result<Faces> {
        Ok(Faces {
            sent: sys::eventfd()?,
            freed: sys::eventfd()?,
        })
    }

    /// Takes eventfds that came from elsewhere, which must be those of the channel whose label has these identities.
    pub(crate) fn arrived(
        [sent, freed]: [OwnedFd; 2],
        identities: [u64; 2],
    ) -> Result<Faces, Error> {
        let faces = Faces { sent, freed };
        match faces.identities() {
            Ok(own) if own == identities => Ok(faces),
            _ => Err(Error::mismatch(
                "the descriptors for poll loops are another channel's",
            )),
        }
    }

    /// For receivers, and for senders.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.sent.as_fd(), self.freed.as_fd()]
    }

    /// What tells these eventfds from all others that are open.
    pub(crate) fn identities(&self) -> io::Result<[u64; 2]> {
        let [sent, freed] = self.fds().map(identity);
        Ok([sent?, freed?])
    }

    /// Enters them for the events of the channel, which keeps this and will `forget` them: for receivers one, for senders one or two. The
    /// caller holds the fork lock.
    pub(crate) fn enter(&self, sent: &Event, freed: &Event, room: Option<&Event>) {
        let senders = [Some(freed), room].into_iter().flatten();
        let all = senders.map(|event| (event, &self.freed));
        for (event, fd) in all.chain([(sent, &self.sent)]) {
            let entry = free_entry(address(event));
            // Relaxed: read after the address.
            entry
                .fd
                .store(fd.as_fd().as_raw_fd().cast_unsigned(), Relaxed);
            // Release: the number comes first. Pairs with the Acquire in `find`.
            entry.event.store(address(event), Release);
        }
    }
}

/// The number that the kernel gave an eventfd, and one more; an error for what is no eventfd, blocks, or counts down one by one.
fn identity(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let no_face = || io::Error::other("a descriptor is not what poll loops wait for");
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let number: u64 = field("eventfd-id")
        .and_then(|id| id.parse().ok())
        .ok_or_else(no_face)?;
    // Kernels that do not say so know no better.
    let is_semaphore = field("eventfd-semaphore").is_some_and(|count| count != "0");
    if is_semaphore || !sys::is_nonblocking(fd)? {
        return Err(no_face());
    }
    Ok(number + 1)
}

fn free_entry(address: usize) -> &'static Entry {
    let mut last = None;
    for entry in chain(address) {
        // Relaxed: written under the fork lock, which the caller holds.
        if entry.event.load(Relaxed) == 0 {
            return entry;
        }
        last = Some(entry);
    }
    match last {
        Some(last) => last.next.get_or_init(Box::default),
        None => {
            TABLE.get_or_init(|| [(); CHAINS].map(|()| Entry::default()));
            free_entry(address)
        }
    }
}

/// Takes the entries of a channel's events out.
pub(crate) fn forget<'a>(events: impl Iterator<Item = &'a Event>) {
    for address in events.map(address) {
        for entry in chain(address) {
            // Relaxed: nobody else holds the channel any more.
            if entry.event.load(Relaxed) == address {
                // Relaxed: as above; the next one to use the entry has the fork lock, or is a later fork.
                entry.event.store(0, Relaxed);
            }
        }
    }
}
