//! The cancel token of the group whose function this process runs.

use crate::cancel::SharedWord;
use crate::slot::Region;
use multi_core::CancelToken;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};

static TOKEN: OnceLock<CancelToken> = OnceLock::new();

/// The cancel token of the [`FnGroup`](crate::FnGroup) whose function this process runs; none in any other process.
///
/// A function looks at it to stop when it is asked, before the group's grace is over and it is sent a signal; and it can cancel its group.
///
/// ```
/// fn main() -> multi_proc::Result {
///     multi_proc::init();
///     let mut group = multi_proc::Group::builder().grace(std::time::Duration::from_secs(60)).zygote()?;
///     let obeys = |()| {
///         let token = multi_proc::task_token().ok_or("called in the wrong process")?;
///         token.wait();
///         Ok("asked, and stopped".to_owned())
///     };
///     let task = group.spawn_fn(obeys, ());
///     group.cancel();
///     assert_eq!(task.join()?, "asked, and stopped");
///     Ok(group.wait()?)
/// }
/// ```
#[must_use]
pub fn task_token() -> Option<CancelToken> {
    TOKEN.get().cloned()
}

/// For a process that follows an order, before its function begins: this is the token.
pub(super) fn enter(file: &OwnedFd, word_at: u64, wake: OwnedFd) -> io::Result<()> {
    let word = Region::borrow_word(file.as_fd(), word_at)?;
    let word = SharedWord::borrowed(word, wake);
    // There is one order to a process; a second token would be another's.
    TOKEN.get_or_init(|| CancelToken::with_word(Arc::new(word)));
    Ok(())
}
