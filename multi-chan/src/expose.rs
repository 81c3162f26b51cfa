//! A channel's memory in the hands of a test that writes over it as no participant would.
//!
//! Without the feature `kill-points` there is nothing here.

use crate::chan::Sender;
use crate::message::BytesSender;
use crate::plain::Plain;
use std::ptr::NonNull;

/// A handle whose channel's memory a test may spoil.
pub trait Exposed {
    /// Where the mapping begins, and its bytes.
    fn memory(&self) -> (NonNull<u8>, usize);
}

impl<T: Plain> Exposed for Sender<T> {
    fn memory(&self) -> (NonNull<u8>, usize) {
        self.end.core().map().extent()
    }
}

impl Exposed for BytesSender {
    fn memory(&self) -> (NonNull<u8>, usize) {
        self.link.end().core().map().extent()
    }
}
