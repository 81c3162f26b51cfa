//! Counting what tasks did, in whatever memory they did it: an anonymous pipe.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::Arc;

/// Collects one byte a mark from tasks of any backend, in the order in which they were made.
pub(super) struct Tally {
    reader: PipeReader,
    marker: Marker,
}

/// Makes marks; a task captures a clone.
#[derive(Clone)]
pub(super) struct Marker {
    writer: Arc<PipeWriter>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let (reader, writer) = pipe().expect("no pipe for the tally");
        Self {
            reader,
            marker: Marker {
                writer: Arc::new(writer),
            },
        }
    }

    pub(super) fn marker(&self) -> Marker {
        self.marker.clone()
    }

    /// The marks. Waits until every marker is gone, in every process.
    pub(super) fn marks(self) -> Vec<u8> {
        let Self { mut reader, marker } = self;
        drop(marker);
        let mut marks = Vec::new();
        reader
            .read_to_end(&mut marks)
            .expect("the tally cannot be read");
        marks
    }
}

impl Marker {
    /// Writes one byte; a pipe keeps such writes whole and in order (pipe(7)). Does not block below 64 Ki marks.
    pub(super) fn mark(&self, mark: u8) {
        (&*self.writer)
            .write_all(&[mark])
            .expect("the tally cannot be written");
    }
}
