//! An error that crossed a process boundary: its chain as text, its OS error code as a number.

use crate::error::{GroupError, TaskError};
use std::error::Error;
use std::fmt;
use std::io;

/// An error of another process: what each error of its chain said, and the OS error code if one was among them.
///
/// ```
/// use multi_core::RemoteError;
/// use std::error::Error;
///
/// let here = std::io::Error::from_raw_os_error(2);
/// let there = RemoteError::new(RemoteError::chain_of(&here), RemoteError::os_code_of(&here));
/// assert_eq!(there.to_string(), here.to_string());
/// assert_eq!(there.os_code(), Some(2));
/// assert!(there.source().is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    message: String,
    source: Option<Box<RemoteError>>,
    os_code: Option<i32>,
}

impl RemoteError {
    /// Rebuilds an error from what [`chain_of`](Self::chain_of) and [`os_code_of`](Self::os_code_of) said on the other side.
    /// An empty chain becomes an error that says so.
    #[must_use]
    pub fn new(chain: Vec<String>, os_code: Option<i32>) -> Self {
        let mut rebuilt = None;
        for message in chain.into_iter().rev() {
            rebuilt = Some(Self {
                message,
                source: rebuilt.map(Box::new),
                os_code,
            });
        }
        rebuilt.unwrap_or_else(|| Self {
            message: "an error without a message".into(),
            source: None,
            os_code,
        })
    }

    /// What `error` and each of its sources say, outermost first: a source that its effect has quoted already is left out, and the
    /// error of a group is summed up in one line.
    #[must_use]
    pub fn chain_of(error: &(dyn Error + 'static)) -> Vec<String> {
        causes(error)
    }

    /// The OS error code of the outermost error in the chain that has one.
    #[must_use]
    pub fn os_code_of(error: &(dyn Error + 'static)) -> Option<i32> {
        chain(error).find_map(|error| {
            error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::raw_os_error)
                .or_else(|| error.downcast_ref::<Self>().and_then(Self::os_code))
        })
    }

    /// The OS error code that the chain held on the other side.
    #[must_use]
    pub fn os_code(&self) -> Option<i32> {
        self.os_code
    }
}

/// The texts of `error` and its sources, outermost first; see [`RemoteError::chain_of`].
pub(crate) fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for link in chain(error) {
        if let Some(group) = link.downcast_ref::<GroupError>() {
            said.push(group.summary());
            break;
        }
        let text = link.to_string();
        let is_quoted = |last: &String| {
            last.strip_suffix(&*text)
                .is_some_and(|before| before.is_empty() || before.ends_with(": "))
        };
        if !said.last().is_some_and(is_quoted) {
            said.push(text);
        }
        // A task's failure has named its causes.
        if link.is::<TaskError>() {
            break;
        }
    }
    said
}

/// `error` and its sources, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_keeps_every_link_in_order() {
        let error = RemoteError::new(
            vec!["load".into(), "open".into(), "no such file".into()],
            Some(2),
        );
        assert_eq!(
            RemoteError::chain_of(&error),
            ["load", "open", "no such file"]
        );
        assert_eq!(RemoteError::os_code_of(&error), Some(2));
    }

    #[test]
    fn quoted_cause_is_left_out_and_a_mere_likeness_is_not() {
        let chain = |outer: &str, inner: &str| {
            let error = RemoteError::new(vec![outer.into(), inner.into()], None);
            RemoteError::chain_of(&error).join(": ")
        };
        assert_eq!(
            chain("open: no such file", "no such file"),
            "open: no such file"
        );
        assert_eq!(
            chain("cannot read exit code 17", "7"),
            "cannot read exit code 17: 7"
        );
    }

    #[test]
    fn empty_chain_still_says_something() {
        assert_eq!(
            RemoteError::new(vec![], None).to_string(),
            "an error without a message"
        );
    }
}
