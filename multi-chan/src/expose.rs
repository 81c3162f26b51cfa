//! A channel's memory in the hands of a test: to be written over as no participant would, or to be put into words when
//! something hangs.
//!
//! Without the feature `kill-points` there is nothing here.

use crate::chan::Sender;
use crate::layout::Stamp;
use crate::message::BytesSender;
use crate::plain::Plain;
use crate::robust::Process;
use crate::spsc;
use crate::sync::Acquire;
use crate::table::Core;
use std::fmt::{self, Write as _};
use std::ptr::NonNull;

/// A handle whose channel's memory a test may spoil, or look at as a whole.
pub trait Exposed {
    /// Where the mapping begins, and its bytes.
    fn memory(&self) -> (NonNull<u8>, usize);

    /// Where the roll of this tree of processes begins, and its bytes: a head of 64, then rows of 64 each, with the C
    /// library's mutex in the first 40.
    fn roll(&self) -> (NonNull<u8>, usize);

    /// Everything in the mapping and on the roll that is not as it was at first, a line each.
    fn state(&self) -> String;
}

impl<T: Plain> Exposed for Sender<T> {
    fn memory(&self) -> (NonNull<u8>, usize) {
        self.end.core().map().extent()
    }

    fn roll(&self) -> (NonNull<u8>, usize) {
        self.end.core().roll().extent()
    }

    fn state(&self) -> String {
        state(self.end.core(), &"")
    }
}

impl<T: Plain> Exposed for spsc::Sender<T> {
    fn memory(&self) -> (NonNull<u8>, usize) {
        self.end.core.map().extent()
    }

    fn roll(&self) -> (NonNull<u8>, usize) {
        self.end.core.roll().extent()
    }

    fn state(&self) -> String {
        state(&self.end.core, &format_args!("{:?}", self.end.lane.users()))
    }
}

impl Exposed for BytesSender {
    fn memory(&self) -> (NonNull<u8>, usize) {
        self.link.end().core().map().extent()
    }

    fn roll(&self) -> (NonNull<u8>, usize) {
        self.link.end().core().roll().extent()
    }

    fn state(&self) -> String {
        state(self.link.end().core(), &"")
    }
}

fn state(core: &Core, more: &dyn fmt::Display) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    tell(core, &mut text).ok();
    format!("{text}{more}")
}

fn tell(core: &Core, text: &mut String) -> fmt::Result {
    let header = core.header();
    writeln!(text, "{:?}", header.gate.0)?;
    writeln!(text, "tail {:?} head {:?}", header.tail.0, header.head.0)?;
    // The lowest bit of an event's word is ARMED.
    writeln!(text, "sent {:?}", header.sent.0)?;
    writeln!(text, "freed {:?}", header.freed.0)?;
    for (index, row) in core.map().rows().iter().enumerate() {
        // Acquire: what the row's owner wrote before its name is seen.
        if let Some(process) = Process::from_bits(row.process.load(Acquire)) {
            let lives = core.roll().is_alive(process);
            writeln!(text, "row {index}: {process:?} lives: {lives} {row:?}")?;
        }
    }
    for (index, _, bits) in core.bare_ring().used_slots() {
        writeln!(text, "slot {index}: {:?}", Stamp::read(bits))?;
    }
    if let Some(arena) = core.arena() {
        writeln!(
            text,
            "arena: {} bytes in use, room {:?}",
            arena.bytes_in_use(),
            arena.room()
        )?;
    }
    core.roll().tell(text)
}
