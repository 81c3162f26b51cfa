//! From an order in shared memory to a function that runs.
//!
//! An order is sealed with a key that only the parent and its workers hold, in private memory: a worker that finds other numbers there,
//! because somebody wrote over them, refuses instead of jumping to them.

#![expect(
    unsafe_code,
    reason = "a number becomes a function again, under a seal"
)]

use super::board::{Order, Sheet};
use super::buffers::{self, Desk, Part};
use crate::function::{FunctionError, FunctionId, Key, Outlet};
use crate::kill::{self, KillPoint};
use crate::report;
use crate::slot::Kind;
use multi_core::{BoxError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};
use std::sync::Arc;

/// What becomes of a job that something wrote over.
pub(super) const OVERWRITTEN: &str = "its place in the pool's shared memory was overwritten";

/// Where the function of a job leaves what it returned.
pub(super) struct Out<'a> {
    sheet: Sheet<'a>,
    value_bytes_max: usize,
    key: &'a Key,
    desk: &'a Arc<Desk>,
}

impl<'a> Out<'a> {
    pub(super) fn new(
        sheet: Sheet<'a>,
        value_bytes_max: usize,
        key: &'a Key,
        desk: &'a Arc<Desk>,
    ) -> Self {
        Self {
            sheet,
            value_bytes_max,
            key,
            desk,
        }
    }

    /// The job's code panicked instead.
    pub(super) fn take_panic(&mut self, kind: multi_core::TaskErrorKind) {
        flush();
        report::write_panicked(&mut self.sheet, kind);
    }

    /// There is nothing to run: somebody wrote over it.
    pub(super) fn refuse(&mut self, why: BoxError) {
        self.take::<()>(Err(why));
    }
}

impl Outlet for Out<'_> {
    fn take<T: Serialize>(&mut self, returned: Result<T>) {
        flush();
        buffers::begin_enclosing();
        let kind = report::write_outcome(&mut self.sheet, self.value_bytes_max, returned);
        let enclosed = buffers::end_enclosing();
        if kind != Kind::Value || enclosed.is_empty() {
            return;
        }
        let job = self.sheet.job();
        let list = buffers::list(self.key, Part::Value, job, &enclosed);
        if self.sheet.enclose(&list, enclosed.len()) {
            kill::reached(KillPoint::BuffersListed);
            // The last thing: what is given is not taken back.
            self.desk.give(job, &enclosed);
        } else {
            self.refuse(no_room(enclosed.len()).into());
        }
    }
}

/// Before the report: what the job printed is out when it counts as done.
fn flush() {
    drop(io::stdout().flush());
}

/// Why so many shared buffers cannot be part of one job.
pub(super) fn no_room(count: usize) -> String {
    format!(
        "there is no room to list {count} shared buffers; pass fewer in one job, or raise args_bytes_max and value_bytes_max"
    )
}

/// The order to run `function`.
///
/// # Errors
///
/// The function cannot be named to another process.
pub(super) fn order<A, T>(key: &Key, function: fn(A) -> Result<T>) -> Result<Order, FunctionError>
where
    A: DeserializeOwned,
    T: Serialize,
{
    let id = FunctionId::of::<Out<'_>, A, T>(function)?;
    Ok(Order {
        function: id.to_words(),
        seal: id.seal::<Out<'_>>(key),
    })
}

/// For a worker: carries out an order that lay in shared memory.
pub(super) fn carry_out(key: &Key, order: Order, args: &[u8], out: &mut Out<'_>) {
    let id = FunctionId::from_words(order.function);
    if id.seal::<Out<'_>>(key) != order.seal {
        return out.refuse(OVERWRITTEN.into());
    }
    // SAFETY: the seal says that `order` made it, for `Out`, in a process that has the key: this one, the one that it is a forked copy of, or
    // the one of the same build that sent the key through a socket.
    if let Err(error) = unsafe { id.call(args, out) } {
        out.refuse(error.into());
    }
}

/// What workers do before their first job, as a function that those have, too, which are not forked from this process.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Preparation(FunctionId);

/// What it returned.
struct Returned(Result);

impl Outlet for Returned {
    fn take<T: Serialize>(&mut self, returned: Result<T>) {
        self.0 = returned.map(drop);
    }
}

impl Preparation {
    /// Names `prepare`.
    ///
    /// # Errors
    ///
    /// It lies in a shared library.
    pub(super) fn of<A: DeserializeOwned>(prepare: fn(A) -> Result) -> Result<Self, FunctionError> {
        FunctionId::of::<Returned, A, ()>(prepare).map(Self)
    }

    /// Calls it.
    ///
    /// # Errors
    ///
    /// What it returns; that the arguments cannot be decoded.
    pub(super) fn run(self, args: &[u8]) -> Result {
        let mut returned = Returned(Ok(()));
        // SAFETY: `of` made it for `Returned`, in this process, in the one that it is a forked copy of, or in the one of the same build that
        // sent it in an order, through a socket.
        unsafe { self.0.call(args, &mut returned) }?;
        returned.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::board::Board;
    use crate::pool::buffers::Arena;
    use crate::slot::Reach;

    fn double(n: u32) -> Result<u32> {
        Ok(2 * n)
    }

    fn value_of(scribble: impl Fn(&mut Order)) -> (Kind, Vec<u8>) {
        let (key, board) = (
            Key::new().unwrap(),
            Board::new(1, 1, 1, 1, Reach::Forked).unwrap(),
        );
        let desk = Desk::of_parent(Arc::new(Arena::new(1, 0, Reach::Forked).unwrap()));
        let mut order = order(&key, double).unwrap();
        scribble(&mut order);
        board.set_order(0, order);
        let mut out = Out::new(board.value_paper(0), 1000, &key, &desk);
        carry_out(&key, board.order(0), &[21], &mut out);
        let mut copied = Vec::new();
        let (kind, bytes, _) = board.copy_value(0, &mut copied).unwrap();
        (kind, bytes.to_vec())
    }

    #[test]
    fn order_is_carried_out() {
        assert_eq!(value_of(|_| ()), (Kind::Value, vec![42]));
    }

    #[test]
    fn scribbled_order_is_refused() {
        let scribbles: [fn(&mut Order); 4] = [
            |order| order.function[0] ^= 1,
            |order| order.function[1] += 16,
            |order| order.seal ^= 1,
            |order| (order.function, order.seal) = ([0; 2], 0),
        ];
        for scribble in scribbles {
            assert_eq!(value_of(scribble).0, Kind::Failure);
        }
    }
}
