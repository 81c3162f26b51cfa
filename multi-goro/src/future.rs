//! Futures: those of this crate, and how a task or thread waits for one.
//!
//! [`Group::go_async`](crate::Group::go_async) and [`Group::go_when`](crate::Group::go_when) start them as tasks without a stack.

#![expect(unsafe_code, reason = "pins the fields of a pinned future")]

mod cancelled;
mod sleep;

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use multi_core::Event;

pub use self::cancelled::{Cancelled, cancelled};
pub use self::sleep::{Sleep, sleep, sleep_until};
pub use crate::chan::future::{RecvFuture, SendFuture, WhenRecv};
use crate::sync::TaskEvent;

/// Waits for a future: parks the calling task, or blocks the calling thread.
///
/// ```
/// use multi_goro::{chan, future::block_on};
///
/// let (tx, rx) = chan(1);
/// tx.send(7)?;
/// assert_eq!(block_on(rx.recv_async()), Ok(7));
/// # Ok::<(), multi_goro::chan::SendError<i32>>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let event = Arc::new(Woken(TaskEvent::new()));
    let waker = Waker::from(Arc::clone(&event));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        let key = event.0.key();
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        event.0.wait(key, None);
    }
}

#[derive(Debug)]
struct Woken(TaskEvent);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify();
    }
}

/// An operation, then what is to be done with its result: the future of a [`go_when`](crate::Group::go_when).
///
/// Not an `async` block: that would keep the operation twice.
pub(crate) struct When<O, F> {
    /// Pinned with the whole.
    operation: Option<O>,
    then: Option<F>,
}

impl<O: Future, T, F: FnOnce(O::Output) -> T> When<O, F> {
    pub(crate) fn new(operation: O, then: F) -> Self {
        Self {
            operation: Some(operation),
            then: Some(then),
        }
    }
}

impl<O: Future, T, F: FnOnce(O::Output) -> T> Future for When<O, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // SAFETY: `operation` is not moved below, but dropped in its place; `then` is never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: pinned, as the whole is; there is no way to it but this.
        let mut operation = unsafe { Pin::new_unchecked(&mut this.operation) };
        let waiting = operation.as_mut().as_pin_mut().expect("not ready yet");
        let result = ready!(waiting.poll(context));
        // What it holds (an end of a channel, say) is not held while the rest runs.
        operation.set(None);
        let then = this.then.take().expect("not ready yet");
        Poll::Ready(then(result))
    }
}

impl<O, F> fmt::Debug for When<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").finish_non_exhaustive()
    }
}
