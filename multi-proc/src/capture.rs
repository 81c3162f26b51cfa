//! What tasks print, on its way to this process.
//!
//! One pipe for each captured stream, emptied by whoever waits for the group in the same `ppoll` as its children, and by the clock's
//! thread while nobody does: no thread of its own, and no task that waits for a reader which never comes.
//!
//! One thread at a time reads a task's pipes: it takes the sinks out, and puts them back when it is done. Lines are passed on without
//! any lock held, and a thread that is just doing so does not read again, so that the program's function may use the group.

use crate::stdio::OnLine;
use crate::sync::{AtomicBool, Ordering};
use crate::sys;
use multi_core::{TaskId, panic};
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longer lines are passed on in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Read from one pipe at a time: all that the largest pipe can hold, and a bound where somebody writes faster than we read.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// How long to let another thread that reads the same pipes finish, before looking at other children.
const PATIENCE: Duration = Duration::from_millis(10);

/// The pipes of a task about to be forked.
#[derive(Default)]
pub(crate) struct Pipes(Vec<Pipe>);

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// The child's descriptors that lead here.
    fds: &'static [RawFd],
    sink: Sink,
}

/// Where the bytes of a pipe end up.
pub(crate) enum Sink {
    Tail(Tail),
    Lines {
        /// None once it has panicked.
        on_line: Option<OnLine>,
        begun: Vec<u8>,
    },
}

/// The last bytes of a stream.
pub(crate) struct Tail {
    bytes_max: usize,
    kept: VecDeque<u8>,
}

/// What a running task prints.
pub(crate) struct Capture {
    task: TaskId,
    readers: Vec<Reader>,
    /// None while some thread reads.
    sinks: Mutex<Option<Vec<Sink>>>,
    are_back: Condvar,
}

struct Reader {
    file: File,
    /// Everyone who could write has closed it.
    is_over: AtomicBool,
}

thread_local! {
    /// This thread is passing a line on.
    static IS_PASSING_ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a function that a line was passed on to.
pub(crate) fn is_passing_on() -> bool {
    IS_PASSING_ON.get()
}

/// For a forked child, perhaps of such a function: it is none.
pub(crate) fn enter_child() {
    if is_passing_on() {
        IS_PASSING_ON.set(false);
    }
}

impl Pipes {
    pub(crate) fn add(&mut self, fds: &'static [RawFd], sink: Sink) -> io::Result<()> {
        let (reader, writer) = sys::pipe()?;
        self.0.push(Pipe {
            reader,
            writer,
            fds,
            sink,
        });
        Ok(())
    }

    /// For the child: what its descriptor `fd` leads to.
    pub(crate) fn writer(&self, fd: RawFd) -> Option<BorrowedFd<'_>> {
        let pipe = self.0.iter().find(|pipe| pipe.fds.contains(&fd))?;
        Some(pipe.writer.as_fd())
    }

    /// For the parent, once the child has the other ends: what to read from.
    pub(crate) fn into_capture(self, task: TaskId) -> Option<Arc<Capture>> {
        if self.0.is_empty() {
            return None;
        }
        let (mut readers, mut sinks) = (Vec::new(), Vec::new());
        for Pipe { reader, sink, .. } in self.0 {
            readers.push(Reader {
                file: File::from(reader),
                is_over: AtomicBool::new(false),
            });
            sinks.push(sink);
        }
        Some(Arc::new(Capture {
            task,
            readers,
            sinks: Mutex::new(Some(sinks)),
            are_back: Condvar::new(),
        }))
    }
}

impl Capture {
    /// The descriptors to poll.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        // Relaxed: an end that is not seen yet is polled once more.
        let is_open = |reader: &&Reader| !reader.is_over.load(Ordering::Relaxed);
        self.readers
            .iter()
            .filter(is_open)
            .map(|reader| reader.file.as_fd())
    }

    /// Reads what there is, unless another thread is doing that for longer than a moment; returns whether there was anything.
    pub(crate) fn drain(&self) -> bool {
        let mut taken = self.lock();
        if taken.is_none() {
            taken = self
                .are_back
                .wait_timeout(taken, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let Some(mut sinks) = taken.take() else {
            return false;
        };
        drop(taken);
        let any = self.read_into(&mut sinks);
        *self.lock() = Some(sinks);
        self.are_back.notify_all();
        any
    }

    /// Reads the rest, once the task has ended, passes an unfinished line on, and returns what is to be kept. Waits as long as another thread is
    /// inside the program's function: lines come one at a time and in order, so that nobody can go on without it.
    pub(crate) fn finish(&self) -> Option<String> {
        let mut taken = self.lock();
        let mut sinks = loop {
            match taken.take() {
                Some(sinks) => break sinks,
                None => {
                    taken = self
                        .are_back
                        .wait(taken)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(taken);
        self.read_into(&mut sinks);
        let mut tail = None;
        for sink in &mut sinks {
            sink.finish(self.task, &mut tail);
        }
        // Others may still poll; they find nothing.
        *self.lock() = Some(sinks);
        self.are_back.notify_all();
        tail
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Sink>>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_into(&self, sinks: &mut [Sink]) -> bool {
        let mut buffer = [0; 8 << 10];
        let mut any = false;
        for (reader, sink) in self.readers.iter().zip(sinks) {
            let mut bytes = 0;
            while bytes < DRAIN_BYTES_MAX {
                match (&reader.file).read(&mut buffer) {
                    Ok(count @ 1..) => {
                        any = true;
                        bytes += count;
                        sink.take(self.task, &buffer[..count]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(0) | Err(_) => {
                        // Relaxed: see `fds`.
                        reader.is_over.store(true, Ordering::Relaxed);
                        break;
                    }
                }
            }
        }
        any
    }
}

impl Sink {
    pub(crate) fn tail(bytes_max: usize) -> Self {
        Self::Tail(Tail {
            bytes_max,
            kept: VecDeque::new(),
        })
    }

    pub(crate) fn lines(on_line: &OnLine) -> Self {
        Self::Lines {
            on_line: Some(Arc::clone(on_line)),
            begun: Vec::new(),
        }
    }

    fn take(&mut self, task: TaskId, bytes: &[u8]) {
        match self {
            Self::Tail(tail) => tail.take(bytes),
            Self::Lines { on_line, begun } => {
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    begun.extend_from_slice(piece);
                    if begun.last() == Some(&b'\n') {
                        begun.pop();
                        pass_on(on_line, task, begun);
                    } else if begun.len() >= LINE_BYTES_MAX {
                        pass_on(on_line, task, begun);
                    }
                }
            }
        }
    }

    fn finish(&mut self, task: TaskId, tail: &mut Option<String>) {
        match self {
            Self::Tail(kept) => tail.get_or_insert_default().push_str(&kept.text()),
            Self::Lines { on_line, begun } if !begun.is_empty() => pass_on(on_line, task, begun),
            Self::Lines { .. } => {}
        }
    }
}

impl Tail {
    fn take(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(self.bytes_max)..];
        let over = (self.kept.len() + fresh.len()).saturating_sub(self.bytes_max);
        self.kept.drain(..over.min(self.kept.len()));
        self.kept.extend(fresh);
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.kept.make_contiguous()).into_owned()
    }
}

/// Passes a line on and empties it.
fn pass_on(on_line: &mut Option<OnLine>, task: TaskId, line: &mut Vec<u8>) {
    if let Some(call) = on_line {
        IS_PASSING_ON.set(true);
        let called = panic::catch(|| call(task, &String::from_utf8_lossy(line)));
        IS_PASSING_ON.set(false);
        if called.is_err() {
            *on_line = None;
        }
    }
    line.clear();
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_bytes_however_they_come() {
        let kept = |bytes_max, writes: &[&str]| {
            let mut tail = Tail {
                bytes_max,
                kept: VecDeque::new(),
            };
            for write in writes {
                tail.take(write.as_bytes());
            }
            tail.text()
        };
        assert_eq!(kept(4, &["abc"]), "abc");
        assert_eq!(kept(4, &["abc", "def"]), "cdef");
        assert_eq!(kept(4, &["abcdefgh"]), "efgh");
        assert_eq!(kept(4, &["ab", "cdefgh", "i"]), "fghi");
        assert_eq!(kept(0, &["ab"]), "");
    }
}
