//! A child's last words: what came of the task, from the child's memory to the parent's.

use crate::limits::Refused;
use crate::pool;
use crate::slot::{Kind, Slot, Stage};
use crate::sys::Exit;
use multi_core::{BoxError, Cancelled, PanicLocation, RemoteError, TaskErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::io;

/// Characters kept of each text of a failure that is too long even for the spill.
const CUT_CHARS: usize = 200;
/// Links kept of a chain of causes that is too long even for the spill.
const CUT_LINKS: usize = 16;

/// What a child says of a task that did not end with a value.
#[derive(Serialize, Deserialize)]
enum Failure {
    Returned {
        chain: Vec<String>,
        os_code: Option<i32>,
    },
    Cancelled,
    Panicked {
        message: String,
        location: Option<Location>,
    },
    /// The task was not begun: what could not be done, and why.
    NotBegun {
        what: String,
        why: String,
        os_code: Option<i32>,
    },
    /// The value needs this many bytes.
    TooLarge(u64),
    /// The value's own `Serialize` refused.
    NotEncoded(String),
}

#[derive(Serialize, Deserialize)]
struct Location {
    file: String,
    line: u32,
    column: u32,
}

/// What is known of a child that has ended, beside what it wrote itself.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Collected(Exit),
    /// Somebody else collected it.
    Vanished,
    /// It ended before it could begin with the task, and why.
    NeverBegan(String),
}

/// Where a payload is written: a slot, or a job of a pool.
pub(crate) trait Paper {
    /// How many bytes a payload may have that is read inline.
    const INLINE_MAX: usize;
    /// The place for a short payload.
    fn inline_mut(&mut self) -> &mut [u8];
    /// The place for what is longer than that.
    fn spill_mut(&mut self) -> &mut [u8];
    /// The payload is the first `len` bytes: inline or, where it is longer than that, in the spill.
    fn set_payload(&mut self, kind: Kind, len: usize);
}

impl Paper for Slot {
    const INLINE_MAX: usize = Self::INLINE_MAX;

    fn inline_mut(&mut self) -> &mut [u8] {
        Self::inline_mut(self)
    }

    fn spill_mut(&mut self) -> &mut [u8] {
        Self::spill_mut(self)
    }

    fn set_payload(&mut self, kind: Kind, len: usize) {
        Self::set_payload(self, kind, len);
    }
}

/// For the child: writes down what its task returned, then says that it is done. Calls the value's `Serialize`, or the error's
/// `Display`.
pub(crate) fn write<T: Serialize>(
    slot: &mut Slot,
    value_bytes_max: usize,
    returned: Result<T, BoxError>,
) {
    write_outcome(slot, value_bytes_max, returned);
    slot.set_stage(Stage::Done);
}

/// Writes down what a task returned, and says what it wrote; whoever reads it is told by other means. Calls the value's `Serialize`, or the
/// error's `Display`.
pub(crate) fn write_outcome<T: Serialize>(
    paper: &mut impl Paper,
    value_bytes_max: usize,
    returned: Result<T, BoxError>,
) -> Kind {
    let written = match &returned {
        Ok(value) => write_value(paper, value, value_bytes_max),
        Err(error) => Err(failure_of(&**error)),
    };
    match written {
        Ok(()) => Kind::Value,
        Err(failure) => {
            write_failure(paper, failure);
            Kind::Failure
        }
    }
}

/// As [`write`], for a panic that left the task.
#[cold]
pub(crate) fn write_panic(slot: &mut Slot, kind: TaskErrorKind) {
    write_panicked(slot, kind);
    slot.set_stage(Stage::Done);
}

/// As [`write_outcome`], for a panic that left the task.
#[cold]
pub(crate) fn write_panicked(paper: &mut impl Paper, kind: TaskErrorKind) {
    let (message, location) = match kind {
        TaskErrorKind::Panicked {
            message, location, ..
        } => (message, location),
        other => (format!("{other:?}"), None),
    };
    let location =
        location.map(|PanicLocation { file, line, column }| Location { file, line, column });
    write_failure(paper, Failure::Panicked { message, location });
}

/// For the child: writes down that its process could not be made as it was asked for, then says that it is done.
#[cold]
pub(crate) fn write_refused(slot: &mut Slot, refused: Refused) {
    let Refused { what, error } = refused;
    let failure = Failure::NotBegun {
        what,
        why: error.to_string(),
        os_code: error.raw_os_error(),
    };
    write_failure(slot, failure);
    slot.set_stage(Stage::Done);
}

fn write_value<T: Serialize>(
    paper: &mut impl Paper,
    value: &T,
    value_bytes_max: usize,
) -> Result<(), Failure> {
    match pool::explained(|| put(paper, Kind::Value, value, value_bytes_max)) {
        Ok(()) => Ok(()),
        Err((postcard::Error::SerializeBufferFull, _)) => {
            let bytes = postcard::experimental::serialized_size(value);
            Err(bytes.map_or_else(
                |error| Failure::NotEncoded(error.to_string()),
                |bytes| Failure::TooLarge(bytes as u64),
            ))
        }
        Err((_, why)) => Err(Failure::NotEncoded(why)),
    }
}

#[cold]
fn write_failure(paper: &mut impl Paper, failure: Failure) {
    if put(paper, Kind::Failure, &failure, usize::MAX).is_err() {
        // Cut to that size it fits into the smallest spill: a failure is text, and text can always be encoded.
        let written = put(paper, Kind::Failure, &failure.cut(), usize::MAX);
        debug_assert!(written.is_ok(), "a failure cut short does not fit");
    }
}

/// Encodes `value` into the slot or, where it is too long for that, beside it.
pub(crate) fn put<T: Serialize, P: Paper>(
    paper: &mut P,
    kind: Kind,
    value: &T,
    bytes_max: usize,
) -> postcard::Result<()> {
    let inline = paper.inline_mut();
    let inline_max = inline.len().min(bytes_max);
    let len = match postcard::to_slice(value, &mut inline[..inline_max]) {
        Ok(written) => written.len(),
        Err(postcard::Error::SerializeBufferFull) if bytes_max > inline_max => {
            let spill = paper.spill_mut();
            let spill_max = spill.len().min(bytes_max);
            let len = postcard::to_slice(value, &mut spill[..spill_max])?.len();
            if len <= P::INLINE_MAX {
                // Encoded differently the second time: the reader looks for so short a payload in the paper.
                let copy = paper.spill_mut()[..len].to_vec();
                paper.inline_mut()[..len].copy_from_slice(&copy);
            }
            len
        }
        Err(error) => return Err(error),
    };
    paper.set_payload(kind, len);
    Ok(())
}

#[cold]
fn failure_of(error: &(dyn Error + 'static)) -> Failure {
    if error.is::<Cancelled>() {
        return Failure::Cancelled;
    }
    Failure::Returned {
        chain: RemoteError::chain_of(error),
        os_code: RemoteError::os_code_of(error),
    }
}

impl Failure {
    fn cut(self) -> Self {
        match self {
            Self::Returned { chain, os_code } => Self::Returned {
                chain: chain.into_iter().take(CUT_LINKS).map(cut).collect(),
                os_code,
            },
            Self::Panicked { message, location } => Self::Panicked {
                message: cut(message),
                location: location.map(|Location { file, line, column }| Location {
                    file: cut(file),
                    line,
                    column,
                }),
            },
            Self::NotBegun { what, why, os_code } => Self::NotBegun {
                what: cut(what),
                why: cut(why),
                os_code,
            },
            Self::NotEncoded(text) => Self::NotEncoded(cut(text)),
            short => short,
        }
    }

    fn into_kind<T>(self, value_bytes_max: usize) -> TaskErrorKind {
        match self {
            Self::Returned { chain, os_code } => {
                TaskErrorKind::Returned(RemoteError::new(chain, os_code).into())
            }
            Self::Cancelled => TaskErrorKind::Cancelled,
            Self::NotBegun { what, why, os_code } => {
                let kind = os_code.map_or(io::ErrorKind::Other, |code| {
                    io::Error::from_raw_os_error(code).kind()
                });
                let error = RemoteError::new(vec![what, why], os_code);
                TaskErrorKind::Start(io::Error::new(kind, error))
            }
            Self::Panicked { message, location } => TaskErrorKind::Panicked {
                message,
                location: location.map(|Location { file, line, column }| PanicLocation {
                    file,
                    line,
                    column,
                }),
                backtrace: None,
            },
            Self::TooLarge(bytes) => TaskErrorKind::LimitExceeded(format!(
                "its value takes {bytes} bytes on the way home, where value_bytes_max is {value_bytes_max}"
            )),
            Self::NotEncoded(why) => {
                TaskErrorKind::Returned(ValueError::new::<T>("be encoded", why).into())
            }
        }
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(CUT_CHARS) {
        Some((at, _)) => format!("{}… ({} bytes more)", &text[..at], text.len() - at),
        None => text,
    }
}

/// For the parent: what came of a task whose child has ended. Calls the value's `Deserialize`.
///
/// # Errors
///
/// How the task failed: as the child wrote it, else as the kernel saw it.
pub(crate) fn read<T: DeserializeOwned>(
    slot: &Slot,
    ending: &Ending,
    value_bytes_max: usize,
) -> Result<T, TaskErrorKind> {
    if slot.stage() == Some(Stage::Done) {
        // What it wrote in full counts, also where it was killed on its way out.
        return read_payload(slot.payload(), value_bytes_max);
    }
    Err(match ending {
        Ending::Collected(Exit::Code(code)) => TaskErrorKind::Exited(*code),
        Ending::Collected(Exit::Signal {
            signal,
            core_dumped,
        }) => TaskErrorKind::Signaled {
            signal: *signal,
            core_dumped: *core_dumped,
        },
        Ending::Vanished => TaskErrorKind::Lost,
        Ending::NeverBegan(why) => TaskErrorKind::Start(io::Error::other(why.clone())),
    })
}

/// Reads what [`write_outcome`] or its kin wrote; none where it was overwritten. Calls the value's `Deserialize`.
///
/// # Errors
///
/// How the task failed, or why its value cannot be read.
pub(crate) fn read_payload<T: DeserializeOwned>(
    payload: Option<(Kind, &[u8])>,
    value_bytes_max: usize,
) -> Result<T, TaskErrorKind> {
    let damaged =
        |why: String| TaskErrorKind::Returned(ValueError::new::<T>("be decoded", why).into());
    match payload {
        Some((Kind::Value, bytes)) => {
            pool::explained(|| postcard::from_bytes(bytes)).map_err(|(_, why)| damaged(why))
        }
        Some((Kind::Failure, bytes)) => Err(match postcard::from_bytes::<Failure>(bytes) {
            Ok(failure) => failure.into_kind::<T>(value_bytes_max),
            Err(error) => damaged(error.to_string()),
        }),
        Some((Kind::Arguments, _)) | None => Err(damaged(
            "its place in the shared memory was overwritten".into(),
        )),
    }
}

/// A value that does not survive the way home.
#[derive(Debug)]
struct ValueError {
    type_name: &'static str,
    cannot: &'static str,
    why: String,
}

impl ValueError {
    fn new<T>(cannot: &'static str, why: String) -> Self {
        Self {
            type_name: type_name::<T>(),
            cannot,
            why,
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its value, a {}, cannot {}: {}",
            self.type_name, self.cannot, self.why
        )
    }
}

impl Error for ValueError {}

#[cfg(test)]
mod tests;
