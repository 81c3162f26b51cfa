//! Iterating over what is received.

use crate::ends::End;
use crate::patience::Patience;
use crate::plain::Plain;

/// The values of a [`Receiver`](crate::Receiver) or [`Chan`](crate::Chan) as they come.
///
/// Ends when the channel is closed or its senders are gone, and it is drained.
#[derive(Debug)]
pub struct Iter<'a, T: Plain> {
    end: &'a End<T>,
}

/// As [`Iter`], owning the receiver.
#[derive(Debug)]
pub struct IntoIter<T: Plain> {
    end: End<T>,
}

impl<'a, T: Plain> Iter<'a, T> {
    pub(crate) fn new(end: &'a End<T>) -> Self {
        Iter { end }
    }
}

impl<T: Plain> IntoIter<T> {
    pub(crate) fn new(end: End<T>) -> Self {
        IntoIter { end }
    }
}

impl<T: Plain> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.end.recv(Patience::Endless).ok()
    }
}

impl<T: Plain> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.end.recv(Patience::Endless).ok()
    }
}
